//! From `init` to what a vehicle verifies, and every rule that refuses a release.

use std::fs;

use clap::ValueEnum as _;

use crate::common::*;
use campaign::{
    Trust, UnixTime, Verification, VerifiedCampaign,
    ids::SequenceNumber,
    meta::{KeyPolicy, RoleName},
    vehicle::Vehicle,
};
use ecu_image::{GRANT_LEN, Grant, provision::EcuProvisioning};
use oem::{
    Error, ExitCode, bundle,
    grant::{GrantOptions, grant_file},
    image::Image,
    init::{InitOptions, init},
    inspect,
    keys::SigningKey,
    publish, release,
    root::{self, RootChange, Which},
    rotate::{Rotated, rotate},
    vehicle,
};

/// What the vehicle makes of the published files, given only what it was provisioned with.
pub(crate) fn verify(desk: &Desk) -> Result<VerifiedCampaign, campaign::VerifyError> {
    verify_at(desk, now())
}

fn verify_at(desk: &Desk, now: UnixTime) -> Result<VerifiedCampaign, campaign::VerifyError> {
    let trust = Trust::from_json(&fs::read(desk.path("out/root.json")).unwrap()).unwrap();
    let trust = trust.with_policy(KeyPolicy { rsa_min_bits: 2048 });
    let vehicle = Vehicle::from_json(&fs::read(desk.path("out/vehicle.json")).unwrap()).unwrap();
    let mut verification = Verification::new(&trust, &vehicle, now)?;
    while let Some(wanted) = verification.wanted() {
        let bytes = fs::read(desk.repo_dir().join(&wanted.path)).ok();
        verification.on_document(bytes.as_deref())?;
    }
    verification.finish().map(|(campaign, _)| campaign)
}

fn provisioning(desk: &Desk, ecu: &str) -> EcuProvisioning {
    let bytes = fs::read(desk.path(&format!("out/ecus/{ecu}.json"))).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The error, once it is certain that nothing changed.
pub(crate) fn refused(desk: &Desk, act: impl FnOnce() -> Result<(), Error>) -> Error {
    let before = desk.files("repo");
    let error = act().unwrap_err();
    assert!(
        desk.files("repo") == before,
        "{error}: the repository changed"
    );
    error
}

#[test]
fn a_release_is_believed_by_its_vehicle_and_its_ecus() {
    let desk = Desk::new();
    let images = [desk.pack("hw-a", "1.2.3", 4), desk.pack("hw-b", "2.0.0", 1)];
    let summary = desk.release("spring", &images).unwrap();
    assert_eq!(summary.vehicles[&vin()], ["door", "brake"]);

    let campaign = verify(&desk).unwrap();
    assert_eq!(campaign.id.as_str(), "spring");
    for target in &campaign.ecus {
        let ecu = provisioning(&desk, target.ecu.as_str());
        let bytes: &[u8; GRANT_LEN] = target.grant.as_slice().try_into().unwrap();
        assert!(ecu.grant_key.verify_grant(bytes));
        let (key, salt) = ecu
            .wrap_key
            .unwrap(&Grant::parse(bytes).unwrap().wrapped)
            .unwrap();
        let path = desk.repo_dir().join(target.artifact_path());
        let image = Image::load(&desk.repo(), &path).unwrap();
        assert_eq!(image.sha256, target.sha256);
        let secrets = desk.repo().image_secrets(&image.digest).unwrap();
        assert_eq!((secrets.content_key, secrets.salt), (key, salt));
        assert_eq!(image.digest, target.image_digest);
        let set = ecu.key_set.parsed().unwrap();
        set.authenticate(&ecu.root_keys).unwrap();
        let active: Vec<_> = set.keys().map(|entry| entry.key.bytes).collect();
        let released: Vec<_> = campaign
            .image_keys
            .iter()
            .map(|key| key.as_ref().bytes)
            .collect();
        assert_eq!(active, released);
    }
}

#[test]
fn sequences_and_versions_rise_with_every_release() {
    let desk = Desk::new();
    let image = desk.pack("hw-a", "1.0.0", 4);
    desk.release("one", std::slice::from_ref(&image)).unwrap();
    desk.release("two", &[image]).unwrap();
    let campaign = verify(&desk).unwrap();
    assert_eq!(campaign.id.as_str(), "two");
    assert_eq!(campaign.ecus[0].grant_sequence, SequenceNumber(2));
    assert_eq!(campaign.ecus.len(), 1, "the brake is not part of it");
}

#[test]
fn a_counter_below_the_last_released_needs_an_exception() {
    let desk = Desk::new();
    desk.release("new", &[desk.pack("hw-a", "2.0.0", 5)])
        .unwrap();
    let old = desk.pack("hw-a", "1.0.0", 4);
    let error = refused(&desk, || {
        desk.release("old", std::slice::from_ref(&old)).map(drop)
    });
    assert!(matches!(error, Error::Downgrade { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Refused);

    let mut options = desk.options("old", &[old]);
    options.allow_downgrade = true;
    release::release(&desk.repo(), &options, now()).unwrap();
    let grant: [u8; GRANT_LEN] = verify(&desk).unwrap().ecus[0]
        .grant
        .clone()
        .try_into()
        .unwrap();
    assert!(Grant::parse(&grant).unwrap().flags.downgrade);
    // The exception is for this image: the counter did not fall.
    let other = desk.pack("hw-a", "1.0.1", 4);
    assert!(matches!(
        desk.release("again", &[other]),
        Err(Error::Downgrade { .. })
    ));
}

#[test]
fn images_and_vehicles_must_match() {
    let desk = Desk::new();
    let (a, b) = (desk.pack("hw-a", "1.0.0", 2), desk.pack("hw-a", "1.0.1", 2));
    let error = refused(&desk, || desk.release("x", &[a.clone(), b]).map(drop));
    assert!(matches!(error, Error::AmbiguousHardware(_)));
    let other = desk.pack("hw-c", "1.0.0", 1);
    let error = refused(&desk, || desk.release("x", &[a, other.clone()]).map(drop));
    assert!(matches!(error, Error::UnmatchedImage(_)));
    let mut options = desk.options("x", &[other]);
    options.vins = vec![vin()];
    let error = refused(&desk, || {
        release::release(&desk.repo(), &options, now()).map(drop)
    });
    assert!(matches!(error, Error::UnmatchedVehicle(_)));
    options.vins = vec!["WCANEPUS000000009".parse().unwrap()];
    let error = refused(&desk, || {
        release::release(&desk.repo(), &options, now()).map(drop)
    });
    assert!(matches!(error, Error::UnknownVehicle(_)));
}

#[test]
fn only_images_of_this_repository_are_released() {
    let desk = Desk::new();
    let path = desk.pack("hw-a", "1.0.0", 2);
    let image = fs::read(&path).unwrap();
    for at in [0, 60, 1100, 2000, image.len() - 1] {
        let mut changed = image.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).unwrap();
        let error = refused(&desk, || {
            desk.release("x", std::slice::from_ref(&path)).map(drop)
        });
        assert!(matches!(error, Error::Input { .. }), "byte {at}: {error}");
    }
    fs::write(&path, image).unwrap();
    fs::remove_dir_all(desk.path("repo/keys/images")).unwrap();
    assert!(matches!(
        desk.release("x", &[path]),
        Err(Error::UnknownImage(_))
    ));
}

#[test]
fn a_published_document_that_others_wrote_is_not_built_upon() {
    let desk = Desk::new();
    let image = desk.pack("hw-a", "1.0.0", 2);
    desk.release("one", std::slice::from_ref(&image)).unwrap();
    let path = desk.path("repo/metadata/1.targets.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replace("\"securityCounter\": 2", "\"securityCounter\": 9"),
    )
    .unwrap();
    let error = refused(&desk, || desk.release("two", &[image]).map(drop));
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(verify(&desk).is_err());
}

#[test]
fn grants_are_for_the_right_hardware_and_rise() {
    let desk = Desk::new();
    let image = desk.pack("hw-a", "1.0.0", 2);
    let out = desk.path("x.grant");
    let grant = |ecu: &str, sequence: Option<u64>| {
        let options = GrantOptions {
            vin: vin(),
            ecu: ecu.parse().unwrap(),
            sequence: sequence.map(SequenceNumber),
            allow_downgrade: false,
        };
        grant_file(&desk.repo(), &image, &options, &out)
    };
    assert!(matches!(grant("brake", None), Err(Error::Hardware { .. })));
    assert!(matches!(grant("roof", None), Err(Error::UnknownEcu { .. })));
    assert!(!out.exists());
    assert_eq!(grant("door", None).unwrap(), SequenceNumber(1));
    assert_eq!(grant("door", Some(10)).unwrap(), SequenceNumber(10));
    assert!(matches!(
        grant("door", Some(10)),
        Err(Error::Sequence { .. })
    ));
    let bytes: [u8; GRANT_LEN] = fs::read(&out).unwrap().try_into().unwrap();
    assert!(provisioning(&desk, "door").grant_key.verify_grant(&bytes));
}

#[test]
fn a_bundle_holds_what_the_vehicle_needs_and_is_reproducible() {
    let desk = Desk::new();
    let out = desk.path("x.bundle");
    let write = || bundle::bundle(&desk.repo(), &vin(), &out, now());
    assert!(matches!(write(), Err(Error::NotReleased(_))));
    desk.release("x", &[desk.pack("hw-a", "1.0.0", 2)]).unwrap();
    let campaign = write().unwrap();
    let bytes = fs::read(&out).unwrap();
    write().unwrap();
    assert_eq!(fs::read(&out).unwrap(), bytes);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap();
    let paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned())
        .collect();
    let director = format!("director/{VIN}");
    assert_eq!(
        paths,
        [
            format!("{director}/timestamp.json"),
            format!("{director}/1.snapshot.json"),
            format!("{director}/1.targets.json"),
            "metadata/timestamp.json".to_owned(),
            "metadata/1.snapshot.json".to_owned(),
            "metadata/1.targets.json".to_owned(),
            campaign.ecus[0].artifact_path(),
        ]
    );
}

/// Which ECU gets which image, as the vehicle will read it, and whether the images are those.
#[test]
fn inspect_shows_what_a_bundle_holds() {
    let desk = Desk::new();
    let out = desk.path("x.bundle");
    desk.release("x", &[desk.pack("hw-a", "1.0.0", 2)]).unwrap();
    let campaign = bundle::bundle(&desk.repo(), &vin(), &out, now()).unwrap();
    let image = campaign.ecus[0].artifact_path();
    let shown = inspect::inspect(&out).unwrap();
    let files = shown["files"].as_array().unwrap();
    let last = files.last().unwrap();
    assert_eq!(
        (&last["path"], &last["digest"]),
        (&image.clone().into(), &"ok".into())
    );
    assert_eq!(files.len(), 7);
    let text = inspect::to_text(&shown);
    for part in ["hw-a", VIN, "1.0.0", "SN-1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut bytes = fs::read(&out).unwrap();
    // In the image's last page; behind it are the zeros that fill a block, and two blocks of them.
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    fs::write(&out, &bytes).unwrap();
    let shown = inspect::inspect(&out).unwrap();
    let files = shown["files"].as_array().unwrap();
    assert_eq!(files.last().unwrap()["digest"], "not that of its name");
    // Cut off within its first file.
    fs::write(&out, &bytes[..600]).unwrap();
    assert!(matches!(inspect::inspect(&out), Err(Error::Input { .. })));
}

#[test]
fn init_and_vehicles_are_not_overwritten() {
    let desk = Desk::new();
    let again = || init(&desk.repo_dir(), &InitOptions::default(), now()).map(drop);
    assert!(matches!(refused(&desk, again), Error::RepositoryExists(_)));
    let repo = desk.repo();
    let spec = desk.path("spec.json");
    let error = vehicle::add(&repo, &spec, &desk.path("out2")).unwrap_err();
    assert!(matches!(error, Error::VehicleExists(_)));
    vehicle::export(&repo, &vin(), &desk.path("out2")).unwrap();
    let relative = |name: &str| -> Vec<_> {
        let files = desk.files(name).into_iter();
        files
            .map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes))
            .collect()
    };
    assert!(relative("out") == relative("out2"));
}

#[test]
fn a_serial_of_another_vehicle_is_refused() {
    let desk = Desk::new();
    let spec = fs::read_to_string(desk.path("spec.json"))
        .unwrap()
        .replace(VIN, "WCANEPUS000000002");
    let add = |spec: &str| {
        fs::write(desk.path("second.json"), spec).unwrap();
        let (spec, out) = (desk.path("second.json"), desk.path("second"));
        vehicle::add(&desk.repo(), &spec, &out).map(drop)
    };
    let error = refused(&desk, || add(&spec.replace("SN-1", "SN-3")));
    assert_eq!(error.exit_code(), ExitCode::Input);
    let expected = format!("ECU brake: serial SN-2 is of vehicle {VIN}");
    assert!(error.to_string().contains(&expected), "{error}");
    add(&spec.replace("SN-1", "SN-3").replace("SN-2", "SN-4")).unwrap();
}

#[test]
fn a_malformed_description_is_refused_with_its_place() {
    let desk = Desk::new();
    let spec = fs::read_to_string(desk.path("spec.json"))
        .unwrap()
        .replace(VIN, "WCANEPUS000000002");
    let refuse = |from: &str, to: &str| {
        fs::write(desk.path("bad.json"), spec.replacen(from, to, 1)).unwrap();
        let error = refused(&desk, || {
            vehicle::add(&desk.repo(), &desk.path("bad.json"), &desk.path("bad-out")).map(drop)
        });
        assert_eq!(error.exit_code(), ExitCode::Input, "{error}");
        assert!(!desk.path("bad-out").exists());
        error.to_string()
    };
    assert!(refuse("\"7E8\"", "\"7E0\"").contains("7E0 is already used"));
    assert!(refuse("\"500\"", "\"7DF\"").contains("heartbeat_id 7DF is already used"));
    assert!(refuse("\"hw-a\"", "\"\"").contains("line"));
    assert!(refuse("\"floor\"", "\"flor\"").contains("flor"));
    assert!(refuse("\"SN-2\"", "\"SN-1\"").contains("SN-1 appears twice"));
}

#[test]
fn inspect_tells_images_and_grants_apart() {
    let desk = Desk::new();
    let image = desk.pack("hw-a", "1.2.3", 2);
    let description = inspect::inspect(&image).unwrap();
    assert_eq!(description["version"], "1.2.3");
    assert_eq!(description["digests"], "ok");
    fs::write(desk.path("junk"), "junk").unwrap();
    assert!(matches!(
        inspect::inspect(&desk.path("junk")),
        Err(Error::Input { .. })
    ));
    fs::write(desk.path("cut"), &fs::read(&image).unwrap()[..1000]).unwrap();
    assert!(matches!(
        inspect::inspect(&desk.path("cut")),
        Err(Error::Input { .. })
    ));
}

#[test]
fn a_release_can_be_forged_by_who_holds_the_keys_and_is_caught_by_the_check() {
    let desk = Desk::new();
    let options = desk.options("x", &[desk.pack("hw-a", "1.0.0", 2)]);
    let repo = desk.repo();
    let mut plan = release::plan(&repo, &options, now()).unwrap();
    let targets = &mut plan.vehicles[0].director_targets.targets;
    targets.values_mut().next().unwrap().length += 1;
    let signed = plan.sign(&repo, now()).unwrap();
    assert!(matches!(
        signed.check(&repo, &plan, now()),
        Err(Error::SelfCheck { .. })
    ));
    signed.publish(&repo, &plan).unwrap();
    assert!(verify(&desk).is_err());
}

#[test]
fn a_refreshed_timestamp_keeps_a_release_believed() {
    let desk = Desk::new();
    desk.release("spring", &[desk.pack("hw-a", "1.2.3", 4)])
        .unwrap();
    let later = now().plus_days(publish::TIMESTAMP_VALID_DAYS);
    let expired = verify_at(&desk, later).unwrap_err().to_string();
    assert!(
        expired.starts_with("director, timestamp version 1: expired"),
        "{expired}"
    );
    let before = desk.files("repo");
    let refreshed = publish::refresh(&desk.repo(), later).unwrap();
    assert_eq!(refreshed.vehicles, [vin()]);
    assert!(refreshed.expired.is_empty() && refreshed.failed.is_empty());
    assert!(verify_at(&desk, later).is_ok());
    let after = desk.files("repo");
    let changed: Vec<_> = after
        .iter()
        .filter(|file| !before.contains(file))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        changed.len(),
        3,
        "{changed:?}: nothing but the two timestamps and the audit log"
    );
    // The next release goes on from there.
    desk.release("summer", &[desk.pack("hw-a", "1.2.4", 4)])
        .unwrap();
    assert_eq!(verify(&desk).unwrap().id.as_str(), "summer");
}

#[test]
fn every_key_can_be_replaced_and_the_vehicle_follows() {
    let desk = Desk::new();
    desk.release("spring", &[desk.pack("hw-a", "1.2.3", 4)])
        .unwrap();
    for role in Rotated::value_variants() {
        rotate(&desk.repo(), *role, now()).unwrap();
        let campaign = verify(&desk).unwrap_or_else(|error| panic!("{role:?}: {error}"));
        assert_eq!(campaign.id.as_str(), "spring", "{role:?}");
    }
    // Four roots have been added to the image repository, five to the director.
    let newest = |path: &str| desk.path(path).exists();
    assert!(newest("repo/metadata/5.root.json") && !newest("repo/metadata/6.root.json"));
    let director = format!("repo/director/{VIN}");
    assert!(newest(&format!("{director}/6.root.json")));
    assert!(!newest(&format!("{director}/7.root.json")));
    desk.release("summer", &[desk.pack("hw-a", "1.2.4", 4)])
        .unwrap();
    assert_eq!(verify(&desk).unwrap().id.as_str(), "summer");
}

/// A vehicle's damaged folder is no reason to let those of all others expire; and what a new timestamp
/// does not help is said.
#[test]
fn a_refresh_goes_on_after_what_is_damaged_and_says_what_has_expired() {
    let desk = Desk::new();
    desk.release("spring", &[desk.pack("hw-a", "1.2.3", 4)])
        .unwrap();
    let damaged = desk.path(&format!("repo/director/{VIN}/timestamp.json"));
    let whole = fs::read(&damaged).unwrap();
    fs::write(&damaged, "{").unwrap();
    let before = fs::read(desk.path("repo/metadata/timestamp.json")).unwrap();
    let refreshed = publish::refresh(&desk.repo(), now()).unwrap();
    assert_eq!(refreshed.vehicles, []);
    let [(what, Error::Corrupt { .. })] = &refreshed.failed[..] else {
        panic!("{refreshed:?}");
    };
    assert!(what.contains(VIN), "{what}");
    let after = fs::read(desk.path("repo/metadata/timestamp.json")).unwrap();
    assert_ne!(before, after, "the image repository's was made anew");
    fs::write(&damaged, whole).unwrap();
    let late = now().plus_days(31);
    let refreshed = publish::refresh(&desk.repo(), late).unwrap();
    assert_eq!(refreshed.expired.len(), 2, "{:?}", refreshed.expired);
}

/// Between the new root and what has to be signed under it the desk says what to do.
#[test]
fn an_interrupted_rotation_says_how_it_is_completed() {
    let desk = Desk::new();
    desk.release("spring", &[desk.pack("hw-a", "1.2.3", 4)])
        .unwrap();
    let timestamp = desk.path("repo/metadata/timestamp.json");
    let before = fs::read(&timestamp).unwrap();
    rotate(&desk.repo(), Rotated::ImageTimestamp, now()).unwrap();
    fs::write(&timestamp, before).unwrap();
    let (key, pending) = ("repo/keys/timestamp.pem", "repo/keys/timestamp.new.pem");
    fs::rename(desk.path(key), desk.path(pending)).unwrap();
    let old = desk.path("repo/keys/timestamp.before-2.pem");
    fs::rename(old, desk.path(key)).unwrap();
    let error = desk
        .release("summer", &[desk.pack("hw-a", "1.2.4", 4)])
        .unwrap_err();
    assert!(error.to_string().contains("`oem rotate`"), "{error}");
    rotate(&desk.repo(), Rotated::ImageTimestamp, now()).unwrap();
    desk.release("summer", &[desk.pack("hw-a", "1.2.4", 4)])
        .unwrap();
    assert_eq!(verify(&desk).unwrap().id.as_str(), "summer");
}

/// Power fails before the new root is written, or between it and the new key's place.
#[test]
fn an_interrupted_rotation_is_forgotten_or_completed() {
    let desk = Desk::new();
    desk.release("spring", &[desk.pack("hw-a", "1.2.3", 4)])
        .unwrap();
    let (key, pending) = ("repo/keys/timestamp.pem", "repo/keys/timestamp.new.pem");
    SigningKey::generate_ed25519()
        .unwrap()
        .store(&desk.path(pending))
        .unwrap();
    assert_eq!(
        rotate(&desk.repo(), Rotated::ImageTimestamp, now()).unwrap(),
        2
    );
    // As if the last step had not happened: the old key is in its place, the new one waits.
    fs::rename(desk.path(key), desk.path(pending)).unwrap();
    fs::rename(
        desk.path("repo/keys/timestamp.before-2.pem"),
        desk.path(key),
    )
    .unwrap();
    assert_eq!(
        rotate(&desk.repo(), Rotated::ImageTimestamp, now()).unwrap(),
        3
    );
    assert!(verify(&desk).is_ok());
}

/// What `--rules` says stands in the image repository, and stays there with the next release.
#[test]
fn rules_of_images_are_published_and_kept() {
    let desk = Desk::new();
    let mut options = desk.options("spring", &[desk.pack("hw-a", "1.2.3", 4)]);
    let file = desk.path("rules.json");
    fs::write(&file, r#"{"hw-b": {"after": ["hw-a"]}}"#).unwrap();
    options.rules = Some(file.clone());
    let refused = oem::release::release(&desk.repo(), &options, now()).unwrap_err();
    assert!(
        refused.to_string().contains("no image is for hw-b"),
        "{refused}"
    );
    let rules = r#"{"hw-a": {"requires": [{"hardwareId": "hw-b", "versions": ">=1.4.0"}]}}"#;
    fs::write(&file, rules).unwrap();
    oem::release::release(&desk.repo(), &options, now()).unwrap();
    let published = verify(&desk).unwrap().rules;
    assert_eq!(published.len(), 1);
    assert_eq!(
        published[0].rules.requires[0].versions.to_string(),
        ">=1.4.0"
    );
    desk.release("summer", &[desk.pack("hw-a", "1.2.4", 4)])
        .unwrap();
    assert_eq!(verify(&desk).unwrap().rules, published);
}

/// A vehicle that leaves the factory after two releases: a mirror that shows it the first one, which nobody
/// would call expired, is found at its first refresh.
#[test]
fn a_new_vehicle_knows_what_is_published() {
    let desk = Desk::new();
    let release = |name: &str, version: &str| {
        desk.release(name, &[desk.pack("hw-a", version, 4)])
            .unwrap();
    };
    release("spring", "1.0.0");
    let spring = desk.files("repo/metadata");
    let spring_keys = desk.files("repo/director");
    release("summer", "1.1.0");
    rotate(&desk.repo(), Rotated::ImageTimestamp, now()).unwrap();
    oem::vehicle::export(&desk.repo(), &vin(), &desk.path("out")).unwrap();
    let trust = Trust::from_json(&fs::read(desk.path("out/root.json")).unwrap()).unwrap();
    assert_eq!(trust.known_time().time(), now());
    assert_eq!(verify(&desk).unwrap().id.as_str(), "summer");
    for (path, bytes) in spring.iter().chain(&spring_keys) {
        fs::write(path, bytes).unwrap();
    }
    let error = verify(&desk).unwrap_err();
    assert_eq!(error.attack(), campaign::Attack::Rollback, "{error}");
}

/// A desk from before the director's snapshot had a key of its own goes on, and either role gets another
/// key without the other.
#[test]
fn a_key_that_has_two_roles_can_be_parted() {
    for first in [Rotated::DirectorSnapshot, Rotated::DirectorTimestamp] {
        let desk = Desk::new();
        let file = |name: &str| desk.path(&format!("repo/keys/director-{name}.pem"));
        let public = |name: &str| SigningKey::load(&file(name)).unwrap().public().clone();
        let own = public("snapshot").id();
        fs::copy(file("timestamp"), file("snapshot")).unwrap();
        let change = RootChange {
            add: vec![(RoleName::Snapshot, public("timestamp"))],
            remove: vec![own.as_str().to_owned()],
            ..RootChange::default()
        };
        root::change(&desk.repo(), Which::Director, &change, now()).unwrap();
        fs::remove_file(file("snapshot")).unwrap();
        desk.release("spring", &[desk.pack("hw-a", "1.0.0", 4)])
            .unwrap();
        assert_eq!(public("snapshot"), public("timestamp"));
        rotate(&desk.repo(), first, now()).unwrap();
        assert_ne!(public("snapshot"), public("timestamp"));
        assert_eq!(verify(&desk).unwrap().id.as_str(), "spring");
        rotate(&desk.repo(), Rotated::DirectorTargets, now()).unwrap();
        assert_eq!(verify(&desk).unwrap().id.as_str(), "spring");
    }
}

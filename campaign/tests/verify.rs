//! Every rule of the verifier: one valid campaign, spoiled in one place at a time.

mod common;

use campaign::{
    Trust, VerifyError,
    error::{DocumentFault, GrantFault, TargetFault},
    ids::SequenceNumber,
    layout::Repository,
    meta::{KeyPolicy, Malformed, RoleName},
};
use common::*;
use proptest::prelude::*;
use serde_json::json;

const DOOR: &str = "/targets/hw-a~12.0.0.img/custom/ecuIdentifiers/SN-door";
const CUSTOM: &str = "/targets/hw-a~12.0.0.img/custom";

fn target_fault(forge: &Forge) -> TargetFault {
    match forge.verify() {
        Err(VerifyError::Target { path, fault }) => {
            assert_eq!(path, PATH);
            fault
        }
        other => panic!("no target was refused: {other:?}"),
    }
}

fn document_fault(forge: &Forge) -> (Repository, RoleName, DocumentFault) {
    match forge.verify() {
        Err(VerifyError::Document {
            repository,
            refusal,
        }) => (repository, refusal.role, refusal.fault),
        other => panic!("no document was refused: {other:?}"),
    }
}

#[test]
fn a_valid_campaign_is_verified_in_the_order_of_the_vehicle() {
    let campaign = Forge::new().verify().unwrap();
    assert_eq!(campaign.id.as_str(), "spring");
    let names: Vec<_> = campaign.ecus.iter().map(|ecu| ecu.ecu.as_str()).collect();
    assert_eq!(names, ["door", "seat"]);
    let door = &campaign.ecus[0];
    assert_eq!(door.grant_sequence, SequenceNumber(6));
    assert_eq!(door.image_digest, IMAGE_DIGEST);
    assert_eq!(door.artifact_path(), format!("targets/{SHA256}.img"));
    assert_eq!(door.version.to_string(), "2.0.0");
    assert_eq!(door.length, 9000);
    assert_eq!(campaign.image_keys.len(), 1);
}

#[test]
fn director_and_image_repository_must_agree() {
    let differs = |pointer: &str, value| match target_fault(&Forge::new().direct(pointer, value)) {
        TargetFault::Disagreement { field } => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        differs("/targets/hw-a~12.0.0.img/length", json!(9001)),
        "length"
    );
    assert_eq!(
        differs(
            "/targets/hw-a~12.0.0.img/hashes/sha256",
            json!("0a".repeat(32))
        ),
        "hashes"
    );
    assert_eq!(
        differs(&format!("{CUSTOM}/version"), json!("2.0.1")),
        "version"
    );
    assert_eq!(
        differs(&format!("{CUSTOM}/securityCounter"), json!(5)),
        "securityCounter"
    );
    assert_eq!(
        differs(&format!("{CUSTOM}/imageDigest"), json!("0a".repeat(32))),
        "imageDigest"
    );
}

#[test]
fn the_image_repository_must_have_the_image() {
    let forge = Forge::new().offer("/targets", json!({}));
    assert_eq!(target_fault(&forge), TargetFault::NotInImageRepository);
}

#[test]
fn every_digest_that_is_named_is_one_that_is_verified() {
    let hashes = |forge: Forge, hashes: serde_json::Value| {
        let place = "/targets/hw-a~12.0.0.img/hashes";
        target_fault(&forge.offer(place, hashes.clone()).direct(place, hashes))
    };
    for other in ["sha512", "blake2b"] {
        let both = json!({"sha256": SHA256, other: "00".repeat(64)});
        assert_eq!(hashes(Forge::new(), both), TargetFault::OtherDigest);
    }
    let sha512 = json!({"sha512": "00".repeat(64)});
    assert_eq!(hashes(Forge::new(), sha512), TargetFault::NoSha256);
}

#[test]
fn hardware_must_fit_on_all_sides() {
    let hardware = |forge: Forge| matches!(target_fault(&forge), TargetFault::Hardware(_));
    assert!(hardware(
        Forge::new().offer(&format!("{CUSTOM}/hardwareIds"), json!(["hw-b"]))
    ));
    assert!(hardware(
        Forge::new().direct(&format!("{DOOR}/hardwareId"), json!("hw-b"))
    ));
}

/// Uptane only recommends it; without it a director alone would say what an image is for.
#[test]
fn the_image_repository_names_the_hardware() {
    let mut forge = Forge::new();
    let custom = forge.image_targets.pointer_mut(CUSTOM).unwrap();
    custom
        .as_object_mut()
        .unwrap()
        .remove("hardwareIds")
        .unwrap();
    assert!(matches!(
        target_fault(&forge),
        TargetFault::Custom {
            repository: Repository::Image,
            ..
        }
    ));
}

#[test]
fn an_ecu_belongs_to_the_vehicle_and_gets_one_image() {
    let mut forge = Forge::new();
    let ecus = forge.director_targets.pointer_mut(CUSTOM).unwrap();
    let door = ecus["ecuIdentifiers"]["SN-door"].clone();
    ecus["ecuIdentifiers"]["SN-roof"] = door;
    assert_eq!(
        target_fault(&forge),
        TargetFault::UnknownEcu("SN-roof".parse().unwrap())
    );

    let mut forge = Forge::new();
    for document in [&mut forge.director_targets, &mut forge.image_targets] {
        let target = document["targets"][PATH].clone();
        document["targets"]["hw-a/0.copy.img"] = target;
    }
    assert!(matches!(target_fault(&forge), TargetFault::EcuTwice(_)));
}

#[test]
fn a_target_names_an_ecu() {
    let forge = Forge::new().direct(&format!("{CUSTOM}/ecuIdentifiers"), json!({}));
    assert_eq!(target_fault(&forge), TargetFault::NoEcu);
}

#[test]
fn a_director_may_ask_for_nothing() {
    let campaign = Forge::new().direct("/targets", json!({})).verify().unwrap();
    assert!(campaign.ecus.is_empty());
}

#[test]
fn a_grant_is_for_this_ecu_image_and_sequence() {
    let check = |grant: &[u8]| {
        let forge = Forge::new().direct(&format!("{DOOR}/grant"), json!(base64(grant)));
        match target_fault(&forge) {
            TargetFault::Grant { serial, fault } => {
                assert_eq!(serial.as_str(), "SN-door");
                fault
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        check(&grant("SN-seat", IMAGE_DIGEST, 6)),
        GrantFault::Serial
    );
    let other = ecu_image::ImageDigest([8; 32]);
    assert_eq!(check(&grant("SN-door", other, 6)), GrantFault::ImageDigest);
    assert_eq!(
        check(&grant("SN-door", IMAGE_DIGEST, 7)),
        GrantFault::Sequence
    );
    assert_eq!(check(&[0; 255]), GrantFault::Length { len: 255 });
    assert!(matches!(check(&[0; 256]), GrantFault::Malformed(_)));
}

#[test]
fn a_directors_document_is_for_one_vehicle() {
    let forge = Forge::new().direct("/custom/vin", json!("WCANPS00000000002"));
    let (repository, role, fault) = document_fault(&forge);
    assert_eq!(
        (repository, role),
        (Repository::Director, RoleName::Targets)
    );
    assert!(matches!(fault, DocumentFault::OtherVehicle(_)));
}

#[test]
fn only_keys_of_the_role_count() {
    for signer in [Signer::Stranger, Signer::ImageRoot, Signer::DirectorTargets] {
        let mut forge = Forge::new();
        forge.image_signers = vec![signer];
        let (repository, role, fault) = document_fault(&forge);
        assert_eq!((repository, role), (Repository::Image, RoleName::Targets));
        assert!(matches!(fault, DocumentFault::Signatures(_)), "{signer:?}");
    }
    let mut forge = Forge::new();
    forge.director_signers = vec![Signer::ImageTargets, Signer::Stranger];
    assert_eq!(document_fault(&forge).0, Repository::Director);
}

#[test]
fn short_keys_need_a_policy() {
    let mut forge = Forge::new();
    forge.trust = forge.trust.with_policy(KeyPolicy::default());
    assert!(matches!(
        document_fault(&forge).2,
        DocumentFault::Signatures(_)
    ));
}

#[test]
fn documents_expire() {
    let mut forge = Forge::new();
    forge.now = "2026-12-21T23:59:59Z".parse().unwrap();
    assert!(forge.verify().is_ok());
    forge.now = "2026-12-22T00:00:00Z".parse().unwrap();
    let (_, role, fault) = document_fault(&forge);
    assert_eq!(role, RoleName::Targets);
    assert!(matches!(fault, DocumentFault::Expired { .. }));
    forge.now = now().plus_days(365);
    assert_eq!(document_fault(&forge).1, RoleName::Root);
}

#[test]
fn versions_do_not_go_back() {
    let (_, advanced) = Forge::new().verify_and_advance().unwrap();
    let stored = Trust::from_json(&advanced.to_json().unwrap()).unwrap();
    let mut forge = Forge::new().direct("/version", json!(2));
    forge.trust = stored.clone().with_policy(SHORT_KEYS);
    let (repository, _, fault) = document_fault(&forge);
    assert_eq!(
        (repository, fault),
        (Repository::Director, DocumentFault::Version { expected: 3 })
    );
    let mut forge = Forge::new();
    forge.trust = stored.with_policy(SHORT_KEYS);
    assert!(
        forge.verify().is_ok(),
        "the same version again is no step back"
    );
}

#[test]
fn headers_are_of_the_role() {
    for (pointer, value) in [
        ("/_type", json!("root")),
        ("/_type", json!("rooot")),
        ("/spec_version", json!("2.0.0")),
        ("/version", json!(0)),
        ("/version", json!(1.5)),
        ("/expires", json!("tomorrow")),
    ] {
        // A fraction has no canonical form, so nobody can have signed it.
        let forge = Forge::new();
        let text =
            serde_json::to_string(&Forge::new().offer(pointer, value).image_targets).unwrap();
        let image = format!("{{\"signatures\": [], \"signed\": {text}}}");
        let fault = image_fault(&forge, image.as_bytes());
        assert!(
            matches!(fault, DocumentFault::Malformed(_)),
            "{pointer}: {fault:?}"
        );
    }
}

/// Why the image repository's targets document is refused.
fn image_fault(forge: &Forge, image: &[u8]) -> DocumentFault {
    let director = sign(&forge.director_targets, &forge.director_signers);
    match forge.verify_bytes(image, &director) {
        Err(VerifyError::Document {
            repository: Repository::Image,
            refusal,
        }) if refusal.role == RoleName::Targets => refusal.fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn size_is_bounded_before_parsing() {
    let limit = campaign::repository::Limits::default().targets;
    let long = vec![b'['; usize::try_from(limit).unwrap() + 1];
    let fault = image_fault(&Forge::new(), &long);
    let expected = matches!(fault, DocumentFault::Malformed(Malformed::TooLong { .. }));
    assert!(expected, "{fault:?}");
}

fn rotated(version: u64, signers: &[Signer]) -> Vec<u8> {
    let next = root(version, &[Signer::Stranger], &[Signer::ImageTargets]);
    sign(&next, signers)
}

#[test]
fn a_root_is_succeeded_by_the_next_signed_by_both() {
    let mut forge = Forge::new();
    forge.image_roots = vec![rotated(2, &[Signer::ImageRoot, Signer::Stranger])];
    let (_, trust) = forge.verify_and_advance().unwrap();
    let stored = trust.repository(Repository::Image).get("root").unwrap();
    assert_eq!(stored, forge.image_roots[0]);
    // The whole chain may be there again.
    forge.trust = Trust::from_json(&trust.to_json().unwrap())
        .unwrap()
        .with_policy(SHORT_KEYS);
    assert!(forge.verify().is_ok());
}

#[test]
fn a_root_without_its_predecessor_is_refused() {
    let fault = |roots| {
        let mut forge = Forge::new();
        forge.image_roots = roots;
        let (repository, role, fault) = document_fault(&forge);
        assert_eq!((repository, role), (Repository::Image, RoleName::Root));
        fault
    };
    let both = [Signer::ImageRoot, Signer::Stranger];
    assert!(matches!(
        fault(vec![rotated(2, &[Signer::Stranger])]),
        DocumentFault::PredecessorSignatures(_)
    ));
    assert!(matches!(
        fault(vec![rotated(2, &[Signer::ImageRoot])]),
        DocumentFault::Signatures(_)
    ));
    assert_eq!(
        fault(vec![rotated(3, &both)]),
        DocumentFault::Version { expected: 2 }
    );
    let own = |version| match version {
        2 => rotated(2, &both),
        version => rotated(version, &[Signer::Stranger]),
    };
    assert_eq!(
        fault((2..=66).map(own).collect()),
        DocumentFault::ChainTooLong
    );
}

#[test]
fn a_threshold_counts_distinct_keys() {
    let pin = |root: &campaign::meta::Root| {
        let image = sign(root, &[Signer::ImageRoot]);
        let director = sign(
            &common::root(1, &[Signer::DirectorRoot], &[Signer::DirectorTargets]),
            &[Signer::DirectorRoot],
        );
        Trust::pin(&image, &director)
            .unwrap()
            .with_policy(SHORT_KEYS)
    };
    let two = common::root(
        1,
        &[Signer::ImageRoot],
        &[Signer::ImageTargets, Signer::Stranger],
    );
    let mut forge = Forge::new();
    forge.trust = pin(&two);
    assert!(matches!(
        document_fault(&forge).2,
        DocumentFault::Signatures(_)
    ));
    forge.image_signers = vec![Signer::ImageTargets, Signer::Stranger];
    assert!(forge.verify().is_ok());

    // The same key under a second name does not count twice.
    let mut alias = key(Signer::ImageTargets);
    alias.extra.insert("note".into(), json!("another name"));
    let mut root = two;
    root.roles.targets =
        campaign::meta::RoleKeys::new(vec![key(Signer::ImageTargets).id(), alias.id()], 2).unwrap();
    root.keys.insert(alias.id(), alias.clone());
    let mut forge = Forge::new();
    forge.trust = pin(&root);
    let mut envelope: campaign::meta::Envelope =
        serde_json::from_slice(&sign(&forge.image_targets, &[Signer::ImageTargets])).unwrap();
    let mut second = envelope.signatures[0].clone();
    second.keyid = alias.id();
    envelope.signatures.push(second);
    let fault = image_fault(&forge, &envelope.to_json().unwrap());
    assert!(matches!(fault, DocumentFault::Signatures(_)));
}

#[test]
fn two_signatures_by_one_name_are_malformed() {
    let forge = Forge::new();
    let mut envelope: campaign::meta::Envelope =
        serde_json::from_slice(&sign(&forge.image_targets, &[Signer::ImageTargets])).unwrap();
    envelope.signatures.push(envelope.signatures[0].clone());
    let fault = image_fault(&forge, &envelope.to_json().unwrap());
    assert!(matches!(fault, DocumentFault::Malformed(_)));
}

#[test]
fn unknown_fields_survive_reading_and_writing() {
    let forge = Forge::new();
    let targets: campaign::meta::Targets =
        serde_json::from_value(forge.image_targets.clone()).unwrap();
    assert_eq!(serde_json::to_value(&targets).unwrap(), forge.image_targets);
}

#[test]
fn refusals_name_document_and_rule() {
    let mut forge = Forge::new();
    forge.image_signers.clear();
    assert_eq!(
        forge.verify().unwrap_err().to_string(),
        "image repository, targets version 3: 0 valid signatures, 1 needed"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_changed_byte_is_refused_or_changes_nothing(at in any::<prop::sample::Index>(), value: u8) {
        let forge = Forge::new();
        let image = sign(&forge.image_targets, &forge.image_signers);
        let mut director = sign(&forge.director_targets, &forge.director_signers);
        let index = at.index(director.len());
        director[index] = value;
        if let Ok((campaign, _)) = forge.verify_bytes(&image, &director) {
            prop_assert_eq!(campaign, forge.verify().unwrap());
        }
    }

    #[test]
    fn no_bytes_panic(image: Vec<u8>, director: Vec<u8>) {
        prop_assert!(Forge::new().verify_bytes(&image, &director).is_err());
    }
}

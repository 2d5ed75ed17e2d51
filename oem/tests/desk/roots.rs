//! Long chains of roots, and what vehicles that are made late believe.

use std::fs;

use crate::{common::*, release::verify};
use campaign::{
    Trust, Verification, VerifiedCampaign, VerifyError,
    error::DocumentFault,
    layout::Repository,
    meta::{Document, KeyPolicy, Root},
    vehicle::Vehicle,
};
use oem::{
    bundle,
    keys::SigningKey,
    publish, root,
    rotate::{Rotated, rotate},
    vehicle,
};

const OWN_KEYS: KeyPolicy = KeyPolicy { rsa_min_bits: 2048 };

/// One refresh of a vehicle whose files are in `out`: what it stores, and what came of it.
fn refresh(desk: &Desk, out: &str) -> Result<VerifiedCampaign, VerifyError> {
    let file = desk.path(&format!("{out}/root.json"));
    let trust = Trust::from_json(&fs::read(&file).unwrap()).unwrap();
    let vehicle = desk.path(&format!("{out}/vehicle.json"));
    let vehicle = Vehicle::from_json(&fs::read(vehicle).unwrap()).unwrap();
    let trust = trust.with_policy(OWN_KEYS);
    let mut verification = Verification::new(&trust, &vehicle, now())?;
    while let Some(wanted) = verification.wanted() {
        let bytes = fs::read(desk.repo_dir().join(&wanted.path)).ok();
        let result = verification.on_document(bytes.as_deref());
        if let Some(trust) = verification.take_learned() {
            fs::write(&file, trust.to_json().unwrap()).unwrap();
        }
        result?;
    }
    verification.finish().map(|(campaign, _)| campaign)
}

/// One refresh takes at most 64 roots. The desk goes on all the same, and so does a vehicle that was
/// away for all of them.
#[test]
fn a_desk_goes_on_after_more_roots_than_one_refresh_takes() {
    let desk = Desk::new();
    desk.release("spring", &[desk.pack("hw-a", "1.0.0", 4)])
        .unwrap();
    let (mut next, _) = root::newest(&desk.repo(), Repository::Image).unwrap();
    let key = SigningKey::load(&desk.path("repo/keys/root.pem")).unwrap();
    for version in 2..=66 {
        next.header.version = version;
        let document = SigningKey::sign_document(&next, &[&key]).unwrap();
        fs::write(
            desk.path(&format!("repo/metadata/{version}.root.json")),
            document,
        )
        .unwrap();
    }
    let rotated = rotate(&desk.repo(), Rotated::ImageTimestamp, now()).unwrap();
    assert_eq!(rotated, 67);
    publish::refresh(&desk.repo(), now()).unwrap();
    desk.release("summer", &[desk.pack("hw-a", "1.1.0", 4)])
        .unwrap();
    let tar = desk.path("summer.tar");
    bundle::bundle(&desk.repo(), &vin(), &tar, now()).unwrap();
    let mut archive = tar::Archive::new(fs::File::open(&tar).unwrap());
    let names = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        entry.path().unwrap().display().to_string()
    });
    let roots = names.filter(|name| name.ends_with(".root.json"));
    assert_eq!(roots.count(), 66, "for a vehicle that knows the first");

    let error = refresh(&desk, "out").unwrap_err();
    assert!(
        matches!(&error, VerifyError::Document { refusal, .. }
            if refusal.fault == DocumentFault::ChainTooLong),
        "{error}"
    );
    assert_eq!(refresh(&desk, "out").unwrap().id.as_str(), "summer");
}

/// A root key was stolen and revoked. Who has it signs a root of his own, and serves it first.
#[test]
fn a_revoked_root_key_has_no_say_in_vehicles_that_are_made_later() {
    let desk = Desk::new();
    desk.release("spring", &[desk.pack("hw-a", "1.0.0", 4)])
        .unwrap();
    let stolen = SigningKey::load(&desk.path("repo/keys/root.pem")).unwrap();
    rotate(&desk.repo(), Rotated::ImageRoot, now()).unwrap();
    vehicle::export(&desk.repo(), &vin(), &desk.path("late")).unwrap();

    let second = desk.path("repo/metadata/2.root.json");
    let genuine = fs::read(&second).unwrap();
    let (mut forged, _) = root::newest(&desk.repo(), Repository::Image).unwrap();
    let id = stolen.public().id();
    forged.keys.insert(id.clone(), stolen.public().clone());
    forged.roles.root = campaign::meta::RoleKeys::new(vec![id.clone()], 1).unwrap();
    fs::write(
        &second,
        SigningKey::sign_document(&forged, &[&stolen]).unwrap(),
    )
    .unwrap();
    // Whoever knows the first root only has no way to tell.
    verify(&desk).unwrap();
    let trust = fs::read(desk.path("late/root.json")).unwrap();
    let trust = Trust::from_json(&trust).unwrap();
    let pinned = trust.repository(Repository::Image).get("root").unwrap();
    assert_eq!(pinned, genuine);
    let pinned = Document::<Root>::parse(pinned, usize::MAX).unwrap();
    assert!(!pinned.unverified().keys.contains_key(&id));
    assert_eq!(refresh(&desk, "late").unwrap().id.as_str(), "spring");
}

/// What somebody else put where the image repository's roots are kept is not taken for one.
#[test]
fn a_root_that_its_predecessor_did_not_sign_is_not_built_upon() {
    let desk = Desk::new();
    let (mut forged, _) = root::newest(&desk.repo(), Repository::Image).unwrap();
    forged.header.version = 2;
    let stranger = SigningKey::generate(2048).unwrap();
    let forged = SigningKey::sign_document(&forged, &[&stranger]).unwrap();
    fs::write(desk.path("repo/metadata/2.root.json"), forged).unwrap();
    let error = desk
        .release("spring", &[desk.pack("hw-a", "1.0.0", 4)])
        .unwrap_err();
    assert!(error.to_string().contains("2.root.json"), "{error}");
}

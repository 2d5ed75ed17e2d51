//! Several people hold the keys: two of three release, change the root, and take a key's power.

use std::{fs, path::PathBuf};

use crate::common::*;
use crate::release::{refused, verify};
use campaign::meta::{RoleName, SignatureShortfall};
use oem::{
    Error, ExitCode,
    draft::{self, Draft, Published},
    init::{InitOptions, init},
    keys::{SigningKey, read_public, write_public},
    publish,
    release::{self, ReleaseOptions},
    revoke::{Revoked, revoke},
    root::{self, RootChange, Which},
    rotate::{Rotated, rotate},
    vehicle,
};

/// A desk whose second and third signer keep their keys in `bob/` and `eve/`.
fn desk() -> Desk {
    let desk = Desk::empty();
    let options = InitOptions {
        rsa_bits: 2048,
        signers: 3,
        threshold: 2,
        ..InitOptions::default()
    };
    let repo = init(&desk.repo_dir(), &options, now()).unwrap();
    let spec = desk.path("spec.json");
    vehicle::add(&repo, &spec, &desk.path("out")).unwrap();
    for (number, person) in [(2, "bob"), (3, "eve")] {
        fs::create_dir(desk.path(person)).unwrap();
        for role in ["root", "targets", "director-root"] {
            let from = desk.path(&format!("repo/keys/{role}.{number}.pem"));
            fs::rename(from, desk.path(&format!("{person}/{role}.pem"))).unwrap();
        }
    }
    desk
}

fn key(desk: &Desk, name: &str) -> SigningKey {
    SigningKey::load(&desk.path(name)).unwrap()
}

fn options(desk: &Desk, version: &str) -> ReleaseOptions {
    desk.options("spring", &[desk.pack("hw-a", version, 4)])
}

/// A release, signed by these keys, and sent through its file each time.
fn signed(desk: &Desk, options: &ReleaseOptions, keys: &[&str]) -> Draft {
    let file: PathBuf = desk.path("spring.draft");
    let draft = draft::of_release(&desk.repo(), options, now()).unwrap();
    draft.store(&file).unwrap();
    for name in keys {
        let mut draft = Draft::load(&file).unwrap();
        assert_eq!(draft.sign(&key(desk, name)).unwrap(), [RoleName::Targets]);
        draft.store(&file).unwrap();
    }
    Draft::load(&file).unwrap()
}

fn publish_error(desk: &Desk, draft: &Draft) -> Error {
    refused(desk, || draft.publish(&desk.repo(), now()).map(drop))
}

#[test]
fn one_person_alone_releases_nothing() {
    let desk = desk();
    let options = options(&desk, "1.0.0");
    let error = refused(&desk, || {
        release::release(&desk.repo(), &options, now()).map(drop)
    });
    assert!(
        matches!(
            error,
            Error::Signers {
                role: RoleName::Targets,
                here: 1,
                needed: 2,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.exit_code(), ExitCode::Refused);
    // The same person twice is one person.
    let own = "repo/keys/targets.pem";
    let error = publish_error(&desk, &signed(&desk, &options, &[own, own]));
    let shortfall = SignatureShortfall {
        valid: 1,
        threshold: 2,
    };
    assert!(
        matches!(error, Error::Signatures { shortfall: found, .. } if found == shortfall),
        "{error}"
    );
}

#[test]
fn two_of_three_release_and_the_vehicle_believes_it() {
    let desk = desk();
    let options = options(&desk, "1.0.0");
    let draft = signed(&desk, &options, &["bob/targets.pem", "eve/targets.pem"]);
    let published = draft.publish(&desk.repo(), now()).unwrap();
    assert!(matches!(published, Published::Release(summary) if summary.vehicles.len() == 1));
    assert_eq!(verify(&desk).unwrap().id.as_str(), "spring");
    // What was published once is no longer what comes next.
    let error = publish_error(&desk, &draft);
    assert!(matches!(error, Error::Draft(_)), "{error}");
}

/// Power fails after any of the documents: what was signed is published by doing it again.
#[test]
fn an_interrupted_publication_is_completed_by_repeating_it() {
    let desk = desk();
    let keys = ["bob/targets.pem", "eve/targets.pem"];
    let spring = signed(&desk, &options(&desk, "1.0.0"), &keys);
    spring.publish(&desk.repo(), now()).unwrap();
    let mut summer = options(&desk, "1.1.0");
    summer.campaign = "summer".parse().unwrap();
    let summer = signed(&desk, &summer, &keys);
    let before = [desk.files("repo/metadata"), desk.files("repo/director")].concat();
    summer.publish(&desk.repo(), now()).unwrap();
    let after = [desk.files("repo/metadata"), desk.files("repo/director")].concat();
    let written = |name: &str| -> Vec<PathBuf> {
        let new = after.iter().filter(|file| !before.contains(file));
        let new = new.map(|(path, _)| path.clone());
        let of = |path: &PathBuf| path.to_str().unwrap().contains(name);
        new.filter(of).collect()
    };
    let undo = |paths: &[PathBuf]| {
        for path in paths {
            match before.iter().find(|(old, _)| old == path) {
                Some((_, bytes)) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
    };
    let all = written("/director/");
    assert_eq!(all.len(), 3, "{all:?}");
    let image = written("/metadata/");
    let timestamp = |name: &str| vec![desk.path(&format!("repo/{name}/timestamp.json"))];
    let director = format!("director/{}", crate::common::VIN);
    for undone in [
        timestamp(&director),
        all.clone(),
        [all.clone(), timestamp("metadata")].concat(),
        [all.clone(), image].concat(),
    ] {
        undo(&undone);
        let kept = desk.files("repo");
        summer.publish(&desk.repo(), now()).unwrap();
        assert_eq!(verify(&desk).unwrap().id.as_str(), "summer", "{undone:?}");
        for (path, bytes) in kept {
            let name = path.file_name().unwrap().to_str().unwrap();
            let numbered = name.starts_with(|first: char| first.is_ascii_digit());
            if numbered && path.extension().is_some_and(|it| it == "json") {
                assert!(fs::read(&path).unwrap() == bytes, "{path:?} was changed");
            }
        }
        assert!(matches!(publish_error(&desk, &summer), Error::Draft(_)));
    }
    // What came before it is not published again in its place.
    assert!(matches!(publish_error(&desk, &spring), Error::Draft(_)));
}

#[test]
fn a_draft_is_published_as_it_was_signed_or_not_at_all() {
    let desk = desk();
    let options = options(&desk, "1.0.0");
    let keys = ["repo/keys/targets.pem", "bob/targets.pem"];
    let mut draft = signed(&desk, &options, &keys);
    let target = &mut draft.targets.as_mut().unwrap().signed["targets"];
    let target = target.as_object_mut().unwrap().values_mut().next().unwrap();
    target["custom"]["securityCounter"] = 9.into();
    assert!(matches!(
        publish_error(&desk, &draft),
        Error::Signatures { .. }
    ));
    // The image is another one than that which was signed.
    let draft = signed(&desk, &options, &keys);
    desk.pack("hw-a", "1.0.0", 4);
    assert!(matches!(publish_error(&desk, &draft), Error::Draft(_)));
}

#[test]
fn a_stranger_signs_nothing() {
    let desk = desk();
    let mut draft = signed(&desk, &options(&desk, "1.0.0"), &[]);
    let stranger = SigningKey::generate(2048).unwrap();
    assert!(matches!(draft.sign(&stranger), Err(Error::Draft(_))));
    assert!(matches!(
        draft.sign(&key(&desk, "bob/root.pem")),
        Err(Error::Draft(_))
    ));
    assert_eq!(draft.approvals().unwrap()[0].valid, 0);
}

/// Bob's keys are stolen: two others take their power, and what bob signed is signed again.
#[test]
fn a_stolen_key_is_revoked_by_the_others() {
    let desk = desk();
    let keys = ["repo/keys/targets.pem", "bob/targets.pem"];
    let release = signed(&desk, &options(&desk, "1.0.0"), &keys);
    release.publish(&desk.repo(), now()).unwrap();
    let bob = key(&desk, "bob/targets.pem").public().id();
    let file = desk.path("root.draft");
    // The desk alone has one root key of two.
    let alone = refused(&desk, || {
        revoke(&desk.repo(), bob.as_str(), None, now()).map(drop)
    });
    assert!(matches!(alone, Error::Signatures { .. }), "{alone}");
    let revoked = revoke(&desk.repo(), bob.as_str(), Some(&file), now()).unwrap();
    assert_eq!(revoked, Revoked::Draft);
    let mut draft = Draft::load(&file).unwrap();
    for name in [
        "repo/keys/root.pem",
        "eve/root.pem",
        "repo/keys/targets.pem",
    ] {
        draft.sign(&key(&desk, name)).unwrap();
    }
    assert!(matches!(
        publish_error(&desk, &draft),
        Error::Signatures { .. }
    ));
    draft.sign(&key(&desk, "eve/targets.pem")).unwrap();
    let published = draft.publish(&desk.repo(), now()).unwrap();
    assert!(matches!(published, Published::Root { version: 2, .. }));
    // Said again, it is completed again.
    draft.publish(&desk.repo(), now()).unwrap();
    assert_eq!(verify(&desk).unwrap().id.as_str(), "spring");

    let mut next = signed(&desk, &options(&desk, "1.1.0"), &[]);
    assert!(next.sign(&key(&desk, "bob/targets.pem")).is_err());
    next.sign(&key(&desk, "eve/targets.pem")).unwrap();
    next.sign(&key(&desk, "repo/keys/targets.pem")).unwrap();
    next.publish(&desk.repo(), now()).unwrap();
    assert!(verify(&desk).is_ok());
    // Two are left of two: none may go.
    let eve = key(&desk, "eve/targets.pem").public().id();
    let error = refused(&desk, || {
        revoke(&desk.repo(), eve.as_str(), Some(&file), now()).map(drop)
    });
    assert!(matches!(error, Error::Root(_)), "{error}");
}

#[test]
fn online_keys_are_replaced_without_the_people_who_release() {
    let desk = desk();
    let keys = ["bob/targets.pem", "eve/targets.pem"];
    let release = signed(&desk, &options(&desk, "1.0.0"), &keys);
    release.publish(&desk.repo(), now()).unwrap();
    let error = refused(&desk, || {
        rotate(&desk.repo(), Rotated::ImageTimestamp, now()).map(drop)
    });
    assert!(
        matches!(
            error,
            Error::Signers {
                role: RoleName::Root,
                ..
            }
        ),
        "{error}"
    );
    let bob = desk.path("bob/root.pem");
    fs::copy(bob, desk.path("repo/keys/root.2.pem")).unwrap();
    rotate(&desk.repo(), Rotated::ImageTimestamp, now()).unwrap();
    rotate(&desk.repo(), Rotated::ImageSnapshot, now()).unwrap();
    assert_eq!(verify(&desk).unwrap().id.as_str(), "spring");
    publish::refresh(&desk.repo(), now()).unwrap();
}

#[test]
fn one_desk_becomes_two_people() {
    let desk = Desk::new();
    desk.release("spring", &[desk.pack("hw-a", "1.0.0", 4)])
        .unwrap();
    let bob = SigningKey::generate(2048).unwrap();
    let public = desk.path("bob.pub");
    write_public(bob.public(), &public).unwrap();
    let change = RootChange {
        add: vec![(RoleName::Targets, read_public(&public).unwrap())],
        thresholds: vec![(RoleName::Targets, 2)],
        ..RootChange::default()
    };
    // What is published needs the signature of both, too.
    let error = refused(&desk, || {
        root::change(&desk.repo(), Which::Image, &change, now()).map(drop)
    });
    assert!(matches!(error, Error::Signatures { .. }), "{error}");
    let mut draft = root::draft(&desk.repo(), Which::Image, &change, now()).unwrap();
    for name in ["root", "targets"] {
        draft
            .sign(&key(&desk, &format!("repo/keys/{name}.pem")))
            .unwrap();
    }
    draft.sign(&bob).unwrap();
    draft.publish(&desk.repo(), now()).unwrap();
    assert_eq!(verify(&desk).unwrap().id.as_str(), "spring");
    assert!(matches!(
        desk.release("summer", &[desk.pack("hw-a", "1.1.0", 4)]),
        Err(Error::Signers { .. })
    ));
}

#[test]
fn a_root_that_could_never_sign_is_not_made() {
    let desk = Desk::new();
    let change = |thresholds, remove| RootChange {
        thresholds,
        remove,
        ..RootChange::default()
    };
    let (root, _) = root::newest(&desk.repo(), Which::Image.into()).unwrap();
    let only = root.roles.targets.keyids()[0].as_str().to_owned();
    for change in [
        change(vec![(RoleName::Targets, 2)], vec![]),
        change(vec![(RoleName::Root, 0)], vec![]),
        change(vec![], vec![only]),
        change(vec![], vec!["0".repeat(64)]),
        change(vec![], vec![]),
    ] {
        let error = refused(&desk, || {
            root::change(&desk.repo(), Which::Image, &change, now()).map(drop)
        });
        assert!(matches!(error, Error::Root(_)), "{change:?}: {error}");
    }
}

#[test]
fn the_only_key_of_a_role_is_replaced_when_it_is_revoked() {
    let desk = Desk::new();
    desk.release("spring", &[desk.pack("hw-a", "1.0.0", 4)])
        .unwrap();
    for which in [Which::Image, Which::Director] {
        for role in root::ROLES {
            let (root, _) = root::newest(&desk.repo(), which.into()).unwrap();
            let id = root.role(role).keyids()[0].as_str().to_owned();
            let revoked = revoke(&desk.repo(), &id, None, now()).unwrap();
            assert_eq!(revoked, Revoked::Root(root.header.version + 1));
            let (root, _) = root::newest(&desk.repo(), which.into()).unwrap();
            assert!(!root.keys.keys().any(|key| key.as_str() == id));
            assert!(verify(&desk).is_ok(), "{which:?} {role}");
        }
    }
}

#[test]
fn an_image_key_is_revoked_by_the_holders_of_ecu_roots() {
    let desk = Desk::new();
    let old = key(&desk, "repo/keys/image.pem").image_key_id().unwrap();
    let (file, name) = (desk.path("next.keyset"), old.to_string());
    assert!(matches!(
        revoke(&desk.repo(), &name, None, now()),
        Err(Error::KeySet(_))
    ));
    let revoked = revoke(&desk.repo(), &name, Some(&file), now()).unwrap();
    assert_eq!(revoked, Revoked::KeySet);
    for number in [1, 3] {
        let root = oem::keyset::root_path(&desk.repo(), number);
        oem::keyset::sign_file(&file, &root, &file).unwrap();
    }
    oem::keyset::take(&desk.repo(), &file).unwrap();
    desk.release("spring", &[desk.pack("hw-a", "1.0.0", 4)])
        .unwrap();
    let campaign = verify(&desk).unwrap();
    assert_eq!(campaign.image_keys.len(), 1);
    assert_ne!(campaign.image_keys[0].id(), old);
}

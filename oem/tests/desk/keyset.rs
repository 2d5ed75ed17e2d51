//! The ceremony: an image key is replaced by two holders of roots who share nothing but a file.

use ecu_image::{KeyId, keyset::KeyStatus};
use oem::{
    Error,
    keyset::{self, Changes},
    repo::KeyName,
};

use crate::common::Desk;

/// The key that signs images now.
fn image_key(desk: &Desk) -> KeyId {
    let key = desk.repo().key(KeyName::Image).unwrap();
    key.image_key_id().unwrap()
}

#[test]
fn two_holders_of_roots_replace_the_image_key() {
    let desk = Desk::new();
    let old = image_key(&desk);
    let changes = Changes {
        rotate: true,
        revoke: vec![old],
        ..Changes::default()
    };
    let (draft, once, twice) = (desk.path("0"), desk.path("1"), desk.path("2"));
    let made = keyset::make(&desk.repo(), &changes, 2048, &draft).unwrap();
    let again = keyset::make(&desk.repo(), &changes, 2048, &draft).unwrap();
    assert_eq!(made, again, "the new key is made once");
    let root = |number| keyset::root_path(&desk.repo(), number);
    keyset::sign_file(&draft, &root(3), &once).unwrap();
    let refused = |path| matches!(keyset::take(&desk.repo(), path), Err(Error::KeySet(_)));
    assert!(refused(&draft) && refused(&once));
    let same_root = keyset::sign_file(&once, &root(3), &twice);
    assert!(matches!(same_root, Err(Error::Input { .. })));
    keyset::sign_file(&once, &root(1), &twice).unwrap();
    assert_eq!(keyset::take(&desk.repo(), &twice).unwrap().get(), 2);
    let again = keyset::take(&desk.repo(), &twice);
    assert_eq!(again.unwrap().get(), 2, "it is in use already");
    // What is packed from now on is signed by the new key, and the set says so.
    let new = image_key(&desk);
    assert_ne!(new, old);
    let set = keyset::current(&desk.repo()).unwrap();
    let set = set.parsed().unwrap();
    set.authenticate(&keyset::roots(&desk.repo()).unwrap())
        .unwrap();
    assert_eq!(set.key(old).unwrap().status, KeyStatus::Revoked);
    assert_eq!(set.key(new).unwrap().status, KeyStatus::Active);
}

#[test]
fn a_set_without_a_key_that_signs_is_not_taken_into_use() {
    let desk = Desk::new();
    let old = image_key(&desk);
    let changes = Changes {
        revoke: vec![old],
        ..Changes::default()
    };
    let (draft, signed) = (desk.path("0"), desk.path("1"));
    keyset::make(&desk.repo(), &changes, 2048, &draft).unwrap();
    let root = |number| keyset::root_path(&desk.repo(), number);
    keyset::sign_file(&draft, &root(1), &signed).unwrap();
    keyset::sign_file(&signed, &root(2), &signed).unwrap();
    let taken = keyset::take(&desk.repo(), &signed);
    assert!(matches!(taken, Err(Error::KeySet(_))));
    let unknown = Changes {
        drop: vec![ecu_image::KeyId([0; 8])],
        ..Changes::default()
    };
    let made = keyset::make(&desk.repo(), &unknown, 2048, &draft);
    assert!(matches!(made, Err(Error::KeySet(_))));
}

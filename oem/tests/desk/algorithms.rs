//! Images may be signed by ECDSA instead of RSA: from the first day on, or by the next image key.

use std::{fs, path::Path, process::Command};

use ecu_image::{Algorithm, Header, SignatureLen};
use oem::{
    Error,
    init::{InitOptions, init},
    keys::{SigningKey, write_public},
    keyset::{self, Changes},
    release::release,
    repo::KeyName,
    vehicle,
};

use crate::common::{Desk, now, vin};

fn signature_len(image: &Path) -> SignatureLen {
    let bytes = fs::read(image).unwrap();
    let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
    header.signature.len()
}

/// Packs and releases an image of 10 000 bytes, which is verified on the way.
fn released(desk: &Desk) -> SignatureLen {
    let image = desk.pack("hw-a", "1.0.0", 4);
    desk.release("first", std::slice::from_ref(&image)).unwrap();
    signature_len(&image)
}

#[test]
fn a_desk_may_begin_with_ecdsa() {
    let desk = Desk::empty();
    let options = InitOptions {
        rsa_bits: 2048,
        image_algorithm: Algorithm::EcdsaP256Sha256,
        ..InitOptions::default()
    };
    let repo = init(&desk.repo_dir(), &options, now()).unwrap();
    vehicle::add(&repo, &desk.path("spec.json"), &desk.path("out")).unwrap();
    drop(repo);
    assert_eq!(released(&desk), SignatureLen::P256);
    // A key that replaces a stolen one is of the same algorithm.
    let stolen = desk.repo().key(KeyName::Image).unwrap();
    let stolen = stolen.image_key_id().unwrap().to_string();
    let draft = desk.path("draft");
    oem::revoke::revoke(&desk.repo(), &stolen, Some(&draft), now()).unwrap();
    let set = fs::read(&draft).unwrap();
    let set = ecu_image::keyset::KeySet::parse(&set).unwrap();
    let algorithms: Vec<_> = set.keys().map(|entry| entry.key.algorithm).collect();
    assert_eq!(algorithms, [Algorithm::EcdsaP256Sha256; 2]);
}

#[test]
fn the_next_image_key_may_be_of_another_algorithm() {
    let desk = Desk::new();
    let changes = |algorithm| Changes {
        rotate: true,
        algorithm,
        ..Changes::default()
    };
    let ecdsa = changes(Some(Algorithm::EcdsaP256Sha256));
    let (draft, signed) = (desk.path("0"), desk.path("1"));
    let make = |changes: &Changes| keyset::make(&desk.repo(), changes, 2048, &draft);
    let made = make(&ecdsa).unwrap();
    // The key that waits is not thrown away for one of another kind.
    let refused = make(&changes(Some(Algorithm::RsaPssSha256)));
    assert!(matches!(refused, Err(Error::KeySet(_))), "{refused:?}");
    let silent = make(&changes(None));
    assert!(
        matches!(silent, Err(Error::KeySet(_))),
        "the key in use is RSA: {silent:?}"
    );
    assert_eq!(make(&ecdsa).unwrap(), made, "the new key is made once");
    let root = |number| keyset::root_path(&desk.repo(), number);
    keyset::sign_file(&draft, &root(1), &signed).unwrap();
    keyset::sign_file(&signed, &root(2), &signed).unwrap();
    let before = desk.pack("hw-b", "1.0.0", 4);
    assert_eq!(signature_len(&before), SignatureLen::Rsa2048);
    let waiting = desk.path("repo/keys/image-next.pem");
    let next = fs::read(&waiting).unwrap();
    keyset::take(&desk.repo(), &signed).unwrap();
    // Interrupted before the last step, it is completed by the same command, and stands in no way.
    fs::write(&waiting, &next).unwrap();
    keyset::take(&desk.repo(), &signed).unwrap();
    assert!(!waiting.exists());
    fs::write(&waiting, &next).unwrap();
    make(&ecdsa).unwrap();
    assert_ne!(fs::read(&waiting).unwrap(), next);
    fs::remove_file(&waiting).unwrap();
    assert_eq!(released(&desk), SignatureLen::P256);
    // An image of the key before is released still: it was not revoked.
    desk.release("second", &[before]).unwrap();
}

#[test]
fn an_image_whose_signature_is_of_another_key_is_not_released() {
    let desk = Desk::new();
    let image = desk.pack("hw-a", "1.0.0", 4);
    let ecdsa = SigningKey::generate_for_images(Algorithm::EcdsaP256Sha256, 2048).unwrap();
    ecdsa.store(&desk.path("repo/keys/image.pem")).unwrap();
    let foreign = desk.pack("hw-a", "1.0.1", 4);
    let options = |image| desk.options("x", std::slice::from_ref(image));
    let refused = release(&desk.repo(), &options(&foreign), now());
    assert!(matches!(refused, Err(Error::Input { .. })), "{refused:?}");
    release(&desk.repo(), &options(&image), now()).unwrap();
    assert_eq!(desk.repo().vins().unwrap(), [vin()]);
}

#[test]
fn nothing_is_made_for_a_set_that_cannot_be() {
    let desk = Desk::new();
    let changes = Changes {
        rotate: true,
        ..Changes::default()
    };
    let (draft, signed) = (desk.path("0"), desk.path("1"));
    let make = || keyset::make(&desk.repo(), &changes, 2048, &draft);
    let root = |number| keyset::root_path(&desk.repo(), number);
    for _ in 1..4 {
        make().unwrap();
        keyset::sign_file(&draft, &root(1), &signed).unwrap();
        keyset::sign_file(&signed, &root(2), &signed).unwrap();
        keyset::take(&desk.repo(), &signed).unwrap();
    }
    let full = make();
    assert!(matches!(full, Err(Error::KeySet(_))), "{full:?}");
    assert!(!desk.path("repo/keys/image-next.pem").exists());
}

#[test]
fn openssl_reads_a_key_of_ecdsa_and_verifies_what_it_signs() {
    let desk = Desk::empty();
    let path = |name: &str| desk.path(name).display().to_string();
    let key = SigningKey::generate_for_images(Algorithm::EcdsaP256Sha256, 2048).unwrap();
    key.store(&desk.path("key.pem")).unwrap();
    // As an image holds it, in the form that OpenSSL reads.
    let signature = key.sign_image(b"what is signed").unwrap();
    let signature = p256::ecdsa::Signature::from_slice(&signature).unwrap();
    let signature = signature.to_der();
    write_public(key.public(), &desk.path("public.pem")).unwrap();
    fs::write(desk.path("data"), b"what is signed").unwrap();
    fs::write(desk.path("signature"), signature.as_bytes()).unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        (output.status.success(), output.stdout)
    };
    let (read, public) = openssl(&["pkey", "-in", &path("key.pem"), "-pubout"]);
    assert!(read);
    assert_eq!(public, fs::read(desk.path("public.pem")).unwrap());
    let (public, signature, data) = (path("public.pem"), path("signature"), path("data"));
    let mut verify = vec!["dgst", "-sha256", "-verify", &public];
    verify.extend(["-signature", &signature, &data]);
    assert!(openssl(&verify).0);
    fs::write(desk.path("data"), b"something else").unwrap();
    assert!(!openssl(&verify).0);
}

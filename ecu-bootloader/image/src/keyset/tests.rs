//! Every field of a key set at its place and within its limits.

use super::*;
use crate::testing::Pair;
use crate::wire::put;
use proptest::prelude::*;
use rsa::traits::PublicKeyParts as _;
use std::vec::Vec;

fn content() -> KeySetContent {
    let key = |algorithm, status, bytes: &[u8]| NewKey {
        algorithm,
        status,
        bytes: bytes.to_vec(),
    };
    KeySetContent {
        hardware_id: Some("BRAKE-2".parse().unwrap()),
        version: KeySetVersion(0x0102),
        keys: vec![
            key(Algorithm::RsaPssSha256, KeyStatus::Active, &[0xA1; 384]),
            key(Algorithm::EcdsaP256Sha256, KeyStatus::Revoked, &[0xB2; 64]),
        ],
    }
}

/// Two keys, two signatures.
fn bytes() -> Vec<u8> {
    let set = content().build().unwrap();
    let set = add_signature(&set, KeyId([9; 8]), &[0x99; 384]).unwrap();
    add_signature(&set, KeyId([7; 8]), &[0x77; 256]).unwrap()
}

/// The field and problem of the set with `value` at `offset`.
fn refused(offset: usize, value: &[u8]) -> (&'static str, Problem) {
    let mut bytes = bytes();
    put(&mut bytes, offset, value);
    let error = KeySet::parse(&bytes).expect_err("the set parses");
    (error.field, error.problem)
}

#[test]
fn fields_are_where_the_specification_has_them() {
    let bytes = bytes();
    let set = KeySet::parse(&bytes).unwrap();
    let signed_len: u16 = 48 + 16 + 384 + 16 + 64;
    assert_eq!(bytes[..6], *b"CNPK\x01\0");
    assert_eq!(bytes[6..8], signed_len.to_le_bytes());
    assert_eq!(bytes[8..16], *b"BRAKE-2\0");
    assert_eq!(bytes[40..48], [2, 1, 0, 0, 2, 0, 0, 0]);
    // Keys ascend by their identities, so which is first depends on the hash.
    let keys: Vec<_> = set.keys().collect();
    assert!(keys[0].id < keys[1].id);
    let rsa = keys.iter().find(|entry| entry.key.bytes.len() == 384);
    let rsa = rsa.unwrap();
    assert_eq!(rsa.id, key_id(&[0xA1; 384]));
    assert_eq!(rsa.status, KeyStatus::Active);
    let at = if keys[0] == *rsa { 48 } else { 48 + 80 };
    assert_eq!(bytes[at..at + 8], rsa.id.0);
    assert_eq!(bytes[at + 8..at + 16], [1, 0, 1, 0, 0x80, 1, 0, 0]);
    let point = set.key(key_id(&[0xB2; 64])).unwrap();
    assert_eq!(point.status, KeyStatus::Revoked);
    assert_eq!(point.key.algorithm, Algorithm::EcdsaP256Sha256);
    let at = usize::from(signed_len);
    assert_eq!(bytes[at..at + 4], [2, 0, 0, 0]);
    assert_eq!(bytes[at + 4..at + 16], [7, 7, 7, 7, 7, 7, 7, 7, 0, 1, 0, 0]);
    let roots: Vec<_> = set.signatures().map(|entry| entry.root.0[0]).collect();
    assert_eq!(roots, [7, 9]);
    assert_eq!(set.len(), bytes.len());
    assert_eq!(set.digest(), crate::crypto::sha256(&[&bytes[..at]]));
}

#[test]
fn every_field_has_its_limits() {
    let contradiction = |expected, found| Problem::Contradiction { expected, found };
    let set = KeySetContent {
        keys: vec![content().keys[0].clone()],
        ..content()
    };
    assert_eq!(set.build().unwrap().len(), 48 + 400 + 4);
    let cases = [
        (0, &b"CNPI"[..], "magic", Problem::Magic),
        (4, &[2], "format_version", Problem::Unknown(2)),
        (6, &[47, 0], "signed_len", Problem::Range(47)),
        (6, &[0xFF, 0xFF], "signed_len", Problem::Range(0xFFFF)),
        (6, &[17, 2], "signed_len", contradiction(528, 529)),
        (40, &[0; 4], "version", Problem::Range(0)),
        (44, &[0], "key_count", Problem::Range(0)),
        (44, &[5], "key_count", Problem::Range(5)),
        (46, &[1], "reserved", Problem::NotZero),
        (48, &[0; 8], "key_id", Problem::Identity),
        (56, &[3], "algorithm", Problem::Unknown(3)),
        (58, &[0], "status", Problem::Unknown(0)),
        (58, &[3], "status", Problem::Unknown(3)),
        (59, &[1], "reserved", Problem::NotZero),
        (60, &[1, 0], "key_len", Problem::Range(1)),
        (62, &[1], "reserved", Problem::NotZero),
        (64, &[0], "key_id", Problem::Identity),
        (528, &[5], "signature_count", Problem::Range(5)),
        (528, &[1], "end", contradiction(528 + 4 + 268, 1196)),
        (530, &[1], "reserved", Problem::NotZero),
        (532, &[9; 8], "root_id", Problem::Order),
        (532, &[10; 8], "root_id", Problem::Order),
        (540, &[1], "signature_len", Problem::Range(257)),
        (542, &[1], "reserved", Problem::NotZero),
    ];
    for (offset, value, field, problem) in cases {
        assert_eq!(refused(offset, value), (field, problem), "{offset}");
    }
    let space = Problem::Text(crate::TextError::Character(b' '));
    assert_eq!(refused(8, b" "), ("hardware_id", space));
}

#[test]
fn a_set_for_every_hardware_names_none() {
    let content = KeySetContent {
        hardware_id: None,
        ..content()
    };
    let bytes = content.build().unwrap();
    assert_eq!(bytes[8..40], [0; 32]);
    assert_eq!(KeySet::parse(&bytes).unwrap().hardware_id, None);
}

#[test]
fn what_cannot_be_a_set_is_not_built() {
    let mut content = content();
    content.keys.push(content.keys[0].clone());
    let id = key_id(&content.keys[0].bytes);
    assert_eq!(content.build(), Err(BuildError::Twice(id)));
    content.keys.clear();
    assert_eq!(content.build(), Err(BuildError::Keys(0)));
    let set = bytes();
    let root = KeyId([7; 8]);
    let twice = add_signature(&set, root, &[0; 256]);
    assert_eq!(twice, Err(BuildError::Signed(root)));
    let short = add_signature(&set, KeyId([1; 8]), &[0; 64]);
    assert_eq!(short, Err(BuildError::SignatureLength(64)));
}

#[test]
fn signatures_do_not_change_what_is_signed() {
    let unsigned = content().build().unwrap();
    let signed = bytes();
    let (unsigned, signed) = (
        KeySet::parse(&unsigned).unwrap(),
        KeySet::parse(&signed).unwrap(),
    );
    assert_eq!(unsigned.signed_bytes(), signed.signed_bytes());
    let pair = Pair::short();
    assert_eq!(key_id(&pair.private.n_bytes()), pair.public.id());
}

proptest! {
    #[test]
    fn hostile_bytes_are_a_set_or_an_error(
        changes in prop::collection::vec((0..600usize, any::<u8>()), 0..6),
        cut in prop::option::of(0..1196usize),
        more in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let mut bytes = bytes();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        bytes.extend(more);
        crate::fuzz::key_set(&bytes);
    }

    #[test]
    fn any_content_survives(
        version in 1..=u32::MAX,
        keys in prop::collection::btree_map(any::<[u8; 16]>(), any::<(bool, bool)>(), 1..=4usize),
        scoped: bool,
    ) {
        let keys = keys.into_iter().map(|(bytes, (rsa, active))| NewKey {
            algorithm: if rsa { Algorithm::RsaPssSha256 } else { Algorithm::EcdsaP256Sha256 },
            status: if active { KeyStatus::Active } else { KeyStatus::Revoked },
            bytes: bytes.repeat(if rsa { 24 } else { 4 }),
        });
        let content = KeySetContent {
            hardware_id: scoped.then(|| "DOOR-1".parse().unwrap()),
            version: KeySetVersion(version),
            keys: keys.collect(),
        };
        let bytes = content.build().unwrap();
        let set = KeySet::parse(&bytes).unwrap();
        prop_assert_eq!(set.version, content.version);
        prop_assert_eq!(set.hardware_id, content.hardware_id);
        prop_assert_eq!(set.keys().count(), content.keys.len());
        for key in &content.keys {
            let entry = set.key(key_id(&key.bytes)).unwrap();
            prop_assert_eq!(entry.key.bytes, &key.bytes[..]);
            prop_assert_eq!((entry.status, entry.key.algorithm), (key.status, key.algorithm));
        }
    }
}

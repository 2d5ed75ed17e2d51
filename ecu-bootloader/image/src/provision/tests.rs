use std::string::String;
use std::vec::Vec;

use super::*;
use crate::header::{Algorithm, SignatureLen};
use crate::id::KeySetVersion;
use crate::keyset::{KeySetContent, KeyStatus, NewKey};
use crate::signature::{Pinned as _, PublicKeyRef};
use crate::testing::Pair;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

fn key(modulus: &[u8]) -> Value {
    json!({
        "key_id": crate::pss::key_id(modulus),
        "modulus": hex::encode(modulus),
        "exponent": 65537,
    })
}

fn key_set() -> Vec<u8> {
    let content = KeySetContent {
        hardware_id: None,
        version: KeySetVersion(1),
        keys: vec![NewKey {
            algorithm: Algorithm::RsaPssSha256,
            status: KeyStatus::Active,
            bytes: vec![0xE1; 256],
        }],
    };
    content.build().unwrap()
}

fn ecu() -> Value {
    let modulus = Pair::short().private.n_bytes();
    json!({
        "name": "brake-front",
        "vin": "WVWZZZ1JZXW000001",
        "serial": "ECU-0001",
        "hardware_id": "BRAKE-2",
        "bus": "can0",
        "request_id": "7E0",
        "response_id": "7E8",
        "functional_id": "18DB33F1",
        "heartbeat_id": "500",
        "fd": true,
        "wrap_key": "000102030405060708090a0b0c0d0e0f",
        "grant_key": "101112131415161718191a1b1c1d1e1f",
        "journal_key": "202122232425262728292a2b2c2d2e2f",
        "access_key": "303132333435363738393a3b3c3d3e3f",
        "root_keys": [key(&modulus), key(&[0xFF; 256])],
        "key_set": hex::encode(key_set()),
        "floor": 4,
    })
}

/// The error of a file whose value at `pointer` is another.
fn refused(pointer: &str, value: Value) -> String {
    let mut file = ecu();
    *file.pointer_mut(pointer).unwrap() = value;
    let error = serde_json::from_value::<EcuProvisioning>(file);
    format!("{}", error.expect_err("the file is accepted"))
}

#[test]
fn a_file_survives_reading_and_writing() {
    let parsed: EcuProvisioning = serde_json::from_value(ecu()).unwrap();
    assert!(!parsed.request_id.is_extended() && parsed.functional_id.is_extended());
    assert_eq!(parsed.functional_id.raw(), 0x18DB_33F1);
    let roots = parsed.root_keys.keys();
    assert_eq!(roots[0].id(), Pair::short().public.id());
    assert_eq!(
        parsed.root_keys.modulus(roots[1].id()),
        Some(&[0xFF; 256][..])
    );
    assert_eq!(parsed.key_set.as_bytes(), key_set());
    assert_eq!(serde_json::to_value(&parsed).unwrap(), ecu());
}

/// The generator of P-256 (SP 800-186 clause 3.2.1.3): a point, of nobody's key.
const POINT: &str = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                     4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

fn point_key(point: &str) -> Value {
    let bytes = hex::decode(point).unwrap();
    json!({ "key_id": crate::pss::key_id(&bytes), "point": point })
}

#[test]
fn a_key_of_p256_survives_reading_and_writing_and_is_no_root() {
    let parsed: ImageKey = serde_json::from_value(point_key(POINT)).unwrap();
    let bytes = hex::decode(POINT).unwrap();
    let key = PublicKeyRef {
        algorithm: Algorithm::EcdsaP256Sha256,
        bytes: &bytes,
    };
    assert_eq!(parsed, ImageKey::new(key).unwrap());
    assert_eq!(parsed.as_ref(), key);
    assert_eq!(parsed.signature_len(), Some(SignatureLen::P256));
    assert_eq!(serde_json::to_value(&parsed).unwrap(), point_key(POINT));
    let error = refused("/root_keys/0", point_key(POINT));
    assert!(error.contains("2 to 4 different RSA keys"), "{error}");
}

#[test]
fn what_is_wrong_with_a_key_is_said() {
    let mut both = point_key(POINT);
    both["exponent"] = json!(65537);
    let off_curve = POINT.replace("f5", "f6");
    let cases = [
        (both, "modulus and exponent, or a point"),
        (json!({ "key_id": "0000000000000000" }), "or a point"),
        (point_key(&off_curve), "not one of P-256"),
        (point_key(&POINT[2..]), "not one of P-256"),
        (key(&[0xFF; 255]), "modulus has 255 bytes"),
    ];
    for (text, expected) in cases {
        let error = serde_json::from_value::<ImageKey>(text).expect_err("the key is accepted");
        assert!(format!("{error}").contains(expected), "{error}");
    }
}

#[test]
fn debug_text_has_no_secret() {
    let parsed: EcuProvisioning = serde_json::from_value(ecu()).unwrap();
    let shown = format!("{parsed:?}");
    assert!(shown.contains("wrap_key: WrapKey(..)") && shown.contains("access_key: MacKey(..)"));
    let decimal = "1, 2, 3, 4, 5";
    assert!(
        !shown.contains("0102030405") && !shown.contains(decimal),
        "{shown}"
    );
}

#[test]
fn what_is_wrong_is_said() {
    let cases = [
        ("/name", json!("../x"), "`../x` contains byte 0x2f"),
        ("/name", json!(".x"), "`.x` contains byte 0x2e"),
        ("/bus", json!(""), "`` is empty"),
        (
            "/vin",
            json!("WVWZZZ1JZXW00000O"),
            "is not a VIN of 17 digits",
        ),
        ("/serial", json!("a b"), "`a b` contains byte 0x20"),
        ("/request_id", json!("800"), "is not a CAN identifier of 3"),
        (
            "/request_id",
            json!("20000000"),
            "is not a CAN identifier of 3",
        ),
        ("/request_id", json!("+7E"), "is not a CAN identifier of 3"),
        ("/request_id", json!(2016), "expected a string"),
        ("/floor", json!(-1), "expected u32"),
        (
            "/root_keys/0/exponent",
            json!(3),
            "exponent is 3, not 65537",
        ),
        (
            "/root_keys/0/key_id",
            json!("0000000000000000"),
            "key_id is not that of the key",
        ),
        ("/root_keys/0/modulus", json!("00ff"), "modulus has 2 bytes"),
        (
            "/root_keys",
            json!([key(&[0xFF; 256])]),
            "2 to 4 different RSA keys",
        ),
        (
            "/root_keys/0",
            key(&[0xFF; 256]),
            "2 to 4 different RSA keys",
        ),
        ("/key_set", json!("00"), "value 1 is out of range"),
        ("/key_set", json!("0"), "Odd number of digits"),
    ];
    for (pointer, value, expected) in cases {
        let error = refused(pointer, value);
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}

#[test]
fn an_error_does_not_repeat_a_secret() {
    let error = refused("/wrap_key", json!("deadbeef"));
    assert_eq!(error, "a secret key is not 32 hexadecimal digits");
}

#[test]
fn unknown_fields_are_refused() {
    let mut file = ecu();
    file["wrap-key"] = json!("x");
    let error = serde_json::from_value::<EcuProvisioning>(file).unwrap_err();
    assert!(format!("{error}").contains("unknown field `wrap-key`"));
}

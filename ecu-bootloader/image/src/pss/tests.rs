//! The in-house verification against the `rsa` crate: right signatures, altered ones, and wrong
//! encodings under a right private key, which a bit flip never reaches.

use std::vec::Vec;

use rand::{Rng, RngExt as _};
use rsa::Pss;
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};
use sha2::Sha256;

use super::*;
use crate::testing::{Pair, rng};

/// The answer of a verification, which takes `step_count` steps whatever it is.
fn verify(key: &PublicKey, digest: &ImageDigest, signature: &[u8]) -> bool {
    let signature = Signature::new(signature).unwrap();
    let mut verifier = Verifier::new(key, digest, &signature);
    for step in 1..step_count(key) {
        assert_eq!(verifier.step(1), Progress::Pending, "after {step} steps");
    }
    let answer = verifier.step(1);
    assert_eq!(verifier.step(9), answer, "an answer stays");
    let valid = answer == Progress::Valid;
    let again = verifier.difference(digest);
    assert_eq!(again == 0, valid, "the second comparison agrees");
    assert_ne!(verifier.difference(&ImageDigest([0x5C; 32])), 0);
    valid
}

fn step_count(key: &PublicKey) -> u32 {
    match key.signature_len() {
        SignatureLen::Rsa2048 | SignatureLen::Rsa3072 => 28,
        SignatureLen::Rsa4096 => 29,
        SignatureLen::P256 => unreachable!("an RSA key"),
    }
}

/// Asserts that both implementations give the same answer, and returns it.
fn check(pair: &Pair, digest: &ImageDigest, signature: &[u8], what: &str) -> bool {
    let theirs = pair
        .private
        .as_public_key()
        .verify(Pss::<Sha256>::new(), digest.as_bytes(), signature)
        .is_ok();
    let ours = verify(&pair.public, digest, signature);
    assert_eq!(ours, theirs, "{what}: {signature:02x?} over {digest}");
    ours
}

fn random_digest(rng: &mut impl Rng) -> ImageDigest {
    ImageDigest(rng.random())
}

fn sign(pair: &Pair, digest: &ImageDigest, rng: &mut rand::rngs::StdRng) -> Vec<u8> {
    let padding = Pss::<Sha256>::new();
    let signed = pair.private.sign_with_rng(rng, padding, digest.as_bytes());
    signed.unwrap()
}

/// A signature or digest altered in one of several ways.
fn alter(pair: &Pair, digest: &mut ImageDigest, signature: &mut [u8], rng: &mut impl Rng) {
    let modulus = pair.private.n_bytes();
    match rng.random_range(0..8) {
        0 => digest.0[rng.random_range(0..32)] ^= 1 << rng.random_range(0..8),
        1 => signature.fill(0),
        2 => signature.copy_from_slice(&modulus),
        3 => rng.fill(signature),
        4 => {
            signature.fill(0);
            *signature.last_mut().unwrap() = 1;
        }
        5 => {
            signature.copy_from_slice(&modulus);
            *signature.last_mut().unwrap() ^= 1;
        }
        6 => signature.rotate_left(1),
        _ => {
            let at = rng.random_range(0..signature.len());
            signature[at] ^= 1 << rng.random_range(0..8);
        }
    }
}

fn agree(bits: usize, seed: u64, signatures: u32, alterations: u32) {
    std::println!("RSA-{bits}, seed {seed}");
    let pair = Pair::generate(bits, seed);
    let rng = &mut rng(seed);
    for _ in 0..signatures {
        let digest = random_digest(rng);
        let signature = sign(&pair, &digest, rng);
        assert!(check(&pair, &digest, &signature, "right"));
        for _ in 0..alterations {
            let (mut digest, mut altered) = (digest, signature.clone());
            alter(&pair, &mut digest, &mut altered, rng);
            assert!(!check(&pair, &digest, &altered, "altered"));
        }
    }
}

#[test]
fn agrees_with_the_rsa_crate_on_2048_bits() {
    agree(2048, 11, 60, 30);
    agree(2048, 12, 60, 30);
}

#[test]
fn agrees_with_the_rsa_crate_on_3072_bits() {
    agree(3072, 13, 10, 30);
}

#[test]
fn agrees_with_the_rsa_crate_on_4096_bits() {
    agree(4096, 14, 4, 20);
}

/// What is wrong in an encoded message.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    Trailer,
    TopBit,
    Separator,
    Padding,
    SaltLength(usize),
    Hash,
    Prefix,
}

/// EMSA-PSS-ENCODE (RFC 8017, 9.1.1) with a fault.
fn encode(digest: &ImageDigest, len: usize, fault: Fault, rng: &mut impl Rng) -> Vec<u8> {
    let salt_len = match fault {
        Fault::SaltLength(len) => len,
        _ => 32,
    };
    let mut salt = vec![0; salt_len];
    rng.fill(&mut salt[..]);
    let mut prefix = [0; 8];
    if matches!(fault, Fault::Prefix) {
        prefix[rng.random_range(0..8)] = 1;
    }
    let mut hash = crate::crypto::sha256(&[&prefix, digest.as_bytes(), &salt]).0;
    let mut block = vec![0; len - 33 - salt_len];
    *block.last_mut().unwrap() = match fault {
        Fault::Separator => *[0, 2, 0x81, 0xFF].get(rng.random_range(0..4)).unwrap(),
        _ => 1,
    };
    if matches!(fault, Fault::Padding) {
        // The first byte keeps its top bit, which is cleared anyway.
        let at = rng.random_range(0..block.len() - 1);
        block[at] |= 1 << rng.random_range(0..7);
    }
    block.extend_from_slice(&salt);
    unmask(&mut block, &hash);
    block[0] &= 0x7F;
    match fault {
        Fault::TopBit => block[0] |= 0x80,
        Fault::Hash => hash[rng.random_range(0..32)] ^= 1 << rng.random_range(0..8),
        _ => {}
    }
    block.extend_from_slice(&hash);
    block.push(match fault {
        Fault::Trailer => 0xCC,
        _ => 0xBC,
    });
    block
}

/// `encoded ^ d` modulo n, or `None` where `encoded` is not below n.
fn raw_sign(pair: &Pair, encoded: &[u8]) -> Option<Vec<u8>> {
    let mut n = Modulus::none();
    assert!(n.set(&pair.private.n_bytes()));
    let mut number = [0; MAX_LIMBS];
    if !read_be(&mut number, encoded) || !n.exceeds(&number) {
        return None;
    }
    let mut radix = [0; MAX_LIMBS];
    n.one(&mut radix);
    let mut power = radix;
    (0..n.len()).for_each(|_| n.shift(&mut radix));
    let base = n.multiply(&number, &radix);
    for byte in pair.private.d().to_be_bytes_trimmed_vartime() {
        for bit in (0..8).rev() {
            power = n.multiply(&power, &power);
            if byte >> bit & 1 == 1 {
                power = n.multiply(&power, &base);
            }
        }
    }
    let mut signature = vec![0; encoded.len()];
    number_to_be(&n.multiply(&power, &unit()), &mut signature);
    Some(signature)
}

#[test]
fn only_the_one_right_encoding_is_accepted() {
    let seed = 15;
    std::println!("seed {seed}");
    let rng = &mut rng(seed);
    let pair = Pair::short();
    let faults = [
        Fault::None,
        Fault::Trailer,
        Fault::TopBit,
        Fault::Separator,
        Fault::Padding,
        Fault::SaltLength(0),
        Fault::SaltLength(31),
        Fault::SaltLength(33),
        Fault::SaltLength(222),
        Fault::Hash,
        Fault::Prefix,
    ];
    for fault in faults {
        let mut seen = 0;
        while seen < 12 {
            let digest = random_digest(rng);
            let encoded = encode(&digest, 256, fault, rng);
            let Some(signature) = raw_sign(pair, &encoded) else {
                continue;
            };
            seen += 1;
            let answer = check(pair, &digest, &signature, &format!("{fault:?}"));
            assert_eq!(answer, matches!(fault, Fault::None), "{fault:?}");
        }
    }
}

#[test]
fn a_signature_of_another_length_is_wrong_after_as_many_steps() {
    let pair = Pair::short();
    let digest = ImageDigest([3; 32]);
    assert!(!verify(&pair.public, &digest, &[1; 384]));
    assert!(!verify(&pair.public, &digest, &[1; 512]));
}

#[test]
fn a_signature_plus_the_modulus_is_refused() {
    let pair = Pair::short();
    let rng = &mut rng(16);
    let modulus = pair.private.n_bytes();
    // s + n has the same power as s; about every other one still fits 2048 bits.
    let found = (0..64).any(|_| {
        let digest = random_digest(rng);
        let signature = sign(pair, &digest, rng);
        let mut sum = vec![0; 256];
        let mut carry = 0;
        for ((sum, s), n) in sum.iter_mut().zip(&signature).zip(&*modulus).rev() {
            let total = u16::from(*s) + u16::from(*n) + carry;
            *sum = u8::try_from(total & 0xFF).unwrap();
            carry = total >> 8;
        }
        carry == 0 && !check(pair, &digest, &sum, "s + n")
    });
    assert!(found, "no signature was small enough");
}

#[test]
fn moduli_of_other_sizes_are_refused() {
    let modulus = |len| PublicKey::from_modulus(&vec![0xFF; len]).map(|key| key.signature_len());
    assert_eq!(modulus(256), Ok(SignatureLen::Rsa2048));
    assert_eq!(modulus(255), Err(KeyError::Length(255)));
    assert_eq!(modulus(128), Err(KeyError::Length(128)));
    assert_eq!(
        PublicKey::from_modulus(&[0x7F; 256]),
        Err(KeyError::Modulus)
    );
}

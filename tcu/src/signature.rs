//! Signatures of images, by other code than an ECU has: of RSA all of it, of ECDSA what is above the
//! arithmetic of the curve, which is that of the same crate.

use ecu_image::Algorithm;
use ecu_image::signature::PublicKeyRef;
use rsa::signature::Verifier as _;
use rsa::{BoxedUint, RsaPublicKey};
use sha2::Sha256;

/// Whether `signature` is this key's over `signed`.
pub(crate) fn is_signed(key: PublicKeyRef<'_>, signed: &[u8], signature: &[u8]) -> bool {
    match key.algorithm {
        Algorithm::RsaPssSha256 => is_signed_by_rsa(key.bytes, signed, signature),
        Algorithm::EcdsaP256Sha256 => is_signed_by_p256(key.bytes, signed, signature),
    }
}

/// RSA-PSS-SHA-256, MGF1-SHA-256, a salt of 32 bytes; the exponent is 65537.
fn is_signed_by_rsa(modulus: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    let modulus = BoxedUint::from_be_slice_vartime(modulus);
    let Ok(key) = RsaPublicKey::new(modulus, BoxedUint::from(65_537_u32)) else {
        return false;
    };
    let key = rsa::pss::VerifyingKey::<Sha256>::new_with_salt_len(key, 32);
    rsa::pss::Signature::try_from(signature)
        .is_ok_and(|signature| key.verify(signed, &signature).is_ok())
}

/// ECDSA over P-256 with SHA-256; point and signature are `x ‖ y` and `r ‖ s`.
fn is_signed_by_p256(point: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    // As SEC 1 writes a point of which both coordinates are given.
    let point = [&[4], point].concat();
    let Ok(key) = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point) else {
        return false;
    };
    p256::ecdsa::Signature::from_slice(signature)
        .is_ok_and(|signature| key.verify(signed, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Signer as _;
    use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
    use rsa::traits::PublicKeyParts as _;

    use super::*;

    #[test]
    fn a_signature_of_ecdsa_is_that_of_its_key_and_message_alone() {
        let private = p256::ecdsa::SigningKey::from_slice(&[0x21; 32]).unwrap();
        let point = private.verifying_key().to_sec1_point(false);
        let point = &point.as_bytes()[1..];
        let signature: p256::ecdsa::Signature = private.sign(b"image");
        let signature = signature.to_bytes();
        let check = |algorithm, bytes: &[u8], signed: &[u8], signature: &[u8]| {
            is_signed(PublicKeyRef { algorithm, bytes }, signed, signature)
        };
        let ecdsa = Algorithm::EcdsaP256Sha256;
        assert!(check(ecdsa, point, b"image", &signature));
        assert!(!check(ecdsa, point, b"imagE", &signature));
        assert!(!check(ecdsa, point, b"image", &signature[1..]));
        assert!(!check(ecdsa, point, b"image", &[0; 64]));
        assert!(!check(ecdsa, &point[1..], b"image", &signature));
        assert!(!check(Algorithm::RsaPssSha256, point, b"image", &signature));
        let mut off_curve = point.to_vec();
        off_curve[63] ^= 1;
        assert!(!check(ecdsa, &off_curve, b"image", &signature));
    }

    #[test]
    fn a_signature_of_rsa_is_that_of_its_key_message_and_salt_length_alone() {
        let private = rsa::RsaPrivateKey::new(&mut crate::random(), 2048).unwrap();
        let modulus = private.n_bytes();
        let key = PublicKeyRef {
            algorithm: Algorithm::RsaPssSha256,
            bytes: &modulus,
        };
        let sign = |salt_len| {
            let signer =
                rsa::pss::SigningKey::<Sha256>::new_with_salt_len(private.clone(), salt_len);
            signer
                .sign_with_rng(&mut crate::random(), b"image")
                .to_vec()
        };
        assert!(is_signed(key, b"image", &sign(32)));
        assert!(!is_signed(key, b"imagE", &sign(32)));
        assert!(!is_signed(key, b"image", &sign(20)));
        assert!(!is_signed(key, b"image", &[0; 256]));
    }
}

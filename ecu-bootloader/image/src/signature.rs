//! Verification of signatures as an ECU needs it: image signatures under keys of its key set, key-set
//! signatures under the roots that were pinned at provisioning.

use core::borrow::BorrowMut;
use core::fmt;

#[cfg(feature = "ecdsa-p256")]
use crate::ecdsa;
use crate::header::Algorithm;
use crate::id::{ImageDigest, KeyId};
use crate::pss::{Progress, Verifier, key_id};

/// A public key where it lies: in a key set, in flash, in a provisioning file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKeyRef<'a> {
    /// What it verifies.
    pub algorithm: Algorithm,
    /// The big-endian modulus, or `x ‖ y` of a point.
    pub bytes: &'a [u8],
}

/// There is no such key, or this verifier does not know its algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnusableKey;

impl fmt::Display for UnusableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no such key, or its algorithm is not built in")
    }
}

impl core::error::Error for UnusableKey {}

impl PublicKeyRef<'_> {
    /// Whether `signature` is this key's over the bytes whose SHA-256 is `digest`, in one go: for
    /// tools, which need not answer a bus meanwhile.
    #[must_use]
    pub fn verifies(&self, digest: &[u8; 32], signature: &[u8]) -> bool {
        let mut verifier = SoftwareVerifier::new([[0; 0]; 0]);
        verifier.begin(*self, digest, signature).is_ok()
            && verifier.step(u32::MAX) == Progress::Valid
    }
}

/// Something that verifies signatures in slices: software, or a peripheral. It holds one key at a
/// time, and knows the keys that are pinned in it.
pub trait SignatureVerifier {
    /// Starts to verify `signature` under `key` over the bytes whose SHA-256 is `digest`. One
    /// verification runs at a time; a new one replaces it, and so does one that cannot begin.
    ///
    /// # Errors
    /// The key is none, or of an algorithm that is not built in.
    fn begin(
        &mut self,
        key: PublicKeyRef<'_>,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey>;

    /// Starts to verify `signature` under the pinned key with this identity.
    ///
    /// # Errors
    /// No key has it.
    fn begin_pinned(
        &mut self,
        key: KeyId,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey>;

    /// Works for at most `budget` steps. Without a verification begun, [`Progress::Invalid`].
    fn step(&mut self, budget: u32) -> Progress;

    /// A second look at what the last verification found: zero where it proved a signature over the
    /// bytes whose SHA-256 is `digest`. It must not rest on the answer that [`step`](Self::step)
    /// gave, nor on the instructions that compared there.
    fn difference(&mut self, digest: &ImageDigest) -> u32;
}

/// Pinned keys, the ECU roots first of all, as big-endian RSA moduli: in an array of a board's
/// constants, or read from a provisioning file.
pub trait Pinned {
    /// The modulus of the key with this identity.
    fn modulus(&self, key: KeyId) -> Option<&[u8]>;
}

impl<K: AsRef<[u8]>> Pinned for [K] {
    fn modulus(&self, key: KeyId) -> Option<&[u8]> {
        let mut moduli = self.iter().map(AsRef::as_ref);
        moduli.find(|modulus| key_id(modulus) == key)
    }
}

impl<K: AsRef<[u8]>, const N: usize> Pinned for [K; N] {
    fn modulus(&self, key: KeyId) -> Option<&[u8]> {
        self.as_slice().modulus(key)
    }
}

impl<R: Pinned + ?Sized> Pinned for &R {
    fn modulus(&self, root: KeyId) -> Option<&[u8]> {
        (**self).modulus(root)
    }
}

#[cfg(feature = "alloc")]
impl<K: AsRef<[u8]>> Pinned for alloc::vec::Vec<K> {
    fn modulus(&self, key: KeyId) -> Option<&[u8]> {
        self.as_slice().modulus(key)
    }
}

/// A [`SignatureVerifier`] in software over pinned keys.
///
/// `V` is the verification under way: in itself, or borrowed from a static of a board.
#[derive(Debug)]
pub struct SoftwareVerifier<R, V = Verifier> {
    pinned: R,
    running: V,
    #[cfg(feature = "ecdsa-p256")]
    point: ecdsa::Verifier,
    /// Whether the verification is that of `point`.
    #[cfg(feature = "ecdsa-p256")]
    is_point: bool,
}

impl<R: Pinned> SoftwareVerifier<R> {
    /// Over `pinned`.
    #[inline]
    pub const fn new(pinned: R) -> Self {
        Self::with(pinned, Verifier::idle())
    }
}

impl<R, V> SoftwareVerifier<R, V> {
    #[inline]
    const fn with(pinned: R, running: V) -> Self {
        Self {
            pinned,
            running,
            #[cfg(feature = "ecdsa-p256")]
            point: ecdsa::Verifier::idle(),
            #[cfg(feature = "ecdsa-p256")]
            is_point: false,
        }
    }
}

impl<R: Pinned, V: BorrowMut<Verifier>> SoftwareVerifier<R, V> {
    /// Over `pinned`, with `running` for the verification.
    pub const fn over(pinned: R, running: V) -> Self {
        Self::with(pinned, running)
    }

    /// Forgets what is proved, and turns to RSA.
    fn forget(&mut self) {
        self.running.borrow_mut().forget();
        #[cfg(feature = "ecdsa-p256")]
        {
            self.point.forget();
            self.is_point = false;
        }
    }
}

impl<R: Pinned, V: BorrowMut<Verifier>> SignatureVerifier for SoftwareVerifier<R, V> {
    fn begin(
        &mut self,
        key: PublicKeyRef<'_>,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        self.forget();
        match key.algorithm {
            Algorithm::RsaPssSha256 => self
                .running
                .borrow_mut()
                .begin(key.bytes, digest, signature)
                .map_err(|_| UnusableKey),
            #[cfg(feature = "ecdsa-p256")]
            Algorithm::EcdsaP256Sha256 => {
                self.is_point = true;
                self.point
                    .begin(key.bytes, digest, signature)
                    .map_err(|_| UnusableKey)
            }
            #[cfg(not(feature = "ecdsa-p256"))]
            Algorithm::EcdsaP256Sha256 => Err(UnusableKey),
        }
    }

    fn begin_pinned(
        &mut self,
        key: KeyId,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        self.forget();
        let modulus = self.pinned.modulus(key).ok_or(UnusableKey)?;
        self.running
            .borrow_mut()
            .begin(modulus, digest, signature)
            .map_err(|_| UnusableKey)
    }

    fn step(&mut self, budget: u32) -> Progress {
        #[cfg(feature = "ecdsa-p256")]
        if self.is_point {
            return self.point.step(budget);
        }
        self.running.borrow_mut().step(budget)
    }

    fn difference(&mut self, digest: &ImageDigest) -> u32 {
        #[cfg(feature = "ecdsa-p256")]
        if self.is_point {
            return self.point.difference(digest.as_bytes());
        }
        self.running.borrow_mut().difference(digest)
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::testing::Pair;
    use rsa::traits::PublicKeyParts as _;

    #[test]
    fn a_pinned_key_is_found_by_its_identity_and_a_failed_begin_forgets_the_answer() {
        let pair = Pair::short();
        let message = b"a key set";
        let digest = crate::crypto::sha256(&[message]).0;
        let signature = pair.sign(message);
        let mut verifier = SoftwareVerifier::new([pair.private.n_bytes()]);
        assert_eq!(verifier.step(1), Progress::Invalid);
        assert_ne!(verifier.difference(&ImageDigest(digest)), 0);
        let root = pair.public.id();
        assert_eq!(verifier.begin_pinned(root, &digest, &signature), Ok(()));
        assert_eq!(verifier.step(0), Progress::Pending);
        assert_eq!(verifier.step(u32::MAX), Progress::Valid);
        assert_eq!(verifier.difference(&ImageDigest(digest)), 0);
        let begun = verifier.begin_pinned(KeyId([0; 8]), &digest, &signature);
        assert_eq!(begun, Err(UnusableKey));
        assert_eq!(verifier.step(u32::MAX), Progress::Invalid);
        assert_ne!(verifier.difference(&ImageDigest(digest)), 0);
    }

    #[test]
    fn any_key_that_is_handed_in_verifies_its_own_signatures_only() {
        let pair = Pair::short();
        let digest = crate::crypto::sha256(&[b"image"]).0;
        let signature = pair.sign(b"image");
        let modulus = pair.private.n_bytes();
        let mut verifier = SoftwareVerifier::new([[0; 0]; 0]);
        let mut check = |algorithm, bytes: &[u8], signature: &[u8]| {
            let key = PublicKeyRef { algorithm, bytes };
            let begun = verifier.begin(key, &digest, signature);
            (begun, verifier.step(u32::MAX))
        };
        let rsa = Algorithm::RsaPssSha256;
        assert_eq!(check(rsa, &modulus, &signature), (Ok(()), Progress::Valid));
        let short = check(rsa, &modulus, &signature[1..]);
        assert_eq!(short, (Ok(()), Progress::Invalid));
        let refused = (Err(UnusableKey), Progress::Invalid);
        assert_eq!(check(rsa, &modulus[1..], &signature), refused);
    }
}

//! RSA-PSS-SHA-256 verification (RFC 8017, 8.1.2 and 9.1.2) without allocation, in slices.
//!
//! An ECU must answer its bus while it verifies, so a [`Verifier`] works in steps of at most two
//! Montgomery multiplications and can be left between any two. It verifies only: there is no
//! secret here. Keys of 2048, 3072 and 4096 bits with exponent 65537; MGF1 with SHA-256; a salt of
//! 32 bytes.
//!
//! The number of steps depends on the key's size alone: a signature that cannot be right from its
//! first byte takes as long as one whose last comparison fails.

use core::fmt;

use crate::hardened::difference;
use crate::header::{Algorithm, Signature, SignatureLen};
use crate::id::{ImageDigest, KeyId};
use crate::montgomery::{MAX_BYTES, MAX_LIMBS, Modulus, Number, number_to_be, read_be, unit};

/// The public exponent of every accepted key.
pub const PUBLIC_EXPONENT: u32 = 65537;
/// Squarings in a power of 65537 = 2^16 + 1.
const SQUARINGS: u8 = 16;
const HASH_LEN: usize = 32;
const SALT_LEN: usize = 32;

/// Why bytes are not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// The modulus has not 256, 384 or 512 bytes.
    Length(usize),
    /// The modulus is even, its top bit is clear, or it is larger than what is built in.
    Modulus,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => {
                write!(f, "modulus has {len} bytes, not 256, 384 or 512")
            }
            Self::Modulus => f.write_str("modulus is even or its top bit is clear"),
        }
    }
}

impl core::error::Error for KeyError {}

/// An RSA public key with exponent 65537.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    modulus: Modulus,
    len: SignatureLen,
    id: KeyId,
}

impl PublicKey {
    /// A key of its big-endian modulus of 256, 384 or 512 bytes.
    ///
    /// # Errors
    /// Another length, an even modulus or one with its top bit clear.
    pub fn from_modulus(modulus: &[u8]) -> Result<Self, KeyError> {
        let len = SignatureLen::new(Algorithm::RsaPssSha256, modulus.len())
            .ok_or(KeyError::Length(modulus.len()))?;
        let mut key = Self {
            modulus: Modulus::none(),
            len,
            id: key_id(modulus),
        };
        if !key.modulus.set(modulus) {
            return Err(KeyError::Modulus);
        }
        Ok(key)
    }

    /// The key's identity.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The length of its signatures.
    #[must_use]
    pub const fn signature_len(&self) -> SignatureLen {
        self.len
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {:?})", self.id, self.len)
    }
}

/// The identity of the key with this big-endian modulus.
#[must_use]
pub fn key_id(modulus: &[u8]) -> KeyId {
    let digest = crate::crypto::sha256(&[modulus]);
    let (id, _) = digest.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
    KeyId(*id)
}

/// How far a verification is. The numbers differ in half of their bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Progress {
    /// Not finished: call again.
    Pending = 0x5A0F_5A0F,
    /// The signature is right.
    Valid = 0x3C69_A5C3,
    /// The signature is wrong. There is no more to say.
    Invalid = 0xC396_5A3C,
}

/// Where a verification stands. `base` and `power` are the verifier's registers; `base` begins as the
/// signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// Nothing is begun: the answer is no. All zeros, so that a static verifier takes no flash.
    Idle = 0,
    /// power = 2^32 in Montgomery form.
    Radix,
    /// power = power ^ limbs, from the bit below the top: R in Montgomery form.
    RadixPower { bits: u32 },
    /// base = power = signature in Montgomery form.
    Enter,
    /// power = power^2.
    Square { left: u8 },
    /// power = power * base.
    Multiply,
    /// power = the encoded message.
    Leave,
    /// The padding is compared.
    Compare,
    /// The answer, [`Progress::Valid`] or not.
    Done(Progress),
}

/// What `power` is multiplied by.
#[derive(Debug, Clone, Copy)]
enum By {
    Itself,
    Base,
    One,
}

/// One verification, a little more than three moduli large: it is begun in its place, not moved.
#[derive(Clone)]
pub struct Verifier {
    modulus: Modulus,
    base: Number,
    power: Number,
    digest: [u8; 32],
    /// Length and value of the signature fit the modulus (RFC 8017, 5.2.2 step 1).
    fits: bool,
    stage: Stage,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?})", self.stage)
    }
}

impl Verifier {
    /// Nothing is verified: the answer is no.
    #[inline]
    #[must_use]
    pub const fn idle() -> Self {
        Self {
            modulus: Modulus::none(),
            base: [0; MAX_LIMBS],
            power: [0; MAX_LIMBS],
            digest: [0; 32],
            fits: false,
            stage: Stage::Idle,
        }
    }

    /// Starts to verify `signature` under `key` over the bytes whose SHA-256 is `digest`.
    #[must_use]
    pub fn new(key: &PublicKey, digest: &ImageDigest, signature: &Signature) -> Self {
        let mut verifier = Self {
            modulus: key.modulus.clone(),
            ..Self::idle()
        };
        verifier.enter_signature(digest.as_bytes(), signature.as_bytes());
        verifier
    }

    /// Starts to verify big-endian `signature` under the key of this big-endian modulus over the
    /// bytes whose SHA-256 is `digest`. Nothing but the verifier itself holds the key.
    ///
    /// # Errors
    /// As [`PublicKey::from_modulus`]; the answer is no then.
    pub fn begin(
        &mut self,
        modulus: &[u8],
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), KeyError> {
        self.forget();
        SignatureLen::new(Algorithm::RsaPssSha256, modulus.len())
            .ok_or(KeyError::Length(modulus.len()))?;
        if !self.modulus.set(modulus) {
            return Err(KeyError::Modulus);
        }
        self.enter_signature(digest, signature);
        Ok(())
    }

    /// Forgets the verification: nothing is proved any more.
    pub fn forget(&mut self) {
        self.modulus.clear();
        self.stage = Stage::Done(Progress::Invalid);
    }

    fn enter_signature(&mut self, digest: &[u8; 32], signature: &[u8]) {
        self.digest = *digest;
        let whole = signature.len() == self.modulus.len().saturating_mul(4);
        self.fits = read_be(&mut self.base, signature) & whole & self.modulus.exceeds(&self.base);
        if !self.fits {
            // Arithmetic is defined below the modulus; the answer is no in any case.
            self.modulus.one(&mut self.base);
        }
        self.stage = Stage::Radix;
    }

    /// Works for at most `budget` steps. After the answer it stays the answer.
    pub fn step(&mut self, budget: u32) -> Progress {
        for _ in 0..budget {
            if let Stage::Idle | Stage::Done(_) = self.stage {
                break;
            }
            self.stage = self.advance();
        }
        match self.stage {
            Stage::Idle => Progress::Invalid,
            Stage::Done(answer) => answer,
            _ => Progress::Pending,
        }
    }

    /// Zero where the verification proved a signature over the bytes whose SHA-256 is `digest`. The
    /// padding is not taken apart here as in the first comparison, but made anew from the salt in
    /// it, and compared with the whole power.
    #[must_use]
    pub fn difference(&self, digest: &ImageDigest) -> u32 {
        let mut encoded = [0; MAX_BYTES];
        let len = self.modulus.len().saturating_mul(4);
        let Some(encoded) = encoded.get_mut(..len) else {
            return u32::MAX;
        };
        number_to_be(&self.power, encoded);
        if encode_again(encoded, digest).is_none() {
            return u32::MAX;
        }
        let mut left = self.modulus.len();
        let (limbs, _) = encoded.as_chunks::<4>();
        let limbs = limbs.iter().rev().zip(&self.power);
        let found = limbs.fold(0, |found, (bytes, limb)| {
            left = left.saturating_sub(1);
            found | difference(bytes, &limb.to_be_bytes())
        });
        found | u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Multiplies `power`, all stages in one place.
    #[inline(never)]
    fn multiply(&mut self, by: By) {
        let one;
        let by = match by {
            By::Itself => &self.power,
            By::Base => &self.base,
            By::One => {
                one = unit();
                &one
            }
        };
        self.power = self.modulus.multiply(&self.power, by);
    }

    fn advance(&mut self) -> Stage {
        match self.stage {
            Stage::Radix => {
                let n = &self.modulus;
                n.one(&mut self.power);
                n.shift(&mut self.power);
                let bits = n.len().checked_ilog2().unwrap_or(0);
                Stage::RadixPower { bits }
            }
            Stage::RadixPower { bits } => {
                let Some(bits) = bits.checked_sub(1) else {
                    return Stage::Enter;
                };
                self.multiply(By::Itself);
                if self.modulus.len().checked_shr(bits).unwrap_or(0) & 1 == 1 {
                    self.modulus.shift(&mut self.power);
                }
                Stage::RadixPower { bits }
            }
            Stage::Enter => {
                self.multiply(By::Base);
                self.base = self.power;
                Stage::Square { left: SQUARINGS }
            }
            Stage::Square { left } => {
                self.multiply(By::Itself);
                match left.saturating_sub(1) {
                    0 => Stage::Multiply,
                    left => Stage::Square { left },
                }
            }
            Stage::Multiply => {
                self.multiply(By::Base);
                Stage::Leave
            }
            Stage::Leave => {
                self.multiply(By::One);
                Stage::Compare
            }
            Stage::Compare => Stage::Done(self.compare()),
            Stage::Idle => Stage::Idle,
            Stage::Done(answer) => Stage::Done(answer),
        }
    }

    fn compare(&self) -> Progress {
        let mut encoded = [0; MAX_BYTES];
        let len = self.modulus.len().saturating_mul(4);
        let Some(encoded) = encoded.get_mut(..len) else {
            return Progress::Invalid;
        };
        number_to_be(&self.power, encoded);
        if encoding_is_right(encoded, &self.digest) & self.fits {
            return Progress::Valid;
        }
        Progress::Invalid
    }
}

/// EMSA-PSS-VERIFY (RFC 8017, 9.1.2) with emBits = 8 len - 1. It looks at everything before it
/// answers.
fn encoding_is_right(encoded: &mut [u8], digest: &[u8; 32]) -> bool {
    let Some((trailer, rest)) = encoded.split_last_mut() else {
        return false;
    };
    let Some((masked, hash)) = rest.split_last_chunk_mut::<HASH_LEN>() else {
        return false;
    };
    let top_is_clear = masked.first().is_some_and(|byte| byte & 0x80 == 0);
    unmask(masked, hash);
    if let Some(first) = masked.first_mut() {
        *first &= 0x7F;
    }
    let Some((padding, salt)) = masked.split_last_chunk::<SALT_LEN>() else {
        return false;
    };
    let Some((one, zeros)) = padding.split_last() else {
        return false;
    };
    let padded = (zeros.iter().fold(0, |any, byte| any | byte) == 0) & (*one == 1);
    let expected = crate::crypto::sha256(&[&[0; 8], digest, salt]);
    let hashed = crate::crypto::same(&expected.0, hash);
    (*trailer == 0xBC) & top_is_clear & padded & hashed
}

/// EMSA-PSS-ENCODE (RFC 8017, 9.1.1) in place, with the salt that the encoded message has.
fn encode_again(encoded: &mut [u8], digest: &ImageDigest) -> Option<()> {
    let (trailer, rest) = encoded.split_last_mut()?;
    let (masked, hash) = rest.split_last_chunk_mut::<HASH_LEN>()?;
    unmask(masked, hash);
    let (padding, salt) = masked.split_last_chunk_mut::<SALT_LEN>()?;
    let (one, zeros) = padding.split_last_mut()?;
    zeros.fill(0);
    *one = 1;
    *hash = crate::crypto::sha256(&[&[0; 8], digest.as_bytes(), salt]).0;
    unmask(masked, hash);
    *masked.first_mut()? &= 0x7F;
    *trailer = 0xBC;
    Some(())
}

/// Adds MGF1-SHA-256 of `seed` to `data` (RFC 8017, B.2.1).
fn unmask(data: &mut [u8], seed: &[u8; HASH_LEN]) {
    for (counter, chunk) in (0u32..).zip(data.chunks_mut(HASH_LEN)) {
        let hash = crate::crypto::sha256(&[seed, &counter.to_be_bytes()]);
        for (byte, mask) in chunk.iter_mut().zip(hash.0) {
            *byte ^= mask;
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests;

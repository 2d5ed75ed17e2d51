//! The algorithm of a signature, its lengths, and the signature itself.

use crate::wire::put;

/// How an image is signed; the numbers are those of headers and key sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes.
    RsaPssSha256 = 1,
    /// ECDSA over P-256 with SHA-256; an ECU verifies it where the feature `ecdsa-p256` is built in.
    EcdsaP256Sha256 = 2,
}

impl Algorithm {
    pub(crate) const fn code(self) -> u16 {
        self as u16
    }

    pub(crate) const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::RsaPssSha256),
            2 => Some(Self::EcdsaP256Sha256),
            _ => None,
        }
    }
}

/// Length of a signature. It is also that of the public key: the modulus, or both coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureLen {
    /// RSA-2048: only where a policy says so.
    Rsa2048,
    /// RSA-3072.
    Rsa3072,
    /// ECDSA over P-256, as strong as RSA-3072.
    P256,
    /// RSA-4096.
    Rsa4096,
}

impl SignatureLen {
    /// The length in bytes of a signature or public key of `algorithm`, or `None` for other sizes.
    #[must_use]
    pub const fn new(algorithm: Algorithm, bytes: usize) -> Option<Self> {
        match (algorithm, bytes) {
            (Algorithm::RsaPssSha256, 256) => Some(Self::Rsa2048),
            (Algorithm::RsaPssSha256, 384) => Some(Self::Rsa3072),
            (Algorithm::RsaPssSha256, 512) => Some(Self::Rsa4096),
            (Algorithm::EcdsaP256Sha256, 64) => Some(Self::P256),
            _ => None,
        }
    }

    pub(super) const fn of_signature(bytes: usize) -> Option<Self> {
        match bytes {
            64 => Some(Self::P256),
            _ => Self::new(Algorithm::RsaPssSha256, bytes),
        }
    }

    /// What makes signatures of this length.
    #[must_use]
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::P256 => Algorithm::EcdsaP256Sha256,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => Algorithm::RsaPssSha256,
        }
    }

    /// The strength of its keys in bits (NIST SP 800-57 part 1, table 2). RSA-4096 stands between two
    /// rows of the table, of 128 and 192 bits.
    #[must_use]
    pub const fn strength(self) -> u16 {
        match self {
            Self::Rsa2048 => 112,
            Self::Rsa3072 | Self::P256 => 128,
            Self::Rsa4096 => 150,
        }
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::P256 => 64,
            Self::Rsa2048 => 256,
            Self::Rsa3072 => 384,
            Self::Rsa4096 => 512,
        }
    }

    pub(super) const fn field(self) -> u16 {
        match self {
            Self::P256 => 64,
            Self::Rsa2048 => 256,
            Self::Rsa3072 => 384,
            Self::Rsa4096 => 512,
        }
    }
}

/// A signature: RSA-PSS, big-endian, of 256, 384 or 512 bytes, or the `r ‖ s` of ECDSA.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    bytes: [u8; 512],
    len: SignatureLen,
}

impl Signature {
    /// A signature, or `None` where its length is that of no accepted key.
    #[must_use]
    pub fn new(signature: &[u8]) -> Option<Self> {
        let len = SignatureLen::of_signature(signature.len())?;
        let mut bytes = [0; 512];
        put(&mut bytes, 0, signature);
        Some(Self { bytes, len })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.bytes()).unwrap_or(&[])
    }

    /// The length.
    #[must_use]
    pub const fn len(&self) -> SignatureLen {
        self.len
    }
}

impl core::fmt::Debug for Signature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Signature({:?})", self.len)
    }
}

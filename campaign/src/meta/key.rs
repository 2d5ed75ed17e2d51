//! Public keys in metadata.
//!
//! A key of a type or scheme that this version does not know stays in the document and never counts
//! towards a threshold; Ed25519 and ECDSA are added as variants of [`VerifyingKey`].

use crate::{ids, json};
use alloc::{collections::BTreeMap, string::String};
use core::fmt;
use rsa::{
    RsaPublicKey,
    pkcs8::{DecodePublicKey, Document},
    pss,
    signature::Verifier,
    traits::PublicKeyParts,
};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

/// The scheme RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes.
pub const RSA_PSS_SHA256: &str = "rsassa-pss-sha256";

/// The name of a key within a root document: 1 to 128 hexadecimal digits.
///
/// We write SHA-256 of the canonical key; a reader takes it as a name only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let valid =
            (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid
            .then_some(Self(text))
            .ok_or_else(|| de::Error::custom("key id: 1 to 128 hexadecimal digits expected"))
    }
}

/// A public key as it stands in a root document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `rsa` here; later also `ed25519`, `ecdsa`.
    pub keytype: String,
    /// How it signs: [`RSA_PSS_SHA256`].
    pub scheme: String,
    /// The key itself.
    pub keyval: KeyVal,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The public part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyVal {
    /// For RSA: SubjectPublicKeyInfo in PEM.
    pub public: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Which keys are believed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPolicy {
    /// The shortest RSA modulus in bits.
    pub rsa_min_bits: u32,
}

impl Default for KeyPolicy {
    /// RSA from 3072 bits on.
    fn default() -> Self {
        Self { rsa_min_bits: 3072 }
    }
}

impl KeyPolicy {
    /// The longest RSA modulus in bits: bounds the work that a hostile root can ask for.
    pub const RSA_MAX_BITS: u32 = 4096;
}

/// Why a key cannot verify anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// A type or scheme that this version does not know.
    Unsupported,
    /// Not the encoding that its type asks for.
    Encoding,
    /// An RSA modulus outside the policy.
    ModulusLength {
        /// Its length in bits.
        bits: u32,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("key type or scheme not supported"),
            Self::Encoding => f.write_str("key is not SubjectPublicKeyInfo in PEM"),
            Self::ModulusLength { bits } => write!(f, "RSA modulus of {bits} bits not allowed"),
        }
    }
}

impl core::error::Error for KeyError {}

/// A key that can verify.
pub(crate) enum VerifyingKey {
    RsaPssSha256(pss::VerifyingKey<sha2::Sha256>),
}

impl VerifyingKey {
    /// Whether `signature` over `message` is by this key.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::RsaPssSha256(key) => pss::Signature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

impl Key {
    /// The key of an RSA-PSS-SHA256 signer.
    #[must_use]
    pub fn rsa(public_pem: &str) -> Self {
        Self {
            keytype: String::from("rsa"),
            scheme: String::from(RSA_PSS_SHA256),
            keyval: KeyVal {
                public: String::from(public_pem),
                extra: BTreeMap::new(),
            },
            extra: BTreeMap::new(),
        }
    }

    /// The name that we give it: SHA-256 of its canonical JSON.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let canonical = serde_json::to_value(self)
            .ok()
            .and_then(|value| json::canonical(&value).ok())
            .unwrap_or_default();
        KeyId(alloc::format!("{}", ids::sha256(&canonical)))
    }

    /// The key as SubjectPublicKeyInfo in DER; the same key has one such form, whatever its PEM
    /// looks like.
    ///
    /// # Errors
    ///
    /// [`KeyError`] where it is not a supported key within `policy`.
    pub fn to_der(&self, policy: KeyPolicy) -> Result<Document, KeyError> {
        use rsa::pkcs8::EncodePublicKey;
        self.rsa_key(policy)?
            .to_public_key_der()
            .map_err(|_| KeyError::Encoding)
    }

    pub(crate) fn verifying(&self, policy: KeyPolicy) -> Result<VerifyingKey, KeyError> {
        let key = pss::VerifyingKey::new(self.rsa_key(policy)?);
        Ok(VerifyingKey::RsaPssSha256(key))
    }

    fn rsa_key(&self, policy: KeyPolicy) -> Result<RsaPublicKey, KeyError> {
        if self.keytype != "rsa" || self.scheme != RSA_PSS_SHA256 {
            return Err(KeyError::Unsupported);
        }
        let key = RsaPublicKey::from_public_key_pem(self.keyval.public.trim())
            .map_err(|_| KeyError::Encoding)?;
        let bits = key.n().bits();
        if (policy.rsa_min_bits..=KeyPolicy::RSA_MAX_BITS).contains(&bits) {
            Ok(key)
        } else {
            Err(KeyError::ModulusLength { bits })
        }
    }
}

//! Public keys in metadata.
//!
//! A key of a type or scheme that this version does not know stays in the document and never counts
//! towards a threshold.

use crate::{ids, json};
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;
use rsa::{RsaPublicKey, pkcs8::DecodePublicKey, pss, signature::Verifier, traits::PublicKeyParts};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

/// The scheme RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes.
pub const RSA_PSS_SHA256: &str = "rsassa-pss-sha256";
/// Key type and scheme Ed25519 (RFC 8032); the public key is its 32 bytes in hexadecimal.
pub const ED25519: &str = "ed25519";
/// The scheme ECDSA on P-256 with SHA-256; the signature is ASN.1 DER.
pub const ECDSA_P256_SHA256: &str = "ecdsa-sha2-nistp256";

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
    /// `rsa`, `ed25519` or `ecdsa`.
    pub keytype: String,
    /// How it signs: [`RSA_PSS_SHA256`], [`ED25519`] or [`ECDSA_P256_SHA256`]. Empty where it is not
    /// said: of each type we know one scheme alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
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
    /// SubjectPublicKeyInfo in PEM; for Ed25519 hexadecimal digits.
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
            Self::Encoding => f.write_str("not the encoding of a key of its type"),
            Self::ModulusLength { bits } => write!(f, "RSA modulus of {bits} bits not allowed"),
        }
    }
}

impl core::error::Error for KeyError {}

/// A key that can verify.
pub(crate) enum VerifyingKey {
    RsaPssSha256(pss::VerifyingKey<sha2::Sha256>),
    Ed25519(ed25519_dalek::VerifyingKey),
    EcdsaP256(p256::ecdsa::VerifyingKey),
}

impl VerifyingKey {
    /// Whether `signature` over `message` is by this key.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::RsaPssSha256(key) => pss::Signature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            // Strict: no key or signature of small order.
            Self::Ed25519(key) => ed25519_dalek::Signature::try_from(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Self::EcdsaP256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }

    /// Bytes that are the same for the same key, whatever its encoding looked like.
    pub(crate) fn identity(&self) -> Vec<u8> {
        match self {
            Self::RsaPssSha256(key) => {
                let key: &RsaPublicKey = key.as_ref();
                key.n().to_be_bytes().into_vec()
            }
            Self::Ed25519(key) => key.as_bytes().to_vec(),
            Self::EcdsaP256(key) => key.to_sec1_point(true).as_bytes().to_vec(),
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

    /// The key of an Ed25519 signer.
    #[must_use]
    pub fn ed25519(public: &[u8; 32]) -> Self {
        Self {
            keytype: String::from(ED25519),
            scheme: String::from(ED25519),
            ..Self::rsa(&hex::encode(public))
        }
    }

    /// The key of a signer by ECDSA on P-256: SubjectPublicKeyInfo in PEM.
    #[must_use]
    pub fn ecdsa_p256(public_pem: &str) -> Self {
        Self {
            keytype: String::from("ecdsa"),
            scheme: String::from(ECDSA_P256_SHA256),
            ..Self::rsa(public_pem)
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

    /// The key in a form that verifies.
    ///
    /// # Errors
    ///
    /// [`KeyError`] where it is not a supported key within `policy`.
    pub(crate) fn verifying(&self, policy: KeyPolicy) -> Result<VerifyingKey, KeyError> {
        let text = self.keyval.public.trim();
        // The second name of ECDSA keys is that of TUF before 1.0.32.
        match (self.keytype.as_str(), self.scheme.as_str()) {
            ("rsa", RSA_PSS_SHA256 | "") => rsa_key(text, policy)
                .map(|key| VerifyingKey::RsaPssSha256(pss::VerifyingKey::new(key))),
            (ED25519, ED25519 | "") => {
                let bytes = hex::decode(text).map_err(|_| KeyError::Encoding)?;
                let bytes = bytes
                    .as_slice()
                    .try_into()
                    .map_err(|_| KeyError::Encoding)?;
                ed25519_dalek::VerifyingKey::from_bytes(bytes)
                    .map(VerifyingKey::Ed25519)
                    .map_err(|_| KeyError::Encoding)
            }
            ("ecdsa" | ECDSA_P256_SHA256, ECDSA_P256_SHA256 | "") => {
                p256::ecdsa::VerifyingKey::from_public_key_pem(text)
                    .map(VerifyingKey::EcdsaP256)
                    .map_err(|_| KeyError::Encoding)
            }
            _ => Err(KeyError::Unsupported),
        }
    }

    /// Whether the key can verify under `policy`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] where it cannot.
    pub fn check(&self, policy: KeyPolicy) -> Result<(), KeyError> {
        self.verifying(policy).map(drop)
    }
}

fn rsa_key(pem: &str, policy: KeyPolicy) -> Result<RsaPublicKey, KeyError> {
    let key = RsaPublicKey::from_public_key_pem(pem).map_err(|_| KeyError::Encoding)?;
    let bits = key.n().bits();
    if (policy.rsa_min_bits..=KeyPolicy::RSA_MAX_BITS).contains(&bits) {
        Ok(key)
    } else {
        Err(KeyError::ModulusLength { bits })
    }
}

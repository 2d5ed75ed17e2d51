//! The roots of an ECU and its first key set.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ecdsa;
use crate::error::ParseError;
use crate::header::{Algorithm, SignatureLen};
use crate::id::KeyId;
use crate::keyset::{KeySet, MAX_ROOTS, THRESHOLD};
use crate::pss::{self, PUBLIC_EXPONENT, PublicKey, key_id};
use crate::signature::{Pinned, PublicKeyRef};

/// The roots of an ECU: two to four different RSA keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ImageKey>", into = "Vec<ImageKey>")]
pub struct RootKeys(Vec<ImageKey>);

/// Not two to four different roots, or one that is no RSA key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRoots;

impl fmt::Display for BadRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an ECU has {THRESHOLD} to {MAX_ROOTS} different RSA keys as roots"
        )
    }
}

impl core::error::Error for BadRoots {}

impl TryFrom<Vec<ImageKey>> for RootKeys {
    type Error = BadRoots;

    fn try_from(keys: Vec<ImageKey>) -> Result<Self, BadRoots> {
        let rsa = |key: &ImageKey| key.algorithm == Algorithm::RsaPssSha256;
        let mut ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        ids.sort();
        ids.dedup();
        let distinct = ids.len() == keys.len() && keys.iter().all(rsa);
        if !distinct || !(THRESHOLD..=MAX_ROOTS).contains(&keys.len()) {
            return Err(BadRoots);
        }
        Ok(Self(keys))
    }
}

impl From<RootKeys> for Vec<ImageKey> {
    fn from(roots: RootKeys) -> Self {
        roots.0
    }
}

impl RootKeys {
    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[ImageKey] {
        &self.0
    }
}

impl Pinned for RootKeys {
    fn modulus(&self, root: KeyId) -> Option<&[u8]> {
        let key = self.0.iter().find(|key| key.id == root)?;
        Some(&key.bytes)
    }
}

/// The bytes of a well-formed key set, as hexadecimal digits. Who signed it is not checked here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HexText", into = "HexText")]
pub struct KeySetBytes(Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct HexText(#[serde(with = "hex::serde")] Vec<u8>);

impl TryFrom<Vec<u8>> for KeySetBytes {
    type Error = ParseError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, ParseError> {
        KeySet::parse(&bytes)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<HexText> for KeySetBytes {
    type Error = ParseError;

    fn try_from(text: HexText) -> Result<Self, ParseError> {
        text.0.try_into()
    }
}

impl From<KeySetBytes> for HexText {
    fn from(set: KeySetBytes) -> Self {
        Self(set.0)
    }
}

impl KeySetBytes {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What they say.
    ///
    /// # Errors
    /// None: they were parsed before.
    pub fn parsed(&self) -> Result<KeySet<'_>, ParseError> {
        KeySet::parse(&self.0)
    }
}

/// A public key: of images, or a root. Its id and size have been checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ImageKeyText", into = "ImageKeyText")]
pub struct ImageKey {
    algorithm: Algorithm,
    bytes: Vec<u8>,
    id: KeyId,
}

impl ImageKey {
    /// A key, as key sets hold it.
    ///
    /// # Errors
    /// No modulus of 256, 384 or 512 bytes, or no point of the curve.
    pub fn new(key: PublicKeyRef<'_>) -> Result<Self, ImageKeyError> {
        match key.algorithm {
            Algorithm::RsaPssSha256 => {
                PublicKey::from_modulus(key.bytes).map_err(ImageKeyError::Key)?;
            }
            Algorithm::EcdsaP256Sha256 => ecdsa::Verifier::idle()
                .begin(key.bytes, &[0; 32], &[])
                .map_err(|_| ImageKeyError::Point)?,
        }
        Ok(Self {
            algorithm: key.algorithm,
            bytes: key.bytes.to_vec(),
            id: key_id(key.bytes),
        })
    }

    /// The key of a big-endian RSA modulus; its exponent is 65537.
    ///
    /// # Errors
    /// As [`ImageKey::new`].
    pub fn rsa(modulus: &[u8]) -> Result<Self, ImageKeyError> {
        Self::new(PublicKeyRef {
            algorithm: Algorithm::RsaPssSha256,
            bytes: modulus,
        })
    }

    /// Its identity.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key, as the in-house verification takes it.
    #[must_use]
    pub fn as_ref(&self) -> PublicKeyRef<'_> {
        PublicKeyRef {
            algorithm: self.algorithm,
            bytes: &self.bytes,
        }
    }

    /// The length of its signatures; `None` is unreachable.
    #[must_use]
    pub const fn signature_len(&self) -> Option<SignatureLen> {
        SignatureLen::new(self.algorithm, self.bytes.len())
    }
}

/// Either a modulus and its exponent, or a point.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageKeyText {
    key_id: KeyId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modulus: Option<HexText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exponent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    point: Option<HexText>,
}

/// Why a key in a provisioning file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKeyError {
    /// The modulus is no modulus of an accepted size.
    Key(pss::KeyError),
    /// The exponent is not 65537.
    Exponent(u32),
    /// The point is none of P-256.
    Point,
    /// Neither modulus and exponent alone, nor a point alone.
    Form,
    /// The identity is not that of the key, which is given.
    Id(KeyId),
}

impl fmt::Display for ImageKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => error.fmt(f),
            Self::Exponent(exponent) => write!(f, "exponent is {exponent}, not 65537"),
            Self::Point => f.write_str("point is not one of P-256, as x and y"),
            Self::Form => f.write_str("a key has modulus and exponent, or a point"),
            Self::Id(id) => write!(f, "key_id is not that of the key, {id}"),
        }
    }
}

impl core::error::Error for ImageKeyError {}

impl TryFrom<ImageKeyText> for ImageKey {
    type Error = ImageKeyError;

    fn try_from(text: ImageKeyText) -> Result<Self, ImageKeyError> {
        let (algorithm, bytes) = match (text.modulus, text.exponent, text.point) {
            (Some(modulus), Some(PUBLIC_EXPONENT), None) => (Algorithm::RsaPssSha256, modulus),
            (Some(_), Some(exponent), None) => return Err(ImageKeyError::Exponent(exponent)),
            (None, None, Some(point)) => (Algorithm::EcdsaP256Sha256, point),
            _ => return Err(ImageKeyError::Form),
        };
        let bytes = &bytes.0;
        let key = Self::new(PublicKeyRef { algorithm, bytes })?;
        match text.key_id == key.id {
            true => Ok(key),
            false => Err(ImageKeyError::Id(key.id)),
        }
    }
}

impl From<ImageKey> for ImageKeyText {
    fn from(key: ImageKey) -> Self {
        let (key_id, bytes) = (key.id, Some(HexText(key.bytes)));
        let (modulus, exponent, point) = match key.algorithm {
            Algorithm::RsaPssSha256 => (bytes, Some(PUBLIC_EXPONENT), None),
            Algorithm::EcdsaP256Sha256 => (None, None, bytes),
        };
        Self {
            key_id,
            modulus,
            exponent,
            point,
        }
    }
}

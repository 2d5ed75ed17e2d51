//! Making key sets: the OEM's side.

use alloc::vec::Vec;
use core::fmt;

use super::{
    FORMAT_VERSION, HEADER_LEN, KEY_SET_MAX, KeySet, KeyStatus, MAGIC, MAX_KEYS, MAX_ROOTS,
    THRESHOLD,
};
use crate::error::ParseError;
use crate::header::{Algorithm, SignatureLen};
use crate::id::{HardwareId, KeyId, KeySetVersion};
use crate::pss::key_id;
use crate::signature::{Pinned, PublicKeyRef};

/// What a key set says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetContent {
    /// The hardware type that it is for; `None` for every ECU with these roots.
    pub hardware_id: Option<HardwareId>,
    /// Above that of every set before.
    pub version: KeySetVersion,
    /// The keys, in any order.
    pub keys: Vec<NewKey>,
}

/// One image key of a set to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What it verifies.
    pub algorithm: Algorithm,
    /// Whether it still signs.
    pub status: KeyStatus,
    /// The big-endian modulus, or `x ‖ y` of a point.
    pub bytes: Vec<u8>,
}

/// Why a key set cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildError {
    /// Not 1 to 4 keys.
    Keys(usize),
    /// A key is there twice.
    Twice(KeyId),
    /// A signature by this root is there already.
    Signed(KeyId),
    /// There are four signatures already.
    Full,
    /// The signature has a length that no root's has, in bytes.
    SignatureLength(usize),
    /// What was made, or was to be signed, is no key set.
    Malformed(ParseError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(count) => write!(f, "{count} keys; a key set has 1 to {MAX_KEYS}"),
            Self::Twice(id) => write!(f, "key {id} is there twice"),
            Self::Signed(id) => write!(f, "root {id} has signed already"),
            Self::Full => write!(f, "there are {MAX_ROOTS} signatures already"),
            Self::SignatureLength(len) => write!(f, "no root has signatures of {len} bytes"),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for BuildError {}

impl KeySetContent {
    /// The key set without signatures.
    ///
    /// # Errors
    /// The keys are none, too many or the same twice, or a key is none.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let mut keys: Vec<_> = self
            .keys
            .iter()
            .map(|key| (key_id(&key.bytes), key))
            .collect();
        keys.sort_by_key(|(id, _)| *id);
        if let Some([(id, _), _]) = keys.array_windows().find(|[a, b]| a.0 == b.0) {
            return Err(BuildError::Twice(*id));
        }
        let count = u16::try_from(keys.len()).unwrap_or(u16::MAX);
        if !(1..=MAX_KEYS).contains(&keys.len()) {
            return Err(BuildError::Keys(keys.len()));
        }
        let mut entries = Vec::new();
        for (id, key) in keys {
            let len = u16::try_from(key.bytes.len()).unwrap_or(u16::MAX);
            entries.extend_from_slice(id.as_bytes());
            entries.extend_from_slice(&key.algorithm.code().to_le_bytes());
            entries.extend_from_slice(&[key.status as u8, 0]);
            entries.extend_from_slice(&len.to_le_bytes());
            entries.extend_from_slice(&[0; 2]);
            entries.extend_from_slice(&key.bytes);
        }
        let signed_len = HEADER_LEN.saturating_add(entries.len());
        let signed_len = u16::try_from(signed_len).unwrap_or(u16::MAX);
        let scope = self.hardware_id.map_or([0; 32], |id| *id.as_field());
        let mut set = Vec::with_capacity(KEY_SET_MAX);
        set.extend_from_slice(&MAGIC);
        set.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        set.extend_from_slice(&signed_len.to_le_bytes());
        set.extend_from_slice(&scope);
        set.extend_from_slice(&self.version.get().to_le_bytes());
        set.extend_from_slice(&count.to_le_bytes());
        set.extend_from_slice(&[0; 2]);
        set.extend_from_slice(&entries);
        set.extend_from_slice(&[0; 4]);
        KeySet::parse(&set).map_err(BuildError::Malformed)?;
        Ok(set)
    }
}

/// Why a key set is not authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAuthentic {
    /// The signature that names this root is wrong.
    Wrong(KeyId),
    /// So many of the roots have signed, which is fewer than two.
    Signatures(usize),
}

impl fmt::Display for NotAuthentic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(root) => write!(f, "the signature of root {root} is wrong"),
            Self::Signatures(count) => {
                write!(f, "{count} of the roots signed, {THRESHOLD} must")
            }
        }
    }
}

impl core::error::Error for NotAuthentic {}

impl KeySet<'_> {
    /// Decides as an ECU does: every signature of one of `roots` is right, and at least two are
    /// there.
    ///
    /// # Errors
    /// The first signature that is wrong, or too few.
    pub fn authenticate(&self, roots: &impl Pinned) -> Result<(), NotAuthentic> {
        let digest = self.digest();
        let mut right = 0usize;
        for entry in self.signatures() {
            let Some(bytes) = roots.modulus(entry.root) else {
                continue;
            };
            let algorithm = Algorithm::RsaPssSha256;
            let root = PublicKeyRef { algorithm, bytes };
            if !root.verifies(digest.as_bytes(), entry.signature) {
                return Err(NotAuthentic::Wrong(entry.root));
            }
            right = right.saturating_add(1);
        }
        if right < THRESHOLD {
            return Err(NotAuthentic::Signatures(right));
        }
        Ok(())
    }
}

/// The key set `set` with one more signature, made by `root` over its
/// [`signed_bytes`](KeySet::signed_bytes).
///
/// # Errors
/// `set` is none, has this root's signature already or four others, or the signature is none.
pub fn add_signature(set: &[u8], root: KeyId, signature: &[u8]) -> Result<Vec<u8>, BuildError> {
    let parsed = KeySet::parse(set).map_err(BuildError::Malformed)?;
    if SignatureLen::new(Algorithm::RsaPssSha256, signature.len()).is_none() {
        return Err(BuildError::SignatureLength(signature.len()));
    }
    let mut signatures: Vec<_> = parsed
        .signatures()
        .map(|entry| (entry.root, entry.signature))
        .collect();
    if signatures.iter().any(|(id, _)| *id == root) {
        return Err(BuildError::Signed(root));
    }
    if signatures.len() >= MAX_ROOTS {
        return Err(BuildError::Full);
    }
    signatures.push((root, signature));
    signatures.sort_by_key(|(id, _)| *id);
    let mut signed = parsed.signed_bytes().to_vec();
    let count = u16::try_from(signatures.len()).unwrap_or(u16::MAX);
    signed.extend_from_slice(&count.to_le_bytes());
    signed.extend_from_slice(&[0; 2]);
    for (id, signature) in signatures {
        let len = u16::try_from(signature.len()).unwrap_or(u16::MAX);
        signed.extend_from_slice(id.as_bytes());
        signed.extend_from_slice(&len.to_le_bytes());
        signed.extend_from_slice(&[0; 2]);
        signed.extend_from_slice(signature);
    }
    KeySet::parse(&signed).map_err(BuildError::Malformed)?;
    Ok(signed)
}

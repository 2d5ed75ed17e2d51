//! The envelope `{"signed": .., "signatures": [..]}`, its signatures and thresholds.

use super::{Header, Key, KeyId, KeyPolicy, Role, root::RoleKeys};
use crate::json::{self, Form};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use core::fmt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Signatures that a document may carry: bounds the work of checking them.
const SIGNATURES_MAX: usize = 64;

/// Bytes that are not a document of the expected role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// Longer than allowed; nothing was parsed.
    TooLong {
        /// Length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Not JSON, or not the fields of the role; the text says what and where.
    Json(String),
    /// A rule of the role's statement does not hold.
    Rule(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => write!(f, "{len} bytes, at most {max}"),
            Self::Json(error) => f.write_str(error),
            Self::Rule(rule) => f.write_str(rule),
        }
    }
}

impl core::error::Error for Malformed {}

/// Too few valid signatures by distinct keys of the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureShortfall {
    /// Valid signatures by distinct keys.
    pub valid: usize,
    /// How many are needed.
    pub threshold: u32,
}

impl fmt::Display for SignatureShortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} valid signatures, {} needed",
            self.valid, self.threshold
        )
    }
}

impl core::error::Error for SignatureShortfall {}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureEntry {
    /// The key that made it.
    pub keyid: KeyId,
    /// The signature: hexadecimal is what we write, base64 is read too.
    pub sig: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A document in the making or on its way: any statement and the signatures over it.
///
/// The backend signs with [`Envelope::signing_bytes`] and [`Envelope::add_signature`]. Nothing here
/// checks a signature; that is [`Document`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The signatures.
    pub signatures: Vec<SignatureEntry>,
    /// The statement.
    pub signed: Value,
}

impl Envelope {
    /// An envelope of `statement` without signatures.
    ///
    /// # Errors
    ///
    /// [`Malformed::Json`] where the statement has no JSON form.
    pub fn new(statement: &impl Serialize) -> Result<Self, Malformed> {
        Ok(Self {
            signatures: Vec::new(),
            signed: serde_json::to_value(statement).map_err(|error| json_error(&error))?,
        })
    }

    /// What a signature is made over: the canonical form of the statement.
    ///
    /// # Errors
    ///
    /// [`Malformed::Json`] for a statement with numbers that are not integers.
    pub fn signing_bytes(&self) -> Result<Vec<u8>, Malformed> {
        self.signed_as(Form::Olpc)
    }

    fn signed_as(&self, form: Form) -> Result<Vec<u8>, Malformed> {
        json::canonical_as(&self.signed, form).map_err(|error| Malformed::Json(error.to_string()))
    }

    /// Adds a signature, replacing an earlier one by the same key.
    pub fn add_signature(&mut self, keyid: KeyId, signature: &[u8]) {
        self.signatures.retain(|entry| entry.keyid != keyid);
        self.signatures.push(SignatureEntry {
            keyid,
            sig: hex::encode(signature),
            extra: BTreeMap::new(),
        });
    }

    /// Whether enough distinct keys of `role` have signed a statement that is no metadata document.
    /// One without canonical form nobody has signed.
    ///
    /// # Errors
    ///
    /// [`SignatureShortfall`].
    pub fn verify(
        &self,
        keys: &BTreeMap<KeyId, Key>,
        role: &RoleKeys,
        policy: KeyPolicy,
    ) -> Result<(), SignatureShortfall> {
        let canonical = self.signing_bytes();
        let entries = self.signatures.iter().take(SIGNATURES_MAX);
        let signatures: Vec<_> = entries
            .map(|entry| {
                (
                    entry.keyid.clone(),
                    hex::decode(&entry.sig).unwrap_or_default(),
                )
            })
            .collect();
        let messages: Vec<_> = canonical.into_iter().collect();
        enough_signers(&signatures, &messages, keys, role, policy)
    }

    /// The envelope as a file: indented JSON with a line feed at its end.
    ///
    /// # Errors
    ///
    /// [`Malformed::Json`]; not for any envelope that was parsed.
    pub fn to_json(&self) -> Result<Vec<u8>, Malformed> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| json_error(&error))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

fn json_error(error: &serde_json::Error) -> Malformed {
    Malformed::Json(format!("{error}"))
}

/// A parsed document of role `R` whose signatures have not been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<R> {
    statement: R,
    canonical: Vec<u8>,
    /// The other canonical form, where it is not the same.
    subset: Option<Vec<u8>>,
    signatures: Vec<(KeyId, Vec<u8>)>,
}

impl<R: Role> Document<R> {
    /// Parses at most `max` bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: too long, not JSON, fields missing or outside their types, another role,
    /// or two signatures by one key.
    pub fn parse(bytes: &[u8], max: usize) -> Result<Self, Malformed> {
        if bytes.len() > max {
            let len = bytes.len();
            return Err(Malformed::TooLong { len, max });
        }
        let envelope: Envelope =
            serde_json::from_slice(bytes).map_err(|error| json_error(&error))?;
        Self::from_envelope(envelope)
    }

    /// The same from an envelope.
    ///
    /// # Errors
    ///
    /// As [`Document::parse`], without a limit.
    pub fn from_envelope(envelope: Envelope) -> Result<Self, Malformed> {
        let canonical = envelope.signing_bytes()?;
        let subset = envelope.signed_as(Form::Subset)?;
        let subset = (subset != canonical).then_some(subset);
        if envelope.signatures.len() > SIGNATURES_MAX {
            return Err(Malformed::Rule("more than 64 signatures"));
        }
        let mut seen = BTreeSet::new();
        let mut signatures = Vec::new();
        for entry in envelope.signatures {
            if !seen.insert(entry.keyid.clone()) {
                return Err(Malformed::Rule("two signatures by one key"));
            }
            signatures.push((entry.keyid, signature(&entry.sig)));
        }
        let statement: R =
            serde_json::from_value(envelope.signed).map_err(|error| json_error(&error))?;
        if let Some(fault) = statement.header().fault(R::NAME) {
            return Err(Malformed::Rule(fault));
        }
        Ok(Self {
            statement,
            canonical,
            subset,
            signatures,
        })
    }

    /// The statement, once enough distinct keys of `role` have signed it.
    ///
    /// # Errors
    ///
    /// [`SignatureShortfall`].
    pub fn verify(
        &self,
        keys: &BTreeMap<KeyId, Key>,
        role: &RoleKeys,
        policy: KeyPolicy,
    ) -> Result<&R, SignatureShortfall> {
        let messages: Vec<_> = core::iter::once(&self.canonical)
            .chain(&self.subset)
            .cloned()
            .collect();
        enough_signers(&self.signatures, &messages, keys, role, policy).map(|()| &self.statement)
    }

    /// The statement without any check of signatures: for a root, which names the keys that it is
    /// itself checked with, and for tools that only display.
    #[must_use]
    pub const fn unverified(&self) -> &R {
        &self.statement
    }

    /// The header without any check of signatures.
    #[must_use]
    pub fn unverified_header(&self) -> &Header {
        self.statement.header()
    }
}

/// An unreadable signature is one that does not verify.
fn signature(text: &str) -> Vec<u8> {
    hex::decode(text)
        .ok()
        .or_else(|| STANDARD.decode(text).ok())
        .unwrap_or_default()
}

/// Whether enough distinct keys of `role` have signed one of `messages`, which say the same.
fn enough_signers(
    signatures: &[(KeyId, Vec<u8>)],
    messages: &[Vec<u8>],
    keys: &BTreeMap<KeyId, Key>,
    role: &RoleKeys,
    policy: KeyPolicy,
) -> Result<(), SignatureShortfall> {
    // One key under two names counts once.
    let mut signers = BTreeSet::new();
    for (keyid, signature) in signatures {
        let key = role.contains(keyid).then(|| keys.get(keyid)).flatten();
        let Some(key) = key else { continue };
        let Ok(verifying) = key.verifying(policy) else {
            continue;
        };
        let mut messages = messages.iter();
        if messages.any(|message| verifying.verifies(message, signature)) {
            signers.insert(verifying.identity());
        }
    }
    let (valid, threshold) = (signers.len(), role.threshold());
    match u32::try_from(valid).is_ok_and(|valid| valid >= threshold) {
        true => Ok(()),
        false => Err(SignatureShortfall { valid, threshold }),
    }
}

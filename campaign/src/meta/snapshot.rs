//! The timestamp and snapshot roles: which version of each document is the current one.

use super::{Header, Role, RoleName};
use crate::{ids::Digest, time::UnixTime};
use alloc::{collections::BTreeMap, format, string::String};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is said about another document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFile {
    /// Its version, from 1.
    pub version: u64,
    /// Its length in bytes, where it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its digests, where they are said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<FileHashes>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl MetaFile {
    /// A document of that version, of any length and content that its signatures allow.
    #[must_use]
    pub const fn new(version: u64) -> Self {
        Self {
            version,
            length: None,
            hashes: None,
            extra: BTreeMap::new(),
        }
    }

    /// The document `bytes` of that version and no other.
    #[must_use]
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self {
            length: u64::try_from(bytes.len()).ok(),
            hashes: Some(FileHashes::of(bytes)),
            ..Self::new(version)
        }
    }

    /// Whether length and digests, as far as they are said, are those of `bytes`.
    #[must_use]
    pub fn describes(&self, bytes: &[u8]) -> bool {
        let length = u64::try_from(bytes.len()).ok();
        self.length.is_none_or(|said| Some(said) == length)
            && self
                .hashes
                .as_ref()
                .is_none_or(|hashes| hashes.describe(bytes))
    }
}

/// Digests of a file by algorithm. One that is known must be there, and all known ones must be right.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileHashes {
    /// SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// SHA-512 in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<String>,
    /// Other algorithms: not computed.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl FileHashes {
    /// The SHA-256 digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::sha256(crate::ids::sha256(bytes))
    }

    /// This SHA-256 digest.
    #[must_use]
    pub const fn sha256(digest: Digest) -> Self {
        Self {
            sha256: Some(digest),
            sha512: None,
            extra: BTreeMap::new(),
        }
    }

    /// Whether these are digests of `bytes`.
    #[must_use]
    pub fn describe(&self, bytes: &[u8]) -> bool {
        use sha2::Digest as _;
        let sha512 = |said: &String| {
            hex::decode(said).is_ok_and(|said| said == sha2::Sha512::digest(bytes).as_slice())
        };
        (self.sha256.is_some() || self.sha512.is_some())
            && self
                .sha256
                .is_none_or(|said| said == crate::ids::sha256(bytes))
            && self.sha512.as_ref().is_none_or(sha512)
    }
}

/// The statement of a timestamp document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Role, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// The snapshot alone.
    pub meta: TimestampMeta,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// What a timestamp names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimestampMeta {
    /// The current snapshot.
    #[serde(rename = "snapshot.json")]
    pub snapshot: MetaFile,
    /// Others: not read.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Timestamp {
    /// A statement that names this snapshot.
    #[must_use]
    pub const fn new(header: Header, snapshot: MetaFile) -> Self {
        Self {
            header,
            meta: TimestampMeta {
                snapshot,
                extra: BTreeMap::new(),
            },
            extra: BTreeMap::new(),
        }
    }
}

/// The field in which we write when a timestamp was issued.
const ISSUED: &str = "issued";

impl Timestamp {
    /// The same, issued at `time`.
    #[must_use]
    pub fn issued_at(mut self, time: UnixTime) -> Self {
        self.extra
            .insert(ISSUED.into(), Value::from(format!("{time}")));
        self
    }

    /// When it was issued, where it says so.
    #[must_use]
    pub fn issued(&self) -> Option<UnixTime> {
        self.extra.get(ISSUED)?.as_str()?.parse().ok()
    }
}

impl Role for Timestamp {
    const NAME: RoleName = RoleName::Timestamp;

    fn header(&self) -> &Header {
        &self.header
    }
}

/// The statement of a snapshot document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Role, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// Every targets document by file name: `targets.json`, and `ROLE.json` of each delegated role.
    pub meta: BTreeMap<String, MetaFile>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Snapshot {
    /// A statement that names the top-level targets.
    #[must_use]
    pub fn new(header: Header, targets: MetaFile) -> Self {
        Self {
            header,
            meta: BTreeMap::from([(String::from("targets.json"), targets)]),
            extra: BTreeMap::new(),
        }
    }

    /// What is said about the document of the targets role `name`.
    #[must_use]
    pub fn of_role(&self, name: &str) -> Option<&MetaFile> {
        self.meta.get(&alloc::format!("{name}.json"))
    }
}

impl Role for Snapshot {
    const NAME: RoleName = RoleName::Snapshot;

    fn header(&self) -> &Header {
        &self.header
    }
}

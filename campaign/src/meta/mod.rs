//! Metadata documents in the JSON form of TUF and Uptane (IEEE-ISTO 6100.1, Uptane Standard 2.1,
//! clause 5.2): an envelope of signatures, and in it the statement of one role.
//!
//! A document is read in steps that cannot be left out: bytes within their limit become a
//! [`Document`] whose content is only reachable through [`Document::verify`]. Fields that this
//! version does not know are kept, since signatures cover them.

mod delegations;
mod envelope;
mod key;
mod root;
mod snapshot;
mod targets;

pub use delegations::{DelegatedRole, Delegations};
pub use envelope::{Document, Envelope, Malformed, SignatureEntry, SignatureShortfall};
pub use key::{
    ECDSA_P256_SHA256, ED25519, Key, KeyError, KeyId, KeyPolicy, KeyVal, RSA_PSS_SHA256,
};
pub use root::{RoleKeys, Roles, Root};
pub use snapshot::{FileHashes, MetaFile, Snapshot, Timestamp, TimestampMeta};
pub(crate) use targets::custom;
pub use targets::{
    DirectorCustom, DirectorStatement, EcuAssignment, ImageCustom, ImageStatement, Target, Targets,
};

use crate::time::UnixTime;
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of the metadata format that we write, and whose major number we require.
pub const SPEC_VERSION: &str = "1.0.33";

/// A metadata role (Uptane Standard 2.1, clause 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Names the keys of every role, its own included.
    #[serde(alias = "Root")]
    Root,
    /// Names the current snapshot.
    #[serde(alias = "Timestamp")]
    Timestamp,
    /// Names the current version of every targets document.
    #[serde(alias = "Snapshot")]
    Snapshot,
    /// Names images.
    #[serde(alias = "Targets")]
    Targets,
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        })
    }
}

/// The statement of a role: what its signatures are made over.
pub trait Role: Serialize + DeserializeOwned {
    /// The role, which `_type` must name.
    const NAME: RoleName;

    /// The fields that all roles have.
    fn header(&self) -> &Header;
}

/// The fields that every role's statement begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The role.
    #[serde(rename = "_type")]
    pub role: RoleName,
    /// Version of the metadata format; ours where it is not said, since Uptane does not ask for it.
    #[serde(default = "our_version")]
    pub spec_version: String,
    /// Version of the document: rises with every release.
    pub version: u64,
    /// When it ceases to be believed.
    pub expires: UnixTime,
}

fn our_version() -> String {
    String::from(SPEC_VERSION)
}

impl Header {
    /// The header of a new document.
    #[must_use]
    pub fn new(role: RoleName, version: u64, expires: UnixTime) -> Self {
        Self {
            role,
            spec_version: our_version(),
            version,
            expires,
        }
    }

    /// `None` when the header belongs to a document of `role` that this version understands, else
    /// what is wrong.
    fn fault(&self, role: RoleName) -> Option<&'static str> {
        let major = |text: &str| text.split('.').next().map(String::from);
        if self.role != role {
            Some("_type names another role")
        } else if major(&self.spec_version) != major(SPEC_VERSION) {
            Some("spec_version is not 1.x")
        } else if self.version == 0 {
            Some("version is 0")
        } else {
            None
        }
    }
}

//! The root role: which keys speak for which role, and how many of them are needed.

use super::{Header, Key, KeyId, Role, RoleName};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use core::num::NonZeroU32;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

/// The statement of a root document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Role, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// Whether files are fetched by names that carry their version or digest.
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// All keys.
    pub keys: BTreeMap<KeyId, Key>,
    /// The keys of each role.
    pub roles: Roles,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The keys of each role. Timestamp and snapshot are optional: a repository may do without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Of this document and its successor.
    pub root: RoleKeys,
    /// Of the top-level targets document.
    pub targets: RoleKeys,
    /// Of the timestamp document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<RoleKeys>,
    /// Of the snapshot document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<RoleKeys>,
    /// Roles that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Root {
    /// A root document's statement with the keys of its two roles.
    #[must_use]
    pub fn new(
        header: Header,
        keys: BTreeMap<KeyId, Key>,
        root: RoleKeys,
        targets: RoleKeys,
    ) -> Self {
        Self {
            header,
            consistent_snapshot: false,
            keys,
            roles: Roles {
                root,
                targets,
                timestamp: None,
                snapshot: None,
                extra: BTreeMap::new(),
            },
            extra: BTreeMap::new(),
        }
    }

    /// The keys of `role`, where the document names some.
    #[must_use]
    pub const fn role(&self, role: RoleName) -> Option<&RoleKeys> {
        match role {
            RoleName::Root => Some(&self.roles.root),
            RoleName::Targets => Some(&self.roles.targets),
            RoleName::Timestamp => self.roles.timestamp.as_ref(),
            RoleName::Snapshot => self.roles.snapshot.as_ref(),
        }
    }
}

impl Role for Root {
    const NAME: RoleName = RoleName::Root;

    fn header(&self) -> &Header {
        &self.header
    }
}

/// The keys of a role, each named once, and how many must sign: between one and all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleKeys {
    keyids: Vec<KeyId>,
    threshold: NonZeroU32,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

impl RoleKeys {
    /// `threshold` of `keyids`; `None` where a key is named twice or the threshold is not between
    /// one and their number.
    #[must_use]
    pub fn new(keyids: Vec<KeyId>, threshold: u32) -> Option<Self> {
        let distinct: BTreeSet<_> = keyids.iter().collect();
        let count = u32::try_from(keyids.len()).ok()?;
        if distinct.len() != keyids.len() || threshold > count {
            return None;
        }
        Some(Self {
            threshold: NonZeroU32::new(threshold)?,
            keyids,
            extra: BTreeMap::new(),
        })
    }

    /// How many distinct keys must sign.
    #[must_use]
    pub const fn threshold(&self) -> u32 {
        self.threshold.get()
    }

    /// The keys' names.
    #[must_use]
    pub fn keyids(&self) -> &[KeyId] {
        &self.keyids
    }

    /// Whether the key belongs to the role.
    #[must_use]
    pub fn contains(&self, keyid: &KeyId) -> bool {
        self.keyids.contains(keyid)
    }
}

impl<'de> Deserialize<'de> for RoleKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            keyids: Vec<KeyId>,
            threshold: u32,
            #[serde(flatten)]
            extra: BTreeMap<String, Value>,
        }
        let raw = Raw::deserialize(deserializer)?;
        let keys = Self::new(raw.keyids, raw.threshold).ok_or_else(|| {
            de::Error::custom("a role names each key once and needs between one and all of them")
        })?;
        Ok(Self {
            extra: raw.extra,
            ..keys
        })
    }
}

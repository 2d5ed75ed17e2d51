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

/// The keys of each role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Of this document and its successor.
    pub root: RoleKeys,
    /// Of the top-level targets document.
    pub targets: RoleKeys,
    /// Of the timestamp document. A director for partial verification alone may have none.
    #[serde(
        default = "RoleKeys::nobody",
        skip_serializing_if = "RoleKeys::is_nobody"
    )]
    pub timestamp: RoleKeys,
    /// Of the snapshot document, likewise.
    #[serde(
        default = "RoleKeys::nobody",
        skip_serializing_if = "RoleKeys::is_nobody"
    )]
    pub snapshot: RoleKeys,
    /// Roles that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Root {
    /// A root document's statement with consistent snapshots.
    #[must_use]
    pub const fn new(header: Header, keys: BTreeMap<KeyId, Key>, roles: Roles) -> Self {
        Self {
            header,
            consistent_snapshot: true,
            keys,
            roles,
            extra: BTreeMap::new(),
        }
    }

    /// The keys of `role`, to be changed.
    pub const fn role_mut(&mut self, role: RoleName) -> &mut RoleKeys {
        match role {
            RoleName::Root => &mut self.roles.root,
            RoleName::Targets => &mut self.roles.targets,
            RoleName::Timestamp => &mut self.roles.timestamp,
            RoleName::Snapshot => &mut self.roles.snapshot,
        }
    }

    /// The keys of `role`.
    #[must_use]
    pub const fn role(&self, role: RoleName) -> &RoleKeys {
        match role {
            RoleName::Root => &self.roles.root,
            RoleName::Targets => &self.roles.targets,
            RoleName::Timestamp => &self.roles.timestamp,
            RoleName::Snapshot => &self.roles.snapshot,
        }
    }
}

/// The role of the director's root whose keys attest the time.
const TIME: &str = "time";

impl Root {
    /// The keys that attest the time; `None` where the root names none.
    #[must_use]
    pub fn time_keys(&self) -> Option<RoleKeys> {
        let role = self.roles.extra.get(TIME)?;
        RoleKeys::deserialize(role).ok()
    }

    /// Names the keys that attest the time.
    pub fn set_time_keys(&mut self, keys: &RoleKeys) {
        if let Ok(value) = serde_json::to_value(keys) {
            self.roles.extra.insert(String::from(TIME), value);
        }
    }
}

impl Role for Root {
    const NAME: RoleName = RoleName::Root;

    fn header(&self) -> &Header {
        &self.header
    }
}

/// The keys of a role, each named once, and how many must sign. A threshold above their number can
/// never be met; a repository may want that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleKeys {
    keyids: Vec<KeyId>,
    threshold: NonZeroU32,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

impl RoleKeys {
    /// `threshold` of `keyids`; `None` where a key is named twice or the threshold is 0.
    #[must_use]
    pub fn new(keyids: Vec<KeyId>, threshold: u32) -> Option<Self> {
        let distinct: BTreeSet<_> = keyids.iter().collect();
        if distinct.len() != keyids.len() {
            return None;
        }
        Some(Self {
            threshold: NonZeroU32::new(threshold)?,
            keyids,
            extra: BTreeMap::new(),
        })
    }

    /// Nobody can sign: one is needed of none.
    const fn nobody() -> Self {
        Self {
            keyids: Vec::new(),
            threshold: NonZeroU32::MIN,
            extra: BTreeMap::new(),
        }
    }

    fn is_nobody(&self) -> bool {
        *self == Self::nobody()
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
            de::Error::custom("a role names each key once and needs at least one")
        })?;
        Ok(Self {
            extra: raw.extra,
            ..keys
        })
    }
}

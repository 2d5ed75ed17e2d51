//! What a client keeps from one refresh to the next.

use crate::meta::{Root, Snapshot, Targets, Timestamp};
use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

/// Documents as they were stored, by role: `root`, `timestamp`, `snapshot`, `targets` and the names
/// of delegated roles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored(BTreeMap<String, Vec<u8>>);

impl Stored {
    /// Only a root: where a client begins.
    #[must_use]
    pub fn root(bytes: &[u8]) -> Self {
        let mut stored = Self::default();
        stored.insert("root", bytes);
        stored
    }

    /// Adds the document of a role.
    pub fn insert(&mut self, role: &str, bytes: &[u8]) {
        self.0.insert(role.to_string(), bytes.to_vec());
    }

    /// The document of a role.
    #[must_use]
    pub fn get(&self, role: &str) -> Option<&[u8]> {
        self.0.get(role).map(Vec::as_slice)
    }

    /// All documents.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(role, bytes)| (role.as_str(), bytes.as_slice()))
    }
}

/// A document that is believed: its bytes, for storing, and its statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held<R> {
    pub(super) bytes: Vec<u8>,
    pub(super) statement: R,
}

/// The documents that are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    pub(super) root: Held<Root>,
    pub(super) timestamp: Option<Held<Timestamp>>,
    pub(super) snapshot: Option<Held<Snapshot>>,
    /// Targets roles by name.
    pub(super) roles: BTreeMap<String, Held<Targets>>,
}

impl Believed {
    pub(super) const fn new(root: Held<Root>) -> Self {
        Self {
            root,
            timestamp: None,
            snapshot: None,
            roles: BTreeMap::new(),
        }
    }

    /// The root.
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root.statement
    }

    /// The timestamp.
    #[must_use]
    pub fn timestamp(&self) -> Option<&Timestamp> {
        self.timestamp.as_ref().map(|held| &held.statement)
    }

    /// The snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref().map(|held| &held.statement)
    }

    /// The document of a targets role.
    #[must_use]
    pub fn targets(&self, role: &str) -> Option<&Targets> {
        self.roles.get(role).map(|held| &held.statement)
    }

    /// The bytes of a role's document.
    #[must_use]
    pub fn bytes(&self, role: &str) -> Option<&[u8]> {
        match role {
            "root" => Some(&self.root.bytes),
            "timestamp" => self.timestamp.as_ref().map(|held| held.bytes.as_slice()),
            "snapshot" => self.snapshot.as_ref().map(|held| held.bytes.as_slice()),
            role => self.roles.get(role).map(|held| held.bytes.as_slice()),
        }
    }

    /// Everything, for the next refresh.
    #[must_use]
    pub fn to_stored(&self) -> Stored {
        let mut stored = Stored::root(&self.root.bytes);
        let others = ["timestamp", "snapshot"];
        for role in others
            .into_iter()
            .chain(self.roles.keys().map(String::as_str))
        {
            if let Some(bytes) = self.bytes(role) {
                stored.insert(role, bytes);
            }
        }
        stored
    }
}

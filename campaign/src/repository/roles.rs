//! The checks of each role.

use super::{
    Client, Document, DocumentFault, Held, Refusal, Role, RoleKeys, RoleName, Root, Snapshot, Step,
    TOP_TARGETS, Targets, Timestamp, check, delegated, parse,
};
use crate::{
    meta::{Header, Key, KeyId, Malformed, MetaFile},
    time::UnixTime,
};
use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
};

impl Client {
    /// The next root: one version higher, signed by the keys of its predecessor and by its own.
    pub(super) fn next_root(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let of = |version, fault| Refusal::of(RoleName::Root, None, version, fault);
        if self.roots >= self.limits.roots {
            return Err(of(None, DocumentFault::ChainTooLong));
        }
        let document = parse::<Root>(bytes, self.limits.root, None)?;
        let next = document.unverified();
        let before = &self.believed.root.statement;
        let expected = before.header.version.saturating_add(1);
        let version = Some(next.header.version);
        if next.header.version != expected {
            return Err(of(version, DocumentFault::Version { expected }));
        }
        document
            .verify(&before.keys, &before.roles.root, self.policy)
            .map_err(|short| of(version, DocumentFault::PredecessorSignatures(short)))?;
        check(&document, next, &next.roles.root, self.policy, None)?;
        self.roots = self.roots.saturating_add(1);
        self.believed.root = held(bytes, &document);
        self.changed.push_back("root".to_string());
        Ok(())
    }

    /// The newest root must not have expired; older ones of the chain may.
    pub(super) fn after_roots(&mut self) -> Result<(), Refusal> {
        not_expired(&self.believed.root.statement.header, None, self.now)?;
        if self.partial {
            self.believe_stored_targets();
            self.step = Step::Role(TOP_TARGETS.to_string(), None);
            return Ok(());
        }
        // One whose keys have been replaced is forgotten: so a repository recovers from a version
        // that an attacker drove up.
        self.believed.timestamp = self.stored.get("timestamp").and_then(|bytes| {
            let root = &self.believed.root.statement;
            let document = parse::<Timestamp>(bytes, self.limits.timestamp, None).ok()?;
            check(&document, root, &root.roles.timestamp, self.policy, None).ok()?;
            Some(held(bytes, &document))
        });
        self.step = Step::Timestamp;
        Ok(())
    }

    pub(super) fn take_timestamp(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let root = &self.believed.root.statement;
        let document = parse::<Timestamp>(bytes, self.limits.timestamp, None)?;
        check(&document, root, &root.roles.timestamp, self.policy, None)?;
        let new = document.unverified();
        let version = Some(new.header.version);
        let of = |fault| Refusal::of(RoleName::Timestamp, None, version, fault);
        let mut newer = true;
        if let Some(old) = &self.believed.timestamp {
            let old = &old.statement;
            let expected = old.header.version;
            if new.header.version < expected {
                return Err(of(DocumentFault::Version { expected }));
            }
            // The same version again is the one that is believed, whatever it says now.
            newer = new.header.version > expected;
            no_older("snapshot.json", &old.meta.snapshot, &new.meta.snapshot).map_err(of)?;
        }
        if newer {
            // Believed for what it forbids, even where it has expired.
            self.believed.timestamp = Some(held(bytes, &document));
        }
        if let Some(timestamp) = &self.believed.timestamp {
            not_expired(&timestamp.statement.header, None, self.now)?;
        }
        if newer {
            self.changed.push_back("timestamp".to_string());
        }
        self.load_snapshot()
    }

    /// A stored snapshot counts for what it forbids; where it is the one that the timestamp names, no
    /// other is asked for.
    fn load_snapshot(&mut self) -> Result<(), Refusal> {
        self.step = Step::Snapshot;
        let Some(bytes) = self.stored.get("snapshot") else {
            return Ok(());
        };
        let root = &self.believed.root.statement;
        let Ok(document) = parse::<Snapshot>(bytes, self.limits.snapshot, None) else {
            return Ok(());
        };
        if check(&document, root, &root.roles.snapshot, self.policy, None).is_err() {
            return Ok(());
        }
        self.believed.snapshot = Some(held(bytes, &document));
        let header = document.unverified_header();
        let named = self.believed.timestamp.as_ref().is_some_and(|timestamp| {
            let meta = &timestamp.statement.meta.snapshot;
            meta.version == header.version && meta.describes(bytes)
        });
        if named && not_expired(header, None, self.now).is_ok() {
            return self.load_top();
        }
        Ok(())
    }

    pub(super) fn take_snapshot(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let Some(timestamp) = &self.believed.timestamp else {
            return Ok(());
        };
        let meta = &timestamp.statement.meta.snapshot;
        let root = &self.believed.root.statement;
        let document = named::<Snapshot>(bytes, meta, self.limits.snapshot, None)?;
        check(&document, root, &root.roles.snapshot, self.policy, None)?;
        let new = document.unverified();
        let version = Some(new.header.version);
        let of = |fault| Refusal::of(RoleName::Snapshot, None, version, fault);
        right_version(&new.header, meta).map_err(of)?;
        if let Some(old) = &self.believed.snapshot {
            for (name, old) in &old.statement.meta {
                let new = new.meta.get(name);
                let new = new.ok_or_else(|| of(DocumentFault::NoLongerNamed(name.clone())))?;
                no_older(name, old, new).map_err(of)?;
            }
        }
        not_expired(&new.header, None, self.now)?;
        self.believed.snapshot = Some(held(bytes, &document));
        self.changed.push_back("snapshot".to_string());
        self.load_top()
    }

    /// The top-level targets, stored or to be fetched.
    fn load_top(&mut self) -> Result<(), Refusal> {
        self.step = match self.load_role(TOP_TARGETS, None)? {
            true => Step::Current,
            false => Step::Role(TOP_TARGETS.to_string(), None),
        };
        Ok(())
    }

    /// Whether a targets role can be had without fetching it: what is held or stored must be what the
    /// snapshot names now, and signed by the keys that this delegator names.
    pub(super) fn load_role(
        &mut self,
        name: &str,
        delegator: Option<&str>,
    ) -> Result<bool, Refusal> {
        let meta = self.named_role(name)?;
        let keys = self.keys_of(name, delegator)?;
        let held_bytes = self
            .believed
            .roles
            .get(name)
            .map(|held| held.bytes.as_slice());
        let Some(bytes) = held_bytes.or_else(|| self.stored.get(name)) else {
            return Ok(false);
        };
        let Ok(document) = named::<Targets>(bytes, meta, self.limits.targets, None) else {
            return Ok(false);
        };
        let header = document.unverified_header();
        let good = keys.check(&document, self.policy, name).is_ok()
            && right_version(header, meta).is_ok()
            && not_expired(header, None, self.now).is_ok();
        if good {
            let held = held(bytes, &document);
            self.believed.roles.insert(name.to_string(), held);
        }
        Ok(good)
    }

    pub(super) fn take_role(
        &mut self,
        bytes: &[u8],
        name: &str,
        delegator: Option<&str>,
    ) -> Result<(), Refusal> {
        let meta = self.named_role(name)?;
        let document = named::<Targets>(bytes, meta, self.limits.targets, delegated(name))?;
        let keys = self.keys_of(name, delegator)?;
        keys.check(&document, self.policy, name)?;
        let header = document.unverified_header();
        let version = Some(header.version);
        right_version(header, meta)
            .map_err(|fault| Refusal::of(RoleName::Targets, delegated(name), version, fault))?;
        not_expired(header, delegated(name), self.now)?;
        let held = held(bytes, &document);
        self.believed.roles.insert(name.to_string(), held);
        self.changed.push_back(name.to_string());
        if self.search.is_some() {
            self.look_in(name);
            return self.go_on_searching();
        }
        self.step = Step::Current;
        Ok(())
    }

    /// In partial verification stored targets count for the version that they forbid to go below.
    fn believe_stored_targets(&mut self) {
        let root = &self.believed.root.statement;
        let document = self.stored.get(TOP_TARGETS).and_then(|bytes| {
            let document = parse::<Targets>(bytes, self.limits.targets, None).ok()?;
            check(&document, root, &root.roles.targets, self.policy, None).ok()?;
            Some(held(bytes, &document))
        });
        if let Some(held) = document {
            self.believed.roles.insert(TOP_TARGETS.to_string(), held);
        }
    }

    /// Targets that no snapshot names: all but their version, length and digest is checked.
    pub(super) fn take_unnamed_targets(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let root = &self.believed.root.statement;
        let document = parse::<Targets>(bytes, self.limits.targets, None)?;
        check(&document, root, &root.roles.targets, self.policy, None)?;
        let header = document.unverified_header();
        let expected = self.believed.roles.get(TOP_TARGETS);
        let expected = expected.map_or(0, |held| held.statement.header.version);
        if header.version < expected {
            let (version, fault) = (Some(header.version), DocumentFault::Version { expected });
            return Err(Refusal::of(RoleName::Targets, None, version, fault));
        }
        not_expired(header, None, self.now)?;
        let held = held(bytes, &document);
        self.believed.roles.insert(TOP_TARGETS.to_string(), held);
        self.changed.push_back(TOP_TARGETS.to_string());
        self.step = Step::Current;
        Ok(())
    }

    fn named_role(&self, name: &str) -> Result<&MetaFile, Refusal> {
        let snapshot = self.believed.snapshot.as_ref();
        let meta = snapshot.and_then(|snapshot| snapshot.statement.of_role(name));
        let fault = DocumentFault::NotNamed;
        meta.ok_or_else(|| Refusal::of(RoleName::Targets, delegated(name), None, fault))
    }

    /// The keys that the root, or a delegating role, names for a targets role.
    fn keys_of(&self, name: &str, delegator: Option<&str>) -> Result<Keys<'_>, Refusal> {
        let root = &self.believed.root.statement;
        let Some(delegator) = delegator else {
            return Ok(Keys {
                keys: &root.keys,
                role: root.roles.targets.clone(),
            });
        };
        let held = self.believed.roles.get(delegator);
        let delegations = held.and_then(|held| held.statement.delegations.as_ref());
        let keys = delegations.and_then(|delegations| {
            let role = delegations.roles.iter().find(|role| role.name == name)?;
            Some(Keys {
                keys: &delegations.keys,
                role: role.keys()?,
            })
        });
        let fault = DocumentFault::NotNamed;
        keys.ok_or_else(|| Refusal::of(RoleName::Targets, delegated(name), None, fault))
    }
}

/// Who may sign a targets role.
struct Keys<'a> {
    keys: &'a BTreeMap<KeyId, Key>,
    role: RoleKeys,
}

impl Keys<'_> {
    fn check(
        &self,
        document: &Document<Targets>,
        policy: crate::meta::KeyPolicy,
        name: &str,
    ) -> Result<(), Refusal> {
        let version = Some(document.unverified_header().version);
        let of = |fault| Refusal::of(RoleName::Targets, delegated(name), version, fault);
        document
            .verify(self.keys, &self.role, policy)
            .map(drop)
            .map_err(|short| of(DocumentFault::Signatures(short)))
    }
}

fn held<R: Role + Clone>(bytes: &[u8], document: &Document<R>) -> Held<R> {
    Held {
        bytes: bytes.to_vec(),
        statement: document.unverified().clone(),
    }
}

/// Length and digests first, then the document.
fn named<R: Role>(
    bytes: &[u8],
    meta: &MetaFile,
    limit: u64,
    name: Option<String>,
) -> Result<Document<R>, Refusal> {
    // A client that reads to the limit sees no more of it than this.
    let limit = meta.length.unwrap_or(limit).min(limit);
    let max = usize::try_from(limit).unwrap_or(usize::MAX);
    let fault = if bytes.len() > max {
        let len = bytes.len();
        DocumentFault::Malformed(Malformed::TooLong { len, max })
    } else if meta.describes(bytes) {
        return parse(bytes, limit, name);
    } else {
        DocumentFault::NotAsNamed
    };
    Err(Refusal::of(R::NAME, name, Some(meta.version), fault))
}

fn right_version(header: &Header, meta: &MetaFile) -> Result<(), DocumentFault> {
    let expected = meta.version;
    if header.version == expected {
        Ok(())
    } else {
        Err(DocumentFault::Version { expected })
    }
}

/// What a newer document says about a file may not be older than what was said before.
fn no_older(name: &str, old: &MetaFile, new: &MetaFile) -> Result<(), DocumentFault> {
    if new.version >= old.version {
        return Ok(());
    }
    Err(DocumentFault::NamesOlder {
        name: name.to_string(),
        expected: old.version,
    })
}

pub(super) fn not_expired(
    header: &Header,
    name: Option<String>,
    now: UnixTime,
) -> Result<(), Refusal> {
    let expires = header.expires;
    if now < expires {
        return Ok(());
    }
    let fault = DocumentFault::Expired { expires, now };
    Err(Refusal::of(header.role, name, Some(header.version), fault))
}

//! One repository: from what is believed to what is current (TUF 1.0.33 clause 5.3, Uptane Standard
//! 2.1 clause 5.4.4), without I/O.
//!
//! ```text
//!   Root ──missing──▶ Timestamp ──▶ Snapshot ──▶ Targets ──▶ Current ──find──▶ Delegated ─┐
//!    ▲ │ next root                                              ▲                         │
//!    └─┘                                                        └────── found or not ─────┘
//! ```
//!
//! Each step asks for one file ([`Client::wanted`]) within a limit that is known before it is fetched,
//! and goes on with its bytes or with the news that there is none. A file that is believed already is
//! not asked for again. The first rule that does not hold ends it; what was believed up to there can
//! be stored still, since each document is believed only after all its checks.

mod roles;
mod store;

pub use store::{Believed, Stored};

use crate::{
    error::{DocumentFault, Refusal},
    ids::HardwareId,
    meta::{
        Document, KeyPolicy, Role, RoleKeys, RoleName, Root, Snapshot, Target, Targets, Timestamp,
    },
    time::UnixTime,
};
use alloc::{
    collections::{BTreeSet, VecDeque},
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use store::Held;

/// The name of the top-level targets role.
pub const TOP_TARGETS: &str = "targets";

/// How much a repository may ask of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a root document.
    pub root: u64,
    /// Bytes of a timestamp document.
    pub timestamp: u64,
    /// Bytes of a snapshot document, where the timestamp does not say.
    pub snapshot: u64,
    /// Bytes of a targets document, where the snapshot does not say.
    pub targets: u64,
    /// Root documents in one refresh.
    pub roots: usize,
    /// Targets roles asked for one target.
    pub roles: usize,
}

impl Default for Limits {
    /// 64 KiB of root, 16 KiB of timestamp, 1 MiB of snapshot, 4 MiB of targets; 64 roots, 32 roles.
    fn default() -> Self {
        Self {
            root: 64 << 10,
            timestamp: 16 << 10,
            snapshot: 1 << 20,
            targets: 4 << 20,
            roots: 64,
            roles: 32,
        }
    }
}

/// A file to be fetched, by its name in the repository's metadata folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, percent-encoded where a role's name asks for it.
    pub name: String,
    /// More bytes than these need not be read: the file is refused then.
    pub limit: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Root,
    Timestamp,
    Snapshot,
    /// A targets role, and who delegates to it: `None` for the root.
    Role(String, Option<String>),
    Current,
    Refused,
}

/// A search for one target through the delegations, depth first.
#[derive(Debug, Clone, Default)]
struct Search {
    path: String,
    hardware: BTreeSet<HardwareId>,
    to_visit: Vec<(String, Option<String>)>,
    visited: BTreeSet<String>,
    found: Option<(String, Target)>,
}

/// The client of one repository.
#[derive(Debug, Clone)]
pub struct Client {
    believed: Believed,
    stored: Stored,
    policy: KeyPolicy,
    limits: Limits,
    now: UnixTime,
    /// Root and top-level targets alone.
    partial: bool,
    step: Step,
    roots: usize,
    search: Option<Search>,
    changed: VecDeque<String>,
}

impl Client {
    /// A client that believes the root in `stored`; other files in it are believed as far as their
    /// signatures, versions and digests are those that the repository names now.
    ///
    /// # Errors
    ///
    /// The stored root is not a root document signed by its own keys.
    pub fn new(
        stored: Stored,
        policy: KeyPolicy,
        limits: Limits,
        now: UnixTime,
    ) -> Result<Self, Refusal> {
        let bytes = stored.get("root").unwrap_or(&[]).to_vec();
        let document = parse::<Root>(&bytes, limits.root, None)?;
        let root = document.unverified();
        check(&document, root, &root.roles.root, policy, None)?;
        let statement = root.clone();
        Ok(Self {
            believed: Believed::new(Held { bytes, statement }),
            stored,
            policy,
            limits,
            now,
            partial: false,
            step: Step::Root,
            roots: 0,
            search: None,
            changed: VecDeque::new(),
        })
    }

    /// A client of root and top-level targets alone, for an ECU that gets a director's documents from its
    /// primary: partial verification (Uptane Standard 2.1, clause 5.4.4.1). It sees signatures, versions
    /// and expiry, and neither which targets are current nor what the image repository says.
    ///
    /// # Errors
    ///
    /// As [`Client::new`].
    pub fn partial(
        stored: Stored,
        policy: KeyPolicy,
        limits: Limits,
        now: UnixTime,
    ) -> Result<Self, Refusal> {
        let client = Self::new(stored, policy, limits, now)?;
        Ok(Self {
            partial: true,
            ..client
        })
    }

    /// Judges expiry by another time from here on: one that was attested under the root that is
    /// believed now.
    ///
    /// # Errors
    ///
    /// That root has expired by it.
    pub(crate) fn judge_at(&mut self, now: UnixTime) -> Result<(), Refusal> {
        self.now = now;
        roles::not_expired(&self.believed.root.statement.header, None, now)
    }

    /// Whether the newest root is known and nothing after it.
    pub(crate) const fn has_root(&self) -> bool {
        matches!(self.step, Step::Timestamp)
    }

    /// The file that the next step needs; `None` when the repository is current, every search has
    /// ended, or a file was refused.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        let root = &self.believed.root.statement;
        let versioned = |version: u64, name: &str| match root.consistent_snapshot {
            true => format!("{version}.{name}.json"),
            false => format!("{name}.json"),
        };
        let (name, limit) = match &self.step {
            Step::Root => {
                let next = root.header.version.saturating_add(1);
                (format!("{next}.root.json"), self.limits.root)
            }
            Step::Timestamp => ("timestamp.json".to_string(), self.limits.timestamp),
            Step::Snapshot => {
                let meta = &self.believed.timestamp.as_ref()?.statement.meta.snapshot;
                let limit = meta.length.unwrap_or(self.limits.snapshot);
                (
                    versioned(meta.version, "snapshot"),
                    limit.min(self.limits.snapshot),
                )
            }
            Step::Role(name, _) if self.partial => (format!("{name}.json"), self.limits.targets),
            Step::Role(name, _) => {
                let meta = self.believed.snapshot.as_ref()?.statement.of_role(name)?;
                let limit = meta.length.unwrap_or(self.limits.targets);
                (
                    versioned(meta.version, &percent(name)),
                    limit.min(self.limits.targets),
                )
            }
            Step::Current | Step::Refused => return None,
        };
        Some(Wanted { name, limit })
    }

    /// The wanted file.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: nothing more is asked for.
    pub fn on_file(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let result = match self.step.clone() {
            Step::Root => self.next_root(bytes),
            Step::Timestamp => self.take_timestamp(bytes),
            Step::Snapshot => self.take_snapshot(bytes),
            Step::Role(..) if self.partial => self.take_unnamed_targets(bytes),
            Step::Role(name, delegator) => self.take_role(bytes, &name, delegator.as_deref()),
            Step::Current | Step::Refused => Ok(()),
        };
        self.or_refuse(result)
    }

    /// There is no such file: the end of the chain of roots; for any other a refusal.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: nothing more is asked for.
    pub fn on_missing(&mut self) -> Result<(), Refusal> {
        let missing =
            |role, delegated| Err(Refusal::of(role, delegated, None, DocumentFault::Missing));
        let result = match &self.step {
            Step::Root => self.after_roots(),
            Step::Timestamp => missing(RoleName::Timestamp, None),
            Step::Snapshot => missing(RoleName::Snapshot, None),
            Step::Role(name, _) => missing(RoleName::Targets, delegated(name)),
            Step::Current | Step::Refused => Ok(()),
        };
        self.or_refuse(result)
    }

    /// Whether the top-level documents are current and no search is under way.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.step == Step::Current
    }

    /// The top-level targets, once they are current.
    #[must_use]
    pub fn targets(&self) -> Option<&Targets> {
        let current = matches!(self.step, Step::Current | Step::Role(_, Some(_)));
        let held = self.believed.roles.get(TOP_TARGETS).filter(|_| current);
        held.map(|held| &held.statement)
    }

    /// Starts the search for a target, on whatever hardware; [`Client::found`] has the result when nothing
    /// is wanted any more.
    ///
    /// # Errors
    ///
    /// [`Refusal`] of a delegated role that is believed no more.
    pub fn find(&mut self, path: &str) -> Result<(), Refusal> {
        self.find_for(path, BTreeSet::new())
    }

    /// The same for a target that is to run on this hardware: who is not trusted for all of it is not
    /// asked.
    ///
    /// # Errors
    ///
    /// As [`Client::find`].
    pub fn find_for(&mut self, path: &str, hardware: BTreeSet<HardwareId>) -> Result<(), Refusal> {
        if self.step != Step::Current {
            return Ok(());
        }
        self.search = Some(Search {
            path: path.to_string(),
            hardware,
            to_visit: vec![(TOP_TARGETS.to_string(), None)],
            ..Search::default()
        });
        if self.partial {
            // Nothing names delegated roles; the search has ended, and found nothing.
            return Ok(());
        }
        let result = self.go_on_searching();
        self.or_refuse(result)
    }

    /// Whether the last search was for `path`.
    #[must_use]
    pub fn has_searched(&self, path: &str) -> bool {
        self.search
            .as_ref()
            .is_some_and(|search| search.path == path)
    }

    /// The target that was searched for, and the role that speaks for it.
    #[must_use]
    pub fn found(&self) -> Option<(&str, &Target)> {
        let search = self
            .search
            .as_ref()
            .filter(|_| self.step == Step::Current)?;
        let (role, target) = search.found.as_ref()?;
        Some((role, target))
    }

    /// A role whose document has changed since it was stored, and its bytes.
    pub fn poll_changed(&mut self) -> Option<(String, &[u8])> {
        let name = self.changed.pop_front()?;
        let bytes = self.believed.bytes(&name)?;
        Some((name, bytes))
    }

    /// What is believed, for storing and for tools.
    #[must_use]
    pub const fn believed(&self) -> &Believed {
        &self.believed
    }

    fn or_refuse(&mut self, result: Result<(), Refusal>) -> Result<(), Refusal> {
        if result.is_err() {
            self.step = Step::Refused;
        }
        result
    }

    /// Depth first, in the order of the delegations; each role is asked once.
    fn go_on_searching(&mut self) -> Result<(), Refusal> {
        while let Some((name, delegator)) = self.next_role() {
            if !self.load_role(&name, delegator.as_deref())? {
                self.step = Step::Role(name, delegator);
                return Ok(());
            }
            self.look_in(&name);
        }
        self.step = Step::Current;
        Ok(())
    }

    fn next_role(&mut self) -> Option<(String, Option<String>)> {
        let limit = self.limits.roles;
        let search = self
            .search
            .as_mut()
            .filter(|search| search.found.is_none())?;
        loop {
            let (name, delegator) = search.to_visit.pop()?;
            if search.visited.len() >= limit {
                return None;
            }
            if search.visited.insert(name.clone()) {
                return Some((name, delegator));
            }
        }
    }

    /// Looks for the target in a role's document, and at whom it delegates to.
    fn look_in(&mut self, name: &str) {
        let held = self.believed.roles.get(name);
        let (Some(held), Some(search)) = (held, self.search.as_mut()) else {
            return;
        };
        if let Some(target) = held.statement.targets.get(&search.path) {
            search.found = Some((name.to_string(), target.clone()));
            return;
        }
        let roles = held.statement.delegations.iter().flat_map(|it| &it.roles);
        let mut children = Vec::new();
        for role in roles.filter(|role| role.covers(&search.path, &search.hardware)) {
            children.push((role.name.clone(), Some(name.to_string())));
            if role.terminating {
                search.to_visit.clear();
                break;
            }
        }
        search.to_visit.extend(children.into_iter().rev());
    }
}

/// The name where it is not that of the top-level role.
fn delegated(name: &str) -> Option<String> {
    (name != TOP_TARGETS).then(|| name.to_string())
}

/// Parses a document within its limit.
fn parse<R: Role>(bytes: &[u8], max: u64, name: Option<String>) -> Result<Document<R>, Refusal> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    Document::parse(bytes, max)
        .map_err(|error| Refusal::of(R::NAME, name, None, DocumentFault::Malformed(error)))
}

/// Enough keys of `role`, which `root` names, have signed.
fn check<R: Role>(
    document: &Document<R>,
    root: &Root,
    role: &RoleKeys,
    policy: KeyPolicy,
    name: Option<String>,
) -> Result<(), Refusal> {
    let version = Some(document.unverified_header().version);
    document
        .verify(&root.keys, role, policy)
        .map(drop)
        .map_err(|short| Refusal::of(R::NAME, name, version, DocumentFault::Signatures(short)))
}

/// The name as a file's: everything but letters, digits, `-`, `_`, `.` and `~` as `%XX`.
#[must_use]
pub fn percent(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;

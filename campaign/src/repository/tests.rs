//! The machine against a repository in memory: what it asks for, and each rule spoiled once.

mod partial;

use super::*;
use crate::meta::{
    DelegatedRole, Delegations, Envelope, FileHashes, Header, Key, KeyId, Malformed, MetaFile,
    Roles,
};
use ed25519_dalek::{Signer as _, SigningKey};
use std::collections::BTreeMap;
use std::prelude::rust_2024::*;

fn now() -> UnixTime {
    "2026-11-22T00:00:00Z".parse().unwrap()
}

/// Key number `seed`.
fn signer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn key(seed: u8) -> Key {
    Key::ed25519(signer(seed).verifying_key().as_bytes())
}

fn sign(statement: &impl serde::Serialize, seeds: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::new(statement).unwrap();
    let message = envelope.signing_bytes().unwrap();
    for seed in seeds {
        envelope.add_signature(key(*seed).id(), &signer(*seed).sign(&message).to_bytes());
    }
    envelope.to_json().unwrap()
}

const ROOT: u8 = 1;
const TIMESTAMP: u8 = 2;
const SNAPSHOT: u8 = 3;
const TARGETS: u8 = 4;
const DELEGATE: u8 = 5;

fn keys(seeds: &[u8]) -> BTreeMap<KeyId, Key> {
    seeds
        .iter()
        .map(|seed| (key(*seed).id(), key(*seed)))
        .collect()
}

fn role(seed: u8) -> RoleKeys {
    RoleKeys::new(vec![key(seed).id()], 1).unwrap()
}

/// A repository: versions of its documents, and what it serves.
#[derive(Clone)]
struct Repo {
    root: Root,
    timestamp: u64,
    snapshot: u64,
    targets: BTreeMap<String, Targets>,
    expires: UnixTime,
    files: BTreeMap<String, Vec<u8>>,
}

impl Repo {
    fn new() -> Self {
        let expires = now().plus_days(30);
        let seeds = [ROOT, TIMESTAMP, SNAPSHOT, TARGETS];
        let roles = Roles {
            root: role(ROOT),
            timestamp: role(TIMESTAMP),
            snapshot: role(SNAPSHOT),
            targets: role(TARGETS),
            extra: BTreeMap::new(),
        };
        let root = Root::new(Header::new(RoleName::Root, 1, expires), keys(&seeds), roles);
        let mut targets = Targets::new(Header::new(RoleName::Targets, 1, expires));
        targets.targets.insert("a/one".into(), target(b"one"));
        let mut repo = Self {
            root,
            timestamp: 1,
            snapshot: 1,
            targets: BTreeMap::from([(TOP_TARGETS.to_string(), targets)]),
            expires,
            files: BTreeMap::new(),
        };
        repo.publish();
        repo
    }

    fn trust(&self) -> Stored {
        Stored::root(&sign(&self.root, &[ROOT]))
    }

    /// Signs everything as it stands.
    fn publish(&mut self) {
        let header = |role, version| Header::new(role, version, self.expires);
        let mut snapshot =
            Snapshot::new(header(RoleName::Snapshot, self.snapshot), MetaFile::new(1));
        for (name, targets) in &self.targets {
            let seed = if name == TOP_TARGETS {
                TARGETS
            } else {
                DELEGATE
            };
            let (bytes, version) = (sign(targets, &[seed]), targets.header.version);
            snapshot
                .meta
                .insert(format!("{name}.json"), MetaFile::of(version, &bytes));
            self.files
                .insert(format!("{version}.{}.json", percent(name)), bytes);
        }
        let bytes = sign(&snapshot, &[SNAPSHOT]);
        let meta = MetaFile::of(self.snapshot, &bytes);
        self.files
            .insert(format!("{}.snapshot.json", self.snapshot), bytes);
        let timestamp = Timestamp::new(header(RoleName::Timestamp, self.timestamp), meta);
        self.files
            .insert("timestamp.json".into(), sign(&timestamp, &[TIMESTAMP]));
    }

    /// The next release: every version one higher.
    fn next(&mut self) {
        self.timestamp += 1;
        self.snapshot += 1;
        for targets in self.targets.values_mut() {
            targets.header.version += 1;
        }
        self.publish();
    }

    fn delegate(&mut self, from: &str, name: &str, paths: &[&str], terminating: bool) {
        let delegations = self
            .targets
            .get_mut(from)
            .unwrap()
            .delegations
            .get_or_insert_default();
        delegations.keys.extend(keys(&[DELEGATE]));
        delegations.roles.push(DelegatedRole {
            name: name.to_string(),
            keyids: vec![key(DELEGATE).id()],
            threshold: 1,
            terminating,
            paths: Some(paths.iter().map(|path| (*path).to_string()).collect()),
            path_hash_prefixes: None,
            hardware_ids: None,
            extra: BTreeMap::new(),
        });
        let header = Header::new(RoleName::Targets, 1, self.expires);
        self.targets
            .entry(name.to_string())
            .or_insert_with(|| Targets::new(header));
    }
}

fn target(bytes: &[u8]) -> Target {
    Target::new(bytes.len() as u64, crate::ids::sha256(bytes))
}

fn client(stored: Stored) -> Client {
    Client::new(stored, KeyPolicy::default(), Limits::default(), now()).unwrap()
}

/// Serves what is wanted until nothing is; the names that were asked for.
fn drive(client: &mut Client, repo: &Repo) -> Result<Vec<String>, Refusal> {
    let mut asked = Vec::new();
    while let Some(wanted) = client.wanted() {
        match repo.files.get(&wanted.name) {
            Some(bytes) => client.on_file(bytes)?,
            None => client.on_missing()?,
        }
        asked.push(wanted.name);
    }
    Ok(asked)
}

/// A client that has the repository's state.
fn refreshed(repo: &Repo) -> Client {
    let mut client = client(repo.trust());
    drive(&mut client, repo).unwrap();
    client
}

/// Why the next refresh of a client with that state is refused.
fn refusal(before: &Client, repo: &Repo) -> (RoleName, DocumentFault) {
    let mut again = client(before.believed().to_stored());
    let refusal = drive(&mut again, repo).unwrap_err();
    assert_eq!(again.wanted(), None, "nothing is asked for after a refusal");
    (refusal.role, refusal.fault)
}

#[test]
fn each_file_is_asked_for_once_and_what_is_stored_not_again() {
    let mut repo = Repo::new();
    let mut first = client(repo.trust());
    assert_eq!(
        drive(&mut first, &repo).unwrap(),
        [
            "2.root.json",
            "timestamp.json",
            "1.snapshot.json",
            "1.targets.json"
        ]
    );
    assert!(first.is_current());
    assert_eq!(first.targets().unwrap().targets.len(), 1);
    let changed: Vec<_> =
        core::iter::from_fn(|| first.poll_changed().map(|(name, _)| name)).collect();
    assert_eq!(changed, ["timestamp", "snapshot", "targets"]);

    let mut second = client(first.believed().to_stored());
    assert_eq!(
        drive(&mut second, &repo).unwrap(),
        ["2.root.json", "timestamp.json"]
    );
    assert!(second.is_current());
    assert_eq!(second.poll_changed(), None);

    repo.next();
    let mut third = client(first.believed().to_stored());
    assert_eq!(
        drive(&mut third, &repo).unwrap(),
        [
            "2.root.json",
            "timestamp.json",
            "2.snapshot.json",
            "2.targets.json"
        ]
    );
}

#[test]
fn no_role_goes_back() {
    let old = Repo::new();
    let mut new = old.clone();
    new.next();
    let before = refreshed(&new);
    assert_eq!(
        refusal(&before, &old),
        (RoleName::Timestamp, DocumentFault::Version { expected: 2 })
    );
    // A timestamp of today that names the snapshot of yesterday.
    let mut mixed = old.clone();
    mixed.timestamp = 3;
    mixed.publish();
    let named = |name: &str| DocumentFault::NamesOlder {
        name: name.to_string(),
        expected: 2,
    };
    assert_eq!(
        refusal(&before, &mixed),
        (RoleName::Timestamp, named("snapshot.json"))
    );
    // A snapshot of today that names the targets of yesterday.
    mixed.snapshot = 3;
    mixed.publish();
    assert_eq!(
        refusal(&before, &mixed),
        (RoleName::Snapshot, named("targets.json"))
    );
}

#[test]
fn a_role_does_not_vanish() {
    let mut repo = Repo::new();
    repo.delegate(TOP_TARGETS, "brakes", &["brakes/*"], false);
    repo.publish();
    let before = refreshed(&repo);
    let mut next = repo.clone();
    next.targets.remove("brakes");
    next.next();
    assert_eq!(
        refusal(&before, &next),
        (
            RoleName::Snapshot,
            DocumentFault::NoLongerNamed("brakes.json".into())
        )
    );
}

#[test]
fn every_role_expires() {
    for (role, expired) in [
        (RoleName::Timestamp, "timestamp.json"),
        (RoleName::Snapshot, "2.snapshot.json"),
        (RoleName::Targets, "2.targets.json"),
    ] {
        let mut repo = Repo::new();
        repo.next();
        // Of that document alone: the others are of a repository that goes on.
        let mut late = repo.clone();
        late.expires = now();
        for targets in late.targets.values_mut() {
            targets.header.expires = now();
        }
        if role == RoleName::Targets {
            repo.targets = late.targets.clone();
            repo.publish();
        } else if role == RoleName::Snapshot {
            late.targets = repo.targets.clone();
            late.publish();
            let bytes = late.files["2.snapshot.json"].clone();
            let meta = MetaFile::of(2, &bytes);
            let header = Header::new(RoleName::Timestamp, 2, repo.expires);
            repo.files.insert("2.snapshot.json".into(), bytes);
            let timestamp = sign(&Timestamp::new(header, meta), &[TIMESTAMP]);
            repo.files.insert("timestamp.json".into(), timestamp);
        } else {
            late.publish();
            repo.files
                .insert(expired.into(), late.files[expired].clone());
        }
        let mut client = client(repo.trust());
        let refusal = drive(&mut client, &repo).unwrap_err();
        assert_eq!(refusal.role, role, "{refusal}");
        assert!(
            matches!(refusal.fault, DocumentFault::Expired { .. }),
            "{refusal}"
        );
    }
}

#[test]
fn a_file_is_the_one_that_was_named() {
    for name in ["1.snapshot.json", "1.targets.json"] {
        let mut repo = Repo::new();
        // The line feed at the end becomes a space.
        *repo.files.get_mut(name).unwrap().last_mut().unwrap() = b' ';
        let refusal = drive(&mut client(repo.trust()), &repo).unwrap_err();
        assert_eq!(refusal.fault, DocumentFault::NotAsNamed, "{name}");
        repo.files.get_mut(name).unwrap().push(b' ');
        let refusal = drive(&mut client(repo.trust()), &repo).unwrap_err();
        let too_long = matches!(
            refusal.fault,
            DocumentFault::Malformed(Malformed::TooLong { .. })
        );
        assert!(too_long, "{name}: {refusal}");
        repo.files.remove(name);
        let refusal = drive(&mut client(repo.trust()), &repo).unwrap_err();
        assert_eq!(refusal.fault, DocumentFault::Missing, "{name}");
    }
}

#[test]
fn limits_come_before_the_file() {
    let repo = Repo::new();
    let mut client = client(repo.trust());
    let mut limits = Vec::new();
    while let Some(wanted) = client.wanted() {
        limits.push(wanted.limit);
        match repo.files.get(&wanted.name) {
            Some(bytes) => client.on_file(bytes).unwrap(),
            None => client.on_missing().unwrap(),
        }
    }
    let len = |name: &str| repo.files[name].len() as u64;
    assert_eq!(
        limits,
        [
            64 << 10,
            16 << 10,
            len("1.snapshot.json"),
            len("1.targets.json")
        ]
    );
}

/// Fast-forward: an attacker with the timestamp key drove its version up; new keys bring it back.
#[test]
fn new_keys_forget_the_versions_of_the_old_ones() {
    let mut repo = Repo::new();
    repo.timestamp = u64::MAX;
    repo.snapshot = 1 << 40;
    repo.publish();
    let before = refreshed(&repo);
    let mut next = Repo::new();
    next.root.header.version = 2;
    for (place, seed) in [(RoleName::Timestamp, 12), (RoleName::Snapshot, 13)] {
        next.root.keys.extend(keys(&[seed]));
        match place {
            RoleName::Timestamp => next.root.roles.timestamp = role(seed),
            _ => next.root.roles.snapshot = role(seed),
        }
    }
    let snapshot = Snapshot::new(
        Header::new(RoleName::Snapshot, 1, next.expires),
        MetaFile::of(1, &next.files["1.targets.json"]),
    );
    let snapshot = sign(&snapshot, &[13]);
    let header = Header::new(RoleName::Timestamp, 1, next.expires);
    let timestamp = Timestamp::new(header, MetaFile::of(1, &snapshot));
    next.files.insert("1.snapshot.json".into(), snapshot);
    next.files
        .insert("timestamp.json".into(), sign(&timestamp, &[12]));
    next.files
        .insert("2.root.json".into(), sign(&next.root, &[ROOT]));
    let mut again = client(before.believed().to_stored());
    drive(&mut again, &next).unwrap();
    assert_eq!(again.believed().timestamp().unwrap().header.version, 1);
}

#[test]
fn a_search_goes_depth_first_and_ends_where_it_must() {
    let mut repo = Repo::new();
    repo.delegate(TOP_TARGETS, "hw", &["hw/*"], false);
    repo.delegate("hw", "supplier a", &["hw/a*"], true);
    repo.delegate("hw", "b", &["hw/*"], false);
    repo.delegate(TOP_TARGETS, "c", &["*/*"], false);
    for (role, path) in [("b", "hw/b1"), ("b", "hw/a1"), ("c", "x/y")] {
        let targets = repo.targets.get_mut(role).unwrap();
        targets.targets.insert(path.into(), target(path.as_bytes()));
    }
    repo.publish();
    let mut client = refreshed(&repo);
    let mut search = |path: &str| {
        client.find(path).unwrap();
        let asked = drive(&mut client, &repo).unwrap();
        let found = client.found().map(|(role, _)| role.to_string());
        (asked.join(" "), found)
    };
    let found = |role: &str| Some(role.to_string());
    assert_eq!(search("a/one"), (String::new(), found("targets")));
    assert_eq!(search("hw/b1"), ("1.hw.json 1.b.json".into(), found("b")));
    // The terminating role is trusted alone for hw/a*, and has nothing.
    assert_eq!(search("hw/a1"), ("1.supplier%20a.json".into(), None));
    assert_eq!(search("x/y"), ("1.c.json".into(), found("c")));
    assert_eq!(search("nowhere"), (String::new(), None));
}

#[test]
fn delegations_in_a_circle_end() {
    let mut repo = Repo::new();
    repo.delegate(TOP_TARGETS, "a", &["*"], false);
    repo.delegate("a", "b", &["*"], false);
    repo.delegate("b", "a", &["*"], false);
    repo.publish();
    let mut client = refreshed(&repo);
    client.find("x").unwrap();
    assert_eq!(drive(&mut client, &repo).unwrap(), ["1.a.json", "1.b.json"]);
    assert_eq!(client.found(), None);
}

#[test]
fn a_search_asks_no_more_roles_than_allowed() {
    let mut repo = Repo::new();
    for at in 0..40 {
        repo.delegate(TOP_TARGETS, &format!("r{at}"), &["*"], false);
    }
    repo.publish();
    let mut client = refreshed(&repo);
    client.find("x").unwrap();
    assert_eq!(drive(&mut client, &repo).unwrap().len(), 31);
}

#[test]
fn a_delegated_role_is_signed_by_the_keys_of_its_delegator() {
    let mut repo = Repo::new();
    repo.delegate(TOP_TARGETS, "a", &["*"], false);
    let delegations = repo
        .targets
        .get_mut(TOP_TARGETS)
        .unwrap()
        .delegations
        .as_mut();
    let delegations: &mut Delegations = delegations.unwrap();
    delegations.keys.extend(keys(&[TARGETS]));
    delegations.roles[0].keyids = vec![key(TARGETS).id()];
    repo.publish();
    let mut client = refreshed(&repo);
    client.find("x").unwrap();
    let refusal = drive(&mut client, &repo).unwrap_err();
    assert_eq!(
        format!("{refusal}"),
        "targets \"a\" version 1: 0 valid signatures, 1 needed"
    );
}

#[test]
fn hashes_need_one_that_is_known_and_all_known_right() {
    assert!(FileHashes::of(b"x").describe(b"x"));
    assert!(!FileHashes::of(b"x").describe(b"y"));
    assert!(!FileHashes::default().describe(b"x"));
    let wrong = FileHashes {
        sha512: Some("00".repeat(64)),
        ..FileHashes::of(b"x")
    };
    assert!(!wrong.describe(b"x"));
}

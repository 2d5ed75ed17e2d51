//! The documents of a repository as a chain: targets, the snapshot that names them, the timestamp that
//! names the snapshot.
//!
//! Files carry their version in their names and are never changed, but for `timestamp.json`, which is
//! replaced last: whoever reads meanwhile has the old state or the new one, whole.

use std::{collections::BTreeMap, path::PathBuf};

use campaign::{
    UnixTime,
    ids::Vin,
    layout::{self, Repository},
    meta::{Header, MetaFile, RoleName, Snapshot, Targets, Timestamp},
    repository::{Believed, Client, Limits, Stored, TOP_TARGETS},
};

use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    keys::SigningKey,
    release::OWN_KEYS,
    repo::Repo,
    root,
};

/// How long a timestamp is believed, in days: so long may a mirror show an old state.
pub const TIMESTAMP_VALID_DAYS: u32 = 7;

/// Documents to be published, by their paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edition {
    /// Files that did not exist before.
    pub new: BTreeMap<String, Vec<u8>>,
    /// `timestamp.json`, which makes them current.
    pub timestamp: (String, Vec<u8>),
}

/// What is published of a repository now; `None` before its first release. Signatures are checked:
/// what is released next builds on it, and others may have written to the published folder. The root
/// is the newest that the desk keeps; none after it is looked for.
///
/// # Errors
///
/// [`Error::Corrupt`], [`Error::File`].
pub fn published(
    repo: &Repo,
    repository: Repository,
    vin: &Vin,
) -> Result<Option<Believed>, Error> {
    let (root, _) = root::newest(repo, repository)?;
    let version = root.header.version;
    published_under(repo, repository, vin, version).map_err(|error| {
        let before = version.saturating_sub(1).max(1);
        match published_under(repo, repository, vin, before) {
            Ok(Some(_)) if before < version => Error::Root(format!(
                "{repository}: root version {version} is in use, and what is published is not signed \
                 under it yet; repeat the `oem rotate` or `oem publish` that was interrupted"
            )),
            _ => error,
        }
    })
}

/// What is published, as one sees it who believes the root of that version and knows none after it.
pub(crate) fn published_under(
    repo: &Repo,
    repository: Repository,
    vin: &Vin,
    version: u64,
) -> Result<Option<Believed>, Error> {
    let path = |name: &str| repo.path(&layout::metadata_path(repository, vin, name));
    if !path("timestamp.json").exists() {
        return Ok(None);
    }
    let kept = repo.path(&root::kept(repository, version));
    let root = files::read(&kept, Limits::default().root)?;
    let corrupt = |path: PathBuf| move |refusal| Error::corrupt(&path, refusal);
    // What has expired is a base for what comes next all the same.
    let now = UnixTime::from_secs(0);
    let client = Client::new(Stored::root(&root), OWN_KEYS, Limits::default(), now);
    let mut client = client.map_err(corrupt(kept.clone()))?;
    client.on_missing().map_err(corrupt(kept))?;
    while let Some(wanted) = client.wanted() {
        let file = path(&wanted.name);
        let result = match file.exists() {
            true => client.on_file(&files::read(&file, wanted.limit)?),
            false => client.on_missing(),
        };
        result.map_err(corrupt(file))?;
    }
    Ok(Some(client.believed().clone()))
}

/// The next targets statement after `before`.
#[must_use]
pub fn next_header(
    repo: &Repo,
    repository: Repository,
    vin: &Vin,
    before: Option<&Believed>,
    expires: UnixTime,
) -> Header {
    let version = before
        .and_then(|before| before.targets(TOP_TARGETS))
        .map_or(0, |targets| targets.header.version);
    let version = next_free(repo, repository, vin, version, TOP_TARGETS);
    Header::new(RoleName::Targets, version, expires)
}

/// The next version of a numbered document of which there is no file: one that an interrupted release
/// left behind may have been seen, and never changes.
fn next_free(repo: &Repo, repository: Repository, vin: &Vin, version: u64, role: &str) -> u64 {
    let mut next = version.saturating_add(1);
    let file = |version: u64| {
        let name = format!("{version}.{role}.json");
        repo.path(&layout::metadata_path(repository, vin, &name))
    };
    while file(next).exists() {
        next = next.saturating_add(1);
    }
    next
}

/// Signs `targets`, and the snapshot and timestamp that make it current.
///
/// # Errors
///
/// [`Error::Signers`] where the desk has too few keys of the targets role, [`Error::File`] where one
/// cannot be read, [`Error::Crypto`].
pub fn edition(
    repo: &Repo,
    repository: Repository,
    vin: &Vin,
    before: Option<&Believed>,
    targets: &Targets,
    now: UnixTime,
) -> Result<Edition, Error> {
    let (root, _) = root::newest(repo, repository)?;
    let keys = root::enough_keys_here(repo, repository, &root, RoleName::Targets)?;
    let bytes = SigningKey::sign_document(targets, &keys.iter().collect::<Vec<_>>())?;
    edition_of(repo, repository, vin, before, targets, bytes, now)
}

/// The snapshot and timestamp that make `targets` current, signed as they are in `bytes`.
///
/// # Errors
///
/// [`Error::File`] where a key cannot be read, [`Error::Crypto`].
pub fn edition_of(
    repo: &Repo,
    repository: Repository,
    vin: &Vin,
    before: Option<&Believed>,
    targets: &Targets,
    bytes: Vec<u8>,
    now: UnixTime,
) -> Result<Edition, Error> {
    let snapshot_key = root::key_name(repository, RoleName::Snapshot);
    let path = |name: String| layout::metadata_path(repository, vin, &name);
    let mut new = BTreeMap::new();
    let version = targets.header.version;
    let named = MetaFile::of(version, &bytes);
    new.insert(path(format!("{version}.targets.json")), bytes);

    let version = before
        .and_then(Believed::snapshot)
        .map_or(0, |snapshot| snapshot.header.version);
    let version = next_free(repo, repository, vin, version, "snapshot");
    let header = Header::new(RoleName::Snapshot, version, targets.header.expires);
    let mut snapshot = Snapshot::new(header, named);
    // Delegated roles stay as they were.
    for (name, meta) in before
        .and_then(Believed::snapshot)
        .into_iter()
        .flat_map(|it| &it.meta)
    {
        snapshot
            .meta
            .entry(name.clone())
            .or_insert_with(|| meta.clone());
    }
    let bytes = SigningKey::sign_document(&snapshot, &[&repo.key(snapshot_key)?])?;
    let named = MetaFile::of(version, &bytes);
    new.insert(path(format!("{version}.snapshot.json")), bytes);
    Ok(Edition {
        new,
        timestamp: timestamp(repo, repository, vin, before, named, now)?,
    })
}

/// A new timestamp that names `snapshot`.
fn timestamp(
    repo: &Repo,
    repository: Repository,
    vin: &Vin,
    before: Option<&Believed>,
    snapshot: MetaFile,
    now: UnixTime,
) -> Result<(String, Vec<u8>), Error> {
    let key = root::key_name(repository, RoleName::Timestamp);
    let version = before
        .and_then(Believed::timestamp)
        .map_or(0, |timestamp| timestamp.header.version)
        .saturating_add(1);
    let expires = now.plus_days(TIMESTAMP_VALID_DAYS);
    let header = Header::new(RoleName::Timestamp, version, expires);
    let statement = Timestamp::new(header, snapshot).issued_at(now);
    let bytes = SigningKey::sign_document(&statement, &[&repo.key(key)?])?;
    Ok((
        layout::metadata_path(repository, vin, "timestamp.json"),
        bytes,
    ))
}

/// Signs the timestamps of everything that is published anew, so that it stays believed; needs the
/// online keys alone. What cannot be refreshed does not keep the rest from it.
///
/// # Errors
///
/// [`Error::Audit`], [`Error::File`]: nothing was refreshed.
pub fn refresh(repo: &Repo, now: UnixTime) -> Result<Refreshed, Error> {
    let mut refreshed = Refreshed::default();
    let vins = repo.vins()?;
    audit::record(repo, "refresh", &json!({ "vehicles": vins.len() }))?;
    let directors = vins.iter().map(|vin| (Repository::Director, vin));
    let image = vins.first().map(|vin| (Repository::Image, vin));
    for (repository, vin) in image.into_iter().chain(directors) {
        let what = match repository {
            Repository::Image => repository.to_string(),
            Repository::Director => format!("{repository} of {vin}"),
        };
        match refresh_one(repo, repository, vin, now) {
            Ok(None) => {}
            Ok(Some(until)) => {
                if until <= now {
                    refreshed.expired.push((what, until));
                }
                if repository == Repository::Director {
                    refreshed.vehicles.push(vin.clone());
                }
            }
            Err(error) => refreshed.failed.push((what, error)),
        }
    }
    Ok(refreshed)
}

/// What a refresh did.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// The vehicles whose director was refreshed.
    pub vehicles: Vec<Vin>,
    /// Repositories that are not believed all the same, since another of their documents has expired,
    /// and when: a release signs it anew.
    pub expired: Vec<(String, UnixTime)>,
    /// Repositories that could not be refreshed.
    pub failed: Vec<(String, Error)>,
}

/// Signs the timestamp of one repository anew; until when its other documents are believed, where
/// there is one.
fn refresh_one(
    repo: &Repo,
    repository: Repository,
    vin: &Vin,
    now: UnixTime,
) -> Result<Option<UnixTime>, Error> {
    let Some(before) = published(repo, repository, vin)? else {
        return Ok(None);
    };
    let Some(current) = before.timestamp() else {
        return Ok(None);
    };
    let snapshot = current.meta.snapshot.clone();
    let (path, bytes) = timestamp(repo, repository, vin, Some(&before), snapshot, now)?;
    files::write_atomic(&repo.path(&path), &bytes, Access::Public)?;
    let ends = [
        Some(before.root().header.expires),
        before.snapshot().map(|it| it.header.expires),
        before.targets(TOP_TARGETS).map(|it| it.header.expires),
    ];
    Ok(ends.into_iter().flatten().min())
}

impl Edition {
    /// All documents by their paths, the timestamp last.
    pub fn documents(&self) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        let (timestamp, bytes) = &self.timestamp;
        self.new.iter().chain([(timestamp, bytes)])
    }

    /// A document by its path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        let (timestamp, bytes) = &self.timestamp;
        match path == timestamp {
            true => Some(bytes),
            false => self.new.get(path).map(Vec::as_slice),
        }
    }

    /// Writes the documents, the timestamp last.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn publish(&self, repo: &Repo) -> Result<(), Error> {
        for (path, bytes) in self.documents() {
            files::write_atomic(&repo.path(path), bytes, Access::Public)?;
        }
        Ok(())
    }
}

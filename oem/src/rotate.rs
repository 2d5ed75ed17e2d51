//! `oem rotate`: a role gets a new key, in the next version of its repository's root.
//!
//! The new root is signed by the root keys of its predecessor and by its own. A rotated role's current
//! documents are signed anew, so that what is published stays believed. Nothing of the old root is
//! changed: a vehicle follows the chain, however long it was away.
//!
//! The new key waits in `NAME.new.pem` until all is done. The root that names it, as the repository
//! keeps it for itself, is the point of no return: an interrupted rotation is forgotten before it and
//! completed after it, by whatever rotation comes next.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::ValueEnum as _;

use campaign::{
    UnixTime,
    ids::{Vin, sha256},
    layout::{self, Repository},
    meta::{Header, RoleKeys, RoleName, Root},
    repository::{Believed, Limits, TOP_TARGETS},
};

use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    init::{ROOT_VALID_DAYS, director_root_path},
    keys::{RSA_BITS, SigningKey},
    publish::{self, published, published_under},
    repo::{KeyName, Repo},
};

/// A key that can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Rotated {
    /// Root of the image repository.
    ImageRoot,
    /// Targets of the image repository.
    ImageTargets,
    /// Snapshot of the image repository.
    ImageSnapshot,
    /// Timestamp of the image repository.
    ImageTimestamp,
    /// Root of the director.
    DirectorRoot,
    /// Targets of the director.
    DirectorTargets,
    /// Timestamp and snapshot of the director.
    DirectorTimestamp,
}

impl Rotated {
    const fn parts(self) -> (Repository, KeyName, &'static [RoleName]) {
        use Repository::{Director, Image};
        match self {
            Self::ImageRoot => (Image, KeyName::ImageRoot, &[RoleName::Root]),
            Self::ImageTargets => (Image, KeyName::ImageTargets, &[RoleName::Targets]),
            Self::ImageSnapshot => (Image, KeyName::ImageSnapshot, &[RoleName::Snapshot]),
            Self::ImageTimestamp => (Image, KeyName::ImageTimestamp, &[RoleName::Timestamp]),
            Self::DirectorRoot => (Director, KeyName::DirectorRoot, &[RoleName::Root]),
            Self::DirectorTargets => (Director, KeyName::DirectorTargets, &[RoleName::Targets]),
            Self::DirectorTimestamp => (
                Director,
                KeyName::DirectorTimestamp,
                &[RoleName::Timestamp, RoleName::Snapshot],
            ),
        }
    }
}

/// Gives the role a new key; the version of the new root.
///
/// # Errors
///
/// [`Error::Corrupt`], [`Error::File`], [`Error::Crypto`].
pub fn rotate(repo: &Repo, rotated: Rotated, now: UnixTime) -> Result<u64, Error> {
    let (repository, name, roles) = rotated.parts();
    finish_interrupted(repo, rotated, now)?;
    for vin in places(repository, &repo.vins()?) {
        published(repo, repository, vin)?;
    }
    let old_root_key = repo.key(match repository {
        Repository::Image => KeyName::ImageRoot,
        Repository::Director => KeyName::DirectorRoot,
    })?;
    let old_key = repo.key(name)?;
    let new_key = match KeyName::ED25519.contains(&name) {
        true => SigningKey::generate_ed25519()?,
        false => SigningKey::generate(old_key.rsa_bits().unwrap_or(RSA_BITS))?,
    };
    let root = next_root(repo, rotated, &old_key, &new_key, now)?;
    let version = root.header.version;
    let mut signers = vec![&old_root_key];
    if roles.contains(&RoleName::Root) {
        signers.push(&new_key);
    }
    let document = SigningKey::sign_document(&root, &signers)?;
    let details = json!({
        "repository": repository.to_string(), "version": version, "digest": sha256(&document),
        "removed": old_key.public().id(), "added": new_key.public().id(),
    });
    audit::record(repo, "rotate", &details)?;
    new_key.store(&pending(repo, name))?;
    files::write_atomic(
        &repo.path(&kept(repository, version)),
        &document,
        Access::Public,
    )?;
    complete(repo, rotated, version, now)?;
    Ok(version)
}

/// The root after the newest, in which the new key has the place of the old one.
fn next_root(
    repo: &Repo,
    rotated: Rotated,
    old: &SigningKey,
    new: &SigningKey,
    now: UnixTime,
) -> Result<Root, Error> {
    let (repository, _, roles) = rotated.parts();
    let mut root = newest_root(repo, repository)?;
    let version = root.header.version.saturating_add(1);
    root.header = Header::new(RoleName::Root, version, now.plus_days(ROOT_VALID_DAYS));
    root.keys.remove(&old.public().id());
    root.keys.insert(new.public().id(), new.public().clone());
    let keys = RoleKeys::new(vec![new.public().id()], 1).ok_or_else(|| Error::Crypto {
        what: "root document",
        reason: "a role without keys".into(),
    })?;
    for role in roles {
        *root.role_mut(*role) = keys.clone();
    }
    Ok(root)
}

/// Where a new key waits until the rotation is complete.
fn pending(repo: &Repo, name: KeyName) -> PathBuf {
    repo.key_path(name).with_extension("new.pem")
}

/// What follows the point of no return; each step may be repeated.
fn complete(repo: &Repo, rotated: Rotated, version: u64, now: UnixTime) -> Result<(), Error> {
    let (repository, name, roles) = rotated.parts();
    let vins = repo.vins()?;
    publish_root(repo, repository, &vins, version)?;
    let (old_key, new_key) = (repo.key(name)?, SigningKey::load(&pending(repo, name))?);
    if old_key.public().id() != new_key.public().id() {
        let archive = format!("before-{version}.pem");
        old_key.store(&repo.key_path(name).with_extension(archive))?;
        new_key.store(&repo.key_path(name))?;
    }
    if !roles.contains(&RoleName::Root) {
        for vin in places(repository, &vins) {
            if published(repo, repository, vin).is_ok() {
                continue;
            }
            let newest = version.saturating_sub(1);
            if let Some(before) = published_under(repo, repository, vin, newest)? {
                sign_again(repo, repository, vin, &before, now)?;
            }
        }
    }
    let path = pending(repo, name);
    fs::remove_file(&path).map_err(Error::file(&path))
}

/// A rotation of the same repository that was interrupted is completed where its root is kept, else
/// forgotten.
fn finish_interrupted(repo: &Repo, next: Rotated, now: UnixTime) -> Result<(), Error> {
    let (repository, ..) = next.parts();
    for rotated in Rotated::value_variants() {
        let (of, name, _) = rotated.parts();
        let path = pending(repo, name);
        if of != repository || !path.exists() {
            continue;
        }
        let id = SigningKey::load(&path)?.public().id();
        let newest = newest_root(repo, repository)?;
        match newest.keys.contains_key(&id) {
            true => complete(repo, *rotated, newest.header.version, now)?,
            false => fs::remove_file(&path).map_err(Error::file(&path))?,
        }
    }
    Ok(())
}

/// The vehicles whose folders hold documents of the repository: one for the image repository, which
/// is the same for all.
fn places(repository: Repository, vins: &[Vin]) -> impl Iterator<Item = &Vin> {
    let count = match repository {
        Repository::Image => 1,
        Repository::Director => usize::MAX,
    };
    vins.iter().take(count)
}

/// The newest root, as the repository keeps it for itself.
fn newest_root(repo: &Repo, repository: Repository) -> Result<Root, Error> {
    let newest = (1..).take_while(|version| repo.path(&kept(repository, *version)).exists());
    let path = repo.path(&kept(repository, newest.last().unwrap_or(1)));
    let bytes = files::read(&path, Limits::default().root)?;
    let max = usize::try_from(Limits::default().root).unwrap_or(usize::MAX);
    let document = campaign::meta::Document::<Root>::parse(&bytes, max);
    let document = document.map_err(|error| Error::corrupt(&path, error))?;
    Ok(document.unverified().clone())
}

/// Where a root is kept for vehicles to come.
fn kept(repository: Repository, version: u64) -> String {
    match repository {
        Repository::Image => format!("metadata/{version}.root.json"),
        Repository::Director => director_root_path(version),
    }
}

/// Copies the root to where vehicles look for it.
fn publish_root(
    repo: &Repo,
    repository: Repository,
    vins: &[Vin],
    version: u64,
) -> Result<(), Error> {
    let document = files::read(
        &repo.path(&kept(repository, version)),
        Limits::default().root,
    )?;
    let write = |path: &Path| files::write_atomic(path, &document, Access::Public);
    for vin in places(repository, vins) {
        for name in [format!("{version}.root.json"), "root.json".to_owned()] {
            write(&repo.path(&layout::metadata_path(repository, vin, &name)))?;
        }
    }
    if repository == Repository::Image {
        // Also where no vehicle is registered yet.
        write(&repo.path("metadata/root.json"))?;
    }
    Ok(())
}

/// The same targets under new versions, signed with the keys of today.
fn sign_again(
    repo: &Repo,
    repository: Repository,
    vin: &Vin,
    before: &Believed,
    now: UnixTime,
) -> Result<(), Error> {
    let Some(targets) = before.targets(TOP_TARGETS) else {
        return Ok(());
    };
    let mut targets = targets.clone();
    targets.header = publish::next_header(Some(before), targets.header.expires);
    publish::edition(repo, repository, vin, Some(before), &targets, now)?.publish(repo)
}

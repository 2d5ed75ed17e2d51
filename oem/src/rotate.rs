//! `oem rotate`: a role gets a new key, in the next version of its repository's root.
//!
//! The new root is signed by the root keys of its predecessor and by its own. A rotated role's current
//! documents are signed anew, so that what is published stays believed. Nothing of the old root is
//! changed: a vehicle follows the chain, however long it was away.
//!
//! The new key waits in `NAME.new.pem` until all is done. The root that names it, as the repository
//! keeps it for itself, is the point of no return: an interrupted rotation is forgotten before it and
//! completed after it, by whatever rotation comes next.

use std::{fs, path::PathBuf};

use clap::ValueEnum as _;

use campaign::{
    UnixTime,
    ids::sha256,
    layout::Repository,
    meta::{Header, RoleKeys, RoleName, Root},
};

use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    init::ROOT_VALID_DAYS,
    keys::{RSA_BITS, SigningKey},
    publish::published,
    repo::{KeyName, Repo},
    root,
};

const TOP_ROLES: [RoleName; 4] = [
    RoleName::Root,
    RoleName::Timestamp,
    RoleName::Snapshot,
    RoleName::Targets,
];

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
    /// Snapshot of the director.
    DirectorSnapshot,
    /// Timestamp of the director.
    DirectorTimestamp,
    /// What attests the time to vehicles.
    DirectorTime,
}

impl Rotated {
    /// The one that replaces this key.
    pub(crate) fn of(name: KeyName) -> Option<Self> {
        let all = Self::value_variants().iter().copied();
        all.into_iter().find(|rotated| rotated.parts().1 == name)
    }

    const fn parts(self) -> (Repository, KeyName, &'static [RoleName]) {
        use Repository::{Director, Image};
        match self {
            Self::ImageRoot => (Image, KeyName::ImageRoot, &[RoleName::Root]),
            Self::ImageTargets => (Image, KeyName::ImageTargets, &[RoleName::Targets]),
            Self::ImageSnapshot => (Image, KeyName::ImageSnapshot, &[RoleName::Snapshot]),
            Self::ImageTimestamp => (Image, KeyName::ImageTimestamp, &[RoleName::Timestamp]),
            Self::DirectorRoot => (Director, KeyName::DirectorRoot, &[RoleName::Root]),
            Self::DirectorTargets => (Director, KeyName::DirectorTargets, &[RoleName::Targets]),
            Self::DirectorTime => (Director, KeyName::DirectorTime, &[]),
            Self::DirectorSnapshot => (Director, KeyName::DirectorSnapshot, &[RoleName::Snapshot]),
            Self::DirectorTimestamp => {
                (Director, KeyName::DirectorTimestamp, &[RoleName::Timestamp])
            }
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
    for vin in root::places(repository, &repo.vins()?) {
        published(repo, repository, vin)?;
    }
    let (before, _) = root::newest(repo, repository)?;
    let old_key = first_here(repo, rotated, &before)?;
    if old_key.is_in_token() {
        let reason = "the key is in a token: make another there (`oem key new --token URI --out PEM \
                      --public PEM`), then use `oem root change`";
        return Err(Error::Root(reason.into()));
    }
    let new_key = match KeyName::ED25519.contains(&name) {
        true => SigningKey::generate_ed25519()?,
        false => SigningKey::generate(old_key.rsa_bits().unwrap_or(RSA_BITS))?,
    };
    // At rest the new key is what the old one was.
    let new_key = new_key.with_passphrase(old_key.passphrase().cloned());
    let root = next_root(&before, rotated, &old_key, &new_key, now)?;
    let version = root.header.version;
    let root_keys = root::enough_keys_here(repo, repository, &before, RoleName::Root)?;
    let mut signers: Vec<_> = root_keys.iter().collect();
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
        &repo.path(&root::kept(repository, version)),
        &document,
        Access::Public,
    )?;
    complete(repo, rotated, version, now)?;
    Ok(version)
}

/// The first key of the role that is here: it is the one that goes.
fn first_here(repo: &Repo, rotated: Rotated, root: &Root) -> Result<SigningKey, Error> {
    let (repository, name, roles) = rotated.parts();
    let old = repo.key(name)?;
    let id = old.public().id();
    let time = root.time_keys().filter(|_| roles.is_empty());
    let attests = roles.is_empty() && time.is_none_or(|role| role.contains(&id));
    match attests || roles.iter().any(|role| root.role(*role).contains(&id)) {
        true => Ok(old),
        false => Err(Error::Root(format!(
            "{repository}: the key in {} is not of the role; use `oem root change`",
            repo.key_path(name).display()
        ))),
    }
}

/// The root after the newest, in which the new key has the place of the old one.
fn next_root(
    before: &Root,
    rotated: Rotated,
    old: &SigningKey,
    new: &SigningKey,
    now: UnixTime,
) -> Result<Root, Error> {
    let (_, _, roles) = rotated.parts();
    let mut root = before.clone();
    let version = root.header.version.saturating_add(1);
    root.header = Header::new(RoleName::Root, version, now.plus_days(ROOT_VALID_DAYS));
    let (old, new) = (old.public().id(), new.public().clone());
    for role in roles {
        let keys = root.role(*role);
        let ids = keys.keyids().iter();
        let ids = ids.map(|id| if *id == old { new.id() } else { id.clone() });
        let keys = RoleKeys::new(ids.collect(), keys.threshold());
        *root.role_mut(*role) = keys.ok_or_else(|| Error::Root("a role without keys".into()))?;
    }
    if roles.is_empty() {
        // The role of the time key, which no other statement knows.
        let keys = RoleKeys::new(vec![new.id()], 1);
        root.set_time_keys(&keys.ok_or_else(|| Error::Root("a role without keys".into()))?);
    }
    // Another role may have the same key: in desks from before each had its own.
    if !TOP_ROLES.iter().any(|role| root.role(*role).contains(&old)) {
        root.keys.remove(&old);
    }
    root.keys.insert(new.id(), new);
    Ok(root)
}

/// Where a new key waits until the rotation is complete.
fn pending(repo: &Repo, name: KeyName) -> PathBuf {
    repo.key_path(name).with_extension("new.pem")
}

/// What follows the point of no return; each step may be repeated.
fn complete(repo: &Repo, rotated: Rotated, version: u64, now: UnixTime) -> Result<(), Error> {
    let (repository, name, _) = rotated.parts();
    root::publish_root(repo, repository, &repo.vins()?, version)?;
    let (old_key, new_key) = (repo.key(name)?, repo.open_key(&pending(repo, name))?);
    if old_key.public().id() != new_key.public().id() {
        let archive = format!("before-{version}.pem");
        old_key.store(&repo.key_path(name).with_extension(archive))?;
        new_key.store(&repo.key_path(name))?;
    }
    root::renew(repo, repository, None, now)?;
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
        let id = repo.open_key(&path)?.public().id();
        let (newest, _) = root::newest(repo, repository)?;
        match newest.keys.contains_key(&id) {
            true => complete(repo, *rotated, newest.header.version, now)?,
            false => fs::remove_file(&path).map_err(Error::file(&path))?,
        }
    }
    Ok(())
}

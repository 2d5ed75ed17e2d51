//! The roots of both repositories: what the newest says, the next one, and what has to be signed
//! anew under it.
//!
//! A change takes effect in steps. The root, as the repository keeps it for itself, is the point of no
//! return; everything after it may be repeated.

use std::path::Path;

use campaign::{
    UnixTime,
    ids::{Vin, sha256},
    layout::{self, Repository},
    meta::{Document, Envelope, Header, Key, RoleKeys, RoleName, Root, Targets},
    repository::{Believed, Limits, TOP_TARGETS},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    audit,
    draft::{Draft, Purpose},
    error::Error,
    files::{self, Access},
    init::{ROOT_VALID_DAYS, director_root_path, publish_director_root},
    keys::SigningKey,
    publish::{self, published, published_under},
    release::OWN_KEYS,
    repo::{KeyName, Repo},
};

/// The roles of a repository.
pub const ROLES: [RoleName; 4] = [
    RoleName::Root,
    RoleName::Targets,
    RoleName::Snapshot,
    RoleName::Timestamp,
];

/// One of the two repositories, as it is named on the command line and in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The image repository.
    Image,
    /// The director.
    Director,
}

impl From<Which> for Repository {
    fn from(which: Which) -> Self {
        match which {
            Which::Image => Self::Image,
            Which::Director => Self::Director,
        }
    }
}

/// What the next root changes.
#[derive(Debug, Clone, Default)]
pub struct RootChange {
    /// Keys to be added to a role.
    pub add: Vec<(RoleName, Key)>,
    /// Keys that no role has any more, by their names or at least 8 of their first digits.
    pub remove: Vec<String>,
    /// How many keys of a role must sign.
    pub thresholds: Vec<(RoleName, u32)>,
}

/// The key of a role that the desk itself signs with.
pub(crate) const fn key_name(repository: Repository, role: RoleName) -> KeyName {
    match (repository, role) {
        (Repository::Image, RoleName::Root) => KeyName::ImageRoot,
        (Repository::Image, RoleName::Targets) => KeyName::ImageTargets,
        (Repository::Image, RoleName::Snapshot) => KeyName::ImageSnapshot,
        (Repository::Image, RoleName::Timestamp) => KeyName::ImageTimestamp,
        (Repository::Director, RoleName::Root) => KeyName::DirectorRoot,
        (Repository::Director, RoleName::Targets) => KeyName::DirectorTargets,
        (Repository::Director, RoleName::Snapshot) => KeyName::DirectorSnapshot,
        (Repository::Director, RoleName::Timestamp) => KeyName::DirectorTimestamp,
    }
}

/// Keys of `role` that are here.
///
/// # Errors
///
/// [`Error::File`], [`Error::Corrupt`].
pub(crate) fn keys_here(
    repo: &Repo,
    repository: Repository,
    root: &Root,
    role: RoleName,
) -> Result<Vec<SigningKey>, Error> {
    let mut keys = repo.keys(key_name(repository, role))?;
    keys.retain(|key| root.role(role).contains(&key.public().id()));
    Ok(keys)
}

/// The same, where they are as many as the role asks for.
///
/// # Errors
///
/// [`Error::Signers`] where they are fewer.
pub(crate) fn enough_keys_here(
    repo: &Repo,
    repository: Repository,
    root: &Root,
    role: RoleName,
) -> Result<Vec<SigningKey>, Error> {
    let keys = keys_here(repo, repository, root, role)?;
    let needed = root.role(role).threshold();
    if u32::try_from(keys.len()).is_ok_and(|here| here >= needed) {
        return Ok(keys);
    }
    let here = keys.len();
    Err(Error::Signers {
        repository,
        role,
        here,
        needed,
    })
}

/// The newest root document, as the repository keeps it for itself: however many there are, each is
/// signed by the one before it.
///
/// # Errors
///
/// [`Error::File`], [`Error::Corrupt`].
pub fn newest(repo: &Repo, repository: Repository) -> Result<(Root, Envelope), Error> {
    let mut newest = read(repo, repository, 1)?;
    for version in 2.. {
        let path = repo.path(&kept(repository, version));
        if !path.exists() {
            break;
        }
        let next = read(repo, repository, version)?;
        follows(&newest.0, &next.1).map_err(|error| Error::corrupt(&path, error))?;
        newest = next;
    }
    Ok(newest)
}

/// The root of that version, as it is kept.
fn read(repo: &Repo, repository: Repository, version: u64) -> Result<(Root, Envelope), Error> {
    let path = repo.path(&kept(repository, version));
    let bytes = files::read(&path, Limits::default().root)?;
    let corrupt = |error: &dyn ToString| Error::corrupt(&path, error.to_string());
    let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|error| corrupt(&error))?;
    let document = Document::<Root>::from_envelope(envelope.clone());
    let document = document.map_err(|error| corrupt(&error))?;
    if document.unverified().header.version != version {
        return Err(Error::corrupt(&path, "it is a root of another version"));
    }
    Ok((document.unverified().clone(), envelope))
}

/// The documents of all roots after the first, as they are kept, by their versions.
///
/// # Errors
///
/// [`Error::File`].
pub(crate) fn later(repo: &Repo, repository: Repository) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let files = (2..).map(|version| (version, repo.path(&kept(repository, version))));
    files
        .take_while(|(_, path)| path.exists())
        .map(|(version, path)| Ok((version, files::read(&path, Limits::default().root)?)))
        .collect()
}

/// Where a root is kept for vehicles to come.
pub(crate) fn kept(repository: Repository, version: u64) -> String {
    match repository {
        Repository::Image => format!("metadata/{version}.root.json"),
        Repository::Director => director_root_path(version),
    }
}

/// The vehicles whose folders hold documents of the repository: one for the image repository, which
/// is the same for all.
pub(crate) fn places(repository: Repository, vins: &[Vin]) -> impl Iterator<Item = &Vin> {
    let count = match repository {
        Repository::Image => 1,
        Repository::Director => usize::MAX,
    };
    vins.iter().take(count)
}

/// Copies the root to where vehicles look for it.
pub(crate) fn publish_root(
    repo: &Repo,
    repository: Repository,
    vins: &[Vin],
    version: u64,
) -> Result<(), Error> {
    let kept = repo.path(&kept(repository, version));
    let document = files::read(&kept, Limits::default().root)?;
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

/// Copies the director's roots to where the vehicle looks for them, if a change of the root was
/// interrupted before that.
pub(crate) fn publish_missing(repo: &Repo, vin: &Vin) -> Result<(), Error> {
    let (root, _) = newest(repo, Repository::Director)?;
    let name = format!("{}.root.json", root.header.version);
    let path = layout::metadata_path(Repository::Director, vin, &name);
    match repo.path(&path).exists() {
        true => Ok(()),
        false => publish_director_root(repo, vin),
    }
}

/// Whether vehicles that believe `before` will believe `next`.
///
/// # Errors
///
/// [`Error::Signatures`].
pub(crate) fn follows(before: &Root, next: &Envelope) -> Result<(), Error> {
    let document = Document::<Root>::from_envelope(next.clone())?;
    let root = document.unverified();
    let of = |what| move |shortfall| Error::Signatures { what, shortfall };
    document
        .verify(&before.keys, &before.roles.root, OWN_KEYS)
        .map_err(of("by keys of the root before"))?;
    document
        .verify(&root.keys, &root.roles.root, OWN_KEYS)
        .map(drop)
        .map_err(of("by keys of the new root"))
}

/// Whether the targets that were published are believed under `root`.
fn targets_believed(root: &Root, before: &Believed) -> bool {
    let bytes = before.bytes(TOP_TARGETS).unwrap_or(&[]);
    Document::<Targets>::parse(bytes, usize::MAX).is_ok_and(|document| {
        let role = &root.roles.targets;
        document.verify(&root.keys, role, OWN_KEYS).is_ok()
    })
}

/// Signs anew what is published and not believed under the newest root. `targets` has the signatures
/// of others where the desk cannot sign the image repository's targets alone.
///
/// # Errors
///
/// [`Error::Signers`], [`Error::File`], [`Error::Corrupt`], [`Error::Crypto`].
pub(crate) fn renew(
    repo: &Repo,
    repository: Repository,
    targets: Option<&Envelope>,
    now: UnixTime,
) -> Result<(), Error> {
    let (root, _) = newest(repo, repository)?;
    let vins = repo.vins()?;
    for vin in places(repository, &vins) {
        if published(repo, repository, vin).is_ok() {
            continue;
        }
        let before = root.header.version.saturating_sub(1).max(1);
        let Some(before) = published_under(repo, repository, vin, before)? else {
            continue;
        };
        let Some(statement) = before.targets(TOP_TARGETS) else {
            continue;
        };
        let edition = match (targets, before.bytes(TOP_TARGETS)) {
            (Some(signed), _) => {
                let document = Document::<Targets>::from_envelope(signed.clone())?;
                let (statement, bytes) = (document.unverified(), signed.to_json()?);
                publish::edition_of(repo, repository, vin, Some(&before), statement, bytes, now)
            }
            (None, Some(bytes)) if targets_believed(&root, &before) => {
                let bytes = bytes.to_vec();
                publish::edition_of(repo, repository, vin, Some(&before), statement, bytes, now)
            }
            (None, _) => {
                let mut next = statement.clone();
                let expires = statement.header.expires;
                next.header = publish::next_header(repo, repository, vin, Some(&before), expires);
                publish::edition(repo, repository, vin, Some(&before), &next, now)
            }
        }?;
        edition.publish(repo)?;
    }
    Ok(())
}

/// The next root, unsigned; and the image repository's targets, where they must be signed anew.
///
/// # Errors
///
/// [`Error::Root`] for a root that could not be, [`Error::File`], [`Error::Corrupt`].
pub fn draft(
    repo: &Repo,
    which: Which,
    change: &RootChange,
    now: UnixTime,
) -> Result<Draft, Error> {
    let repository = which.into();
    let (before, current_root) = newest(repo, repository)?;
    let mut root = before.clone();
    change.apply(&mut root)?;
    if root == before {
        return Err(Error::Root("that is what the root says already".into()));
    }
    let version = before.header.version.saturating_add(1);
    root.header = Header::new(RoleName::Root, version, now.plus_days(ROOT_VALID_DAYS));
    let mut targets = None;
    if repository == Repository::Image {
        let vins = repo.vins()?;
        if let Some(vin) = vins.first() {
            let old = published(repo, repository, vin)?;
            let old = old.filter(|it| !targets_believed(&root, it));
            if let Some(statement) = old.as_ref().and_then(|it| it.targets(TOP_TARGETS)) {
                let (mut next, expires) = (statement.clone(), statement.header.expires);
                next.header = publish::next_header(repo, repository, vin, old.as_ref(), expires);
                targets = Some(Envelope::new(&next)?);
            }
        }
    }
    Ok(Draft {
        purpose: Purpose::Root(which),
        made: now,
        current_root,
        root: Some(Envelope::new(&root)?),
        targets,
    })
}

impl RootChange {
    fn apply(&self, root: &mut Root) -> Result<(), Error> {
        let removed = self.remove.iter().map(|name| find_key(root, name));
        let removed = removed.collect::<Result<Vec<_>, _>>()?;
        let time = root.time_keys();
        if removed
            .iter()
            .any(|id| time.as_ref().is_some_and(|role| role.contains(id)))
        {
            let reason = "that key attests the time: `oem rotate director-time` replaces it";
            return Err(Error::Root(reason.into()));
        }
        for (_, key) in &self.add {
            root.keys.insert(key.id(), key.clone());
        }
        for role in ROLES {
            let old = root.role(role);
            let mut ids = old.keyids().to_vec();
            ids.retain(|id| !removed.contains(id));
            for (_, key) in self.add.iter().filter(|(to, _)| *to == role) {
                if !ids.contains(&key.id()) {
                    ids.push(key.id());
                }
            }
            let asked = self.thresholds.iter().find(|(of, _)| *of == role);
            let threshold = asked.map_or(old.threshold(), |(_, threshold)| *threshold);
            let count = ids.len();
            let keys = RoleKeys::new(ids, threshold);
            let possible = u32::try_from(count).is_ok_and(|count| threshold <= count);
            let keys = keys.filter(|_| possible).ok_or_else(|| {
                let reason = format!("role {role} would have {count} keys and need {threshold}");
                Error::Root(format!("{reason}; add a key or set its threshold"))
            })?;
            if keys.keyids() != old.keyids() || threshold != old.threshold() {
                *root.role_mut(role) = keys;
            }
        }
        let time = root.time_keys();
        let attests = |id: &_| time.as_ref().is_some_and(|role| role.contains(id));
        let has_role = |id: &_| ROLES.iter().any(|role| root.role(*role).contains(id));
        let unused = |id: &_| !has_role(id) && !attests(id);
        let unused: Vec<_> = root.keys.keys().filter(|id| unused(id)).cloned().collect();
        for id in unused {
            root.keys.remove(&id);
        }
        Ok(())
    }
}

/// The one key whose name begins so.
pub(crate) fn find_key(root: &Root, name: &str) -> Result<campaign::meta::KeyId, Error> {
    let mut found = root.keys.keys().filter(|id| id.as_str().starts_with(name));
    match (found.next(), found.next()) {
        (Some(id), None) if name.len() >= 8 => Ok(id.clone()),
        (Some(_), _) => Err(Error::Root(format!(
            "{name} names more than one key, or is short"
        ))),
        (None, _) => Err(Error::Root(format!("no role has key {name}"))),
    }
}

/// Takes a root into use that enough keys have signed; its version.
///
/// # Errors
///
/// [`Error::Signatures`] where too few have; [`Error::Signers`] where the desk could then not sign what
/// it has to; [`Error::Draft`] where another root came before it.
pub(crate) fn take(repo: &Repo, which: Which, draft: &Draft, now: UnixTime) -> Result<u64, Error> {
    let repository = which.into();
    let envelope = draft.root.as_ref();
    let envelope = envelope.ok_or_else(|| Error::Draft("it holds no root".into()))?;
    let bytes = envelope.to_json()?;
    let next = Document::<Root>::from_envelope(envelope.clone())?;
    let next = next.unverified();
    let version = next.header.version;
    let (before, _) = newest(repo, repository)?;
    let file = repo.path(&kept(repository, version));
    // Interrupted after the point of no return, it is completed.
    let again = file.exists() && files::read(&file, Limits::default().root)? == bytes;
    if !again {
        if version != before.header.version.saturating_add(1) {
            let newest = before.header.version;
            let reason = format!(
                "it makes root version {version}, the newest is {newest}; make it anew with `--draft` \
                 and have it signed"
            );
            return Err(Error::Draft(reason));
        }
        follows(&before, envelope)?;
        check_targets(next, draft)?;
        for role in desk_roles(repository) {
            enough_keys_here(repo, repository, next, *role)?;
        }
        let details = json!({
            "repository": repository.to_string(), "version": version, "digest": sha256(&bytes),
        });
        audit::record(repo, "root", &details)?;
        files::write_atomic(&file, &bytes, Access::Public)?;
    }
    publish_root(repo, repository, &repo.vins()?, version)?;
    renew(repo, repository, draft.targets.as_ref(), now)?;
    Ok(version)
}

/// The roles that the desk signs alone, at every release.
const fn desk_roles(repository: Repository) -> &'static [RoleName] {
    match repository {
        Repository::Image => &[RoleName::Snapshot, RoleName::Timestamp],
        Repository::Director => &[RoleName::Targets, RoleName::Snapshot, RoleName::Timestamp],
    }
}

fn check_targets(root: &Root, draft: &Draft) -> Result<(), Error> {
    let Some(targets) = &draft.targets else {
        return Ok(());
    };
    let document = Document::<Targets>::from_envelope(targets.clone())?;
    document
        .verify(&root.keys, &root.roles.targets, OWN_KEYS)
        .map(drop)
        .map_err(|shortfall| Error::Signatures {
            what: "of the targets under the new root",
            shortfall,
        })
}

/// Changes the root at a desk that holds enough keys for it; the version of the new root.
///
/// # Errors
///
/// As [`draft`] and [`Draft::publish`].
pub fn change(repo: &Repo, which: Which, change: &RootChange, now: UnixTime) -> Result<u64, Error> {
    let mut draft = draft(repo, which, change, now)?;
    draft.sign_here(repo)?;
    take(repo, which, &draft, now)
}

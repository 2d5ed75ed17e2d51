//! ECU roots and key sets: the ceremony in which people who do not share a key decide which image
//! keys ECUs accept (`docs/guide/oem.md`).
//!
//! ```text
//! keys/ecu-roots/N.pem     roots that `init` made; to be moved to where their holders keep them
//! keys/ecu-roots.json      their public halves, which every ECU pins
//! keys/key-set.bin         the key set in use, which new ECUs are provisioned with
//! ```

use std::path::{Path, PathBuf};

use ecu_image::{
    Algorithm, KeyId, KeySetVersion,
    keyset::{
        BuildError, KEY_SET_MAX, KeySet, KeySetContent, KeyStatus, MAX_KEYS, NewKey, add_signature,
    },
    provision::{ImageKey, KeySetBytes, RootKeys},
};

use campaign::ids::sha256;
use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    keys::SigningKey,
    repo::{KeyName, Repo},
    vault,
};

/// How many roots `init` makes where none are given.
pub const ROOTS: usize = 3;

const ROOTS_FILE: &str = "keys/ecu-roots.json";
const KEY_SET_FILE: &str = "keys/key-set.bin";

/// Where `init` keeps the root with this number, from 1.
#[must_use]
pub fn root_path(repo: &Repo, number: usize) -> PathBuf {
    repo.path(&format!("keys/ecu-roots/{number}.pem"))
}

/// The roots that ECUs pin.
///
/// # Errors
///
/// [`Error::File`], [`Error::Corrupt`].
pub fn roots(repo: &Repo) -> Result<RootKeys, Error> {
    let path = repo.path(ROOTS_FILE);
    files::read_json(&path, 64 << 10)?.ok_or_else(|| Error::corrupt(&path, "there is none"))
}

pub(crate) fn store_roots(repo: &Repo, keys: Vec<ImageKey>) -> Result<(), Error> {
    let path = repo.path(ROOTS_FILE);
    let roots = RootKeys::try_from(keys).map_err(|error| Error::input(&path, error))?;
    files::write_json(&path, &roots, Access::Public)
}

/// The key set in use.
///
/// # Errors
///
/// [`Error::File`], [`Error::Corrupt`].
pub fn current(repo: &Repo) -> Result<KeySetBytes, Error> {
    let path = repo.path(KEY_SET_FILE);
    let bytes = read_bytes(&path)?;
    bytes
        .try_into()
        .map_err(|error| Error::corrupt(&path, error))
}

/// The image keys that may sign now.
///
/// # Errors
///
/// [`Error::File`], [`Error::Corrupt`], [`Error::Crypto`].
pub fn active(repo: &Repo) -> Result<Vec<ImageKey>, Error> {
    let set = current(repo)?;
    let parsed = set.parsed().map_err(Error::crypto("key set"))?;
    let active = parsed
        .keys()
        .filter(|entry| entry.status == KeyStatus::Active);
    let keys = active.map(|entry| ImageKey::new(entry.key));
    keys.collect::<Result<_, _>>()
        .map_err(Error::crypto("key set"))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    files::read(path, u64::try_from(KEY_SET_MAX).unwrap_or(u64::MAX))
}

pub(crate) fn store(repo: &Repo, set: &KeySetBytes) -> Result<(), Error> {
    files::write_atomic(&repo.path(KEY_SET_FILE), set.as_bytes(), Access::Public)
}

/// Roots and key set in use, from one repository to another.
pub(crate) fn copy(from: &Repo, to: &Repo) -> Result<(), Error> {
    files::write_json(&to.path(ROOTS_FILE), &roots(from)?, Access::Public)?;
    store(to, &current(from)?)
}

/// The first key set of a repository: its image key, signed by `signers`.
///
/// # Errors
///
/// [`Error::Crypto`].
pub(crate) fn first(image: &ImageKey, signers: &[&SigningKey]) -> Result<KeySetBytes, Error> {
    let content = KeySetContent {
        hardware_id: None,
        version: KeySetVersion(1),
        keys: vec![new_key(image)],
    };
    let mut set = content.build().map_err(Error::crypto("key set"))?;
    for signer in signers {
        set = sign(&set, signer)?;
    }
    set.try_into().map_err(Error::crypto("key set"))
}

/// An image key that signs.
fn new_key(key: &ImageKey) -> NewKey {
    let key = key.as_ref();
    NewKey {
        algorithm: key.algorithm,
        status: KeyStatus::Active,
        bytes: key.bytes.to_vec(),
    }
}

/// The key set with one more signature.
fn sign(set: &[u8], root: &SigningKey) -> Result<Vec<u8>, Error> {
    let parsed = KeySet::parse(set).map_err(Error::crypto("key set"))?;
    let signature = root.sign(parsed.signed_bytes())?;
    add_signature(set, root.image_key_id()?, &signature).map_err(Error::crypto("key set"))
}

/// What the next key set changes.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Adds a new image key, which signs once the set is in use.
    pub rotate: bool,
    /// What the new key signs by; as the image key in use where it is not said. A key that waits already
    /// must be of it.
    pub algorithm: Option<Algorithm>,
    /// Keys that no longer sign.
    pub revoke: Vec<KeyId>,
    /// Keys that are left out; ECUs that still run an image of theirs refuse the set.
    pub drop: Vec<KeyId>,
}

fn next_key_path(repo: &Repo) -> PathBuf {
    repo.path("keys/image-next.pem")
}

/// Writes the successor of the key set in use to `out`, without signatures. A new image key waits in
/// `keys/image-next.pem`; made again, the draft has the same one.
///
/// # Errors
///
/// [`Error::KeySet`] for a key that is not in the set, a set that cannot be, a key that waits and is of
/// another algorithm, or a key that would leave its token; [`Error::File`].
pub fn make(repo: &Repo, changes: &Changes, bits: usize, out: &Path) -> Result<Vec<u8>, Error> {
    let before = current(repo)?;
    let parsed = before.parsed().map_err(Error::crypto("key set"))?;
    for id in changes.revoke.iter().chain(&changes.drop) {
        if parsed.key(*id).is_none() {
            return Err(Error::KeySet(format!("the set in use has no key {id}")));
        }
    }
    let kept = parsed
        .keys()
        .filter(|entry| !changes.drop.contains(&entry.id));
    let mut keys: Vec<_> = kept
        .map(|entry| NewKey {
            algorithm: entry.key.algorithm,
            status: if changes.revoke.contains(&entry.id) {
                KeyStatus::Revoked
            } else {
                entry.status
            },
            bytes: entry.key.bytes.to_vec(),
        })
        .collect();
    if changes.rotate {
        // Nothing is made for a set that cannot be.
        if keys.len() >= MAX_KEYS {
            let error = BuildError::Keys(keys.len().saturating_add(1));
            return Err(Error::KeySet(error.to_string()));
        }
        let in_use = |id| parsed.key(id).is_some();
        keys.push(new_key(&waiting(repo, changes.algorithm, in_use, bits)?));
    }
    let content = KeySetContent {
        hardware_id: parsed.hardware_id,
        version: KeySetVersion(parsed.version.get().saturating_add(1)),
        keys,
    };
    let set = content
        .build()
        .map_err(|error| Error::KeySet(error.to_string()))?;
    files::write_atomic(out, &set, Access::Public)?;
    Ok(set)
}

/// The image key that waits for a set in which it signs; made where there is none yet. `in_use` says
/// which are in the set before.
fn waiting(
    repo: &Repo,
    algorithm: Option<Algorithm>,
    in_use: impl Fn(KeyId) -> bool,
    bits: usize,
) -> Result<ImageKey, Error> {
    let path = next_key_path(repo);
    let old = repo.key(KeyName::Image)?;
    let algorithm = algorithm.unwrap_or(old.image_key()?.as_ref().algorithm);
    // What an interrupted `take` left is no key to come.
    let waits = path.exists() && !in_use(repo.open_key(&path)?.image_key_id()?);
    if !waits {
        if old.is_in_token() {
            return Err(Error::KeySet(format!(
                "the image key is in a token, and its successor would be a file: make it with `oem key \
                 new --out {}`, in a token or not",
                path.display()
            )));
        }
        let key = SigningKey::generate_for_images(algorithm, bits)?;
        key.with_passphrase(old.passphrase().cloned())
            .store(&path)?;
    }
    let key = repo.open_key(&path)?.image_key()?;
    if algorithm != key.as_ref().algorithm {
        let (key, path) = (key.id(), path.display());
        return Err(Error::KeySet(format!(
            "image key {key} in {path} waits for its set, and is of another algorithm: name that one \
             with `keyset make --rotate --algorithm`; or remove the file, if no draft that names the \
             key is with holders of roots"
        )));
    }
    Ok(key)
}

/// Adds the signature of the root in the file `root` to the key set in `input`. It needs no
/// repository: holders of roots do it where they keep them.
///
/// # Errors
///
/// [`Error::Input`] where a file is none of its kind, or the root has signed already.
pub fn sign_file(input: &Path, root: &Path, out: &Path) -> Result<(), Error> {
    sign_with(input, &SigningKey::load(root)?, out)
}

/// The same with a key that is open.
///
/// # Errors
///
/// As [`sign_file`].
pub fn sign_with(input: &Path, root: &SigningKey, out: &Path) -> Result<(), Error> {
    let set = read_bytes(input)?;
    KeySet::parse(&set).map_err(|error| Error::input(input, error))?;
    if root.rsa_bits().is_none() {
        return Err(Error::KeySet("an ECU root is an RSA key".into()));
    }
    let signed = sign(&set, root).map_err(|error| Error::input(input, error))?;
    files::write_atomic(out, &signed, Access::Public)
}

/// Takes the key set in `input` into use: new ECUs are provisioned with it, and images are signed by
/// the new key where it has one.
///
/// # Errors
///
/// [`Error::KeySet`] where too few roots have signed, it is neither newer nor the one in use, or the
/// repository would have no active key; [`Error::Input`], [`Error::File`].
pub fn take(repo: &Repo, input: &Path) -> Result<KeySetVersion, Error> {
    let set = read_bytes(input)?;
    let parsed = KeySet::parse(&set).map_err(|error| Error::input(input, error))?;
    let refuse = |reason: String| Error::KeySet(reason);
    parsed
        .authenticate(&roots(repo)?)
        .map_err(|error| refuse(error.to_string()))?;
    let before = current(repo)?;
    let used = before.parsed().map_err(Error::crypto("key set"))?.version;
    let version = parsed.version;
    let again = before.as_bytes() == set;
    if version <= used && !again {
        return Err(refuse(format!("version {version} is not above {used}")));
    }
    for entry in parsed.keys() {
        ImageKey::new(entry.key).map_err(|error| refuse(format!("key {}: {error}", entry.id)))?;
    }
    let active = |id| {
        let entry = parsed.key(id);
        entry.is_some_and(|entry| entry.status == KeyStatus::Active)
    };
    let image_key = match vault::is_vault(repo) {
        true => None,
        false => next_image_key(repo, active)?,
    };
    let details = json!({ "version": version, "digest": sha256(&set) });
    audit::record(repo, "keyset use", &details)?;
    if let Some((old, next)) = &image_key {
        // The set after the key, the file of the next key last: interrupted in between, all of this is
        // simply done again.
        let image = repo.key_path(KeyName::Image);
        let next = repo.open_key(next)?;
        if next.image_key_id()? != *old {
            let kept = repo.path(&format!("keys/image-{old}.pem"));
            repo.open_key(&image)?.store(&kept)?;
            next.store(&image)?;
        }
    }
    let set = KeySetBytes::try_from(set).map_err(|error| Error::input(input, error))?;
    store(repo, &set)?;
    if let Some((_, next)) = &image_key {
        std::fs::remove_file(next).map_err(Error::file(next))?;
    }
    Ok(version)
}

/// The image key in use and the file of its successor, where the set has one that waits here. A vault
/// signs no images.
fn next_image_key(
    repo: &Repo,
    active: impl Fn(KeyId) -> bool,
) -> Result<Option<(KeyId, PathBuf)>, Error> {
    let next = next_key_path(repo);
    let old = repo.key(KeyName::Image)?.image_key_id()?;
    let rotated = next.exists() && active(repo.open_key(&next)?.image_key_id()?);
    if !rotated && !active(old) {
        let reason = format!("image key {old} would not sign any more");
        return Err(Error::KeySet(reason));
    }
    Ok(rotated.then_some((old, next)))
}

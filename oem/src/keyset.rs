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
    Algorithm, KeySetVersion,
    keyset::{KEY_SET_MAX, KeySet, KeySetContent, KeyStatus, NewKey, add_signature},
    provision::{ImageKey, KeySetBytes, RootKeys},
};

use crate::{
    error::Error,
    files::{self, Access},
    keys::SigningKey,
    repo::Repo,
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

fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    files::read(path, u64::try_from(KEY_SET_MAX).unwrap_or(u64::MAX))
}

pub(crate) fn store(repo: &Repo, set: &KeySetBytes) -> Result<(), Error> {
    files::write_atomic(&repo.path(KEY_SET_FILE), set.as_bytes(), Access::Public)
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
        keys: vec![NewKey {
            algorithm: Algorithm::RsaPssSha256,
            status: KeyStatus::Active,
            bytes: image.modulus().to_vec(),
        }],
    };
    let mut set = content.build().map_err(Error::crypto("key set"))?;
    for signer in signers {
        set = sign(&set, signer)?;
    }
    set.try_into().map_err(Error::crypto("key set"))
}

/// The key set with one more signature.
fn sign(set: &[u8], root: &SigningKey) -> Result<Vec<u8>, Error> {
    let parsed = KeySet::parse(set).map_err(Error::crypto("key set"))?;
    let signature = root.sign(parsed.signed_bytes())?;
    add_signature(set, root.image_key_id(), &signature).map_err(Error::crypto("key set"))
}

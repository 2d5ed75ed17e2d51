//! `oem init`: keys, certificates and the first root documents.

use std::{collections::BTreeMap, path::Path, thread};

use campaign::{
    UnixTime,
    ids::sha256,
    layout::{self, Repository},
    meta::{Header, RoleKeys, RoleName, Roles, Root},
    repository::Limits,
};

use ecu_image::keyset::THRESHOLD;

use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    keys::{RSA_BITS, SigningKey},
    keyset,
    repo::{KeyName, Repo, State},
    tls,
};

/// How long a root document is believed. Rotation by hand is rare, so ten years.
pub const ROOT_VALID_DAYS: u32 = 3650;

/// What `init` makes.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Names and addresses of the server, for its certificate.
    pub hosts: Vec<String>,
    /// Length of the RSA keys in bits; 3072 except in tests, which have a policy for it.
    pub rsa_bits: usize,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            hosts: ["127.0.0.1", "::1", "localhost"].map(String::from).to_vec(),
            rsa_bits: RSA_BITS,
        }
    }
}

/// Makes a repository in `dir`. Its last file is written last: an interrupted `init` is repeated.
///
/// # Errors
///
/// [`Error::RepositoryExists`], [`Error::File`], [`Error::Crypto`].
pub fn init(dir: &Path, options: &InitOptions, now: UnixTime) -> Result<Repo, Error> {
    let repo = Repo::create(dir)?;
    let certificates = tls::generate(&options.hosts)?;
    let roots = generate::<{ keyset::ROOTS }>(options.rsa_bits)?;
    for (number, root) in (1..).zip(&roots) {
        root.store(&keyset::root_path(&repo, number))?;
    }
    let keys = generate(options.rsa_bits)?;
    for (name, key) in KeyName::RSA.into_iter().zip(&keys) {
        key.store(&repo.key_path(name))?;
    }
    for name in KeyName::ED25519 {
        SigningKey::generate_ed25519()?.store(&repo.key_path(name))?;
    }
    let [
        image_root,
        image_targets,
        director_root,
        director_targets,
        image_key,
    ] = keys;
    let public: Result<_, _> = roots.iter().map(SigningKey::image_key).collect();
    keyset::store_roots(&repo, public?)?;
    let signers: Vec<_> = roots.iter().take(THRESHOLD).collect();
    keyset::store(&repo, &keyset::first(&image_key.image_key()?, &signers)?)?;
    for (name, text, access) in [
        ("ca.pem", &certificates.ca, Access::Public),
        ("ca.key", &certificates.ca_key, Access::Secret),
        ("server.pem", &certificates.server, Access::Public),
        ("server.key", &certificates.server_key, Access::Secret),
    ] {
        files::write_atomic(&repo.path("keys/tls").join(name), text.as_bytes(), access)?;
    }
    let timestamp = repo.key(KeyName::ImageTimestamp)?;
    let snapshot = repo.key(KeyName::ImageSnapshot)?;
    let image = RootKeys {
        root: &image_root,
        targets: &image_targets,
        snapshot: &snapshot,
        timestamp: &timestamp,
    };
    let image = image.document(now)?;
    for path in ["metadata/1.root.json", "metadata/root.json"] {
        files::write_atomic(&repo.path(path), &image, Access::Public)?;
    }
    let online = repo.key(KeyName::DirectorTimestamp)?;
    let director = RootKeys {
        root: &director_root,
        targets: &director_targets,
        snapshot: &online,
        timestamp: &online,
    };
    let director = director.document(now)?;
    files::write_atomic(
        &repo.path(&director_root_path(1)),
        &director,
        Access::Public,
    )?;
    let digests = json!({ "image_root": sha256(&image), "director_root": sha256(&director) });
    audit::record(&repo, "init", &digests)?;
    repo.store_state(&State::default())?;
    Ok(repo)
}

/// Generates keys at the same time; one of 3072 bits takes a second or more.
fn generate<const N: usize>(bits: usize) -> Result<[SigningKey; N], Error> {
    let failed = |reason: &str| Error::Crypto {
        what: "key generation",
        reason: reason.into(),
    };
    let keys: Vec<_> = thread::scope(|scope| {
        let threads = [(); N].map(|()| scope.spawn(|| SigningKey::generate(bits)));
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| failed("its thread ended"))?)
            .collect::<Result<_, _>>()
    })?;
    keys.try_into().map_err(|_| failed("a key is missing"))
}

/// The keys of a repository's four roles.
struct RootKeys<'a> {
    root: &'a SigningKey,
    targets: &'a SigningKey,
    snapshot: &'a SigningKey,
    timestamp: &'a SigningKey,
}

impl RootKeys<'_> {
    /// The first root document.
    fn document(&self, now: UnixTime) -> Result<Vec<u8>, Error> {
        let keys: BTreeMap<_, _> = [self.root, self.targets, self.snapshot, self.timestamp]
            .map(|key| (key.public().id(), key.public().clone()))
            .into();
        let roles = Roles {
            root: role(self.root)?,
            targets: role(self.targets)?,
            snapshot: role(self.snapshot)?,
            timestamp: role(self.timestamp)?,
            extra: BTreeMap::new(),
        };
        let header = Header::new(RoleName::Root, 1, now.plus_days(ROOT_VALID_DAYS));
        SigningKey::sign_document(&Root::new(header, keys, roles), &[self.root])
    }
}

fn role(key: &SigningKey) -> Result<RoleKeys, Error> {
    RoleKeys::new(vec![key.public().id()], 1).ok_or_else(|| Error::Crypto {
        what: "root document",
        reason: "a role without keys".into(),
    })
}

/// Copies the director's first root to where a vehicle looks for it, and every later one.
pub(crate) fn publish_director_root(repo: &Repo, vin: &campaign::ids::Vin) -> Result<(), Error> {
    let path = |name: &str| repo.path(&layout::metadata_path(Repository::Director, vin, name));
    for version in 1.. {
        let source = repo.path(&director_root_path(version));
        if version > 1 && !source.exists() {
            break;
        }
        let bytes = files::read(&source, Limits::default().root)?;
        for name in [format!("{version}.root.json"), "root.json".to_owned()] {
            files::write_atomic(&path(&name), &bytes, Access::Public)?;
        }
    }
    Ok(())
}

/// Where the director's root of that version is kept for vehicles to come.
pub(crate) fn director_root_path(version: u64) -> String {
    format!("keys/director-root.{version}.json")
}

//! `oem init`: keys, certificates and the first root documents.

use std::{collections::BTreeMap, path::Path, thread};

use campaign::{
    UnixTime,
    ids::sha256,
    layout::{self, Repository},
    meta::{Header, RoleKeys, RoleName, Roles, Root},
    repository::Limits,
};

use ecu_image::{Algorithm, keyset::THRESHOLD};

use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    keys::{RSA_BITS, Secret, SigningKey, Unlock},
    keyset,
    repo::{KeyName, Repo, SIGNERS_MAX, State},
    root, tls,
};

/// How long a root document is believed. Rotation by hand is rare, so ten years.
pub const ROOT_VALID_DAYS: u32 = 3650;

/// The keys that several people may share.
const SHARED: [KeyName; 3] = [
    KeyName::ImageRoot,
    KeyName::ImageTargets,
    KeyName::DirectorRoot,
];

/// The keys that a server holds: nobody is there to open them.
const ONLINE: [KeyName; 5] = [
    KeyName::DirectorTargets,
    KeyName::DirectorSnapshot,
    KeyName::ImageTimestamp,
    KeyName::DirectorTimestamp,
    KeyName::DirectorTime,
];

/// What `init` makes.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Names and addresses of the server, for its certificate.
    pub hosts: Vec<String>,
    /// Length of the RSA keys in bits; 3072 except in tests, which have a policy for it.
    pub rsa_bits: usize,
    /// People who share the root roles and the image repository's targets role, each with keys of
    /// their own; at most [`SIGNERS_MAX`].
    pub signers: usize,
    /// How many of them must sign.
    pub threshold: u32,
    /// What the image key signs by.
    pub image_algorithm: Algorithm,
    /// Encrypts the keys that are not online.
    pub passphrase: Option<Secret>,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            hosts: ["127.0.0.1", "::1", "localhost"].map(String::from).to_vec(),
            rsa_bits: RSA_BITS,
            signers: 1,
            threshold: 1,
            image_algorithm: Algorithm::RsaPssSha256,
            passphrase: None,
        }
    }
}

/// Makes a repository in `dir`. Its last file is written last: an interrupted `init` is repeated.
///
/// # Errors
///
/// [`Error::RepositoryExists`], [`Error::Root`] for a threshold that cannot be met, [`Error::File`],
/// [`Error::Crypto`].
pub fn init(dir: &Path, options: &InitOptions, now: UnixTime) -> Result<Repo, Error> {
    let possible = 1..=options.signers.min(SIGNERS_MAX);
    let threshold = usize::try_from(options.threshold);
    if options.signers > SIGNERS_MAX || !threshold.is_ok_and(|it| possible.contains(&it)) {
        let (threshold, signers) = (options.threshold, options.signers);
        let reason = format!("{threshold} of {signers} signers cannot be; at most {SIGNERS_MAX}");
        return Err(Error::Root(reason));
    }
    let unlock = Unlock::with(options.passphrase.clone());
    let repo = Repo::create(dir)?.with_unlock(unlock);
    let certificates = tls::generate(&options.hosts)?;
    let roots = generate(keyset::ROOTS, options.rsa_bits)?;
    let seal = |key: SigningKey| key.with_passphrase(options.passphrase.clone());
    let roots: Vec<_> = roots.into_iter().map(seal).collect();
    for (number, root) in (1..).zip(&roots) {
        root.store(&keyset::root_path(&repo, number))?;
    }
    for name in KeyName::RSA {
        let count = if SHARED.contains(&name) {
            options.signers
        } else {
            1
        };
        for (number, key) in (1..).zip(generate(count, options.rsa_bits)?) {
            let key = if ONLINE.contains(&name) {
                key
            } else {
                seal(key)
            };
            key.store(&repo.signer_path(name, number))?;
        }
    }
    let image_key = SigningKey::generate_for_images(options.image_algorithm, options.rsa_bits)?;
    seal(image_key).store(&repo.key_path(KeyName::Image))?;
    for name in KeyName::ED25519 {
        let key = SigningKey::generate_ed25519()?;
        let key = if ONLINE.contains(&name) {
            key
        } else {
            seal(key)
        };
        key.store(&repo.key_path(name))?;
    }
    let image_key = repo.key(KeyName::Image)?;
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
    let image = first_root(&repo, Repository::Image, options.threshold, now)?;
    for path in ["metadata/1.root.json", "metadata/root.json"] {
        files::write_atomic(&repo.path(path), &image, Access::Public)?;
    }
    let director = first_root(&repo, Repository::Director, options.threshold, now)?;
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
fn generate(count: usize, bits: usize) -> Result<Vec<SigningKey>, Error> {
    let failed = |reason: &str| Error::Crypto {
        what: "key generation",
        reason: reason.into(),
    };
    thread::scope(|scope| {
        let generate = || scope.spawn(|| SigningKey::generate(bits));
        let threads: Vec<_> = std::iter::repeat_with(generate).take(count).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| failed("its thread ended"))?)
            .collect()
    })
}

/// The first root document of a repository; `threshold` is that of the shared roles.
fn first_root(
    repo: &Repo,
    repository: Repository,
    threshold: u32,
    now: UnixTime,
) -> Result<Vec<u8>, Error> {
    let mut keys = BTreeMap::new();
    let mut role = |role| {
        let name = root::key_name(repository, role);
        let here = repo.keys(name)?;
        let ids = here.iter().map(|key| key.public().id()).collect();
        keys.extend(
            here.iter()
                .map(|key| (key.public().id(), key.public().clone())),
        );
        let threshold = if SHARED.contains(&name) { threshold } else { 1 };
        RoleKeys::new(ids, threshold).ok_or_else(|| Error::Crypto {
            what: "root document",
            reason: "a role without keys".into(),
        })
    };
    let roles = Roles {
        root: role(RoleName::Root)?,
        targets: role(RoleName::Targets)?,
        snapshot: role(RoleName::Snapshot)?,
        timestamp: role(RoleName::Timestamp)?,
        extra: BTreeMap::new(),
    };
    let header = Header::new(RoleName::Root, 1, now.plus_days(ROOT_VALID_DAYS));
    let mut root = Root::new(header, keys, roles);
    if repository == Repository::Director {
        let key = repo.key(KeyName::DirectorTime)?.public().clone();
        if let Some(keys) = RoleKeys::new(vec![key.id()], 1) {
            root.set_time_keys(&keys);
        }
        root.keys.insert(key.id(), key);
    }
    let signers = repo.keys(root::key_name(repository, RoleName::Root))?;
    let signers: Vec<_> = signers.iter().collect();
    SigningKey::sign_document(&root, &signers)
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

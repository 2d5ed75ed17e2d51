//! The repository folder: what is published, and beside it `keys/` with everything secret.
//!
//! ```text
//! metadata/ director/ targets/     published, see docs/spec/campaign.md
//! keys/*.pem                       signing keys of the roles and of images
//! keys/tls/                        certificate authority and server certificate
//! keys/vehicles/VIN.json           vehicles with the keys and grant sequences of their ECUs
//! keys/images/DIGEST.json          content keys
//! keys/state.json                  security counters released
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use campaign::meta::Key;
use campaign::{
    ids::{EcuName, HardwareId, ImageDigest, SecurityCounter, SequenceNumber, Vin},
    vehicle::Vehicle,
};
use ecu_image::{Salt, crypto::ContentKey, provision::EcuProvisioning};
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    files::{self, Access},
    keys::{SigningKey, Unlock, random},
};

/// Upper bound of a JSON file below `keys/`, in bytes.
const SECRET_FILE_MAX: u64 = 8 << 20;

/// How many people may share a role.
pub const SIGNERS_MAX: usize = 16;

/// The keys that `init` generates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyName {
    /// Root role of the image repository.
    ImageRoot,
    /// Targets role of the image repository.
    ImageTargets,
    /// Root role of the director.
    DirectorRoot,
    /// Targets role of the director.
    DirectorTargets,
    /// Image headers.
    Image,
    /// Snapshot role of the image repository: used with the targets key, so offline too.
    ImageSnapshot,
    /// Timestamp role of the image repository: online, its documents expire within days.
    ImageTimestamp,
    /// Snapshot role of the director: used where vehicles are directed, as its targets key is.
    DirectorSnapshot,
    /// Timestamp role of the director: all that `refresh` needs of it.
    DirectorTimestamp,
    /// Attests the time to vehicles: online.
    DirectorTime,
}

impl KeyName {
    /// Those that are RSA keys always; an image key is one where nothing else was asked for.
    pub const RSA: [Self; 4] = [
        Self::ImageRoot,
        Self::ImageTargets,
        Self::DirectorRoot,
        Self::DirectorTargets,
    ];

    /// Those that are Ed25519 keys.
    pub const ED25519: [Self; 5] = [
        Self::ImageSnapshot,
        Self::ImageTimestamp,
        Self::DirectorSnapshot,
        Self::DirectorTimestamp,
        Self::DirectorTime,
    ];

    const fn file(self) -> &'static str {
        match self {
            Self::ImageRoot => "root.pem",
            Self::ImageTargets => "targets.pem",
            Self::DirectorRoot => "director-root.pem",
            Self::DirectorTargets => "director.pem",
            Self::Image => "image.pem",
            Self::ImageSnapshot => "snapshot.pem",
            Self::ImageTimestamp => "timestamp.pem",
            Self::DirectorSnapshot => "director-snapshot.pem",
            Self::DirectorTimestamp => "director-timestamp.pem",
            Self::DirectorTime => "director-time.pem",
        }
    }
}

/// A repository, locked against other `oem` processes that change it.
#[derive(Debug)]
pub struct Repo {
    dir: PathBuf,
    unlock: Unlock,
    /// Held for its lock.
    _lock: File,
}

/// A vehicle with its secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VehicleRecord {
    /// What the telematics unit is given.
    pub vehicle: Vehicle,
    /// What each ECU is given.
    pub ecus: BTreeMap<EcuName, EcuRecord>,
    /// The key with which the telematics unit signs manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcu_key: Option<TcuKey>,
}

/// The Ed25519 key of a telematics unit.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TcuKey(#[serde(with = "hex::serde")] [u8; 32]);

impl std::fmt::Debug for TcuKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TcuKey(..)")
    }
}

impl TcuKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`] without random numbers.
    pub fn generate() -> Result<Self, Error> {
        random().map(Self)
    }

    /// The key.
    #[must_use]
    pub fn signing(&self) -> SigningKey {
        SigningKey::from_ed25519(&self.0)
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> Key {
        self.signing().public().clone()
    }
}

/// An ECU with its secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EcuRecord {
    /// Identity and keys.
    pub provisioning: EcuProvisioning,
    /// The last grant sequence issued.
    #[serde(default)]
    pub last_sequence: SequenceNumber,
}

/// The secrets of a packed image.
#[derive(Debug, Clone)]
pub struct ImageSecrets {
    /// Encrypts its pages.
    pub content_key: ContentKey,
    /// Salts its plaintext digest.
    pub salt: Salt,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredImage {
    #[serde(with = "hex::serde")]
    content_key: Vec<u8>,
    salt: Salt,
}

/// What has been released.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// The highest security counter released, by hardware type.
    #[serde(default)]
    pub released: BTreeMap<HardwareId, SecurityCounter>,
}

impl Repo {
    /// Makes the folders of an empty repository.
    ///
    /// # Errors
    ///
    /// [`Error::RepositoryExists`] where there are keys, [`Error::File`].
    pub fn create(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::file(dir))?;
        let keys = dir.join("keys");
        if keys.join("state.json").exists() {
            return Err(Error::RepositoryExists(dir.to_owned()));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&keys)
            .map_err(Error::file(&keys))?;
        Self::lock(dir)
    }

    /// Opens a repository, waiting until no other process changes it.
    ///
    /// # Errors
    ///
    /// [`Error::NoRepository`] where `init` has not been finished, [`Error::File`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        if !dir.join("keys/state.json").exists() {
            return Err(Error::NoRepository(dir.to_owned()));
        }
        let repo = Self::lock(dir)?;
        repo.part_the_directors_keys()?;
        Ok(repo)
    }

    /// In a desk from before the director's snapshot had a key of its own, that of its timestamp has both
    /// roles until one of them is rotated.
    fn part_the_directors_keys(&self) -> Result<(), Error> {
        let (snapshot, timestamp) = (KeyName::DirectorSnapshot, KeyName::DirectorTimestamp);
        let (path, shared) = (self.key_path(snapshot), self.key_path(timestamp));
        match !path.exists() && shared.exists() {
            true => self.open_key(&shared)?.store(&path),
            false => Ok(()),
        }
    }

    /// The same, for whoever cannot wait: [`Error::Busy`] where another process changes it.
    ///
    /// # Errors
    ///
    /// As [`Repo::open`].
    pub fn open_now(dir: &Path) -> Result<Self, Error> {
        if !dir.join("keys/state.json").exists() {
            return Err(Error::NoRepository(dir.to_owned()));
        }
        Self::try_lock(dir)?.ok_or_else(|| Error::Busy(dir.to_owned()))
    }

    /// Whether the vehicle is known, without waiting for anybody.
    pub(crate) fn knows(dir: &Path, vin: &Vin) -> bool {
        dir.join(format!("keys/vehicles/{vin}.json")).exists()
    }

    fn lock(dir: &Path) -> Result<Self, Error> {
        if let Some(repo) = Self::try_lock(dir)? {
            return Ok(repo);
        }
        eprintln!(
            "oem: waiting for another oem that changes {}",
            dir.display()
        );
        let path = dir.join("keys/lock");
        let lock = File::create(&path).map_err(Error::file(&path))?;
        lock.lock().map_err(Error::file(&path))?;
        Ok(Self::locked(dir, lock))
    }

    fn try_lock(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join("keys/lock");
        let lock = File::create(&path).map_err(Error::file(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self::locked(dir, lock))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::file(&path)(error)),
        }
    }

    fn locked(dir: &Path, lock: File) -> Self {
        Self {
            dir: dir.to_owned(),
            unlock: Unlock::default(),
            _lock: lock,
        }
    }

    /// The same repository, whose keys are opened so.
    #[must_use]
    pub fn with_unlock(mut self, unlock: Unlock) -> Self {
        self.unlock = unlock;
        self
    }

    /// Opens a key file.
    ///
    /// # Errors
    ///
    /// As [`SigningKey::open`].
    pub(crate) fn open_key(&self, path: &Path) -> Result<SigningKey, Error> {
        SigningKey::open(path, &self.unlock)
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file at a path of [`campaign::layout`].
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }

    /// A signing key.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Corrupt`].
    pub fn key(&self, name: KeyName) -> Result<SigningKey, Error> {
        self.open_key(&self.key_path(name))
    }

    pub(crate) fn key_path(&self, name: KeyName) -> PathBuf {
        self.dir.join("keys").join(name.file())
    }

    /// Where `init` puts the key of the signer with this number, from 1.
    pub(crate) fn signer_path(&self, name: KeyName, number: usize) -> PathBuf {
        let first = self.key_path(name);
        match number {
            1 => first,
            _ => first.with_extension(format!("{number}.pem")),
        }
    }

    /// The keys of that name that are here: `NAME.pem`, `NAME.2.pem` and so on; others may be with
    /// their holders.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Corrupt`].
    pub fn keys(&self, name: KeyName) -> Result<Vec<SigningKey>, Error> {
        let paths = (1..=SIGNERS_MAX).map(|number| self.signer_path(name, number));
        paths
            .filter(|path| path.exists())
            .map(|path| self.open_key(&path))
            .collect()
    }

    /// The released counters.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Corrupt`].
    pub fn state(&self) -> Result<State, Error> {
        let path = self.dir.join("keys/state.json");
        files::read_json(&path, SECRET_FILE_MAX)?
            .ok_or_else(|| Error::NoRepository(self.dir.clone()))
    }

    pub(crate) fn store_state(&self, state: &State) -> Result<(), Error> {
        files::write_json(&self.dir.join("keys/state.json"), state, Access::Secret)
    }

    fn vehicle_path(&self, vin: &Vin) -> PathBuf {
        self.dir.join(format!("keys/vehicles/{vin}.json"))
    }

    /// A vehicle with its secrets.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownVehicle`], [`Error::File`], [`Error::Corrupt`].
    pub fn vehicle(&self, vin: &Vin) -> Result<VehicleRecord, Error> {
        files::read_json(&self.vehicle_path(vin), SECRET_FILE_MAX)?
            .ok_or_else(|| Error::UnknownVehicle(vin.clone()))
    }

    pub(crate) fn has_vehicle(&self, vin: &Vin) -> bool {
        self.vehicle_path(vin).exists()
    }

    pub(crate) fn store_vehicle(&self, record: &VehicleRecord) -> Result<(), Error> {
        let path = self.vehicle_path(record.vehicle.vin());
        files::write_json(&path, record, Access::Secret)
    }

    /// All vehicles, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn vins(&self) -> Result<Vec<Vin>, Error> {
        self.names("keys/vehicles")
    }

    /// What the JSON files of a folder are called, in order.
    fn names<T: FromStr + Ord>(&self, folder: &str) -> Result<Vec<T>, Error> {
        let folder = self.dir.join(folder);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::file(&folder))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::file(&folder))?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
            names.extend(name.and_then(|name| name.parse::<T>().ok()));
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) fn image_path(&self, digest: &ImageDigest) -> PathBuf {
        self.dir.join(format!("keys/images/{digest}.json"))
    }

    /// The images whose secrets are here.
    pub(crate) fn image_digests(&self) -> Result<Vec<ImageDigest>, Error> {
        self.names("keys/images")
    }

    /// The secrets of an image that was packed here.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownImage`], [`Error::File`], [`Error::Corrupt`].
    pub fn image_secrets(&self, digest: &ImageDigest) -> Result<ImageSecrets, Error> {
        let path = self.image_path(digest);
        let stored: StoredImage =
            files::read_json(&path, SECRET_FILE_MAX)?.ok_or(Error::UnknownImage(*digest))?;
        let key = stored.content_key.as_slice();
        let content_key = if let Ok(key) = key.try_into() {
            ContentKey::Aes128(key)
        } else if let Ok(key) = key.try_into() {
            ContentKey::Aes256(key)
        } else {
            return Err(Error::corrupt(
                &path,
                "content_key has neither 16 nor 32 bytes",
            ));
        };
        Ok(ImageSecrets {
            content_key,
            salt: stored.salt,
        })
    }

    pub(crate) fn store_image_secrets(
        &self,
        digest: &ImageDigest,
        secrets: &ImageSecrets,
    ) -> Result<(), Error> {
        let stored = StoredImage {
            content_key: secrets.content_key.expose().to_vec(),
            salt: secrets.salt,
        };
        files::write_json(&self.image_path(digest), &stored, Access::Secret)
    }
}

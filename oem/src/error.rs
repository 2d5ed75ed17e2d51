//! What can go wrong, and the exit code that each kind ends the program with.

use std::path::{Path, PathBuf};

use campaign::{
    ids::{EcuName, HardwareId, ImageDigest, InvalidId, SecurityCounter, SequenceNumber, Vin},
    meta::Malformed,
};

use crate::{firmware::FirmwareError, leaks::Leak};

/// The exit codes of `oem`. They are part of its interface and do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Success = 0,
    /// A file or the network failed.
    Io = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A file that was given is malformed: firmware, vehicle, image, grant.
    Input = 3,
    /// A rule of the repository refuses the request; nothing was changed.
    Refused = 4,
    /// The repository lacks or holds something that it should not; `init` may be missing.
    Repository = 5,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The operating system failed otherwise.
    #[error("{what}: {error}")]
    System {
        /// During what.
        what: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// A file that was given is not what it should be.
    #[error("{}: {reason}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A firmware file that cannot be packed.
    #[error("{}: {error}", path.display())]
    Firmware {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: FirmwareError,
    },
    /// A firmware with something in it that must not be released.
    #[error("{}: {leak}", path.display())]
    Leak {
        /// The file.
        path: PathBuf,
        /// What it is.
        leak: Leak,
    },
    /// A file longer than this tool reads.
    #[error("{}: {len} bytes, at most {max}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A name outside its rule.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The payload cannot be packed as asked.
    #[error("cannot be packed: {0}")]
    Pack(String),

    /// A key set that cannot be made or taken into use.
    #[error("key set: {0}; nothing was changed")]
    KeySet(String),
    /// A manifest that proves nothing.
    #[error("manifest of vehicle {vin}: {fault}; nothing that it says was recorded")]
    Manifest {
        /// The vehicle.
        vin: Vin,
        /// What does not hold.
        fault: Box<campaign::manifest::ManifestFault>,
    },
    /// Nothing is left to direct to.
    #[error(
        "the telematics units of these vehicles are not believed, so they get nothing: {}; `oem manifest \
         show` says why, --vin directs to one all the same",
        .0.iter().map(Vin::as_str).collect::<Vec<_>>().join(", ")
    )]
    Disbelieved(Vec<Vin>),
    /// A vehicle from before telematics units had keys.
    #[error("vehicle {0} was added without a key for its telematics unit")]
    NoTcuKey(Vin),
    /// An image that the ECU would refuse.
    #[error(
        "vehicle {vin}: ECU {ecu} said that its floor is {floor}, the image has counter {counter}; \
         --allow-downgrade writes an exception into the grants"
    )]
    BelowFloor {
        /// The vehicle.
        vin: Vin,
        /// The ECU.
        ecu: EcuName,
        /// The image's counter.
        counter: SecurityCounter,
        /// The ECU's floor.
        floor: SecurityCounter,
    },
    /// A description that is no vehicle's.
    #[error("vehicle: {0}")]
    Vehicle(String),
    /// A header that no active image key signed.
    #[error("image: {0}")]
    Header(ecu_image::verify::VerifyError),
    /// A grant for an image below what was granted before, or with a downgrade exception.
    #[error(
        "image {0} is below what was granted before, or was asked for with a downgrade exception; \
         `oem vault permit` at the vault permits it"
    )]
    NotPermitted(ImageDigest),
    /// A vault that cannot be made or used so.
    #[error("vault: {0}; nothing was changed")]
    Vault(String),
    /// The vault says no.
    #[error("the vault refuses: {0}")]
    VaultRefuses(String),
    /// The vault does not answer.
    #[error(
        "the vault at {url} cannot be asked: {reason}; see that `oem vault serve` runs there, and try again"
    )]
    VaultAway {
        /// Its address.
        url: String,
        /// Why.
        reason: String,
    },
    /// A root that cannot be made.
    #[error("root: {0}; nothing was changed")]
    Root(String),
    /// A draft that cannot be signed or published.
    #[error("draft: {0}; nothing was changed")]
    Draft(String),
    /// Too few signatures on a draft.
    #[error(
        "{shortfall} {what}; `oem sign` adds one, with the key of another person; nothing was changed"
    )]
    Signatures {
        /// Whose signatures, and on what.
        what: &'static str,
        /// How many there are.
        shortfall: campaign::meta::SignatureShortfall,
    },
    /// Too few keys of a role are at the desk.
    #[error(
        "{repository}, {role}: {needed} signatures needed, {here} of its keys here; write the request \
         with --draft, let the holders sign it with `oem sign`, then `oem publish` it"
    )]
    Signers {
        /// The repository.
        repository: campaign::layout::Repository,
        /// The role.
        role: campaign::meta::RoleName,
        /// Keys that are here.
        here: usize,
        /// The threshold.
        needed: u32,
    },
    /// `init` in a repository that has keys.
    #[error("{} holds a repository already; nothing was changed", .0.display())]
    RepositoryExists(PathBuf),
    /// The vehicle is there already.
    #[error("vehicle {0} was added before; `oem vehicle export` writes its files again")]
    VehicleExists(Vin),
    /// No such vehicle.
    #[error("no vehicle {0} in this repository; add it with `oem vehicle add`")]
    UnknownVehicle(Vin),
    /// No such ECU in the vehicle.
    #[error("vehicle {vin} has no ECU {ecu}")]
    UnknownEcu {
        /// The vehicle.
        vin: Vin,
        /// The name.
        ecu: EcuName,
    },
    /// An image that this repository did not pack.
    #[error("image {0}: this repository has no content key for it; pack it here")]
    UnknownImage(ImageDigest),
    /// The image is for other hardware.
    #[error("image is for {image}, ECU {ecu} is {hardware}")]
    Hardware {
        /// The ECU.
        ecu: EcuName,
        /// Its hardware type.
        hardware: HardwareId,
        /// The image's.
        image: HardwareId,
    },
    /// A sequence number that the ECU has already been given, or an older one.
    #[error("grant sequence {asked} for ECU {ecu}: the last one was {last}, ask for more")]
    Sequence {
        /// The ECU.
        ecu: EcuName,
        /// What was asked.
        asked: SequenceNumber,
        /// The last one issued.
        last: SequenceNumber,
    },
    /// An image below the counter that was released before.
    #[error(
        "image for {hardware} has security counter {counter}, {released} was released before; \
         --allow-downgrade writes an exception into the grants"
    )]
    Downgrade {
        /// The hardware type.
        hardware: HardwareId,
        /// The image's counter.
        counter: SecurityCounter,
        /// The highest one released.
        released: SecurityCounter,
    },
    /// Two images of one release fit the same ECUs.
    #[error("two images of this release are for {0}; release one")]
    AmbiguousHardware(HardwareId),
    /// An image that no ECU of the vehicles takes.
    #[error("no ECU of the vehicles is {0}; leave the image out or name other vehicles")]
    UnmatchedImage(HardwareId),
    /// A named vehicle without an ECU for any of the images.
    #[error("vehicle {0} has no ECU for any of the images")]
    UnmatchedVehicle(Vin),
    /// There is nothing to release to.
    #[error("the repository has no vehicle; add one with `oem vehicle add`")]
    NoVehicle,
    /// A bundle for a vehicle without a release.
    #[error("nothing has been released to vehicle {0}")]
    NotReleased(Vin),
    /// What was about to be published does not verify.
    #[error("the release would not be believed by vehicle {vin}: {error}")]
    SelfCheck {
        /// The vehicle.
        vin: Vin,
        /// The refusal.
        error: Box<campaign::VerifyError>,
    },

    /// A folder without repository.
    #[error("{} is no repository; make one with `oem --repo {} init`", .0.display(), .0.display())]
    NoRepository(PathBuf),
    /// Another process changes the repository.
    #[error("{} is being changed by another oem; try again", .0.display())]
    Busy(PathBuf),
    /// A file of the repository that cannot be understood.
    #[error("repository file {}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The audit log was tampered with, or its end is missing.
    #[error(
        "audit log, {0}; nothing was changed. Keep keys/audit.log as evidence before you begin another"
    )]
    Audit(campaign::chain::ChainError),
    /// A key at rest that nothing opens.
    #[error("{what}: give it in a file (--passphrase-file), in {variable}, or at a terminal")]
    Locked {
        /// What is asked for.
        what: String,
        /// The variable of the environment that may hold it.
        variable: &'static str,
    },
    /// A key's next passphrase, which nobody can be asked for.
    #[error("the new passphrase of {0}: give it in a file (--new), or at a terminal")]
    NoNewPassphrase(std::path::PathBuf),
    /// A token, or a key in it.
    #[error("token key {0}")]
    Token(String),
    /// A cryptographic operation failed.
    #[error("{what} failed: {reason}")]
    Crypto {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// The exit code for this error.
    #[must_use]
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::File { .. } | Self::System { .. } | Self::VaultAway { .. } => ExitCode::Io,
            Self::Input { .. }
            | Self::Firmware { .. }
            | Self::TooLong { .. }
            | Self::Id(_)
            | Self::Vehicle(_)
            | Self::Header(_)
            | Self::Pack(_) => ExitCode::Input,
            Self::NoRepository(_)
            | Self::Corrupt { .. }
            | Self::Audit(_)
            | Self::Locked { .. }
            | Self::NoNewPassphrase(_)
            | Self::Token(_)
            | Self::Crypto { .. } => ExitCode::Repository,
            _ => ExitCode::Refused,
        }
    }

    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }

    pub(crate) fn input(path: &Path, reason: impl ToString) -> Self {
        Self::Input {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl ToString) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn crypto<E: ToString>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Crypto {
            what,
            reason: error.to_string(),
        }
    }
}

impl From<Malformed> for Error {
    /// A statement of ours that has no JSON form.
    fn from(error: Malformed) -> Self {
        Self::Crypto {
            what: "canonical form",
            reason: error.to_string(),
        }
    }
}

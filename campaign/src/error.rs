//! Why a campaign is not believed: which document or target, and which rule.

use crate::{
    ids::{Serial, Vin},
    layout::Repository,
    meta::{Malformed, RoleName, SignatureShortfall},
    time::{TimeFault, UnixTime},
};
use alloc::string::String;
use core::fmt;

/// A refusal. Nothing of the documents is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyError {
    /// A document is not believed.
    Document {
        /// Its repository.
        repository: Repository,
        /// Which document and which rule.
        refusal: Refusal,
    },
    /// The director's answer about the time is not believed.
    Time(TimeFault),
    /// What the director asks for is not what may be installed.
    Target {
        /// The target's name.
        path: String,
        /// The rule.
        fault: TargetFault,
    },
}

/// A document that is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its role.
    pub role: RoleName,
    /// The name of a delegated targets role.
    pub delegated: Option<String>,
    /// Its version, where it could be read.
    pub version: Option<u64>,
    /// The rule.
    pub fault: DocumentFault,
}

impl Refusal {
    pub(crate) const fn of(
        role: RoleName,
        delegated: Option<String>,
        version: Option<u64>,
        fault: DocumentFault,
    ) -> Self {
        Self {
            role,
            delegated,
            version,
            fault,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.role.fmt(f)?;
        if let Some(name) = &self.delegated {
            write!(f, " {name:?}")?;
        }
        if let Some(version) = self.version {
            write!(f, " version {version}")?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl core::error::Error for Refusal {}

/// Why a document is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentFault {
    /// It was not supplied.
    Missing,
    /// It is not a document of its role.
    Malformed(Malformed),
    /// Too few keys of the role signed it.
    Signatures(SignatureShortfall),
    /// A root's successor is not signed by enough keys of that root.
    PredecessorSignatures(SignatureShortfall),
    /// An older version than one that was believed before, or a root that skips a version.
    Version {
        /// The lowest version acceptable; for a root, the only one.
        expected: u64,
    },
    /// Its time is over.
    Expired {
        /// When it expired.
        expires: UnixTime,
        /// The time that the caller gave.
        now: UnixTime,
    },
    /// The document that names it says another length or digest.
    NotAsNamed,
    /// No document names it: the snapshot, or the delegating role.
    NotNamed,
    /// It names an older version of a file than was named before.
    NamesOlder {
        /// The file.
        name: String,
        /// The lowest version acceptable.
        expected: u64,
    },
    /// It no longer names a file that was named before.
    NoLongerNamed(String),
    /// A director delegates, which Uptane does not know.
    Delegates,
    /// More root documents than one update may go through.
    ChainTooLong,
    /// Its statement about the repository as a whole cannot be read.
    Custom(String),
    /// It is for another vehicle.
    OtherVehicle(Vin),
}

/// Why what the director asks for may not be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetFault {
    /// Its name is no path that we use.
    Path,
    /// No SHA-256 digest of it is named.
    NoSha256,
    /// Another digest of it is named too, which nobody here would verify (Uptane Standard 2.1, clause
    /// 5.4.2.4 asks for every one).
    OtherDigest,
    /// The image repository has no such image.
    NotInImageRepository,
    /// Director and image repository differ.
    Disagreement {
        /// In which field.
        field: &'static str,
    },
    /// `custom` cannot be read; the text says where.
    Custom {
        /// Of which repository.
        repository: Repository,
        /// What is wrong.
        error: String,
    },
    /// Longer than any image.
    TooLong {
        /// The length in bytes.
        length: u64,
    },
    /// The director names no ECU for it.
    NoEcu,
    /// The vehicle has no ECU with that serial number.
    UnknownEcu(Serial),
    /// A second image for one ECU.
    EcuTwice(Serial),
    /// The ECU's hardware type is not the one that the director or the image names.
    Hardware(Serial),
    /// The install grant is not for this ECU and image.
    Grant {
        /// The ECU.
        serial: Serial,
        /// What does not fit.
        fault: GrantFault,
    },
}

/// Why a grant does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantFault {
    /// Not the length of a grant.
    Length {
        /// Length in bytes.
        len: usize,
    },
    /// Not a grant.
    Malformed(ecu_image::ParseError),
    /// For another ECU.
    Serial,
    /// For another image.
    ImageDigest,
    /// Its sequence number is not the one that the director names.
    Sequence,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document {
                repository,
                refusal,
            } => write!(f, "{repository}, {refusal}"),
            Self::Time(fault) => write!(f, "attested time: {fault}"),
            Self::Target { path, fault } => write!(f, "target {path}: {fault}"),
        }
    }
}

impl fmt::Display for DocumentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Malformed(error) => error.fmt(f),
            Self::Signatures(shortfall) => shortfall.fmt(f),
            Self::PredecessorSignatures(shortfall) => {
                write!(f, "by keys of the root before: {shortfall}")
            }
            Self::Version { expected } => write!(f, "version {expected} expected"),
            Self::Expired { expires, now } => write!(f, "expired at {expires}, it is {now}"),
            Self::NotAsNamed => f.write_str("not of the length and digest that were named"),
            Self::NotNamed => f.write_str("not named by the snapshot or its delegator"),
            Self::NamesOlder { name, expected } => {
                write!(f, "{name}: version {expected} or newer expected")
            }
            Self::NoLongerNamed(name) => write!(f, "{name} is no longer named"),
            Self::Delegates => f.write_str("a director may not delegate"),
            Self::ChainTooLong => f.write_str("too many root documents at once"),
            Self::Custom(error) => f.write_str(error),
            Self::OtherVehicle(vin) => write!(f, "is for vehicle {vin}"),
        }
    }
}

impl fmt::Display for TargetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("not a relative path of plain names"),
            Self::NoSha256 => f.write_str("no SHA-256 digest"),
            Self::OtherDigest => f.write_str("a digest beside SHA-256; name that one alone"),
            Self::NotInImageRepository => f.write_str("not in the image repository"),
            Self::Disagreement { field } => {
                write!(f, "director and image repository differ in {field}")
            }
            Self::Custom { repository, error } => write!(f, "{repository}: {error}"),
            Self::TooLong { length } => write!(f, "{length} bytes are more than an image has"),
            Self::NoEcu => f.write_str("the director names no ECU"),
            Self::UnknownEcu(serial) => write!(f, "this vehicle has no ECU {serial}"),
            Self::EcuTwice(serial) => write!(f, "a second image for ECU {serial}"),
            Self::Hardware(serial) => write!(f, "ECU {serial} has other hardware"),
            Self::Grant { serial, fault } => write!(f, "grant for ECU {serial}: {fault}"),
        }
    }
}

impl fmt::Display for GrantFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { len } => write!(f, "{len} bytes"),
            Self::Malformed(error) => error.fmt(f),
            Self::Serial => f.write_str("is for another ECU"),
            Self::ImageDigest => f.write_str("is for another image"),
            Self::Sequence => f.write_str("has another sequence number than the director names"),
        }
    }
}

impl core::error::Error for VerifyError {}
impl core::error::Error for DocumentFault {}
impl core::error::Error for TargetFault {}
impl core::error::Error for GrantFault {}

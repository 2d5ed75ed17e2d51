//! Why a command of the program failed, and the exit code that says so.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use campaign::vehicle::VehicleError;
use ecu_image::verify::VerifyError as ImageError;

use crate::config::SettingsError;
use crate::engine::{CampaignState, JournalError};
use crate::fetch::FetchError;

/// Exit codes, stable across versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Completed, or nothing to do.
    Success = 0,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// The campaign was refused; no ECU was touched.
    Rejected = 3,
    /// An ECU failed; all are as they were.
    Reverted = 4,
    /// An ECU does not answer or does not converge, or the run was stopped: run again.
    Incomplete = 5,
    /// The repository or an ECU cannot be reached; nothing was changed.
    Unreachable = 6,
    /// A file, the journal or a CAN link cannot be used.
    Io = 7,
    /// The campaign has ended without an ECU that an operator gave up.
    GivenUp = 8,
}

/// The codes as `--help` shows them.
pub const EXIT_CODES: &str = "Exit codes:
  0  completed, or nothing to do
  2  the command line or a configuration file is wrong
  3  rejected: the campaign was refused, no ECU was touched
  4  reverted: an ECU failed, all are as they were
  5  incomplete: an ECU does not answer, or the run was stopped; run again
  6  unreachable: the repository or an ECU cannot be reached, nothing was changed
  7  a file, the journal or a CAN link cannot be used
  8  given up: ended without an ECU that an operator gave up, all others are new or as they were";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<CampaignState> for Exit {
    fn from(state: CampaignState) -> Self {
        match state {
            CampaignState::Completed => Self::Success,
            CampaignState::Rejected => Self::Rejected,
            CampaignState::Reverted => Self::Reverted,
            CampaignState::Incomplete => Self::Incomplete,
            CampaignState::GivenUp => Self::GivenUp,
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A configuration file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The settings are not valid.
    #[error("{path}: {source}", path = path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: SettingsError,
    },
    /// `vehicle.json` is not valid.
    #[error("{path}: {source}", path = path.display())]
    Vehicle {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: VehicleError,
    },
    /// The pinned roots, or the stored trust, cannot be used.
    #[error("{path}: {what}", path = path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        what: String,
    },
    /// An argument makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Another process works in the state folder.
    #[error("{path} is in use by another tcu; stop it or wait for it", path = .0.display())]
    Busy(PathBuf),
    /// Something cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The metadata is refused.
    #[error("the campaign is refused: {0}")]
    Metadata(#[from] campaign::VerifyError),
    /// An image is refused.
    #[error("the image of {ecu} is refused: {what}")]
    Image {
        /// The ECU.
        ecu: String,
        /// Why.
        what: ImageFault,
    },
    /// An ECU is not the one that the campaign means, or will not take the image.
    #[error("{ecu} does not fit the campaign: {what}")]
    Mismatch {
        /// The ECU.
        ecu: String,
        /// Why.
        what: String,
    },
    /// The campaign does not fit the vehicle.
    #[error("the campaign does not fit the vehicle: {0}")]
    Unfit(#[from] crate::planner::Unfit),
    /// An ECU does not answer the inventory.
    #[error("{ecu} does not answer: {what}; nothing was changed")]
    Silent {
        /// The ECU.
        ecu: String,
        /// The step and what happened.
        what: String,
    },
    /// An ECU's preconditions are not met.
    #[error("{ecu} is not ready: {what}; nothing was changed")]
    NotReady {
        /// The ECU.
        ecu: String,
        /// Which.
        what: String,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A CAN link cannot be used.
    #[error("bus {bus}: {what}")]
    Link {
        /// The bus.
        bus: String,
        /// Why.
        what: String,
    },
    /// The local API cannot be served over TCP.
    #[error("{address}: {source}; `api.tls.listen` names the address")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The evidence was tampered with.
    #[error("{path}: it was tampered with: {what}", path = path.display())]
    Evidence {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, and where.
        what: String,
    },
    /// Somebody does not want the campaign.
    #[error("campaign {0} is declined")]
    Declined(String),
    /// The service of this machine cannot be asked.
    #[error("{socket}: no service answers: {what}; is `tcu run` running with `api.socket`?",
            socket = .socket.display())]
    Service {
        /// Its socket.
        socket: PathBuf,
        /// What happened.
        what: String,
    },
    /// The service does not do what it is asked.
    #[error("{0}")]
    Refused(String),
    /// The vehicle takes too long to say what it runs.
    #[error("the vehicle's manifest takes too long")]
    Overdue,
    /// The service could not store what it was told, so it does not count.
    #[error("{0}")]
    NotStored(String),
    /// SIGTERM or SIGINT.
    #[error("stopped; run again to go on")]
    Stopped,
}

/// Why an image is refused.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// The envelope does not verify.
    #[error(transparent)]
    Envelope(ImageError),
    /// The header says something else than the metadata.
    #[error("its header and the metadata disagree about the {0}")]
    Disagreement(&'static str),
    /// The file does not have the hash of the metadata.
    #[error("the file does not have the hash that the metadata names")]
    Hash,
}

impl Error {
    /// Names the file in an I/O error.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// Names the configuration file that cannot be read.
    pub fn configuration(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Configuration { path, source }
    }

    /// The attack that a refusal looks like; a fault of the OEM's own looks the same. Only what is refused
    /// as metadata is judged so.
    #[must_use]
    pub fn attack(&self) -> Option<campaign::Attack> {
        match self {
            Self::Metadata(error) => Some(error.attack()),
            _ => None,
        }
    }

    /// Whether what is refused now may be taken later without another campaign: metadata that have
    /// expired or are being replaced, a mirror that lags behind, a file that came damaged.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        use campaign::error::DocumentFault as Fault;
        match self {
            Self::Metadata(campaign::VerifyError::Document { refusal, .. }) => matches!(
                refusal.fault,
                Fault::Missing
                    | Fault::Expired { .. }
                    | Fault::NotAsNamed
                    | Fault::Version { .. }
                    | Fault::NamesOlder { .. }
                    | Fault::ChainTooLong
            ),
            Self::Metadata(campaign::VerifyError::Time(_)) => true,
            Self::Fetch(error) => matches!(
                error,
                FetchError::Missing(_) | FetchError::Hash(_) | FetchError::Contradiction(_)
            ),
            _ => false,
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_)
            | Self::Configuration { .. }
            | Self::Settings { .. }
            | Self::Vehicle { .. }
            | Self::Trust { .. } => Exit::Usage,
            Self::Fetch(error) => error.exit(),
            Self::Declined(_)
            | Self::Refused(_)
            | Self::Evidence { .. }
            | Self::Metadata(_)
            | Self::Image { .. }
            | Self::Mismatch { .. }
            | Self::Unfit(crate::planner::Unfit::Rules(_)) => Exit::Rejected,
            // Another time, with a fuller battery.
            Self::Unfit(crate::planner::Unfit::Battery { .. }) => Exit::Unreachable,
            Self::Silent { .. } | Self::NotReady { .. } | Self::Service { .. } | Self::Overdue => {
                Exit::Unreachable
            }
            Self::Stopped => Exit::Incomplete,
            Self::File { .. }
            | Self::NotStored(_)
            | Self::Busy(_)
            | Self::Journal(_)
            | Self::Listen { .. }
            | Self::Link { .. } => Exit::Io,
        }
    }
}

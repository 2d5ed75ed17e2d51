//! Why an ECU's job failed: at which step and what it was.

use std::fmt;

use serde::{Deserialize, Serialize};
use uds::nrc::Nrc;

use crate::profile::BootReason;

/// A step of the sequence in `docs/spec/ecu-profile.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// `22 FD01`.
    BootStatus,
    /// `22 F18C`.
    Serial,
    /// `22 F191`.
    Hardware,
    /// `22 F195`.
    Version,
    /// `10 03`.
    ExtendedSession,
    /// `31 01 0203`.
    Preconditions,
    /// `10 02`.
    ProgrammingSession,
    /// `27 01`.
    RequestSeed,
    /// `27 02`.
    SendKey,
    /// `2E F15A`.
    Fingerprint,
    /// `22 FD03`.
    KeySet,
    /// `34` for a key set.
    KeySetDownload,
    /// `36` of a key set.
    KeySetBlock,
    /// `37` after a key set.
    KeySetExit,
    /// `22 FD00`.
    Progress,
    /// `34` for grant, header and table.
    MetadataDownload,
    /// `36` of grant, header and table.
    MetadataBlock,
    /// `37` after grant, header and table.
    MetadataExit,
    /// `31 01 FF00`.
    Erase,
    /// `34` for the ciphertext pages.
    PayloadDownload,
    /// `36` of a ciphertext page.
    PayloadBlock,
    /// `37` after the ciphertext pages.
    PayloadExit,
    /// `31 01 0202`.
    Check,
    /// `31 01 FF01`.
    Dependencies,
    /// `31 01 0210`.
    Activate,
    /// `11 01`.
    Reset,
    /// Waiting for an answer after a reset.
    AwaitBoot,
    /// Waiting until the new image reports healthy.
    AwaitHealthy,
    /// `31 01 0212`.
    Seal,
    /// `31 01 0213`.
    Revert,
    /// `31 01 0214`.
    Report,
    /// `22 FD02`, to learn the reason behind a 0x72.
    LastFailure,
}

impl Step {
    /// A word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BootStatus => "boot status",
            Self::Serial => "serial number",
            Self::Hardware => "hardware id",
            Self::Version => "version",
            Self::ExtendedSession => "extended session",
            Self::Preconditions => "preconditions",
            Self::ProgrammingSession => "programming session",
            Self::RequestSeed => "security access, seed",
            Self::SendKey => "security access, key",
            Self::Fingerprint => "fingerprint",
            Self::KeySet => "key set",
            Self::KeySetDownload => "key set download",
            Self::KeySetBlock => "key set transfer",
            Self::KeySetExit => "key set check",
            Self::Progress => "progress",
            Self::MetadataDownload => "metadata download",
            Self::MetadataBlock => "metadata transfer",
            Self::MetadataExit => "metadata check",
            Self::Erase => "erase",
            Self::PayloadDownload => "payload download",
            Self::PayloadBlock => "payload transfer",
            Self::PayloadExit => "payload end",
            Self::Check => "memory check",
            Self::Dependencies => "dependency check",
            Self::Activate => "activation",
            Self::Reset => "reset",
            Self::AwaitBoot => "boot",
            Self::AwaitHealthy => "self-test of the new image",
            Self::Seal => "seal",
            Self::Revert => "revert",
            Self::Report => "report",
            Self::LastFailure => "last failure",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why one request brought no positive response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestError {
    /// A negative response code (ISO 14229-1 table A.1).
    Negative(u8),
    /// No response within P2 or P2*.
    Timeout,
    /// The ECU asked for more time (0x78) more often than is allowed.
    PendingLimit,
    /// The request could not be carried.
    Transport,
    /// The response to it is malformed or too long.
    Malformed,
}

impl RequestError {
    /// Whether nothing was heard of the ECU at all.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        matches!(self, Self::Timeout | Self::Transport)
    }
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The request failed.
    Request(RequestError),
    /// 0x72, with the reason and detail of FD02 where the ECU gave them.
    ProgrammingFailure {
        /// Reason of FD02, 0 where unknown.
        reason: u16,
        /// Detail of FD02.
        detail: u32,
    },
    /// The response does not say what the step needs.
    WrongContent(String),
    /// Unmet preconditions, the bits of routine 0203.
    Preconditions(u8),
    /// The ECU gave the new image up and runs another.
    FellBack(BootReason),
    /// The new image did not report healthy in time.
    NotHealthy,
    /// The new image is sealed: there is no way back.
    AlreadySealed,
    /// The new image is not the one that runs.
    NotRunning,
    /// The ECU has one update slot, and neither the new nor the image before runs.
    ImageBeforeLost,
    /// The image file could not be read.
    Source(String),
    /// The job came forward, but too slowly to end in time.
    Overdue,
    /// The vehicle cancelled the job.
    Cancelled,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(RequestError::Negative(code)) => {
                write!(f, "negative response {}", Nrc(*code))
            }
            Self::Request(RequestError::Timeout) => f.write_str("no response"),
            Self::Request(RequestError::PendingLimit) => {
                f.write_str("still \"response pending\" after the limit")
            }
            Self::Request(RequestError::Malformed) => f.write_str("malformed response"),
            Self::Request(RequestError::Transport) => {
                f.write_str("the bus did not carry the request")
            }
            Self::ProgrammingFailure { reason: 0, .. } => {
                f.write_str("the ECU refused the image (0x72)")
            }
            Self::ProgrammingFailure { reason, detail } => write!(
                f,
                "the ECU refused the image (0x72), reason {reason:04X}, detail {detail}"
            ),
            Self::WrongContent(what) => write!(f, "unexpected answer: {what}"),
            Self::Preconditions(bits) => write!(f, "unmet: {}", Unmet(*bits)),
            Self::FellBack(reason) => write!(f, "the new image was given up: {reason}"),
            Self::NotHealthy => f.write_str("not healthy in time"),
            Self::AlreadySealed => f.write_str("the new image is sealed already"),
            Self::NotRunning => f.write_str("the new image is not running"),
            Self::ImageBeforeLost => f.write_str("its one update slot has lost the image before"),
            Self::Source(what) => write!(f, "the image file cannot be read: {what}"),
            Self::Overdue => f.write_str("not done within the time that a job may take"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// The bits of routine 0203 in words.
struct Unmet(u8);

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = ["standstill", "supply voltage", "consent of the application"];
        let mut first = true;
        for (bit, word) in words.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{}{word}", if first { "" } else { ", " })?;
                first = false;
            }
        }
        if first {
            write!(f, "condition 0x{:02X}", self.0)?;
        }
        Ok(())
    }
}

/// A job's failure: the step and what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step.
    pub step: Step,
    /// What went wrong there.
    pub what: What,
    /// Whether the ECU holds anything of the new image, or may: then it needs a revert.
    pub touched: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.what)
    }
}

impl What {
    /// Whether a programming session can hear this only because it is over: the ECU was reset
    /// meanwhile, and its application answers, which knows no programming.
    pub(super) const fn is_another_server(&self) -> bool {
        matches!(
            self,
            Self::Request(RequestError::Negative(0x11 | 0x12 | 0x31))
        )
    }

    /// Whether the same job may succeed when it is started again.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            // Access is a matter of keys: a second wrong key brings the ECU nearer to its lock-out.
            Self::Request(RequestError::Negative(code)) => {
                !matches!(code, 0x11 | 0x12 | 0x13 | 0x31 | 0x35)
            }
            Self::Request(_) | Self::WrongContent(_) => true,
            // A page may fail to program once, a refused header will be refused again: the step decides.
            Self::ProgrammingFailure { .. } => false,
            Self::Preconditions(_) => true,
            Self::FellBack(_)
            | Self::NotHealthy
            | Self::AlreadySealed
            | Self::NotRunning
            | Self::ImageBeforeLost
            | Self::Source(_)
            | Self::Overdue
            | Self::Cancelled => false,
        }
    }
}

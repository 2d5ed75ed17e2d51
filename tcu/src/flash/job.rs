//! What an ECU is asked to do, with what, and what comes of it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ecu_image::provision::KeySetBytes;
use ecu_image::{ImageDigest, NONCE_LEN, REPORT_LEN};
use serde::{Deserialize, Serialize};
use uds::time::Duration;

use crate::profile::BootStatus;

/// A job on one ECU. Each is idempotent: it asks the ECU where it stands and does what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// Read serial, hardware, version and boot status.
    Inventory,
    /// Inventory, then ask whether the programming preconditions are met.
    Precheck,
    /// Bring the image into the ECU and have it checked.
    Stage,
    /// Let the staged image be tried.
    Activate,
    /// Wait until the image on trial reports healthy.
    AwaitHealthy,
    /// Make the healthy image final.
    Seal,
    /// Go back to the image before, or drop what is staged.
    Revert,
    /// Have the ECU report what it runs, in answer to [`Policy::nonce`] and under its own key.
    Report,
}

impl Job {
    /// Whether it changes nothing in the ECU.
    #[must_use]
    pub const fn only_asks(self) -> bool {
        matches!(self, Self::Inventory | Self::Precheck | Self::Report)
    }

    /// Its name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Precheck => "precheck",
            Self::Stage => "stage",
            Self::Activate => "activate",
            Self::AwaitHealthy => "await-healthy",
            Self::Seal => "seal",
            Self::Revert => "revert",
            Self::Report => "report",
        }
    }

    /// What it does, for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Precheck => "inventory and preconditions",
            Self::AwaitHealthy => "self-test",
            job => job.name(),
        }
    }
}

/// Random access to a packed image.
pub trait ImageSource: Send + Sync {
    /// Fills `buffer` from byte `offset` on.
    ///
    /// # Errors
    ///
    /// Whatever keeps the bytes from being read, an end before `buffer` is full included.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ImageSource for File {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl ImageSource for [u8] {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl ImageSource for Vec<u8> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read(offset, buffer)
    }
}

/// A verified image, ready to be sent, with the grant of one ECU.
#[derive(Clone)]
pub struct Target {
    /// The image's identity.
    pub image: ImageDigest,
    /// The install grant.
    pub grant: Vec<u8>,
    /// The key set that the ECU is to hold first, unless its own is as new.
    pub key_set: Option<KeySetBytes>,
    /// The packed image; why there is none where it cannot be used: only staging needs it.
    pub packed: Result<Packed, String>,
}

/// A packed image.
#[derive(Clone)]
pub struct Packed {
    /// Length of header and table pages: where the ciphertext starts.
    pub metadata_len: u32,
    /// Bytes of a page.
    pub page_size: u32,
    /// Number of pages.
    pub page_count: u32,
    /// Its bytes.
    pub source: Arc<dyn ImageSource>,
}

impl Packed {
    /// Length of all ciphertext pages.
    #[must_use]
    pub fn payload_len(&self) -> u32 {
        self.page_size.saturating_mul(self.page_count)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({:?}, {:?})", self.image, self.packed)
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pages of {}", self.page_count, self.page_size)
    }
}

/// Bounds of a job.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How often a job is started without coming further before it fails.
    pub attempts: u32,
    /// How long an ECU may say nothing at all, its bus included, before starts are counted: it may
    /// be without power for a while. An inventory does not wait.
    pub patience: Duration,
    /// Pause before the second start, doubled for each further one.
    pub backoff: Duration,
    /// Pause between two requests for a seed while a delay runs in the ECU (0x37).
    pub lockout: Duration,
    /// Longest time to wait for that delay; the ECU profile's own bound is 300 s.
    pub longest_lockout: Duration,
    /// Longest time from a reset to the first useful answer.
    pub boot_timeout: Duration,
    /// Longest time from activation to a healthy report.
    pub health_timeout: Duration,
    /// Longest time that a job may take in all, up to the request under way: an ECU may come
    /// forward and yet ask for the longest STmin before each frame.
    pub job_time: Duration,
    /// Pause between two looks at a booting ECU.
    pub poll_interval: Duration,
    /// The largest request that the transport carries.
    pub max_request_len: usize,
    /// The share of a bus's time in percent that TransferData may take while activation is not
    /// permitted, as while driving: after each block the bus is left alone for the rest. It bounds
    /// the mean; a block itself goes as fast as the ECU takes it.
    pub driving_share: Option<u8>,
    /// F15A: date YY MM DD in BCD and the tester, 7 bytes.
    pub fingerprint: [u8; 10],
    /// The question that a report answers.
    pub nonce: [u8; NONCE_LEN],
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: 3,
            patience: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
            lockout: Duration::from_secs(10),
            longest_lockout: Duration::from_secs(330),
            boot_timeout: Duration::from_secs(10),
            health_timeout: Duration::from_secs(60),
            job_time: Duration::from_secs(2 * 3600),
            poll_interval: Duration::from_millis(100),
            max_request_len: 16_384,
            driving_share: None,
            fingerprint: *b"\x00\x00\x00CANOPUS",
            nonce: [0; NONCE_LEN],
        }
    }
}

/// What a job that succeeded has learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The last boot status.
    pub status: BootStatus,
    /// F195, where the job read it.
    pub version: Option<String>,
    /// F18C, where the job read it.
    pub serial: Option<String>,
    /// F191, where the job read it.
    pub hardware: Option<String>,
    /// Its report, where the job asked for it. Whether the ECU made it only the backend can tell.
    pub report: Option<Box<[u8; REPORT_LEN]>>,
}

/// What happens on the way, for progress display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step begins. Blocks are not announced one by one.
    Step(super::Step),
    /// The ECU accepted ciphertext up to `done` of `total` bytes.
    Transferred {
        /// Bytes accepted, counted from the first page.
        done: u32,
        /// All bytes.
        total: u32,
    },
    /// The job starts again after a failure.
    Retry {
        /// Which start this will be, from 2 on.
        attempt: u32,
        /// Why.
        failure: super::Failure,
    },
}

//! What the transaction needs from outside besides its journal: a clock for people, and a box for
//! reports that are yet to be delivered.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::engine::{JournalError, Phase, Report};

/// The time of day. Nothing the transaction decides depends on it: it may jump.
pub trait Clock: Send {
    /// Seconds since 1970.
    fn unix_time(&self) -> i64;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// Zero where the system's clock stands before 1970.
    fn unix_time(&self) -> i64 {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
        elapsed.map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(0))
    }
}

/// A report as it waits for its delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredReport {
    /// Names this report for ever and everywhere: whoever counts reports counts each id once.
    pub id: String,
    /// When it was made, in seconds since 1970, by the vehicle's clock.
    pub at: i64,
    /// The phase that the transaction entered.
    pub phase: Phase,
    /// How campaign and ECUs stood.
    pub report: Report,
}

/// Reports that wait for their delivery, each kept until somebody has confirmed it: delivered at
/// least once.
pub trait Outbox {
    /// The oldest reports that are not delivered, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    fn undelivered(&self, limit: usize) -> Result<Vec<StoredReport>, JournalError>;

    /// The backend has confirmed this report; without effect on one that is not there.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: it may be delivered again.
    fn delivered(&mut self, id: &str) -> Result<(), JournalError>;

    /// Stores the report of a campaign that never became a transaction, and returns its id.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    fn store(&mut self, phase: Phase, report: &Report) -> Result<String, JournalError>;
}

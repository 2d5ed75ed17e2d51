//! The journal of a virtual TCU: in memory alone, or in SQLite on a disk that loses power.

use tcu::engine::{Journal, JournalError, Plan, Record, Report};
use tcu::journal::SqliteJournal;
use tcu::ports::{Clock, Outbox, StoredReport};

use crate::disk::{Disk, Loss};

/// Nothing depends on the time of day, so it stands still.
struct Noon;

impl Clock for Noon {
    fn unix_time(&self) -> i64 {
        1_800_000_000
    }
}

/// A journal, and what it has confirmed.
#[derive(Debug, Default)]
pub struct Ledger {
    // Dropped before its disk.
    sqlite: Option<SqliteJournal>,
    disk: Option<Disk>,
    records: Vec<Record>,
}

impl Ledger {
    /// In memory, after these records.
    #[must_use]
    pub const fn in_memory(records: Vec<Record>) -> Self {
        Self {
            sqlite: None,
            disk: None,
            records,
        }
    }

    /// A new one on a new disk, for a campaign.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn on_disk(plan: &Plan) -> Result<Self, JournalError> {
        let disk = Disk::default();
        let mut sqlite = open(&disk)?;
        sqlite.begin(plan)?;
        Ok(Self {
            sqlite: Some(sqlite),
            disk: Some(disk),
            records: Vec::new(),
        })
    }

    /// What is there after a loss of power. Before it `confirmed` records were acknowledged; they
    /// must be there, and at most one more, which was being written.
    ///
    /// # Errors
    /// In words, what does not hold.
    pub fn after_power_loss(mut self, loss: Loss) -> Result<Self, String> {
        let Some(disk) = self.disk.take() else {
            return Ok(self);
        };
        let again = disk.lose_power(loss);
        drop(self.sqlite.take());
        let mut sqlite = open(&again).map_err(|error| format!("after {loss:?}: {error}"))?;
        let entry = sqlite.last().map_err(|error| error.to_string())?;
        let found = entry.ok_or("the journal lost its campaign")?.records;
        if found.len() > self.records.len() + 1 || !found.starts_with(&self.records) {
            return Err(format!(
                "a lost record: {} of {} are left, after {loss:?}",
                found.len(),
                self.records.len()
            ));
        }
        Ok(Self {
            sqlite: Some(sqlite),
            disk: Some(again),
            records: found,
        })
    }

    /// What it has confirmed, oldest first.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The disk, where there is one.
    #[must_use]
    pub const fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Whether the disk has lost power.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.disk.as_ref().is_some_and(Disk::is_off)
    }

    /// The reports that wait.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn undelivered(&self) -> Result<Vec<StoredReport>, JournalError> {
        self.sqlite
            .as_ref()
            .map_or(Ok(Vec::new()), |sqlite| sqlite.undelivered(100))
    }

    /// The backend has confirmed a report.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn delivered(&mut self, id: &str) -> Result<(), JournalError> {
        self.sqlite
            .as_mut()
            .map_or(Ok(()), |sqlite| sqlite.delivered(id))
    }
}

fn open(disk: &Disk) -> Result<SqliteJournal, JournalError> {
    SqliteJournal::open_with_clock(&disk.path(), Box::new(Noon))
}

impl Journal for Ledger {
    fn append(&mut self, record: &Record, report: Option<&Report>) -> Result<(), JournalError> {
        if let Some(sqlite) = &mut self.sqlite {
            sqlite.append(record, report)?;
        }
        self.records.push(record.clone());
        Ok(())
    }
}

//! The engine's deliberate bugs; see [`crate::bugs`].

use uds::time::Instant;

use super::{Engine, Journal, JournalError, Phase, Progress, Record};
use crate::bugs::{Bug, has};

/// Sealing as soon as an ECU is healthy.
pub(super) fn seals_before_commit(phase: Phase, progress: Progress) -> bool {
    has(Bug::SealBeforeCommit) && phase == Phase::AwaitingHealthy && progress == Progress::Healthy
}

/// Whether this record is written after its effect. The last one of all has no effect to wait for.
pub(super) fn writes_late(record: &Record) -> bool {
    has(Bug::EffectBeforeJournal) && !matches!(record, Record::Done(_) | Record::Incomplete { .. })
}

impl Engine {
    /// Writes what should have been written before its effect.
    pub(super) fn write_late(
        &mut self,
        now: Instant,
        journal: &mut impl Journal,
    ) -> Result<(), JournalError> {
        if self.wrote.replace(now) == Some(now) {
            return Ok(());
        }
        self.drain_late(journal)
    }

    pub(super) fn drain_late(&mut self, journal: &mut impl Journal) -> Result<(), JournalError> {
        while let Some((record, report)) = self.late.pop_front() {
            journal.append(&record, report.as_ref())?;
        }
        Ok(())
    }
}

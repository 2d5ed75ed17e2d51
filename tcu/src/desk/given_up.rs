//! An operator gives up an ECU that never comes back, so that the campaign ends for the others.

use super::{Desk, NotTaken, Reply, reply};
use crate::api::GivesUp;
use crate::engine::{Engine, GivenUp, Policy};
use crate::error::Error;
use crate::evidence::Decision;
use crate::journal::SqliteJournal;

/// The longest reason that is kept, in characters.
const REASON_MAX: usize = 500;

impl Desk {
    /// Somebody gives up an ECU of the campaign under way. The journal has it before this returns, and
    /// the evidence before that; saying it again changes nothing. Only between two runs: within one the
    /// ECU may still answer.
    ///
    /// # Errors
    ///
    /// [`NotTaken`].
    pub fn give_up(&self, who: String, gives_up: &GivesUp) -> Result<Reply, NotTaken> {
        let reason: String = gives_up.reason.trim().chars().take(REASON_MAX).collect();
        if reason.is_empty() {
            return Err(NotTaken::NoReason);
        }
        let mut guard = self.inner();
        let inner = &mut *guard;
        if inner.begun.is_some() {
            return Err(NotTaken::Driven);
        }
        let mut journal = SqliteJournal::open(&inner.journal_path).map_err(Error::from)?;
        let entry = journal.last().map_err(Error::from)?;
        let Some(entry) = entry.filter(|entry| !entry.finished) else {
            return Err(NotTaken::NothingUnderWay);
        };
        let campaign = entry.plan.campaign.clone();
        if gives_up.campaign.as_ref().is_some_and(|it| *it != campaign) {
            return Err(NotTaken::AnotherUnderWay(campaign));
        }
        let mut engine = Engine::new(entry.plan, Policy::default(), &entry.records, 0);
        let name = &gives_up.ecu;
        let Some(ecu) = engine.may_give_up(name)? else {
            return reply(format!("{name} was given up before"));
        };
        inner.evidence.record(&Decision::GaveUp {
            campaign: &campaign,
            ecu: name,
            who: &who,
            reason: &reason,
        })?;
        let by = GivenUp { who, reason };
        let given_up = engine.give_up(ecu, by, &mut journal);
        given_up.map_err(Error::from)?;
        inner.gave_up = true;
        drop(guard);
        self.wake();
        reply(format!(
            "{name} is given up: campaign {campaign} goes on without it and ends with the next run"
        ))
    }

    /// A run begins, which takes notice of it.
    pub fn heed_given_up(&self) {
        self.inner().gave_up = false;
    }

    /// Whether there is a reason to look again at once: a bundle, or an ECU that was given up.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.has_upload() || self.has_given_up()
    }

    /// Whether an ECU was given up since the last run began.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.inner().gave_up
    }
}

//! The engine, its journal and the jobs, put together.

use std::collections::VecDeque;

use uds::client::TransportFault;
use uds::time::{Instant, earliest};

use super::{Address, Control, Event, Jobs, Transmit, Vehicle};
use crate::engine::{
    CampaignState, Command, Engine, JobDone, Journal, JournalError, Phase, Report,
};

/// A vehicle transaction under way.
#[derive(Debug)]
pub struct Transaction<J> {
    engine: Engine,
    jobs: Jobs,
    journal: J,
    events: VecDeque<Event>,
    phase: Option<Phase>,
    error: Option<JournalError>,
}

impl<J: Journal> Transaction<J> {
    /// The ECUs of `jobs` are those of the engine's plan, in its order, and the bus indices those of
    /// [`Engine::buses`].
    #[must_use]
    pub fn new(engine: Engine, jobs: Jobs, journal: J) -> Self {
        Self {
            engine,
            jobs,
            journal,
            events: VecDeque::new(),
            phase: None,
            error: None,
        }
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// The journal, to deliver the reports in it.
    #[must_use]
    pub fn journal_mut(&mut self) -> &mut J {
        &mut self.journal
    }

    /// The journal, after the transaction.
    #[must_use]
    pub fn into_journal(self) -> J {
        self.journal
    }

    /// The journal failed: nothing more is sent.
    #[must_use]
    pub fn error(&self) -> Option<&JournalError> {
        self.error.as_ref()
    }

    /// How the run ended.
    #[must_use]
    pub fn finished(&self) -> Option<CampaignState> {
        self.engine.finished()
    }

    /// The report as things stand.
    #[must_use]
    pub fn report(&self) -> Report {
        self.engine.report()
    }

    /// Reverts, unless COMMIT is durable.
    pub fn cancel(&mut self) {
        self.engine.cancel();
    }

    /// Brings ended jobs to the engine and its commands to the jobs, until nothing moves.
    fn pump(&mut self, now: Instant) {
        while self.error.is_none() {
            match self.step(now) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => self.error = Some(error),
            }
        }
        while let Some(event) = self.jobs.poll_event() {
            self.events.push_back(event);
        }
        if self.phase.replace(self.engine.phase()) != Some(self.engine.phase()) {
            self.events.push_back(Event::Phase(self.engine.phase()));
        }
    }

    fn step(&mut self, now: Instant) -> Result<bool, JournalError> {
        if let Some(end) = self.jobs.poll_end() {
            let result = end.result.map(|outcome| JobDone {
                version: outcome.version,
                running: outcome.status.running.0,
            });
            self.engine
                .on_job_end(now, end.ecu, result, end.cost, &mut self.journal)?;
            return Ok(true);
        }
        let Some(command) = self.engine.poll_command(now, &mut self.journal)? else {
            return Ok(false);
        };
        match command {
            Command::Start(ecu, job) => self.jobs.start(now, ecu, job),
            Command::Cancel(ecu) => self.jobs.cancel(ecu),
            Command::Quiet(bus) => self.jobs.quiet(now, bus),
            Command::Wake(bus) => self.jobs.wake(bus),
        }
        Ok(true)
    }
}

impl<J: Journal> Vehicle for Transaction<J> {
    fn handle_pdu(&mut self, now: Instant, ecu: usize, pdu: &[u8]) {
        self.jobs.handle_pdu(now, ecu, pdu);
        self.pump(now);
    }

    fn handle_receive_started(&mut self, now: Instant, ecu: usize) {
        self.jobs.handle_receive_started(now, ecu);
    }

    fn handle_sent(&mut self, now: Instant, to: Address) {
        self.jobs.handle_sent(now, to);
        self.pump(now);
    }

    fn handle_fault(&mut self, now: Instant, to: Address, fault: TransportFault) {
        self.jobs.handle_fault(now, to, fault);
        self.pump(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.jobs.handle_timeout(now);
        self.pump(now);
    }

    fn handle_control(&mut self, control: &Control) {
        if control.cancel {
            self.engine.cancel();
        }
        self.engine.permit(control.permit);
        self.jobs.set_driving(!control.permit.activate);
    }

    fn handle_question(&mut self, now: Instant, ecu: usize, did: u16) -> bool {
        self.error.is_none() && self.jobs.question(now, ecu, did)
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        loop {
            self.pump(now);
            if self.error.is_some() {
                return None;
            }
            let transmit = self.jobs.poll_transmit(now);
            if transmit.is_some() || !self.jobs.has_ended() {
                return transmit;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.engine.poll_timeout(), self.jobs.poll_timeout())
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn is_finished(&self) -> bool {
        self.error.is_some() || (self.engine.finished().is_some() && self.jobs.is_idle())
    }
}

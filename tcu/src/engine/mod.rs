//! The vehicle transaction: all ECUs on the new images, or all on the old ones.
//!
//! A pure machine. [`Engine::poll_command`] writes each decision to the journal before it hands out
//! the command that carries it out, so a restart finds every effect announced; the jobs behind the
//! commands are idempotent, so an effect announced may be repeated. After COMMIT the only way is
//! forward, before it any failure reverts every ECU.

#[cfg(feature = "deliberate-bugs")]
mod bugs;
mod decide;
#[cfg(test)]
mod diagram;
mod give_up;
mod permit;
mod plan;
mod record;
mod report;
#[cfg(test)]
mod tests;
mod together;

use std::collections::VecDeque;

use ecu_image::ImageDigest;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uds::time::{Instant, earliest};

pub use give_up::NotGivenUp;
pub use permit::Permit;
pub use plan::{Plan, PlannedEcu, Policy, Restore, Running};
pub use record::{CampaignState, Cost, GivenUp, JobDone, Phase, Record};
pub use report::{CampaignReport, EcuReport, EcuResult, Report};
pub use together::{Member, Together};

use crate::flash::{Failure, Job, Step, What};

/// The journal could not make a record durable: nothing may go on.
#[derive(Debug, thiserror::Error)]
#[error("the journal cannot be written: {0}")]
pub struct JournalError(pub String);

/// Where records become durable.
pub trait Journal {
    /// Returns when the record, and the report that it leads to, would survive a loss of power:
    /// both or none.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: the record may or may not be there, and the transaction must not go on.
    fn append(&mut self, record: &Record, report: Option<&Report>) -> Result<(), JournalError>;
}

impl Journal for Vec<Record> {
    fn append(&mut self, record: &Record, _: Option<&Report>) -> Result<(), JournalError> {
        self.push(record.clone());
        Ok(())
    }
}

/// What is to be done. ECUs and buses by their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Start a job; its end comes back through [`Engine::on_job_end`].
    Start(usize, Job),
    /// End the job that runs on this ECU as soon as it can be interrupted.
    Cancel(usize),
    /// Stop fault memory and normal communication on this bus: programming begins.
    Quiet(usize),
    /// Resume them: programming has ended.
    Wake(usize),
}

/// How far an ECU has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unchanged,
    Pending,
    Staged,
    Activated,
    Healthy,
    Sealed,
    Reverted,
}

#[derive(Debug)]
struct Ecu {
    bus: usize,
    progress: Progress,
    /// The ECU holds something of the new image, or may.
    touched: bool,
    /// `touched` before the job that runs.
    touched_before: bool,
    running: Option<Job>,
    cancelled: bool,
    /// One slot only: see [`PlannedEcu::last`].
    last: bool,
    /// The image that it should run is lost: the new one after COMMIT, and its grant is spent, or the
    /// one before while everything goes back.
    needs_grant: bool,
    /// It gets the image before again.
    restores: bool,
    /// Sealing or reverting it failed, and nothing has succeeded since.
    stuck: bool,
    /// It is asked nothing any more.
    given_up: Option<GivenUp>,
    /// Tries of a job that must converge, in this run.
    tries: u32,
    not_before: Option<Instant>,
    failure: Option<Failure>,
    version: Option<String>,
    cost: Cost,
}

/// FD02: the ECU has accepted this grant before, for an image that it gave up since.
const GRANT_REPLAYED: u16 = 0x0105;

/// The machine.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
    policy: Policy,
    buses: Vec<String>,
    quiet: Vec<bool>,
    phase: Phase,
    /// COMMIT is durable.
    committed: bool,
    /// An ECU's failure before COMMIT, or a cancellation, waits to be decided upon.
    failed: bool,
    permit: Permit,
    /// This run has named the ECUs that it could not reach.
    named: bool,
    ecus: Vec<Ecu>,
    commands: VecDeque<Command>,
    #[cfg(feature = "deliberate-bugs")]
    late: VecDeque<(Record, Option<Report>)>,
    #[cfg(feature = "deliberate-bugs")]
    wrote: Option<Instant>,
    /// The journal failed: what this machine believes may not be so.
    broken: bool,
    rng: StdRng,
}

impl Engine {
    /// A transaction that stands where `records` end: none for a new one.
    #[must_use]
    pub fn new(plan: Plan, policy: Policy, records: &[Record], seed: u64) -> Self {
        let mut buses: Vec<String> = Vec::new();
        let ecus = plan
            .ecus
            .iter()
            .map(|ecu| {
                let bus = buses.iter().position(|bus| *bus == ecu.bus);
                let bus = bus.unwrap_or_else(|| {
                    buses.push(ecu.bus.clone());
                    buses.len() - 1
                });
                Ecu::new(bus, ecu.unchanged, ecu.last)
            })
            .collect();
        let mut engine = Self {
            quiet: vec![false; buses.len()],
            plan,
            policy,
            buses,
            phase: Phase::Staging,
            committed: false,
            failed: false,
            permit: Permit::ALL,
            named: false,
            ecus,
            commands: VecDeque::new(),
            #[cfg(feature = "deliberate-bugs")]
            late: VecDeque::new(),
            #[cfg(feature = "deliberate-bugs")]
            wrote: None,
            broken: false,
            rng: StdRng::seed_from_u64(seed),
        };
        for record in records {
            engine.apply(record);
        }
        engine.named = false;
        for ecu in &mut engine.ecus {
            // Jobs that ran when the records end are started again; tries count per run.
            ecu.running = None;
            ecu.tries = 0;
        }
        engine
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The names behind bus indices.
    #[must_use]
    pub fn buses(&self) -> &[String] {
        &self.buses
    }

    /// Where the transaction stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The next thing to do; `None` until an event or [`Engine::poll_timeout`].
    ///
    /// # Errors
    ///
    /// [`JournalError`]: drop the machine; a new one from the journal goes on.
    pub fn poll_command(
        &mut self,
        now: Instant,
        journal: &mut impl Journal,
    ) -> Result<Option<Command>, JournalError> {
        for ecu in &mut self.ecus {
            ecu.not_before = ecu.not_before.filter(|due| now < *due);
        }
        #[cfg(feature = "deliberate-bugs")]
        self.write_late(now, journal)?;
        loop {
            if let Some(command) = self.commands.pop_front() {
                return Ok(Some(command));
            }
            let Some(record) = self.decide() else {
                return Ok(None);
            };
            self.make_durable(&record, journal)?;
            self.carry_out(&record);
        }
    }

    /// The job on `ecu` has ended.
    ///
    /// # Errors
    ///
    /// [`JournalError`], as for [`Engine::poll_command`].
    pub fn on_job_end(
        &mut self,
        now: Instant,
        ecu: usize,
        result: Result<JobDone, Failure>,
        cost: Cost,
        journal: &mut impl Journal,
    ) -> Result<(), JournalError> {
        let Some(job) = self.ecus.get_mut(ecu).and_then(|ecu| ecu.running.take()) else {
            return Ok(());
        };
        let result = result.and_then(|done| self.check_reverted(ecu, job, done));
        let failed = result.is_err();
        let record = Record::End {
            ecu,
            job,
            result,
            cost,
        };
        self.make_durable(&record, journal)?;
        if failed {
            self.delay(now, ecu);
        }
        self.wake_buses();
        Ok(())
    }

    /// The operator does not want the campaign any more. Without effect after COMMIT.
    pub fn cancel(&mut self) {
        self.failed = true;
    }

    /// The ECUs that lost the new image after COMMIT and refuse it under the grant they had; while
    /// everything goes back those that lost the image before, having one update slot.
    pub fn needing_grants(&self) -> impl Iterator<Item = usize> + '_ {
        let ecus = self.ecus.iter().enumerate();
        ecus.filter(|(_, ecu)| ecu.needs_grant)
            .map(|(index, _)| index)
    }

    fn take_grant(&mut self, index: usize, grant: &str) {
        if let Some(planned) = self.plan.ecus.get_mut(index) {
            grant.clone_into(&mut planned.grant);
        }
        if let Some(ecu) = self.ecus.get_mut(index) {
            ecu.needs_grant = false;
            ecu.stuck = false;
        }
    }

    fn take_image(&mut self, index: usize, image: &Restore) {
        if let Some(planned) = self.plan.ecus.get_mut(index) {
            planned.restore = Some(image.clone());
        }
        if let Some(ecu) = self.ecus.get_mut(index) {
            ecu.needs_grant = false;
            ecu.stuck = false;
            ecu.restores = true;
            ecu.progress = Progress::Pending;
        }
    }

    /// When [`Engine::poll_command`] is due again without an event.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = |ecu: &&Ecu| ecu.running.is_none() && self.next_job(ecu).is_some();
        let due = self.ecus.iter().filter(waiting).map(|ecu| ecu.not_before);
        due.fold(None, earliest)
    }

    /// How the run ended: the transaction is done, or nothing more can be done in this run.
    #[must_use]
    pub fn finished(&self) -> Option<CampaignState> {
        if self.broken {
            return None;
        }
        if let Phase::Done(state) = self.phase {
            return Some(state);
        }
        (self.named && self.is_stuck()).then_some(CampaignState::Incomplete)
    }

    /// Nothing follows from a record before it is durable.
    fn make_durable(
        &mut self,
        record: &Record,
        journal: &mut impl Journal,
    ) -> Result<(), JournalError> {
        self.apply(record);
        let report = record.is_reported().then(|| self.report());
        #[cfg(feature = "deliberate-bugs")]
        if bugs::writes_late(record) {
            self.late.push_back((record.clone(), report));
            return Ok(());
        }
        #[cfg(feature = "deliberate-bugs")]
        self.drain_late(journal)?;
        journal
            .append(record, report.as_ref())
            .inspect_err(|_| self.broken = true)
    }

    /// What a record means for the state: the same live and after a restart.
    fn apply(&mut self, record: &Record) {
        match record {
            Record::Start { ecu, job } => {
                if let Some(ecu) = self.ecus.get_mut(*ecu) {
                    ecu.start(*job);
                }
            }
            Record::End {
                ecu,
                job,
                result,
                cost,
            } => {
                let committed = self.phase == Phase::Sealing;
                let reverting = self.phase == Phase::Reverting;
                if let Some(ecu) = self.ecus.get_mut(*ecu) {
                    ecu.end(*job, result, *cost, committed);
                    // A job that was only paused starts again.
                    let paused = |failure: &Failure| failure.what == What::Cancelled;
                    let failed = result
                        .as_ref()
                        .err()
                        .is_some_and(|failure| !paused(failure));
                    self.failed |= failed && !reverting && !committed;
                    let going_on = result.is_err() && !failed;
                    ecu.stuck = (failed || going_on && ecu.stuck) && (reverting || committed);
                }
            }
            Record::Incomplete { ecus } => {
                self.named = true;
                for index in ecus {
                    if let Some(ecu) = self.ecus.get_mut(*index) {
                        ecu.stuck = true;
                    }
                }
            }
            Record::GiveUp { ecu, by } => {
                if let Some(ecu) = self.ecus.get_mut(*ecu) {
                    ecu.give_up(by);
                }
            }
            Record::Regrant { ecu, grant } => self.take_grant(*ecu, grant),
            Record::Restore { ecu, image } => self.take_image(*ecu, image),
            _ => {
                self.committed |= *record == Record::Commit;
                self.phase = record.phase().unwrap_or(self.phase);
            }
        }
    }

    /// The commands that a record announces.
    fn carry_out(&mut self, record: &Record) {
        match record {
            Record::Start { ecu: index, job } => {
                let Some(bus) = self.ecus.get(*index).map(|ecu| ecu.bus) else {
                    return;
                };
                // Only before the first of a bus: 10 03 to all would end a programming session.
                if *job == Job::Stage && self.staging_on(bus) == 1 {
                    self.commands.push_back(Command::Quiet(bus));
                    self.set_quiet(bus, true);
                }
                self.commands.push_back(Command::Start(*index, *job));
            }
            Record::Revert => self.interrupt(|_| true),
            _ => {}
        }
    }

    /// Ends the running jobs of a kind at their next occasion.
    fn interrupt(&mut self, which: impl Fn(Job) -> bool) {
        for (index, ecu) in self.ecus.iter_mut().enumerate() {
            if ecu.running.is_some_and(&which) && !ecu.cancelled {
                ecu.cancelled = true;
                self.commands.push_back(Command::Cancel(index));
            }
        }
    }

    fn set_quiet(&mut self, bus: usize, quiet: bool) {
        if let Some(flag) = self.quiet.get_mut(bus) {
            *flag = quiet;
        }
    }

    /// Buses on which nothing is being staged, nor will be, carry their normal traffic again.
    fn wake_buses(&mut self) {
        for bus in 0..self.buses.len() {
            let more = |ecu: &Ecu| ecu.bus == bus && self.next_job(ecu) == Some(Job::Stage);
            let more = !self.failed && self.permit.stage && self.ecus.iter().any(more);
            let quiet = self.quiet.get(bus).copied().unwrap_or(false);
            if quiet && !more && self.staging_on(bus) == 0 {
                self.set_quiet(bus, false);
                self.commands.push_back(Command::Wake(bus));
            }
        }
    }

    /// A job that must converge is tried again later.
    fn delay(&mut self, now: Instant, index: usize) {
        let jitter: f64 = self.rng.random_range(0.0..0.25);
        let Some(ecu) = self.ecus.get_mut(index) else {
            return;
        };
        let pause = self.policy.converge_backoff * (1 << ecu.tries.saturating_sub(1).min(6));
        ecu.not_before = match self.phase {
            Phase::Sealing => Some(now + pause + pause.mul_f64(jitter)),
            Phase::Reverting if ecu.tries > 0 => Some(now + pause + pause.mul_f64(jitter)),
            _ => None,
        };
    }

    /// A revert must end on the image that ran before, where that is known.
    fn check_reverted(&self, ecu: usize, job: Job, done: JobDone) -> Result<JobDone, Failure> {
        let before = self.plan.ecus.get(ecu).map(|ecu| ecu.from.image);
        let none = ImageDigest::ZERO;
        let expected = before.filter(|image| *image != none);
        if job != Job::Revert
            || done.running == none
            || expected.is_none_or(|image| image == done.running)
        {
            return Ok(done);
        }
        let one_slot = self.ecus.get(ecu).is_some_and(|ecu| ecu.last);
        Err(Failure {
            step: Step::AwaitBoot,
            what: match one_slot {
                true => What::ImageBeforeLost,
                false => What::WrongContent("neither the new nor the previous image runs".into()),
            },
            touched: true,
        })
    }
}

/// What brings the image before back into an ECU that lost it.
const fn restoring(progress: Progress) -> Option<Job> {
    match progress {
        Progress::Pending => Some(Job::Stage),
        Progress::Staged => Some(Job::Activate),
        Progress::Activated => Some(Job::AwaitHealthy),
        Progress::Healthy => Some(Job::Seal),
        Progress::Unchanged | Progress::Sealed | Progress::Reverted => None,
    }
}

impl Ecu {
    fn new(bus: usize, unchanged: bool, last: bool) -> Self {
        Self {
            bus,
            progress: if unchanged {
                Progress::Unchanged
            } else {
                Progress::Pending
            },
            touched: false,
            touched_before: false,
            running: None,
            cancelled: false,
            last,
            needs_grant: false,
            restores: false,
            stuck: false,
            given_up: None,
            tries: 0,
            not_before: None,
            failure: None,
            version: None,
            cost: Cost::default(),
        }
    }

    fn is_healthy(&self) -> bool {
        let healthy = matches!(self.progress, Progress::Unchanged | Progress::Healthy);
        healthy || cfg!(feature = "deliberate-bugs") && self.progress == Progress::Sealed
    }

    fn start(&mut self, job: Job) {
        self.running = Some(job);
        self.cancelled = false;
        self.not_before = None;
        // Until its end is known a job may have done all or nothing.
        self.touched_before = self.touched;
        self.touched = true;
    }

    fn end(&mut self, job: Job, result: &Result<JobDone, Failure>, cost: Cost, committed: bool) {
        self.running = None;
        self.cost.bytes += cost.bytes;
        self.cost.micros += cost.micros;
        match result {
            Ok(done) => {
                self.version = done.version.clone().or(self.version.take());
                self.tries = 0;
                self.progress = match job {
                    Job::Stage => Progress::Staged,
                    Job::Activate => Progress::Activated,
                    Job::AwaitHealthy => Progress::Healthy,
                    Job::Seal if self.restores => Progress::Reverted,
                    Job::Seal => Progress::Sealed,
                    Job::Revert => Progress::Reverted,
                    Job::Inventory | Job::Precheck | Job::Report => self.progress,
                };
                self.touched = self.progress != Progress::Reverted;
            }
            Err(failure) => {
                self.touched = self.touched_before || failure.touched;
                if failure.what == What::Cancelled {
                    return;
                }
                self.tries += 1;
                let spent = matches!(failure.what, What::ProgrammingFailure { reason, .. } if reason == GRANT_REPLAYED);
                let forward = committed || self.restores;
                self.needs_grant |= forward && job == Job::Stage && spent;
                self.needs_grant |= failure.what == What::ImageBeforeLost;
                let gone = matches!(failure.what, What::NotRunning | What::FellBack(_));
                if forward && gone {
                    self.progress = Progress::Pending;
                    // What it said before that is so no more.
                    self.version = None;
                }
                // The first reason counts: what follows from a revert does not explain it.
                if job != Job::Revert || self.failure.is_none() {
                    self.failure = Some(failure.clone());
                }
            }
        }
    }
}

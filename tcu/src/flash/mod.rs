//! The machine that drives one ECU through the sequence of `docs/spec/ecu-profile.md`.
//!
//! It knows no socket, clock or runtime. Call [`Flash::poll_action`] until it says what to wait
//! for; give each request's result to [`Flash::on_response`]. ISO-TP, P2 timing, 0x78, 0x21 and
//! lost responses belong to the UDS client between this machine and the bus.

mod failure;
mod job;
mod request;
mod sequence;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::VecDeque;

use ecu_image::REPORT_LEN;
use ecu_image::crypto::MacKey;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uds::time::{Duration, Instant};

pub use failure::{Failure, RequestError, Step, What};
pub use job::{Event, ImageSource, Job, Outcome, Packed, Policy, Target};

use crate::profile::BootStatus;
use transfer::Transfer;

/// What the machine wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send this request to the ECU and report its result.
    Request(&'a [u8]),
    /// A request is under way; nothing to do before its result.
    Idle,
    /// Nothing to do before then.
    Wait(Instant),
    /// The job has ended.
    Done(&'a Result<Outcome, Failure>),
}

/// Where the machine stands.
#[derive(Debug)]
enum State {
    /// The request of this step is to be sent.
    Send(Step),
    /// The response of this step is awaited.
    Await(Step),
    /// A pause before this step.
    Pause(Instant, Step),
    /// The end.
    Done(Result<Outcome, Failure>),
}

/// One job on one ECU.
#[derive(Debug)]
pub struct Flash {
    job: Job,
    target: Option<Target>,
    access_key: MacKey,
    policy: Policy,
    rng: StdRng,
    state: State,
    /// The request being sent; the buffer is used again for each block.
    pdu: Vec<u8>,
    events: VecDeque<Event>,
    announced: Option<Step>,
    /// The end of the time that the job may take.
    ends: Option<Instant>,
    cancelled: bool,
    /// Starts since the ECU last came further.
    attempt: u32,
    /// Starts in all.
    starts: u32,
    /// When the ECU last said anything.
    heard: Option<Instant>,
    /// Where the ECU's durable pages ended at the last start.
    durable: u32,
    touched: bool,
    bytes: u64,
    /// The end of waiting for a boot or a healthy report.
    deadline: Option<Instant>,
    /// The end of waiting for a seed.
    unlock_by: Option<Instant>,
    transfer: Option<Transfer>,
    seed: Vec<u8>,
    unlocked: bool,
    /// The bootloader has opened a programming session: what the job needs is there.
    programming: bool,
    status: Option<BootStatus>,
    serial: Option<String>,
    hardware: Option<String>,
    version: Option<String>,
    report: Option<Box<[u8; REPORT_LEN]>>,
    /// A refusal whose reason is being read.
    refused: Option<Step>,
}

impl Flash {
    /// A job on one ECU. All jobs need a target but those that only ask.
    #[must_use]
    pub fn new(
        job: Job,
        target: Option<Target>,
        access_key: MacKey,
        policy: Policy,
        seed: u64,
    ) -> Self {
        Self {
            job,
            target,
            access_key,
            policy,
            rng: StdRng::seed_from_u64(seed),
            state: State::Send(Step::BootStatus),
            pdu: Vec::new(),
            events: VecDeque::new(),
            announced: None,
            ends: None,
            cancelled: false,
            attempt: 1,
            starts: 1,
            heard: None,
            durable: 0,
            touched: !job.only_asks() && job != Job::Stage,
            bytes: 0,
            deadline: None,
            unlock_by: None,
            transfer: None,
            seed: Vec::new(),
            unlocked: false,
            programming: false,
            status: None,
            serial: None,
            hardware: None,
            version: None,
            report: None,
            refused: None,
        }
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> Job {
        self.job
    }

    /// Page bytes that the ECU accepted: what it had when the job began, and what this job sent,
    /// repetitions included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What has happened since the last call, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether it is to end at its next occasion.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Ends the job after the request that is under way, if any.
    pub fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// What to do now.
    pub fn poll_action(&mut self, now: Instant) -> Action<'_> {
        if let State::Pause(until, step) = self.state
            && (now >= until || self.cancelled)
        {
            self.state = State::Send(step);
        }
        self.heard.get_or_insert(now);
        let ends = *self.ends.get_or_insert(now + self.policy.job_time);
        if let State::Send(step) = self.state
            && now >= ends
        {
            self.end(step, What::Overdue);
        }
        if let State::Send(step) = self.state
            && self.begin(step)
        {
            self.state = State::Await(step);
            return Action::Request(&self.pdu);
        }
        match &self.state {
            State::Done(result) => Action::Done(result),
            State::Pause(until, _) => Action::Wait(*until),
            State::Await(_) | State::Send(_) => Action::Idle,
        }
    }

    /// The result of the request that is under way: the positive response, or why there is none.
    pub fn on_response(&mut self, now: Instant, response: Result<&[u8], RequestError>) {
        let State::Await(step) = self.state else {
            return;
        };
        if !response.as_ref().is_err_and(RequestError::is_silence) {
            self.heard = Some(now);
        }
        let next = match response {
            Ok(pdu) => self.on_positive(now, step, pdu),
            Err(error) => self.on_failed_request(now, step, error),
        };
        match next {
            Ok(next) => self.state = next,
            Err(what) => self.fail(now, step, what),
        }
        if self.cancelled && !matches!(self.state, State::Done(_)) {
            self.end(step, What::Cancelled);
        }
    }

    /// Builds the request of a step; `false` where the job ends instead.
    fn begin(&mut self, step: Step) -> bool {
        self.touched |= step == Step::MetadataDownload;
        let built = match self.cancelled {
            true => Err(What::Cancelled),
            false => self.build(step),
        };
        // Blocks, and looks at a booting ECU, are announced once.
        if self.announced.replace(step) != Some(step) {
            self.events.push_back(Event::Step(step));
        }
        built.map_err(|what| self.end(step, what)).is_ok()
    }

    /// Ends the job without success.
    fn end(&mut self, step: Step, what: What) {
        self.state = State::Done(Err(Failure {
            step,
            what,
            touched: self.touched,
        }));
    }

    /// A step failed: ask for the reason, start again later, or give up.
    fn fail(&mut self, now: Instant, step: Step, what: What) {
        let refused = what == What::Request(RequestError::Negative(0x72));
        if refused && self.unlocked && self.refused.is_none() {
            self.refused = Some(step);
            self.state = State::Send(Step::LastFailure);
            return;
        }
        let step = match step {
            Step::LastFailure => self.refused.unwrap_or(step),
            step => step,
        };
        // A page that failed to program may be sent again; refused metadata stays refused.
        let again = match (&what, step) {
            (What::ProgrammingFailure { .. }, step) => {
                matches!(step, Step::Erase | Step::PayloadBlock | Step::PayloadExit)
            }
            (what, _) => what.is_transient() || self.programming && what.is_another_server(),
        };
        let waits = self.waits_for(now, &what);
        if !again || (!waits && self.attempt >= self.policy.attempts) {
            return self.end(step, what);
        }
        let pause = self.pause_after(&what);
        self.attempt += u32::from(!waits);
        self.starts += 1;
        self.events.push_back(Event::Retry {
            attempt: self.starts,
            failure: Failure {
                step,
                what,
                touched: self.touched,
            },
        });
        self.transfer = None;
        self.unlocked = false;
        self.programming = false;
        self.refused = None;
        self.deadline = None;
        self.unlock_by = None;
        self.state = State::Pause(now + pause, Step::BootStatus);
    }

    /// Whether this is silence, and patience with it not yet at its end.
    fn waits_for(&self, now: Instant, what: &What) -> bool {
        let silent = matches!(what, What::Request(error) if error.is_silence());
        let patient = !self.job.only_asks();
        let until = self.heard.map(|heard| heard + self.policy.patience);
        silent && patient && until.is_some_and(|until| now < until)
    }

    /// Exponential back-off with up to a quarter of jitter, so that ECUs do not retry in step.
    fn pause_after(&mut self, what: &What) -> Duration {
        let pause = match what {
            What::Request(RequestError::Negative(0x36)) => self.policy.lockout,
            _ => self.policy.backoff * (1 << (self.attempt - 1).min(6)),
        };
        let jitter: f64 = self.rng.random_range(0.0..0.25);
        pause + pause.mul_f64(jitter)
    }
}

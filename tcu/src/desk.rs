//! Where answers meet campaigns: the policy with its durable memory, the evidence, and the control
//! of what runs. Shared by the service and its local API.

mod given_up;
mod said;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempPath;
use tokio::sync::watch;

use crate::board::{Board, Doing};
use crate::engine::{CampaignState, NotGivenUp, Permit, Phase, Plan, Report};
use crate::error::Error;
use crate::evidence::{Change, Changed, Decision, Evidence, Rxswins};
use crate::output::Line;
use crate::policy::{Answer, Memory, Mode, Now, Policy, Refusal, Rules, Verdict, Why};
use crate::state::State;
use crate::vehicle::Control;

/// The answers, in the state folder.
const MEMORY: &str = "policy.json";
/// The RXSWINs that apply, in the state folder.
const RXSWINS: &str = "rxswin.json";
/// A clock that was set is noticed after this at the latest.
const LOOK: Duration = Duration::from_secs(30);

/// What is on offer, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The campaign.
    pub campaign: String,
    /// What it waits for; nothing while it is being installed.
    pub waits_for: Option<String>,
    /// How it comes to be installed.
    pub mode: Mode,
    /// How often it was postponed, and may be.
    pub postponed: u32,
    /// See `postponed`.
    pub postpone_limit: u32,
    /// Who consented.
    pub consent: Option<Answer>,
    /// Who does not want it.
    pub declined: Option<Answer>,
}

/// What was made of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// What happens now.
    pub done: String,
}

/// Why an answer is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It makes no sense now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The point of no return is behind the campaign.
    #[error("the campaign is committed: all ECUs were healthy, and it is being completed")]
    Committed,
    /// Postponing and uploads are for what has not begun.
    #[error("a campaign is being installed; it can be cancelled, or awaited")]
    Installing,
    /// The vehicle takes its campaigns from elsewhere.
    #[error("the vehicle follows a hawkBit server, and takes no bundles")]
    Follows,
    /// No campaign is under way.
    #[error("no campaign is under way: nothing holds up the next one")]
    NothingUnderWay,
    /// Another campaign is under way than the one that is meant.
    #[error("campaign {0} is under way, not that one")]
    AnotherUnderWay(String),
    /// A run asks the ECUs at this moment.
    #[error(
        "the campaign is being driven: the ECU may still answer. Once the run has ended incomplete \
         (`tcu status`), ask again; or stop the service and ask then"
    )]
    Driven,
    /// Why is to be recorded.
    #[error("`reason` is empty: say why, for the record")]
    NoReason,
    /// It holds nothing up.
    #[error(transparent)]
    NotGivenUp(#[from] NotGivenUp),
    /// It could not be made durable, so it does not count.
    #[error("{0}")]
    NotStored(#[from] Error),
}

#[derive(Debug)]
struct Inner {
    policy: Policy,
    evidence: Evidence,
    memory_path: PathBuf,
    rxswins_path: PathBuf,
    journal_path: PathBuf,
    /// Somebody gave an ECU up, and the campaign can go on.
    gave_up: bool,
    /// The RXSWINs that apply, and those that will once the campaign that runs is completed.
    rxswins: (BTreeMap<String, String>, BTreeMap<String, String>),
    /// What lets campaigns begin: the service, or somebody at the command line.
    by: String,
    /// The campaign that is being installed, and its phase.
    begun: Option<(String, Option<Phase>)>,
    waiting: Option<Why>,
    upload: Option<TempPath>,
    takes_uploads: bool,
    preconditions: Value,
    paused: bool,
    stored: Times,
}

/// The times that are stored, of which a write behind every look at the clock would be one too many.
#[derive(Debug, Clone, Copy)]
struct Times {
    latest: u64,
    behind: Option<u64>,
}

impl Times {
    fn of(memory: &Memory) -> Self {
        Self {
            latest: memory.latest,
            behind: memory.behind.map(|(_, steady)| steady),
        }
    }

    fn is_old(self, memory: &Memory) -> bool {
        let now = Self::of(memory);
        let far = |one: u64, other: u64| one.abs_diff(other) > 600;
        let behind = match (self.behind, now.behind) {
            (Some(then), Some(now)) => far(then, now),
            (then, now) => then != now,
        };
        far(self.latest, now.latest) || behind
    }
}

impl Inner {
    /// What applies once this plan is completed: what it does not name stays.
    fn expect_rxswins(&mut self, plan: &Plan) {
        let mut after = self.rxswins.0.clone();
        after.extend(plan.rxswins.clone());
        self.rxswins.1 = after;
    }

    /// What was expected applies. That it cannot be stored does not undo what has happened.
    fn take_rxswins(&mut self) {
        let (before, after) = (&self.rxswins.0, &self.rxswins.1);
        if before == after || after.is_empty() {
            return;
        }
        if let Err(error) = store(&self.rxswins_path, after) {
            tracing::error!(%error, "the RXSWINs cannot be stored; the evidence has them");
        }
        self.rxswins.0 = after.clone();
    }
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    inner: Mutex<Inner>,
    control: watch::Sender<Control>,
    board: Arc<Board>,
    /// By the clock that counts suspended time too.
    started: Duration,
}

impl Desk {
    /// With the answers and the evidence of the state folder. Answers that cannot be read count as
    /// none: whoever gave them is asked again.
    ///
    /// # Errors
    ///
    /// [`Error::File`]: the evidence cannot be written.
    pub fn new(
        state: &State,
        rules: Rules,
        by: String,
        control: watch::Sender<Control>,
        board: Arc<Board>,
    ) -> Result<Self, Error> {
        let memory_path = state.dir().join(MEMORY);
        let rxswins_path = state.dir().join(RXSWINS);
        let memory = recall(&memory_path, "the answers; they are asked for again");
        let inner = Inner {
            stored: Times::of(&memory),
            policy: Policy::new(rules, memory),
            evidence: Evidence::open(state.dir())?,
            memory_path,
            rxswins: (recall(&rxswins_path, "the RXSWINs"), BTreeMap::new()),
            rxswins_path,
            journal_path: state.journal_path(),
            gave_up: false,
            by,
            begun: None,
            waiting: None,
            upload: None,
            takes_uploads: true,
            preconditions: Value::Null,
            paused: false,
        };
        Ok(Self {
            inner: Mutex::new(inner),
            control,
            board,
            started: since_boot(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What a panic elsewhere left is consistent: each change is made in one go.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now {
            unix: crate::service::unix_time(),
            up: since_boot().saturating_sub(self.started),
        }
    }

    /// Makes a change to the policy durable, or takes it back.
    fn change<T>(
        &self,
        inner: &mut Inner,
        change: impl FnOnce(&mut Policy) -> Result<T, Refusal>,
    ) -> Result<T, NotTaken> {
        let before = inner.policy.clone();
        let result = change(&mut inner.policy)?;
        if inner.policy.memory() != before.memory()
            && let Err(error) = store(&inner.memory_path, inner.policy.memory())
        {
            inner.policy = before;
            return Err(error.into());
        }
        Ok(result)
    }

    /// Waits until a campaign may be installed, by policy and preconditions.
    ///
    /// # Errors
    ///
    /// [`Error::Declined`], [`Error::Stopped`], [`Error::File`].
    pub async fn wait(&self, plan: &Plan) -> Result<(), Error> {
        let mut control = self.control.subscribe();
        self.offer(plan)?;
        loop {
            let wanted = *control.borrow_and_update();
            if wanted.stop {
                return Err(Error::Stopped);
            }
            let (why, rest) = match self.verdict()? {
                Verdict::Declined => return Err(Error::Declined(plan.campaign.clone())),
                Verdict::Go if wanted.permit.stage => return Ok(()),
                Verdict::Go => (None, None),
                Verdict::Wait(why, rest) => (Some(why), rest),
            };
            self.inner().waiting = why;
            let waits = format!("campaign {} waits for {}", plan.campaign, words(why));
            self.board.set(Doing::Waiting, &waits);
            tokio::select! {
                () = tokio::time::sleep(rest.unwrap_or(LOOK).min(LOOK)) => {}
                _ = control.changed() => {}
            }
        }
    }

    fn offer(&self, plan: &Plan) -> Result<(), Error> {
        let mut inner = self.inner();
        let content = plan.content();
        if inner.policy.offers(&plan.campaign, &content) {
            return Ok(());
        }
        inner.evidence.record(&Decision::Offered {
            campaign: &plan.campaign,
            ecus: Change::of(plan),
        })?;
        self.policy(&mut inner, |policy| policy.offer(&plan.campaign, &content))
    }

    fn verdict(&self) -> Result<Verdict, Error> {
        let now = self.now();
        let mut inner = self.inner();
        self.policy(&mut inner, |policy| policy.verdict(now))
    }

    /// A change that nobody can refuse. The time of day alone is not worth a write.
    fn policy<T>(
        &self,
        inner: &mut Inner,
        change: impl FnOnce(&mut Policy) -> T,
    ) -> Result<T, Error> {
        let before = inner.policy.memory().clone();
        let result = change(&mut inner.policy);
        let after = inner.policy.memory();
        let same = Memory {
            latest: after.latest,
            behind: after.behind,
            ..before.clone()
        };
        if same != *after || inner.stored.is_old(after) {
            inner.stored = Times::of(after);
            store(&inner.memory_path, after)?;
        }
        Ok(result)
    }

    /// Records that a campaign begins.
    ///
    /// # Errors
    ///
    /// [`Error::File`]: it does not.
    pub fn start(&self, plan: &Plan) -> Result<(), Error> {
        let mut guard = self.inner();
        let inner = &mut *guard;
        inner.expect_rxswins(plan);
        let memory = inner.policy.memory();
        inner.evidence.record(&Decision::Started {
            campaign: &plan.campaign,
            by: &inner.by,
            mode: Some(inner.policy.rules().mode),
            consent: memory.consent.as_ref(),
            preconditions: &inner.preconditions,
            rxswins: Rxswins {
                before: &inner.rxswins.0,
                after: &inner.rxswins.1,
            },
            ecus: Change::of(plan),
        })?;
        inner.begun = Some((plan.campaign.clone(), None));
        inner.waiting = None;
        Ok(())
    }

    /// What the journal holds goes on. What was cancelled just before the program died still is.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn resume(&self, plan: &Plan) -> Result<(), Error> {
        let campaign = plan.campaign.as_str();
        let mut inner = self.inner();
        inner.expect_rxswins(plan);
        inner.evidence.record(&Decision::Resumed { campaign })?;
        inner.begun = Some((campaign.to_owned(), None));
        let memory = inner.policy.memory();
        if memory.campaign == campaign && memory.declined.is_some() {
            self.control.send_modify(|control| control.cancel = true);
        }
        Ok(())
    }

    /// The transaction enters a phase. That it cannot be recorded does not stop what has begun.
    pub fn phase(&self, phase: Phase) {
        let mut inner = self.inner();
        let Some((campaign, known)) = &mut inner.begun else {
            return;
        };
        let campaign = campaign.clone();
        if known.replace(phase) == Some(phase) || matches!(phase, Phase::Done(_)) {
            return;
        }
        if let Line::Phase { phase, .. } = Line::phase(phase) {
            let campaign = &campaign;
            note(&mut inner.evidence, &Decision::Phase { campaign, phase });
        }
    }

    /// The installation has ended, or rests until the next run.
    pub fn end(&self, report: &Report) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        inner.begun = None;
        inner.waiting = None;
        let before = inner.rxswins.0.clone();
        if report.campaign.state == CampaignState::Completed {
            inner.take_rxswins();
        }
        note(
            &mut inner.evidence,
            &Decision::Ended {
                campaign: &report.campaign.id,
                report,
                rxswins: Rxswins {
                    before: &before,
                    after: &inner.rxswins.0,
                },
                ecus: Changed::of(report),
            },
        );
        if report.campaign.state != CampaignState::Incomplete {
            let campaign = &report.campaign.id;
            if let Err(error) = self.policy(inner, |policy| policy.end(campaign)) {
                tracing::error!(%error, "the answers to a campaign that has ended cannot be deleted");
            }
        }
        drop(guard);
        self.control.send_modify(|control| control.cancel = false);
    }

    /// All ECUs run what a campaign names: its RXSWINs apply, also where the program died just before
    /// it could take them.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn applies(&self, plan: &Plan) -> Result<(), Error> {
        let mut guard = self.inner();
        let inner = &mut *guard;
        inner.expect_rxswins(plan);
        if inner.rxswins.0 == inner.rxswins.1 {
            return Ok(());
        }
        let before = inner.rxswins.0.clone();
        inner.evidence.record(&Decision::Applies {
            campaign: &plan.campaign,
            rxswins: Rxswins {
                before: &before,
                after: &inner.rxswins.1,
            },
        })?;
        inner.take_rxswins();
        Ok(())
    }

    /// The installation ended before it began, or without a report.
    pub fn abandon(&self, why: &impl std::fmt::Display) {
        let mut inner = self.inner();
        inner.waiting = None;
        if let Some((campaign, _)) = inner.begun.take() {
            let (campaign, why) = (&campaign, &why.to_string());
            note(&mut inner.evidence, &Decision::Abandoned { campaign, why });
        }
        drop(inner);
        self.control.send_modify(|control| control.cancel = false);
    }

    /// What the preconditions permit, and how they stand. A campaign that rests because of them says
    /// so.
    pub fn permit(&self, permit: Permit, preconditions: Value, unmet: &str) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        inner.preconditions = preconditions;
        let paused = permit != Permit::ALL;
        let was = std::mem::replace(&mut inner.paused, paused);
        if let Some((campaign, _)) = inner.begun.as_ref().filter(|_| paused != was) {
            let preconditions = &inner.preconditions;
            let decision = match paused {
                true => Decision::Paused {
                    campaign,
                    preconditions,
                },
                false => Decision::Continued {
                    campaign,
                    preconditions,
                },
            };
            note(&mut inner.evidence, &decision);
            let line = match paused {
                true => Line::Paused {
                    detail: unmet.to_owned(),
                },
                false => Line::Continued,
            };
            self.board.line(&line);
        }
        drop(guard);
        self.control.send_if_modified(|control| {
            let before = std::mem::replace(&mut control.permit, permit);
            before != permit
        });
    }

    /// How the preconditions stand.
    #[must_use]
    pub fn preconditions(&self) -> Value {
        self.inner().preconditions.clone()
    }

    /// What is on offer.
    #[must_use]
    pub fn on_offer(&self) -> Option<Offer> {
        let inner = self.inner();
        let (memory, rules) = (inner.policy.memory(), inner.policy.rules());
        if memory.campaign.is_empty() || (inner.begun.is_none() && inner.waiting.is_none()) {
            return None;
        }
        Some(Offer {
            campaign: memory.campaign.clone(),
            waits_for: inner.waiting.map(|why| words(Some(why)).to_owned()),
            mode: rules.mode,
            postponed: memory.postponed,
            postpone_limit: rules.postpone_limit,
            consent: memory.consent.clone(),
            declined: memory.declined.clone(),
        })
    }

    /// Whether a campaign waits at the desk.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let inner = self.inner();
        inner.begun.is_none() && self.board.status().doing == Doing::Waiting
    }

    /// Whether a bundle would be taken now.
    ///
    /// # Errors
    ///
    /// [`NotTaken`].
    pub fn may_upload(&self) -> Result<(), NotTaken> {
        self.inner().may_upload()
    }

    /// Whoever waits looks again.
    fn wake(&self) {
        self.control.send_modify(|_| {});
    }
}

/// The time since the system was started, that in which it was suspended included: a vehicle's computer is
/// seldom off. Where there is no such clock no time passes, and nothing settles.
fn since_boot() -> Duration {
    let clock = nix::time::ClockId::CLOCK_BOOTTIME;
    clock.now().map_or(Duration::ZERO, Duration::from)
}

fn reply(done: String) -> Result<Reply, NotTaken> {
    Ok(Reply { done })
}

/// What a campaign waits for, in words.
fn words(why: Option<Why>) -> &'static str {
    match why {
        Some(Why::Consent) => "consent",
        Some(Why::Postponed) => "the end of its postponement",
        Some(Why::Window) => "a maintenance window",
        Some(Why::Clock) => "a clock that has been steady for a while",
        None => "its preconditions",
    }
}

/// Records what has happened already: that it cannot be recorded changes nothing about it.
fn note(evidence: &mut Evidence, decision: &Decision<'_>) {
    if let Err(error) = evidence.record(decision) {
        tracing::error!(%error, "a decision is missing in the evidence");
    }
}

/// What a file of the state folder holds; nothing where it cannot be read.
fn recall<T: Default + DeserializeOwned>(path: &Path, what: &str) -> T {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            let path = path.display();
            tracing::error!(%path, %error, "cannot be read: {what}");
            T::default()
        }),
        Err(_) => T::default(),
    }
}

fn store(path: &Path, content: &impl Serialize) -> Result<(), Error> {
    let bytes = serde_json::to_vec(content).unwrap_or_default();
    crate::state::replace(path, &bytes).map_err(Error::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/proc/uptime` counts suspended time, in hundredths of a second.
    #[test]
    fn the_clock_of_policies_is_the_one_that_counts_suspended_time() {
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let seconds = text.split(' ').next().unwrap().parse().unwrap();
            Duration::from_secs_f64(seconds)
        };
        let tick = Duration::from_millis(20);
        let before = uptime();
        let now = since_boot() + tick;
        let after = uptime() + tick + tick;
        assert!(
            before <= now && now <= after,
            "{before:?} {now:?} {after:?}"
        );
    }
}

//! The driver: requests, campaigns and time around the [`Machine`].

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::{Answer, Deployment, Fate, Machine, Memory, Order, Policy, Reports, Server};
use crate::engine::{CampaignState, EcuResult, Report};
use crate::error::{Error, Exit};
use crate::fetch::{Announced, FetchError, HttpSource, Limits, Origin, Source};
use crate::install::Context;
use crate::manifest::Courier;
use crate::output::Output;
use crate::ports::Outbox;
use crate::state::State;
use crate::vehicle::Control;

/// How often new reports are looked for while a campaign runs.
const LOOK: Duration = Duration::from_secs(1);
/// How often reports are looked for while nothing runs.
const DELIVER: Duration = Duration::from_secs(60);
/// Most reports that are told at once.
const REPORTS_MAX: usize = 8;

/// Whom the vehicle follows, and whom it tells.
#[derive(Debug)]
pub struct Channel<'a> {
    /// Says when to look.
    pub server: &'a Server,
    /// Has the metadata, and images that nobody else has: an https URL.
    pub repository: &'a str,
    /// Gets the reports; without it the server's feedback tells of them.
    pub reports: Option<&'a Reports>,
    /// Bounds and choices.
    pub policy: Policy,
}

/// Repository and announced images of one deployment.
struct Campaign<'r> {
    repository: &'r str,
    announced: Announced,
    begun: &'r Begun,
    memory: &'r Path,
}

/// What is known of the campaign that runs.
#[derive(Debug, Default)]
struct Begun {
    /// ECUs are touched, or may be.
    touched: AtomicBool,
    /// Its name, where it was begun here and the machine has not been told.
    campaign: std::sync::Mutex<Option<String>>,
}

impl Begun {
    fn campaign(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.campaign.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin for Campaign<'_> {
    fn open(&self, ca: Option<&Path>) -> Result<Source, FetchError> {
        let source = HttpSource::new(self.repository, ca, Limits::default())?;
        Ok(Source::Http(source.with(self.announced.clone())))
    }

    fn begins(&self, campaign: &str) -> Result<(), Error> {
        Memory::begin(self.memory, campaign)?;
        *self.begun.campaign() = Some(campaign.to_owned());
        self.begun.touched.store(true, Ordering::Relaxed);
        Ok(())
    }
}

type Work<'w> = Pin<Box<dyn Future<Output = Result<Fate, Error>> + 'w>>;
type Delivery<'w> = Pin<Box<dyn Future<Output = Result<bool, Error>> + 'w>>;
type Exchange<'w> = Pin<Box<dyn Future<Output = Answer> + 'w>>;
type Telling<'w> = Pin<Box<dyn Future<Output = ()> + 'w>>;

/// Follows the channel's server until told to stop.
///
/// # Errors
///
/// [`Error::Journal`], [`Error::File`]: without its memory the vehicle starts nothing.
pub async fn run(
    mut context: Context,
    channel: Channel<'_>,
    state: &State,
    output: &mut Output,
) -> Result<(), Error> {
    let Channel {
        server,
        repository,
        reports,
        policy,
    } = channel;
    let (set, control) = watch::channel(*context.control.borrow());
    let mut outer = std::mem::replace(&mut context.control, control);
    let memory_path = Memory::path(state.dir());
    let last = state.journal()?.last()?;
    let resumes = last.filter(|entry| !entry.finished);
    let resumes = resumes.map(|entry| entry.plan.campaign);
    let epoch = Instant::now();
    let seed = crate::random().random();
    let memory = Memory::load(&memory_path);
    let courier = Courier::new(&context, repository, policy.interval)?;
    let mut machine = Machine::new(
        server.root().clone(),
        policy,
        memory,
        resumes.as_deref(),
        seed,
        Duration::ZERO,
    );
    let begun = Begun::default();
    let job = JobContext {
        context: &context,
        repository,
        server,
        state,
        output: &Mutex::new(output),
        begun: &begun,
        courier: &Mutex::new(courier),
        memory: &memory_path,
    };
    let mut manifest: Option<Telling<'_>> = None;
    let (mut work, mut exchange): (Option<Work<'_>>, Option<Exchange<'_>>) = (None, None);
    let (mut delivery, mut deliver_at): (Option<Delivery<'_>>, _) = (None, Duration::ZERO);
    tell_reports(&mut machine, &begun, state)?;
    loop {
        if work.is_some() {
            tell_reports(&mut machine, &begun, state)?;
        }
        let until = loop {
            match machine.next(epoch.elapsed()) {
                Order::Send(request) => {
                    exchange = Some(Box::pin(async move { server.exchange(&request).await }));
                }
                Order::Remember(memory) => memory.store(&memory_path)?,
                Order::Install(deployment) => work = Some(Box::pin(job.install(deployment))),
                Order::Resume => work = Some(Box::pin(job.resume())),
                Order::Prepare(deployment) => work = Some(Box::pin(job.prepare(deployment))),
                Order::Delivered(id) if reports.is_none() => state.journal()?.delivered(&id)?,
                Order::Delivered(_) => {}
                Order::Abandon if begun.touched.load(Ordering::Relaxed) => {
                    set.send_modify(|control| control.cancel = true);
                }
                Order::Abandon => {
                    work = None;
                    machine.on_fate(epoch.elapsed(), Fate::Abandoned);
                }
                Order::Wait(until) => break until,
            }
        };
        let now = epoch.elapsed();
        if let Some(reports) = reports.filter(|_| now >= deliver_at) {
            deliver_at = Duration::MAX;
            delivery = Some(Box::pin(reports.deliver(state)));
        }
        let look = if work.is_some() { LOOK } else { Duration::MAX };
        let due = until.min(deliver_at).saturating_sub(now);
        let mut pause = due.min(look);
        if work.is_none() && manifest.is_none() {
            match job.manifest_in() {
                Some(Duration::ZERO) => manifest = Some(Box::pin(job.tell())),
                rest => pause = pause.min(rest.unwrap_or(Duration::MAX)),
            }
        }
        tokio::select! {
            answer = ready(&mut exchange) => {
                exchange = None;
                machine.on_answer(epoch.elapsed(), answer);
            }
            delivered = ready(&mut delivery) => {
                delivery = None;
                let again = if work.is_some() || !delivered? { LOOK * 5 } else { DELIVER };
                deliver_at = epoch.elapsed().saturating_add(again);
            }
            fate = ready(&mut work) => {
                work = None;
                deliver_at = deliver_at.min(epoch.elapsed());
                tell_reports(&mut machine, &begun, state)?;
                set.send_modify(|control| control.cancel = false);
                machine.on_fate(epoch.elapsed(), fate?);
            }
            () = ready(&mut manifest) => manifest = None,
            () = tokio::time::sleep(pause.min(Duration::from_secs(86_400))) => {}
            _ = outer.changed() => {
                let wanted = *outer.borrow_and_update();
                set.send_modify(|control| {
                    *control = Control { cancel: wanted.cancel || control.cancel, ..wanted };
                });
                if wanted.stop {
                    return end(machine, work, &begun, state).await;
                }
            }
        }
    }
}

/// Lets what runs come to its own end, and remembers what became of it.
async fn end(
    mut machine: Machine,
    work: Option<Work<'_>>,
    begun: &Begun,
    state: &State,
) -> Result<(), Error> {
    let memory = &Memory::path(state.dir());
    if let Some(work) = work {
        let fate = work.await;
        tell_reports(&mut machine, begun, state)?;
        machine.on_fate(Duration::ZERO, fate?);
    }
    loop {
        match machine.next(Duration::ZERO) {
            Order::Remember(what) => what.store(memory)?,
            Order::Wait(_) | Order::Send(_) => return Ok(()),
            _ => {}
        }
    }
}

/// What is there, or never.
async fn ready<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + '_>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Tells what has begun, and what the journal reports and the server has not got yet.
fn tell_reports(machine: &mut Machine, begun: &Begun, state: &State) -> Result<(), Error> {
    if let Some(campaign) = begun.campaign().take() {
        machine.on_begun(&campaign);
    }
    for stored in state.journal()?.undelivered(REPORTS_MAX)? {
        let ecus = &stored.report.ecus;
        let done = |ecu: &&crate::engine::EcuReport| {
            matches!(ecu.state, EcuResult::Sealed | EcuResult::Unchanged)
        };
        let phase = crate::output::phase_name(stored.phase);
        machine.on_report(
            &stored.id,
            &stored.report.campaign.id,
            phase,
            ecus.iter().filter(done).count(),
            ecus.len(),
        );
    }
    Ok(())
}

/// Whether the campaign is refused for good: the server offers what may pass again.
fn is_refusal(error: &Error) -> bool {
    error.exit() == Exit::Rejected && !error.may_pass()
}

/// What campaigns need.
struct JobContext<'r, 'o> {
    context: &'r Context,
    repository: &'r str,
    server: &'r Server,
    state: &'r State,
    output: &'r Mutex<&'o mut Output>,
    begun: &'r Begun,
    memory: &'r Path,
    /// Whoever talks to the ECUs holds it: one at a time.
    courier: &'r Mutex<Courier>,
}

impl JobContext<'_, '_> {
    /// How long until a manifest is due; `None` where none can be sent, or somebody talks to the ECUs.
    fn manifest_in(&self) -> Option<Duration> {
        let due = self.courier.try_lock().ok()?.due()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Tells the backend what the ECUs run.
    async fn tell(&self) {
        let mut courier = self.courier.lock().await;
        let mut output = self.output.lock().await;
        courier.deliver(self.context, self.state, &mut output).await;
    }

    async fn install(&self, deployment: Deployment) -> Result<Fate, Error> {
        let mut courier = self.courier.lock().await;
        let campaign = self.campaign(&deployment);
        let mut output = self.output.lock().await;
        if !self.context.is_at_rest(self.state)? {
            let why = "another campaign has not ended".to_owned();
            return Ok(Fate::Unfinished { begun: true, why });
        }
        let mut name = None;
        let (context, state) = (self.context, self.state);
        let prepared = context.prepare(&campaign, state, &mut output, &mut name);
        let installed = match prepared.await {
            Ok((plan, _)) => context.execute(&campaign, plan, state, &mut output).await,
            Err(error) => Err(error),
        };
        courier.owe();
        let report = match installed {
            Err(error) if is_refusal(&error) => context.rejected(name, &error),
            Err(error) => return self.fate(Err(error)),
            Ok(report) => report,
        };
        output.report(&report);
        self.fate(Ok(report))
    }

    async fn resume(&self) -> Result<Fate, Error> {
        let mut courier = self.courier.lock().await;
        self.begun.touched.store(true, Ordering::Relaxed);
        let mut output = self.output.lock().await;
        let resumed = self
            .context
            .resume(self.repository, self.state, &mut output)
            .await;
        courier.owe();
        match resumed {
            Ok(Some(report)) => {
                output.report(&report);
                self.fate(Ok(report))
            }
            Ok(None) => Ok(Fate::Abandoned),
            Err(error) => self.fate(Err(error)),
        }
    }

    async fn prepare(&self, deployment: Deployment) -> Result<Fate, Error> {
        let campaign = self.campaign(&deployment);
        let mut output = self.output.lock().await;
        let mut name = None;
        let verified = self
            .context
            .verify(&campaign, self.state, &mut output, &mut name);
        match verified.await {
            Ok(_) => Ok(Fate::Prepared),
            Err(error) if is_refusal(&error) => Ok(Fate::Failed(error.to_string())),
            Err(error) => self.fate(Err(error)),
        }
    }

    fn campaign(&self, deployment: &Deployment) -> Campaign<'_> {
        self.begun.touched.store(false, Ordering::Relaxed);
        Campaign {
            repository: self.repository,
            announced: self.server.announced(deployment),
            begun: self.begun,
            memory: self.memory,
        }
    }

    /// What a run means for the action. Without a journal nothing more may be started.
    fn fate(&self, run: Result<Report, Error>) -> Result<Fate, Error> {
        let begun = self.begun.touched.load(Ordering::Relaxed);
        let report = match run {
            Ok(report) => report,
            Err(error @ Error::Journal(_)) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the campaign is not at an end");
                let why = error.to_string();
                return Ok(Fate::Unfinished { begun, why });
            }
        };
        let reasons = report.ecus.iter().filter_map(|ecu| {
            let reason = ecu.reason.as_ref()?;
            Some(format!("{}: {reason}", ecu.name))
        });
        let why: Vec<_> = report
            .campaign
            .reason
            .iter()
            .cloned()
            .chain(reasons)
            .collect();
        let why = why.join("; ");
        Ok(match report.campaign.state {
            CampaignState::Completed => Fate::Completed,
            CampaignState::Rejected | CampaignState::Reverted | CampaignState::GivenUp => {
                Fate::Failed(why)
            }
            CampaignState::Incomplete => Fate::Unfinished { begun, why },
        })
    }
}

//! `tcu run`: polls, installs, and tells systemd how it goes, until it is told to stop.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::RngExt;
use tempfile::TempPath;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::{self, Access};
use crate::board::{Board, Doing};
use crate::ddi;
use crate::desk::Desk;
use crate::engine::{CampaignState, EcuReport, EcuResult, Report};
use crate::error::{Error, Exit};
use crate::install::Context;
use crate::manifest::Courier;
use crate::notify::Notifier;
use crate::output::Output;
use crate::policy::Rules;
use crate::preconditions::{self, Preconditions};
use crate::state::State;
use crate::vehicle::Control;

/// How often it is asked whether a campaign that waits is to give way.
const LOOK: Duration = Duration::from_secs(1);

/// A service that is about to run.
#[derive(Debug)]
pub struct Service<'a> {
    /// The opened state folder.
    pub state: &'a State,
    /// The hawkBit server that says when to look, if any.
    pub server: Option<ddi::Server>,
    /// The backend that gets every report, if any.
    pub reports: Option<ddi::Reports>,
    /// The https URL of the repository.
    pub repository: String,
    /// When to look.
    pub policy: ddi::Policy,
    /// When campaigns may begin.
    pub rules: Rules,
    /// Where the local API is served, if it is.
    pub access: Option<Access>,
    /// In which situation of the vehicle they go on; always where there are none.
    pub preconditions: Option<Preconditions>,
}

/// The last refusal that was shown: a repository that stays the same says nothing new.
#[derive(Debug, Default)]
struct Refused(Option<String>);

/// How often a bundle is tried that could not be decided upon, as where an ECU does not answer.
const TRIES: u32 = 10;
/// Before it is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// A bundle that was brought. It is the source until it is decided upon; then it is deleted.
#[derive(Debug)]
struct Bundle {
    path: TempPath,
    tries: u32,
}

/// What a look means for a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It was installed or refused.
    Decided,
    /// Something else came first and is done: it is looked at now.
    Again,
    /// It could not be decided upon, or something else is not at its end.
    Later,
}

impl After {
    /// Where the journal held something, the source was not looked at.
    fn resumed(resumed: &Result<Option<Report>, Error>) -> Self {
        match resumed {
            Ok(None) => Self::Decided,
            Ok(Some(_)) => Self::Again,
            Err(_) => Self::Later,
        }
    }
}

impl Bundle {
    const fn new(path: TempPath) -> Self {
        Self { path, tries: 0 }
    }

    /// What is left of it.
    fn after(self, after: After) -> Option<Self> {
        let tries = self.tries + u32::from(after == After::Later);
        if after == After::Later && tries >= TRIES {
            tracing::warn!("the bundle was tried {tries} times, and is dropped");
        }
        (after != After::Decided && tries < TRIES).then_some(Self { tries, ..self })
    }
}

impl Service<'_> {
    /// Runs until SIGTERM or SIGINT. A failed poll is logged: the next one may succeed, unless the
    /// configuration is wrong.
    ///
    /// # Errors
    ///
    /// A wrong configuration, and a journal that cannot be used: without one nothing may be started.
    pub async fn run(
        self,
        mut context: Context,
        control: watch::Sender<Control>,
        output: Output,
    ) -> Result<Exit, Error> {
        let board = Arc::new(Board::new());
        let mut output = output.on(&board);
        // Without a journal the service would never be of use.
        let mended = self.state.mend_journal()?;
        let (rules, by) = (self.rules.clone(), "the service".into());
        let desk = Desk::new(self.state, rules, by, control, board.clone())?;
        let desk = Arc::new(desk);
        if let Some((file, why)) = mended {
            tracing::error!(file, why, "the journal is damaged, and is set aside");
            desk.set_aside(&file, &why)?;
        }
        context.desk = Some(desk.clone());
        if self.server.is_some() {
            desk.refuse_uploads();
        }
        self.say_what_is_missing(&context);
        let watch = self.preconditions.clone();
        let (vehicle, lines) = (&context.vehicle, &context.lines);
        let watch = watch.map(|machine| preconditions::start(machine, vehicle, lines, &desk));
        let access = self.access.clone();
        let api = access.map(|access| api::serve(access, desk.clone(), board.clone()));
        let api = api.transpose()?;
        let herald = tokio::spawn(herald(Notifier::from_env(), board.changes()));
        let result = match &self.server {
            Some(server) => {
                board.set(Doing::Idle, "following the hawkBit server");
                let channel = ddi::Channel {
                    server,
                    repository: &self.repository,
                    reports: self.reports.as_ref(),
                    policy: self.policy.clone(),
                };
                ddi::run(context, channel, self.state, &mut output).await
            }
            None => {
                let looks = self.look_until_stopped(&context, &desk, &board, &mut output);
                looks.await
            }
        };
        api.iter().chain(&watch).for_each(JoinHandle::abort);
        board.set(Doing::Stopping, "stopping");
        end(herald).await;
        result.map(|()| Exit::Success)
    }

    /// What a vehicle seldom means to be without.
    fn say_what_is_missing(&self, context: &Context) {
        if self.server.is_none() && self.repository.is_empty() {
            tracing::warn!(
                "no server is named (repository.url, --url): campaigns come as bundles alone"
            );
        }
        if context.tcu_key.is_none() {
            tracing::info!("no key of the TCU (tcu.pem, tcu-key): the backend gets no manifests");
        }
    }

    /// Looks for campaigns at the repository and where bundles are brought.
    async fn look_until_stopped(
        &self,
        context: &Context,
        desk: &Desk,
        board: &Board,
        output: &mut Output,
    ) -> Result<(), Error> {
        let mut refused = Refused::default();
        let mut courier = Courier::new(context, &self.repository, self.policy.interval)?;
        let mut control = context.control.clone();
        let mut bundle: Option<Bundle> = None;
        loop {
            bundle = desk.take_upload().map(Bundle::new).or(bundle);
            desk.heed_given_up();
            let brought = bundle.as_ref().and_then(|bundle| bundle.path.to_str());
            let origin = brought.unwrap_or(&self.repository);
            let jitter: f64 = crate::random().random_range(0.0..0.25);
            let pause = self.policy.interval + self.policy.interval.mul_f64(jitter);
            let due = Instant::now() + pause;
            let after = if origin.is_empty() && context.is_at_rest(self.state)? {
                After::Decided
            } else {
                board.set(Doing::Checking, "looking for a campaign");
                courier.deliver(context, self.state, output).await;
                let look = self.look(context, origin, board, output, &mut refused);
                tokio::select! {
                    looked = look => {
                        let (installed, after) = looked?;
                        if installed {
                            courier.owe();
                        }
                        match after {
                            // Nothing was put off for what went on.
                            After::Again if brought.is_none() => After::Decided,
                            after => after,
                        }
                    }
                    () = superseded(desk, &control, due) => After::Again,
                }
            };
            bundle = bundle.and_then(|bundle| bundle.after(after));
            if after != After::Again {
                let pause = bundle.as_ref().map_or(pause, |_| pause.min(RETRY));
                let detail = match bundle {
                    Some(_) => format!("the bundle is tried again in {} s", pause.as_secs()),
                    None if self.repository.is_empty() => "no repository; waits for bundles".into(),
                    None => format!("next poll in {} s", self.policy.interval.as_secs()),
                };
                board.set(Doing::Idle, &detail);
                let rest = async {
                    self.deliver().await?;
                    let end = Instant::now() + pause;
                    while Instant::now() < end {
                        courier.deliver(context, self.state, output).await;
                        let due = courier.due().map_or(end, |due| due.min(end));
                        tokio::time::sleep_until(due).await;
                    }
                    Ok::<_, Error>(())
                };
                tokio::select! {
                    rested = rest => rested?,
                    _ = control.wait_for(|control| control.stop || desk.has_news()) => {}
                }
            }
            if control.borrow().stop {
                return Ok(());
            }
        }
    }

    /// Brings waiting reports to the backend, if there is one.
    async fn deliver(&self) -> Result<(), Error> {
        match &self.reports {
            Some(reports) => reports.deliver(self.state).await.map(drop),
            None => Ok(()),
        }
    }

    /// Goes on with what the journal holds, or asks the repository. Whether the ECUs may run something
    /// else now, and what that means for a bundle.
    async fn look(
        &self,
        context: &Context,
        origin: &str,
        board: &Board,
        output: &mut Output,
        refused: &mut Refused,
    ) -> Result<(bool, After), Error> {
        let resumed = context.resume(origin, self.state, output).await;
        let after = After::resumed(&resumed);
        let result = match resumed {
            Ok(Some(report)) => Ok(Some(report)),
            Ok(None) => self.ask(context, origin, output, refused).await,
            Err(error) => Err(error),
        };
        board.count(|metrics| metrics.polls += 1);
        match result {
            Ok(report) => {
                board.count(|metrics| metrics.last_poll = unix_time());
                let changed = |ecu: &EcuReport| ecu.state != EcuResult::Unchanged;
                let installed = report
                    .as_ref()
                    .is_some_and(|it| it.ecus.iter().any(changed));
                let incomplete =
                    |report: &Report| report.campaign.state == CampaignState::Incomplete;
                let after = match report.as_ref().is_some_and(incomplete) {
                    true => After::Later,
                    false => after,
                };
                report.into_iter().for_each(|report| output.report(&report));
                Ok((installed, after))
            }
            Err(Error::Stopped) => Ok((false, After::Later)),
            Err(error @ Error::Journal(_)) => Err(error),
            Err(error) if error.exit() == Exit::Usage => Err(error),
            Err(error) => {
                board.count(|metrics| metrics.failed_polls += 1);
                tracing::warn!(%error, "the poll failed");
                Ok((false, After::Later))
            }
        }
    }

    /// Installs what the repository has. What it refuses is said once, and only where a campaign is
    /// known by its name it is a report: a repository may have nothing for this vehicle yet.
    async fn ask(
        &self,
        context: &Context,
        origin: &str,
        output: &mut Output,
        refused: &mut Refused,
    ) -> Result<Option<Report>, Error> {
        let mut name = None;
        let prepared = context.prepare(origin, self.state, output, &mut name);
        let result = match prepared.await {
            // Whoever brings it in a bundle wants it tried.
            Ok((plan, _))
                if origin == self.repository && context.has_reverted(&plan, self.state)? =>
            {
                tracing::info!(
                    campaign = plan.campaign,
                    "it was reverted before, and rests"
                );
                return Ok(None);
            }
            Ok((plan, _)) => context.execute(origin, plan, self.state, output).await,
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.exit() == Exit::Rejected => {
                let said = format!("{name:?}: {error}");
                if refused.0.replace(said.clone()) == Some(said) {
                    tracing::debug!(%error, "refused as before");
                    return Ok(None);
                }
                if name.is_none() {
                    tracing::warn!(%error, "the repository has no campaign that can be used");
                    return Ok(None);
                }
                Ok(Some(context.rejected(name, &error)))
            }
            result => {
                *refused = Refused::default();
                result.map(Some)
            }
        }
    }
}

/// A campaign that waits gives way to the next poll, and to a bundle that is brought; one that has
/// begun does not.
async fn superseded(desk: &Desk, control: &watch::Receiver<Control>, due: Instant) {
    let mut control = control.clone();
    loop {
        if desk.is_waiting() && (desk.has_upload() || Instant::now() >= due) {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = control.changed() => {}
        }
    }
}

/// Seconds since 1970; 0 before.
pub(crate) fn unix_time() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_secs())
}

/// Tells systemd what the board says, and that the runtime still turns.
async fn herald(mut notifier: Notifier, mut changes: watch::Receiver<(Doing, String)>) {
    let mut ready = false;
    // Without a watchdog an hour is as good as any time.
    let pause = notifier.watchdog().unwrap_or(Duration::from_secs(3600));
    loop {
        let (doing, detail) = changes.borrow_and_update().clone();
        notifier.status(&detail);
        if doing == Doing::Stopping {
            return notifier.stopping();
        }
        if doing != Doing::Starting && !ready {
            ready = true;
            notifier.ready();
        }
        notifier.alive();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// The last message is on its way before the process ends.
async fn end(herald: JoinHandle<()>) {
    if let Err(error) = herald.await {
        tracing::warn!(%error, "systemd was not told of the end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle {
        Bundle::new(tempfile::NamedTempFile::new().unwrap().into_temp_path())
    }

    #[test]
    fn a_bundle_is_kept_until_it_is_decided_upon_and_deleted_then() {
        let kept = bundle().after(After::Again).unwrap().after(After::Later);
        let kept = kept.unwrap();
        let path = kept.path.to_path_buf();
        assert!(path.exists());
        assert!(kept.after(After::Decided).is_none());
        assert!(!path.exists());
    }

    /// It would keep the repository from being asked for ever.
    #[test]
    fn a_bundle_that_can_never_be_decided_upon_is_dropped_in_the_end() {
        let mut left = Some(bundle());
        let mut tries = 0;
        while let Some(bundle) = left {
            left = bundle
                .after(After::Later)
                .and_then(|it| it.after(After::Again));
            tries += 1;
        }
        assert_eq!(tries, TRIES);
    }

    #[test]
    fn what_went_on_first_puts_a_bundle_off_and_does_not_decide_upon_it() {
        let plan = crate::testing::world::World::new(1).plan();
        let engine = crate::engine::Engine::new(plan, Default::default(), &[], 0);
        assert_eq!(After::resumed(&Ok(Some(engine.report()))), After::Again);
        assert_eq!(After::resumed(&Ok(None)), After::Decided);
        assert_eq!(After::resumed(&Err(Error::Overdue)), After::Later);
    }
}

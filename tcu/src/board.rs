//! What the service is doing, for all who ask: the local API, systemd, metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use crate::engine::{CampaignState, Report};
use crate::output::Line;

mod metrics;

pub use metrics::Metrics;

/// Events that a slow listener may lag behind before it misses some.
const BACKLOG: usize = 256;

/// What the service as a whole is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// It starts.
    #[default]
    Starting,
    /// It waits for the next poll.
    Idle,
    /// It asks the repository and verifies what it gets.
    Checking,
    /// A campaign waits: for consent, a window, preconditions.
    Waiting,
    /// It changes ECUs.
    Installing,
    /// A precondition was lost, and a campaign rests until it is met again.
    Paused,
    /// It ends.
    Stopping,
}

/// How far an ECU has come in the campaign under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcuProgress {
    /// The job that runs or has run last.
    pub job: String,
    /// Its step.
    pub step: String,
    /// Bytes accepted.
    pub done: u32,
    /// Bytes in all; 0 where nothing is known yet.
    pub total: u32,
    /// Why the last job failed.
    pub failure: Option<String>,
}

/// The status as it is served.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// What it is doing.
    pub doing: Doing,
    /// The same in words, with what it waits for.
    pub detail: String,
    /// The campaign under way.
    pub campaign: Option<String>,
    /// The transaction's phase: `staging`, `activating`, `awaiting-healthy`, `sealing`, `reverting`.
    pub phase: Option<String>,
    /// Whether the point of no return is behind it.
    pub committed: bool,
    /// The ECUs of the campaign under way.
    pub ecus: BTreeMap<String, EcuProgress>,
    /// The report of the last campaign of this run of the service.
    pub last_report: Option<Report>,
}

/// What is on the board.
#[derive(Debug)]
pub struct Board {
    status: Mutex<Status>,
    metrics: Mutex<Metrics>,
    lines: broadcast::Sender<Line>,
    changed: watch::Sender<(Doing, String)>,
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// A service that starts.
    #[must_use]
    pub fn new() -> Self {
        let status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            detail: "starting".into(),
            ..Status::default()
        };
        Self {
            status: Mutex::new(status),
            metrics: Mutex::new(Metrics::default()),
            lines: broadcast::channel(BACKLOG).0,
            changed: watch::channel((Doing::Starting, "starting".into())).0,
        }
    }

    /// The status as it is now.
    #[must_use]
    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// The counters as they are now.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        lock(&self.metrics).clone()
    }

    /// Counts something.
    pub fn count(&self, count: impl FnOnce(&mut Metrics)) {
        count(&mut lock(&self.metrics));
    }

    /// Every event from now on.
    #[must_use]
    pub fn lines(&self) -> broadcast::Receiver<Line> {
        self.lines.subscribe()
    }

    /// What the service is doing, whenever that changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<(Doing, String)> {
        self.changed.subscribe()
    }

    /// The service does something else.
    pub fn set(&self, doing: Doing, detail: &str) {
        let mut status = lock(&self.status);
        status.doing = doing;
        detail.clone_into(&mut status.detail);
        if !matches!(doing, Doing::Installing | Doing::Paused) {
            status.phase = None;
        }
        drop(status);
        self.changed.send_if_modified(|(last, text)| {
            let new = (*last, text.as_str()) != (doing, detail);
            (*last, *text) = (doing, detail.to_owned());
            new
        });
    }

    /// Something has happened.
    pub fn line(&self, line: &Line) {
        lock(&self.metrics).line(line);
        let mut status = lock(&self.status);
        status.line(line);
        let told = match line {
            Line::Paused { detail } => Some(format!("{}: {detail}", status.summary())),
            Line::Phase { .. } | Line::Campaign { .. } | Line::Continued => Some(status.summary()),
            _ => None,
        };
        let text = told.map(|text| (status.doing, text));
        drop(status);
        if let Some((doing, text)) = text {
            self.set(doing, &text);
        }
        // Nobody has to listen.
        let _ = self.lines.send(line.clone());
    }

    /// A campaign has ended, or rests.
    pub fn report(&self, report: &Report) {
        lock(&self.metrics).report(report);
        let mut status = lock(&self.status);
        status.committed = false;
        status.phase = None;
        status.last_report = Some(report.clone());
        if report.campaign.state != CampaignState::Incomplete {
            status.campaign = None;
            status.ecus.clear();
        }
        drop(status);
        self.set(Doing::Idle, "between two campaigns");
    }

    /// The transaction of a campaign begins or goes on.
    pub fn begin(&self, campaign: &str, ecus: &[String], committed: bool) {
        let mut status = lock(&self.status);
        status.campaign = Some(campaign.to_owned());
        status.committed = committed;
        status.ecus = ecus
            .iter()
            .map(|name| (name.clone(), EcuProgress::default()))
            .collect();
        drop(status);
        self.set(Doing::Installing, &format!("campaign {campaign}"));
    }
}

/// A panic elsewhere does not make the board unreadable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Status {
    fn line(&mut self, line: &Line) {
        match line {
            Line::Phase { phase, .. } => {
                self.phase = Some((*phase).to_owned());
                self.committed |= *phase == "sealing";
            }
            Line::Job { ecu, detail } => self.ecu(ecu, |ecu| {
                ecu.job = detail.name().into();
                ecu.step.clear();
                ecu.failure = None;
            }),
            Line::Step { ecu, step } => self.ecu(ecu, |ecu| ecu.step = step.name().into()),
            Line::Progress { ecu, done, total } => self.ecu(ecu, |ecu| {
                (ecu.done, ecu.total) = (*done, *total);
            }),
            Line::Failed { ecu, detail, .. } => {
                self.ecu(ecu, |ecu| ecu.failure = Some(detail.clone()));
            }
            Line::Done { ecu, .. } => self.ecu(ecu, |ecu| ecu.step = "done".into()),
            Line::Paused { .. } => self.doing = Doing::Paused,
            Line::Continued => self.doing = Doing::Installing,
            Line::Campaign { .. }
            | Line::Download { .. }
            | Line::Retry { .. }
            | Line::Manifest { .. } => {}
        }
    }

    /// Only the ECUs of the transaction are shown: an inventory asks others too.
    fn ecu(&mut self, name: &str, change: impl FnOnce(&mut EcuProgress)) {
        if let Some(ecu) = self.ecus.get_mut(name) {
            change(ecu);
        }
    }

    /// One line for `systemctl status`.
    fn summary(&self) -> String {
        match (&self.campaign, &self.phase) {
            (Some(campaign), Some(phase)) => format!("campaign {campaign}: {phase}"),
            (Some(campaign), None) => format!("campaign {campaign}"),
            _ => self.detail.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::{Job, Step};

    fn line(board: &Board, line: Line) {
        board.line(&line);
    }

    #[test]
    fn the_board_follows_a_transaction() {
        let board = Board::new();
        board.begin("spring", &["door".into()], false);
        let (ecu, job) = ("door".to_owned(), Job::Stage);
        line(&board, Line::phase(crate::engine::Phase::Staging));
        line(
            &board,
            Line::Job {
                ecu: ecu.clone(),
                detail: job,
            },
        );
        let step = Step::Erase;
        line(
            &board,
            Line::Step {
                ecu: ecu.clone(),
                step,
            },
        );
        let (done, total) = (10, 20);
        line(
            &board,
            Line::Progress {
                ecu: ecu.clone(),
                done,
                total,
            },
        );
        let other = "radio".to_owned();
        line(
            &board,
            Line::Job {
                ecu: other,
                detail: Job::Inventory,
            },
        );
        let status = board.status();
        assert_eq!(status.doing, Doing::Installing);
        assert_eq!(status.detail, "campaign spring: staging");
        assert_eq!(status.phase.as_deref(), Some("staging"));
        assert_eq!(status.ecus.len(), 1);
        let door = &status.ecus["door"];
        assert_eq!((door.job.as_str(), door.step.as_str()), ("stage", "erase"));
        assert_eq!((door.done, door.total), (10, 20));
        assert!(!status.committed);
        line(&board, Line::phase(crate::engine::Phase::Sealing));
        assert!(board.status().committed);
    }

    #[test]
    fn listeners_hear_events_and_changes() {
        let board = Board::new();
        let (mut lines, changes) = (board.lines(), board.changes());
        board.set(Doing::Idle, "next poll in 60 s");
        let event = Line::Campaign { detail: "x".into() };
        board.line(&event);
        assert_eq!(lines.try_recv().unwrap(), event);
        assert!(changes.has_changed().unwrap());
        assert_eq!(changes.borrow().0, Doing::Idle);
    }
}

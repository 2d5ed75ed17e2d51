//! What the server is told.

use serde::{Deserialize, Serialize};

use super::ActionId;

/// Longest detail, in characters, and most of them.
const DETAIL_MAX: usize = 512;
const DETAILS_MAX: usize = 32;

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Execution {
    /// It has ended.
    Closed,
    /// It is under way.
    Proceeding,
    /// It will be done later.
    Scheduled,
    /// It was not accepted.
    Rejected,
    /// It goes on after a restart.
    Resumed,
    /// All of it is on the vehicle.
    Downloaded,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finished {
    /// As it should.
    Success,
    /// Otherwise.
    Failure,
    /// Not yet.
    None,
}

/// The feedback on an action. It has no time: the server has the better clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// The action; newer servers take it from the path.
    pub id: ActionId,
    /// How it stands.
    pub status: Status,
    /// The stored report that it tells of.
    #[serde(skip)]
    pub report: Option<String>,
}

/// How an action stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// How far it is.
    pub execution: Execution,
    /// How it ended, and how much is done.
    pub result: Outcome,
    /// For people.
    pub details: Vec<String>,
}

/// How an action ended, and how much of it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub finished: Finished,
    /// How much is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// So many ECUs.
    pub cnt: u32,
    /// Of so many.
    pub of: u32,
}

impl Feedback {
    /// A feedback without progress.
    #[must_use]
    pub fn new(
        id: &ActionId,
        execution: Execution,
        finished: Finished,
        details: impl IntoIterator<Item = String>,
    ) -> Self {
        let details = details.into_iter().take(DETAILS_MAX);
        let bounded = details.map(|detail| detail.chars().take(DETAIL_MAX).collect());
        Self {
            id: id.clone(),
            status: Status {
                execution,
                result: Outcome {
                    finished,
                    progress: None,
                },
                details: bounded.collect(),
            },
            report: None,
        }
    }

    /// With how many ECUs are done.
    #[must_use]
    pub fn with_progress(mut self, done: usize, of: usize) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.status.result.progress = Some(Progress {
            cnt: count(done),
            of: count(of),
        });
        self
    }

    /// Whether it ends the action.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status.execution == Execution::Closed
    }
}

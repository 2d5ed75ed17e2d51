//! The journal's records: every decision of the transaction, in order.

use ecu_image::ImageDigest;
use serde::{Deserialize, Serialize};

use super::Restore;
use crate::flash::{Failure, Job};

/// How a campaign ended, or stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CampaignState {
    /// All ECUs run the new images, sealed.
    Completed,
    /// Refused before any ECU was touched.
    Rejected,
    /// All ECUs are as they were.
    Reverted,
    /// An ECU does not answer or does not converge; the next run goes on.
    Incomplete,
    /// An operator gave ECUs up of which nothing is known; all others are sealed, or as they were.
    GivenUp,
}

/// Where the transaction stands.
///
/// ```text
/// Staging > Activating > AwaitingHealthy > COMMIT > Sealing > Done(Completed)
///     \________\______________\______________> Reverting > Done(Reverted)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Images are brought into the ECUs.
    Staging,
    /// All are staged; each ECU is told to try its image.
    Activating,
    /// All are tried; each reports healthy.
    AwaitingHealthy,
    /// All were healthy and COMMIT is durable: only forward from here.
    Sealing,
    /// An ECU failed before COMMIT: everything goes back.
    Reverting,
    /// The end.
    Done(CampaignState),
}

/// What a job that succeeded leaves in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDone {
    /// The version that runs, where the job read it.
    pub version: Option<String>,
    /// The image that runs.
    pub running: ImageDigest,
}

/// What a job has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Page bytes that the ECU accepted, those that an interrupted job brought before included.
    pub bytes: u64,
    /// Time from its first request to its end.
    pub micros: u64,
}

/// One record. Each is durable before what it announces happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// A job is about to start on an ECU of the plan.
    Start {
        /// The ECU's index in the plan.
        ecu: usize,
        /// The job.
        job: Job,
    },
    /// The job has ended.
    End {
        /// The ECU's index in the plan.
        ecu: usize,
        /// The job.
        job: Job,
        /// How.
        result: Result<JobDone, Failure>,
        /// What it has cost.
        cost: Cost,
    },
    /// All ECUs are staged.
    AllStaged,
    /// All ECUs try their image.
    AllActivated,
    /// All ECUs are healthy. The point of no return.
    Commit,
    /// An ECU failed before COMMIT, or the operator cancelled: everything goes back.
    Revert,
    /// COMMIT or the revert has not reached these ECUs, by their indices, within what the policy
    /// allows to one run: the vehicle is incomplete. The next run goes on.
    Incomplete {
        /// The ECUs.
        ecus: Vec<usize>,
    },
    /// An ECU that lost the new image after COMMIT gets it again under this grant, hexadecimal; the
    /// one before is spent.
    Regrant {
        /// The ECU's index in the plan.
        ecu: usize,
        /// The grant.
        grant: String,
    },
    /// Everything goes back, and an ECU whose only update slot held the image before gets it again.
    Restore {
        /// The ECU's index in the plan.
        ecu: usize,
        /// The image and its grant.
        image: Restore,
    },
    /// An operator gives an ECU up that sealing or reverting does not reach: it is asked no more.
    GiveUp {
        /// The ECU's index in the plan.
        ecu: usize,
        /// Who, and why.
        by: GivenUp,
    },
    /// The end.
    Done(CampaignState),
}

/// Who gave an ECU up, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Who.
    pub who: String,
    /// Why, for people.
    pub reason: String,
}

impl Record {
    /// Whether the backend learns of it: each phase is reported, single jobs are not.
    #[must_use]
    pub const fn is_reported(&self) -> bool {
        self.reported_as().is_some()
    }

    /// What is reported: the phase that begins, or that the vehicle stays incomplete.
    #[must_use]
    pub const fn reported_as(&self) -> Option<Phase> {
        match self {
            Self::Incomplete { .. } => Some(Phase::Done(CampaignState::Incomplete)),
            _ => self.phase(),
        }
    }

    /// The phase that begins with this record.
    #[must_use]
    pub const fn phase(&self) -> Option<Phase> {
        Some(match self {
            Self::Start { .. }
            | Self::End { .. }
            | Self::Incomplete { .. }
            | Self::Regrant { .. }
            | Self::Restore { .. }
            | Self::GiveUp { .. } => return None,
            Self::AllStaged => Phase::Activating,
            Self::AllActivated => Phase::AwaitingHealthy,
            Self::Commit => Phase::Sealing,
            Self::Revert => Phase::Reverting,
            Self::Done(state) => Phase::Done(*state),
        })
    }
}

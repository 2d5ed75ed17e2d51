//! What is to be done next: a record for each decision, nothing without one.

use ecu_image::Digest;

use super::{CampaignState, Ecu, Engine, Phase, Progress, Record, restoring};
use crate::flash::Job;

impl Engine {
    /// Neither sealed nor reverted everywhere, and nothing left to try in this run.
    pub(super) fn is_stuck(&self) -> bool {
        let converging = matches!(self.phase, Phase::Sealing | Phase::Reverting);
        let stuck = |ecu: &Ecu| ecu.running.is_none() && self.next_job(ecu).is_none();
        let idle = self.commands.is_empty() && self.ecus.iter().all(stuck);
        converging && idle && !self.converged()
    }

    /// The ECUs that sealing or reverting has not reached.
    pub(super) fn unreached(&self) -> Vec<usize> {
        let reached = |ecu: &Ecu| self.has_converged(ecu);
        let ecus = self.ecus.iter().enumerate();
        ecus.filter(|(_, ecu)| !reached(ecu))
            .map(|(index, _)| index)
            .collect()
    }

    /// The next decision.
    pub(super) fn decide(&self) -> Option<Record> {
        match self.phase {
            Phase::Staging | Phase::Activating | Phase::AwaitingHealthy if self.failed => {
                return Some(Record::Revert);
            }
            Phase::Staging if self.first_are(Progress::Staged) => return Some(Record::AllStaged),
            Phase::Activating if self.first_are(Progress::Activated) => {
                return Some(Record::AllActivated);
            }
            Phase::AwaitingHealthy if self.ecus.iter().all(Ecu::is_healthy) => {
                return Some(Record::Commit);
            }
            Phase::Sealing if self.converged() => {
                return Some(self.end(CampaignState::Completed));
            }
            Phase::Reverting if self.converged() => {
                return Some(self.end(CampaignState::Reverted));
            }
            Phase::Done(_) => return None,
            _ if !self.named && self.is_stuck() => {
                let ecus = self.unreached();
                return Some(Record::Incomplete { ecus });
            }
            _ => {}
        }
        self.ecus.iter().enumerate().find_map(|(index, ecu)| {
            let job = self.next_job(ecu)?;
            let due =
                ecu.not_before.is_none() && self.permit.allows(job) && self.is_its_turn(index);
            (ecu.running.is_none() && due && self.has_room(ecu, job))
                .then_some(Record::Start { ecu: index, job })
        })
    }

    /// Whether a job may run beside those that do.
    fn has_room(&self, ecu: &Ecu, job: Job) -> bool {
        if self.policy.one_at_a_time {
            return self.ecus.iter().all(|ecu| ecu.running.is_none());
        }
        job != Job::Stage || self.staging_on(ecu.bus) < self.policy.parallel_per_bus
    }

    /// Whether all ECUs that are activated before this one are. After COMMIT nobody waits.
    pub(super) fn is_its_turn(&self, ecu: usize) -> bool {
        if self.phase != Phase::Activating {
            return true;
        }
        let waits_for = self.plan.ecus.get(ecu).map_or(&[][..], |ecu| &ecu.after);
        let mut waits_for = waits_for.iter().filter_map(|index| self.ecus.get(*index));
        waits_for.all(|ecu| !matches!(ecu.progress, Progress::Pending | Progress::Staged))
    }

    /// Whether all ECUs but those that go last have come so far.
    pub(super) fn first_are(&self, progress: Progress) -> bool {
        let done = |ecu: &Ecu| ecu.progress == Progress::Unchanged || ecu.progress == progress;
        self.ecus.iter().all(|ecu| ecu.last || done(ecu))
    }

    /// What an ECU that goes last needs, once all others are healthy.
    pub(super) fn last_job(&self, ecu: &Ecu) -> Option<Job> {
        if !self.first_are(Progress::Healthy) {
            return None;
        }
        match ecu.progress {
            Progress::Pending => Some(Job::Stage),
            Progress::Staged => Some(Job::Activate),
            Progress::Activated => Some(Job::AwaitHealthy),
            _ => None,
        }
    }

    /// What an idle ECU still needs in this phase and run.
    pub(super) fn next_job(&self, ecu: &Ecu) -> Option<Job> {
        #[cfg(feature = "deliberate-bugs")]
        if super::bugs::seals_before_commit(self.phase, ecu.progress) {
            return Some(Job::Seal);
        }
        let converging = ecu.tries < self.policy.converge_attempts && !ecu.needs_grant;
        match (self.phase, ecu.progress) {
            _ if ecu.given_up.is_some() => None,
            (_, Progress::Unchanged | Progress::Sealed | Progress::Reverted) => None,
            (Phase::Staging | Phase::Activating, _) if ecu.last => None,
            (Phase::AwaitingHealthy, _) if ecu.last => self.last_job(ecu),
            (Phase::Staging, Progress::Pending) => Some(Job::Stage),
            (Phase::Activating, Progress::Staged) => Some(Job::Activate),
            (Phase::AwaitingHealthy, Progress::Activated) => Some(Job::AwaitHealthy),
            // An ECU that lost the new image after COMMIT gets it again.
            (Phase::Sealing, Progress::Pending) if converging => Some(Job::Stage),
            (Phase::Sealing, Progress::Staged) if converging => Some(Job::Activate),
            (Phase::Sealing, Progress::Activated) if converging => Some(Job::AwaitHealthy),
            (Phase::Sealing, Progress::Healthy) if converging => Some(Job::Seal),
            (Phase::Reverting, _) if ecu.restores && converging => restoring(ecu.progress),
            (Phase::Reverting, _) if ecu.touched && converging => Some(Job::Revert),
            _ => None,
        }
    }

    /// The images that are still to be sent: the ECU's index, the packed image's hash and length.
    #[must_use]
    pub fn images_wanted(&self) -> Vec<(usize, Digest, u64)> {
        let back = self.phase == Phase::Reverting;
        let wanted = self.ecus.iter().zip(&self.plan.ecus).enumerate();
        let wanted = wanted.filter(|(_, (ecu, _))| {
            let pending = ecu.progress == Progress::Pending && ecu.given_up.is_none();
            pending && back == ecu.restores && !matches!(self.phase, Phase::Done(_))
        });
        wanted
            .map(|(index, (_, planned))| match &planned.restore {
                Some(before) => (index, before.artifact, before.length),
                None => (index, planned.artifact, planned.length),
            })
            .collect()
    }

    /// Whether sealing or reverting has reached every ECU.
    pub(super) fn converged(&self) -> bool {
        self.ecus.iter().all(|ecu| self.has_converged(ecu))
    }

    pub(super) fn has_converged(&self, ecu: &Ecu) -> bool {
        match self.phase {
            _ if ecu.given_up.is_some() => true,
            Phase::Reverting => !ecu.touched && ecu.running.is_none(),
            _ => matches!(ecu.progress, Progress::Unchanged | Progress::Sealed),
        }
    }

    pub(super) fn staging_on(&self, bus: usize) -> usize {
        let staging = |ecu: &&Ecu| ecu.bus == bus && ecu.running == Some(Job::Stage);
        self.ecus.iter().filter(staging).count()
    }
}

//! What the vehicle's situation permits at the moment.

use super::Engine;
use crate::flash::Job;

/// Which jobs may start. Nothing is lost while they may not: the transaction rests where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// Bringing images into ECUs. Where it ends, a transfer ends after the block under way and goes
    /// on at the ECU's last durable page once it is permitted again.
    pub stage: bool,
    /// What makes an ECU run another image: activating and reverting, both with a reset. One that
    /// has begun is brought to its end.
    pub activate: bool,
}

impl Permit {
    /// Everything may start.
    pub const ALL: Self = Self {
        stage: true,
        activate: true,
    };

    /// Whether a job may start.
    #[must_use]
    pub fn allows(self, job: Job) -> bool {
        match job {
            Job::Stage => self.stage,
            Job::Activate | Job::Revert => self.activate,
            Job::Inventory | Job::Precheck | Job::AwaitHealthy | Job::Seal | Job::Report => true,
        }
    }
}

impl Default for Permit {
    fn default() -> Self {
        Self::ALL
    }
}

impl Engine {
    /// What may start from now on. Nothing of it is journaled: after a restart all is permitted
    /// until this is called again, which has to be before the first command is polled.
    pub fn permit(&mut self, permit: Permit) {
        let before = std::mem::replace(&mut self.permit, permit);
        if before.stage && !permit.stage {
            self.interrupt(|job| job == Job::Stage);
            self.wake_buses();
        }
    }

    /// What may start.
    #[must_use]
    pub fn permitted(&self) -> Permit {
        self.permit
    }
}

//! When a manifest is due: decisions on the caller's clock, no I/O.

use std::time::Duration;

/// The first pause after a manifest that could not be delivered, doubled for each further one.
const SOON: Duration = Duration::from_secs(30);

/// What became of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The backend has it.
    Accepted,
    /// The backend does not believe it; the same words again would not help.
    Disbelieved,
    /// The backend takes none.
    NotWanted,
    /// It did not get there, or not all of it.
    Failed,
}

/// When the next manifest is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    interval: Duration,
    due: Duration,
    failures: u32,
}

impl Schedule {
    /// The first is due at once, later ones after `interval`. Time counts from the caller's epoch.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            due: Duration::ZERO,
            failures: 0,
        }
    }

    /// What the ECUs run may have changed.
    pub const fn owe(&mut self) {
        self.due = Duration::ZERO;
        self.failures = 0;
    }

    /// When the next one is due.
    #[must_use]
    pub const fn due(&self) -> Duration {
        self.due
    }

    /// What became of the one that was due.
    pub fn on_sent(&mut self, now: Duration, sent: Sent) {
        let pause = match sent {
            Sent::Failed => {
                let pause = SOON.saturating_mul(1 << self.failures.min(10));
                self.failures = self.failures.saturating_add(1);
                pause.min(self.interval)
            }
            Sent::Accepted | Sent::Disbelieved | Sent::NotWanted => {
                self.failures = 0;
                self.interval
            }
        };
        self.due = now.saturating_add(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_tried_soon_and_then_less_often() {
        let mut schedule = Schedule::new(Duration::from_secs(300));
        assert_eq!(schedule.due(), Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            schedule.on_sent(now, Sent::Failed);
            pauses.push((schedule.due() - now).as_secs());
            now = schedule.due();
        }
        assert_eq!(pauses, [30, 60, 120, 240, 300, 300]);
        for sent in [Sent::Accepted, Sent::Disbelieved, Sent::NotWanted] {
            schedule.on_sent(now, sent);
            assert_eq!(schedule.due() - now, Duration::from_secs(300), "{sent:?}");
        }
        schedule.owe();
        assert!(schedule.due() <= now);
        schedule.on_sent(now, Sent::Failed);
        assert_eq!(schedule.due() - now, SOON);
    }
}

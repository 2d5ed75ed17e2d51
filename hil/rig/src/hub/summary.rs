//! What a hub says when it ends.

use serde::{Deserialize, Serialize};
use simbus::{BusConfig, Stats};
use uds::time::{Duration, Instant};

/// The share of the bus's time above which being late spoils what is measured.
const MUCH: f64 = 0.05;

/// The end of a hub's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Nominal bit rate, bit/s.
    pub bitrate: u32,
    /// Bit rate of the data phase, bit/s.
    pub data_bitrate: Option<u32>,
    /// Seed of the faults.
    pub seed: u64,
    /// Processes that joined.
    pub nodes: u64,
    /// Frames completed, lost ones included.
    pub frames: u64,
    /// Frames that nobody received, by a fault.
    pub lost: u64,
    /// Transmissions destroyed by a fault and repeated.
    pub errors: u64,
    /// Messages refused: no frame, or FD on a classical bus.
    pub rejected: u64,
    /// Receptions lost by nodes that did not keep up.
    pub overruns: u64,
    /// How long it ran, s.
    pub seconds: f64,
    /// The part of that time in which the bus was not idle.
    pub busy_fraction: f64,
    /// The longest that frames were released after their deadline, µs.
    pub max_lag_us: u64,
    /// Time for which the bus was idle only because frames were released late, as a part of the
    /// time in which it was busy.
    pub lag_fraction: f64,
    /// Whether that is more than 5 %: the machine was too slow for what was measured.
    pub lagging: bool,
}

impl Summary {
    pub(super) fn of(bus: &BusConfig) -> Self {
        Self {
            bitrate: bus.nominal_bps,
            data_bitrate: bus.data_bps,
            seed: bus.seed,
            nodes: 0,
            frames: 0,
            lost: 0,
            errors: 0,
            rejected: 0,
            overruns: 0,
            seconds: 0.0,
            busy_fraction: 0.0,
            max_lag_us: 0,
            lag_fraction: 0.0,
            lagging: false,
        }
    }

    pub(super) fn complete(self, seconds: f64, stats: &Stats, lag: &Lag) -> Self {
        let busy = stats.busy.as_secs_f64();
        let lag_fraction = part(lag.idle.as_secs_f64(), busy);
        Self {
            frames: stats.frames,
            lost: stats.lost,
            errors: stats.errors,
            seconds,
            busy_fraction: part(busy, seconds),
            max_lag_us: u64::try_from(lag.longest.as_micros()).unwrap_or(u64::MAX),
            lag_fraction,
            lagging: lag_fraction > MUCH,
            ..self
        }
    }
}

fn part(of: f64, all: f64) -> f64 {
    if all > 0.0 { of / all } else { 0.0 }
}

/// How late the hub was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lag {
    longest: Duration,
    idle: Duration,
}

impl Lag {
    /// Woken at `now` for `target`, with everything queued over at `drained`.
    pub(super) fn on_wake(&mut self, target: Instant, now: Instant, drained: Option<Instant>) {
        self.longest = self.longest.max(now.saturating_since(target));
        let idle = drained.map_or(Duration::ZERO, |drained| now.saturating_since(drained));
        self.idle = self.idle.saturating_add(idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_that_the_bus_lost_counts_as_a_part() {
        let at = Instant::from_micros;
        let mut lag = Lag::default();
        // Earlier than wanted, a frame came in; late, but the bus had more to do; late for all.
        lag.on_wake(at(100), at(50), Some(at(400)));
        lag.on_wake(at(100), at(300), Some(at(400)));
        lag.on_wake(at(400), at(460), Some(at(400)));
        let stats = Stats {
            busy: Duration::from_micros(1000),
            ..Stats::default()
        };
        let bus = BusConfig::classical(500_000);
        let summary = Summary::of(&bus).complete(0.002, &stats, &lag);
        assert_eq!(summary.max_lag_us, 200);
        assert!((summary.lag_fraction - 0.06).abs() < 1e-9 && summary.lagging);
        assert!((summary.busy_fraction - 0.5).abs() < 1e-9);
    }
}

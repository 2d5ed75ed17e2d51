//! When to try again, and when a server is too slow: decisions on the caller's clock, no I/O.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Bounds of a fetch.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time to connect.
    pub connect: Duration,
    /// Time without a byte.
    pub idle: Duration,
    /// Tries in a row that bring nothing further.
    pub attempts: u32,
    /// Pause before the second try, doubled for each further one, plus up to half of jitter.
    pub backoff: Duration,
    /// The longest pause, whatever the server asks for by `Retry-After`.
    pub longest_pause: Duration,
    /// Bytes that a try must bring to count as getting further; the last of a file count anyway.
    pub step: u64,
    /// Bytes that must arrive in each [`Limits::window`], or the try ends.
    pub least: u64,
    /// How long a server may take for [`Limits::least`] bytes.
    pub window: Duration,
}

impl Default for Limits {
    /// For a link that is bad, but not hopeless: 16 KiB in each 30 s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            attempts: 5,
            backoff: Duration::from_millis(500),
            longest_pause: Duration::from_secs(120),
            step: 16 << 10,
            least: 16 << 10,
            window: Duration::from_secs(30),
        }
    }
}

/// The tries of one fetch. A server that brings something further may be tried without end, since
/// what it may bring is bounded by the length of the file; one that does not, [`Limits::attempts`]
/// times.
#[derive(Debug)]
pub struct Retry {
    limits: Limits,
    failures: u32,
    /// The bytes with which the last counted try ended.
    reached: u64,
    random: StdRng,
}

impl Retry {
    /// No try yet.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            failures: 0,
            reached: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// A try failed with `have` bytes there: the pause before the next one, or `None` to give up.
    /// `asked` is the server's `Retry-After`: it only ever lengthens the pause, up to
    /// [`Limits::longest_pause`].
    pub fn failed(&mut self, have: u64, asked: Option<Duration>) -> Option<Duration> {
        if have >= self.reached.saturating_add(self.limits.step) {
            self.failures = 0;
            self.reached = have;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.limits.attempts {
            return None;
        }
        let doubled = 1_u32 << self.failures.saturating_sub(1).min(16);
        let pause = self.limits.backoff.saturating_mul(doubled);
        let pause = pause.max(asked.unwrap_or_default());
        let jitter = pause.mul_f64(self.random.random_range(0.0..0.5));
        Some(pause.saturating_add(jitter).min(self.limits.longest_pause))
    }
}

/// Ends a drip: without it a server that sends a byte now and then holds a download for ever.
#[derive(Debug)]
pub struct Pace {
    least: u64,
    window: Duration,
    ends: Duration,
    bytes: u64,
}

impl Pace {
    /// The first window begins at `now`.
    #[must_use]
    pub fn new(limits: &Limits, now: Duration) -> Self {
        Self {
            least: limits.least,
            window: limits.window,
            ends: now.saturating_add(limits.window),
            bytes: 0,
        }
    }

    /// When to ask [`Pace::too_slow`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.ends
    }

    /// Bytes have arrived.
    pub fn received(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Whether a window has ended with too few bytes; one that has not begins the next.
    pub fn too_slow(&mut self, now: Duration) -> bool {
        if now < self.ends {
            return false;
        }
        let slow = self.bytes < self.least;
        self.ends = now.saturating_add(self.window);
        self.bytes = 0;
        slow
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date, which is set against the server's own
/// `Date`, since the clock of a vehicle may be wrong.
#[must_use]
pub fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = http_date(value)? - http_date(date?.trim())?;
    Some(Duration::from_secs(
        u64::try_from(seconds.whole_seconds()).unwrap_or(0),
    ))
}

/// IMF-fixdate (RFC 9110, 5.6.7), the only form that servers may send.
fn http_date(text: &str) -> Option<time::PrimitiveDateTime> {
    let form = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    time::PrimitiveDateTime::parse(text, &form).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            attempts: 4,
            backoff: Duration::from_secs(1),
            step: 100,
            ..Limits::default()
        }
    }

    #[test]
    fn pauses_double_and_end() {
        let mut retry = Retry::new(limits(), 1);
        for seconds in [1, 2, 4] {
            let pause = retry.failed(0, None).unwrap();
            let least = Duration::from_secs(seconds);
            assert!(pause >= least && pause < least.mul_f64(1.5), "{pause:?}");
        }
        assert_eq!(retry.failed(0, None), None);
    }

    #[test]
    fn a_try_that_gets_further_is_not_counted_and_a_drip_is() {
        let mut retry = Retry::new(limits(), 1);
        for have in (100..10_000).step_by(100) {
            assert!(retry.failed(have, None).is_some(), "{have}");
        }
        let drips = (9_901..).map_while(|have| retry.failed(have, None));
        assert_eq!(drips.count(), 2);
    }

    #[test]
    fn the_server_may_lengthen_a_pause_within_the_bound() {
        let pause = |asked| Retry::new(limits(), 7).failed(0, asked).unwrap();
        let asked = Duration::from_secs(20);
        assert!(pause(Some(asked)) >= asked);
        assert_eq!(pause(Some(Duration::MAX)), limits().longest_pause);
        assert_eq!(pause(Some(Duration::ZERO)), pause(None));
    }

    #[test]
    fn a_drip_ends_with_its_window_and_a_steady_stream_does_not() {
        let limits = Limits {
            least: 10,
            window: Duration::from_secs(5),
            ..limits()
        };
        let seconds = Duration::from_secs;
        let mut pace = Pace::new(&limits, seconds(100));
        for now in 101..1000 {
            pace.received(2);
            assert!(!pace.too_slow(seconds(now)), "{now}");
        }
        let mut pace = Pace::new(&limits, seconds(100));
        for now in 101..105 {
            pace.received(2);
            assert!(!pace.too_slow(seconds(now)), "{now}");
        }
        assert_eq!(pace.deadline(), seconds(105));
        assert!(pace.too_slow(seconds(105)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let seconds = |value, date| retry_after(value, date).map(|after| after.as_secs());
        assert_eq!(seconds(" 120 ", None), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:07 GMT", date), Some(30));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT", date), Some(0));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:07 GMT", None), None);
        for wrong in ["", "-1", "soon", "1e9", "99999999999999999999999"] {
            assert_eq!(seconds(wrong, date), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_history_gets_a_pause_beyond_the_bound_or_tries_without_end(
            seed: u64,
            tries in prop::collection::vec((0..2000_u64, prop::option::of(any::<u64>())), 1..100),
        ) {
            let mut retry = Retry::new(limits(), seed);
            let mut in_vain = 0;
            let mut reached = 0;
            for (have, asked) in tries {
                let pause = retry.failed(have, asked.map(Duration::from_millis));
                in_vain = if have >= reached + 100 { reached = have; 1 } else { in_vain + 1 };
                let Some(pause) = pause else {
                    prop_assert!(in_vain >= limits().attempts);
                    return Ok(());
                };
                prop_assert!(pause <= limits().longest_pause);
                prop_assert!(in_vain < limits().attempts);
            }
        }

        #[test]
        fn no_text_of_a_server_is_too_much_for_the_parser(value: String, date: String) {
            let _ = retry_after(&value, Some(&date));
        }
    }
}

//! Time as the machines see it: microseconds that the caller passes in.
//!
//! No machine reads a clock. A driver passes the `now` of its own clock, a test passes one that it
//! advances itself; both must be monotonic.

use core::ops::Add;
pub use core::time::Duration;

/// A point in time: microseconds since an epoch that the caller chose.
///
/// All arithmetic saturates, so no sum of a deadline can wrap into the past.
// Aligned as a word: else the tag of every enum with a deadline has 64 bits, and so has each look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(Rust, packed(4))]
pub struct Instant(u64);

impl Instant {
    /// The epoch.
    pub const ZERO: Self = Self(0);

    /// `micros` microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(later(self.0, duration))
    }
}

/// Once in a program, not at each of its many deadlines.
#[inline(never)]
fn later(micros: u64, by: Duration) -> u64 {
    // `as_micros` computes in 128 bits, which costs a small target half a kilobyte.
    let seconds = by.as_secs().saturating_mul(1_000_000);
    micros.saturating_add(seconds.saturating_add(u64::from(by.subsec_micros())))
}

/// The earlier of two optional deadlines, `None` meaning never.
#[must_use]
pub fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (deadline, None) | (None, deadline) => deadline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate() {
        assert_eq!(
            Instant(u64::MAX) + Duration::from_secs(1),
            Instant(u64::MAX)
        );
        assert_eq!(Instant::ZERO + Duration::MAX, Instant(u64::MAX));
        assert_eq!(Instant(5).saturating_since(Instant(9)), Duration::ZERO);
    }

    #[test]
    fn never_is_later_than_any_deadline() {
        let soon = Some(Instant(3));
        assert_eq!(earliest(soon, None), soon);
        assert_eq!(earliest(None, soon), soon);
        assert_eq!(earliest(soon, Some(Instant(2))), Some(Instant(2)));
        assert_eq!(earliest(None, None), None);
    }
}

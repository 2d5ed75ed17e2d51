//! Time from a counter of 32 bits, without a division of 64.

use uds::time::Instant;

/// The time since the start.
#[derive(Debug)]
pub struct Ticks<C> {
    counter: C,
    per_micro: u32,
    before: u32,
    /// Ticks that are no whole microsecond yet.
    rest: u32,
    micros: u64,
}

impl<C: FnMut() -> u32> Ticks<C> {
    /// `counter` counts up `per_micro` ticks in a microsecond, from `start` on; it wraps.
    pub const fn new(per_micro: u32, start: u32, counter: C) -> Self {
        Self {
            counter,
            per_micro,
            before: start,
            rest: 0,
            micros: 0,
        }
    }

    /// Now; called more often than the counter wraps.
    pub fn now(&mut self) -> Instant {
        let now = (self.counter)();
        let ticks = now.wrapping_sub(self.before).wrapping_add(self.rest);
        self.before = now;
        self.rest = ticks % self.per_micro;
        self.micros += u64::from(ticks / self.per_micro);
        Instant::from_micros(self.micros)
    }
}

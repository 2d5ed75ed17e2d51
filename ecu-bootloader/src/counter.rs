//! The monotonic counter behind the floor.

use ecu_image::SecurityCounter;

/// The counter did not rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterError;

/// A counter that only rises: in a security module, or in one-time-programmable memory.
///
/// The floor is the higher of this counter and the journal's order, so sealing journals the order
/// first and raises the counter then; a boot that finds the counter behind completes it.
pub trait MonotonicCounter {
    /// The counter. A counter that cannot be read must answer its highest possible value rather
    /// than a lower one.
    fn read(&mut self) -> SecurityCounter;

    /// Raises the counter to `to`; without effect where it is there already.
    ///
    /// # Errors
    /// The counter could not be raised; it is tried again at the next boot.
    fn raise_to(&mut self, to: SecurityCounter) -> Result<(), CounterError>;
}

/// No counter of its own: the floor is the journal's alone.
///
/// Weaker than hardware: the journal's MAC keeps anybody without the journal key from inventing a
/// floor, but whoever can write the flash can put back an older journal, and with it an older floor.
#[derive(Debug, Clone, Copy, Default)]
pub struct JournaledCounter;

impl MonotonicCounter for JournaledCounter {
    fn read(&mut self) -> SecurityCounter {
        SecurityCounter(0)
    }

    fn raise_to(&mut self, _to: SecurityCounter) -> Result<(), CounterError> {
        Ok(())
    }
}

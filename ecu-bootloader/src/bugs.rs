//! Deliberate bugs: what the interruption proof must find, or it proves nothing.
//!
//! Compiled with the feature `deliberate-bugs` only, which no product and no default has, and absent
//! until one is chosen. `cargo xtask powercut --bug NAME` shows what each leads to.

use core::sync::atomic::{AtomicU8, Ordering};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A journal record is believed without its CMAC.
    UncheckedRecord = 1,
    /// Sealing raises the counter before the order is journaled.
    CounterFirst = 2,
    /// Pages found after a reset are durable unless they are blank; none is verified.
    UncheckedPage = 3,
    /// A record without complete witness is acted upon as it is.
    MarginalRecord = 4,
    /// A sector that reads blank is not erased.
    BlankSector = 5,
}

impl Bug {
    /// All of them, by the names that the command line has.
    pub const ALL: [(&'static str, Self); 5] = [
        ("unchecked-record", Self::UncheckedRecord),
        ("counter-first", Self::CounterFirst),
        ("unchecked-page", Self::UncheckedPage),
        ("marginal-record", Self::MarginalRecord),
        ("blank-sector", Self::BlankSector),
    ];
}

static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Chooses the bug that every bootloader of this process has from now on.
pub fn choose(bug: Option<Bug>) {
    CHOSEN.store(bug.map_or(0, |bug| bug as u8), Ordering::Relaxed);
}

pub(crate) fn has(bug: Bug) -> bool {
    CHOSEN.load(Ordering::Relaxed) == bug as u8
}

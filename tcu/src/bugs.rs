//! Deliberate bugs: what the interruption proof must find, or it proves nothing.
//!
//! Compiled with the feature `deliberate-bugs` only, which no product and no default has, and absent
//! until one is chosen. `cargo xtask chaos --bug NAME` shows what each leads to.

use std::sync::atomic::{AtomicU8, Ordering};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// What a record announces happens before the record is written.
    EffectBeforeJournal = 1,
    /// An ECU is sealed as soon as it is healthy, whatever the others are.
    SealBeforeCommit = 2,
    /// A transfer goes on one page behind what the ECU confirms.
    UnconfirmedPage = 3,
    /// The journal is not synchronised.
    SynchronousOff = 4,
}

impl Bug {
    /// All of them, by the names that the command line has.
    pub const ALL: [(&'static str, Self); 4] = [
        ("effect-before-journal", Self::EffectBeforeJournal),
        ("seal-before-commit", Self::SealBeforeCommit),
        ("unconfirmed-page", Self::UnconfirmedPage),
        ("synchronous-off", Self::SynchronousOff),
    ];
}

static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Chooses the bug that every TCU of this process has from now on.
pub fn choose(bug: Option<Bug>) {
    CHOSEN.store(bug.map_or(0, |bug| bug as u8), Ordering::Relaxed);
}

pub(crate) fn has(bug: Bug) -> bool {
    CHOSEN.load(Ordering::Relaxed) == bug as u8
}

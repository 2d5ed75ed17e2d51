//! A whole vehicle in virtual time, and the proof that anything in it may be interrupted anywhere.
//!
//! [`vehicle`] is the TCU's machine, two buses and all bootloaders on one event queue; [`disk`] the
//! disk below the TCU's journal, which loses what was not synchronised.
//!
//! A vehicle here is for tests: what must not happen panics, and its data are small numbers.

#![deny(unsafe_code)]

pub mod check;
pub mod cli;
pub mod disk;
pub mod kills;
pub mod proof;
pub mod vehicle;
mod vfs;

//! The telematics unit: inventory, verification and the vehicle transaction.
//!
//! [`flash`] drives one ECU, [`engine`] the transaction over all; both are pure machines, and
//! [`vehicle`] composes them with one UDS client per ECU, still without I/O. Around them are the
//! ports: [`journal`], [`fetch`], [`link`], [`output`], and [`ports`] for clock and reports. [`install`] is the order in which a command
//! uses them.

#![forbid(unsafe_code)]

mod admission;
pub mod api;
pub mod board;
#[cfg(feature = "deliberate-bugs")]
pub mod bugs;
pub mod cli;
pub mod config;
pub mod ddi;
pub mod desk;
pub mod engine;
pub mod error;
pub mod evidence;
pub mod fetch;
pub mod flash;
pub mod install;
pub mod journal;
pub mod lines;
pub mod link;
pub mod logging;
pub mod manifest;
pub mod notify;
pub mod output;
pub mod planner;
pub mod policy;
pub mod ports;
pub mod preconditions;
pub mod profile;
pub mod service;
mod signature;
pub mod state;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod vehicle;

/// Randomness for jitter and seeds. Where the system gives none a fixed seed does: nothing secret
/// depends on it.
fn random() -> rand::rngs::StdRng {
    use rand::rngs::{StdRng, SysRng};
    use rand::{SeedableRng, TryRng};

    StdRng::seed_from_u64(SysRng.try_next_u64().unwrap_or(0))
}

//! Uptane metadata, vehicle configuration and offline bundle; a verifier without I/O.
//!
//! Nothing here reads a file, a socket or a clock: documents come in as bytes, the time as seconds,
//! and a [`VerifiedCampaign`] or a typed refusal goes out. The same code runs in the telematics
//! unit, in the OEM tool when it checks its own releases, and in any ECU with an allocator.
//! The formats are in `docs/spec/campaign.md`.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        clippy::cast_possible_truncation
    )
)]

extern crate alloc;
#[cfg(test)]
#[macro_use]
extern crate std;

pub mod attack;
pub mod chain;
pub mod directing;
pub mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod ids;
pub mod json;
pub mod layout;
pub mod manifest;
pub mod meta;
pub mod pair;
pub mod repository;
pub mod rules;
pub mod time;
pub mod trust;
pub mod vehicle;
pub mod verified;
pub mod verify;

pub use attack::Attack;
pub use error::VerifyError;
pub use time::UnixTime;
pub use trust::Trust;
pub use verified::{EcuTarget, VerifiedCampaign};
pub use verify::{Verification, Wanted, verify};

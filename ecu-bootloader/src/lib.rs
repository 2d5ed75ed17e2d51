//! The ECU's bootloader: slots, journal, download, boot decision and programming server.
//!
//! A pure machine, no allocation: frames, `now` and the ends of flash operations go in; frames, flash
//! operations, events and the next deadline come out. Behaviour: `docs/spec/ecu-profile.md`; slots,
//! journal, boot decision and budgets: `docs/spec/bootloader.md`. A board adds flash, CAN, clock,
//! reset and keys ([`Platform`]).
//!
//! What must hold, whatever is received and whenever power fails:
//!
//! - nothing boots that was not verified in this power cycle, and looked at a second time;
//! - the slot that the journal calls confirmed is never erased or programmed;
//! - grant and header are authentic before the first erase, every page is before it is programmed;
//! - the floor never falls; a record is durable and witnessed before it is acted upon;
//! - something boots, or the bootloader answers UDS.
//!
//! [`Platform`]: platform::Platform

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(feature = "single-checks", allow(dead_code))]
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

#[cfg(any(test, feature = "fuzz"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod adapters;
#[cfg(feature = "attestation")]
pub mod attestation;
#[cfg(feature = "authentication")]
pub mod authentication;
pub mod boot;
mod buffers;
#[cfg(feature = "deliberate-bugs")]
pub mod bugs;
mod bytes;
pub mod counter;
pub mod download;
mod erase;
pub mod flash;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod gate;
pub mod head;
pub mod identify;
mod job;
pub mod journal;
pub mod keys;
mod keyset;
pub mod layout;
mod ledger;
mod machine;
pub mod mailbox;
pub mod platform;
pub mod provision;
pub mod reason;
mod routines;
pub mod server;
pub mod state;
pub mod transition;
mod verify;

pub use buffers::Bytes;
pub use machine::{BootTarget, Bootloader, Event, Memory, Pages, Storage};
pub use verify::TableCache;

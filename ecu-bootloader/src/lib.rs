//! The ECU's bootloader: slots, journal, download, boot decision and programming server.

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

#[cfg(test)]
extern crate std;

pub mod mailbox;

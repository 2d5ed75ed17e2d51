//! ISO-TP (ISO 15765-2) and UDS (ISO 14229-1) as machines without I/O, allocation or clock.
//!
//! Bytes, frames and `now` go in; frames, events and the next deadline come out. The same code runs
//! in the telematics unit, in a virtual ECU and on bare metal.

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
#[macro_use]
extern crate std;

pub mod can;
pub mod client;
pub mod isotp;
pub mod nrc;
pub mod server;
pub mod service;
pub mod time;

//! A CAN bus model: arbitration and exact frame times, without I/O (ISO 11898-1).
//!
//! [`Bus`] takes frames from its nodes, lets the identifiers arbitrate whenever the bus is free, and
//! delivers each frame when its last bit is over, stuff bits included. Time is passed in: the same
//! model runs under a virtual clock and, in a hub process, against absolute deadlines of a real one.
//! Everything is a function of the calls and the seed.
//!
//! [`limits`] computes what no implementation can exceed, for comparison.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
#[macro_use]
extern crate std;

mod bits;
mod bus;
mod config;
pub mod limits;

pub use bits::FrameBits;
pub use bus::{Bus, Delivery, EnqueueError, NodeId, Outcome, Stats};
pub use config::{BusConfig, Faults};

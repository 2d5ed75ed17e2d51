//! A whole vehicle in virtual time: the TCU's transaction, CAN buses and ECUs on one event queue.
//!
//! No clock, socket, thread or process: the same machines that the programs run, driven from event
//! to event, so that hours pass in milliseconds and every run with one seed is the same.

mod fault;
mod ledger;
mod misbehaviour;
mod oem;
mod parts;
mod queue;
mod service;
mod world;

pub use fault::Interruption;
pub use ledger::Ledger;
pub use misbehaviour::Misbehaviour;
pub use oem::{Oem, Release};
pub use parts::{EcuState, Factory};
pub use service::{Backend, Service};
pub use world::{Campaign, World, good, good_of};

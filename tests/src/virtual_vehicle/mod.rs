//! A whole vehicle in virtual time: the TCU's transaction, CAN buses and ECUs on one event queue.
//!
//! No clock, socket, thread or process: the same machines that the programs run, driven from event
//! to event, so that hours pass in milliseconds and every run with one seed is the same.

mod misbehaviour;
mod oem;
mod world;

pub use misbehaviour::Misbehaviour;
pub use oem::{Oem, Release};
pub use world::{Campaign, EcuState, World, good};

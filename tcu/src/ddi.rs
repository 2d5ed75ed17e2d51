//! The control channel: hawkBit's Direct Device Integration API, version 1, as its client.
//!
//! Nothing of it is trusted. A deployment says no more than "look now, these images lie here, and
//! report under this action": what is installed is decided by the Uptane metadata, as from any other
//! source. [`Machine`] is the protocol without I/O: answers and the campaign's fate go in, requests
//! and orders come out. [`run`] is its driver.

mod client;
mod document;
mod feedback;
mod machine;
mod memory;
mod options;
mod protocol;
mod reports;
mod run;
#[cfg(test)]
mod tests;

pub use client::{Authority, Server, ServerError, authorization};
pub use document::{
    ActionId, Cancellation, Chunk, Confirmation, Deployment, DocumentError, Mode, Offer, Poll,
};
pub use feedback::{Execution, Feedback, Finished};
pub use machine::Machine;
pub use memory::Memory;
pub use options::Options;
pub use protocol::{Answer, Confirm, Fate, Order, Policy, Request, Resource};
pub use reports::Reports;
pub use run::{Channel, run};

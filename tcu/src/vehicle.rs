//! Jobs on all ECUs of a vehicle at once, and the transaction above them: still without I/O.
//!
//! [`Jobs`] holds a UDS client and at most one running job per ECU; [`Transaction`] adds the engine
//! and its journal. A driver carries PDUs between [`Vehicle`] and the buses, real or simulated:
//! after any `handle_*` it calls [`Vehicle::poll_transmit`] until `None` and sleeps until
//! [`Vehicle::poll_timeout`]. It reports the end of each transmission by [`Vehicle::handle_sent`] or
//! [`Vehicle::handle_fault`].

mod bus;
mod inventory;
mod jobs;
#[cfg(test)]
mod tests;
mod transaction;

use uds::client::TransportFault;
use uds::time::Instant;

use crate::engine::Permit;
pub use inventory::Inventory;
pub use jobs::{EcuSetup, Event, JobEnd, Jobs};
pub use transaction::Transaction;

/// Where a PDU goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// The physical address of an ECU, by its index.
    Ecu(usize),
    /// The functional address of a bus, by its index.
    Bus(usize),
}

/// A PDU to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: Address,
    /// Its bytes.
    pub pdu: Vec<u8>,
}

/// What is wanted of a run from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Control {
    /// End now; the journal goes on in another run.
    pub stop: bool,
    /// Give the campaign up: without effect after COMMIT.
    pub cancel: bool,
    /// What may start at the moment.
    pub permit: Permit,
}

/// What a driver drives.
pub trait Vehicle {
    /// A PDU came from an ECU.
    fn handle_pdu(&mut self, now: Instant, ecu: usize, pdu: &[u8]);
    /// The first frame of a longer PDU came from an ECU.
    fn handle_receive_started(&mut self, now: Instant, ecu: usize);
    /// A PDU of [`Vehicle::poll_transmit`] is on the bus.
    fn handle_sent(&mut self, now: Instant, to: Address);
    /// A PDU could not be sent, or one that had begun could not be received.
    fn handle_fault(&mut self, now: Instant, to: Address, fault: TransportFault);
    /// Time has passed.
    fn handle_timeout(&mut self, now: Instant);
    /// What is wanted from outside has changed. What asks no more than a question goes on.
    fn handle_control(&mut self, _control: &Control) {}
    /// Somebody wants to know a data identifier of an ECU; whether it is asked, as [`Jobs::question`].
    fn handle_question(&mut self, _now: Instant, _ecu: usize, _did: u16) -> bool {
        false
    }
    /// The next PDU to send.
    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit>;
    /// When [`Vehicle::handle_timeout`] is due.
    fn poll_timeout(&self) -> Option<Instant>;
    /// What has happened, oldest first.
    fn poll_event(&mut self) -> Option<Event>;
    /// Whether nothing is left to do.
    fn is_finished(&self) -> bool;
}

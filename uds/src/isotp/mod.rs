//! ISO-TP (ISO 15765-2:2016): messages of any length over CAN frames of 8 to 64 bytes.
//!
//! [`Endpoint`] is one end of a connection: it segments what it is told to send, reassembles what it
//! receives, and keeps the timers of clause 9.8. [`Pdu`] is the wire format of clause 9.6 alone.
//!
//! Full duplex: a message may be received while another one is sent. Functionally addressed
//! messages are single frames and have room of their own, so that a TesterPresent to all ECUs
//! disturbs no segmented message in either direction.

mod address;
mod config;
mod endpoint;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod outbox;
mod pdu;
mod receiver;
mod sender;
mod st_min;
#[cfg(test)]
mod tests;

pub use address::{
    Addressing, mixed_29, mixed_29_functional, normal_fixed, normal_fixed_functional,
};
pub use config::{Config, Timeouts, TxDl};
pub use endpoint::{Endpoint, Event};
pub use error::{Direction, Error, SendError};
pub use pdu::{FlowControl, FlowStatus, Malformed, Pdu};
pub use st_min::StMin;

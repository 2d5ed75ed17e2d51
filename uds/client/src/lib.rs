//! An asynchronous UDS client (ISO 14229-1) on tokio.
//!
//! - [`UdsClient`] has one method per service, with the names and call shapes of the crate `uds-rs`;
//!   `docs/guide/from-uds-rs.md` says how a program moves over.
//! - [`Connection`] is what it stands on: raw PDUs to one server, with P2, 0x78, 0x21, repetition and
//!   keep-alive done by [`uds::client::Client`] in a task of its own.
//! - A [`Transport`] carries PDUs: [`ChannelTransport`] is our ISO-TP over SocketCAN or the
//!   user-space bus, [`KernelTransport`] the kernel's ISO-TP. [`open`] chooses.
//!
//! ```no_run
//! # async fn read() -> Result<(), Box<dyn std::error::Error>> {
//! use uds_client::{Backend, Connection, Options, open};
//! use uds::{can::CanId, isotp};
//! let (tx, rx) = (CanId::standard(0x7E0).unwrap(), CanId::standard(0x7E8).unwrap());
//! let transport = open("vcan0", isotp::Config::new(tx, rx), Backend::Auto)?;
//! let connection = Connection::new(transport, uds::client::Config::default());
//! let response = connection.exchange(&[0x22, 0xF1, 0x90], Options::default()).await?;
//! println!("{:02X?}", response.pdu());
//! # Ok(()) }
//! ```

mod compat;
mod connection;
mod error;
mod kernel;
mod transport;

pub use compat::*;
pub use connection::{Connection, Progress, Response, Status};
pub use error::{Error, TransportError};
pub use kernel::{KernelTransport, kernel_pdu_limit};
pub use transport::{AnyTransport, Backend, ChannelTransport, Incoming, Transport, open};
pub use uds::client::{Config, KeepAlive, Options};

//! CAN frames and ISO-TP channels on tokio: raw SocketCAN or the user-space bus.
//!
//! A [`FrameLink`] is one node of one bus. Its name says which: `can0` or `vcan0` is an interface of
//! the kernel, `bus:PATH` a hub on a Unix socket, for machines whose kernel has no CAN.
//!
//! A [`Bus`] shares one link between many parties of a process: each subscribes to its identifiers.
//! An [`IsoTpChannel`] on it is one ISO-TP connection (ISO 15765-2), driven by a task of its own, so
//! that several ECUs are flashed over one bus at a time.
//!
//! All timestamps are [`now`]: microseconds since the process first asked.

#![forbid(unsafe_code)]

mod bus;
mod channel;
mod error;
pub mod layout;
mod link;
mod timer;

pub use bus::{Bus, Subscription};
pub use channel::{ChannelError, ChannelEvent, ChannelOptions, IsoTpChannel};
pub use error::LinkError;
pub use link::{FrameLink, LinkOptions, Received};

use std::sync::OnceLock;

/// The time of this process for the machines of [`uds`]: monotonic, from its first call on.
#[must_use]
pub fn now() -> uds::time::Instant {
    static EPOCH: OnceLock<std::time::Instant> = OnceLock::new();
    let elapsed = EPOCH.get_or_init(std::time::Instant::now).elapsed();
    uds::time::Instant::ZERO + elapsed
}

//! Why a request or its transport failed.

use can_link::{ChannelError, LinkError};
use std::io;
use std::sync::Arc;
use uds::client;
use uds::nrc::Nrc;

/// Why an exchange with a server failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server refused, was silent, or answered nonsense.
    #[error("{0}")]
    Uds(client::Error),
    /// The transport failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// What was asked for is no request.
    #[error("{0}")]
    Request(client::RequestError),
    /// The runtime that drives the connection is gone.
    #[error("the connection has been closed")]
    Closed,
}

impl Error {
    /// The code with which the server refused.
    #[must_use]
    pub fn nrc(&self) -> Option<Nrc> {
        match self {
            Self::Uds(client::Error::Negative(nrc)) => Some(*nrc),
            _ => None,
        }
    }
}

/// Why a PDU was not sent or received, or a transport not opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// The kernel is built without AF_CAN, or its module is not loaded.
    #[error(
        "this kernel has no CAN (AF_CAN): load the modules can and can-isotp where it has them, or \
         use a user-space bus, bus:PATH, served by canhub"
    )]
    NoKernelCan,
    /// The kernel has CAN, but no ISO-TP.
    #[error(
        "this kernel has no ISO-TP (CAN_ISOTP): load the module can-isotp, or use our own ISO-TP"
    )]
    NoKernelIsoTp,
    /// The kernel has no such interface.
    #[error(
        "there is no network interface {name}; `ip -br link` lists them, vcan-setup.sh makes virtual ones"
    )]
    NoSuchInterface {
        /// The interface.
        name: String,
    },
    /// Kernel ISO-TP on a user-space bus.
    #[error("{name} is no interface of the kernel: kernel ISO-TP cannot use it")]
    NotAnInterface {
        /// The link.
        name: String,
    },
    /// The interface takes no FD frames.
    #[error("{name} takes no CAN FD frames; `ip link set {name} mtu 72` on a virtual interface")]
    NotFd {
        /// The interface.
        name: String,
    },
    /// The PDU is longer than the kernel's ISO-TP carries.
    #[error(
        "{len} bytes exceed the {limit} bytes of the kernel's ISO-TP: raise max_pdu_size of the module \
         can_isotp, or use our own ISO-TP"
    )]
    TooLong {
        /// Bytes of the PDU.
        len: usize,
        /// The most that the kernel carries.
        limit: usize,
    },
    /// A functional request does not fit one frame, or no functional identifier is configured.
    #[error("functional request: {0}")]
    Functional(&'static str),
    /// The kernel's ISO-TP gave the PDU up.
    #[error("kernel ISO-TP: {0}")]
    KernelIsoTp(&'static str),
    /// Our ISO-TP, or its link.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The link could not be opened.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Anything else.
    #[error("{operation}: {source}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
}

impl TransportError {
    pub(crate) fn io(operation: &'static str, error: impl Into<io::Error>) -> Self {
        Self::Io {
            operation,
            source: Arc::new(error.into()),
        }
    }
}

//! Why a link cannot be opened or used, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What is wrong with a link. Cheap to clone: every party on a [`Bus`](crate::Bus) gets it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// Neither an interface name nor `bus:PATH`.
    #[error(
        "{name:?} is no CAN link: use an interface of at most 15 characters, such as vcan0, or \
         bus:PATH, the socket of a canhub"
    )]
    BadName {
        /// What was given.
        name: String,
    },
    /// The kernel has no such interface.
    #[error(
        "there is no network interface {name}; `ip -br link` lists them, vcan-setup.sh makes virtual ones"
    )]
    NoSuchInterface {
        /// The interface.
        name: String,
    },
    /// The interface is not a CAN one.
    #[error("the network interface {name} is not a CAN interface")]
    NotCan {
        /// The interface.
        name: String,
    },
    /// The kernel is built without AF_CAN, or its module is not loaded.
    #[error(
        "this kernel has no CAN (AF_CAN): load the modules can and can-raw where it has them, or \
         use a user-space bus, bus:PATH, served by canhub"
    )]
    NoKernelCan,
    /// The interface is down.
    #[error("the interface {name} is down; `ip link set {name} up`")]
    Down {
        /// The interface.
        name: String,
    },
    /// No hub listens there.
    #[error("no bus at {path}: {source}; start it with `canhub --listen {path}`", path = path.display())]
    NoHub {
        /// The socket.
        path: PathBuf,
        /// What connecting said.
        source: Arc<io::Error>,
    },
    /// An FD frame on a link that was opened without `fd`, or whose interface has the classical MTU.
    #[error("{name} takes no CAN FD frames; `ip link set {name} mtu 72` on a virtual interface")]
    NotFd {
        /// The link.
        name: String,
    },
    /// The hub or the peer has gone.
    #[error("{name} was closed by the other side")]
    Closed {
        /// The link.
        name: String,
    },
    /// Anything else.
    #[error("{name}: {operation}: {source}")]
    Io {
        /// The link.
        name: String,
        /// What was being done.
        operation: &'static str,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
}

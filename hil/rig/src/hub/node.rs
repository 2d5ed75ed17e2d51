//! One process on the bus.

use can_link::layout::{self, CANFD_MTU, Filter};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};
use simbus::NodeId;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use uds::can::Frame;
use uds::time::Instant;

/// How much the kernel may hold of what we release to a node that is not scheduled.
const SEND_BUFFER: usize = 4 << 20;
/// Longest message: a filter of 255 identifiers.
const LONGEST: usize = 4 + 4 * 255;

/// A connection and its place on the bus.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    /// What it wants to receive.
    pub(super) filter: Filter,
    /// Its queue was full when it was read last: it may have more.
    pub(super) waited: bool,
    /// When its last frame was over, and there was room for another.
    pub(super) last_sent: Instant,
    /// It has closed its end.
    pub(super) gone: bool,
    socket: UnixStream,
}

/// What a node sent.
pub(super) enum Message {
    Frame(Frame),
    Filter(Filter),
    /// Neither; it is left out.
    Malformed,
    /// Nothing for now.
    Nothing,
    /// It has closed its end.
    Gone,
}

impl Node {
    pub(super) fn new(id: NodeId, socket: UnixStream) -> anyhow::Result<Self> {
        socket.set_nonblocking(true)?;
        // Beyond the system's limit only with CAP_NET_ADMIN.
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER)?;
        }
        Ok(Self {
            id,
            filter: Filter::All,
            waited: false,
            last_sent: Instant::ZERO,
            gone: false,
            socket,
        })
    }

    /// A frame of this node is over.
    pub(super) fn on_sent(&mut self, at: Instant) {
        self.last_sent = at;
    }

    /// Gives a frame to the node if it wants it; `false` where it is lost because the node does not
    /// keep up.
    pub(super) fn send(&mut self, frame: &Frame) -> bool {
        if self.gone || !self.filter.passes(frame.id()) {
            return true;
        }
        let raw = layout::encode(frame);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.socket.as_raw_fd(), raw.as_bytes(), flags) {
            Ok(_) => true,
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => false,
            Err(_) => {
                self.gone = true;
                true
            }
        }
    }

    pub(super) fn receive(&mut self) -> Message {
        let mut message = [0; LONGEST];
        let len = match recv(
            self.socket.as_raw_fd(),
            &mut message,
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(len @ 1..) => len,
            Err(Errno::EAGAIN | Errno::EINTR) => return Message::Nothing,
            Ok(0) | Err(_) => {
                self.gone = true;
                return Message::Gone;
            }
        };
        let message = &message[..len];
        if len <= CANFD_MTU
            && let Ok(frame) = layout::decode(message)
        {
            return Message::Frame(frame);
        }
        layout::decode_filter(message).map_or(Message::Malformed, Message::Filter)
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

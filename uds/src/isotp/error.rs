//! Why a message was not sent or received: N_Result of ISO 15765-2 clause 8.3.7.

use core::fmt;

/// Which half of an endpoint an [`Error`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The message being sent.
    Send,
    /// The message being received.
    Receive,
}

/// The end of a message that did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Error {
    /// N_TIMEOUT_A: the driver did not confirm a frame within N_As or N_Ar.
    TimeoutA(Direction),
    /// N_TIMEOUT_Bs: the peer sent no FlowControl in time.
    TimeoutBs,
    /// N_TIMEOUT_Cr: the peer sent no ConsecutiveFrame in time.
    TimeoutCr,
    /// N_WRONG_SN: a ConsecutiveFrame was lost, repeated or out of order.
    WrongSequenceNumber {
        /// The sequence number that was due.
        expected: u8,
        /// The one that came.
        got: u8,
    },
    /// N_INVALID_FS: the peer sent a FlowControl with a reserved status.
    InvalidFlowStatus(u8),
    /// N_UNEXP_PDU: the peer began another message before this one was complete.
    UnexpectedPdu,
    /// N_WFT_OVRN: more FlowControl.WAIT than N_WFTmax, received while sending or due while
    /// receiving.
    WaitOverrun(Direction),
    /// N_BUFFER_OVFLW: the peer has no room for the message being sent.
    PeerOverflow,
    /// The peer's message is longer than the reception storage; it was told so.
    TooLong {
        /// Length that the FirstFrame announced.
        len: u32,
    },
    /// A single frame arrived while [`Endpoint::hold`](super::Endpoint::hold) kept the storage.
    Held,
}

impl Error {
    /// Which message failed.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::TimeoutA(direction) | Self::WaitOverrun(direction) => direction,
            Self::TimeoutBs | Self::InvalidFlowStatus(_) | Self::PeerOverflow => Direction::Send,
            Self::TimeoutCr
            | Self::WrongSequenceNumber { .. }
            | Self::UnexpectedPdu
            | Self::TooLong { .. }
            | Self::Held => Direction::Receive,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimeoutA(Direction::Send) => f.write_str("a frame was not sent within N_As"),
            Self::TimeoutA(Direction::Receive) => {
                f.write_str("a FlowControl was not sent within N_Ar")
            }
            Self::TimeoutBs => f.write_str("no FlowControl within N_Bs"),
            Self::TimeoutCr => f.write_str("no ConsecutiveFrame within N_Cr"),
            Self::WrongSequenceNumber { expected, got } => {
                write!(f, "ConsecutiveFrame {got} where {expected} was due")
            }
            Self::InvalidFlowStatus(raw) => write!(f, "FlowControl with reserved status {raw}"),
            Self::UnexpectedPdu => f.write_str("a new message began before the last was complete"),
            Self::WaitOverrun(Direction::Send) => f.write_str("too many FlowControl.WAIT"),
            Self::WaitOverrun(Direction::Receive) => {
                f.write_str("storage was held longer than WFTmax allows")
            }
            Self::PeerOverflow => f.write_str("the peer has no room for the message"),
            Self::TooLong { len } => write!(f, "no room for a message of {len} bytes"),
            Self::Held => f.write_str("a message arrived while the last one was held"),
        }
    }
}

impl core::error::Error for Error {}

/// Why a message was not accepted for sending. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SendError {
    /// The message before is still being sent.
    Busy,
    /// A message has at least one byte.
    Empty,
    /// Longer than the transmission storage.
    TooLong {
        /// Bytes of the message.
        len: usize,
        /// Bytes of room.
        room: usize,
    },
    /// A functionally addressed message must fit a single frame.
    NotSingleFrame {
        /// Bytes of the message.
        len: usize,
        /// Bytes that fit.
        room: usize,
    },
    /// The configuration names no functional identifier.
    NoFunctionalId,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("a message is still being sent"),
            Self::Empty => f.write_str("a message has at least one byte"),
            Self::TooLong { len, room } => {
                write!(f, "{len} bytes do not fit the storage of {room}")
            }
            Self::NotSingleFrame { len, room } => {
                write!(
                    f,
                    "{len} bytes do not fit a functional single frame of {room}"
                )
            }
            Self::NoFunctionalId => f.write_str("no functional identifier is configured"),
        }
    }
}

impl core::error::Error for SendError {}

//! Errors in the shape of `uds-rs`.

use super::NegativeResponseCode;
use crate::{Error, TransportError};
use can_link::LinkError;
use uds::client;
use uds::service::{ParseError, ServiceId};

/// Why a request of [`UdsClient`](super::UdsClient) failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UdsError {
    /// The server refused.
    #[error("the server refused service {rejected:02X}: {nrc:?}", rejected = nrc.rejected_sid)]
    NRC {
        /// What and why.
        nrc: NrcData,
    },
    /// The server refused with a code that the standard does not name.
    #[error(
        "the server refused service {rejected_sid:02X} with the unnamed code {unknown_nrc:02X}"
    )]
    UnknownNRC {
        /// The service.
        rejected_sid: u8,
        /// The code.
        unknown_nrc: u8,
    },
    /// The response is of another service.
    #[error("response {received:02X} where {expected:02X} was expected")]
    SidMismatch {
        /// The first byte expected.
        expected: u8,
        /// The first byte received.
        received: u8,
        /// The response.
        raw_message: Vec<u8>,
    },
    /// The response is of another identifier.
    #[error("data identifier {received:04X} where {expected:04X} was expected")]
    DidMismatch {
        /// The identifier expected.
        expected: u16,
        /// The identifier received.
        received: u16,
        /// The response.
        raw_message: Vec<u8>,
    },
    /// The response is too short or too long.
    #[error("the response has a wrong length: {raw_message:02X?}")]
    InvalidLength {
        /// The response.
        raw_message: Vec<u8>,
    },
    /// The response has a value that it must not have.
    #[error("the response is not correct: {raw_message:02X?}")]
    ResponseIncorrect {
        /// The response.
        raw_message: Vec<u8>,
    },
    /// The response is empty.
    #[error("the response is empty")]
    ResponseEmpty,
    /// The service has no such sub-function.
    #[error("no sub-function {unsupported_subfunction:02X}")]
    UnsupportedSubfunction {
        /// Its value.
        unsupported_subfunction: u8,
    },
    /// An argument that no request can carry.
    #[error("an argument, or a combination of arguments, is not valid")]
    InvalidArgument,
    /// Not returned by this crate: every method works.
    #[error("not implemented")]
    NotImplemented,
    /// A request without a byte.
    #[error("the request is empty")]
    RequestEmpty,
    /// The layers below failed.
    #[error("{error}")]
    CommunicationError {
        /// What happened.
        error: UdsCommunicationError,
    },
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NrcData {
    /// The service.
    pub rejected_sid: u8,
    /// Why.
    pub nrc: NegativeResponseCode,
}

/// What the layers below failed at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UdsCommunicationError {
    /// There is no such interface.
    #[error("no such CAN interface: {0}")]
    FailedToFindCanDevice(String),
    /// The kernel has no CAN, or none that is needed here.
    #[error("{0}")]
    NoKernelCan(String),
    /// The socket could not be opened.
    #[error("{0}")]
    SocketCreationError(String),
    /// A PDU was not sent or received.
    #[error("{0}")]
    SocketCanIOError(String),
    /// The server did not respond in time.
    #[error("the server did not respond in time")]
    Timeout,
    /// The server announced its response past the limit.
    #[error("the server kept announcing a response (0x78) past the limit")]
    PendingLimit,
    /// The connection is closed.
    #[error("the connection has been closed")]
    Closed,
}

impl From<UdsCommunicationError> for UdsError {
    fn from(error: UdsCommunicationError) -> Self {
        Self::CommunicationError { error }
    }
}

impl From<TransportError> for UdsCommunicationError {
    fn from(error: TransportError) -> Self {
        let text = error.to_string();
        match error {
            TransportError::NoSuchInterface { name }
            | TransportError::Link(LinkError::NoSuchInterface { name }) => {
                Self::FailedToFindCanDevice(name)
            }
            TransportError::NoKernelCan | TransportError::NoKernelIsoTp => Self::NoKernelCan(text),
            TransportError::NotAnInterface { .. }
            | TransportError::NotFd { .. }
            | TransportError::Link(_) => Self::SocketCreationError(text),
            _ => Self::SocketCanIOError(text),
        }
    }
}

/// An error of the connection, of a request for `sid`.
pub(super) fn of_exchange(sid: u8, error: Error) -> UdsError {
    let error = match error {
        Error::Uds(client::Error::Negative(nrc)) => {
            return match NegativeResponseCode::try_from(nrc.0) {
                Ok(nrc) => UdsError::NRC {
                    nrc: NrcData {
                        rejected_sid: sid,
                        nrc,
                    },
                },
                Err(unknown_nrc) => UdsError::UnknownNRC {
                    rejected_sid: sid,
                    unknown_nrc,
                },
            };
        }
        Error::Uds(client::Error::Timeout) => UdsCommunicationError::Timeout,
        Error::Uds(client::Error::PendingLimit) => UdsCommunicationError::PendingLimit,
        Error::Uds(client::Error::Malformed | client::Error::ResponseTooLong) => {
            return UdsError::InvalidLength {
                raw_message: Vec::new(),
            };
        }
        Error::Uds(error @ client::Error::Transport(_)) => {
            UdsCommunicationError::SocketCanIOError(error.to_string())
        }
        Error::Transport(error) => error.into(),
        Error::Request(client::RequestError::NotARequest) => return UdsError::RequestEmpty,
        Error::Request(_) => return UdsError::InvalidArgument,
        Error::Closed => UdsCommunicationError::Closed,
    };
    error.into()
}

/// An error of a codec about a response to `sid`.
pub(super) fn of_response(sid: u8, error: ParseError, pdu: &[u8]) -> UdsError {
    use uds::service::ParseErrorKind as Kind;
    let raw_message = pdu.to_vec();
    match error.kind {
        _ if pdu.is_empty() => UdsError::ResponseEmpty,
        Kind::Service => UdsError::SidMismatch {
            expected: ServiceId(sid).response(),
            received: error.first,
            raw_message,
        },
        Kind::TooShort(_) | Kind::Trailing => UdsError::InvalidLength { raw_message },
        Kind::SubFunction(_) | Kind::Value(_) => UdsError::ResponseIncorrect { raw_message },
    }
}

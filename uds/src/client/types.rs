//! What a client is configured with and what it says.

use crate::nrc::Nrc;
use crate::time::Duration;
use core::fmt;

/// Timing and limits of a client. The defaults suit a server with the standard's timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// P2_server until a session response says otherwise.
    pub p2: Duration,
    /// P2*_server until a session response says otherwise.
    pub p2_star: Duration,
    /// What the network and the transport add to P2 and P2* (ISO 14229-2 delta P2).
    pub margin: Duration,
    /// S3_client: idle time before a TesterPresent keeps a session open.
    pub s3: Duration,
    /// How that TesterPresent is sent.
    pub keep_alive: KeepAlive,
    /// The number of 0x78 that one request may draw.
    pub pending_count: u32,
    /// The time from the end of a request to its final response, however many 0x78 come.
    pub pending_time: Duration,
    /// How many times a request is sent again after 0x21.
    pub busy_count: u32,
    /// The longest wait before the first of these; it doubles each time.
    pub busy_delay: Duration,
    /// How many times a request that may be repeated is sent again when its response is lost.
    pub retries: u32,
    /// Seed of the back-off after 0x21: clients with different seeds do not move in step.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            p2: Duration::from_millis(50),
            p2_star: Duration::from_secs(5),
            margin: Duration::from_millis(100),
            s3: Duration::from_secs(2),
            keep_alive: KeepAlive::Physical,
            pending_count: 1000,
            pending_time: Duration::from_secs(600),
            busy_count: 10,
            busy_delay: Duration::from_millis(100),
            retries: 3,
            seed: 0,
        }
    }
}

/// How a session other than the default is kept open while no request runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// Not by this client.
    Off,
    /// `3E 80` to this server.
    Physical,
    /// `3E 80` to every server.
    Functional,
}

/// How one request differs from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// To every server: silence is a success, and the first response ends the request.
    pub functional: bool,
    /// Waits this long for the first response instead of P2 and the margin.
    pub p2: Option<Duration>,
    /// Overrides [`Config::pending_time`].
    pub pending_time: Option<Duration>,
    /// Overrides [`Config::retries`]. Other services than TransferData and the reads are never
    /// repeated.
    pub retries: Option<u32>,
}

/// A PDU to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// Its bytes.
    pub pdu: &'a [u8],
    /// Whether it goes to the functional address.
    pub functional: bool,
}

/// How a request ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A positive response came: [`super::Client::response`].
    Positive,
    /// None was wanted, and no negative one came within P2.
    Silence,
}

/// What a client reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The server answered 0x78, for the `count`th time.
    Pending {
        /// How many for this request.
        count: u32,
    },
    /// The request is sent again: a lost response, or 0x21.
    Repeated,
    /// The request is over. Nothing else follows for it.
    Done(Result<Answer, Error>),
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The server refused.
    Negative(Nrc),
    /// No response within P2, or within P2* after 0x78.
    Timeout,
    /// More 0x78 than the limits allow.
    PendingLimit,
    /// The transport did not bring the request or the response through.
    Transport(TransportFault),
    /// A response to this request whose format is wrong.
    Malformed,
    /// A response longer than the client's buffer.
    ResponseTooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative(nrc) => write!(f, "the server refused: {nrc}"),
            Self::Timeout => f.write_str("the server did not respond in time"),
            Self::PendingLimit => {
                f.write_str("the server kept announcing a response (0x78) past the limit")
            }
            Self::Transport(TransportFault::Send) => f.write_str("the request could not be sent"),
            Self::Transport(TransportFault::Receive) => {
                f.write_str("the response was cut off on its way")
            }
            Self::Malformed => f.write_str("the response is malformed"),
            Self::ResponseTooLong => f.write_str("the response exceeds the buffer"),
        }
    }
}

impl core::error::Error for Error {}

/// What the transport failed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportFault {
    /// Sending the PDU that [`super::Client::poll_transmit`] gave.
    Send,
    /// Receiving a PDU that had begun.
    Receive,
}

/// Why a request was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// One is running.
    Busy,
    /// It is longer than the client's buffer.
    TooLong,
    /// Its first byte is none of a request, or there is none.
    NotARequest,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "another request is running",
            Self::TooLong => "the request exceeds the buffer",
            Self::NotARequest => "not a request: empty, or bit 6 of its first byte is set",
        })
    }
}

impl core::error::Error for RequestError {}

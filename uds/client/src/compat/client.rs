//! [`UdsClient`]: opening it, and requests of any kind.

use super::error::of_exchange;
use super::{Id, UdsError, UdsResponse, UdsSocket, UdsSocketOptions, parse};
use crate::{Config, Connection, Options, Response};
use std::time::Duration;
use uds::service::{NoRoom, Pdu, Request};

/// What every service returns.
pub type EcuResponseResult = Result<UdsResponse, UdsError>;

/// A client of one server, with one method per service.
///
/// Requests take turns, whatever tasks they come from. 0x78 is waited for, 0x21 asked again, and a
/// session other than the default is kept open.
#[derive(Debug)]
pub struct UdsClient {
    connection: Connection,
}

/// What a server on a busy machine may take beyond its P2.
const MARGIN: Duration = Duration::from_secs(1);

impl UdsClient {
    /// Opens a client on `canifc`, `can0` or `bus:PATH`: it receives frames of `src` and sends frames
    /// of `dst`. Within a tokio runtime.
    ///
    /// # Errors
    /// [`UdsError::CommunicationError`].
    pub fn new(
        canifc: &str,
        src: impl Into<Id>,
        dst: impl Into<Id>,
        options: UdsSocketOptions,
    ) -> Result<Self, UdsError> {
        let socket = UdsSocket::new(canifc, src, dst, options)?;
        Ok(Self::new_from_socket(socket))
    }

    /// A client over an open socket. Within a tokio runtime.
    #[must_use]
    pub fn new_from_socket(socket: UdsSocket) -> Self {
        let config = Config {
            margin: MARGIN,
            ..Config::default()
        };
        Self::from_connection(Connection::new(socket.0, config))
    }

    /// A client over a connection with timing, limits and transport of one's own.
    #[must_use]
    pub const fn from_connection(connection: Connection) -> Self {
        Self { connection }
    }

    /// The connection below.
    #[must_use]
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Any request PDU to its response PDU, which is empty where none was wanted.
    ///
    /// # Errors
    /// [`UdsError`].
    pub async fn send_and_receive(&self, request: &[u8]) -> Result<Vec<u8>, UdsError> {
        let sid = *request.first().ok_or(UdsError::RequestEmpty)?;
        match self.connection.exchange(request, Options::default()).await {
            Ok(Response::Positive(pdu)) => Ok(pdu),
            Ok(Response::Silence) => Ok(Vec::new()),
            Err(error) => Err(of_exchange(sid, error)),
        }
    }

    /// Any request to its response.
    ///
    /// # Errors
    /// [`UdsError`].
    pub async fn request(&self, request: &Request<'_>) -> EcuResponseResult {
        self.ask(|out| request.write(out)).await
    }

    pub(super) async fn call<'a>(&self, request: impl Pdu<'a>) -> EcuResponseResult {
        self.ask(|out| request.write(out)).await
    }

    async fn ask(&self, write: impl Fn(&mut [u8]) -> Result<usize, NoRoom>) -> EcuResponseResult {
        let mut pdu = vec![0; 64];
        let len = match write(&mut pdu) {
            Ok(len) => len,
            Err(NoRoom { needed }) => {
                pdu.resize(needed, 0);
                write(&mut pdu).map_err(|_| UdsError::InvalidArgument)?
            }
        };
        pdu.truncate(len);
        let response = self.send_and_receive(&pdu).await?;
        if response.is_empty() {
            return Ok(UdsResponse::Suppressed);
        }
        parse::response(pdu[0], &response)
    }
}

//! A [`uds::client::Client`] driven over a [`Transport`] by a task of its own.

use crate::{Error, Incoming, Transport, TransportError};
use can_link::now;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use uds::client::{Answer, Client, Config, Event, Options, TransportFault};
use uds::service::{ServiceId, Session, SubFunction};
use uds::time::Instant;

/// The longest PDU either way.
const PDU: usize = 1 << 16;
/// What a response of that kind of transport which does not say when it begins is waited for longer:
/// some 8 KB of classical CAN at 500 kbit/s.
const UNANNOUNCED: Duration = Duration::from_millis(1500);

/// How a request ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// A positive response, from its service identifier on.
    Positive(Vec<u8>),
    /// None was wanted, and no negative one came.
    Silence,
}

impl Response {
    /// The PDU; empty for [`Response::Silence`].
    #[must_use]
    pub fn pdu(&self) -> &[u8] {
        match self {
            Self::Positive(pdu) => pdu,
            Self::Silence => &[],
        }
    }
}

/// What happens while a request runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The server answered 0x78, for the `count`th time.
    Pending {
        /// How many for this request.
        count: u32,
    },
    /// The request is sent again: a lost response, or 0x21.
    Repeated,
}

/// What is known of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its session.
    pub session: Session,
    /// P2_server.
    pub p2: Duration,
    /// P2*_server.
    pub p2_star: Duration,
}

enum Command {
    Request(Request),
    SetSession(Session),
}

struct Request {
    pdu: Vec<u8>,
    options: Options,
    progress: mpsc::UnboundedSender<Progress>,
    done: oneshot::Sender<Result<Response, Error>>,
}

/// A connection to one server. Requests of several callers take turns; between them the session is
/// kept open. Dropped, it closes.
#[derive(Debug)]
pub struct Connection {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
}

impl Connection {
    /// Drives a client over `transport`. Within a tokio runtime.
    pub fn new(transport: impl Transport, mut config: Config) -> Self {
        let margin = config.margin;
        if !transport.announces() {
            config.margin = config.margin.saturating_add(UNANNOUNCED);
        }
        let client = Client::new(config, vec![0; PDU], vec![0; PDU]);
        let (commands, incoming) = mpsc::channel(1);
        let (status_in, status) = watch::channel(status_of(&client));
        let driver = Driver {
            client,
            margin,
            commands: incoming,
            status: status_in,
            request: None,
            fault: None,
        };
        tokio::spawn(driver.run(transport));
        Self { commands, status }
    }

    /// Sends a request and waits for its end. Dropped before, the request is abandoned.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn exchange(&self, pdu: &[u8], options: Options) -> Result<Response, Error> {
        self.exchange_with(pdu, options, |_| {}).await
    }

    /// As [`Connection::exchange`]; `progress` is told what happens meanwhile.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn exchange_with(
        &self,
        pdu: &[u8],
        options: Options,
        mut progress: impl FnMut(Progress),
    ) -> Result<Response, Error> {
        let (done, mut result) = oneshot::channel();
        let (progress_in, mut events) = mpsc::unbounded_channel();
        let request = Request {
            pdu: pdu.to_vec(),
            options,
            progress: progress_in,
            done,
        };
        let sent = self.commands.send(Command::Request(request)).await;
        sent.map_err(|_| Error::Closed)?;
        loop {
            tokio::select! {
                biased;
                Some(event) = events.recv() => progress(event),
                result = &mut result => return result.unwrap_or(Err(Error::Closed)),
            }
        }
    }

    /// What is known of the server.
    #[must_use]
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Corrects the session: the caller knows of a reset, or that another client changed it.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn set_session(&self, session: Session) -> Result<(), Error> {
        let sent = self.commands.send(Command::SetSession(session)).await;
        sent.map_err(|_| Error::Closed)
    }
}

fn status_of(client: &Client<Vec<u8>>) -> Status {
    let (p2, p2_star) = client.timing();
    Status {
        session: client.session(),
        p2,
        p2_star,
    }
}

type Sending<'t> = Pin<Box<dyn Future<Output = Result<(), TransportError>> + Send + 't>>;

struct Driver {
    client: Client<Vec<u8>>,
    /// What is waited beyond P2 for a response of one frame.
    margin: Duration,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    request: Option<Request>,
    /// What the transport said last: more than the client's error tells.
    fault: Option<TransportError>,
}

impl Driver {
    async fn run<T: Transport>(mut self, transport: T) {
        let mut sending = None;
        while let Some(alive) = self.step(&transport, &mut sending).await {
            if let Err(error) = alive {
                tracing::debug!(%error, "the transport has ended");
                return self.bury(&error).await;
            }
        }
    }

    /// The transport is dead: everyone who still asks is told why.
    async fn bury(mut self, error: &TransportError) {
        let mut request = self.request.take();
        loop {
            if let Some(Request { done, .. }) = request.take() {
                let _gone = done.send(Err(error.clone().into()));
            }
            match self.commands.recv().await {
                Some(Command::Request(next)) => request = Some(next),
                Some(Command::SetSession(_)) => {}
                None => return,
            }
        }
    }

    /// One round: send, report, wait. `None` when the connection has been dropped.
    async fn step<'t, T: Transport>(
        &mut self,
        transport: &'t T,
        sending: &mut Option<Sending<'t>>,
    ) -> Option<Result<(), TransportError>> {
        if sending.is_none()
            && let Some(transmit) = self.client.poll_transmit(now())
        {
            let (pdu, functional) = (transmit.pdu.to_vec(), transmit.functional);
            *sending = Some(Box::pin(
                async move { transport.send(&pdu, functional).await },
            ));
        }
        self.report();
        let deadline = self.client.poll_timeout();
        tokio::select! {
            biased;
            incoming = transport.next() => match incoming {
                Ok(incoming) => self.receive(incoming),
                Err(error) => return Some(Err(error)),
            },
            result = sent(sending) => {
                *sending = None;
                match result {
                    Ok(()) => self.client.on_sent(now()),
                    Err(error) => self.failed(error, TransportFault::Send),
                }
            }
            () = abandoned(&mut self.request) => {
                self.request = None;
                // What is being sent is stopped where it is.
                *sending = None;
                self.client.on_transport_error(now(), TransportFault::Send);
                self.client.abort(now());
                self.report();
            }
            command = self.commands.recv(), if self.request.is_none() => match command? {
                Command::Request(request) => self.begin(request),
                Command::SetSession(session) => self.client.set_session(now(), session),
            },
            () = until(deadline) => self.time_out(transport).await,
        }
        let status = status_of(&self.client);
        self.status.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
        Some(Ok(()))
    }

    fn begin(&mut self, request: Request) {
        self.fault = None;
        let mut options = request.options;
        if suppresses(&request.pdu) {
            // Only a refusal may come, which is short.
            let short = self.client.timing().0.saturating_add(self.margin);
            options.p2 = options.p2.or(Some(short));
        }
        match self.client.request(now(), &request.pdu, options) {
            Ok(()) => self.request = Some(request),
            Err(error) => {
                let _gone = request.done.send(Err(Error::Request(error)));
            }
        }
    }

    fn receive(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Started => self.client.on_receive_started(now()),
            Incoming::Pdu(pdu) => self.client.on_pdu(now(), &pdu),
            Incoming::Failed(error) => self.failed(error, TransportFault::Receive),
        }
        self.report();
    }

    fn failed(&mut self, error: TransportError, fault: TransportFault) {
        self.fault = Some(error);
        self.client.on_transport_error(now(), fault);
        self.report();
    }

    /// A deadline has come: what has arrived already is not late.
    async fn time_out(&mut self, transport: &impl Transport) {
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            Ok(incoming) = transport.next() => self.receive(incoming),
            () = std::future::ready(()) => {}
        }
        self.client.handle_timeout(now());
    }

    fn report(&mut self) {
        while let Some(event) = self.client.poll_event() {
            let progress = match event {
                Event::Pending { count } => Progress::Pending { count },
                Event::Repeated => Progress::Repeated,
                Event::Done(result) => {
                    self.end(result);
                    continue;
                }
            };
            if let Some(request) = &self.request {
                let _gone = request.progress.send(progress);
            }
        }
    }

    fn end(&mut self, result: Result<Answer, uds::client::Error>) {
        let Some(request) = self.request.take() else {
            return;
        };
        let result = match result {
            Ok(Answer::Positive) => Ok(Response::Positive(self.client.response().to_vec())),
            Ok(Answer::Silence) => Ok(Response::Silence),
            Err(error @ uds::client::Error::Transport(_)) => Err(match self.fault.take() {
                Some(fault) => Error::Transport(fault),
                None => Error::Uds(error),
            }),
            Err(error) => Err(Error::Uds(error)),
        };
        let _gone = request.done.send(result);
    }
}

/// Whether no positive response is wanted.
fn suppresses(pdu: &[u8]) -> bool {
    matches!(*pdu, [sid, sub_function, ..]
        if ServiceId(sid).has_sub_function() && SubFunction::from_byte(sub_function).suppress)
}

async fn sent(sending: &mut Option<Sending<'_>>) -> Result<(), TransportError> {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

/// Ends when nobody waits for the request any more.
async fn abandoned(request: &mut Option<Request>) {
    match request {
        Some(request) => request.done.closed().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.saturating_since(now())).await,
        None => std::future::pending().await,
    }
}

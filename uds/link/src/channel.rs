//! One ISO-TP connection on a bus, driven by a task of its own.

use crate::timer::Timer;
use crate::{Bus, LinkError, Subscription, now};
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};
use uds::can::{CanId, Frame};
use uds::isotp::{Config, Direction, Endpoint, Error, Event, SendError};
use uds::time::{Duration, Instant};

/// Events that wait to be received. A peer that sends more unasked loses them.
const QUEUE: usize = 256;
/// N_As and N_Ar: how long a link may take no frame (ISO 15765-2 table 21).
const N_A: Duration = Duration::from_secs(1);
/// Frames that one channel hands out at a go before it looks at its input.
const BURST: usize = 32;

/// Room and role of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Longest message received, in bytes.
    pub receive: usize,
    /// Longest message sent, in bytes.
    pub send: usize,
    /// Receive functionally addressed requests, as an ECU does and a tester does not.
    pub receive_functional: bool,
}

impl Default for ChannelOptions {
    /// 64 KiB each way, a tester's end.
    fn default() -> Self {
        Self {
            receive: 1 << 16,
            send: 1 << 16,
            receive_functional: false,
        }
    }
}

/// What a channel received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// A segmented message begins: its sender has answered in time.
    Started {
        /// Bytes announced.
        len: usize,
    },
    /// A message.
    Received {
        /// Its bytes.
        pdu: Vec<u8>,
        /// Whether it was functionally addressed.
        functional: bool,
    },
    /// A message did not arrive whole.
    Failed(Error),
}

/// Why a message was not sent or received.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChannelError {
    /// The message cannot be sent at all.
    #[error("message not sent: {0}")]
    Refused(SendError),
    /// The message did not get through.
    #[error("ISO-TP: {0}")]
    IsoTp(Error),
    /// The link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The runtime that drives the channel is gone.
    #[error("the channel has been closed")]
    Closed,
}

struct Command {
    pdu: Vec<u8>,
    done: oneshot::Sender<Result<(), ChannelError>>,
}

/// One ISO-TP connection. Messages are sent in the order of the calls, functional ones beside them;
/// receiving goes on meanwhile. Dropped, it closes.
#[derive(Debug)]
pub struct IsoTpChannel {
    physical: mpsc::Sender<Command>,
    functional: mpsc::Sender<Command>,
    events: Mutex<mpsc::Receiver<ChannelEvent>>,
    failure: Arc<std::sync::OnceLock<ChannelError>>,
}

impl IsoTpChannel {
    /// Opens the connection that `config` describes. Within a tokio runtime.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn open(bus: &Bus, config: Config, options: &ChannelOptions) -> Result<Self, LinkError> {
        let mut ids: Vec<CanId> = vec![config.rx_id];
        ids.extend(config.functional_id.filter(|_| options.receive_functional));
        let frames = bus.subscribe(&ids)?;
        let timer = Timer::new().map_err(|error| LinkError::Io {
            name: bus.link().name().into(),
            operation: "create a timer",
            source: Arc::new(error),
        })?;
        let (physical, physical_commands) = mpsc::channel(1);
        let (functional, functional_commands) = mpsc::channel(1);
        let (events_in, events) = mpsc::channel(QUEUE);
        let failure = Arc::new(std::sync::OnceLock::new());
        let driver = Driver {
            endpoint: Endpoint::new(config, vec![0; options.receive], vec![0; options.send]),
            frames,
            timer,
            physical: physical_commands,
            functional: functional_commands,
            events: events_in,
            sending: None,
            sending_functional: None,
            blocked: None,
        };
        tokio::spawn(driver.run(failure.clone()));
        Ok(Self {
            physical,
            functional,
            events: Mutex::new(events),
            failure,
        })
    }

    /// Sends a message; ends when its last frame has been handed to the link. Dropped before, it
    /// stops the message where it is.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn send(&self, pdu: &[u8]) -> Result<(), ChannelError> {
        self.command(&self.physical, pdu).await
    }

    /// Sends a message of a single frame to the functional group.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn send_functional(&self, pdu: &[u8]) -> Result<(), ChannelError> {
        self.command(&self.functional, pdu).await
    }

    async fn command(&self, to: &mpsc::Sender<Command>, pdu: &[u8]) -> Result<(), ChannelError> {
        let (done, result) = oneshot::channel();
        let pdu = pdu.to_vec();
        if to.send(Command { pdu, done }).await.is_err() {
            return Err(self.why_closed());
        }
        result.await.unwrap_or_else(|_| Err(self.why_closed()))
    }

    /// The next message, whoever it was addressed to. Cancelling loses nothing.
    ///
    /// # Errors
    /// [`ChannelError`]; after an [`Error`] of ISO-TP the channel goes on.
    pub async fn recv(&self) -> Result<Vec<u8>, ChannelError> {
        loop {
            match self.next_event().await? {
                ChannelEvent::Started { .. } => {}
                ChannelEvent::Received { pdu, .. } => return Ok(pdu),
                ChannelEvent::Failed(error) => return Err(ChannelError::IsoTp(error)),
            }
        }
    }

    /// What happens next, beginnings of messages included. Cancelling loses nothing.
    ///
    /// # Errors
    /// [`ChannelError`], when the channel has ended.
    pub async fn next_event(&self) -> Result<ChannelEvent, ChannelError> {
        let event = self.events.lock().await.recv().await;
        event.ok_or_else(|| self.why_closed())
    }

    /// Drops what has been received and not taken, such as late answers.
    pub fn clear(&self) {
        if let Ok(mut events) = self.events.try_lock() {
            while events.try_recv().is_ok() {}
        }
    }

    fn why_closed(&self) -> ChannelError {
        self.failure.get().cloned().unwrap_or(ChannelError::Closed)
    }
}

/// How far handing out frames came.
#[derive(PartialEq, Eq)]
enum Flush {
    /// Nothing is left to send now.
    Idle,
    /// More is left, after a look at the input.
    More,
    /// The link takes no more.
    Blocked,
}

struct Driver {
    endpoint: Endpoint<Vec<u8>, Vec<u8>>,
    frames: Subscription,
    timer: Timer,
    physical: mpsc::Receiver<Command>,
    functional: mpsc::Receiver<Command>,
    events: mpsc::Sender<ChannelEvent>,
    sending: Option<oneshot::Sender<Result<(), ChannelError>>>,
    sending_functional: Option<oneshot::Sender<Result<(), ChannelError>>>,
    /// A frame that the link did not take yet, and since when.
    blocked: Option<(Frame, Instant)>,
}

impl Driver {
    async fn run(mut self, failure: Arc<std::sync::OnceLock<ChannelError>>) {
        while let Some(result) = self.step().await {
            if let Err(error) = result {
                // Before the channels to the other side close.
                let _first = failure.set(error.into());
                return;
            }
        }
    }

    /// One round: send, report, wait. `None` when the channel has been dropped.
    async fn step(&mut self) -> Option<Result<(), LinkError>> {
        let flush = match self.flush() {
            Ok(flush) => flush,
            Err(error) => return Some(Err(error)),
        };
        self.report();
        // While frames wait to be sent, one of them is what is due.
        let deadline = match &self.blocked {
            Some((_, since)) => Some(*since + N_A),
            None => self.endpoint.poll_timeout(),
        };
        let bus = self.frames.bus().clone();
        tokio::select! {
            biased;
            received = self.frames.recv() => match received {
                Ok(received) => {
                    self.handle(&received.frame);
                    self.drain();
                }
                Err(error) => return Some(Err(error)),
            },
            command = self.physical.recv(), if self.sending.is_none() => {
                let Command { pdu, done } = command?;
                match self.endpoint.send(now(), &pdu) {
                    Ok(()) => self.sending = Some(done),
                    Err(error) => finish(done, Err(ChannelError::Refused(error))),
                }
            }
            Some(command) = self.functional.recv(), if self.sending_functional.is_none() => {
                match self.endpoint.send_functional(now(), &command.pdu) {
                    Ok(()) => self.sending_functional = Some(command.done),
                    Err(error) => finish(command.done, Err(ChannelError::Refused(error))),
                }
            }
            () = abandoned(&mut self.sending) => {
                self.sending = None;
                self.endpoint.cancel_send();
            }
            sendable = bus.link().sendable(), if flush == Flush::Blocked => {
                if let Err(error) = sendable {
                    return Some(Err(error));
                }
            }
            () = self.timer.until(deadline), if flush != Flush::More => {
                // What has arrived already is not late.
                bus.pump();
                self.drain();
                match flush {
                    Flush::Blocked => self.give_up(),
                    _ => self.endpoint.handle_timeout(now()),
                }
            }
            () = tokio::task::yield_now(), if flush == Flush::More => {}
        }
        Some(Ok(()))
    }

    fn drain(&mut self) {
        while let Some(received) = self.frames.try_recv() {
            self.handle(&received.frame);
        }
    }

    fn handle(&mut self, frame: &Frame) {
        self.endpoint.handle_frame(now(), frame);
        self.report();
    }

    fn flush(&mut self) -> Result<Flush, LinkError> {
        let link = self.frames.bus().link();
        for _ in 0..BURST {
            let fresh = || {
                self.endpoint
                    .poll_transmit(now())
                    .map(|frame| (frame, now()))
            };
            let Some((frame, since)) = self.blocked.take().or_else(fresh) else {
                return Ok(Flush::Idle);
            };
            if !link.try_send(&frame)? {
                self.blocked = Some((frame, since));
                return Ok(Flush::Blocked);
            }
        }
        Ok(Flush::More)
    }

    /// The link has taken nothing for N_As: what was to be sent fails.
    fn give_up(&mut self) {
        self.blocked = None;
        self.endpoint.on_blocked();
        if let Some(done) = self.sending_functional.take() {
            let error = Error::TimeoutA(Direction::Send);
            finish(done, Err(ChannelError::IsoTp(error)));
        }
    }

    /// Takes every event of the endpoint to who waits for it.
    fn report(&mut self) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Sent { functional } => self.sent(functional),
                Event::Started { len } => self.tell(ChannelEvent::Started { len }),
                Event::Received { functional } => {
                    let pdu = self.endpoint.received().to_vec();
                    self.tell(ChannelEvent::Received { pdu, functional });
                }
                Event::Failed(error) => match (error.direction(), self.sending.take()) {
                    (Direction::Send, Some(done)) => finish(done, Err(ChannelError::IsoTp(error))),
                    (Direction::Send, None) => {}
                    (Direction::Receive, sending) => {
                        self.sending = sending;
                        self.tell(ChannelEvent::Failed(error));
                    }
                },
            }
        }
    }

    /// The last frame may still wait for room; the link takes it in order.
    fn sent(&mut self, functional: bool) {
        let done = match functional {
            true => self.sending_functional.take(),
            false => self.sending.take(),
        };
        if let Some(done) = done {
            finish(done, Ok(()));
        }
    }

    fn tell(&mut self, event: ChannelEvent) {
        if self.events.try_send(event).is_err() {
            tracing::warn!("message lost: nobody receives from the channel");
        }
    }
}

fn finish(done: oneshot::Sender<Result<(), ChannelError>>, result: Result<(), ChannelError>) {
    // Nobody waits any more: nobody is to be told.
    let _gone = done.send(result);
}

/// Ends when nobody waits for the message being sent any more.
async fn abandoned(sending: &mut Option<oneshot::Sender<Result<(), ChannelError>>>) {
    match sending {
        Some(done) => done.closed().await,
        None => std::future::pending().await,
    }
}

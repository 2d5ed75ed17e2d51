//! One end of an ISO-TP connection.

use super::outbox::{Kind, Queue};
use super::pdu::{Bytes, Malformed, Pdu};
use super::receiver::{Progress, Receiver};
use super::sender::Sender;
use core::borrow::Borrow;

use super::{Config, Direction, Error, SendError};
use crate::can::Frame;
use crate::time::{Instant, earliest};

/// What happened. Ask for it after every call that takes `now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// N_USData_FF.indication: a segmented message of `len` bytes begins.
    Started {
        /// Bytes that the FirstFrame announced.
        len: usize,
    },
    /// A message is complete: [`Endpoint::received`] is it until the next call that takes `now`.
    Received {
        /// Whether it was functionally addressed.
        functional: bool,
    },
    /// A message was sent: handed out whole, and confirmed where the driver confirms frames.
    Sent {
        /// Whether it was functionally addressed.
        functional: bool,
    },
    /// A message did not get through; [`Error::direction`] says which.
    Failed(Error),
}

/// One end of an ISO-TP connection, with the caller's storage for one message each way.
///
/// Call order, in a loop:
///
/// 1. Something happens: [`handle_frame`](Self::handle_frame) for every frame that has arrived
///    (frames of others are ignored), [`handle_timeout`](Self::handle_timeout) when the deadline of
///    `poll_timeout` has passed, [`send`](Self::send), or
///    [`on_transmitted`](Self::on_transmitted). A driver that comes late drains its frames first
///    and fires the timers after, else an answer that waits in a queue is taken for missing.
/// 2. [`poll_event`](Self::poll_event) until `None`, before the next frame: the storage is used
///    again then. Whoever needs the message longer calls [`hold`](Self::hold) and later
///    [`release`](Self::release); meanwhile a segmented message of the peer is put off by
///    FlowControl.WAIT.
/// 3. [`poll_transmit`](Self::poll_transmit) until `None`, or until the controller is full. With an
///    STmin of zero it gives ConsecutiveFrames back to back.
/// 4. [`poll_timeout`](Self::poll_timeout): call again no later than that.
///
/// ```
/// use uds::can::CanId;
/// use uds::isotp::{Config, Endpoint, Event};
/// use uds::time::Instant;
///
/// let (request, response) = (CanId::standard(0x7E0).unwrap(), CanId::standard(0x7E8).unwrap());
/// let now = Instant::ZERO;
/// let mut tester = Endpoint::new(Config::new(request, response), [0; 64], [0; 64]);
/// let mut ecu = Endpoint::new(Config::new(response, request), [0; 64], [0; 64]);
///
/// tester.send(now, &[0x3E, 0x00]).unwrap();
/// let frame = tester.poll_transmit(now).unwrap();
/// ecu.handle_frame(now, &frame);
/// assert_eq!(ecu.poll_event(), Some(Event::Received { functional: false }));
/// assert_eq!(ecu.received(), [0x3E, 0x00]);
/// ```
///
/// `C` is the configuration: [`Config`], or a type of its own that borrows a constant one. Code for a
/// constant configuration has no more in it than what that needs.
pub struct Endpoint<R, T, C = Config> {
    config: C,
    receiver: Receiver<R>,
    sender: Sender<T>,
    /// A functional message to be handed out.
    functional_due: Option<Frame>,
    functional: FunctionalMessage,
    /// Whether the last `Received` polled was the functional one.
    last_was_functional: bool,
    events: Queue<Event, 8>,
    unconfirmed: Queue<Kind, 8>,
    /// N_As or N_Ar of the oldest unconfirmed frame.
    confirm_by: Option<Instant>,
}

/// The last functional message received.
struct FunctionalMessage {
    data: [u8; 64],
    len: usize,
}

impl<R, T, C> Endpoint<R, T, C>
where
    C: Borrow<Config>,
    R: AsRef<[u8]> + AsMut<[u8]>,
    T: AsRef<[u8]> + AsMut<[u8]>,
{
    /// An idle end. The longest message each way is as long as its storage.
    pub fn new(config: C, receive: R, transmit: T) -> Self {
        Self {
            config,
            receiver: Receiver::new(receive),
            sender: Sender::new(transmit),
            functional_due: None,
            functional: FunctionalMessage {
                data: [0; 64],
                len: 0,
            },
            last_was_functional: false,
            events: Queue::new(),
            unconfirmed: Queue::new(),
            confirm_by: None,
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.config.borrow()
    }

    /// Whether a message is being sent.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        !self.sender.is_idle()
    }

    /// Whether a segmented message is coming in.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        !self.receiver.is_idle()
    }

    /// Starts sending a message, which is copied.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send(&mut self, _now: Instant, pdu: &[u8]) -> Result<(), SendError> {
        self.sender.start(pdu)
    }

    /// Sends a message to the functional group, also while another message is being sent.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then. A functional message fits a single frame.
    pub fn send_functional(&mut self, _now: Instant, pdu: &[u8]) -> Result<(), SendError> {
        let id = self
            .config()
            .functional_id
            .ok_or(SendError::NoFunctionalId)?;
        let (len, room) = (pdu.len(), self.config().single_frame_len());
        if self.functional_due.is_some() {
            return Err(SendError::Busy);
        }
        if pdu.is_empty() {
            return Err(SendError::Empty);
        }
        if len > room {
            return Err(SendError::NotSingleFrame { len, room });
        }
        let mut bytes = Bytes::new(self.config().addressing.functional());
        Pdu::Single(pdu).emit(&mut bytes);
        self.functional_due = self.config().frame(id, &mut bytes);
        Ok(())
    }

    /// A frame arrived. Frames of other identifiers or addresses and malformed ones are ignored.
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        let address = |address: Option<u8>| match address {
            Some(byte) => frame.data().first() == Some(&byte),
            None => true,
        };
        let config = self.config();
        let physical = frame.id() == config.rx_id && address(config.addressing.rx());
        let functional =
            Some(frame.id()) == config.functional_id && address(config.addressing.functional());
        if !physical && !functional {
            return;
        }
        let parsed = Pdu::parse(frame.data(), config.addressing.overhead());
        if physical {
            self.handle_physical(now, parsed, frame.data().len());
        } else if let Ok(Pdu::Single(data)) = parsed {
            self.handle_functional(data);
        }
    }

    fn handle_physical(
        &mut self,
        now: Instant,
        parsed: Result<Pdu<'_>, Malformed>,
        frame_len: usize,
    ) {
        match parsed {
            Ok(Pdu::Single(data)) => {
                self.interrupt_reception();
                let progress = self.receiver.handle_single(data);
                self.report(progress);
            }
            Ok(Pdu::First { len, data }) => {
                self.interrupt_reception();
                let progress = self.receiver.handle_first(now, len, data, frame_len);
                self.report(progress);
            }
            Ok(Pdu::Consecutive {
                sequence_number,
                data,
            }) => {
                let progress = self.receiver.handle_consecutive(
                    now,
                    self.config.borrow(),
                    sequence_number,
                    data,
                    frame_len,
                );
                self.report(progress);
            }
            Ok(Pdu::FlowControl(fc)) => {
                let result = self
                    .sender
                    .handle_flow_control(now, self.config.borrow(), Ok(fc));
                self.report_send(result);
            }
            Err(Malformed::FlowStatus(raw)) => {
                let result = self
                    .sender
                    .handle_flow_control(now, self.config.borrow(), Err(raw));
                self.report_send(result);
            }
            Err(_) => {}
        }
    }

    /// Clause 9.8.3: a new message ends one in progress. A functional one is another N_AI.
    fn interrupt_reception(&mut self) {
        if let Some(error) = self.receiver.interrupt() {
            self.outdate(Kind::FlowControl);
            self.events.push(Event::Failed(error));
        }
    }

    fn handle_functional(&mut self, data: &[u8]) {
        if let Some(room) = self.functional.data.get_mut(..data.len()) {
            room.copy_from_slice(data);
            self.functional.len = data.len();
            self.events.push(Event::Received { functional: true });
        }
    }

    fn report(&mut self, progress: Progress) {
        self.events.push(match progress {
            Progress::Nothing => return,
            Progress::Started { len } => Event::Started { len },
            Progress::Complete => Event::Received { functional: false },
            Progress::Failed(error) => Event::Failed(error),
        });
    }

    fn report_send(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.outdate(Kind::Data);
            self.events.push(Event::Failed(error));
        }
    }

    /// The next frame to send, FlowControl first; `None` when nothing is due, or 8 frames are
    /// unconfirmed.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        if self.confirms() && self.unconfirmed.is_full() {
            return None;
        }
        let mut bytes = Bytes::new(self.config().addressing.tx());
        let kind = self.next_frame(now, &mut bytes)?;
        if let Some(n_a) = self.config().timeouts.n_a {
            self.unconfirmed.push(kind);
            self.confirm_by.get_or_insert(now + n_a);
        } else {
            self.transmitted(now, kind);
        }
        if kind == Kind::Functional {
            return self.functional_due.take();
        }
        self.config().frame(self.config().tx_id, &mut bytes)
    }

    /// The next frame's kind; its bytes, unless it is [`Endpoint::functional_due`].
    fn next_frame(&mut self, now: Instant, bytes: &mut Bytes) -> Option<Kind> {
        if let Some(fc) = self.receiver.poll_transmit(now, self.config.borrow()) {
            Pdu::FlowControl(fc).emit(bytes);
            return Some(Kind::FlowControl);
        }
        if self.functional_due.is_some() {
            return Some(Kind::Functional);
        }
        self.sender
            .poll_transmit(now, self.config.borrow(), bytes)?;
        Some(Kind::Data)
    }

    /// Whether the driver confirms frames. What is kept of them costs nothing where it never does.
    fn confirms(&self) -> bool {
        self.config().timeouts.n_a.is_some()
    }

    fn unconfirmed(&self, kind: Kind) -> usize {
        if self.confirms() {
            self.unconfirmed.count(kind)
        } else {
            0
        }
    }

    /// The message of these frames has ended.
    fn outdate(&mut self, kind: Kind) {
        if self.confirms() {
            self.unconfirmed.replace(kind, Kind::Stale);
        }
    }

    /// The oldest unconfirmed frame is on the bus. Only where `Timeouts::n_a` has a value.
    pub fn on_transmitted(&mut self, now: Instant) {
        let Some(kind) = self.unconfirmed.pop() else {
            return;
        };
        self.confirm_by = match self.config().timeouts.n_a {
            Some(n_a) if !self.unconfirmed.is_empty() => Some(now + n_a),
            _ => None,
        };
        self.transmitted(now, kind);
    }

    fn transmitted(&mut self, now: Instant, kind: Kind) {
        match kind {
            Kind::Data => {
                let unconfirmed = self.unconfirmed(Kind::Data);
                if self
                    .sender
                    .on_transmitted(now, self.config.borrow(), unconfirmed)
                {
                    self.events.push(Event::Sent { functional: false });
                }
            }
            Kind::FlowControl => self.receiver.on_transmitted(now, self.config.borrow()),
            Kind::Functional => self.events.push(Event::Sent { functional: true }),
            Kind::Stale => {}
        }
    }

    /// The next time at which [`handle_timeout`](Self::handle_timeout) and
    /// [`poll_transmit`](Self::poll_transmit) have something to do without any frame.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        // With no room for a frame nothing is due before one is confirmed, or N_As is over.
        if self.confirms() && self.unconfirmed.is_full() {
            return self.confirm_by;
        }
        let halves = earliest(self.sender.poll_timeout(), self.receiver.poll_timeout());
        earliest(halves, self.confirm_by)
    }

    /// Fires the timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.confirms() && self.confirm_by.is_some_and(|deadline| now >= deadline) {
            self.handle_timeout_a();
        }
        let result = self.sender.handle_timeout(now);
        self.report_send(result);
        if let Err(error) = self.receiver.handle_timeout(now, self.config.borrow()) {
            self.outdate(Kind::FlowControl);
            self.events.push(Event::Failed(error));
        }
    }

    /// The controller sends nothing: whatever has a frame in it fails.
    fn handle_timeout_a(&mut self) {
        let waits = |kind| self.unconfirmed(kind) > 0;
        let (data, flow) = (
            waits(Kind::Data) || waits(Kind::Functional),
            waits(Kind::FlowControl),
        );
        self.unconfirmed.clear();
        self.confirm_by = None;
        if data {
            self.sender.abort();
            self.events
                .push(Event::Failed(Error::TimeoutA(Direction::Send)));
        }
        if flow {
            self.receiver.abort();
            self.events
                .push(Event::Failed(Error::TimeoutA(Direction::Receive)));
        }
    }

    /// The controller has taken no frame for N_As, as it does where others fill the bus or it is
    /// bus off: whatever was to be sent fails (clause 9.8.2). For drivers without confirmations.
    pub fn on_blocked(&mut self) {
        if self.functional_due.take().is_some() || !self.sender.is_idle() {
            self.cancel_send();
            self.events
                .push(Event::Failed(Error::TimeoutA(Direction::Send)));
        }
        // What only receives goes on: nothing of it waits for the controller.
        if self.receiver.owes_flow_control() {
            self.receiver.abort();
            self.events
                .push(Event::Failed(Error::TimeoutA(Direction::Receive)));
        }
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop();
        if let Some(Event::Received { functional }) = event {
            self.last_was_functional = functional;
        }
        event
    }

    /// The message of the last [`Event::Received`].
    #[must_use]
    pub fn received(&self) -> &[u8] {
        if self.last_was_functional {
            self.functional
                .data
                .get(..self.functional.len)
                .unwrap_or(&[])
        } else {
            self.receiver.message()
        }
    }

    /// Keeps the physically addressed message just received until [`release`](Self::release).
    pub fn hold(&mut self) {
        self.receiver.hold();
    }

    /// Gives the storage of the received message up.
    pub fn release(&mut self) {
        self.receiver.release();
    }

    /// Drops the message being sent, if any, without an event. Frames handed out stay out.
    pub fn cancel_send(&mut self) {
        self.sender.abort();
        self.outdate(Kind::Data);
    }

    /// Drops everything: messages both ways, what is held, events.
    pub fn reset(&mut self) {
        self.cancel_send();
        self.receiver.release();
        self.receiver.abort();
        self.outdate(Kind::FlowControl);
        self.functional_due = None;
        self.events.clear();
    }
}

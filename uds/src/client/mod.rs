//! The client machine (ISO 14229-1:2020 clause 7, ISO 14229-2 clause 7): one request at a time to one
//! server, with P2 and P2*, 0x78, 0x21, repetition of what may be repeated, and S3 keep-alive.
//!
//! ```text
//!           request             poll_transmit          on_sent            on_pdu: final
//!   Idle ────────────▶ Queued ───────────────▶ Sending ───────▶ Waiting ─────────────▶ Idle
//!    │ S3_client          ▲                                       │  │ ▲
//!    ▼                    │ repeat: P2 over, response lost        │  └─┘ 0x78: P2*
//!   keep-alive            ├───────────────────────────────────────┤
//!                         └───────────── BackOff ◀────────────────┘ 0x21
//! ```
//!
//! A driver calls, after anything happened, the `on_*` or [`Client::handle_timeout`] for it; then
//! [`Client::poll_transmit`] until `None`, [`Client::poll_event`] until `None`, and sleeps until
//! [`Client::poll_timeout`]. It reports the end of every transmission by [`Client::on_sent`] or
//! [`Client::on_transport_error`]. A driver that knows of a first frame says so by
//! [`Client::on_receive_started`]: a long response may take longer than P2.

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod matching;
#[cfg(test)]
mod tests;
mod types;

pub use types::{
    Answer, Config, Error, Event, KeepAlive, Options, RequestError, Transmit, TransportFault,
};

use crate::nrc::Nrc;
use crate::service::{ServiceId, Session, SubFunction};
use crate::time::{Duration, Instant, earliest};
use matching::{Reply, classify};

const TESTER_PRESENT: [u8; 2] = [0x3E, 0x80];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// To be sent at the next poll.
    Queued,
    /// With the transport.
    Sending,
    /// P2, P2* or, while the transport receives, nothing limits the wait.
    Waiting(Option<Instant>),
    /// Sent again at that time, after 0x21.
    BackOff(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeepAliveState {
    Resting,
    Due,
    Sending,
}

/// A client of one server. `B` holds a request, another `B` a response; both are as long as the
/// longest PDU that shall pass.
#[derive(Debug)]
pub struct Client<B> {
    config: Config,
    p2: Duration,
    p2_star: Duration,
    session: Session,
    request: B,
    request_len: usize,
    response: B,
    response_len: usize,
    options: Options,
    state: State,
    keep_alive: KeepAliveState,
    /// The last time something was sent to or received from the server.
    active_at: Instant,
    /// The end of the request's transmission: the limit of all 0x78 counts from here.
    sent_at: Instant,
    pending: u32,
    busy: u32,
    repeated: u32,
    random: u64,
    progress: Option<Event>,
    done: Option<Result<Answer, Error>>,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Client<B> {
    /// A client of a server that is in its default session.
    pub fn new(config: Config, request: B, response: B) -> Self {
        Self {
            p2: config.p2,
            p2_star: config.p2_star,
            session: Session::DEFAULT,
            request,
            request_len: 0,
            response,
            response_len: 0,
            options: Options::default(),
            state: State::Idle,
            keep_alive: KeepAliveState::Resting,
            active_at: Instant::ZERO,
            sent_at: Instant::ZERO,
            pending: 0,
            busy: 0,
            repeated: 0,
            random: config.seed ^ 0x9E37_79B9_7F4A_7C15,
            progress: None,
            done: None,
            config,
        }
    }

    /// Starts a request; its end is an [`Event::Done`].
    ///
    /// # Errors
    /// When one is running, or `pdu` is no request that fits.
    pub fn request(
        &mut self,
        now: Instant,
        pdu: &[u8],
        options: Options,
    ) -> Result<(), RequestError> {
        if !self.is_idle() {
            return Err(RequestError::Busy);
        }
        if !pdu.first().is_some_and(|sid| ServiceId(*sid).is_request()) {
            return Err(RequestError::NotARequest);
        }
        let buffer = self.request.as_mut().get_mut(..pdu.len());
        buffer.ok_or(RequestError::TooLong)?.copy_from_slice(pdu);
        self.request_len = pdu.len();
        self.options = options;
        self.pending = 0;
        self.busy = 0;
        self.repeated = 0;
        self.progress = None;
        self.sent_at = now;
        self.state = State::Queued;
        Ok(())
    }

    /// Forgets the running request without an event. A response that still comes is ignored.
    pub fn abort(&mut self, now: Instant) {
        self.state = State::Idle;
        self.active_at = now;
        self.progress = None;
        self.done = None;
    }

    /// Whether a new request would be accepted: the last one ended and its end was polled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle && self.done.is_none()
    }

    /// The last positive response, from its service identifier on.
    #[must_use]
    pub fn response(&self) -> &[u8] {
        self.response
            .as_ref()
            .get(..self.response_len)
            .unwrap_or(&[])
    }

    /// The session that the server is in as far as its responses tell.
    #[must_use]
    pub const fn session(&self) -> Session {
        self.session
    }

    /// P2_server and P2*_server as the last session response has them.
    #[must_use]
    pub const fn timing(&self) -> (Duration, Duration) {
        (self.p2, self.p2_star)
    }

    /// Corrects the session: the caller knows of a reset, or that another client changed it.
    pub fn set_session(&mut self, now: Instant, session: Session) {
        self.session = session;
        self.active_at = now;
    }

    /// The next PDU to send. `None` until the one before is reported.
    pub fn poll_transmit(&mut self, _now: Instant) -> Option<Transmit<'_>> {
        if self.keep_alive == KeepAliveState::Sending {
            return None;
        }
        if self.state == State::Queued {
            self.keep_alive = KeepAliveState::Resting;
            self.state = State::Sending;
            return Some(Transmit {
                pdu: self.request.as_ref().get(..self.request_len)?,
                functional: self.options.functional,
            });
        }
        if self.keep_alive == KeepAliveState::Due && self.may_keep_alive() {
            self.keep_alive = KeepAliveState::Sending;
            return Some(Transmit {
                pdu: &TESTER_PRESENT,
                functional: self.config.keep_alive == KeepAlive::Functional,
            });
        }
        None
    }

    /// The transport has sent what [`Client::poll_transmit`] gave: P2 starts.
    pub fn on_sent(&mut self, now: Instant) {
        self.active_at = now;
        if self.keep_alive == KeepAliveState::Sending {
            self.keep_alive = KeepAliveState::Resting;
        } else if self.state == State::Sending {
            self.sent_at = now;
            let p2 = self.options.p2.unwrap_or(self.with_margin(self.p2));
            self.state = State::Waiting(Some(now + p2));
        }
    }

    /// The transport has received the first frame of a longer PDU: P2 is kept.
    pub fn on_receive_started(&mut self, _now: Instant) {
        if let State::Waiting(deadline) = &mut self.state {
            *deadline = None;
        }
    }

    /// The transport failed to send, or to receive a PDU that had begun.
    pub fn on_transport_error(&mut self, now: Instant, fault: TransportFault) {
        if fault == TransportFault::Send && self.keep_alive == KeepAliveState::Sending {
            self.active_at = now;
            // The next one is due soon enough.
            self.keep_alive = KeepAliveState::Resting;
            return;
        }
        match (self.state, fault) {
            (State::Sending, TransportFault::Send)
            | (State::Waiting(_), TransportFault::Receive) => {
                self.repeat_or(now, Error::Transport(fault));
            }
            _ => {}
        }
    }

    /// Takes a PDU from the server. What does not answer the running request is ignored.
    pub fn on_pdu(&mut self, now: Instant, pdu: &[u8]) {
        // A response may overtake the report that its request is sent.
        if self.state == State::Sending {
            self.on_sent(now);
        }
        let State::Waiting(deadline) = self.state else {
            return;
        };
        let request = self.request.as_ref().get(..self.request_len);
        match classify(request.unwrap_or(&[]), pdu) {
            Reply::Positive => self.positive(now, pdu),
            Reply::Negative(Nrc::RESPONSE_PENDING) => self.response_pending(now),
            Reply::Negative(Nrc::BUSY_REPEAT_REQUEST) => self.back_off(now),
            Reply::Negative(nrc) => self.finish(now, Err(Error::Negative(nrc))),
            Reply::Malformed => self.finish(now, Err(Error::Malformed)),
            // It may be the PDU that stopped the clock.
            Reply::Unrelated if deadline.is_none() => {
                self.state = State::Waiting(Some(now + self.with_margin(self.p2)));
            }
            Reply::Unrelated => {}
        }
    }

    /// Acts on every deadline that has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Waiting(Some(deadline)) if now >= deadline => self.silence(now),
            State::BackOff(until) if now >= until => {
                self.progress = Some(Event::Repeated);
                self.state = State::Queued;
            }
            _ => {}
        }
        if self.keep_alive_at().is_some_and(|at| now >= at) {
            self.keep_alive = KeepAliveState::Due;
        }
    }

    /// The next deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let request = match self.state {
            State::Waiting(deadline) => deadline,
            State::BackOff(until) => Some(until),
            State::Idle | State::Queued | State::Sending => None,
        };
        earliest(request, self.keep_alive_at())
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.progress
            .take()
            .or_else(|| self.done.take().map(Event::Done))
    }

    fn with_margin(&self, duration: Duration) -> Duration {
        duration.saturating_add(self.config.margin)
    }

    fn keep_alive_at(&self) -> Option<Instant> {
        let wanted = self.session != Session::DEFAULT
            && self.keep_alive == KeepAliveState::Resting
            && self.may_keep_alive();
        wanted.then(|| self.active_at + self.config.s3)
    }

    /// Physically only between requests; functionally also while the server works on one, since the
    /// loss of its final response would otherwise cost the session (ISO 14229-2 clause 7.4).
    fn may_keep_alive(&self) -> bool {
        match (self.config.keep_alive, self.state) {
            (KeepAlive::Physical | KeepAlive::Functional, State::Idle) => true,
            (KeepAlive::Functional, State::Waiting(_)) => self.pending > 0,
            _ => false,
        }
    }

    fn sid(&self) -> ServiceId {
        ServiceId(self.request.as_ref().first().copied().unwrap_or(0))
    }

    fn sub_function(&self) -> SubFunction {
        SubFunction::from_byte(self.request.as_ref().get(1).copied().unwrap_or(0))
    }

    fn pending_end(&self) -> Instant {
        self.sent_at
            + self
                .options
                .pending_time
                .unwrap_or(self.config.pending_time)
    }

    fn positive(&mut self, now: Instant, pdu: &[u8]) {
        let Some(buffer) = self.response.as_mut().get_mut(..pdu.len()) else {
            return self.finish(now, Err(Error::ResponseTooLong));
        };
        buffer.copy_from_slice(pdu);
        self.response_len = pdu.len();
        // Servers of the 2006 edition answer without timing.
        if let [0x50, _, a, b, c, d, ..] = *pdu {
            let p2_star = u64::from(u16::from_be_bytes([c, d])).saturating_mul(10);
            self.p2 = Duration::from_millis(u16::from_be_bytes([a, b]).into());
            self.p2_star = Duration::from_millis(p2_star);
        }
        self.follow_session();
        self.finish(now, Ok(Answer::Positive));
    }

    /// The session that an accepted request leaves the server in.
    fn follow_session(&mut self) {
        match self.sid() {
            ServiceId::DIAGNOSTIC_SESSION_CONTROL => {
                let session = Session::new(self.sub_function().value());
                self.session = session.unwrap_or(Session::DEFAULT);
            }
            ServiceId::ECU_RESET => {
                self.session = Session::DEFAULT;
                self.p2 = self.config.p2;
                self.p2_star = self.config.p2_star;
            }
            _ => {}
        }
    }

    fn response_pending(&mut self, now: Instant) {
        self.pending = self.pending.saturating_add(1);
        if self.pending > self.config.pending_count || now >= self.pending_end() {
            return self.finish(now, Err(Error::PendingLimit));
        }
        self.progress = Some(Event::Pending {
            count: self.pending,
        });
        let deadline = now + self.with_margin(self.p2_star);
        self.state = State::Waiting(Some(deadline.min(self.pending_end())));
    }

    fn back_off(&mut self, now: Instant) {
        if self.busy >= self.config.busy_count {
            return self.finish(now, Err(Error::Negative(Nrc::BUSY_REPEAT_REQUEST)));
        }
        // Doubles up to 64 times the first, and anything from half of it to all of it.
        let longest = self.config.busy_delay.as_micros();
        let longest = u64::try_from(longest).unwrap_or(u64::MAX);
        let longest = longest.saturating_mul(1 << self.busy.min(6));
        self.busy = self.busy.saturating_add(1);
        let least = longest / 2;
        let spread = self.next_random().checked_rem(least.max(1)).unwrap_or(0);
        let delay = Duration::from_micros(least.saturating_add(spread));
        self.state = State::BackOff(now + delay);
    }

    /// P2 or P2* is over without a final response.
    fn silence(&mut self, now: Instant) {
        let sub_function = self.sid().has_sub_function() && self.sub_function().suppress;
        if self.pending > 0 {
            let error = if now >= self.pending_end() {
                Error::PendingLimit
            } else {
                Error::Timeout
            };
            return self.repeat_or(now, error);
        }
        if sub_function || self.options.functional {
            self.follow_session();
            return self.finish(now, Ok(Answer::Silence));
        }
        self.repeat_or(now, Error::Timeout);
    }

    /// Sends the request again where that is harmless: a block under the same block sequence counter
    /// (clause 14.5.5), a read.
    fn repeat_or(&mut self, now: Instant, error: Error) {
        let sid = self.sid();
        let harmless = sid == ServiceId::TRANSFER_DATA || sid.is_idempotent_read();
        let retries = self.options.retries.unwrap_or(self.config.retries);
        if !harmless || self.repeated >= retries || error == Error::PendingLimit {
            return self.finish(now, Err(error));
        }
        self.repeated = self.repeated.saturating_add(1);
        self.pending = 0;
        self.progress = Some(Event::Repeated);
        self.state = State::Queued;
    }

    fn finish(&mut self, now: Instant, result: Result<Answer, Error>) {
        self.active_at = now;
        self.state = State::Idle;
        self.done = Some(result);
    }

    /// xorshift64.
    fn next_random(&mut self) -> u64 {
        let mut x = self.random.max(1);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        x
    }
}

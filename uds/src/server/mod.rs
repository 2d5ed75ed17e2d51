//! The server machine (ISO 14229-1:2020 clause 7, ISO 14229-2 clause 7): sessions, timing, security,
//! the order of refusals, and which responses are not sent.
//!
//! ```text
//!            on_pdu                  complete                 poll_transmit          on_sent
//!   Idle ───────────▶ (Handler) ───────────────▶ response ──────────────▶ Sending ─────────▶ Idle
//!     ▲                   │ Pending                  ▲
//!     │                   ▼                          │ complete
//!     └── no response   Pending: 7F sid 78 at P2/2, then every P2*/2
//! ```
//!
//! A driver calls, in this order after anything happened: [`Server::on_pdu`], [`Server::on_sent`] or
//! [`Server::handle_timeout`]; then [`Server::poll_transmit`] until `None`, [`Server::poll_event`]
//! until `None`, and sleeps until [`Server::poll_timeout`]. It reports the end of every transmission,
//! also a failed one. The application plugs in as a [`Handler`].

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod response;
mod security;
mod table;
#[cfg(test)]
mod tests;

pub use security::SecurityConfig;
pub use table::{Length, ServiceEntry, SubFunctionEntry};

use core::borrow::Borrow;

use crate::nrc::Nrc;
use crate::service::{SecurityLevel, ServiceId, Session, SubFunction};
use crate::time::{Duration, Instant, earliest};
use response::{Outbox, Running};
use security::{Access, Step};
use table::{Refusal, State};

/// How a request reached the server (ISO 14229-2 T_TAtype).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// To this server alone.
    Physical,
    /// To every server.
    Functional,
}

/// Timing and tables of a server.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// P2_server: the first response follows within this time.
    pub p2: Duration,
    /// P2*_server: a further one follows a 0x78 within this time.
    pub p2_star: Duration,
    /// S3_server: a session other than the default ends after this time without a request.
    pub s3: Duration,
    /// Every service of the server.
    pub services: &'static [ServiceEntry],
    /// SecurityAccess by this machine; `None` passes 0x27 to the [`Handler`] like any other service.
    pub security: Option<SecurityConfig>,
}

impl Config {
    /// P2 50 ms, P2* 5 s, S3 5 s, no SecurityAccess of the machine's own.
    #[must_use]
    pub const fn new(services: &'static [ServiceEntry]) -> Self {
        Self {
            p2: Duration::from_millis(50),
            p2_star: Duration::from_secs(5),
            s3: Duration::from_secs(5),
            services,
            security: None,
        }
    }
}

/// The server's state as a request finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The active session.
    pub session: Session,
    /// The unlocked security level.
    pub unlocked: Option<SecurityLevel>,
    /// Whether the request was functionally addressed.
    pub functional: bool,
}

/// What the application did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The response buffer holds a positive response of this many bytes.
    ///
    /// The machine writes the first byte itself, and the whole response to
    /// DiagnosticSessionControl: there the length does not count.
    Positive(usize),
    /// As `Positive`, and the level is unlocked from here on.
    Unlock(SecurityLevel, usize),
    /// As `Positive`, and nothing is unlocked from here on.
    Lock(usize),
    /// As `Positive`; once it is sent, [`Event::Reset`] follows.
    PositiveThenReset(usize),
    /// Refused.
    Negative(Nrc),
    /// A job runs; [`Server::complete`] will say how it ended. 0x78 is sent when P2/2 is over.
    Pending,
    /// As `Pending`, with the first 0x78 at once: the job keeps the caller from polling in time.
    PendingLong,
    /// 0x78 at once; once it is sent, [`Event::Reset`] follows. Another program answers after it.
    PendingThenReset,
    /// Nothing is sent.
    NoResponse,
}

/// The application behind a server.
pub trait Handler {
    /// Answers `request`, a whole PDU that the service table allows in `context`.
    ///
    /// A positive response is written to `response` from its service identifier on, which any codec
    /// of [`crate::service`] does. TesterPresent does not come here, nor SecurityAccess when
    /// [`Config::security`] is set. DiagnosticSessionControl does, to be accepted with
    /// `Positive(0)` or refused. A request that stays `Pending` must be kept by the handler.
    fn handle(
        &mut self,
        now: Instant,
        context: Context,
        request: &[u8],
        response: &mut [u8],
    ) -> Outcome;

    /// Makes a seed for `level` that [`Handler::verify_key`] will be asked about; `record` is
    /// securityAccessDataRecord. Fills all of `seed`, [`SecurityConfig::seed_len`] bytes.
    ///
    /// # Errors
    /// The code to refuse with.
    fn make_seed(
        &mut self,
        _now: Instant,
        _level: SecurityLevel,
        _record: &[u8],
        _seed: &mut [u8],
    ) -> Result<(), Nrc> {
        Err(Nrc::CONDITIONS_NOT_CORRECT)
    }

    /// Whether `key` answers the last seed of `level`. Compare in constant time.
    fn verify_key(&mut self, _now: Instant, _level: SecurityLevel, _key: &[u8]) -> bool {
        false
    }
}

/// What a server reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A session was entered, perhaps the same one again; security is locked.
    SessionChanged {
        /// The session before.
        from: Session,
        /// The session now.
        to: Session,
        /// Whether S3 ran out; else a request did it.
        timed_out: bool,
    },
    /// The response that a reset waited for is sent: reset now.
    Reset,
}

/// A server of one tester connection; `B` holds one response.
///
/// `C` is the configuration: [`Config`], or a type of its own that borrows constant ones. Of what those
/// have no use for, nothing is linked.
#[derive(Debug)]
pub struct Server<B, C = Config> {
    config: C,
    session: Session,
    access: Access,
    /// The end of S3; `None` in the default session and while a request is being served.
    s3_end: Option<Instant>,
    /// A request of which the transport has only the beginning stops S3.
    receiving: bool,
    running: Option<Running>,
    outbox: Outbox<B>,
    session_event: Option<Event>,
    reset_event: bool,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>, C: Borrow<Config>> Server<B, C> {
    /// A locked server in the default session. `response` should hold the longest response, at least
    /// the 6 bytes of a session response.
    pub fn new(config: C, response: B) -> Self {
        Self {
            config,
            session: Session::DEFAULT,
            access: Access::default(),
            s3_end: None,
            receiving: false,
            running: None,
            outbox: Outbox::new(response),
            session_event: None,
            reset_event: false,
        }
    }

    /// Locks, forgets what is being served or sent, and serves by `config` from here on, in the default
    /// session.
    pub fn restart(&mut self, config: C) {
        self.config = config;
        self.session = Session::DEFAULT;
        self.access = Access::default();
        self.s3_end = None;
        self.receiving = false;
        self.running = None;
        self.outbox.clear();
        self.session_event = None;
        self.reset_event = false;
    }

    /// Continues a DiagnosticSessionControl of the program before, as a locked server that has served
    /// nothing yet: it is in `session` and sends the positive response that 0x78 announced.
    pub fn resume(&mut self, now: Instant, session: Session) {
        self.session = session;
        self.session_response(session);
        self.restart_s3(now);
    }

    /// The active session.
    #[must_use]
    pub const fn session(&self) -> Session {
        self.session
    }

    /// The unlocked security level.
    #[must_use]
    pub const fn unlocked(&self) -> Option<SecurityLevel> {
        self.access.unlocked
    }

    /// Whether a job is pending.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.running.is_some()
    }

    /// Locks, and refuses seeds with 0x37 for [`SecurityConfig::delay`]: for a reset that a tester
    /// may have caused to get new attempts.
    pub fn start_security_delay(&mut self, now: Instant) {
        self.access.lock();
        if let Some(config) = &self.config.borrow().security {
            self.access.start_delay(now, config);
        }
    }

    /// The transport has received the first frame of a longer request: S3 stands still.
    pub fn on_receive_started(&mut self, _now: Instant) {
        self.receiving = true;
        self.s3_end = None;
    }

    /// The request that [`Server::on_receive_started`] announced will not come.
    pub fn on_receive_failed(&mut self, now: Instant) {
        self.receiving = false;
        self.restart_s3(now);
    }

    /// Takes a request PDU.
    pub fn on_pdu<H: Handler + ?Sized>(
        &mut self,
        now: Instant,
        addressing: Addressing,
        pdu: &[u8],
        handler: &mut H,
    ) {
        self.receiving = false;
        let functional = addressing == Addressing::Functional;
        let Some(sid) = pdu.first().copied().map(ServiceId) else {
            return self.restart_s3(now);
        };
        // A response of another server on the same identifier is not a request.
        if !sid.is_request() {
            return self.restart_s3(now);
        }
        if functional && (self.running.is_some() || self.outbox.is_busy()) {
            // A keep-alive of others must not disturb a job; S3 starts when that ends.
            return;
        }
        if self.running.is_some() {
            // A suppressed TesterPresent never gets an answer.
            if pdu != [ServiceId::TESTER_PRESENT.0, 0x80] {
                self.outbox.busy(sid);
            }
            return;
        }
        // A tester that asks again has received the response, whatever the transport says.
        if self.outbox.is_busy() {
            self.on_sent(now);
        }
        self.s3_end = None;
        let config = self.config.borrow();
        let running = Running::new(now, sid, functional, config.p2);
        match table::check(config.services, self.state(functional), pdu) {
            Ok(sub_function) => {
                let running = running.with(sub_function);
                let outcome = self.serve(now, &running, sub_function, pdu, handler);
                self.finish(now, running, outcome);
            }
            Err(Refusal::Negative(nrc)) => self.finish(now, running, Outcome::Negative(nrc)),
            Err(Refusal::Silent) => self.finish(now, running, Outcome::NoResponse),
        }
    }

    /// Ends the pending job with what `outcome` returns after writing the response, if there is one
    /// pending. `Pending` leaves it running.
    pub fn complete(&mut self, now: Instant, outcome: impl FnOnce(&mut [u8]) -> Outcome) {
        let Some(running) = self.running.take() else {
            return;
        };
        let outcome = outcome(self.outbox.response_mut());
        self.finish(now, running, outcome);
    }

    /// The transport has sent, or has failed to send, what [`Server::poll_transmit`] returned.
    pub fn on_sent(&mut self, now: Instant) {
        if !self.outbox.is_sending() {
            return;
        }
        if self.outbox.sent() {
            self.reset_event = true;
        }
        match &mut self.running {
            Some(running) => running.announce_again(now, self.config.borrow().p2_star),
            None if self.outbox.is_busy() => {}
            None => self.restart_s3(now),
        }
    }

    /// Acts on every deadline that has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(running) = &mut self.running
            && running.announce_at.is_some_and(|at| now >= at)
            && !self.outbox.is_busy()
        {
            running.announce_at = None;
            running.announced = true;
            self.outbox.negative(running.sid, Nrc::RESPONSE_PENDING);
        }
        if self.s3_end.is_some_and(|end| now >= end) {
            self.enter(Session::DEFAULT, true);
            self.s3_end = None;
        }
    }

    /// The next deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let announce = self
            .running
            .as_ref()
            .filter(|_| !self.outbox.is_busy())
            .and_then(|running| running.announce_at);
        earliest(announce, self.s3_end)
    }

    /// The next PDU to send to the tester's physical address. `None` until the one before is
    /// reported by [`Server::on_sent`].
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.outbox.transmit()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.session_event.take() {
            return Some(event);
        }
        core::mem::take(&mut self.reset_event).then_some(Event::Reset)
    }

    fn state(&self, functional: bool) -> State {
        State {
            session: self.session,
            unlocked: self.access.unlocked,
            functional,
        }
    }

    fn serve<H: Handler + ?Sized>(
        &mut self,
        now: Instant,
        running: &Running,
        sub_function: Option<SubFunction>,
        pdu: &[u8],
        handler: &mut H,
    ) -> Outcome {
        let value = sub_function.map_or(0, SubFunction::value);
        let response = self.outbox.response_mut();
        match (running.sid, self.config.borrow().security) {
            (ServiceId::TESTER_PRESENT, _) => response::echo(response, value),
            (ServiceId::SECURITY_ACCESS, Some(config)) => {
                match self.security_access(now, &config, value, pdu, handler) {
                    Ok(outcome) => outcome,
                    Err(nrc) => Outcome::Negative(nrc),
                }
            }
            _ => {
                let context = Context {
                    session: self.session,
                    unlocked: self.access.unlocked,
                    functional: running.functional,
                };
                handler.handle(now, context, pdu, response)
            }
        }
    }

    fn security_access<H: Handler + ?Sized>(
        &mut self,
        now: Instant,
        config: &SecurityConfig,
        value: u8,
        pdu: &[u8],
        handler: &mut H,
    ) -> Result<Outcome, Nrc> {
        let step = self.access.request(now, value)?;
        let parameters = pdu.get(2..).unwrap_or(&[]);
        let response = self.outbox.response_mut();
        *response.get_mut(1).ok_or(Nrc::GENERAL_REJECT)? = value;
        let len = config.seed_len.saturating_add(2);
        let seed = response.get_mut(2..len).ok_or(Nrc::RESPONSE_TOO_LONG)?;
        match step {
            Step::AlreadyUnlocked => seed.fill(0),
            Step::MakeSeed(level) => {
                handler.make_seed(now, level, parameters, seed)?;
                self.access.seed_sent(level);
            }
            Step::CheckKey(level) => {
                let matches = handler.verify_key(now, level, parameters);
                self.access.key_checked(now, config, level, matches)?;
                return Ok(Outcome::Positive(2));
            }
        }
        Ok(Outcome::Positive(len))
    }

    /// Turns an outcome into a response, an announcement or nothing.
    fn finish(&mut self, now: Instant, mut running: Running, outcome: Outcome) {
        match outcome {
            Outcome::Positive(len) => self.positive(&running, len, false),
            Outcome::Unlock(level, len) => {
                self.access.unlocked = Some(level);
                self.positive(&running, len, false);
            }
            Outcome::Lock(len) => {
                self.access.lock();
                self.positive(&running, len, false);
            }
            Outcome::PositiveThenReset(len) => self.positive(&running, len, true),
            Outcome::Negative(nrc) => {
                let silent = running.functional && nrc.is_silent_when_functional();
                if running.announced || !silent {
                    self.outbox.negative(running.sid, nrc);
                }
            }
            Outcome::Pending => {
                self.running = Some(running);
                return;
            }
            Outcome::PendingLong => {
                running.announce_at = Some(now);
                self.running = Some(running);
                return self.handle_timeout(now);
            }
            Outcome::PendingThenReset => {
                self.outbox.negative(running.sid, Nrc::RESPONSE_PENDING);
                self.outbox.reset_when_sent();
            }
            Outcome::NoResponse => {}
        }
        if !self.outbox.is_busy() {
            self.restart_s3(now);
        }
    }

    fn positive(&mut self, running: &Running, len: usize, reset: bool) {
        let suppressed = running.suppress && !running.announced;
        if running.sid == ServiceId::DIAGNOSTIC_SESSION_CONTROL {
            let session = running.session().unwrap_or(Session::DEFAULT);
            self.enter(session, false);
            if !suppressed {
                self.session_response(session);
            }
        } else if !suppressed {
            self.outbox.positive(running.sid, len);
        }
        match (reset, self.outbox.is_busy()) {
            (true, true) => self.outbox.reset_when_sent(),
            (true, false) => self.reset_event = true,
            (false, _) => {}
        }
    }

    fn session_response(&mut self, session: Session) {
        let Config { p2, p2_star, .. } = *self.config.borrow();
        let len = response::session(self.outbox.response_mut(), session, p2, p2_star);
        self.outbox
            .positive(ServiceId::DIAGNOSTIC_SESSION_CONTROL, len);
    }

    /// Any transition, also to the same session, locks (clause 10.2, table 24).
    fn enter(&mut self, session: Session, timed_out: bool) {
        let from = match self.session_event {
            Some(Event::SessionChanged { from, .. }) => from,
            _ => self.session,
        };
        self.access.lock();
        self.session = session;
        self.session_event = Some(Event::SessionChanged {
            from,
            to: session,
            timed_out,
        });
    }

    fn restart_s3(&mut self, now: Instant) {
        let stopped = self.session == Session::DEFAULT
            || self.running.is_some()
            || self.receiving
            || self.outbox.is_busy();
        self.s3_end = (!stopped).then(|| now + self.config.borrow().s3);
    }
}

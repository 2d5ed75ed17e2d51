//! The bootloader as one machine.

use core::borrow::BorrowMut;

use uds::can::Frame;
use uds::isotp::{self, Endpoint};
use uds::server::{Addressing, Event as ServerEvent, Server};
use uds::service::{ServiceId, Session};
use uds::time::{Duration, Instant, earliest};

use crate::boot::{BootReason, ResetCause};
use crate::buffers::Bytes;
use crate::flash::{FlashError, FlashOp};
use crate::job::{Answer, Core, Phase};
use crate::mailbox::{Handover, MAX_LEN, Reply, Request};
use crate::platform::Platform;
use crate::server::{Profile, RESPONSE_LEN, is_mailbox};
use crate::verify::TableCache;

pub use crate::job::BootTarget;

/// How long the bootloader stays without a session before it boots what it can.
const IDLE: Duration = Duration::from_secs(5);

/// What the board shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Start this image. The machine goes on serving its mailbox.
    Boot(BootTarget),
    /// Reset. With a handover: leave it in retained RAM for the next [`Bootloader::start`].
    Reset {
        /// Who waits for the programming session.
        handover: Option<Handover>,
    },
}

/// The buffers of a bootloader: `BLOCK` bytes hold the longest request, `PAGE` bytes each of the two
/// page buffers. All of it is zero at first, so a board keeps it in a static that takes no flash.
#[derive(Debug)]
pub struct Memory<const BLOCK: usize, const PAGE: usize> {
    block: [u8; BLOCK],
    pages: Pages<PAGE>,
    table: TableCache,
    outgoing: [u8; RESPONSE_LEN],
    response: [u8; RESPONSE_LEN],
}

impl<const BLOCK: usize, const PAGE: usize> Memory<BLOCK, PAGE> {
    /// Buffers of these sizes. They are checked when the board is compiled: a page buffer holds grant
    /// and header, both together a table page.
    #[must_use]
    pub const fn new() -> Self {
        const {
            assert!(
                PAGE >= 2048 && PAGE <= 65536,
                "two page buffers hold a table page"
            );
            assert!(
                BLOCK >= 256 && BLOCK <= 4096,
                "a block is one of normal length"
            );
        }
        Self {
            block: [0; BLOCK],
            pages: Pages([[0; PAGE]; 2]),
            table: TableCache::new(),
            outgoing: [0; RESPONSE_LEN],
            response: [0; RESPONSE_LEN],
        }
    }
}

impl<const BLOCK: usize, const PAGE: usize> Default for Memory<BLOCK, PAGE> {
    fn default() -> Self {
        Self::new()
    }
}

/// The two page buffers.
#[derive(Debug)]
pub struct Pages<const PAGE: usize>([[u8; PAGE]; 2]);

impl<const PAGE: usize> AsRef<[u8]> for Pages<PAGE> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_flattened()
    }
}

impl<const PAGE: usize> AsMut<[u8]> for Pages<PAGE> {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_flattened_mut()
    }
}

/// Where a bootloader has its [`Memory`]: in itself, or in a static of the board, from where nothing
/// of it is ever moved over the stack.
pub trait Storage {
    /// Memory for blocks.
    type Block: Bytes;
    /// Memory for pages.
    type Pages: Bytes;
    /// Memory for a response.
    type Response: Bytes;
    /// Memory for digests.
    type Table: BorrowMut<TableCache>;
    /// Block, pages, digests, and twice a response.
    fn split(self) -> (Self::Block, Self::Pages, Self::Table, [Self::Response; 2]);
}

impl<const BLOCK: usize, const PAGE: usize> Storage for Memory<BLOCK, PAGE> {
    type Block = [u8; BLOCK];
    type Pages = Pages<PAGE>;
    type Response = [u8; RESPONSE_LEN];
    type Table = TableCache;

    fn split(self) -> (Self::Block, Self::Pages, Self::Table, [Self::Response; 2]) {
        let responses = [self.outgoing, self.response];
        (self.block, self.pages, self.table, responses)
    }
}

impl<'m, const BLOCK: usize, const PAGE: usize> Storage for &'m mut Memory<BLOCK, PAGE> {
    type Block = &'m mut [u8; BLOCK];
    type Pages = &'m mut Pages<PAGE>;
    type Response = &'m mut [u8; RESPONSE_LEN];
    type Table = &'m mut TableCache;

    fn split(self) -> (Self::Block, Self::Pages, Self::Table, [Self::Response; 2]) {
        let responses: [Self::Response; 2] = [&mut self.outgoing, &mut self.response];
        (&mut self.block, &mut self.pages, &mut self.table, responses)
    }
}

/// The bootloader of one ECU, with the buffers of `M`.
///
/// A board calls, in a loop, after anything happened:
///
/// 1. the event: [`handle_frame`](Self::handle_frame), [`on_flash_done`](Self::on_flash_done),
///    [`mailbox_request`](Self::mailbox_request), or [`handle_timeout`](Self::handle_timeout) when
///    the deadline of `poll_timeout` has passed;
/// 2. [`poll`](Self::poll) while it returns `true`, with a budget that lets frames wait no longer
///    than the controller can hold them;
/// 3. [`poll_flash`](Self::poll_flash): one operation at a time, then `on_flash_done`;
/// 4. [`poll_transmit`](Self::poll_transmit), [`poll_mailbox`](Self::poll_mailbox) and
///    [`poll_event`](Self::poll_event) until `None`.
///
/// After [`Event::Reset`] the machine is used up: the ECU resets and starts a new one. After
/// [`Event::Boot`] the application has the bus; frames are ignored, the mailbox is served. An
/// abnormal reset is learned from the [`ResetCause`] of the next start.
#[repr(C)]
pub struct Bootloader<P: Platform, M: Storage = Memory<4095, 4096>> {
    serving: bool,
    mailing: bool,
    /// Whether the application waits for the reply to a UDS request.
    mail_expected: bool,
    /// Whether a passed self-test is still to be made durable.
    self_test_due: bool,
    mail_len: usize,
    /// When to leave, without a session, for what can be booted.
    idle_until: Option<Instant>,
    reset: Option<Event>,
    server: Server<M::Response, Profile>,
    link: Endpoint<M::Block, M::Response, P::Connection>,
    mail: [u8; MAX_LEN],
    // Last, since it ends with what is large.
    core: Core<P, M>,
}

impl<P: Platform, const BLOCK: usize, const PAGE: usize> Bootloader<P, Memory<BLOCK, PAGE>> {
    /// A bootloader with its own buffers. It reads the journal.
    pub fn new(platform: P) -> Self {
        let mut bootloader = Self::over(platform, Memory::new());
        bootloader.core.open_journal();
        bootloader
    }
}

impl<P: Platform, M: Storage> Bootloader<P, M> {
    /// A bootloader over these buffers. Nothing is read before [`Bootloader::start`].
    pub fn over(mut platform: P, memory: M) -> Self {
        let connection = platform.connection();
        let profile = Profile::of_bus(&mut platform);
        let (block, pages, table, [outgoing, response]) = memory.split();
        let longest = u16::try_from(block.as_ref().len()).unwrap_or(u16::MAX);
        Self {
            core: Core::new(platform, pages, table, longest),
            link: Endpoint::new(connection, block, outgoing),
            server: Server::new(profile, response),
            serving: false,
            mailing: false,
            idle_until: None,
            reset: None,
            mail: [0; MAX_LEN],
            mail_len: 0,
            mail_expected: false,
            self_test_due: false,
        }
    }

    /// The first call after [`Bootloader::new`] or [`Bootloader::over`]: why the ECU started, and the
    /// retained RAM, where the application leaves a [`Handover`] at the beginning. One that is not for
    /// this very connection is none.
    pub fn start(&mut self, now: Instant, cause: ResetCause, retained: &[u8]) {
        // Only this ECU's own tester connection may be answered.
        let own = self.link.config();
        let handover = Handover {
            request_id: own.rx_id,
            response_id: own.tx_id,
        };
        let handed_over = handover.is_left_in(retained);
        self.core.open_journal();
        self.core.start(now, cause, handed_over);
        self.advance(now);
    }

    /// The board's parts.
    pub const fn platform(&self) -> &P {
        &self.core.platform
    }

    /// The board's parts.
    pub const fn platform_mut(&mut self) -> &mut P {
        &mut self.core.platform
    }

    /// The journal's state; `None` where the ECU is not provisioned.
    pub const fn state(&self) -> Option<&crate::state::State> {
        self.core.state.as_ref()
    }

    /// What runs, once it was booted.
    pub const fn running(&self) -> Option<&BootTarget> {
        self.core.running.as_ref()
    }

    /// A frame arrived.
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        if !self.serving {
            return;
        }
        self.link.handle_frame(now, frame);
        self.advance(now);
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        if !self.serving {
            return None;
        }
        let frame = self.link.poll_transmit(now);
        self.advance(now);
        frame
    }

    /// The frame of [`Bootloader::poll_transmit`] is on the bus; only where the connection's
    /// `Timeouts::n_a` has a value.
    pub fn on_transmitted(&mut self, now: Instant) {
        self.link.on_transmitted(now);
        self.advance(now);
    }

    /// The next flash operation; `None` while one is under way.
    pub fn poll_flash(&mut self) -> Option<FlashOp<'_>> {
        self.core.poll_flash()
    }

    /// The flash operation ended.
    pub fn on_flash_done(&mut self, now: Instant, result: Result<(), FlashError>) {
        self.core.on_flash_done(result);
        self.advance(now);
    }

    /// Computes: at most `budget` slices, each a page of digests and decryption or two Montgomery
    /// multiplications. Whether there is more to compute.
    pub fn poll(&mut self, now: Instant, budget: u32) -> bool {
        let mut more = true;
        for _ in 0..budget {
            more = self.core.step();
            if !more {
                break;
            }
        }
        self.advance(now);
        more
    }

    /// The next deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let server = self.server.poll_timeout();
        if !self.serving {
            return if self.core.in_application() {
                server
            } else {
                None
            };
        }
        earliest(earliest(server, self.link.poll_timeout()), self.idle_until)
    }

    /// Acts on every deadline that has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.serving {
            self.link.handle_timeout(now);
        }
        self.server.handle_timeout(now);
        self.advance(now);
        if self.serving && self.idle_until.is_some_and(|until| now >= until) {
            self.idle_until = None;
            self.reset.get_or_insert(Event::Reset { handover: None });
        }
    }

    /// What the board shall do.
    pub fn poll_event(&mut self) -> Option<Event> {
        if core::mem::take(&mut self.core.boot_due)
            && let Some(target) = self.core.running
        {
            return Some(Event::Boot(target));
        }
        self.reset.take()
    }

    /// A message of the application ([`Request`]); one that is none is refused.
    pub fn mailbox_request(&mut self, now: Instant, message: &[u8]) {
        if !self.core.in_application() {
            return self.reply(Reply::Refused);
        }
        match Request::parse(message) {
            None => self.reply(Reply::Refused),
            Some(Request::Uds { session, pdu }) => self.mailbox_uds(now, session, pdu),
            Some(Request::SelfTestPassed) => {
                self.core.self_tested = true;
                self.self_test_due = true;
            }
            Some(Request::EnterProgramming(handover)) => {
                self.reset = Some(Event::Reset {
                    handover: Some(handover),
                });
            }
            Some(Request::Reset) => self.reset = Some(Event::Reset { handover: None }),
        }
        self.advance(now);
    }

    /// The reply to the application ([`Reply`]).
    pub fn poll_mailbox(&mut self) -> Option<&[u8]> {
        let len = core::mem::take(&mut self.mail_len);
        self.mail.get(..len).filter(|mail| !mail.is_empty())
    }

    #[inline(never)]
    fn reply(&mut self, reply: Reply<'_>) {
        self.mail_len = reply.encode(&mut self.mail).unwrap_or(0);
    }

    #[inline(never)]
    fn mailbox_uds(&mut self, now: Instant, session: u8, pdu: &[u8]) {
        if self.server.is_pending() || !self.core.is_idle() {
            let sid = pdu.first().copied().unwrap_or(0);
            return self.reply(Reply::Uds(&[0x7F, sid, 0x21]));
        }
        if Session::new(session) != Some(self.server.session()) {
            // The suppress bit: nobody waits for this response. Any change locks.
            let change = [0x10, session | 0x80];
            self.server
                .on_pdu(now, Addressing::Physical, &change, &mut self.core);
            // Before the request, or the change would end what the request begins: its seed.
            self.follow_server();
            if Session::new(session) != Some(self.server.session()) {
                return self.reply(Reply::Refused);
            }
        }
        // An application has no programming session.
        let programs = self.server.session() == Session::PROGRAMMING;
        if programs || pdu.first() == Some(&0x10) {
            return self.reply(Reply::Refused);
        }
        let sid = pdu.first().copied().unwrap_or(0);
        if !is_mailbox(ServiceId(sid)) {
            // A response is nothing to respond to.
            let refused = [0x7F, sid, 0x11];
            let refused = refused.get(..).filter(|_| ServiceId(sid).is_request());
            return self.reply(Reply::Uds(refused.unwrap_or(&[])));
        }
        self.mail_expected = true;
        self.server
            .on_pdu(now, Addressing::Physical, pdu, &mut self.core);
    }

    /// A passed self-test makes a trial healthy as soon as no other job runs.
    fn confirm_self_test(&mut self) {
        if !self.self_test_due || !self.core.is_idle() || self.server.is_pending() {
            return;
        }
        self.self_test_due = false;
        if self.core.healthy(Answer::SelfTest).is_err() {
            self.reply(Reply::Refused);
        }
    }

    /// Carries results from one part to the next until nothing moves.
    #[inline(never)]
    fn advance(&mut self, now: Instant) {
        self.follow_phase(now);
        self.confirm_self_test();
        if self.serving {
            self.receive(now);
        }
        self.finish_job(now);
        self.send(now);
        self.follow_server();
        self.watch_idle(now);
    }

    /// Acts on what the server reports.
    fn follow_server(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::SessionChanged { .. } => self.core.leave_session(),
                ServerEvent::Reset => {
                    self.reset.get_or_insert(Event::Reset { handover: None });
                }
            }
        }
    }

    /// The start has ended: serves the bus, or the mailbox.
    #[inline(never)]
    fn follow_phase(&mut self, now: Instant) {
        match self.core.phase {
            Phase::Serving(reason) if !self.serving => {
                self.serving = true;
                // In a pause after crashes nobody waits for `50 02`.
                if reason == BootReason::Programming && self.core.is_asked_to_program() {
                    self.server.resume(now, Session::PROGRAMMING);
                }
            }
            Phase::Application if !self.mailing => {
                self.mailing = true;
                self.server.restart(Profile::Mailbox);
            }
            _ => {}
        }
    }

    #[inline(never)]
    fn receive(&mut self, now: Instant) {
        while let Some(event) = self.link.poll_event() {
            match event {
                isotp::Event::Started { .. } => self.server.on_receive_started(now),
                isotp::Event::Received { functional } => {
                    let addressing = if functional {
                        Addressing::Functional
                    } else {
                        Addressing::Physical
                    };
                    let pdu = self.link.received();
                    self.server.on_pdu(now, addressing, pdu, &mut self.core);
                    self.idle_until = None;
                }
                isotp::Event::Sent { .. } => self.server.on_sent(now),
                isotp::Event::Failed(error) => match error.direction() {
                    isotp::Direction::Send => self.server.on_sent(now),
                    isotp::Direction::Receive => self.server.on_receive_failed(now),
                },
            }
        }
    }

    /// A job ended: completes the request that waits for it.
    fn finish_job(&mut self, now: Instant) {
        let Some(answer) = self.core.answer.take() else {
            return;
        };
        if answer == Ok(Answer::SelfTest) {
            return self.reply(Reply::Done);
        }
        if !self.server.is_pending() {
            // The self-test's report failed in the flash: that request has another form of reply.
            return self.reply(Reply::Refused);
        }
        let core = &mut self.core;
        self.server
            .complete(now, |response| core.outcome(answer, response));
    }

    #[inline(never)]
    fn send(&mut self, now: Instant) {
        if self.serving {
            while !self.link.is_sending() {
                let Some(pdu) = self.server.poll_transmit() else {
                    break;
                };
                if self.link.send(now, pdu).is_err() {
                    self.server.on_sent(now);
                }
            }
            return;
        }
        if !self.core.in_application() || !self.mail_expected {
            return;
        }
        // One request has one reply: 0x78 is the application's to send.
        while let Some(pdu) = self.server.poll_transmit() {
            if !matches!(pdu, [0x7F, _, 0x78]) {
                self.mail_len = Reply::Uds(pdu).encode(&mut self.mail).unwrap_or(0);
                self.mail_expected = false;
            }
            self.server.on_sent(now);
        }
        if self.mail_expected && !self.server.is_pending() {
            self.mail_expected = false;
            self.reply(Reply::Uds(&[]));
        }
    }

    /// A bootloader that somebody entered does not stay when nobody talks to it. In recovery there
    /// is nothing to leave for.
    fn watch_idle(&mut self, now: Instant) {
        let leaves = self.core.phase == Phase::Serving(BootReason::Programming);
        let idle = leaves && self.server.session() == Session::DEFAULT && !self.server.is_pending();
        if !idle {
            self.idle_until = None;
        } else if self.idle_until.is_none() {
            self.idle_until = Some(now + IDLE);
        }
    }
}

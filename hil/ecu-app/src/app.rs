//! The application as a machine: heartbeat, watchdog, self-test, and one tester connection.
//!
//! The program on Linux drives it by its socket and clock; in virtual time the virtual ECU does.

use ecu_bootloader::mailbox::{Handover, Reply, Request};
use uds::can::{Format, Frame};
use uds::isotp::{Config as IsoTpConfig, Endpoint, Event as IsoTpEvent};
use uds::nrc::Nrc;
use uds::server::{Addressing, Event, Outcome, Server};
use uds::service::Session;
use uds::time::{Duration, Instant, earliest};

use super::config::{Behaviour, Config};
use super::diagnostics::Diagnostics;
use super::link::{BootInfo, Message};
use super::mailbox::{self, Mailbox};
use super::services;

const HEARTBEAT: Duration = Duration::from_millis(100);
/// A quarter of the watchdog's time.
const KICK: Duration = Duration::from_millis(250);
/// The self-test is over when this many heartbeats are sent.
const SELF_TEST_HEARTBEATS: u32 = 3;
/// Longest request and response.
const PDU: usize = 512;

/// Where the application's messages go.
pub(crate) trait Host {
    /// Sends a message to the virtual ECU.
    fn send(&mut self, message: &Message<'_>);
}

/// How a bad application ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// As a fault would end it.
    Crash,
    /// It does nothing any more.
    Hang,
    /// It ends by itself.
    Exit,
}

pub(crate) struct App {
    info: BootInfo,
    diagnostics: Diagnostics,
    isotp: Endpoint<[u8; PDU], [u8; PDU]>,
    server: Server<[u8; PDU]>,
    next_heartbeat: Instant,
    next_kick: Instant,
    heartbeats: u32,
    tested: bool,
    mailbox: Mailbox,
    fate: Option<Fate>,
}

impl App {
    pub(crate) fn new(now: Instant, config: Config, info: BootInfo) -> Self {
        let make = if info.fd {
            IsoTpConfig::fd
        } else {
            IsoTpConfig::new
        };
        let mut isotp = make(info.response_id, info.request_id);
        isotp.functional_id = Some(info.functional_id);
        Self {
            info,
            diagnostics: Diagnostics::new(config),
            isotp: Endpoint::new(isotp, [0; PDU], [0; PDU]),
            server: Server::new(services::CONFIG, [0; PDU]),
            next_heartbeat: now,
            next_kick: now,
            heartbeats: 0,
            tested: false,
            mailbox: Mailbox::new(),
            fate: (config.behaviour == Behaviour::Crash).then_some(Fate::Crash),
        }
    }

    /// How it ends, once it does; nothing else is asked of it then.
    pub(crate) const fn fate(&self) -> Option<Fate> {
        self.fate
    }

    /// When [`App::handle_timeout`] is to be called at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        let own = self.next_heartbeat.min(self.next_kick);
        earliest(
            Some(own),
            earliest(self.isotp.poll_timeout(), self.server.poll_timeout()),
        )
        .unwrap_or(own)
    }

    /// A packet of the virtual ECU.
    pub(crate) fn handle_packet(&mut self, now: Instant, packet: &[u8], host: &mut impl Host) {
        match Message::parse(packet) {
            Some(Message::Frame(frame)) => {
                self.isotp.handle_frame(now, &frame);
                self.work(now, host);
            }
            Some(Message::MailboxReply(message)) => self.mailbox_reply(now, message, host),
            Some(Message::Standstill(still)) => self.diagnostics.standstill = still,
            _ => {}
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, host: &mut impl Host) {
        self.isotp.handle_timeout(now);
        self.server.handle_timeout(now);
        self.work(now, host);
        if now >= self.next_kick {
            self.next_kick = now + KICK;
            host.send(&Message::Kick);
        }
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + HEARTBEAT;
            self.heartbeat(host);
            self.mailbox.heartbeat();
            self.mailbox.work(host);
        }
    }

    fn heartbeat(&mut self, host: &mut impl Host) {
        if self.diagnostics.transmit {
            let data = self.diagnostics.config.heartbeat();
            if let Some(frame) = Frame::new(self.info.heartbeat_id, Format::Classical, &data) {
                host.send(&Message::Frame(frame));
            }
        }
        self.heartbeats = self.heartbeats.saturating_add(1);
        if self.diagnostics.config.behaviour == Behaviour::Hang {
            self.fate = Some(Fate::Hang);
            return;
        }
        if self.heartbeats >= SELF_TEST_HEARTBEATS && !self.tested {
            self.tested = true;
            if self.diagnostics.config.behaviour == Behaviour::FailSelfTest {
                self.fate = Some(Fate::Exit);
                return;
            }
            self.mailbox.self_test_passed();
        }
    }

    /// Carries requests from ISO-TP to the server and responses back, until nothing moves.
    fn work(&mut self, now: Instant, host: &mut impl Host) {
        loop {
            self.transport_events(now);
            if let Some(pdu) = self.server.poll_transmit()
                && self.isotp.send(now, pdu).is_err()
            {
                self.server.on_sent(now);
            }
            let mut idle = true;
            while let Some(frame) = self.isotp.poll_transmit(now) {
                host.send(&Message::Frame(frame));
                idle = false;
            }
            if idle {
                break;
            }
        }
        while let Some(event) = self.server.poll_event() {
            self.on_server_event(event, host);
        }
        self.mailbox.work(host);
    }

    fn transport_events(&mut self, now: Instant) {
        while let Some(event) = self.isotp.poll_event() {
            match event {
                IsoTpEvent::Started { .. } => self.server.on_receive_started(now),
                IsoTpEvent::Received { functional } => self.request(now, functional),
                IsoTpEvent::Sent { .. } => self.server.on_sent(now),
                IsoTpEvent::Failed(error) => match error.direction() {
                    uds::isotp::Direction::Receive => self.server.on_receive_failed(now),
                    uds::isotp::Direction::Send => self.server.on_sent(now),
                },
            }
        }
    }

    fn request(&mut self, now: Instant, functional: bool) {
        let addressing = if functional {
            Addressing::Functional
        } else {
            Addressing::Physical
        };
        let mut pdu = [0; PDU];
        let received = self.isotp.received();
        let Some(pdu) = pdu.get_mut(..received.len()) else {
            return;
        };
        pdu.copy_from_slice(received);
        self.server
            .on_pdu(now, addressing, pdu, &mut self.diagnostics);
        if core::mem::take(&mut self.diagnostics.forward)
            && !self.mailbox.forward(self.server.session(), pdu)
        {
            let nrc = Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT;
            self.server.complete(now, |_| Outcome::Negative(nrc));
        }
    }

    fn on_server_event(&mut self, event: Event, host: &mut impl Host) {
        match event {
            Event::SessionChanged { to, .. } => {
                if to == Session::DEFAULT {
                    self.diagnostics.transmit = true;
                }
                self.mailbox.lock();
            }
            Event::Reset if self.diagnostics.programming => {
                let handover = Handover {
                    request_id: self.info.request_id,
                    response_id: self.info.response_id,
                };
                mailbox::send(host, &Request::EnterProgramming(handover));
            }
            Event::Reset => mailbox::send(host, &Request::Reset),
        }
    }

    fn mailbox_reply(&mut self, now: Instant, message: &[u8], host: &mut impl Host) {
        let pdu = match self.mailbox.on_reply(message) {
            Some(Reply::Uds(pdu)) => pdu,
            Some(Reply::Done | Reply::Refused) => &[0x7F, 0, Nrc::CONDITIONS_NOT_CORRECT.0][..],
            None => return self.mailbox.work(host),
        };
        self.server.complete(now, |response| match *pdu {
            [] => Outcome::NoResponse,
            [0x7F, _, nrc] => Outcome::Negative(Nrc(nrc)),
            _ => match response.get_mut(..pdu.len()) {
                Some(out) => {
                    out.copy_from_slice(pdu);
                    Outcome::Positive(pdu.len())
                }
                None => Outcome::Negative(Nrc::RESPONSE_TOO_LONG),
            },
        });
        self.work(now, host);
    }
}

//! The loop: heartbeat, watchdog, self-test, and one tester connection.

use core::ffi::c_int;

use ecu_bootloader::mailbox::{Handover, Reply, Request};
use uds::can::{Format, Frame};
use uds::isotp::{Config as IsoTpConfig, Endpoint, Event as IsoTpEvent};
use uds::nrc::Nrc;
use uds::server::{Addressing, Event, Outcome, Server};
use uds::service::{ServiceId, Session};
use uds::time::{Duration, Instant, earliest};

use crate::config::{Behaviour, Config};
use crate::diagnostics::Diagnostics;
use crate::link::{BootInfo, MAX_LEN, Message};
use crate::services;
use crate::system::{self, Ready};

const HEARTBEAT: Duration = Duration::from_millis(100);
/// A quarter of the watchdog's time.
const KICK: Duration = Duration::from_millis(250);
/// The self-test is over when this many heartbeats are sent.
const SELF_TEST_HEARTBEATS: u32 = 3;
/// Longest request and response.
const PDU: usize = 512;

/// Runs the application until the ECU resets it.
pub(crate) fn run(config: Config) -> c_int {
    if config.behaviour == Behaviour::Crash {
        system::crash();
    }
    let mut buffer = [0; MAX_LEN];
    let Some(info) = boot_info(&mut buffer) else {
        return 1;
    };
    let mut app = App::new(config, info);
    loop {
        match system::wait_until(app.deadline()) {
            Ready::Closed => return 0,
            Ready::Packet => {
                while let Some(packet) = system::receive(&mut buffer) {
                    if packet.is_empty() {
                        return 0;
                    }
                    app.handle_packet(system::now(), packet);
                }
            }
            Ready::Timeout => {}
        }
        app.handle_timeout(system::now());
    }
}

/// The first packet of the virtual ECU.
fn boot_info(buffer: &mut [u8]) -> Option<BootInfo> {
    let deadline = system::now() + Duration::from_secs(5);
    match system::wait_until(deadline) {
        Ready::Packet => match Message::parse(system::receive(buffer)?)? {
            Message::BootInfo(info) => Some(info),
            _ => None,
        },
        Ready::Timeout | Ready::Closed => None,
    }
}

struct App {
    info: BootInfo,
    diagnostics: Diagnostics,
    isotp: Endpoint<[u8; PDU], [u8; PDU]>,
    server: Server<[u8; PDU]>,
    next_heartbeat: Instant,
    next_kick: Instant,
    heartbeats: u32,
    tested: bool,
    /// Replies of the boot services to come that nobody waits for.
    unawaited: u32,
}

impl App {
    fn new(config: Config, info: BootInfo) -> Self {
        let make = if info.fd {
            IsoTpConfig::fd
        } else {
            IsoTpConfig::new
        };
        let mut isotp = make(info.response_id, info.request_id);
        isotp.functional_id = Some(info.functional_id);
        let now = system::now();
        Self {
            info,
            diagnostics: Diagnostics::new(config),
            isotp: Endpoint::new(isotp, [0; PDU], [0; PDU]),
            server: Server::new(services::CONFIG, [0; PDU]),
            next_heartbeat: now,
            next_kick: now,
            heartbeats: 0,
            tested: false,
            unawaited: 0,
        }
    }

    fn deadline(&self) -> Instant {
        let own = self.next_heartbeat.min(self.next_kick);
        earliest(
            Some(own),
            earliest(self.isotp.poll_timeout(), self.server.poll_timeout()),
        )
        .unwrap_or(own)
    }

    fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        match Message::parse(packet) {
            Some(Message::Frame(frame)) => {
                self.isotp.handle_frame(now, &frame);
                self.work(now);
            }
            Some(Message::MailboxReply(message)) => self.mailbox_reply(now, message),
            Some(Message::Standstill(still)) => self.diagnostics.standstill = still,
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.isotp.handle_timeout(now);
        self.server.handle_timeout(now);
        self.work(now);
        if now >= self.next_kick {
            self.next_kick = now + KICK;
            send(&Message::Kick);
        }
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + HEARTBEAT;
            self.heartbeat();
        }
    }

    fn heartbeat(&mut self) {
        if self.diagnostics.transmit {
            let data = self.diagnostics.config.heartbeat();
            if let Some(frame) = Frame::new(self.info.heartbeat_id, Format::Classical, &data) {
                send(&Message::Frame(frame));
            }
        }
        self.heartbeats = self.heartbeats.saturating_add(1);
        if self.diagnostics.config.behaviour == Behaviour::Hang {
            system::hang();
        }
        if self.heartbeats >= SELF_TEST_HEARTBEATS && !self.tested {
            self.tested = true;
            if self.diagnostics.config.behaviour == Behaviour::FailSelfTest {
                system::exit(1);
            }
            self.ask(&Request::SelfTestPassed);
        }
    }

    /// Carries requests from ISO-TP to the server and responses back, until nothing moves.
    fn work(&mut self, now: Instant) {
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
        if let Some(pdu) = self.server.poll_transmit()
            && self.isotp.send(now, pdu).is_err()
        {
            self.server.on_sent(now);
        }
        while let Some(frame) = self.isotp.poll_transmit(now) {
            send(&Message::Frame(frame));
        }
        while let Some(IsoTpEvent::Sent { .. }) = self.isotp.poll_event() {
            self.server.on_sent(now);
        }
        while let Some(event) = self.server.poll_event() {
            self.on_server_event(event);
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
        if core::mem::take(&mut self.diagnostics.forward) {
            self.ask(&Request::Uds {
                session: self.server.session().value(),
                pdu,
            });
        }
    }

    fn on_server_event(&mut self, event: Event) {
        match event {
            Event::SessionChanged { to, .. } => {
                if to == Session::DEFAULT {
                    self.diagnostics.transmit = true;
                }
                // Any change of session locks; the boot services keep the lock.
                let pdu = [ServiceId::DIAGNOSTIC_SESSION_CONTROL.0, to.value()];
                self.unawaited = self.unawaited.saturating_add(1);
                self.ask(&Request::Uds {
                    session: to.value(),
                    pdu: &pdu,
                });
            }
            Event::Reset if self.diagnostics.programming => {
                let handover = Handover {
                    request_id: self.info.request_id,
                    response_id: self.info.response_id,
                };
                self.ask(&Request::EnterProgramming(handover));
            }
            Event::Reset => self.ask(&Request::Reset),
        }
    }

    fn mailbox_reply(&mut self, now: Instant, message: &[u8]) {
        let Some(Reply::Uds(pdu)) = Reply::parse(message) else {
            return;
        };
        if self.unawaited > 0 {
            self.unawaited = self.unawaited.saturating_sub(1);
            return;
        }
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
        self.work(now);
    }

    fn ask(&self, request: &Request<'_>) {
        let mut buffer = [0; MAX_LEN];
        if let Some(len) = request.encode(&mut buffer)
            && let Some(message) = buffer.get(..len)
        {
            send(&Message::MailboxRequest(message));
        }
    }
}

fn send(message: &Message<'_>) {
    let mut buffer = [0; MAX_LEN];
    if let Some(len) = message.encode(&mut buffer)
        && let Some(packet) = buffer.get(..len)
    {
        system::send(packet);
    }
}

//! One ECU and one tester on one bus, in virtual time.

use std::collections::VecDeque;

use ecu_image::crypto::MacKey;
use uds::can::{CanId, Frame};
use uds::client::{self, Answer, Client};
use uds::isotp::{self, Endpoint};
use uds::time::{Duration, Instant, earliest};
use virtual_ecu::app::{Behaviour, heartbeat_version};
use virtual_ecu::chip::{Chip, Otp};
use virtual_ecu::event::Event;
use virtual_ecu::machine::{Machine, Options};
use virtual_ecu::provision::provision;
use virtual_ecu::scripted::Scripts;

use crate::images::{ACCESS_KEY, Image, hardware, image};

/// Time of a frame on the bus.
const FRAME: Duration = Duration::from_micros(250);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Ecu,
    Tester,
}

pub(crate) struct Bench {
    pub(crate) now: Instant,
    pub(crate) machine: Machine<Scripts>,
    pub(crate) events: Vec<Event>,
    /// Versions of the heartbeats since power on.
    pub(crate) heartbeats: Vec<String>,
    transport: Endpoint<Vec<u8>, Vec<u8>>,
    client: Client<Vec<u8>>,
    /// Frames in the order in which they are on the bus, with the end of each.
    bus: VecDeque<(Instant, Node, Frame)>,
    /// Steps since time last moved.
    idle_steps: u32,
    /// How long the host takes from one call of the machine to the next.
    pub(crate) host_delay: Duration,
}

/// Why a request was not answered positively.
pub(crate) type Refusal = client::Error;

impl Bench {
    /// An ECU with a good factory application 1.0.0, before its first power on.
    pub(crate) fn new(fd: bool) -> Self {
        let hardware = hardware(fd);
        let chip = Chip::new(nor::Nor::in_memory(hardware.geometry()));
        let factory = image(1, Behaviour::Good);
        provision(&hardware, &chip, &factory.packed, &factory.grant).unwrap();
        let id = |raw| CanId::standard(raw).unwrap();
        let make = if fd {
            isotp::Config::fd
        } else {
            isotp::Config::new
        };
        let mut connection = make(id(0x7E0), id(0x7E8));
        connection.functional_id = Some(id(0x7DF));
        let options = Options::default();
        Self {
            now: Instant::ZERO,
            machine: Machine::new(hardware, chip, Otp::in_memory(), Scripts, options).unwrap(),
            events: Vec::new(),
            heartbeats: Vec::new(),
            transport: Endpoint::new(connection, vec![0; 4200], vec![0; 4200]),
            client: Client::new(client::Config::default(), vec![0; 4200], vec![0; 4200]),
            bus: VecDeque::new(),
            idle_steps: 0,
            host_delay: Duration::ZERO,
        }
    }

    pub(crate) fn power_on(&mut self) {
        self.machine.power_on(self.now);
        self.heartbeats.clear();
        self.client
            .set_session(self.now, uds::service::Session::DEFAULT);
    }

    fn put_on_bus(&mut self, from: Node, frame: Frame) {
        let free = self.bus.back().map_or(self.now, |(end, ..)| *end);
        self.bus
            .push_back((free.max(self.now) + FRAME, from, frame));
    }

    /// Goes to the next point in time at which anything happens, at most to `limit`.
    fn step(&mut self, limit: Instant) {
        self.outputs();
        let next = [
            self.bus.front().map(|(end, ..)| *end),
            self.machine.poll_timeout(),
            self.transport.poll_timeout(),
            self.client.poll_timeout(),
            Some(limit),
        ];
        let next = next.into_iter().fold(None, earliest).unwrap();
        self.idle_steps = if next > self.now {
            0
        } else {
            self.idle_steps + 1
        };
        assert!(self.idle_steps < 100_000, "a deadline that nobody meets");
        self.now = self.now.max(next);
        while self.bus.front().is_some_and(|(end, ..)| *end <= self.now) {
            let (_, from, frame) = self.bus.pop_front().unwrap();
            self.deliver(from, &frame);
        }
        self.machine.handle_timeout(self.now);
        self.now = self.now + self.host_delay;
        self.transport.handle_timeout(self.now);
        self.client.handle_timeout(self.now);
        self.outputs();
    }

    fn deliver(&mut self, from: Node, frame: &Frame) {
        if from == Node::Tester {
            return self.machine.handle_frame(self.now, frame);
        }
        if frame.id().raw() == 0x510 {
            self.heartbeats
                .push(heartbeat_version(frame.data()).unwrap());
        }
        self.transport.handle_frame(self.now, frame);
        self.transport_events();
    }

    fn transport_events(&mut self) {
        while let Some(event) = self.transport.poll_event() {
            match event {
                isotp::Event::Started { .. } => self.client.on_receive_started(self.now),
                isotp::Event::Received { .. } => {
                    self.client.on_pdu(self.now, self.transport.received());
                }
                isotp::Event::Sent { .. } => self.client.on_sent(self.now),
                isotp::Event::Failed(error) => {
                    let fault = match error.direction() {
                        isotp::Direction::Send => client::TransportFault::Send,
                        isotp::Direction::Receive => client::TransportFault::Receive,
                    };
                    self.client.on_transport_error(self.now, fault);
                }
            }
        }
    }

    fn outputs(&mut self) {
        while let Some(frame) = self.machine.poll_transmit(self.now) {
            self.put_on_bus(Node::Ecu, frame);
        }
        // Who was told that there is none waits for a deadline, and nobody else asks.
        let forgotten = self.machine.poll_transmit(self.now);
        assert_eq!(forgotten, None, "a frame after the last one");
        while let Some(event) = self.machine.poll_event() {
            self.events.push(event);
        }
        if let Some(transmit) = self.client.poll_transmit(self.now) {
            let sent = if transmit.functional {
                self.transport.send_functional(self.now, transmit.pdu)
            } else {
                self.transport.send(self.now, transmit.pdu)
            };
            sent.unwrap();
        }
        while let Some(frame) = self.transport.poll_transmit(self.now) {
            self.put_on_bus(Node::Tester, frame);
        }
        self.transport_events();
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(end);
        }
    }

    /// Waits for the `count`th heartbeat of `version` since power on.
    pub(crate) fn wait_for(&mut self, version: &str, count: usize) {
        let end = self.now + Duration::from_secs(60);
        while self.heartbeats.iter().filter(|v| *v == version).count() < count {
            assert!(self.now < end, "no {version}: {:?}", self.events);
            self.step(end);
        }
    }

    /// Sends a request and waits for its end.
    pub(crate) fn request(&mut self, pdu: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.ask(pdu, client::Options::default())
    }

    /// Sends a request to every ECU; an empty response is silence.
    pub(crate) fn functional(&mut self, pdu: &[u8]) -> Result<Vec<u8>, Refusal> {
        let options = client::Options {
            functional: true,
            ..client::Options::default()
        };
        self.ask(pdu, options)
    }

    fn ask(&mut self, pdu: &[u8], options: client::Options) -> Result<Vec<u8>, Refusal> {
        self.client.request(self.now, pdu, options).unwrap();
        let limit = self.now + Duration::from_secs(700);
        loop {
            match self.client.poll_event() {
                Some(client::Event::Done(Ok(Answer::Positive))) => {
                    return Ok(self.client.response().to_vec());
                }
                Some(client::Event::Done(Ok(Answer::Silence))) => return Ok(Vec::new()),
                Some(client::Event::Done(Err(error))) => return Err(error),
                Some(_) => {}
                None => {
                    assert!(self.now < limit, "no end of {pdu:02X?}");
                    self.step(limit);
                }
            }
        }
    }

    pub(crate) fn routine(&mut self, id: u16) -> Result<(), Refusal> {
        let [high, low] = id.to_be_bytes();
        let response = self.request(&[0x31, 1, high, low])?;
        assert_eq!(response, [0x71, 1, high, low, 0]);
        Ok(())
    }

    pub(crate) fn unlock(&mut self) -> Result<(), Refusal> {
        let seed = self.request(&[0x27, 1])?;
        if seed[2..] == [0; 16] {
            return Ok(());
        }
        let key = MacKey::new(ACCESS_KEY).mac(&[&seed[2..], &[1]].concat());
        self.request(&[&[0x27, 2], &key[..]].concat()).map(drop)
    }

    /// FD01: phase, running slot, boot reason, state of the running and of the other slot.
    pub(crate) fn status(&mut self) -> [u8; 5] {
        let response = self.request(&[0x22, 0xFD, 1]).unwrap();
        assert_eq!(response.len(), 3 + 84);
        response[4..9].try_into().unwrap()
    }

    pub(crate) fn floor(&mut self) -> u32 {
        let response = self.request(&[0x22, 0xFD, 1]).unwrap();
        u32::from_be_bytes(response[11..15].try_into().unwrap())
    }

    pub(crate) fn enter_programming(&mut self) -> Result<(), Refusal> {
        self.request(&[0x10, 3])?;
        self.routine(0x0203)?;
        self.request(&[0x10, 2])?;
        self.unlock()
    }

    fn download(&mut self, format: u8, address: u32, data: &[u8]) -> Result<(), Refusal> {
        let len = u32::try_from(data.len()).unwrap();
        let request = [
            &[0x34, format, 0x44][..],
            &address.to_be_bytes(),
            &len.to_be_bytes(),
        ];
        let answer = self.request(&request.concat())?;
        let longest = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
        let blocks = data.chunks(2048.min(longest - 2));
        for (counter, block) in (1u8..).chain(0..).zip(blocks) {
            self.request(&[&[0x36, counter], block].concat())?;
        }
        self.request(&[0x37]).map(drop)
    }

    /// The sequence of the ECU profile up to a staged image; resumes where FD00 says.
    pub(crate) fn stage(&mut self, image: &Image) -> Result<(), Refusal> {
        self.enter_programming()?;
        self.request(&[&[0x2E, 0xF1, 0x5A][..], &[0x26; 10]].concat())?;
        let progress = self.request(&[0x22, 0xFD, 0])?;
        let (mut state, same) = (progress[3], progress[5..37] == image.digest.0);
        if state == 0 || !same {
            self.download(0, 0xF000_0000, &image.metadata())?;
            state = 1;
        }
        if state < 2 {
            self.routine(0xFF00)?;
        }
        let progress = self.request(&[0x22, 0xFD, 0])?;
        let offset = u32::from_be_bytes(progress[49..53].try_into().unwrap());
        let rest = &image.pages()[offset as usize..];
        if !rest.is_empty() {
            self.download(1, offset, rest)?;
        }
        self.routine(0x0202)?;
        self.routine(0xFF01)
    }

    /// Activates what is staged, in the same programming session, and resets into the trial.
    pub(crate) fn activate(&mut self) -> Result<(), Refusal> {
        self.routine(0x0210)?;
        self.heartbeats.clear();
        self.request(&[0x11, 1]).map(drop)
    }
}

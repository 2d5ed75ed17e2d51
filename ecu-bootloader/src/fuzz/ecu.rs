//! An ECU of the real machine, a flash in RAM and a tester at the other end of its CAN frames, in
//! virtual time.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use ecu_image::keyset::KeyStatus;
use ecu_image::{LogicalBlock, SecurityCounter};
use uds::can::{CanId, Frame};
use uds::isotp::{self, Endpoint};
use uds::service::SecurityLevel;
use uds::time::{Duration, Instant, earliest};

use super::flash::{End, LAYOUT, Ram, touches};
use super::images::{HARDWARE, Image, SERIAL, Signatures, key_set, mac_key, wrap_key};
use crate::boot::{BootReason, ResetCause};
use crate::counter::JournaledCounter;
use crate::flash::FlashError;
use crate::keys::SoftKeyStore;
use crate::layout::SlotId;
use crate::mailbox::{Handover, Reply, Request};
use crate::platform::{Board, COUNTER_JUMP, Parts};
use crate::provision::{self, provision};
use crate::{BootTarget, Bootloader, Event, access};

type Platform = Parts<Ram, SoftKeyStore, JournaledCounter, Signatures, fn(&mut [u8])>;
type Machine = Bootloader<Platform>;

/// What goes wrong in the flash, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// Operations that succeed before.
    pub(super) after: u8,
    pub(super) end: End,
}

/// What every script begins with, made once: the OEM's images and a provisioned flash.
#[derive(Debug)]
pub struct Factory {
    images: [Image; 4],
    flash: Vec<u8>,
}

impl Factory {
    /// A flash with the first image in the factory slot.
    ///
    /// # Panics
    /// When the image is not accepted.
    #[must_use]
    pub fn new() -> Self {
        let images = Image::all();
        let flash = Ram::blank();
        let [factory, ..] = &images;
        provision(
            &board(),
            &mut keys(),
            &provision::Parts {
                image: &factory.packed,
                grant: &factory.grant,
                key_set: &key_set(1, KeyStatus::Active),
                floor: SecurityCounter(1),
                page_buffer: 4096,
            },
            &mut [0; 4096],
            |op| flash.perform(op, End::Done),
        )
        .unwrap();
        let flash = flash.with(|bytes| bytes.clone());
        Self { images, flash }
    }
}

impl Default for Factory {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) struct Ecu<'a> {
    pub(super) images: &'a [Image; 4],
    pub(super) flash: Ram,
    pub(super) fault: Option<Fault>,
    /// How long an operation takes.
    pub(super) flash_time: Duration,
    /// Final responses since the last request.
    pub(super) responses: Vec<Vec<u8>>,
    machine: Box<Machine>,
    tester: Endpoint<Vec<u8>, Vec<u8>>,
    now: Instant,
    busy: Option<(Instant, Result<(), FlashError>)>,
    booted: Option<BootTarget>,
    reset: Option<Option<Handover>>,
    floor: SecurityCounter,
}

fn id(raw: u16) -> CanId {
    CanId::standard(raw).unwrap()
}

pub(super) fn board() -> Board {
    let mut connection = isotp::Config::fd(id(0x7E8), id(0x7E0));
    connection.functional_id = Some(id(0x7DF));
    Board {
        layout: LAYOUT,
        hardware_id: HARDWARE.parse().unwrap(),
        serial: SERIAL.parse().unwrap(),
        vin: *b"FUZZ0000000000001",
        supplier: "canopus",
        boot_software: "boot",
        logical_block: LogicalBlock::APPLICATION,
        max_block_length: 4095,
        allow_rsa_2048: false,
        max_counter_jump: COUNTER_JUMP,
        connection,
    }
}

pub(super) fn keys() -> SoftKeyStore {
    SoftKeyStore::new(wrap_key(), mac_key(2), mac_key(3), mac_key(4))
}

fn machine(flash: &Ram) -> Box<Machine> {
    Box::new(Bootloader::new(Parts {
        board: board(),
        flash: flash.clone(),
        keys: keys(),
        counter: JournaledCounter,
        signatures: Signatures::default(),
        random: (|seed: &mut [u8]| seed.fill(0xA5)) as fn(&mut [u8]),
    }))
}

fn tester() -> Endpoint<Vec<u8>, Vec<u8>> {
    let mut config = isotp::Config::fd(id(0x7E0), id(0x7E8));
    config.functional_id = Some(id(0x7DF));
    Endpoint::new(config, vec![0; 4095], vec![0; 4095])
}

impl<'a> Ecu<'a> {
    /// Provisioned, switched on, its application running.
    pub(super) fn new(factory: &'a Factory) -> Self {
        let flash = Ram::new(factory.flash.clone());
        let mut ecu = Self {
            machine: machine(&flash),
            images: &factory.images,
            flash,
            fault: None,
            flash_time: Duration::ZERO,
            responses: Vec::new(),
            tester: tester(),
            now: Instant::from_millis(1),
            busy: None,
            booted: None,
            reset: None,
            floor: SecurityCounter(1),
        };
        ecu.start(ResetCause::PowerOn, None);
        assert!(ecu.booted.is_some(), "the factory image boots");
        ecu
    }

    /// Resets and runs until nothing moves.
    pub(super) fn start(&mut self, cause: ResetCause, handover: Option<Handover>) {
        self.machine = machine(&self.flash);
        self.tester = tester();
        self.booted = None;
        self.reset = None;
        self.busy = None;
        let retained = handover.map(|handover| handover.encode());
        let retained = retained.as_ref().map_or(&[][..], |bytes| bytes);
        self.machine.start(self.now, cause, retained);
        self.settle();
    }

    /// Performs the reset that the machine asked for, if it did.
    pub(super) fn follow_reset(&mut self) {
        if let Some(handover) = self.reset.take() {
            self.start(ResetCause::Software, handover);
        }
    }

    /// The highest floor that the journal has said.
    #[cfg(test)]
    pub(super) const fn floor(&self) -> SecurityCounter {
        self.floor
    }

    pub(super) fn is_in_application(&self) -> bool {
        self.booted.is_some()
    }

    /// Runs until nothing moves but timers.
    pub(super) fn settle(&mut self) {
        for _ in 0..20_000 {
            if self.turn() {
                continue;
            }
            let Some((until, _)) = self.busy else {
                return;
            };
            self.pass_to(until);
        }
        panic!("no end");
    }

    /// Lets everything that can happen now happen once; whether anything did.
    pub(super) fn turn(&mut self) -> bool {
        let mut moved = false;
        while let Some(frame) = self.tester.poll_transmit(self.now) {
            self.machine.handle_frame(self.now, &frame);
            moved = true;
        }
        while let Some(frame) = self.machine.poll_transmit(self.now) {
            self.tester.handle_frame(self.now, &frame);
            self.hear();
            moved = true;
        }
        self.hear();
        moved |= self.machine.poll(self.now, 1);
        moved |= self.turn_flash();
        while let Some(event) = self.machine.poll_event() {
            moved = true;
            match event {
                Event::Boot(target) => self.boot(target),
                Event::Reset { handover } => self.reset = Some(handover),
            }
        }
        if let Some(state) = self.machine.state() {
            assert!(self.floor <= state.floor, "the floor fell");
            self.floor = state.floor;
        }
        moved
    }

    /// What the tester received. The next frame may begin a message where this one lies.
    fn hear(&mut self) {
        while let Some(event) = self.tester.poll_event() {
            if let isotp::Event::Received { .. } = event {
                let pdu = self.tester.received().to_vec();
                self.note(pdu);
            }
        }
    }

    fn note(&mut self, pdu: Vec<u8>) {
        match pdu[..] {
            [0x7F, _, 0x78] => return,
            [0x7F, _, _] => {}
            [first, ..] => assert!(first & 0x40 != 0 && first != 0x7F, "{pdu:02x?}"),
            [] => panic!("an empty response"),
        }
        self.responses.push(pdu);
    }

    fn turn_flash(&mut self) -> bool {
        if let Some((until, result)) = self.busy {
            if until > self.now {
                return false;
            }
            self.busy = None;
            self.machine.on_flash_done(self.now, result);
            return true;
        }
        let confirmed = self.machine.state().map(|state| state.confirmed);
        let Some(op) = self.machine.poll_flash() else {
            return false;
        };
        for slot in [Some(SlotId::Factory), confirmed].into_iter().flatten() {
            let place = LAYOUT.slot(slot).unwrap();
            let touched = touches(op, place.metadata) || touches(op, place.payload);
            assert!(!touched, "{slot:?} is not to be touched: {op:?}");
        }
        let end = match &mut self.fault {
            Some(fault) if fault.after > 0 => {
                fault.after -= 1;
                End::Done
            }
            fault => fault.take().map_or(End::Done, |fault| fault.end),
        };
        let result = self.flash.perform(op, end);
        if let End::Cut(_) = end {
            self.start(ResetCause::PowerOn, None);
        } else {
            self.busy = Some((self.now + self.flash_time, result));
        }
        true
    }

    /// What boots is whole, of the OEM, and not below the floor.
    fn boot(&mut self, target: BootTarget) {
        let known = self
            .images
            .iter()
            .find(|image| image.digest == target.digest);
        let image = known.expect("an image that the OEM has not signed");
        assert_eq!(target.payload_len as usize, image.plaintext.len());
        let held = self.flash.with(|bytes| {
            bytes[target.payload_address() as usize..][..image.plaintext.len()].to_vec()
        });
        assert_eq!(held, image.plaintext, "another image than the signed one");
        let full = target.reason != BootReason::LimpHome;
        assert!(!full || image.counter >= self.floor.0, "below the floor");
        self.booted = Some(target);
    }

    fn pass_to(&mut self, at: Instant) {
        let timer = earliest(self.machine.poll_timeout(), self.tester.poll_timeout());
        self.now = self.now.max(earliest(Some(at), timer).unwrap_or(at));
        self.machine.handle_timeout(self.now);
        self.tester.handle_timeout(self.now);
    }

    /// Lets this much time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        for _ in 0..20_000 {
            if self.now >= end {
                return;
            }
            self.pass_to(end);
            self.settle();
        }
        panic!("time stands still");
    }

    /// Puts a PDU on the bus.
    pub(super) fn send(&mut self, pdu: &[u8], functional: bool) {
        self.responses.clear();
        if functional {
            let _ = self.tester.send_functional(self.now, pdu);
        } else {
            let _ = self.tester.send(self.now, pdu);
        }
    }

    /// Sends a request; the final response, empty where there is none.
    pub(super) fn request(&mut self, pdu: &[u8]) -> Vec<u8> {
        self.send(pdu, false);
        self.settle();
        self.responses.pop().unwrap_or_default()
    }

    /// Puts one frame on the bus.
    pub(super) fn frame(&mut self, frame: &Frame) {
        self.machine.handle_frame(self.now, frame);
    }

    /// A message of the application; the reply, empty where the ECU resets instead.
    pub(super) fn mail(&mut self, message: &[u8]) -> Vec<u8> {
        self.machine.mailbox_request(self.now, message);
        self.settle();
        let reply = self.machine.poll_mailbox().unwrap_or_default().to_vec();
        assert!(reply.is_empty() || Reply::parse(&reply).is_some());
        reply
    }

    pub(super) fn mail_request(&mut self, request: Request<'_>) -> Vec<u8> {
        let mut message = [0; 256];
        match request.encode(&mut message) {
            Some(len) => self.mail(&message[..len]),
            None => Vec::new(),
        }
    }

    /// Into the programming session, from wherever the ECU is.
    pub(super) fn enter_programming(&mut self) {
        if !self.is_in_application() {
            self.request(&[0x10, 2]);
            return;
        }
        let handover = Handover {
            request_id: id(0x7E0),
            response_id: id(0x7E8),
        };
        self.mail_request(Request::EnterProgramming(handover));
        self.follow_reset();
    }

    /// Asks for a seed and answers it, with `error` in the key.
    pub(super) fn unlock(&mut self, error: u8) {
        let response = self.request(&[0x27, 1]);
        let Some(seed) = response.get(2..).and_then(|seed| seed.try_into().ok()) else {
            return;
        };
        let mut key = mac_key(4).mac(&access::message(seed, SecurityLevel::ONE));
        key[0] ^= error;
        self.request(&[&[0x27, 2], &key[..]].concat());
    }

    /// After whatever was: with sound power and flash the ECU boots and can be programmed, or
    /// answers its bus.
    pub(super) fn finish(&mut self) {
        self.fault = None;
        self.flash_time = Duration::ZERO;
        self.start(ResetCause::PowerOn, None);
        if self.is_in_application() {
            let reply = self.mail_request(Request::Uds {
                session: 1,
                pdu: &[0x22, 0xFD, 0x01],
            });
            assert_eq!(reply.get(..2), Some(&[0x81, 0x62][..]));
            self.responses.clear();
            self.enter_programming();
            self.settle();
            let response = self.responses.first().map(Vec::as_slice);
            assert_eq!(response, Some(&[0x50, 2, 0, 50, 1, 0xF4][..]));
        }
        assert_eq!(self.request(&[0x3E, 0]), [0x7E, 0]);
    }
}

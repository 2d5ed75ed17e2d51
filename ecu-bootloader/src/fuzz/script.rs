//! Scripts against a whole ECU: requests and raw frames with time between them, steps of a right
//! tester that the fuzzer may spoil, messages of the application, power cuts, flash that refuses.

use ecu_image::keyset::KeyStatus;
use uds::can::{CanId, Format, Frame, fd_length};
use uds::time::Duration;

use super::ecu::{Ecu, Factory, Fault};
use super::flash::{End, LAYOUT};
use super::images::key_set;
use crate::boot::ResetCause;
use crate::bytes::Reader;
use crate::layout::SlotId;
use crate::mailbox::{Handover, Reply, Request};

/// Steps of one script; more say nothing new and cost time.
const STEPS: usize = 64;

/// Requests that lead somewhere.
const KNOWN: &[&[u8]] = &[
    &[0x10, 1],
    &[0x10, 2],
    &[0x10, 3],
    &[0x11, 1],
    &[0x14, 0xFF, 0xFF, 0xFF],
    &[0x19, 2, 0xFF],
    &[0x22, 0xFD, 0],
    &[0x22, 0xFD, 1],
    &[0x22, 0xFD, 2],
    &[0x22, 0xF1, 0x90, 0xF1, 0x95, 0xF1, 0x8C],
    &[0x27, 1],
    &[0x28, 3, 1],
    &[0x2E, 0xF1, 0x5A, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    &[0x31, 1, 2, 3],
    &[0x31, 1, 0xFF, 0],
    &[0x31, 1, 2, 2],
    &[0x31, 1, 0xFF, 1],
    &[0x31, 1, 2, 0x10],
    &[0x31, 1, 2, 0x11],
    &[0x31, 1, 2, 0x12],
    &[0x31, 1, 2, 0x13],
    &[0x34, 0, 0x44, 0xF0, 0, 0, 0, 0, 0, 0x17, 0],
    &[0x34, 1, 0x44, 0, 0, 0, 0, 0, 0, 0x10, 0],
    &[0x36, 1],
    &[0x37],
    &[0x3E, 0],
    &[0x3E, 0x80],
    &[0x85, 2],
];

fn known(byte: u8) -> &'static [u8] {
    KNOWN[usize::from(byte) % KNOWN.len()]
}

/// What a byte of the script spoils in what a right tester sends.
struct Damage {
    at: usize,
    xor: u8,
}

impl Damage {
    /// None where the first byte is even.
    fn read(script: &mut Reader<'_>) -> Self {
        let none = Self { at: 0, xor: 0 };
        match script.u8() {
            Some(byte) if byte & 1 == 1 => Self {
                at: script.u16_le().unwrap_or(0).into(),
                xor: script.u8().unwrap_or(1),
            },
            _ => none,
        }
    }

    fn apply(&self, bytes: &mut [u8]) {
        let at = self.at % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= self.xor;
        }
    }
}

/// Takes the data as a script against an ECU whose application runs at first.
///
/// Whatever the script: what boots is an image of the OEM, byte for byte, and not below the floor;
/// the floor never falls; the confirmed slot and the factory slot are not touched; nothing is
/// programmed that is not erased; responses are responses; and in the end the ECU boots and can be
/// programmed, or answers its bus.
///
/// # Panics
/// When one of these does not hold.
pub fn uds(factory: &Factory, data: &[u8]) {
    let mut ecu = Ecu::new(factory);
    run(&mut ecu, data);
    ecu.finish();
}

pub(super) fn run(ecu: &mut Ecu<'_>, data: &[u8]) {
    let mut script = Reader(data);
    for _ in 0..STEPS {
        let Some(op) = script.u8() else { break };
        step(ecu, op, &mut script);
        match op >> 4 & 3 {
            0 => {}
            1 => {
                ecu.turn();
            }
            _ => ecu.settle(),
        }
        ecu.follow_reset();
    }
}

fn step(ecu: &mut Ecu<'_>, op: u8, script: &mut Reader<'_>) {
    match op & 15 {
        0 => ecu.send(argument(script), false),
        1 => ecu.send(argument(script), true),
        2 => raw_frame(ecu, argument(script)),
        3 => pass(ecu, script),
        4 => ecu.send(known(script.u8().unwrap_or(0)), op & 0x40 != 0),
        5 => ecu.unlock(if op & 0x40 != 0 { op } else { 0 }),
        6 if op & 0x40 != 0 => send_key_set(ecu, script),
        6 => metadata(ecu, script),
        7 => pages(ecu, script),
        8 => ecu.enter_programming(),
        9 => fault(ecu, script),
        10 => ecu.flash_time = Duration::from_millis(u64::from(script.u8().unwrap_or(0)) << 3),
        11 => power(ecu, script.u8().unwrap_or(0)),
        12 => {
            ecu.mail(argument(script));
        }
        13 => mail(ecu, script),
        14 => damage(ecu, script),
        _ => update(ecu, usize::from(op >> 6) & 3),
    }
}

/// As many bytes as the next byte says.
fn argument<'a>(script: &mut Reader<'a>) -> &'a [u8] {
    let len = usize::from(script.u8().unwrap_or(0)).min(script.0.len());
    script.take(len).unwrap_or(&[])
}

fn raw_frame(ecu: &mut Ecu<'_>, content: &[u8]) {
    let mut bytes = [0; 64];
    let len = content.len().min(64);
    bytes[..len].copy_from_slice(&content[..len]);
    let format = if len > 8 {
        Format::Fd { brs: true }
    } else {
        Format::Classical
    };
    let id = if len % 5 == 4 { 0x7DF } else { 0x7E0 };
    let len = if len > 8 { fd_length(len) } else { len };
    let frame = CanId::standard(id).and_then(|id| Frame::new(id, format, &bytes[..len]));
    if let Some(frame) = frame {
        ecu.frame(&frame);
    }
}

/// From no time to four minutes.
fn pass(ecu: &mut Ecu<'_>, script: &mut Reader<'_>) {
    let byte = script.u8().unwrap_or(0);
    let millis = u64::from(byte & 63) << (u32::from(byte >> 6) * 4);
    ecu.pass(Duration::from_millis(millis));
}

/// Grant, header and table of an image, perhaps spoiled.
fn metadata(ecu: &mut Ecu<'_>, script: &mut Reader<'_>) {
    let image = usize::from(script.u8().unwrap_or(0)) % ecu.images.len();
    let mut bytes = ecu.images[image].metadata();
    Damage::read(script).apply(&mut bytes);
    let len = (bytes.len() as u32).to_be_bytes();
    ecu.request(&[&[0x34, 0, 0x44, 0xF0, 0, 0, 0], &len[..]].concat());
    blocks(ecu, &bytes, 512, usize::MAX);
    ecu.request(&[0x37]);
}

/// A key set of version 1 to 127, which revokes the only key or not, perhaps spoiled.
fn send_key_set(ecu: &mut Ecu<'_>, script: &mut Reader<'_>) {
    let choice = script.u8().unwrap_or(2);
    let status = if choice & 0x80 == 0 {
        KeyStatus::Active
    } else {
        KeyStatus::Revoked
    };
    let mut bytes = key_set(u32::from(choice & 0x7F).max(1), status);
    Damage::read(script).apply(&mut bytes);
    let len = (bytes.len() as u32).to_be_bytes();
    ecu.request(&[&[0x34, 0, 0x44, 0xF1, 0, 0, 0], &len[..]].concat());
    blocks(ecu, &bytes, 4093, usize::MAX);
    ecu.request(&[0x37]);
}

/// The pages of an image from where the ECU wants them, perhaps spoiled, perhaps not all.
fn pages(ecu: &mut Ecu<'_>, script: &mut Reader<'_>) {
    let choice = usize::from(script.u8().unwrap_or(0));
    let mut bytes = ecu.images[choice & 3].pages().to_vec();
    Damage::read(script).apply(&mut bytes);
    let progress = ecu.request(&[0x22, 0xFD, 0]);
    let next = progress.get(49..53).and_then(|next| next.try_into().ok());
    let from = next.map_or(0, u32::from_be_bytes) as usize;
    let bytes = bytes.get(from..).unwrap_or(&[]);
    let offset = (from as u32).to_be_bytes();
    let len = (bytes.len() as u32).to_be_bytes();
    ecu.request(&[&[0x34, 1, 0x44], &offset[..], &len[..]].concat());
    let most = if choice < 128 { usize::MAX } else { choice & 7 };
    blocks(ecu, bytes, 1024, most);
    if choice & 4 == 0 {
        ecu.request(&[0x37]);
    }
}

fn blocks(ecu: &mut Ecu<'_>, bytes: &[u8], len: usize, most: usize) {
    for (counter, block) in (1u8..).zip(bytes.chunks(len).take(most)) {
        ecu.request(&[&[0x36, counter], block].concat());
    }
}

/// Arms the flash.
fn fault(ecu: &mut Ecu<'_>, script: &mut Reader<'_>) {
    let after = script.u8().unwrap_or(0);
    let share = script.u8().unwrap_or(0);
    let end = if after & 1 == 1 {
        End::Refused
    } else {
        End::Cut(share)
    };
    ecu.fault = Some(Fault {
        after: after >> 1,
        end,
    });
}

fn power(ecu: &mut Ecu<'_>, byte: u8) {
    let cause = match byte & 3 {
        0 => ResetCause::PowerOn,
        1 => ResetCause::Watchdog,
        2 => ResetCause::Software,
        _ => ResetCause::Crash,
    };
    ecu.start(cause, None);
}

/// A right message of the application.
fn mail(ecu: &mut Ecu<'_>, script: &mut Reader<'_>) {
    let kind = script.u8().unwrap_or(0);
    match kind & 3 {
        0 => {
            ecu.mail_request(Request::SelfTestPassed);
        }
        1 => unlock_by_mail(ecu, kind),
        _ => {
            let session = kind >> 2 & 3;
            let pdu = known(script.u8().unwrap_or(0));
            ecu.mail_request(Request::Uds { session, pdu });
        }
    }
}

/// Unlocks through the mailbox and, with the upper bits, seals or reverts.
fn unlock_by_mail(ecu: &mut Ecu<'_>, kind: u8) {
    let session = 3;
    let pdu: &[u8] = &[0x27, 1];
    let reply = ecu.mail_request(Request::Uds { session, pdu });
    let seed = reply
        .get(3..)
        .and_then(|seed| <[u8; 16]>::try_from(seed).ok());
    let Some(seed) = seed else { return };
    let message = crate::access::message(&seed, uds::service::SecurityLevel::ONE);
    let key = super::images::mac_key(4).mac(&message);
    let pdu = &[&[0x27, 2], &key[..]].concat()[..];
    ecu.mail_request(Request::Uds { session, pdu });
    let routine = match kind >> 2 & 3 {
        0 => return,
        1 => 0x11,
        2 => 0x12,
        _ => 0x13,
    };
    let pdu: &[u8] = &[0x31, 1, 2, routine];
    ecu.mail_request(Request::Uds { session, pdu });
}

/// Flips bits in the update slots. The journal is left alone: its own target does that.
fn damage(ecu: &mut Ecu<'_>, script: &mut Reader<'_>) {
    let at = usize::from(script.u16_le().unwrap_or(0));
    let xor = script.u8().unwrap_or(1);
    let slot = LAYOUT.slot(if xor & 1 == 0 { SlotId::A } else { SlotId::B });
    let slot = slot.unwrap();
    let len = (slot.metadata.len + slot.payload.len) as usize;
    let address = slot.metadata.address as usize + at % len;
    ecu.flash.damage(address, xor);
}

/// The whole sequence of a right tester, up to the trial.
fn update(ecu: &mut Ecu<'_>, image: usize) {
    ecu.enter_programming();
    ecu.unlock(0);
    let mut choice = Reader(&[]);
    let bytes = ecu.images[image].metadata();
    let len = (bytes.len() as u32).to_be_bytes();
    ecu.request(&[&[0x34, 0, 0x44, 0xF0, 0, 0, 0], &len[..]].concat());
    blocks(ecu, &bytes, 512, usize::MAX);
    ecu.request(&[0x37]);
    ecu.request(&[0x31, 1, 0xFF, 0]);
    let number = [image as u8];
    choice.0 = &number;
    pages(ecu, &mut choice);
    for routine in [[2, 2], [0xFF, 1], [2, 0x10]] {
        ecu.request(&[&[0x31, 1], &routine[..]].concat());
    }
    ecu.request(&[0x11, 1]);
    ecu.follow_reset();
}

/// Takes the data as messages between application and boot services: parsed alone, then as a script
/// against an ECU whose application runs.
///
/// # Panics
/// When a message that parses encodes to other bytes, or what [`uds`] asserts does not hold.
pub fn mailbox(factory: &Factory, data: &[u8]) {
    round_trip(data);
    let mut ecu = Ecu::new(factory);
    let mut script = Reader(data);
    for _ in 0..STEPS {
        let Some(op) = script.u8() else { break };
        match op & 7 {
            0 | 1 => {
                ecu.mail(argument(&mut script));
            }
            2 => {
                let session = op >> 3;
                let pdu = argument(&mut script);
                ecu.mail_request(Request::Uds { session, pdu });
            }
            3 => mail(&mut ecu, &mut script),
            4 => pass(&mut ecu, &mut script),
            5 => fault(&mut ecu, &mut script),
            6 => power(&mut ecu, op >> 3),
            _ => update(&mut ecu, usize::from(op >> 3) & 3),
        }
        ecu.settle();
        ecu.follow_reset();
    }
    ecu.finish();
}

fn round_trip(data: &[u8]) {
    let mut out = [0; 256];
    if let Some(request) = Request::parse(data) {
        let len = request.encode(&mut out).unwrap();
        assert_eq!(&out[..len], data);
    }
    if let Some(reply) = Reply::parse(data) {
        let len = reply.encode(&mut out).unwrap();
        assert_eq!(&out[..len], data);
    }
    if let Some(handover) = Handover::parse(data) {
        assert_eq!(handover.encode(), data);
    }
}

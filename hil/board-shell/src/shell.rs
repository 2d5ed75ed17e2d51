//! The shell: a host gives time and frames, the board answers what came of them.
//!
//! Host and board take turns, so a run is the same every time. Messages are a length (u16, of what
//! follows), a kind and its bytes, little-endian.
//!
//! | kind | to the board |
//! |---|---|
//! | `F` | now u64 in µs; identifier u32; format u8: 0 classical, 1 FD, 3 FD with bit-rate switch; data |
//! | `T` | now u64: time passes |
//! | `M` | now u64; a message of the application for the mailbox |
//! | `R` | now u64; reset cause u8 as in [`provision`](crate::provision); 16 bytes of a handover, or none |
//! | `X` | now u64; address u32, length u16 up to 256: what is in the flash |
//! | `W` | now u64; address u32; bytes that are put into the flash against its rules |
//!
//! | kind | from the board |
//! |---|---|
//! | `f` | identifier u32; format u8; data |
//! | `e` | a word of [`report`]; for a reset also the 16 bytes of a handover, if any |
//! | `m` | a message for the application |
//! | `x` | bytes of the flash |
//! | `d` | nothing moves any more: now u64; next deadline u64, all ones for none; ticks u32 of the board's timer in the machine; misuses of the flash u32; free stack u32 |

use ecu_bootloader::Event;
use ecu_bootloader::mailbox::HANDOVER_LEN;
use uds::can::{CanId, Format, Frame};
use uds::time::{Duration, Instant};

use crate::flash::MemoryFlash;
use crate::machine::Machine;
use crate::report;

/// The board's line to the host, its timer and its stack.
pub trait Host {
    /// Reads exactly so many bytes; `None` when the host is gone.
    fn read(&mut self, bytes: &mut [u8]) -> Option<()>;
    /// Writes all bytes.
    fn write(&mut self, bytes: &[u8]);
    /// A timer that counts up and wraps.
    fn ticks(&mut self) -> u32;
    /// Bytes of the stack that were never used.
    fn free_stack(&mut self) -> u32;
}

/// How long a slice of computation takes in the board's time.
const SLICE: Duration = Duration::from_micros(300);
const ANY_LEN: usize = 300;
/// The cause of a reset that the machine asked for.
const SOFTWARE: u8 = 1;

/// How the board shall start anew.
#[derive(Debug, Clone, Copy)]
pub struct Restart {
    /// The reset cause as [`provision`](crate::provision) has it.
    pub cause: u8,
    /// What the application left.
    pub handover: [u8; HANDOVER_LEN],
    /// The time.
    pub now: Instant,
}

/// A board under the host's control.
#[derive(Debug)]
pub struct Shell<H, F> {
    host: H,
    flash: F,
    misused: u32,
    now: Instant,
    since: u32,
    ticks: u32,
    buffer: [u8; ANY_LEN],
}

impl<H: Host, F: MemoryFlash> Shell<H, F> {
    /// A shell over `host` that performs the machine's operations on `flash`.
    pub const fn new(host: H, flash: F, now: Instant) -> Self {
        Self {
            host,
            flash,
            misused: 0,
            now,
            since: 0,
            ticks: 0,
            buffer: [0; ANY_LEN],
        }
    }

    /// The timer counts: the machine works.
    pub fn resume(&mut self) {
        self.since = self.host.ticks();
    }

    /// The timer stands: the board works.
    pub fn pause(&mut self) {
        let now = self.host.ticks();
        let spent = now.wrapping_sub(self.since);
        self.ticks = self.ticks.wrapping_add(spent);
    }

    /// Settles after the start, then serves the host until a reset; `None` when the host is gone.
    pub fn run(&mut self, ecu: &mut Machine<F>) -> Option<Restart> {
        loop {
            if let Some(restart) = self.settle(ecu) {
                return Some(restart);
            }
            let mut message = [0; ANY_LEN];
            let message = self.receive(&mut message)?;
            self.ticks = 0;
            if let [b'R', _, _, _, _, _, _, _, _, cause, handover @ ..] = message {
                return Some(self.restart(*cause, handover));
            }
            self.resume();
            self.act(ecu, message);
            self.pause();
        }
    }

    fn restart(&self, cause: u8, handover: &[u8]) -> Restart {
        Restart {
            cause,
            handover: handover.first_chunk().copied().unwrap_or([0; HANDOVER_LEN]),
            now: self.now,
        }
    }

    fn receive<'b>(&mut self, message: &'b mut [u8; ANY_LEN]) -> Option<&'b [u8]> {
        let mut len = [0; 2];
        self.host.read(&mut len)?;
        let message = message.get_mut(..usize::from(u16::from_le_bytes(len)))?;
        self.host.read(message)?;
        Some(message)
    }

    fn act(&mut self, ecu: &mut Machine<F>, message: &[u8]) -> Option<()> {
        let (kind, rest) = message.split_first()?;
        let (now, rest) = rest.split_first_chunk()?;
        self.now = self.now.max(Instant::from_micros(u64::from_le_bytes(*now)));
        self.expire(ecu);
        match kind {
            b'F' => ecu.handle_frame(self.now, &frame(rest)?),
            b'M' => ecu.mailbox_request(self.now, rest),
            b'X' => self.dump(rest)?,
            b'W' => {
                let (address, bytes) = rest.split_first_chunk()?;
                self.flash.forge(u32::from_le_bytes(*address), bytes);
            }
            _ => {}
        }
        Some(())
    }

    fn dump(&mut self, request: &[u8]) -> Option<()> {
        let (address, len) = request.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes(*len.first_chunk()?));
        let mut bytes = [0; 256];
        let bytes = bytes.get_mut(..len)?;
        let address = u32::from_le_bytes(*address);
        self.flash.read(address, bytes).ok()?;
        self.send(b'x', &[bytes]);
        Some(())
    }

    fn expire(&mut self, ecu: &mut Machine<F>) {
        if ecu.poll_timeout().is_some_and(|at| at <= self.now) {
            ecu.handle_timeout(self.now);
        }
    }

    /// Lets everything happen that can happen now. Only a reset ends the machine.
    fn settle(&mut self, ecu: &mut Machine<F>) -> Option<Restart> {
        loop {
            self.resume();
            let mut moved = ecu.poll(self.now, 1);
            if moved {
                self.now = self.now + SLICE;
                self.expire(ecu);
            }
            self.pause();
            moved |= self.flash(ecu);
            moved |= self.transmit(ecu);
            if let Some(restart) = self.event(ecu, &mut moved) {
                return Some(restart);
            }
            if !moved {
                self.done(ecu);
                return None;
            }
        }
    }

    fn flash(&mut self, ecu: &mut Machine<F>) -> bool {
        let Some(result) = ecu.poll_flash().map(|op| self.flash.perform(op)) else {
            return false;
        };
        if result.is_err() {
            self.misused = self.misused.saturating_add(1);
        }
        self.resume();
        ecu.on_flash_done(self.now, result);
        self.pause();
        true
    }

    fn transmit(&mut self, ecu: &mut Machine<F>) -> bool {
        self.resume();
        let frame = ecu.poll_transmit(self.now);
        self.pause();
        let mut moved = false;
        if let Some(frame) = frame {
            let raw = frame.id().raw() | u32::from(frame.id().is_extended()) << 31;
            let format = match frame.format() {
                Format::Classical => 0,
                Format::Fd { brs } => 1 | u8::from(brs) << 1,
            };
            self.send(b'f', &[&raw.to_le_bytes(), &[format], frame.data()]);
            moved = true;
        }
        if let Some(reply) = ecu.poll_mailbox() {
            self.send(b'm', &[reply]);
            moved = true;
        }
        moved
    }

    fn event(&mut self, ecu: &mut Machine<F>, moved: &mut bool) -> Option<Restart> {
        let event = ecu.poll_event()?;
        *moved = true;
        let word = report::of_event(&event).to_le_bytes();
        let Event::Reset { handover } = event else {
            self.send(b'e', &[&word]);
            return None;
        };
        let handover = handover.map(|handover| handover.encode());
        let handover: &[u8] = handover.as_ref().map_or(&[], |bytes| bytes);
        self.send(b'e', &[&word, handover]);
        Some(self.restart(SOFTWARE, handover))
    }

    fn done(&mut self, ecu: &mut Machine<F>) {
        let deadline = ecu.poll_timeout().map_or(u64::MAX, Instant::as_micros);
        let free = self.host.free_stack();
        let (now, ticks) = (self.now.as_micros(), self.ticks);
        self.send(
            b'd',
            &[
                &now.to_le_bytes(),
                &deadline.to_le_bytes(),
                &ticks.to_le_bytes(),
                &self.misused.to_le_bytes(),
                &free.to_le_bytes(),
            ],
        );
    }

    fn send(&mut self, kind: u8, parts: &[&[u8]]) {
        let mut len = 3usize;
        for part in parts {
            let end = len.saturating_add(part.len());
            if let Some(place) = self.buffer.get_mut(len..end) {
                place.copy_from_slice(part);
            }
            len = end;
        }
        let payload = u16::try_from(len.saturating_sub(2)).unwrap_or(0);
        for (place, byte) in self
            .buffer
            .iter_mut()
            .zip(payload.to_le_bytes().iter().chain(&[kind]))
        {
            *place = *byte;
        }
        self.host.write(self.buffer.get(..len).unwrap_or(&[]));
    }
}

/// The frame of these bytes: identifier, format and data as in the table above.
#[must_use]
pub fn frame(bytes: &[u8]) -> Option<Frame> {
    let (id, rest) = bytes.split_first_chunk()?;
    let (format, data) = rest.split_first()?;
    let raw = u32::from_le_bytes(*id);
    let id = if raw >> 31 == 1 {
        CanId::extended(raw & 0x1FFF_FFFF)?
    } else {
        CanId::standard(u16::try_from(raw).ok()?)?
    };
    let format = match format {
        0 => Format::Classical,
        format => Format::Fd {
            brs: format & 2 != 0,
        },
    };
    Frame::new(id, format, data)
}

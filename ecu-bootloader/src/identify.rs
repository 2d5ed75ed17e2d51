//! The data identifiers: identification, progress, boot status, last failure.

use crate::bytes::copy;
use crate::download::Reply;
use crate::job::{Answer, Core, Phase, Then};
use crate::layout::SlotId;
use crate::machine::Storage;
use crate::platform::Platform;
use crate::state::{Progress, SlotState, State};
use ecu_image::{HeaderStart, SlotSet};
use uds::nrc::Nrc;
use uds::server::Context;

/// FD00.
pub const PROGRESS: u16 = 0xFD00;
/// FD01.
pub const BOOT_STATUS: u16 = 0xFD01;
/// FD02.
pub const LAST_FAILURE: u16 = 0xFD02;
/// FD03.
pub const KEY_SET: u16 = 0xFD03;
/// The boot reason in FD01 while nothing is decided yet; the others are [`BootReason`]'s.
///
/// [`BootReason`]: crate::boot::BootReason
pub const STARTING: u8 = 7;
/// F15A.
pub(crate) const FINGERPRINT: u16 = 0xF15A;

/// Appends to a response; what does not fit is noticed.
struct Out<'a> {
    buffer: &'a mut [u8],
    at: usize,
    fits: bool,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        match self.buffer.get_mut(self.at..end) {
            Some(target) => copy(target, bytes),
            None => self.fits = false,
        }
        self.at = end;
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// A decimal number in ASCII.
    fn put_decimal(&mut self, value: u32) {
        let mut digits = [0; 10];
        let mut rest = value;
        let mut start = 0;
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            let [low, ..] = rest.checked_rem(10).unwrap_or(0).to_le_bytes();
            *digit = b'0' | low;
            rest = rest.checked_div(10).unwrap_or(0);
            start = at;
            if rest == 0 {
                break;
            }
        }
        self.put(digits.get(start..).unwrap_or(&[]));
    }
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// 22: up to eight identifiers. The progress waits for what is being programmed, and after a reset for
    /// a scan of what is stored.
    #[inline(never)]
    pub(crate) fn read(
        &mut self,
        context: Context,
        request: &[u8],
        response: &mut [u8],
    ) -> Result<Read, Nrc> {
        let (pairs, rest) = request.get(1..).unwrap_or(&[]).as_chunks::<2>();
        let dids = &mut self.dids;
        if !rest.is_empty() || pairs.is_empty() || pairs.len() > dids.ids.len() {
            return Err(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT);
        }
        dids.len = pairs.len();
        dids.session = context.session.value();
        dids.unlocked = context.unlocked.is_some();
        let mut progress = false;
        for (id, pair) in dids.ids.iter_mut().zip(pairs) {
            *id = u16::from_be_bytes(*pair);
            progress |= *id == PROGRESS;
        }
        if progress && self.transfer.is_none() && !self.knows_progress() {
            self.drain(Then::ScanForRead);
            return Ok(Read::Later);
        }
        self.write_dids(response).map(Read::Now)
    }

    /// Whether nothing is being programmed and the number of durable pages is known, or means
    /// nothing.
    fn knows_progress(&self) -> bool {
        let counts = matches!(self.receiving(), Some((Progress::Erased, _)));
        self.buffers.is_drained() && (self.durable.is_some() || !counts)
    }

    /// Nothing is being programmed any more: scans where the progress is unknown, then answers.
    pub(crate) fn scan_for_read(&mut self) {
        let then = Then::Answer(Answer::Read);
        let slot = match self.receiving() {
            Some((_, slot)) if !self.knows_progress() => slot,
            _ => return self.proceed(then),
        };
        match self.ensure_head(slot) {
            Ok(()) => self.scan(then),
            Err(failure) => self.fail(then, failure),
        }
    }

    /// The positive response; its length.
    pub(crate) fn write_dids(&mut self, response: &mut [u8]) -> Result<usize, Nrc> {
        let mut out = Out {
            buffer: response,
            at: 1,
            fits: true,
        };
        let mut any = false;
        for index in 0..self.dids.len {
            let Some(&id) = self.dids.ids.get(index) else {
                break;
            };
            let start = out.at;
            out.put(&id.to_be_bytes());
            if id == LAST_FAILURE && !self.dids.unlocked {
                return Err(Nrc::SECURITY_ACCESS_DENIED);
            }
            if self.write_did(id, &mut out) {
                any = true;
            } else {
                out.at = start;
            }
        }
        if !any {
            return Err(Nrc::REQUEST_OUT_OF_RANGE);
        }
        if !out.fits {
            return Err(Nrc::RESPONSE_TOO_LONG);
        }
        Ok(out.at)
    }

    /// Writes the content of one identifier; `false` for an unknown one.
    #[inline(never)]
    fn write_did(&mut self, id: u16, out: &mut Out<'_>) -> bool {
        let in_application = self.in_application();
        let board = self.platform.board();
        match id {
            PROGRESS => self.write_progress(out),
            BOOT_STATUS => self.write_status(out),
            LAST_FAILURE => out.put(&self.failure.encode()),
            KEY_SET => {
                let used = self.state.as_ref().and_then(|state| state.key_set.as_ref());
                out.put_u32(used.map_or(0, |used| used.version.get()));
                out.put(used.map_or(&[0; 32], |used| &used.digest.0));
            }
            // The application's own; what the ECU is, it asks of the boot services.
            0xF186 | 0xF195 if in_application => return false,
            0xF180 => out.put(board.boot_software.as_bytes()),
            0xF186 => out.put(&[self.dids.session]),
            0xF18A => out.put(board.supplier.as_bytes()),
            0xF18C => out.put(board.serial.as_bytes()),
            0xF190 => out.put(&board.vin),
            0xF191 => out.put(board.hardware_id.as_bytes()),
            0xF195 => self.write_version(out),
            FINGERPRINT => {
                let state = self.known();
                out.put(&state.fingerprint);
            }
            _ => return false,
        }
        true
    }

    /// F195: the version of the image that would boot.
    #[inline(never)]
    fn write_version(&mut self, out: &mut Out<'_>) {
        let slot = self.state.as_ref().map(|state| {
            state
                .find(SlotState::Trial)
                .filter(|_| state.attempts_left > 0)
                .unwrap_or(state.confirmed)
        });
        let mut header = HeaderStart::NONE;
        if !slot.is_some_and(|slot| self.peek(slot, &mut header)) {
            return out.put(b"none");
        }
        let version = header.version();
        out.put_decimal(version.major.into());
        out.put(b".");
        out.put_decimal(version.minor.into());
        out.put(b".");
        out.put_decimal(version.patch);
    }

    /// FD00.
    #[inline(never)]
    fn write_progress(&mut self, out: &mut Out<'_>) {
        let staged = self.staged();
        let receiving = self.receiving();
        let erased = matches!(receiving, Some((Progress::Erased, _)));
        let slot = staged.or(receiving.map(|(_, slot)| slot));
        let mut header = HeaderStart::NONE;
        if !slot.is_some_and(|slot| self.peek(slot, &mut header)) {
            header = HeaderStart::NONE;
        }
        let (page_size, pages) = (header.page_size(), header.page_count());
        let durable = match staged {
            Some(_) => pages,
            None if erased => self.durable.unwrap_or(0).min(pages),
            None => 0,
        };
        let number = match (staged, receiving) {
            (Some(_), _) => 4,
            (None, None) => 0,
            (None, Some(_)) if !erased => 1,
            (None, Some(_)) if durable < pages => 2,
            (None, Some(_)) => 3,
        };
        let target = slot.or_else(|| self.next_target());
        let state = self.known();
        out.put(&[number, target.map_or(0xFF, SlotId::number)]);
        out.put(slot.map_or(&[0; 32], |slot| &state.digest(slot).0));
        for value in [page_size, pages, durable, durable.saturating_mul(page_size)] {
            out.put_u32(value);
        }
        out.put(&[state.erases_left]);
    }

    /// The slot that a download of an image for all slots would go to.
    fn next_target(&mut self) -> Option<SlotId> {
        let floor = self.floor();
        let state = self.known();
        let takes_over = crate::boot::factory_takes_over(&self.evidence, floor);
        let two = self.platform.board().layout.has_b();
        crate::transition::target(state, SlotSet::ALL, two, takes_over).ok()
    }

    /// FD01.
    #[inline(never)]
    fn write_status(&mut self, out: &mut Out<'_>) {
        let floor = self.floor();
        let state = self.known();
        let running = self.running.as_ref().map(|running| running.slot);
        let reason = match (&self.running, self.phase) {
            (Some(running), _) => running.reason as u8,
            (None, Phase::Serving(reason)) => reason as u8,
            (None, Phase::Starting | Phase::Application) => STARTING,
        };
        let other = other_slot(state, running);
        let two = self.platform.board().layout.has_b();
        out.put(&[
            1,
            u8::from(self.in_application()),
            running.map_or(0xFF, SlotId::number),
            reason,
            match running {
                Some(SlotId::Factory) => 7,
                Some(slot) => state.slot(slot).state as u8,
                None => 0,
            },
            state.slot(other).state as u8,
            state.attempts_left,
            if two { 2 } else { 1 },
        ]);
        out.put_u32(floor.get());
        out.put(&state.grant_sequence.0.to_be_bytes());
        out.put(running.map_or(&[0; 32], |slot| &state.digest(slot).0));
        out.put(&state.slot(other).digest.0);
    }
}

/// The update slot that FD01 calls the other one: not the running one; where none runs, the one
/// with the newest business, else the confirmed one.
fn other_slot(state: &State, running: Option<SlotId>) -> SlotId {
    match running {
        Some(SlotId::A) => SlotId::B,
        Some(SlotId::B) => SlotId::A,
        _ => BY_BUSINESS
            .iter()
            .find_map(|wanted| state.find(*wanted))
            .unwrap_or(SlotId::A),
    }
}

/// States of a slot, the newest business first.
const BY_BUSINESS: &[SlotState] = &[
    SlotState::Trial,
    SlotState::Staged,
    SlotState::Receiving,
    SlotState::Healthy,
    SlotState::Rejected,
    SlotState::Sealed,
];

/// What a read leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// The response has this many bytes.
    Now(usize),
    /// A scan runs.
    Later,
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// 2E F15A.
    pub(crate) fn write_fingerprint(&mut self, fingerprint: [u8; 10]) -> Result<Reply, Nrc> {
        let next = self.edit().ok_or(Nrc::CONDITIONS_NOT_CORRECT)?;
        next.fingerprint = fingerprint;
        self.commit(Then::Answer(Answer::Written));
        Ok(Reply::Later)
    }
}

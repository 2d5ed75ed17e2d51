//! Erasing: the metadata area under a freshly accepted grant, the payload area on 31 FF00, and after
//! a reset the sectors behind the durable pages. Never the confirmed slot.

use crate::flash::{FlashError, FlashRead};
use crate::job::{Answer, Core, Then, Work};
use crate::layout::{Region, SlotId};
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::server::ERASE;
use crate::state::{Progress, State};

/// A run of sectors to be erased, one operation each.
#[derive(Debug)]
pub(crate) struct Eraser {
    next: u32,
    end: u32,
    sector: u32,
    /// Sectors below this address are erased in any case, those above only unless blank.
    always_until: u32,
    needed: bool,
}

impl Eraser {
    /// Sectors of `region` that the bytes `from..to` touch; those up to `always_until` in any case.
    /// All offsets are in bytes from the region's beginning.
    fn new(region: Region, from: u32, to: u32, always_until: u32) -> Self {
        let sector = region.sector;
        let down = |offset: u32| offset.saturating_sub(offset.checked_rem(sector).unwrap_or(0));
        let up = |offset: u32| {
            let offset = offset.min(region.len);
            offset.checked_next_multiple_of(sector).unwrap_or(offset)
        };
        let at = |offset: u32| region.address.saturating_add(offset);
        let next = at(down(from));
        let always_until = at(up(always_until));
        Self {
            next,
            end: at(up(to)),
            sector,
            always_until,
            needed: next < always_until,
        }
    }

    fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// The sector that must be erased now.
    pub(crate) fn due(&self) -> Option<(u32, u32)> {
        (self.needed && !self.is_done()).then_some((self.next, self.sector))
    }

    fn advance(&mut self) {
        self.next = self.next.saturating_add(self.sector);
        self.needed = self.next < self.always_until;
    }
}

impl<P: Platform, const PAGE: usize> Core<P, PAGE> {
    /// Starts to erase, then goes on with `then`. The last gate before the flash: nothing of a slot
    /// that the journal calls confirmed passes it.
    fn erase(&mut self, slot: SlotId, eraser: Eraser, then: Then) {
        let confirmed = self.state.is_none_or(|state| state.confirmed == slot);
        if confirmed || slot == SlotId::Factory {
            return self.fail(then, Failure::new(Reason::Pending));
        }
        self.evidence.clear(slot);
        self.eraser = Some(eraser);
        self.work = Work::Erase(then);
        self.erased_all();
    }

    /// Whether the eraser is done; then what follows has begun.
    fn erased_all(&mut self) -> bool {
        if self.eraser.as_ref().is_some_and(|eraser| !eraser.is_done()) {
            return false;
        }
        self.eraser = None;
        if let Work::Erase(then) = &self.work {
            let then = *then;
            self.proceed(then);
        }
        true
    }

    /// Looks whether the next sector is blank; whether there is more to look at.
    pub(crate) fn step_eraser(&mut self) -> bool {
        let Some(eraser) = &mut self.eraser else {
            return false;
        };
        if eraser.needed {
            return false;
        }
        let buffer = self.buffers.data_mut(self.buffers.filling);
        if is_blank(self.platform.flash(), eraser.next, eraser.sector, buffer) {
            eraser.advance();
        } else {
            eraser.needed = true;
        }
        !self.erased_all()
    }

    pub(crate) fn on_erase_done(&mut self, result: Result<(), FlashError>) {
        let Some(eraser) = &mut self.eraser else {
            return;
        };
        let address = eraser.next;
        if result.is_ok() {
            eraser.advance();
            self.erased_all();
            return;
        }
        self.eraser = None;
        if let Work::Erase(then) = &self.work {
            let then = *then;
            self.fail(then, Failure::with(Reason::Flash, address));
        }
    }

    /// The grant is journaled: the old metadata goes.
    pub(crate) fn erase_metadata(&mut self) {
        let target = self.head.as_ref().map(|head| head.slot);
        let place = target.and_then(|slot| Some((slot, self.platform.board().layout.slot(slot)?)));
        let Some((slot, place)) = place else {
            return self.fail(Then::EraseMetadata, Failure::new(Reason::OtherImage));
        };
        self.durable = None;
        let region = place.metadata;
        let eraser = Eraser::new(region, 0, region.len, region.len);
        self.erase(slot, eraser, Then::ProgramHead);
    }

    /// 31 FF00.
    ///
    /// # Errors
    /// `None`: no metadata is accepted. Else why the erase is refused.
    pub(crate) fn start_erase(&mut self) -> Result<(), Option<Failure>> {
        let (state, slot) = self.receiving().ok_or(None)?;
        self.end_transfer();
        self.ensure_head(slot, state.digest(slot))?;
        count_erase(&state)?;
        self.drain(Then::BeginErase);
        Ok(())
    }

    /// Journals that the erase begins and counts it.
    pub(crate) fn begin_erase(&mut self) {
        let Some(state) = self.state else { return };
        match count_erase(&state) {
            Ok(mut next) => {
                next.progress = Progress::EraseBegun;
                self.durable = None;
                self.commit(next, Then::ErasePayload);
            }
            Err(failure) => self.fail(Then::BeginErase, failure),
        }
    }

    pub(crate) fn erase_payload(&mut self) {
        self.erase_payload_from(0, u32::MAX, Then::PayloadErased);
    }

    /// Erases the part of the payload area that the image needs, from byte `from` on; what lies
    /// above `always_until` only unless blank.
    fn erase_payload_from(&mut self, from: u32, always_until: u32, then: Then) {
        let place = self.head.as_ref().and_then(|head| {
            let slot = self.platform.board().layout.slot(head.slot)?;
            Some((
                head.slot,
                slot.payload,
                head.header.layout().ciphertext_len(),
            ))
        });
        let Some((slot, region, len)) = place else {
            return self.fail(then, Failure::new(Reason::OtherImage));
        };
        let eraser = Eraser::new(region, from, len, always_until.min(len));
        self.erase(slot, eraser, then);
    }

    /// Every sector of the payload area is erased: that is journaled too, since a sector that reads
    /// blank proves nothing.
    pub(crate) fn payload_erased(&mut self) {
        let Some(state) = self.state else { return };
        self.durable = Some(0);
        self.dirty = false;
        let next = State {
            progress: Progress::Erased,
            ..state
        };
        self.commit(next, Then::Answer(Answer::Routine(ERASE)));
    }

    /// After a reset: erases again from the first sector that is not surely durable.
    pub(crate) fn erase_frontier(&mut self) {
        let Some(head) = &self.head else {
            return self.fail(Then::EraseFrontier, Failure::new(Reason::OtherImage));
        };
        let size = head.header.layout().page_size().get();
        let from = self.durable.unwrap_or(0).saturating_mul(size);
        // The interrupted page is one of the sector at `from` or the page after it.
        let sector = self
            .platform
            .board()
            .layout
            .slot(head.slot)
            .map_or(0, |slot| slot.payload.sector);
        let always = from
            .saturating_add(sector.max(size))
            .saturating_add(sector.max(size));
        self.erase_payload_from(from, always, Then::StartTransfer);
    }
}

/// The state with one erase fewer.
///
/// # Errors
/// None is left.
pub(crate) fn count_erase(state: &State) -> Result<State, Failure> {
    let erases_left = state
        .erases_left
        .checked_sub(1)
        .ok_or(Failure::new(Reason::ErasesUsedUp))?;
    Ok(State {
        erases_left,
        ..*state
    })
}

fn is_blank(flash: &mut impl FlashRead, address: u32, len: u32, buffer: &mut [u8]) -> bool {
    let mut at = address;
    let end = address.saturating_add(len);
    while at < end {
        let rest = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let take = rest.min(buffer.len()).max(1);
        let Some(chunk) = buffer.get_mut(..take) else {
            return false;
        };
        if flash.read(at, chunk).is_err() || chunk.iter().any(|byte| *byte != 0xFF) {
            return false;
        }
        at = at.saturating_add(u32::try_from(take).unwrap_or(u32::MAX));
    }
    true
}

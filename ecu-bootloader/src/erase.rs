//! Erasing: the metadata area under a freshly accepted grant, the image's pages on 31 FF00, and after
//! a reset the sectors behind the durable pages. Never the confirmed slot.

use crate::flash::FlashError;
use crate::job::{Answer, Core, Then, Work};
#[cfg(feature = "key-set-update")]
use crate::layout::KeySetArea;
use crate::layout::{Region, SlotId};
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::server::Routine;
use crate::state::{Progress, State};

/// A run of sectors to be erased, one operation each.
#[derive(Debug)]
pub(crate) struct Eraser {
    next: u32,
    end: u32,
    sector: u32,
}

impl Eraser {
    /// Sectors of `region` that the bytes `from..to` touch, in bytes from its beginning. A sector
    /// that reads blank is erased too: that proves nothing.
    fn new(region: Region, from: u32, to: u32) -> Self {
        let sector = region.sector;
        let down = |offset: u32| offset.saturating_sub(offset.checked_rem(sector).unwrap_or(0));
        let up = |offset: u32| {
            let offset = offset.min(region.len);
            offset.checked_next_multiple_of(sector).unwrap_or(offset)
        };
        let at = |offset: u32| region.address.saturating_add(offset);
        Self {
            next: at(down(from)),
            end: at(up(to)),
            sector,
        }
    }

    fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// The sector that must be erased now.
    pub(crate) fn due(&self) -> Option<(u32, u32)> {
        (!self.is_done()).then_some((self.next, self.sector))
    }

    fn advance(&mut self) {
        self.next = self.next.saturating_add(self.sector);
    }
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// Starts to erase, then goes on with `then`. The last gate before the flash: nothing of a slot
    /// that the journal calls confirmed passes it.
    fn erase(&mut self, slot: SlotId, eraser: Eraser, then: Then) {
        let confirmed = self.state.as_ref();
        let confirmed = confirmed.is_none_or(|state| state.confirmed == slot);
        if confirmed || slot == SlotId::Factory {
            return self.fail(then, Failure::new(Reason::Pending));
        }
        self.evidence.clear(slot);
        self.eraser = Some(eraser);
        self.work = Work::Erase(then);
        #[cfg(feature = "deliberate-bugs")]
        self.skip_blank();
        self.erased_all();
    }

    /// Erases an area for the key set in RAM; never the area of the one in use.
    #[cfg(feature = "key-set-update")]
    pub(crate) fn erase_key_set(&mut self, area: KeySetArea) {
        let used = |state: &State| state.key_set.as_ref().is_some_and(|used| used.area == area);
        if self.state.as_ref().is_none_or(used) {
            return self.fail(Then::ProgramKeySet, Failure::new(Reason::KeySetUnreadable));
        }
        let region = self.platform.board().layout.key_set(area);
        self.eraser = Some(Eraser::new(region, 0, region.len));
        self.work = Work::Erase(Then::ProgramKeySet);
        self.erased_all();
    }

    #[cfg(feature = "deliberate-bugs")]
    fn skip_blank(&mut self) {
        use crate::flash::FlashRead as _;
        let mut buffer = [0; 4096];
        while crate::bugs::has(crate::bugs::Bug::BlankSector) {
            let Some((address, len)) = self.eraser.as_ref().and_then(Eraser::due) else {
                return;
            };
            let chunk = usize::try_from(len).unwrap_or(usize::MAX).min(buffer.len());
            let mut parts = (address..address.saturating_add(len)).step_by(chunk.max(1));
            let blank = parts.all(|at| {
                let Some(bytes) = buffer.get_mut(..chunk) else {
                    return false;
                };
                let read = self.platform.flash().read(at, bytes);
                read.is_ok() && bytes.iter().all(|byte| *byte == 0xFF)
            });
            match &mut self.eraser {
                Some(eraser) if blank => eraser.advance(),
                _ => return,
            }
        }
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

    pub(crate) fn on_erase_done(&mut self, result: Result<(), FlashError>) {
        let Some(eraser) = &mut self.eraser else {
            return;
        };
        let address = eraser.next;
        if result.is_ok() {
            eraser.advance();
            #[cfg(feature = "deliberate-bugs")]
            self.skip_blank();
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
        let eraser = Eraser::new(region, 0, region.len);
        self.erase(slot, eraser, Then::ProgramHead);
    }

    /// 31 FF00.
    ///
    /// # Errors
    /// `None`: no metadata is accepted. Else why the erase is refused.
    pub(crate) fn start_erase(&mut self) -> Result<(), Option<Failure>> {
        let (_, slot) = self.receiving().ok_or(None)?;
        self.end_transfer();
        self.ensure_head(slot)?;
        count_erase(self.edit().ok_or(None)?)?;
        self.drain(Then::BeginErase);
        Ok(())
    }

    /// Journals that the erase begins and counts it.
    pub(crate) fn begin_erase(&mut self) {
        let Some(next) = self.edit() else { return };
        next.progress = Progress::EraseBegun;
        next.frontier = None;
        match count_erase(next) {
            Ok(()) => {
                self.durable = None;
                self.commit(Then::ErasePayload);
            }
            Err(failure) => self.fail(Then::BeginErase, failure),
        }
    }

    pub(crate) fn erase_payload(&mut self) {
        self.erase_pages(0, u32::MAX, Then::PayloadErased);
    }

    /// Erases pages `from..until` of the image, in whole sectors.
    fn erase_pages(&mut self, from: u32, until: u32, then: Then) {
        let place = self.head.as_ref().and_then(|head| {
            let slot = self.platform.board().layout.slot(head.slot)?;
            Some((head.slot, slot.payload, head.header.layout()))
        });
        let Some((slot, region, layout)) = place else {
            return self.fail(then, Failure::new(Reason::OtherImage));
        };
        let eraser = Eraser::new(region, layout.offset_of(from), layout.offset_of(until));
        self.erase(slot, eraser, then);
    }

    /// Every sector of the image's pages is erased: that is journaled too, since a sector that reads
    /// blank proves nothing.
    pub(crate) fn payload_erased(&mut self) {
        self.durable = Some(0);
        self.frontier = None;
        let Some(next) = self.edit() else { return };
        next.progress = Progress::Erased;
        self.commit(Then::Answer(Answer::Routine(Routine::Erase)));
    }

    /// After a reset, journaled: erases again what is not surely durable.
    pub(crate) fn erase_frontier(&mut self) {
        let Some(frontier) = self.frontier else {
            return self.fail(Then::EraseFrontier, Failure::new(Reason::OtherImage));
        };
        let (from, until) = (frontier.from.into(), frontier.until.into());
        self.erase_pages(from, until, Then::FrontierErased);
    }

    /// That is journaled too: the next reset believes what lies behind.
    pub(crate) fn frontier_erased(&mut self) {
        self.frontier = None;
        let Some(next) = self.edit() else { return };
        next.frontier = None;
        self.commit(Then::StartTransfer);
    }
}

/// Counts an erase.
///
/// # Errors
/// None is left.
pub(crate) fn count_erase(state: &mut State) -> Result<(), Failure> {
    let left = state.erases_left.checked_sub(1);
    state.erases_left = left.ok_or(Failure::new(Reason::ErasesUsedUp))?;
    Ok(())
}

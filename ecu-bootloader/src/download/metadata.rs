//! Grant, header and page table: examined, verified, then programmed.

use core::borrow::BorrowMut as _;

use ecu_image::hardened::difference;
use ecu_image::pss::Progress as SignatureProgress;
use ecu_image::signature::SignatureVerifier;
use ecu_image::{GRANT_LEN, SIGNED_LEN, TABLE_PAGE_LEN};
use uds::nrc::Nrc;

use super::{Kind, Part, Replied, Reply, usize_of};
use crate::boot::factory_takes_over;
use crate::erase::count_erase;
use crate::gate::below;
use crate::head::{HEAD_LEN, Head, table_address};
use crate::job::{Answer, Core, Then, Work};
use crate::keyset::{Use, begin_signature};
use crate::layout::{METADATA_HEAD, SlotId};
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::state::{Progress, SlotState, State};
use crate::{head, transition};
use ecu_image::SecurityCounter;

impl<P: Platform, M: Storage> Core<P, M> {
    pub(super) fn metadata_download(&mut self, len: u32) -> Replied {
        let table_len = usize::try_from(len)
            .ok()
            .and_then(|len| len.checked_sub(HEAD_LEN))
            .filter(|len| *len > 0 && len.is_multiple_of(TABLE_PAGE_LEN))
            .filter(|len| *len <= 16usize.saturating_mul(TABLE_PAGE_LEN));
        if table_len.is_none() || self.state.is_none() {
            return Err(Nrc::UPLOAD_DOWNLOAD_NOT_ACCEPTED);
        }
        self.start_in_ram(
            Kind::Metadata {
                part: Part::Head,
                kept: false,
            },
            len,
        );
        Ok(Reply::Later)
    }

    #[inline(never)]
    pub(super) fn metadata_block(
        &mut self,
        part: Part,
        kept: bool,
        data: &[u8],
        answer: Answer,
    ) -> Replied {
        // Nothing is being programmed between two blocks of metadata.
        self.buffers
            .gather(self.table.borrow_mut().take_waiting(), part.len());
        let rest = self.buffers.gather(data, part.len());
        if self.buffers.fill < part.len() {
            return Ok(Reply::Now(answer));
        }
        self.buffers.fill = 0;
        self.set_kind(Kind::Metadata {
            part: part.next(),
            kept,
        });
        let result = match part {
            Part::Head => self.head_complete().inspect_err(|_| self.head = None),
            Part::Table(index) if !kept => self.table_complete(index),
            Part::Table(_) => Ok(()),
        };
        result.map_err(|failure| self.refuse(failure))?;
        self.table.borrow_mut().set_waiting(rest);
        if let Work::Signature = self.work {
            return Ok(Reply::Later);
        }
        self.drain(Then::Answer(answer));
        Ok(Reply::Later)
    }

    /// Grant and header are in: examines them and starts to verify the signature, unless this very
    /// image is accepted already.
    #[inline(never)]
    pub(super) fn head_complete(&mut self) -> Result<(), Failure> {
        let floor = self.floor();
        let state = self.state.as_ref();
        let state = state.ok_or(Failure::new(Reason::NotProvisioned))?;
        let page = self.buffers.page();
        let (bytes, scratch) = self.buffers.both_mut();
        self.table.borrow_mut().begin(bytes);
        // The slot is chosen below; until then the head names one that nothing can be written to.
        let head = self.head.insert(Head::NONE);
        head::examine(head, bytes, SlotId::Factory, page, &mut self.platform)?;
        let board = self.platform.board();
        let expected = HEAD_LEN.checked_add(usize_of(head.header.layout().table_len()));
        let len = self
            .transfer
            .as_ref()
            .map(|transfer| usize_of(transfer.len));
        if expected != len {
            return Err(Failure::new(Reason::MetadataLength));
        }
        let resumed = check_sequence(state, head)?;
        let counter = head.header.security_counter();
        // No grant excuses what is below a counter that cannot be read.
        let excused = head.downgrade && floor != SecurityCounter(u32::MAX);
        if counter < floor && !excused {
            return Err(Failure::with(Reason::HeaderCounter, counter.get()));
        }
        let highest = floor.get().saturating_add(board.max_counter_jump);
        if counter.get() > highest {
            return Err(Failure::with(Reason::HeaderJump, counter.get()));
        }
        let takes_over = factory_takes_over(&self.evidence, floor);
        head.slot = match resumed {
            Some(slot) => slot,
            None => {
                transition::target(state, head.header.slots(), board.layout.has_b(), takes_over)?
            }
        };
        head::fits(&head.header, head.slot, board)?;
        let kept = resumed.is_some() && state.progress != Progress::MetadataBegun;
        if !kept {
            let len = head.header.signature_len();
            let signature = bytes
                .get(GRANT_LEN.saturating_add(SIGNED_LEN)..)
                .unwrap_or(&[]);
            let signature = signature.get(..len).unwrap_or(&[]);
            let key_set = state.key_set.as_ref();
            let platform = &mut self.platform;
            begin_signature(platform, key_set, head, Use::Install, signature, scratch)?;
            self.work = Work::Signature;
        }
        if kept {
            self.set_kind(Kind::Metadata {
                part: Part::Table(0),
                kept,
            });
        }
        Ok(())
    }

    /// A step of the signature of the head in RAM; when it is right, the grant is journaled.
    #[inline(never)]
    pub(crate) fn step_signature(&mut self) {
        let then = Then::EraseMetadata;
        let progress = self.platform.signatures().step(1);
        match progress {
            SignatureProgress::Pending => self.work = Work::Signature,
            SignatureProgress::Invalid => {
                self.head = None;
                self.fail(then, Failure::new(Reason::HeaderSignature));
            }
            SignatureProgress::Valid => {
                let Some(head) = &self.head else {
                    return self.fail(then, Failure::new(Reason::OtherImage));
                };
                let (slot, digest, sequence) = (head.slot, head.digest, head.sequence);
                let counter = head.header.security_counter();
                if self.unacceptable() != 0 {
                    return self.fail(then, Failure::new(Reason::SecondLook));
                }
                let Some(next) = self.edit() else { return };
                transition::accept(next, slot, digest, counter, sequence);
                // The metadata area is erased too.
                if let Err(failure) = count_erase(next) {
                    return self.fail(then, failure);
                }
                self.evidence.clear(slot);
                self.commit(then);
            }
        }
    }

    /// What no later start examines again, looked at once more before it is journaled, without a
    /// branch: not zero where the grant's sequence or the image's counter should have been refused.
    #[inline(never)]
    pub(super) fn unacceptable(&mut self) -> u32 {
        let floor = self.floor().get();
        let highest = floor.saturating_add(self.platform.board().max_counter_jump);
        let (Some(head), Some(state)) = (&self.head, &self.state) else {
            return u32::MAX;
        };
        let counter = head.header.security_counter().get();
        let excused = u32::from(head.downgrade & (floor != u32::MAX)).wrapping_sub(1);
        let old = head
            .sequence
            .get()
            .overflowing_sub(state.grant_sequence.get())
            .1;
        let same = head.sequence == state.grant_sequence;
        let other = difference(head.digest.as_bytes(), state.grant_digest.as_bytes());
        below(counter, floor) & excused
            | below(highest, counter)
            | u32::from(old)
            | other & u32::from(same).wrapping_neg()
    }

    /// The metadata area is erased: programs grant and header, which wait in the buffers.
    #[inline(never)]
    pub(crate) fn program_head(&mut self) {
        let then = Then::ProgramHead;
        let Some(address) = self.head.as_ref().and_then(|head| {
            head::metadata_address(self.platform.board(), head.slot, 0, METADATA_HEAD)
        }) else {
            return self.fail(then, Failure::new(Reason::OtherImage));
        };
        let counter = self.transfer.as_ref().and_then(|transfer| transfer.last);
        let len = usize_of(METADATA_HEAD);
        if let Some(tail) = self.buffers.whole_mut().get_mut(HEAD_LEN..len) {
            tail.fill(0);
        }
        self.buffers.queue_whole(address, len);
        self.drain(Then::Answer(Answer::Block(counter.unwrap_or(0))));
    }

    /// A table page is in: it is authentic before it is programmed.
    #[inline(never)]
    pub(super) fn table_complete(&mut self, index: u16) -> Result<(), Failure> {
        let bad = Failure::with(Reason::TablePage, index);
        let head = self.head.as_ref().ok_or(bad)?;
        let bytes = self.buffers.whole().get(..TABLE_PAGE_LEN).ok_or(bad)?;
        if !self.table.borrow_mut().has_table(index, bytes) {
            return Err(bad);
        }
        let address = table_address(self.platform.board(), head.slot, index).ok_or(bad)?;
        self.buffers.queue_whole(address, TABLE_PAGE_LEN);
        Ok(())
    }

    /// Every table page is durable: that is journaled, so that a resume can rely on it.
    pub(crate) fn metadata_stored(&mut self) {
        self.end_transfer();
        let Some(next) = self.edit() else { return };
        if next.progress == Progress::MetadataBegun {
            next.progress = Progress::Metadata;
        }
        self.commit(Then::Answer(Answer::Exit));
    }
}

/// A grant's sequence is used once. It may come again to resume the same image, in the slot that
/// receives or holds it staged, or after that was dropped; not once the image was tried.
#[inline(never)]
pub(super) fn check_sequence(state: &State, head: &Head) -> Result<Option<SlotId>, Failure> {
    if head.sequence > state.grant_sequence {
        return Ok(None);
    }
    let replayed = Failure::with(Reason::GrantReplayed, head.sequence.get());
    if head.sequence != state.grant_sequence || head.digest != state.grant_digest {
        return Err(replayed);
    }
    let (mut resumed, mut tried) = (None, false);
    for &slot in SlotId::UPDATE {
        let record = state.slot(slot);
        if record.digest != head.digest {
            continue;
        }
        match record.state {
            SlotState::Receiving | SlotState::Staged => resumed = Some(slot),
            SlotState::Empty => {}
            _ => tried = true,
        }
    }
    if tried && resumed.is_none() {
        return Err(replayed);
    }
    Ok(resumed)
}

//! The download: 34, 36 and 37 of the metadata and of the payload.
//!
//! ```text
//!  metadata: 34 ─▶ head complete ─▶ examine, verify ─▶ journal ─▶ erase metadata ─▶ program head
//!                  table page complete ─▶ authenticate ─▶ program            37 ─▶ journal
//!  payload:  34 ─▶ (after a reset: scan, erase the frontier)
//!                  page complete ─▶ authenticate ─▶ decrypt ─▶ queue, answer  37 ─▶ drain
//! ```
//!
//! A block that completes a page is answered as soon as the other buffer is free, so the next page
//! is received while this one is programmed.

mod metadata;

use core::borrow::BorrowMut as _;

use ecu_image::{SIGNED_LEN, TABLE_PAGE_LEN};

use crate::buffers::Which;
use crate::erase::count_erase;
use crate::head::{HEAD_LEN, Head, page_address};
use crate::job::{Answer, Core, Then, Work};
use crate::keys::KeyStore;
use crate::layout::SlotId;
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::state::{Frontier, Progress};
use crate::verify::{MAX_WAITING, is_authentic, recheck_page};
use uds::nrc::Nrc;

/// The virtual address of the metadata download.
pub const METADATA_ADDRESS: u32 = 0xF000_0000;

/// The virtual address of a key-set download.
pub const KEY_SET_ADDRESS: u32 = 0xF100_0000;

/// A transfer under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    kind: Kind,
    /// The counter of the next block.
    next: u8,
    /// The counter of the last accepted block; only this one may repeat.
    last: Option<u8>,
    /// Bytes still to come.
    left: u32,
    /// Length of the whole transfer.
    len: u32,
    /// A page failed after its block was answered.
    pub(crate) failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Metadata {
        part: Part,
        /// The image is accepted already: the table pages are not written again.
        kept: bool,
    },
    Payload {
        page: u32,
    },
    #[cfg(feature = "key-set-update")]
    KeySet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Table(u16),
}

impl Part {
    const fn len(self) -> usize {
        match self {
            Self::Head => HEAD_LEN,
            Self::Table(_) => TABLE_PAGE_LEN,
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Head => Self::Table(0),
            Self::Table(index) => Self::Table(index.saturating_add(1)),
        }
    }
}

/// What a request leads to: a positive response now, or one after a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Now(Answer),
    Later,
}

type Replied = Result<Reply, Nrc>;

impl<P: Platform, M: Storage> Core<P, M> {
    /// Notes why something failed; 0x72.
    pub(crate) fn refuse(&mut self, failure: Failure) -> Nrc {
        self.failure = failure;
        self.end_transfer();
        Nrc::GENERAL_PROGRAMMING_FAILURE
    }

    /// 34: `34 dataFormatIdentifier 44 address length`.
    #[inline(never)]
    pub(crate) fn request_download(&mut self, request: &[u8]) -> Replied {
        let [_, format, alfid, a0, a1, a2, a3, l0, l1, l2, l3] = *request else {
            return Err(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT);
        };
        if alfid != 0x44 || format > 1 {
            return Err(Nrc::REQUEST_OUT_OF_RANGE);
        }
        if self.transfer.is_some() {
            return Err(Nrc::CONDITIONS_NOT_CORRECT);
        }
        let address = u32::from_be_bytes([a0, a1, a2, a3]);
        let len = u32::from_be_bytes([l0, l1, l2, l3]);
        match (format, address) {
            (0, METADATA_ADDRESS) => self.metadata_download(len),
            #[cfg(feature = "key-set-update")]
            (0, KEY_SET_ADDRESS) => self.key_set_download(len),
            (1, _) if address < METADATA_ADDRESS => self.payload_download(address, len),
            _ => Err(Nrc::UPLOAD_DOWNLOAD_NOT_ACCEPTED),
        }
    }

    #[cfg(feature = "key-set-update")]
    fn key_set_download(&mut self, len: u32) -> Replied {
        if len == 0 || usize_of(len) > self.max_key_set() || self.state.is_none() {
            return Err(Nrc::UPLOAD_DOWNLOAD_NOT_ACCEPTED);
        }
        self.start_in_ram(Kind::KeySet, len);
        Ok(Reply::Later)
    }

    /// Starts a transfer that is gathered in a page buffer before anything is written.
    fn start_in_ram(&mut self, kind: Kind, len: u32) {
        self.transfer = Some(Transfer {
            kind,
            next: 1,
            last: None,
            left: len,
            len,
            failed: false,
        });
        self.buffers.fill = 0;
        self.buffers.filling = Which::First;
        self.table.borrow_mut().set_waiting(&[]);
        self.drain(Then::Answer(Answer::Download));
    }

    fn payload_download(&mut self, offset: u32, len: u32) -> Replied {
        let Some((Progress::Erased, slot)) = self.receiving() else {
            return Err(Nrc::REQUEST_SEQUENCE_ERROR);
        };
        if let Err(failure) = self.ensure_head(slot) {
            return Err(self.refuse(failure));
        }
        self.transfer = Some(Transfer {
            kind: Kind::Payload { page: 0 },
            next: 1,
            last: None,
            // What the tester thinks; checked against what is durable.
            left: offset,
            len,
            failed: false,
        });
        self.drain(Then::StartTransfer);
        Ok(Reply::Later)
    }

    /// Every page queued before is durable, or failed: starts the payload transfer where the
    /// durable pages end.
    #[inline(never)]
    pub(crate) fn start_transfer(&mut self) {
        let then = Then::StartTransfer;
        let Some(head) = &self.head else {
            return self.fail(then, Failure::new(Reason::OtherImage));
        };
        let Some(durable) = self.durable else {
            return self.scan(then);
        };
        let layout = head.header.layout();
        let from = layout.offset_of(durable);
        let rest = layout.ciphertext_len().saturating_sub(from);
        let Some(transfer) = &mut self.transfer else {
            return self.fail(then, Failure::NONE);
        };
        if transfer.left != from || transfer.len != rest || rest == 0 {
            self.end_transfer();
            self.answer = Some(Err(Nrc::UPLOAD_DOWNLOAD_NOT_ACCEPTED));
            return;
        }
        if let Some(frontier) = self.frontier {
            let counted = self.edit().ok_or(Failure::NONE).and_then(|next| {
                next.frontier = Some(frontier);
                count_erase(next)
            });
            match counted {
                Ok(()) => self.commit(Then::EraseFrontier),
                Err(failure) => self.fail(then, failure),
            }
            return;
        }
        transfer.left = rest;
        transfer.kind = Kind::Payload { page: durable };
        self.buffers.fill = 0;
        self.answer = Some(Ok(Answer::Download));
    }

    /// Loads the head of the receiving slot unless it is at hand.
    pub(crate) fn ensure_head(&mut self, slot: SlotId) -> Result<(), Failure> {
        let digest = self.state.as_ref().map(|state| state.digest(slot));
        match &self.head {
            Some(head) if head.slot == slot && Some(&head.digest) == digest => Ok(()),
            _ => self.load(slot),
        }
    }

    /// Compares every stored page with the table, then goes on with `then`.
    pub(crate) fn scan(&mut self, then: Then) {
        self.scanned = 0;
        self.suspect = 0;
        self.work = Work::Scan(then);
    }

    /// Compares the next stored page with the table. The last one before the first difference that
    /// is not blank may be the interrupted one, although it reads right today: it does not count as
    /// durable either. Blank ones behind it prove nothing, since their plaintext may be blank.
    #[inline(never)]
    pub(crate) fn step_scan(&mut self, then: Then) {
        let page = self.scanned;
        let (Some(head), Some(state)) = (&self.head, &self.state) else {
            return self.fail(then, Failure::new(Reason::OtherImage));
        };
        if let Some(frontier) = state.frontier {
            return self.scan_ended(frontier, then);
        }
        let mut blank = true;
        let buffer = self.buffers.data_mut(self.buffers.filling);
        let same = match buffer.get_mut(..head.page_size()) {
            Some(buffer) if page < head.page_count() => recheck_page(
                &mut self.platform,
                self.table.borrow_mut(),
                head,
                page,
                buffer,
                &mut |plain| blank = plain.iter().all(|byte| *byte == 0xFF),
            ),
            _ => Ok(false),
        };
        #[cfg(feature = "deliberate-bugs")]
        let same = match same {
            Ok(false) if crate::bugs::has(crate::bugs::Bug::UncheckedPage) => Ok(!blank),
            same => same,
        };
        match same {
            Ok(true) => {
                if !blank {
                    self.suspect = page;
                }
                self.scanned = page.saturating_add(1);
                self.work = Work::Scan(then);
            }
            // A page that cannot be read is a torn one.
            Ok(false)
            | Err(Failure {
                reason: Reason::Flash,
                ..
            }) => {
                let size = head.header.layout().page_size().get();
                let sector = self.platform.board().layout.slot(head.slot);
                let sector = sector.map_or(1, |slot| slot.payload.sector.max(1));
                let until = page.saturating_add(1).min(head.page_count());
                #[cfg(feature = "deliberate-bugs")]
                if crate::bugs::has(crate::bugs::Bug::UncheckedPage) {
                    self.suspect = page;
                }
                let frontier = frontier(self.suspect, until, size, sector);
                self.scan_ended(frontier, then);
            }
            Err(failure) => self.fail(then, failure),
        }
    }

    fn scan_ended(&mut self, frontier: Frontier, then: Then) {
        self.durable = Some(frontier.from.into());
        self.frontier = Some(frontier);
        self.proceed(then);
    }

    /// 36: `36 counter data`.
    #[inline(never)]
    pub(crate) fn transfer_data(&mut self, request: &[u8]) -> Replied {
        let (&counter, data) = match request {
            [_, counter, data @ ..] if !data.is_empty() => (counter, data),
            _ => return Err(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT),
        };
        let Some(mut transfer) = self.transfer else {
            return Err(Nrc::REQUEST_SEQUENCE_ERROR);
        };
        if transfer.failed {
            let failure = self.failure;
            return Err(self.refuse(failure));
        }
        if transfer.last == Some(counter) {
            return Ok(Reply::Now(Answer::Block(counter)));
        }
        // Clause 14.5: all announced bytes are in, or the block has more than are left.
        if transfer.left == 0 {
            return Err(Nrc::REQUEST_SEQUENCE_ERROR);
        }
        if counter != transfer.next {
            return Err(Nrc::WRONG_BLOCK_SEQUENCE_COUNTER);
        }
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let Some(left) = transfer.left.checked_sub(len) else {
            self.end_transfer();
            return Err(Nrc::TRANSFER_DATA_SUSPENDED);
        };
        if data.len() > usize::from(self.max_block_length(&transfer)).saturating_sub(2) {
            return Err(Nrc::REQUEST_OUT_OF_RANGE);
        }
        if let Kind::Payload { .. } = transfer.kind {
            // A block never holds parts of two pages.
            let page = self.head.as_ref().map_or(0, Head::page_size);
            if data.len() > page.saturating_sub(self.buffers.fill) {
                return Err(Nrc::REQUEST_OUT_OF_RANGE);
            }
        }
        transfer.left = left;
        transfer.last = Some(counter);
        transfer.next = counter.wrapping_add(1);
        self.transfer = Some(transfer);
        let answer = Answer::Block(counter);
        match transfer.kind {
            Kind::Metadata { part, kept } => self.metadata_block(part, kept, data, answer),
            Kind::Payload { page } => self.payload_block(page, data, answer),
            #[cfg(feature = "key-set-update")]
            Kind::KeySet => {
                self.buffers.append(data);
                Ok(Reply::Now(answer))
            }
        }
    }

    /// The longest block of a transfer, service identifier and counter included. One of metadata is
    /// short, since what it holds of the next part must wait until this one is programmed.
    pub(crate) fn max_block_length(&self, transfer: &Transfer) -> u16 {
        let room = match transfer.kind {
            Kind::Metadata { .. } => MAX_WAITING,
            _ => self.buffers.page(),
        };
        let room = u16::try_from(room.saturating_add(2)).unwrap_or(u16::MAX);
        let longest = self.platform.board().max_block_length.min(self.block);
        // Not `clamp`, which panics where the bounds are crossed.
        longest.max(16).min(room)
    }

    fn set_kind(&mut self, kind: Kind) {
        if let Some(transfer) = &mut self.transfer {
            transfer.kind = kind;
        }
    }

    fn payload_block(&mut self, page: u32, data: &[u8], answer: Answer) -> Replied {
        let bad = Failure::with(Reason::Page, page);
        let size = self.head.as_ref().map_or(0, Head::page_size);
        self.buffers.append(data);
        if self.buffers.fill < size {
            return Ok(Reply::Now(answer));
        }
        if let Err(failure) = self.page_complete(page, size, bad) {
            return Err(self.refuse(failure));
        }
        self.set_kind(Kind::Payload {
            page: page.saturating_add(1),
        });
        if self.buffers.has_room() {
            return Ok(Reply::Now(answer));
        }
        self.work = Work::Room(Then::Answer(answer));
        Ok(Reply::Later)
    }

    /// A page is in: authentic, then decrypted, then programmed.
    #[inline(never)]
    fn page_complete(&mut self, page: u32, size: usize, bad: Failure) -> Result<(), Failure> {
        let head = self.head.as_ref().ok_or(bad)?;
        let address = page_address(self.platform.board(), head, page).ok_or(bad)?;
        let table = self.table.borrow_mut();
        let digest = table.digest_of(&mut self.platform, head, page)?;
        let data = self.buffers.data_mut(self.buffers.filling);
        let data = data.get_mut(..size).ok_or(bad)?;
        if !is_authentic(data, digest) {
            return Err(bad);
        }
        let keys = self.platform.keys();
        keys.decrypt_page(&head.header.iv_seed(), page, data)
            .map_err(|_| Failure::new(Reason::GrantKey))?;
        self.buffers.queue(address, size, true);
        Ok(())
    }

    /// 37: drains first.
    #[inline(never)]
    pub(crate) fn transfer_exit(&mut self) -> Replied {
        let Some(transfer) = self.transfer else {
            return Err(Nrc::REQUEST_SEQUENCE_ERROR);
        };
        if transfer.failed {
            let failure = self.failure;
            return Err(self.refuse(failure));
        }
        if transfer.left != 0 {
            return Err(Nrc::REQUEST_SEQUENCE_ERROR);
        }
        match transfer.kind {
            Kind::Metadata { .. } => self.drain(Then::MetadataStored),
            #[cfg(feature = "key-set-update")]
            Kind::KeySet => return self.key_set_complete(),
            Kind::Payload { .. } => {
                self.drain(Then::Answer(Answer::Exit));
                self.end_transfer();
            }
        }
        Ok(Reply::Later)
    }
}

/// What is erased again where page `suspect` may be the interrupted one and none from `until` on was
/// begun: the whole sector of the former, since a sector is erased whole.
fn frontier(suspect: u32, until: u32, page_size: u32, sector: u32) -> Frontier {
    let byte = suspect.saturating_mul(page_size);
    let start = byte.saturating_sub(byte.checked_rem(sector).unwrap_or(0));
    let number = |page: u32| u16::try_from(page).unwrap_or(u16::MAX);
    Frontier {
        from: number(start.checked_div(page_size).unwrap_or(0)),
        until: number(until),
    }
}

fn usize_of(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

const _: () = assert!(HEAD_LEN >= SIGNED_LEN && HEAD_LEN <= 2048 && MAX_WAITING < HEAD_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_page_and_its_sector_do_not_count() {
        let from = |suspect, page_size, sector| frontier(suspect, 9, page_size, sector).from;
        assert_eq!(from(0, 4096, 4096), 0);
        assert_eq!(from(4, 4096, 4096), 4);
        assert_eq!(from(4, 4096, 16384), 4);
        assert_eq!(from(3, 4096, 16384), 0);
        assert_eq!(from(8, 1024, 4096), 8);
        assert_eq!(from(7, 4096, 2048), 7);
    }
}

//! What the flash is doing: the journal, an erase, or a page of a download.

use super::{Core, InFlight, Then, Work};
use crate::erase::Eraser;
use crate::flash::{FlashError, FlashOp};
use crate::journal::Written;
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};

impl<P: Platform, M: Storage> Core<P, M> {
    /// The operation that the flash should do now, once.
    pub(crate) fn poll_flash(&mut self) -> Option<FlashOp<'_>> {
        if self.in_flight.is_some() {
            return None;
        }
        if self.journal.is_writing() {
            self.in_flight = Some(InFlight::Journal);
            return self.journal.op(&self.platform.board().layout);
        }
        if let Some((address, len)) = self.eraser.as_ref().and_then(Eraser::due) {
            self.in_flight = Some(InFlight::Erase);
            return Some(FlashOp::Erase { address, len });
        }
        let queued = self.buffers.front()?;
        self.in_flight = Some(InFlight::Page);
        Some(FlashOp::Program {
            address: queued.address,
            bytes: self.buffers.bytes(queued),
        })
    }

    /// The operation of [`Core::poll_flash`] ended.
    pub(crate) fn on_flash_done(&mut self, result: Result<(), FlashError>) {
        match self.in_flight.take() {
            None => {}
            Some(InFlight::Journal) => self.on_journal_done(result),
            Some(InFlight::Erase) => self.on_erase_done(result),
            Some(InFlight::Page) => self.on_page_done(result),
        }
    }

    pub(super) fn on_journal_done(&mut self, result: Result<(), FlashError>) {
        let written = self.journal.on_done(result);
        if written == Written::NotYet {
            return;
        }
        let Work::Commit(then) = self.work else {
            return;
        };
        self.work = Work::Idle;
        if written == Written::Failed {
            return self.fail(then, Failure::new(Reason::Journal));
        }
        self.state = Some(self.next);
        self.proceed(then);
    }

    #[inline(never)]
    pub(super) fn on_page_done(&mut self, result: Result<(), FlashError>) {
        let Some(done) = self.buffers.pop() else {
            return;
        };
        match result {
            Ok(()) if done.payload => {
                self.durable = self.durable.map(|pages| pages.saturating_add(1));
            }
            Ok(()) => {}
            Err(FlashError) => self.page_failed(done.address),
        }
        let failed = result.is_err();
        match core::mem::replace(&mut self.work, Work::Idle) {
            Work::Drain(then) | Work::Room(then) if failed => {
                self.fail(then, Failure::with(Reason::Flash, done.address));
            }
            Work::Drain(then) if self.buffers.is_drained() => self.proceed(then),
            Work::Room(then) if self.buffers.has_room() => self.proceed(then),
            other => self.work = other,
        }
    }

    /// What was queued behind a failed page must not be programmed: pages are durable in order.
    pub(super) fn page_failed(&mut self, address: u32) {
        self.failure = Failure::with(Reason::Flash, address);
        self.buffers.drop_waiting();
        self.durable = None;
        if let Some(transfer) = &mut self.transfer {
            transfer.failed = true;
        }
    }

    /// Waits until every queued page is programmed, then goes on.
    #[inline(never)]
    pub(crate) fn drain(&mut self, then: Then) {
        if self.buffers.is_drained() {
            return self.proceed(then);
        }
        self.work = Work::Drain(then);
    }
}

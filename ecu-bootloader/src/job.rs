//! What the machine is made of besides its connection: journal, buffers, and the one job under way.
//!
//! A job is a chain of flash operations and slices of computation: each [`Work`] names what it waits
//! for and, as [`Then`], what follows. There is one at a time, since a server has one request
//! pending at a time; pages of a download are programmed beside it.

mod decision;
mod flash;
mod work;

pub use decision::BootTarget;
use work::InFlight;
pub(crate) use work::{Answer, Dids, Phase, Purpose, Then, Work};

use crate::access::Access;
use crate::boot::{BootReason, Evidence, ResetCause};
use crate::buffers::Buffers;
use crate::counter::MonotonicCounter;
use crate::download::Transfer;
use crate::erase::Eraser;
use crate::head::Head;
use crate::journal::Journal;
#[cfg(feature = "key-set-update")]
use crate::keyset::Vouched;
use crate::layout::SlotId;
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::server::Routine;
use crate::state::{Frontier, Progress, SlotState, State};
use crate::verify::Verification;
use ecu_image::{Digest, SecurityCounter};
use uds::nrc::Nrc;
use uds::time::Instant;

/// The machine without its connection. What is small comes first: code reaches it by shorter
/// instructions there, which saves kilobytes of flash.
#[repr(C)]
pub(crate) struct Core<P, M: Storage> {
    pub(crate) work: Work,
    pub(crate) answer: Option<Result<Answer, Nrc>>,
    pub(crate) phase: Phase,
    in_flight: Option<InFlight>,
    pub(crate) cause: ResetCause,
    /// Whether a decision of this start, which charged the reset, is durable.
    pub(crate) charged: bool,
    pub(crate) programming: bool,
    pub(crate) self_tested: bool,
    /// Whether the journal was read.
    opened: bool,
    pub(crate) journal_dead: bool,
    pub(crate) failure: Failure,
    /// The longest block that can be received, in bytes.
    pub(crate) block: u16,
    /// Pages of the receiving slot known to be durable; `None` after a reset, until scanned.
    pub(crate) durable: Option<u32>,
    /// The pages that must be erased again before a transfer goes on; known with `durable`.
    pub(crate) frontier: Option<Frontier>,
    /// The page that a scan compares next.
    pub(crate) scanned: u32,
    /// The last page of the scan that is right and not blank: the interrupted one may be.
    pub(crate) suspect: u32,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) buffers: Buffers<M::Pages>,
    pub(crate) eraser: Option<Eraser>,
    pub(crate) evidence: Evidence,
    /// The identifiers of the request that waits for a scan.
    pub(crate) dids: Dids,
    #[cfg(feature = "key-set-update")]
    pub(crate) vouched: Vouched,
    pub(crate) access: Access,
    /// The image at hand; always that of `head.slot` in flash or on its way there.
    pub(crate) head: Option<Head>,
    /// The durable state; `None` where the ECU is not provisioned.
    pub(crate) state: Option<State>,
    /// The state that is being journaled, or was last.
    next: State,
    /// The digest of the plaintext of that image, as the last verification computed it.
    pub(crate) measured: Option<Digest>,
    /// Whether the board is still to be told to start what runs.
    pub(crate) boot_due: bool,
    pub(crate) running: Option<BootTarget>,
    pub(crate) verification: Verification,
    pub(crate) journal: Journal,
    pub(crate) table: M::Table,
    pub(crate) platform: P,
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// Nothing is read yet. `block`: bytes of the longest block that can be received.
    pub(crate) fn new(platform: P, pages: M::Pages, table: M::Table, block: u16) -> Self {
        Self {
            journal: Journal::new(),
            platform,
            block,
            opened: false,
            journal_dead: false,
            state: None,
            next: State::none(),
            cause: ResetCause::PowerOn,
            charged: false,
            programming: false,
            evidence: Evidence::default(),
            phase: Phase::Starting,
            running: None,
            boot_due: false,
            self_tested: false,
            #[cfg(feature = "key-set-update")]
            vouched: Default::default(),
            access: Access::default(),
            failure: Failure::NONE,
            work: Work::Idle,
            verification: Verification::new(),
            dids: Dids::NONE,
            answer: None,
            eraser: None,
            buffers: Buffers::new(pages),
            table,
            head: None,
            measured: None,
            transfer: None,
            durable: None,
            frontier: None,
            scanned: 0,
            suspect: 0,
            in_flight: None,
        }
    }

    /// Reads the journal, once; a record that is not settled is to be written again.
    pub(crate) fn open_journal(&mut self) {
        if core::mem::replace(&mut self.opened, true) {
            return;
        }
        let (board, flash, keys) = self.platform.board_flash_keys();
        let settled = self
            .journal
            .find(&board.layout, &mut self.next, flash, keys);
        let Some(settled) = settled else {
            self.next = State::none();
            return;
        };
        self.state = Some(self.next);
        if !settled {
            self.work = Work::Commit(Then::Decide);
        }
    }

    /// The first step after [`Core::open_journal`].
    pub(crate) fn start(&mut self, now: Instant, cause: ResetCause, programming: bool) {
        self.cause = cause;
        self.programming = programming;
        let blocks = self.state.as_ref().map_or(0, |state| state.access_blocks);
        self.access.start(now, blocks);
        if self.state.is_none() {
            self.failure = Failure::new(Reason::NotProvisioned);
            self.phase = Phase::Serving(BootReason::Recovery);
        } else if let Work::Commit(then) = self.work {
            self.write(then);
        } else {
            self.decide();
        }
    }

    /// The durable state; that of an ECU that was not provisioned where it is not.
    pub(crate) fn known(&self) -> &State {
        // Nothing is edited where there is no state.
        self.state.as_ref().unwrap_or(&self.next)
    }

    /// The state to come, a copy of the journal's: to be changed, then committed.
    #[inline(never)]
    pub(crate) fn edit(&mut self) -> Option<&mut State> {
        // One that is being written is not touched.
        let state = self.state.as_ref().filter(|_| !self.journal.is_writing());
        self.next = *state?;
        Some(&mut self.next)
    }

    /// Whether no job runs.
    pub(crate) const fn is_idle(&self) -> bool {
        matches!(self.work, Work::Idle)
    }

    /// Whether the application handed a tester over: a handover is believed after its reset only.
    pub(crate) fn is_asked_to_program(&self) -> bool {
        self.programming && self.cause == ResetCause::Software
    }

    /// The floor: the higher of the journal's order and the counter.
    #[inline(never)]
    pub(crate) fn floor(&mut self) -> SecurityCounter {
        let ordered = self.state.as_ref().map_or(0, |state| state.floor.0);
        SecurityCounter(ordered).max(self.platform.counter().read())
    }

    /// Journals what [`Core::edit`] gave unless it is the state already, then goes on with `then`.
    #[inline(never)]
    pub(crate) fn commit(&mut self, then: Then) {
        // Their bytes: field by field the comparison would be ten times as much code.
        let same = |state: &State| state.encode() == self.next.encode();
        if self.state.as_ref().is_some_and(same) {
            return self.proceed(then);
        }
        self.write(then);
    }

    /// Journals what [`Core::edit`] gave, also where nothing changes, then goes on with `then`.
    #[inline(never)]
    pub(crate) fn write(&mut self, then: Then) {
        if self.journal_dead {
            return self.fail(then, Failure::new(Reason::Journal));
        }
        let (board, _, keys) = self.platform.board_flash_keys();
        self.journal.write(&board.layout, &self.next, keys);
        self.work = Work::Commit(then);
    }

    /// Goes on with what follows.
    pub(crate) fn proceed(&mut self, then: Then) {
        self.work = Work::Idle;
        match then {
            Then::Answer(answer) => self.answer = Some(Ok(answer)),
            Then::Decide => self.decide(),
            Then::Boot(slot, reason) => self.boot(slot, reason),
            Then::Stay(reason) => self.phase = Phase::Serving(reason),
            Then::EraseMetadata => self.erase_metadata(),
            Then::ProgramHead => self.program_head(),
            Then::MetadataStored => self.metadata_stored(),
            Then::BeginErase => self.begin_erase(),
            Then::ErasePayload => self.erase_payload(),
            Then::PayloadErased => self.payload_erased(),
            Then::EraseFrontier => self.erase_frontier(),
            Then::FrontierErased => self.frontier_erased(),
            Then::RaiseCounter => self.raise_counter(),
            Then::StartTransfer => self.start_transfer(),
            Then::BeginCheck => self.begin_check(),
            Then::ScanForRead => self.scan_for_read(),
            Then::OpenBlock(answer) => self.open_block(answer),
            #[cfg(feature = "key-set-update")]
            Then::ProgramKeySet => self.program_key_set(),
            #[cfg(feature = "key-set-update")]
            Then::UseKeySet => self.use_key_set(),
        }
    }

    #[inline(never)]
    fn raise_counter(&mut self) {
        // The order alone: a counter that cannot be read stands at its end, and must not be sent there.
        let ordered = self.state.as_ref().map(|state| state.floor);
        let ordered = ordered.unwrap_or(SecurityCounter(0));
        if self.platform.counter().raise_to(ordered).is_err() {
            self.failure = Failure::new(Reason::Counter);
            self.answer = Some(Err(Nrc::GENERAL_PROGRAMMING_FAILURE));
            return;
        }
        self.answer = Some(Ok(Answer::Routine(Routine::Seal)));
    }

    /// A job failed: the transfer ends, whoever asked gets 0x72 and FD02 the reason.
    #[inline(never)]
    pub(crate) fn fail(&mut self, then: Then, failure: Failure) {
        self.work = Work::Idle;
        self.failure = failure;
        match then {
            Then::Decide | Then::Boot(..) | Then::Stay(_) => {
                self.journal_dead = true;
                self.decide();
            }
            _ => {
                self.end_transfer();
                self.answer = Some(Err(Nrc::GENERAL_PROGRAMMING_FAILURE));
            }
        }
    }

    /// Ends the transfer; pages that are authentic and queued are still programmed.
    pub(crate) fn end_transfer(&mut self) {
        self.transfer = None;
        self.buffers.fill = 0;
    }

    /// One slice of computation; whether there is more.
    #[inline(never)]
    pub(crate) fn step(&mut self) -> bool {
        let work = core::mem::replace(&mut self.work, Work::Idle);
        match work {
            Work::Signature => self.step_signature(),
            #[cfg(feature = "authentication")]
            Work::Proof => {
                self.step_proof();
                return matches!(self.work, Work::Proof);
            }
            #[cfg(feature = "key-set-update")]
            Work::KeySet(check) => {
                self.step_key_set(check);
                return matches!(
                    self.work,
                    Work::KeySet(_) | Work::Signature | Work::Verify(..) | Work::Scan(_)
                );
            }
            Work::Verify(purpose) => self.step_verify(purpose),
            Work::Scan(then) => self.step_scan(then),
            waiting => {
                self.work = waiting;
                return false;
            }
        }
        matches!(
            self.work,
            Work::Signature | Work::Verify(..) | Work::Scan(_)
        )
    }

    /// The slot that receives, with its metadata accepted, and how far it is.
    #[inline(never)]
    pub(crate) fn receiving(&self) -> Option<(Progress, SlotId)> {
        let state = self.state.as_ref()?;
        let slot = state.find(SlotState::Receiving)?;
        let accepted = !matches!(state.progress, Progress::None | Progress::MetadataBegun);
        accepted.then_some((state.progress, slot))
    }
}

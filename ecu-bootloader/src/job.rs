//! What the machine is made of besides its connection: journal, buffers, and the one job under way.
//!
//! A job is a chain of flash operations and slices of computation: each [`Work`] names what it waits
//! for and, as [`Then`], what follows. There is one at a time, since a server has one request
//! pending at a time; pages of a download are programmed beside it.

mod flash;

use core::borrow::BorrowMut as _;

use crate::access::Access;
use crate::boot::{BootReason, Choice, Evidence, Inputs, ResetCause, Verdict, choose};
use crate::buffers::Buffers;
use crate::counter::MonotonicCounter;
use crate::download::Transfer;
use crate::erase::Eraser;
use crate::head::{self, Head};
use crate::journal::Journal;
use crate::keyset::Use;
#[cfg(feature = "key-set-update")]
use crate::keyset::{Signatures, Vouched};
use crate::layout::SlotId;
use crate::ledger::Ledger;
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::server::Routine;
use crate::state::{Frontier, Progress, SlotState, State};
use crate::transition;
use crate::verify::Verification;
use ecu_image::{Digest, ImageDigest, ImageVersion, SecurityCounter};
use uds::nrc::Nrc;
use uds::time::Instant;

/// A positive response that a job leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The application reported a passed self-test.
    SelfTest,
    /// `71 01 id 00`.
    Routine(Routine),
    /// `74 20 maxNumberOfBlockLength`.
    Download,
    /// `76 counter`.
    Block(u8),
    /// `77`.
    Exit,
    /// `6E F15A`.
    Written,
    /// `62 ..`, with the progress now known.
    Read,
    /// `67 01 seed`.
    Seed,
    /// Access is granted: `67 02`, or `67 01` and zeros where it was before.
    Unlocked(u8),
    /// `69 05 ..` with a challenge.
    #[cfg(feature = "authentication")]
    Challenge,
    /// `69 06 ..`: access is granted.
    #[cfg(feature = "authentication")]
    Authenticated,
    /// `69 00 10`: access is locked.
    #[cfg(feature = "authentication")]
    DeAuthenticated,
    /// `69 08 03`.
    #[cfg(feature = "authentication")]
    AuthenticationMethod,
}

/// The DIDs of a ReadDataByIdentifier request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dids {
    pub(crate) ids: [u16; 8],
    pub(crate) len: usize,
    pub(crate) session: u8,
    pub(crate) unlocked: bool,
}

impl Dids {
    /// None.
    pub(crate) const NONE: Self = Self {
        ids: [0; 8],
        len: 0,
        session: 0,
        unlocked: false,
    };
}

/// What the machine waits for. Four bytes in the default profile, so that it is handed on in a register.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Idle,
    /// The journal to hold the next state.
    Commit(Then),
    /// The eraser to finish.
    Erase(Then),
    /// Every queued page to be programmed.
    Drain(Then),
    /// A page buffer to become free.
    Room(Then),
    /// The signature of the head in RAM.
    Signature,
    /// The signature of a tester's proof.
    #[cfg(feature = "authentication")]
    Proof,
    /// The signatures of the key set in RAM.
    #[cfg(feature = "key-set-update")]
    KeySet(Signatures),
    /// The verification of the slot of the head at hand.
    Verify(Purpose),
    /// The first stored page that is not what the table says.
    Scan(Then),
}

/// What a verification is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The boot decision.
    Boot,
    /// 31 0202.
    Check,
    /// 31 FF01.
    Dependencies,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Answer(Answer),
    Decide,
    Boot(SlotId, BootReason),
    Stay(BootReason),
    EraseMetadata,
    ProgramHead,
    MetadataStored,
    BeginErase,
    ErasePayload,
    PayloadErased,
    EraseFrontier,
    FrontierErased,
    RaiseCounter,
    StartTransfer,
    BeginCheck,
    ScanForRead,
    OpenBlock(Answer),
    #[cfg(feature = "key-set-update")]
    ProgramKeySet,
    #[cfg(feature = "key-set-update")]
    UseKeySet,
}

/// Where the machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Reading the journal, verifying, deciding.
    Starting,
    /// Answering a tester.
    Serving(BootReason),
    /// The application runs.
    Application,
}

/// What boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootTarget {
    /// The slot.
    pub slot: SlotId,
    /// Where its plaintext lies in flash, masked with the account of the boot.
    masked_address: u32,
    ledger: Ledger,
    /// Length of the plaintext in bytes.
    pub payload_len: u32,
    /// Where the image is linked to run.
    pub load_address: u64,
    /// Why it boots.
    pub reason: BootReason,
    /// The image.
    pub digest: ImageDigest,
    /// Its version.
    pub version: ImageVersion,
}

impl BootTarget {
    /// Where its plaintext lies in flash. It is computed from the account of the second look: where
    /// a step of that was left out, or found a difference, it is some other number.
    #[must_use]
    pub const fn payload_address(&self) -> u32 {
        self.ledger.unmask(self.masked_address)
    }
}

/// The machine without its connection. What is small comes first: code reaches it by shorter
/// instructions there, which saves kilobytes of flash.
#[repr(C)]
pub(crate) struct Core<P, M: Storage> {
    pub(crate) work: Work,
    pub(crate) answer: Option<Result<Answer, Nrc>>,
    pub(crate) phase: Phase,
    in_flight: Option<InFlight>,
    pub(crate) cause: ResetCause,
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
    pub(crate) boot_event: Option<BootTarget>,
    pub(crate) running: Option<BootTarget>,
    pub(crate) verification: Verification,
    pub(crate) journal: Journal,
    pub(crate) table: M::Table,
    pub(crate) platform: P,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InFlight {
    Journal,
    Erase,
    Page,
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
            programming: false,
            evidence: Evidence::default(),
            phase: Phase::Starting,
            running: None,
            boot_event: None,
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

    #[inline(never)]
    fn decide(&mut self) {
        let floor = self.floor();
        let Some(state) = self.state.as_ref() else {
            return;
        };
        // The order is durable; a counter behind it is completed here. Where that fails the floor
        // still holds, by the journal.
        let ordered = state.floor;
        if self.platform.counter().raise_to(ordered).is_err() {
            self.failure = Failure::new(Reason::Counter);
        }
        self.next = *state;
        let choice = choose(
            &Inputs {
                state,
                cause: self.cause,
                programming: self.programming,
                floor,
                two_update_slots: self.platform.board().layout.has_b(),
                evidence: &self.evidence,
            },
            &mut self.next,
        );
        match choice {
            Choice::Verify(slot) => self.verify_for_boot(slot),
            Choice::Boot(slot, reason) => self.settle(Then::Boot(slot, reason)),
            Choice::Stay(reason) => self.settle(Then::Stay(reason)),
        }
    }

    /// Journals a decision. An ECU whose journal cannot be written boots its confirmed image still,
    /// but no trial: its attempts could not be counted.
    fn settle(&mut self, then: Then) {
        if !self.journal_dead {
            return self.commit(then);
        }
        match then {
            Then::Boot(slot, BootReason::Trial) => {
                self.evidence.set(slot, Verdict::Bad);
                self.decide();
            }
            _ => self.proceed(then),
        }
    }

    fn verify_for_boot(&mut self, slot: SlotId) {
        match self.load(slot) {
            Ok(()) => self.verify(false, Purpose::Boot),
            Err(failure) => {
                self.failure = failure;
                self.evidence.set(slot, Verdict::Bad);
                self.decide();
            }
        }
    }

    /// Starts to verify the slot of the head at hand.
    pub(crate) fn verify(&mut self, full: bool, purpose: Purpose) {
        let signature = match purpose {
            Purpose::Boot => Use::Boot,
            Purpose::Check | Purpose::Dependencies => Use::Install,
        };
        self.verification.start(full, signature);
        self.work = Work::Verify(purpose);
    }

    /// Loads a slot's head, which must be that of the journal's image. The buffers are used for it.
    #[inline(never)]
    pub(crate) fn load(&mut self, slot: SlotId) -> Result<(), Failure> {
        self.head = None;
        self.measured = None;
        let state = self.state.as_ref();
        let state = state.ok_or(Failure::new(Reason::NotProvisioned))?;
        let page = self.buffers.page();
        // Only where the image at hand is another is a head loaded; then nothing is being programmed.
        let pending = Failure::new(Reason::Pending);
        let scratch = self.buffers.free_mut().ok_or(pending)?;
        let head = self.head.insert(Head::NONE);
        let expected = state.digest(slot);
        let loaded = head::load(head, &mut self.platform, slot, expected, page, scratch);
        self.table.borrow_mut().begin(scratch);
        if loaded.is_err() {
            self.head = None;
        }
        loaded
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
    fn boot(&mut self, slot: SlotId, reason: BootReason) {
        // The slot that boots is the last one verified. Should that ever not hold, it is verified.
        if self.head.as_ref().is_none_or(|head| head.slot != slot) {
            self.evidence.clear(slot);
            return self.verify_for_boot(slot);
        }
        let ledger = self.account(slot, reason);
        let target = self
            .head
            .as_ref()
            .and_then(|head| self.target(head, reason, ledger));
        let Some(target) = target.filter(|target| target.ledger.is_complete()) else {
            // Nothing is held against the image: the next reset tries it again.
            self.failure = Failure::new(Reason::SecondLook);
            self.phase = Phase::Serving(BootReason::Programming);
            return;
        };
        self.running = Some(target);
        self.boot_event = Some(target);
        self.phase = Phase::Application;
    }

    #[cfg(not(feature = "single-checks"))]
    fn account(&mut self, slot: SlotId, reason: BootReason) -> Ledger {
        self.look_again(slot, reason)
    }

    /// Without the second look, so that the campaign can show what it is for.
    #[cfg(feature = "single-checks")]
    fn account(&mut self, _slot: SlotId, _reason: BootReason) -> Ledger {
        Ledger::COMPLETE
    }

    fn target(&self, head: &Head, reason: BootReason, ledger: Ledger) -> Option<BootTarget> {
        let place = self.platform.board().layout.slot(head.slot)?;
        Some(BootTarget {
            slot: head.slot,
            masked_address: Ledger::mask(place.payload.address),
            ledger,
            payload_len: head.header.layout.payload_len(),
            load_address: head.header.load_address,
            reason,
            digest: head.digest,
            version: head.header.version,
        })
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

    #[inline(never)]
    fn step_verify(&mut self, purpose: Purpose) {
        let Some(head) = &self.head else { return };
        let slot = head.slot;
        let key_set = self.state.as_ref().and_then(|state| state.key_set.as_ref());
        let result = self.verification.step(
            &mut self.platform,
            self.table.borrow_mut(),
            head,
            key_set,
            self.buffers.both_mut(),
        );
        match result {
            Ok(None) => self.work = Work::Verify(purpose),
            Ok(Some(verdict)) => {
                self.measured = Some(self.verification.measured());
                self.evidence.set(slot, verdict);
                self.verified(slot, purpose);
            }
            Err(failure) => {
                self.failure = failure;
                self.evidence.set(slot, Verdict::Bad);
                match purpose {
                    Purpose::Boot => self.decide(),
                    Purpose::Check | Purpose::Dependencies => {
                        self.answer = Some(Err(Nrc::GENERAL_PROGRAMMING_FAILURE));
                    }
                }
            }
        }
    }

    #[inline(never)]
    fn verified(&mut self, slot: SlotId, purpose: Purpose) {
        match purpose {
            Purpose::Boot => self.decide(),
            Purpose::Check => {
                let Some(next) = self.edit() else { return };
                if next.slot(slot).state == SlotState::Receiving {
                    transition::staged(next, slot);
                }
                self.commit(Then::Answer(Answer::Routine(Routine::Check)));
            }
            Purpose::Dependencies => self.dependencies_of_verified(slot),
        }
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

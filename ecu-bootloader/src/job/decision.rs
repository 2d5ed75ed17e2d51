//! What boots: the decision, the verification before it, and the second look.

use core::borrow::BorrowMut as _;

use super::{Answer, Core, Phase, Purpose, Then, Work};
use crate::boot::{BootReason, Choice, Inputs, Verdict, choose};
use crate::counter::MonotonicCounter as _;
use crate::head::{self, Head};
use crate::keyset::Use;
use crate::layout::SlotId;
use crate::ledger::Ledger;
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::server::Routine;
use crate::state::SlotState;
use crate::transition;
use ecu_image::{ImageDigest, ImageVersion};
use uds::nrc::Nrc;

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

impl<P: Platform, M: Storage> Core<P, M> {
    #[inline(never)]
    pub(super) fn decide(&mut self) {
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
                charged: self.charged,
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

    #[inline(never)]
    pub(super) fn boot(&mut self, slot: SlotId, reason: BootReason) {
        // The slot that boots is the last one verified, but where it bridges the crashes of another:
        // then it is verified again.
        if self.head.as_ref().is_none_or(|head| head.slot != slot) {
            self.evidence.clear(slot);
            self.charged = !self.journal_dead;
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
        self.boot_due = true;
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
            payload_len: head.header.layout().payload_len(),
            load_address: head.header.load_address(),
            reason,
            digest: head.digest,
            version: head.header.version(),
        })
    }

    #[inline(never)]
    pub(super) fn step_verify(&mut self, purpose: Purpose) {
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
}

//! The routines of 31 01.

use ecu_image::{HEADER_LEN, Header};

use crate::boot::Verdict;
#[cfg(feature = "deliberate-bugs")]
use crate::counter::MonotonicCounter as _;
use crate::download::Reply;
use crate::flash::FlashRead;
use crate::head::{fits, metadata_address};
use crate::job::{Answer, Core, Phase, Purpose, Then, Work};
use crate::layout::SlotId;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::server::{ACTIVATE, CHECK, DEPENDENCIES, ERASE, HEALTHY, PRECONDITIONS, REVERT, SEAL};
use crate::state::SlotState;
use crate::transition;
use uds::nrc::Nrc;
use uds::server::Context;
use uds::service::Session;

impl<P: Platform, const PAGE: usize> Core<P, PAGE> {
    /// 31 01 `id`, without option record.
    pub(crate) fn routine(&mut self, context: Context, id: u16) -> Result<Reply, Nrc> {
        let programming = context.session == Session::PROGRAMMING;
        let supported = match id {
            PRECONDITIONS => true,
            HEALTHY | SEAL | REVERT => context.session != Session::DEFAULT,
            ERASE | CHECK | DEPENDENCIES | ACTIVATE => programming,
            _ => false,
        };
        if !supported {
            return Err(Nrc::REQUEST_OUT_OF_RANGE);
        }
        if id != PRECONDITIONS && context.unlocked.is_none() {
            return Err(Nrc::SECURITY_ACCESS_DENIED);
        }
        match id {
            PRECONDITIONS => Ok(Reply::Now(Answer::Routine(PRECONDITIONS))),
            ERASE => match self.start_erase() {
                Ok(()) => Ok(Reply::Later),
                Err(None) => Err(Nrc::REQUEST_SEQUENCE_ERROR),
                Err(Some(failure)) => Err(self.refuse(failure)),
            },
            CHECK => self.check(),
            DEPENDENCIES => self.dependencies(),
            ACTIVATE => self.activate(),
            HEALTHY => self.healthy(Answer::Routine(HEALTHY)),
            SEAL => self.seal(),
            _ => self.revert(),
        }
    }

    fn check(&mut self) -> Result<Reply, Nrc> {
        let staged = self.state.and_then(|state| state.find(SlotState::Staged));
        if staged.is_none() && self.receiving().is_none() {
            return Err(Nrc::REQUEST_SEQUENCE_ERROR);
        }
        self.end_transfer();
        self.drain(Then::BeginCheck);
        Ok(Reply::Later)
    }

    /// Nothing is being programmed any more: verifies the stored image if all of it is durable.
    pub(crate) fn begin_check(&mut self) {
        let sequence_error = Some(Err(Nrc::REQUEST_SEQUENCE_ERROR));
        let Some(state) = self.state else { return };
        let staged = state.find(SlotState::Staged);
        let Some(slot) = staged.or(self.receiving().map(|(_, slot)| slot)) else {
            self.answer = sequence_error;
            return;
        };
        // Loaded anew: what is verified is what lies in flash, metadata included.
        if let Err(failure) = self.load(slot, state.digest(slot)) {
            return self.fail(Then::BeginCheck, failure);
        }
        if staged.is_none() {
            let pages = self.head.as_ref().map(|head| head.page_count());
            match self.durable {
                None => {
                    self.work = Work::Scan {
                        page: 0,
                        then: Then::BeginCheck,
                    };
                    return;
                }
                durable if durable != pages => {
                    self.answer = sequence_error;
                    return;
                }
                Some(_) => {}
            }
        }
        self.work = self.verification(true, Purpose::Check);
    }

    /// 31 FF01: the staged image fits hardware, slot and floor. Verified in this power cycle it is
    /// compared again; else it is verified first.
    fn dependencies(&mut self) -> Result<Reply, Nrc> {
        let staged = self.state.and_then(|state| state.find(SlotState::Staged));
        let (Some(state), Some(slot)) = (self.state, staged) else {
            return Err(Nrc::REQUEST_SEQUENCE_ERROR);
        };
        self.end_transfer();
        if let Err(failure) = self.load(slot, state.digest(slot)) {
            return Err(self.refuse(failure));
        }
        match self.evidence.get(slot) {
            Some(Verdict::Good { .. }) => self.dependencies_of_verified(slot),
            _ => self.work = self.verification(false, Purpose::Dependencies),
        }
        Ok(Reply::Later)
    }

    /// The head at hand is that of the verified slot: compares it with this ECU.
    pub(crate) fn dependencies_of_verified(&mut self, slot: SlotId) {
        let floor = self.floor();
        let board = *self.platform.board();
        let result = match &self.head {
            Some(head) if head.header.security_counter < floor && !head.downgrade => {
                let counter = head.header.security_counter.get();
                Err(Failure::with(Reason::HeaderCounter, counter))
            }
            Some(head) => fits(&head.header, slot, &board),
            None => Err(Failure::new(Reason::OtherImage)),
        };
        self.answer = Some(match result {
            Ok(()) => Ok(Answer::Routine(DEPENDENCIES)),
            Err(failure) => Err(self.refuse(failure)),
        });
    }

    fn activate(&mut self) -> Result<Reply, Nrc> {
        let state = self.state.ok_or(Nrc::REQUEST_SEQUENCE_ERROR)?;
        if self.platform.preconditions() != 0 {
            return Err(Nrc::CONDITIONS_NOT_CORRECT);
        }
        let next = transition::activate(&state).map_err(|_| Nrc::REQUEST_SEQUENCE_ERROR)?;
        self.commit(next, Then::Answer(Answer::Routine(ACTIVATE)));
        Ok(Reply::Later)
    }

    /// The running image confirms itself, by 31 0211 or by the application's own report.
    pub(crate) fn healthy(&mut self, answer: Answer) -> Result<Reply, Nrc> {
        let not_now = Nrc::CONDITIONS_NOT_CORRECT;
        let (Some(state), Some(running)) = (self.state, self.running) else {
            return Err(not_now);
        };
        if !self.self_tested {
            return Err(not_now);
        }
        let next = transition::healthy(&state, running.slot).map_err(|_| not_now)?;
        self.commit(next, Then::Answer(answer));
        Ok(Reply::Later)
    }

    /// Seals the running image; in the bootloader the confirmed one, which proved itself before.
    fn seal(&mut self) -> Result<Reply, Nrc> {
        let not_now = Nrc::CONDITIONS_NOT_CORRECT;
        let state = self.state.ok_or(not_now)?;
        let slot = self.running.map_or(state.confirmed, |running| running.slot);
        let next = transition::seal(&state, slot).map_err(|_| not_now)?;
        let next = transition::retire(&next, &self.standings());
        #[cfg(feature = "deliberate-bugs")]
        if crate::bugs::has(crate::bugs::Bug::CounterFirst) {
            let _ = self.platform.counter().raise_to(next.floor);
        }
        // The order first, then the counter; the boot completes what a power cut interrupts.
        self.commit(next, Then::RaiseCounter);
        Ok(Reply::Later)
    }

    fn revert(&mut self) -> Result<Reply, Nrc> {
        let state = self.state.ok_or(Nrc::CONDITIONS_NOT_CORRECT)?;
        self.end_transfer();
        // What is being programmed ends first; nothing is queued behind it.
        self.buffers.drop_waiting();
        self.durable = None;
        self.commit(
            transition::revert(&state),
            Then::Answer(Answer::Routine(REVERT)),
        );
        Ok(Reply::Later)
    }

    /// The header stored in a slot, if it is that of the journal's image; the keys stay untouched.
    pub(crate) fn peek_header(&mut self, slot: SlotId) -> Option<Header> {
        let expected = self.state?.digest(slot);
        let address = metadata_address(self.platform.board(), slot, 256, 1536)?;
        let bytes = self.table.scratch().first_chunk_mut::<HEADER_LEN>()?;
        self.platform.flash().read(address, bytes).ok()?;
        if Header::digest_of(bytes) != expected {
            return None;
        }
        Header::parse(bytes).ok()
    }

    /// Whether the application runs.
    pub(crate) const fn in_application(&self) -> bool {
        matches!(self.phase, Phase::Application)
    }
}

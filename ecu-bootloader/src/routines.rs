//! The routines of 31 01.

use ecu_image::crypto::sha256;
use ecu_image::{HeaderStart, SIGNED_LEN};

use crate::boot::Verdict;
#[cfg(feature = "deliberate-bugs")]
use crate::counter::MonotonicCounter as _;
use crate::download::Reply;
use crate::flash::FlashRead as _;
use crate::head::{fits, metadata_address};
use crate::job::{Answer, Core, Phase, Purpose, Then};
use crate::layout::SlotId;
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::server::Routine;
use crate::state::SlotState;
use crate::transition;
use uds::nrc::Nrc;
use uds::server::Context;
use uds::service::Session;

impl<P: Platform, M: Storage> Core<P, M> {
    /// 31 01 `id`, without option record.
    #[inline(never)]
    pub(crate) fn routine(&mut self, context: Context, id: u16) -> Result<Reply, Nrc> {
        let routine = Routine::of(id).ok_or(Nrc::REQUEST_OUT_OF_RANGE)?;
        let supported = match routine {
            Routine::Preconditions => true,
            Routine::Healthy | Routine::Seal | Routine::Revert => {
                context.session != Session::DEFAULT
            }
            _ => context.session == Session::PROGRAMMING,
        };
        if !supported {
            return Err(Nrc::REQUEST_OUT_OF_RANGE);
        }
        if routine != Routine::Preconditions && context.unlocked.is_none() {
            return Err(Nrc::SECURITY_ACCESS_DENIED);
        }
        match routine {
            Routine::Preconditions => Ok(Reply::Now(Answer::Routine(routine))),
            Routine::Erase => match self.start_erase() {
                Ok(()) => Ok(Reply::Later),
                Err(None) => Err(Nrc::REQUEST_SEQUENCE_ERROR),
                Err(Some(failure)) => Err(self.refuse(failure)),
            },
            Routine::Check => self.check(),
            Routine::Dependencies => self.dependencies(),
            Routine::Activate => self.activate(),
            Routine::Healthy => self.healthy(Answer::Routine(routine)),
            Routine::Seal => self.seal(),
            Routine::Revert => self.revert(),
        }
    }

    fn check(&mut self) -> Result<Reply, Nrc> {
        if self.staged().is_none() && self.receiving().is_none() {
            return Err(Nrc::REQUEST_SEQUENCE_ERROR);
        }
        self.end_transfer();
        self.drain(Then::BeginCheck);
        Ok(Reply::Later)
    }

    /// The slot that is staged.
    pub(crate) fn staged(&self) -> Option<SlotId> {
        self.state.as_ref()?.find(SlotState::Staged)
    }

    /// Nothing is being programmed any more: verifies the stored image if all of it is durable.
    #[inline(never)]
    pub(crate) fn begin_check(&mut self) {
        let sequence_error = Some(Err(Nrc::REQUEST_SEQUENCE_ERROR));
        let staged = self.staged();
        let Some(slot) = staged.or(self.receiving().map(|(_, slot)| slot)) else {
            self.answer = sequence_error;
            return;
        };
        // Loaded anew: what is verified is what lies in flash, metadata included.
        if let Err(failure) = self.load(slot) {
            return self.fail(Then::BeginCheck, failure);
        }
        if staged.is_none() {
            let pages = self.head.as_ref().map(|head| head.page_count());
            match self.durable {
                None => {
                    return self.scan(Then::BeginCheck);
                }
                durable if durable != pages => {
                    self.answer = sequence_error;
                    return;
                }
                Some(_) => {}
            }
        }
        self.verify(true, Purpose::Check);
    }

    /// 31 FF01: the staged image fits hardware, slot and floor. Verified in this power cycle it is
    /// compared again; else it is verified first.
    fn dependencies(&mut self) -> Result<Reply, Nrc> {
        let slot = self.staged().ok_or(Nrc::REQUEST_SEQUENCE_ERROR)?;
        self.end_transfer();
        if let Err(failure) = self.load(slot) {
            return Err(self.refuse(failure));
        }
        match self.evidence.get(slot) {
            Some(Verdict::Good { .. }) => self.dependencies_of_verified(slot),
            _ => self.verify(false, Purpose::Dependencies),
        }
        Ok(Reply::Later)
    }

    /// The head at hand is that of the verified slot: compares it with this ECU.
    #[inline(never)]
    pub(crate) fn dependencies_of_verified(&mut self, slot: SlotId) {
        let floor = self.floor();
        let board = self.platform.board();
        let result = match &self.head {
            Some(head) if head.header.security_counter() < floor && !head.downgrade => {
                let counter = head.header.security_counter().get();
                Err(Failure::with(Reason::HeaderCounter, counter))
            }
            Some(head) => fits(&head.header, slot, board),
            None => Err(Failure::new(Reason::OtherImage)),
        };
        self.answer = Some(match result {
            Ok(()) => Ok(Answer::Routine(Routine::Dependencies)),
            Err(failure) => Err(self.refuse(failure)),
        });
    }

    fn activate(&mut self) -> Result<Reply, Nrc> {
        let unmet = self.platform.preconditions() != 0;
        let next = self.edit().ok_or(Nrc::REQUEST_SEQUENCE_ERROR)?;
        if unmet {
            return Err(Nrc::CONDITIONS_NOT_CORRECT);
        }
        transition::activate(next).map_err(|_| Nrc::REQUEST_SEQUENCE_ERROR)?;
        self.commit(Then::Answer(Answer::Routine(Routine::Activate)));
        Ok(Reply::Later)
    }

    /// The running image confirms itself, by 31 0211 or by the application's own report.
    pub(crate) fn healthy(&mut self, answer: Answer) -> Result<Reply, Nrc> {
        let not_now = Nrc::CONDITIONS_NOT_CORRECT;
        let running = self.running.as_ref().filter(|_| self.self_tested);
        let running = running.ok_or(not_now)?.slot;
        let next = self.edit().ok_or(not_now)?;
        transition::healthy(next, running).map_err(|_| not_now)?;
        self.commit(Then::Answer(answer));
        Ok(Reply::Later)
    }

    /// Seals the running image; in the bootloader the confirmed one, which proved itself before.
    #[inline(never)]
    fn seal(&mut self) -> Result<Reply, Nrc> {
        let not_now = Nrc::CONDITIONS_NOT_CORRECT;
        let running = self.running.as_ref().map(|running| running.slot);
        let next = self.edit().ok_or(not_now)?;
        let slot = running.unwrap_or(next.confirmed);
        transition::seal(next, slot).map_err(|_| not_now)?;
        // The standings are read into a page buffer.
        self.end_transfer();
        let standings = self.standings();
        let next = self.edit().ok_or(not_now)?;
        transition::seal(next, slot).map_err(|_| not_now)?;
        transition::retire(next, &standings);
        #[cfg(feature = "deliberate-bugs")]
        if crate::bugs::has(crate::bugs::Bug::CounterFirst) {
            let floor = next.floor;
            let _ = self.platform.counter().raise_to(floor);
        }
        // The order first, then the counter; the boot completes what a power cut interrupts.
        self.commit(Then::RaiseCounter);
        Ok(Reply::Later)
    }

    fn revert(&mut self) -> Result<Reply, Nrc> {
        let next = self.edit().ok_or(Nrc::CONDITIONS_NOT_CORRECT)?;
        transition::revert(next);
        self.end_transfer();
        // What is being programmed ends first; nothing is queued behind it.
        self.buffers.drop_waiting();
        self.durable = None;
        self.commit(Then::Answer(Answer::Routine(Routine::Revert)));
        Ok(Reply::Later)
    }

    /// Whether the header stored in a slot is that of the journal's image; `start` becomes its
    /// beginning. The buffers and the keys stay untouched.
    #[inline(never)]
    pub(crate) fn peek(&mut self, slot: SlotId, start: &mut HeaderStart) -> bool {
        let Some(state) = &self.state else {
            return false;
        };
        let mut signed = [0; SIGNED_LEN];
        let address = metadata_address(self.platform.board(), slot, 256, 1024);
        let read = address.map(|address| self.platform.flash().read(address, &mut signed));
        start.0 = *signed.first_chunk().unwrap_or(&HeaderStart::NONE.0);
        read == Some(Ok(())) && sha256(&[&signed]).0 == state.digest(slot).0
    }

    /// Whether the application runs.
    pub(crate) const fn in_application(&self) -> bool {
        matches!(self.phase, Phase::Application)
    }
}

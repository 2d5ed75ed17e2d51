//! The changes of state that a download, a tester or the application causes. Pure: the machine
//! journals the result before it acts upon it.

use ecu_image::{ImageDigest, SecurityCounter, SequenceNumber, SlotSet};

use crate::boot::reject;
use crate::layout::SlotId;
use crate::reason::{Failure, Reason};
use crate::state::{
    ERASES_PER_GRANT, KeySetRecord, Origin, Progress, SlotRecord, SlotState, State, TRIAL_ATTEMPTS,
};

/// The slot may not change in this way now: 0x22.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotNow;

/// How an image's key stands in a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It still signs.
    Active,
    /// It does not sign any more.
    Revoked,
    /// The set does not have it.
    Absent,
}

/// The standings of the images in both update slots; `None` where a slot holds no readable header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standings {
    /// Of the image in A.
    pub a: Option<Standing>,
    /// Of the image in B.
    pub b: Option<Standing>,
}

impl Standings {
    const fn get(&self, slot: SlotId) -> Option<Standing> {
        match slot {
            SlotId::Factory => None,
            SlotId::A => self.a,
            SlotId::B => self.b,
        }
    }

    fn is_barred(&self, slot: SlotId) -> bool {
        matches!(self.get(slot), Some(Standing::Revoked | Standing::Absent))
    }
}

/// The slot whose image a key set with these standings would orphan: the confirmed one, or before a
/// seal the one that a revert returns to. The factory image needs no key, its digest is pinned.
#[must_use]
pub fn orphan(state: &State, standings: &Standings) -> Option<SlotId> {
    let unsealed = state.slot(state.confirmed).state == SlotState::Healthy;
    [Some(state.confirmed), state.previous.filter(|_| unsealed)]
        .into_iter()
        .flatten()
        .find(|slot| standings.get(*slot) == Some(Standing::Absent))
}

/// A new key set is in use. What is being installed under a key that no longer signs is dropped, a
/// trial of it ends; what is confirmed boots on, see [`retire`].
#[must_use]
pub fn use_key_set(state: &State, record: KeySetRecord, standings: &Standings) -> State {
    let mut next = *state;
    next.key_set = Some(record);
    for slot in [SlotId::A, SlotId::B] {
        if !standings.is_barred(slot) {
            continue;
        }
        next = match next.slot(slot).state {
            SlotState::Trial => reject(next, slot),
            SlotState::Staged | SlotState::Receiving => {
                next.progress = Progress::None;
                next.frontier = None;
                next.with_slot(slot, SlotRecord::EMPTY)
            }
            _ => next,
        };
    }
    retire(&next, standings)
}

/// Once the confirmed image is sealed under a key that signs, an image under one that does not is
/// rejected: it does not boot any more, not as a fallback either.
#[must_use]
pub fn retire(state: &State, standings: &Standings) -> State {
    let sealed = state.slot(state.confirmed).state == SlotState::Sealed;
    let mut next = *state;
    if !sealed || standings.get(state.confirmed) != Some(Standing::Active) {
        return next;
    }
    for slot in [SlotId::A, SlotId::B] {
        if slot != state.confirmed && standings.is_barred(slot) && next.slot(slot).state.boots() {
            next = next.with_slot_state(slot, SlotState::Rejected);
            next.previous = next.previous.filter(|previous| *previous != slot);
        }
    }
    next
}

/// The slot that a download of an image linked for `slots` goes to.
///
/// # Errors
/// [`Reason::Pending`] while an image is on trial or waits for its seal, since both images are kept
/// until then; [`Reason::HeaderSlot`] where the image is not linked for a slot that is free;
/// [`Reason::NoFallback`] where the only update slot is confirmed and nothing can take over.
pub fn target(
    state: &State,
    slots: SlotSet,
    two_update_slots: bool,
    factory_takes_over: bool,
) -> Result<SlotId, Failure> {
    if state.find(SlotState::Trial).is_some() || state.find(SlotState::Healthy).is_some() {
        return Err(Failure::new(Reason::Pending));
    }
    let linked = |id: &SlotId| slots.contains((*id).into());
    let not_linked = Failure::with(Reason::HeaderSlot, slots.bits());
    if !two_update_slots {
        if !linked(&SlotId::A) {
            return Err(not_linked);
        }
        if state.confirmed == SlotId::A && !factory_takes_over {
            return Err(Failure::new(Reason::NoFallback));
        }
        return Ok(SlotId::A);
    }
    let rank = |id: &SlotId| match state.slot(*id).state {
        SlotState::Receiving | SlotState::Staged => 0,
        SlotState::Empty | SlotState::Rejected => 1,
        SlotState::Trial | SlotState::Healthy | SlotState::Sealed => 2,
    };
    [SlotId::A, SlotId::B]
        .into_iter()
        .filter(|id| *id != state.confirmed)
        .filter(linked)
        .min_by_key(rank)
        .ok_or(not_linked)
}

/// Grant and header are accepted: `target` receives, its old content is forgotten.
#[must_use]
pub fn accept(
    state: &State,
    target: SlotId,
    digest: ImageDigest,
    counter: SecurityCounter,
    sequence: SequenceNumber,
) -> State {
    let mut next = *state;
    for other in [SlotId::A, SlotId::B] {
        if matches!(
            next.slot(other).state,
            SlotState::Receiving | SlotState::Staged
        ) {
            next = next.with_slot(other, SlotRecord::EMPTY);
        }
    }
    let record = SlotRecord {
        state: SlotState::Receiving,
        digest,
        counter,
    };
    next = next.with_slot(target, record);
    // The erases of a grant are counted over all its uses, or a resume would renew them.
    if sequence != state.grant_sequence {
        next.erases_left = ERASES_PER_GRANT;
    }
    next.grant_sequence = sequence;
    next.grant_digest = digest;
    next.progress = Progress::MetadataBegun;
    next.frontier = None;
    if next.previous == Some(target) {
        next.previous = None;
    }
    if next.confirmed == target {
        next.confirmed = SlotId::Factory;
        next.origin = Origin::FellBack;
        next.crashes = 0;
    }
    next
}

/// The receiving slot is complete and checked.
#[must_use]
pub fn staged(state: &State, slot: SlotId) -> State {
    let mut next = state.with_slot_state(slot, SlotState::Staged);
    next.progress = Progress::None;
    next
}

/// The staged slot is to be tried (31 0210). Repeating it before the first trial boot is allowed.
///
/// # Errors
/// There is no staged slot.
pub fn activate(state: &State) -> Result<State, NotNow> {
    if state.find(SlotState::Trial).is_some() && state.attempts_left == TRIAL_ATTEMPTS {
        return Ok(*state);
    }
    let slot = state.find(SlotState::Staged).ok_or(NotNow)?;
    let mut next = state.with_slot_state(slot, SlotState::Trial);
    next.attempts_left = TRIAL_ATTEMPTS;
    Ok(next)
}

/// The self-test of the running image passed (31 0211). Idempotent.
///
/// # Errors
/// `running` is neither on trial nor confirmed.
pub fn healthy(state: &State, running: SlotId) -> Result<State, NotNow> {
    let mut next = *state;
    if state.slot(running).state == SlotState::Trial {
        next = next.with_slot_state(running, SlotState::Healthy);
        next.previous = Some(state.confirmed).filter(|slot| state.slot(*slot).state.boots());
        next.confirmed = running;
        next.origin = Origin::Regular;
        next.attempts_left = 0;
    } else if state.confirmed != running {
        return Err(NotNow);
    }
    next.crashes = 0;
    Ok(next)
}

/// The healthy image is sealed: the floor rises to its counter and never falls (31 0212).
/// Idempotent.
///
/// # Errors
/// The running image is neither healthy nor sealed; in limp-home that is never offered.
pub fn seal(state: &State, running: SlotId) -> Result<State, NotNow> {
    let record = state.slot(running);
    match record.state {
        SlotState::Sealed => Ok(*state),
        SlotState::Healthy => {
            let mut next = state.with_slot_state(running, SlotState::Sealed);
            next.floor = state.floor.max(record.counter);
            Ok(next)
        }
        _ => Err(NotNow),
    }
}

/// Gives up what is not sealed: a trial or healthy image is rejected, a staged or receiving one
/// dropped (31 0213). Idempotent.
#[must_use]
pub fn revert(state: &State) -> State {
    let mut next = *state;
    for slot in [SlotId::A, SlotId::B] {
        next = match next.slot(slot).state {
            SlotState::Trial | SlotState::Healthy => reject(next, slot),
            SlotState::Staged | SlotState::Receiving => {
                next.progress = Progress::None;
                next.frontier = None;
                next.with_slot(slot, SlotRecord::EMPTY)
            }
            _ => next,
        };
    }
    next
}

//! The changes of state that a download, a tester or the application causes. Pure: the machine
//! journals the result before it acts upon it.

use ecu_image::{ImageDigest, SecurityCounter, SequenceNumber, SlotSet};

use crate::boot::{falls_back_to, reject};
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
        // One whose key cannot be told may need it.
        .find(|slot| {
            let knows = matches!(
                standings.get(*slot),
                Some(Standing::Active | Standing::Revoked)
            );
            *slot != SlotId::Factory && !knows
        })
}

/// A new key set is in use. What is being installed under a key that no longer signs is dropped, a
/// trial of it ends; what is confirmed boots on, see [`retire`].
pub fn use_key_set(state: &mut State, record: KeySetRecord, standings: &Standings) {
    state.key_set = Some(record);
    for &slot in SlotId::UPDATE {
        if standings.is_barred(slot) {
            give_up(state, slot, false);
        }
    }
    retire(state, standings);
}

/// Gives up what is in `slot`: a trial is rejected, a staged or receiving image dropped; and a healthy
/// image where it is `healthy` too that shall go.
fn give_up(state: &mut State, slot: SlotId, healthy: bool) {
    match state.slot(slot).state {
        SlotState::Trial => reject(state, slot),
        SlotState::Healthy if healthy => reject(state, slot),
        SlotState::Staged | SlotState::Receiving => {
            state.progress = Progress::None;
            state.frontier = None;
            state.set_slot(slot, SlotRecord::EMPTY);
        }
        _ => {}
    }
}

/// Once the confirmed image is sealed under a key that signs, an image under one that does not is
/// rejected: it does not boot any more, not as a fallback either.
pub fn retire(state: &mut State, standings: &Standings) {
    let sealed = state.slot(state.confirmed).state == SlotState::Sealed;
    if !sealed || standings.get(state.confirmed) != Some(Standing::Active) {
        return;
    }
    for &slot in SlotId::UPDATE {
        let boots = state.slot(slot).state.boots();
        if slot != state.confirmed && standings.is_barred(slot) && boots {
            retired(state, slot);
        }
    }
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
    let linked = |id: SlotId| slots.contains(id.into());
    let not_linked = Failure::with(Reason::HeaderSlot, slots.bits());
    if !two_update_slots {
        if !linked(SlotId::A) {
            return Err(not_linked);
        }
        if state.confirmed == SlotId::A && !factory_takes_over {
            return Err(Failure::new(Reason::NoFallback));
        }
        return Ok(SlotId::A);
    }
    // What is begun goes on; what boots is kept for as long as there is anything else.
    let rank = |id| {
        let state = state.slot(id).state;
        let begun = matches!(state, SlotState::Receiving | SlotState::Staged);
        u8::from(!begun).saturating_add(state.boots().into())
    };
    let free = |id| id != state.confirmed && linked(id);
    match (free(SlotId::A), free(SlotId::B)) {
        (true, true) if rank(SlotId::B) < rank(SlotId::A) => Ok(SlotId::B),
        (true, _) => Ok(SlotId::A),
        (false, true) => Ok(SlotId::B),
        (false, false) => Err(not_linked),
    }
}

/// Grant and header are accepted: `target` receives, its old content is forgotten.
pub fn accept(
    state: &mut State,
    target: SlotId,
    digest: ImageDigest,
    counter: SecurityCounter,
    sequence: SequenceNumber,
) {
    for &other in SlotId::UPDATE {
        if matches!(
            state.slot(other).state,
            SlotState::Receiving | SlotState::Staged
        ) {
            state.set_slot(other, SlotRecord::EMPTY);
        }
    }
    let record = SlotRecord {
        state: SlotState::Receiving,
        digest,
        counter,
    };
    state.set_slot(target, record);
    // The erases of a grant are counted over all its uses, or a resume would renew them.
    if sequence != state.grant_sequence {
        state.erases_left = ERASES_PER_GRANT;
    }
    // Never back, whoever has let it pass.
    state.grant_sequence = state.grant_sequence.max(sequence);
    state.grant_digest = digest;
    state.progress = Progress::MetadataBegun;
    state.frontier = None;
    if state.previous == Some(target) {
        state.previous = None;
    }
    if state.confirmed == target {
        falls_back_to(state, SlotId::Factory);
    }
}

/// The receiving slot is complete and checked.
pub fn staged(state: &mut State, slot: SlotId) {
    state.set_slot_state(slot, SlotState::Staged);
    state.progress = Progress::None;
}

/// The staged slot is to be tried (31 0210). Repeating it before the first trial boot is allowed.
///
/// # Errors
/// There is no staged slot; nothing is changed, as by every error here.
pub fn activate(state: &mut State) -> Result<(), NotNow> {
    if state.find(SlotState::Trial).is_some() && state.attempts_left == TRIAL_ATTEMPTS {
        return Ok(());
    }
    let slot = state.find(SlotState::Staged).ok_or(NotNow)?;
    state.set_slot_state(slot, SlotState::Trial);
    state.attempts_left = TRIAL_ATTEMPTS;
    Ok(())
}

/// The self-test of the running image passed (31 0211). Idempotent.
///
/// # Errors
/// `running` is neither on trial nor confirmed.
pub fn healthy(state: &mut State, running: SlotId) -> Result<(), NotNow> {
    if state.slot(running).state == SlotState::Trial {
        state.set_slot_state(running, SlotState::Healthy);
        let before = state.confirmed;
        state.previous = Some(before).filter(|_| state.slot(before).state.boots());
        state.confirmed = running;
        state.origin = Origin::Regular;
        state.attempts_left = 0;
    } else if state.confirmed != running {
        return Err(NotNow);
    }
    state.crashes = 0;
    Ok(())
}

/// The healthy image is sealed: the floor rises to its counter and never falls (31 0212).
/// Idempotent.
///
/// # Errors
/// The running image is neither healthy nor sealed; in limp-home that is never offered.
pub fn seal(state: &mut State, running: SlotId) -> Result<(), NotNow> {
    let record = state.slot(running);
    match record.state {
        SlotState::Sealed => Ok(()),
        SlotState::Healthy => {
            let counter = record.counter;
            state.floor = state.floor.max(counter);
            state.set_slot_state(running, SlotState::Sealed);
            outlive(state, running);
            Ok(())
        }
        _ => Err(NotNow),
    }
}

/// What is below the floor now does not boot any more, though its grant once excepted it.
fn outlive(state: &mut State, sealed: SlotId) {
    for &slot in SlotId::UPDATE {
        let record = state.slot(slot);
        if slot == sealed || !record.state.boots() || record.counter >= state.floor {
            continue;
        }
        retired(state, slot);
    }
}

/// What is in `slot` does not boot any more, and is nothing to fall back to.
#[inline(never)]
fn retired(state: &mut State, slot: SlotId) {
    state.set_slot_state(slot, SlotState::Rejected);
    if state.previous == Some(slot) {
        state.previous = None;
    }
}

/// Gives up what is not sealed: a trial or healthy image is rejected, a staged or receiving one
/// dropped (31 0213). Idempotent.
pub fn revert(state: &mut State) {
    for &slot in SlotId::UPDATE {
        give_up(state, slot, true);
    }
}

//! The boot decision: a pure function of the journal's state, the cause of the reset and what
//! verification found now.
//!
//! [`decide`] is asked again and again: while it needs the verdict on a slot it answers
//! [`Decision::Verify`], and nothing boots without a verdict of this power cycle. The table is in
//! `docs/spec/bootloader.md`; a snapshot test holds every combination that matters.

use ecu_image::SecurityCounter;

use crate::layout::SlotId;
use crate::state::{
    HEALTHY_CRASHES, LIMP_HOME_CRASHES, Origin, SEALED_CRASHES, SlotState, State, TRIAL_ATTEMPTS,
};

/// Why the ECU started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetCause {
    /// Power came on, or a brown-out.
    PowerOn,
    /// The watchdog ran out: the application hung.
    Watchdog,
    /// Asked for: ECUReset, or the handover to programming.
    Software,
    /// A fault exception, or the application ended.
    Crash,
}

impl ResetCause {
    /// Whether the running image is to blame.
    #[must_use]
    pub const fn is_abnormal(self) -> bool {
        matches!(self, Self::Watchdog | Self::Crash)
    }
}

/// Why what boots boots; the numbers are those of FD01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BootReason {
    /// The confirmed image.
    Normal = 0,
    /// An image on trial.
    Trial = 1,
    /// The image before, since the newer one failed or was reverted.
    FellBackToPrevious = 2,
    /// The factory image, since all newer ones failed or were reverted.
    FellBackToFactory = 3,
    /// The factory image below the floor, with what its header allows only.
    LimpHome = 4,
    /// Nothing: a tester wants to program, or is given time to after repeated crashes.
    Programming = 5,
    /// Nothing: no image may boot.
    Recovery = 6,
}

/// What verification found in a slot in this power cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not the image that the journal names, or not authentic.
    Bad,
    /// Authentic and complete.
    Good {
        /// The header's security counter.
        counter: SecurityCounter,
        /// The grant has a downgrade exception for this image.
        exception: bool,
        /// The header allows limp-home.
        limp_home: bool,
    },
}

/// The verdicts so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    factory: Option<Verdict>,
    a: Option<Verdict>,
    b: Option<Verdict>,
}

impl Evidence {
    /// The verdict on a slot.
    #[must_use]
    pub const fn get(&self, slot: SlotId) -> Option<Verdict> {
        match slot {
            SlotId::Factory => self.factory,
            SlotId::A => self.a,
            SlotId::B => self.b,
        }
    }

    /// Forgets a verdict: the slot is about to change.
    pub const fn clear(&mut self, slot: SlotId) {
        match slot {
            SlotId::Factory => self.factory = None,
            SlotId::A => self.a = None,
            SlotId::B => self.b = None,
        }
    }

    /// Notes a verdict.
    pub const fn set(&mut self, slot: SlotId, verdict: Verdict) {
        match slot {
            SlotId::Factory => self.factory = Some(verdict),
            SlotId::A => self.a = Some(verdict),
            SlotId::B => self.b = Some(verdict),
        }
    }
}

/// Everything the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The journal's state, witnessed.
    pub state: &'a State,
    /// Why the ECU started.
    pub cause: ResetCause,
    /// Whether the reset has been charged to what ran: where a decision of this start is durable, once
    /// is enough.
    pub charged: bool,
    /// Whether the application left a valid handover to programming.
    pub programming: bool,
    /// The higher of the journal's floor and the monotonic counter.
    pub floor: SecurityCounter,
    /// Whether there are two update slots.
    pub two_update_slots: bool,
    /// The verdicts so far.
    pub evidence: &'a Evidence,
}

/// What to do. A `state` that differs from the journal's is journaled before it is acted upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Verify this slot, then ask again.
    Verify(SlotId),
    /// Boot this slot.
    Boot {
        /// Which.
        slot: SlotId,
        /// Why.
        reason: BootReason,
        /// To be journaled before.
        state: State,
    },
    /// Stay and answer the tester.
    Stay {
        /// [`BootReason::Programming`] or [`BootReason::Recovery`].
        reason: BootReason,
        /// To be journaled before.
        state: State,
    },
}

/// The decision.
#[must_use]
pub fn decide(inputs: &Inputs<'_>) -> Decision {
    let mut state = *inputs.state;
    match choose(inputs, &mut state) {
        Choice::Verify(slot) => Decision::Verify(slot),
        Choice::Boot(slot, reason) => Decision::Boot {
            slot,
            reason,
            state,
        },
        Choice::Stay(reason) => Decision::Stay { reason, state },
    }
}

/// A [`Decision`] without the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Verify(SlotId),
    Boot(SlotId, BootReason),
    Stay(BootReason),
}

/// The decision; `state` is the journal's, and becomes what is to be journaled before it is acted
/// upon. It means nothing beside [`Choice::Verify`].
pub(crate) fn choose(inputs: &Inputs<'_>, state: &mut State) -> Choice {
    if !inputs.charged {
        blame(state, inputs.cause);
    }
    // A handover is believed only after the reset that leaves one: stale RAM is no request.
    if inputs.programming && inputs.cause == ResetCause::Software {
        return programming(inputs, state);
    }
    // A counter that cannot be read is above everything and says nothing of the images: nothing boots,
    // and nothing of this start is kept.
    if inputs.floor == SecurityCounter(u32::MAX) {
        *state = *inputs.state;
        return Choice::Stay(BootReason::Recovery);
    }
    match trial(inputs, state) {
        Some(choice) => choice,
        None => settled(inputs, state),
    }
}

/// Charges an abnormal reset to the image that ran, and ends trials that cannot go on.
fn blame(state: &mut State, cause: ResetCause) {
    if let Some(slot) = state.find(SlotState::Trial) {
        let has_run = state.attempts_left < TRIAL_ATTEMPTS;
        if state.attempts_left == 0 || (cause.is_abnormal() && has_run) {
            reject(state, slot);
        }
        return;
    }
    if !cause.is_abnormal() {
        return;
    }
    state.crashes = state.crashes.saturating_add(1).min(LIMP_HOME_CRASHES);
    let confirmed = state.confirmed;
    let healthy = state.slot(confirmed).state == SlotState::Healthy;
    if healthy && state.crashes >= HEALTHY_CRASHES {
        reject(state, confirmed);
    }
}

/// Gives up `slot`: a trial ends there, a confirmed slot gives way to the one before.
pub(crate) fn reject(state: &mut State, slot: SlotId) {
    state.set_slot_state(slot, SlotState::Rejected);
    state.origin = Origin::FellBack;
    state.attempts_left = 0;
    if state.confirmed == slot {
        state.crashes = 0;
        state.confirmed = state.previous.take().unwrap_or(SlotId::Factory);
    }
    if state.previous == Some(slot) {
        state.previous = None;
    }
}

fn programming(inputs: &Inputs<'_>, state: &State) -> Choice {
    // With one update slot the confirmed image gives its place to the new one, which is allowed
    // only while the factory image can take over: so it is verified first.
    let gives_way = !inputs.two_update_slots && state.confirmed != SlotId::Factory;
    if gives_way && inputs.evidence.get(SlotId::Factory).is_none() {
        return Choice::Verify(SlotId::Factory);
    }
    Choice::Stay(BootReason::Programming)
}

fn trial(inputs: &Inputs<'_>, state: &mut State) -> Option<Choice> {
    let slot = state.find(SlotState::Trial)?;
    match inputs.evidence.get(slot) {
        None => Some(Choice::Verify(slot)),
        Some(verdict) if may_boot(verdict, inputs.floor) => {
            state.attempts_left = state.attempts_left.saturating_sub(1);
            Some(Choice::Boot(slot, BootReason::Trial))
        }
        Some(_) => {
            reject(state, slot);
            None
        }
    }
}

/// Whether a slot with this verdict may boot in full function.
fn may_boot(verdict: Verdict, floor: SecurityCounter) -> bool {
    match verdict {
        Verdict::Bad => false,
        Verdict::Good {
            counter, exception, ..
        } => counter >= floor || exception,
    }
}

/// Whether the factory image could take over, in full function or limp-home.
#[must_use]
pub fn factory_takes_over(evidence: &Evidence, floor: SecurityCounter) -> bool {
    let full = |verdict| may_boot(verdict, floor);
    limps_home(evidence) || evidence.get(SlotId::Factory).is_some_and(full)
}

/// No trial: the confirmed slot, the one before, the factory image, any other that was sealed;
/// then limp-home, then recovery.
fn settled(inputs: &Inputs<'_>, state: &mut State) -> Choice {
    let (confirmed, previous) = (state.confirmed, state.previous);
    let regular = state.origin == Origin::Regular;
    let abnormal = inputs.cause.is_abnormal();
    let crashes = abnormal && state.crashes >= SEALED_CRASHES;
    if !abnormal {
        // Whoever starts it anew gets the confirmed image once more.
        state.crashes = state.crashes.min(SEALED_CRASHES);
    }
    let sealed = state.slot(confirmed).state == SlotState::Sealed;
    let first = [Some(confirmed), previous, Some(SlotId::Factory)];
    // A sealed image that keeps crashing is tried last rather than first.
    let [first, second, third] = match (sealed && crashes, first) {
        (true, [confirmed, previous, factory]) => [previous, factory, confirmed],
        (false, first) => first,
    };
    let order = [first, second, third, Some(SlotId::A), Some(SlotId::B)];
    for &slot in order.iter().flatten() {
        if slot != SlotId::Factory && !state.slot(slot).state.boots() {
            continue;
        }
        let Some(verdict) = inputs.evidence.get(slot) else {
            return Choice::Verify(slot);
        };
        if slot != SlotId::Factory && verdict == Verdict::Bad {
            state.set_slot_state(slot, SlotState::Rejected);
            continue;
        }
        if !may_boot(verdict, inputs.floor) {
            continue;
        }
        if crashes && slot == confirmed {
            return keeps_crashing(inputs, state);
        }
        now_confirmed(state, slot);
        if crashes {
            // What crashed is nothing to fall back to, or the two would take turns for ever.
            state.previous = None;
        }
        return Choice::Boot(slot, reason(slot, regular && slot == confirmed));
    }
    if limps_home(inputs.evidence) {
        if crashes && confirmed == SlotId::Factory {
            return keeps_crashing(inputs, state);
        }
        now_confirmed(state, SlotId::Factory);
        return Choice::Boot(SlotId::Factory, BootReason::LimpHome);
    }
    nothing_boots(state);
    Choice::Stay(BootReason::Recovery)
}

/// Nothing better than the confirmed image may boot in full function, and it crashes. Limp-home does
/// not take its place: the next start that is asked for tries it again. Where that crashes as well, a
/// tester gets the time that the crashes would take from it.
fn keeps_crashing(inputs: &Inputs<'_>, state: &State) -> Choice {
    let limps = state.confirmed != SlotId::Factory && limps_home(inputs.evidence);
    if limps && state.crashes < LIMP_HOME_CRASHES {
        return Choice::Boot(SlotId::Factory, BootReason::LimpHome);
    }
    Choice::Stay(BootReason::Programming)
}

/// Whether the factory image is whole and its header allows limp-home.
fn limps_home(evidence: &Evidence) -> bool {
    let factory = evidence.get(SlotId::Factory);
    matches!(
        factory,
        Some(Verdict::Good {
            limp_home: true,
            ..
        })
    )
}

/// The reason for which `slot` boots in full function. `regular`: it was confirmed, and did not come
/// to that by falling back.
const fn reason(slot: SlotId, regular: bool) -> BootReason {
    match slot {
        _ if regular => BootReason::Normal,
        SlotId::Factory => BootReason::FellBackToFactory,
        SlotId::A | SlotId::B => BootReason::FellBackToPrevious,
    }
}

/// What boots is what the journal calls confirmed, so that no download can touch it.
fn now_confirmed(state: &mut State, slot: SlotId) {
    let before = state.confirmed;
    if before == slot {
        return;
    }
    state.previous = Some(before).filter(|_| state.slot(before).state.boots());
    falls_back_to(state, slot);
}

/// Recovery: every update slot may be programmed.
fn nothing_boots(state: &mut State) {
    if state.confirmed != SlotId::Factory {
        falls_back_to(state, SlotId::Factory);
    }
    state.previous = None;
}

/// `slot` becomes the confirmed one without having proved itself.
pub(crate) fn falls_back_to(state: &mut State, slot: SlotId) {
    state.confirmed = slot;
    state.origin = Origin::FellBack;
    state.crashes = 0;
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;

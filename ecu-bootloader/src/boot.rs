//! The boot decision: a pure function of the journal's state, the cause of the reset and what
//! verification found now.
//!
//! [`decide`] is asked again and again: while it needs the verdict on a slot it answers
//! [`Decision::Verify`], and nothing boots without a verdict of this power cycle. The table is in
//! `docs/spec/bootloader.md`; a snapshot test holds every combination that matters.

use ecu_image::SecurityCounter;

use crate::layout::SlotId;
use crate::state::{HEALTHY_CRASHES, Origin, SEALED_CRASHES, SlotState, State, TRIAL_ATTEMPTS};

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
    blame(state, inputs.cause);
    // A handover is believed only after the reset that leaves one: stale RAM is no request.
    if inputs.programming && inputs.cause == ResetCause::Software {
        return programming(inputs, state);
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
    state.crashes = state.crashes.saturating_add(1);
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
    match evidence.get(SlotId::Factory) {
        Some(Verdict::Good {
            limp_home: true, ..
        }) => true,
        Some(verdict) => may_boot(verdict, floor),
        None => false,
    }
}

/// No trial: the confirmed slot, the one before, the factory image, recovery.
fn settled(inputs: &Inputs<'_>, state: &mut State) -> Choice {
    let (confirmed, previous) = (state.confirmed, state.previous);
    let regular = state.origin == Origin::Regular;
    let keeps_crashing = state.crashes >= SEALED_CRASHES;
    let sealed = state.slot(confirmed).state == SlotState::Sealed;
    // A sealed image that keeps crashing is tried last rather than first.
    let order = if sealed && keeps_crashing {
        [previous, Some(SlotId::Factory), Some(confirmed)]
    } else {
        [Some(confirmed), previous, Some(SlotId::Factory)]
    };
    for slot in order.into_iter().flatten() {
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
        if let Some(reason) = reason(slot, verdict, inputs.floor, regular && slot == confirmed) {
            // Nothing better may boot: a tester gets the time that the crashes would take from it.
            if inputs.cause.is_abnormal() && keeps_crashing && slot == confirmed {
                return Choice::Stay(BootReason::Programming);
            }
            now_confirmed(state, slot);
            return Choice::Boot(slot, reason);
        }
    }
    nothing_boots(state);
    Choice::Stay(BootReason::Recovery)
}

/// The reason for which `slot` boots, or `None` where it may not. `regular`: it was confirmed, and
/// did not come to that by falling back.
fn reason(
    slot: SlotId,
    verdict: Verdict,
    floor: SecurityCounter,
    regular: bool,
) -> Option<BootReason> {
    if !may_boot(verdict, floor) {
        return match verdict {
            Verdict::Good {
                limp_home: true, ..
            } if slot == SlotId::Factory => Some(BootReason::LimpHome),
            _ => None,
        };
    }
    Some(match slot {
        _ if regular => BootReason::Normal,
        SlotId::Factory => BootReason::FellBackToFactory,
        SlotId::A | SlotId::B => BootReason::FellBackToPrevious,
    })
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

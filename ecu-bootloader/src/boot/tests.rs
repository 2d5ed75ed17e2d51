//! The decision for every combination that matters, as one table.

use super::*;
use crate::state::SlotRecord;
use ecu_image::ImageDigest;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::format;
use std::string::String;

const FLOOR: SecurityCounter = SecurityCounter(5);

fn good(counter: u32) -> Verdict {
    Verdict::Good {
        counter: SecurityCounter(counter),
        exception: false,
        limp_home: false,
    }
}

const LIMP_HOME: Verdict = Verdict::Good {
    counter: SecurityCounter(4),
    exception: false,
    limp_home: true,
};

const EXCEPTED: Verdict = Verdict::Good {
    counter: SecurityCounter(4),
    exception: true,
    limp_home: false,
};

fn record(state: SlotState) -> SlotRecord {
    SlotRecord {
        state,
        digest: ImageDigest([state as u8; 32]),
        counter: SecurityCounter(6),
    }
}

fn base() -> State {
    State::provisioned(ImageDigest([0xFA; 32]), FLOOR)
}

/// The journal's side of the table: a name and a state.
fn states() -> [(&'static str, State); 9] {
    use SlotState::{Healthy, Rejected, Sealed, Staged, Trial};
    let slots = |a, b| State {
        a: record(a),
        b: record(b),
        ..base()
    };
    let on_a = |state: State| State {
        confirmed: SlotId::A,
        ..state
    };
    let on_b = |state: State, crashes| State {
        confirmed: SlotId::B,
        previous: Some(SlotId::A),
        crashes,
        ..state
    };
    let trial = |attempts_left| State {
        attempts_left,
        ..on_a(slots(Sealed, Trial))
    };
    [
        ("factory only", base()),
        ("A sealed, B staged", on_a(slots(Sealed, Staged))),
        ("A sealed, B trial 3", trial(3)),
        ("A sealed, B trial 1", trial(1)),
        ("A sealed, B trial 0", trial(0)),
        ("A sealed, B healthy", on_b(slots(Sealed, Healthy), 0)),
        (
            "A sealed, B healthy, 2 crashes",
            on_b(slots(Sealed, Healthy), 2),
        ),
        (
            "A sealed, B sealed, 7 crashes",
            on_b(slots(Sealed, Sealed), 7),
        ),
        ("both rejected", slots(Rejected, Rejected)),
    ]
}

/// Verification's side: a name, and the verdicts on A, B and the factory image.
fn findings() -> [(&'static str, [Verdict; 3]); 5] {
    [
        ("all good", [good(6), good(6), good(5)]),
        ("B bad", [good(6), Verdict::Bad, good(5)]),
        (
            "A below floor, B bad, factory limp-home",
            [good(4), Verdict::Bad, LIMP_HOME],
        ),
        (
            "A excepted, B bad, factory below floor",
            [EXCEPTED, Verdict::Bad, good(4)],
        ),
        ("all bad", [Verdict::Bad; 3]),
    ]
}

/// Asks until there is a decision, as the machine does; the slots verified on the way.
fn run(
    state: &State,
    cause: ResetCause,
    programming: bool,
    found: &[Verdict; 3],
) -> (String, Decision) {
    let [a, b, factory] = *found;
    let mut evidence = Evidence::default();
    let mut asked = String::new();
    for _ in 0..4 {
        let decision = decide(&Inputs {
            state,
            cause,
            charged: false,
            programming,
            floor: FLOOR,
            two_update_slots: true,
            evidence: &evidence,
        });
        let Decision::Verify(slot) = decision else {
            return (asked, decision);
        };
        assert_eq!(evidence.get(slot), None, "asked twice");
        write!(asked, "{slot:?} ").unwrap();
        evidence.set(
            slot,
            match slot {
                SlotId::Factory => factory,
                SlotId::A => a,
                SlotId::B => b,
            },
        );
    }
    panic!("no decision");
}

fn changes(before: &State, after: &State) -> String {
    let mut text = String::new();
    let mut note = |name: &str, differs: bool, value: &dyn std::fmt::Debug| {
        if differs {
            write!(text, " {name}={value:?}").unwrap();
        }
    };
    note(
        "confirmed",
        before.confirmed != after.confirmed,
        &after.confirmed,
    );
    note(
        "previous",
        before.previous != after.previous,
        &after.previous,
    );
    note("origin", before.origin != after.origin, &after.origin);
    note(
        "attempts",
        before.attempts_left != after.attempts_left,
        &after.attempts_left,
    );
    note("crashes", before.crashes != after.crashes, &after.crashes);
    note("A", before.a != after.a, &after.a.state);
    note("B", before.b != after.b, &after.b.state);
    text
}

#[test]
fn the_decision_table() {
    let mut table = String::new();
    for (journal, state) in states() {
        writeln!(table, "{journal}").unwrap();
        for cause in [ResetCause::PowerOn, ResetCause::Crash] {
            for (finding, found) in findings() {
                let (asked, decision) = run(&state, cause, false, &found);
                let (what, next) = match decision {
                    Decision::Boot {
                        slot,
                        reason,
                        state,
                    } => (format!("{slot:?} {reason:?}"), state),
                    Decision::Stay { reason, state } => (format!("- {reason:?}"), state),
                    Decision::Verify(_) => unreachable!(),
                };
                let changed = changes(&state, &next);
                writeln!(
                    table,
                    "  {cause:?}, {finding}: verify {asked}-> {what};{changed}"
                )
                .unwrap();
            }
        }
    }
    insta::assert_snapshot!("decision_table", table);
}

#[test]
fn a_handover_is_believed_after_a_software_reset_only() {
    let found = [good(6); 3];
    for cause in [ResetCause::PowerOn, ResetCause::Watchdog, ResetCause::Crash] {
        let (_, decision) = run(&base(), cause, true, &found);
        assert!(matches!(decision, Decision::Boot { .. }), "{cause:?}");
    }
    let (asked, decision) = run(&base(), ResetCause::Software, true, &found);
    assert_eq!(asked, "");
    assert!(matches!(
        decision,
        Decision::Stay {
            reason: BootReason::Programming,
            ..
        }
    ));
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Bad),
        (0..10u32, any::<bool>(), any::<bool>()).prop_map(|(counter, exception, limp_home)| {
            Verdict::Good {
                counter: SecurityCounter(counter),
                exception,
                limp_home,
            }
        }),
    ]
}

proptest! {
    /// Whatever the journal holds: only what was found good boots, below the floor only by an
    /// exception or in limp-home from the factory slot, the floor stays, and what boots outside a
    /// trial is confirmed.
    #[test]
    fn nothing_unverified_boots_and_no_floor_falls(
        state in crate::state::tests::state(),
        found in [verdict(), verdict(), verdict()],
        cause in prop_oneof![
            Just(ResetCause::PowerOn), Just(ResetCause::Software),
            Just(ResetCause::Watchdog), Just(ResetCause::Crash)
        ],
        programming: bool,
    ) {
        let (_, decision) = run(&state, cause, programming, &found);
        match decision {
            Decision::Boot { slot, reason, state: next } => {
                let [a, b, factory] = found;
                let verdict = match slot { SlotId::A => a, SlotId::B => b, SlotId::Factory => factory };
                let Verdict::Good { counter, exception, limp_home } = verdict else {
                    return Err(TestCaseError::fail("a bad image boots"));
                };
                let limping = reason == BootReason::LimpHome && slot == SlotId::Factory && limp_home;
                prop_assert!(counter >= FLOOR || exception || limping);
                prop_assert_eq!(next.floor, state.floor);
                if reason == BootReason::Trial {
                    prop_assert!(next.attempts_left < state.attempts_left);
                } else {
                    prop_assert_eq!(next.confirmed, slot);
                }
            }
            Decision::Stay { state: next, .. } => prop_assert_eq!(next.floor, state.floor),
            Decision::Verify(_) => unreachable!(),
        }
    }
}

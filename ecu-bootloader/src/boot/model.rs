//! Every state that the journal can reach, and every boot from it.
//!
//! A search from the provisioned ECU through all transitions: downloads accepted, stored, erased,
//! staged and activated, self-tests, seals, reverts, resets of every cause, slots that verify or not,
//! and power cuts between any two of them. The transitions and the decision are the real ones; what
//! is abstracted are the images, which are their counters, and numbers beyond their last threshold.
//! What must hold is asserted on every edge; the snapshot is for a reader.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::format;
use std::string::{String, ToString as _};
use std::vec::Vec;

use super::*;
use crate::state::{Progress, SlotRecord};
use crate::transition::{self, accept, activate, healthy, seal, staged, target};
use ecu_image::{ImageDigest, SequenceNumber, SlotSet};

/// Counters beyond this one are like it.
const HIGHEST: u32 = 3;

/// An ECU after a start: the journal, and what is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ecu {
    state: State,
    /// The monotonic counter.
    counter: u32,
    /// Whether the grant of the image in A, in B has a downgrade exception.
    excepted: [bool; 2],
    /// What runs; nothing in the bootloader.
    running: Option<SlotId>,
    /// Whether the factory image was found able to take over.
    takes_over: bool,
}

type Key = (
    [u8; 8],
    [(u8, u32, bool); 2],
    (u32, u32),
    Option<SlotId>,
    bool,
);

impl Ecu {
    /// The abstraction: two ECUs of one key behave alike.
    fn key(&self) -> Key {
        let state = &self.state;
        let numbers = [
            state.confirmed as u8,
            state.previous.map_or(9, |slot| slot as u8),
            state.origin as u8,
            state.attempts_left,
            state.crashes,
            state.progress as u8,
            0,
            0,
        ];
        let slot = |record: SlotRecord, excepted| {
            let counts = record.state != SlotState::Empty && record.state != SlotState::Rejected;
            let counter = if counts { record.counter.0 } else { 0 };
            (record.state as u8, counter, counts && excepted)
        };
        let [a, b] = self.excepted;
        let slots = [slot(state.a, a), slot(state.b, b)];
        let floor = (state.floor.0, self.counter);
        (numbers, slots, floor, self.running, self.takes_over)
    }

    fn floor(&self) -> u32 {
        self.state.floor.0.max(self.counter)
    }

    fn with(self, state: State) -> Self {
        Self { state, ..self }
    }

    /// After `change`, or `None` where that is not allowed.
    fn after<E>(self, change: impl FnOnce(&mut State) -> Result<(), E>) -> Option<Self> {
        let mut state = self.state;
        change(&mut state).ok().map(|()| self.with(state))
    }
}

fn revert(state: &State) -> State {
    let mut next = *state;
    transition::revert(&mut next);
    next
}

/// What verification finds at a start: whether A, B and the factory slot hold what they should.
type Found = [bool; 3];

const FOUND: [Found; 8] = [
    [true, true, true],
    [false, true, true],
    [true, false, true],
    [false, false, true],
    [true, true, false],
    [false, true, false],
    [true, false, false],
    [false, false, false],
];

/// The cause of a start, and whether a handover to programming is valid. A watchdog is like a crash
/// and a reset that was asked for like power coming on.
const CAUSES: [(ResetCause, bool); 3] = [
    (ResetCause::PowerOn, false),
    (ResetCause::Crash, false),
    (ResetCause::Software, true),
];

struct Model {
    two_update_slots: bool,
    limp_home: bool,
    edges: usize,
}

impl Model {
    fn verdict(&self, ecu: &Ecu, slot: SlotId, found: Found) -> Verdict {
        let [a, b, factory] = found;
        let (good, counter, exception) = match slot {
            SlotId::Factory => (factory, SecurityCounter(1), false),
            SlotId::A => (a, ecu.state.a.counter, ecu.excepted[0]),
            SlotId::B => (b, ecu.state.b.counter, ecu.excepted[1]),
        };
        if !good {
            return Verdict::Bad;
        }
        Verdict::Good {
            counter,
            exception,
            limp_home: slot == SlotId::Factory && self.limp_home,
        }
    }

    /// Starts an ECU, as the machine does; the decision and the ECU after it.
    fn start(
        &self,
        ecu: &Ecu,
        cause: ResetCause,
        programming: bool,
        found: Found,
    ) -> (Decision, Ecu) {
        let floor = SecurityCounter(ecu.floor());
        let mut evidence = Evidence::default();
        loop {
            let decision = decide(&Inputs {
                state: &ecu.state,
                cause,
                charged: false,
                programming,
                floor,
                two_update_slots: self.two_update_slots,
                evidence: &evidence,
            });
            let (state, running) = match decision {
                Decision::Verify(slot) => {
                    assert_eq!(evidence.get(slot), None, "asked twice");
                    evidence.set(slot, self.verdict(ecu, slot, found));
                    continue;
                }
                Decision::Boot { slot, state, .. } => (state, Some(slot)),
                Decision::Stay { state, .. } => (state, None),
            };
            let mut after = Ecu {
                state,
                running,
                takes_over: factory_takes_over(&evidence, floor) && !self.two_update_slots,
                counter: ecu.counter.max(ecu.state.floor.0),
                ..*ecu
            };
            after.state.crashes = bucket(state.crashes);
            self.check_start(ecu, &decision, &after, found);
            return (decision, after);
        }
    }

    /// What must hold of every start.
    fn check_start(&self, ecu: &Ecu, decision: &Decision, after: &Ecu, found: Found) {
        // Only written where something does not hold.
        let what = core::fmt::from_fn(|f| write!(f, "{ecu:?} with {found:?}: {decision:?}"));
        assert!(
            after.state.floor == ecu.state.floor,
            "the floor moved: {what}"
        );
        match *decision {
            Decision::Boot {
                slot,
                reason,
                state,
            } => {
                let Verdict::Good {
                    counter,
                    exception,
                    limp_home,
                } = self.verdict(ecu, slot, found)
                else {
                    panic!("what is not authentic boots: {what}");
                };
                let limps = reason == BootReason::LimpHome && slot == SlotId::Factory && limp_home;
                assert!(
                    counter.0 >= ecu.floor() || exception || limps,
                    "below the floor: {what}"
                );
                if reason == BootReason::Trial {
                    assert!(state.attempts_left < ecu.state.attempts_left, "{what}");
                    assert_eq!(state.confirmed, ecu.state.confirmed, "{what}");
                } else if !limps || state.crashes < SEALED_CRASHES {
                    assert_eq!(state.confirmed, slot, "what boots may be erased: {what}");
                }
                let crashes = state.crashes >= SEALED_CRASHES;
                assert!(
                    !limps || crashes || !self.could_boot(ecu, &state, found),
                    "limp-home before an image that may boot: {what}"
                );
            }
            Decision::Stay { reason, .. } => {
                let verdict = self.verdict(ecu, SlotId::Factory, found);
                let mut evidence = Evidence::default();
                evidence.set(SlotId::Factory, verdict);
                let factory = factory_takes_over(&evidence, SecurityCounter(ecu.floor()));
                assert!(
                    reason != BootReason::Recovery || !factory,
                    "the factory image could boot: {what}"
                );
                assert!(
                    reason != BootReason::Recovery || !self.could_boot(ecu, &after.state, found),
                    "{what}"
                );
                assert!(
                    reason == BootReason::Recovery || reason == BootReason::Programming,
                    "{what}"
                );
            }
            Decision::Verify(_) => unreachable!(),
        }
    }

    /// Whether an update slot holds an image that is whole, and at the floor or excepted.
    fn could_boot(&self, ecu: &Ecu, state: &State, found: Found) -> bool {
        [SlotId::A, SlotId::B].into_iter().any(|slot| {
            let good = may_boot(self.verdict(ecu, slot, found), SecurityCounter(ecu.floor()));
            good && state.slot(slot).state.boots()
        })
    }

    /// Nothing but crashes from here: sooner or later the bootloader stays for a tester.
    fn check_crashes(&self, ecu: &Ecu, found: Found) {
        let mut now = *ecu;
        for _ in 0..64 {
            let (decision, after) = self.start(&now, ResetCause::Crash, false, found);
            if matches!(decision, Decision::Stay { .. }) {
                return;
            }
            now = after;
        }
        panic!("crashes for ever: {ecu:?} with {found:?}, at last {now:?}");
    }

    /// What must hold of every state in the journal.
    fn check_state(&self, ecu: &Ecu) {
        let state = &ecu.state;
        let confirmed = state.slot(state.confirmed).state;
        assert!(
            state.confirmed == SlotId::Factory || confirmed.boots(),
            "confirmed, but does not boot: {ecu:?}"
        );
        assert_ne!(state.previous, Some(state.confirmed), "{ecu:?}");
        assert!(
            ecu.counter <= state.floor.0,
            "the counter is ahead of the order: {ecu:?}"
        );
        let unsealed = [state.a.state, state.b.state]
            .into_iter()
            .filter(|state| matches!(state, SlotState::Trial | SlotState::Healthy))
            .count();
        assert!(unsealed <= 1, "two images wait for their seal: {ecu:?}");
        let receives = [state.a.state, state.b.state].contains(&SlotState::Receiving);
        assert_eq!(receives, state.progress != Progress::None, "{ecu:?}");
    }

    /// Everything that can happen to an ECU; a power cut before it changes nothing.
    fn next(&mut self, ecu: &Ecu) -> Vec<Ecu> {
        let mut next = Vec::new();
        for found in FOUND {
            self.check_crashes(ecu, found);
        }
        for (cause, programming) in CAUSES {
            for found in FOUND {
                next.push(self.start(ecu, cause, programming, found).1);
            }
        }
        let state = &ecu.state;
        let running = ecu.running.unwrap_or(state.confirmed);
        if ecu.running.is_some() {
            next.extend(ecu.after(|state| healthy(state, running)));
        }
        if let Some(ordered) = ecu.after(|state| seal(state, running)) {
            assert!(ordered.state.floor >= state.floor);
            // Power may fail between the order and the counter.
            next.push(ordered);
            next.push(Ecu {
                counter: ordered.state.floor.0,
                ..ordered
            });
        }
        next.push(ecu.with(revert(state)));
        if ecu.running.is_none() {
            self.download(ecu, &mut next);
        }
        self.edges += next.len();
        next
    }

    fn download(&self, ecu: &Ecu, next: &mut Vec<Ecu>) {
        let state = &ecu.state;
        next.extend(ecu.after(activate));
        if let Some(slot) = state.find(SlotState::Receiving) {
            assert_ne!(
                slot, state.confirmed,
                "the confirmed slot is erased: {ecu:?}"
            );
            next.push(match state.progress {
                Progress::MetadataBegun => ecu.with(with_progress(state, Progress::Metadata)),
                Progress::Metadata => ecu.with(with_progress(state, Progress::EraseBegun)),
                Progress::EraseBegun => ecu.with(with_progress(state, Progress::Erased)),
                Progress::Erased => {
                    let mut after = *ecu;
                    staged(&mut after.state, slot);
                    after
                }
                Progress::None => unreachable!("a slot receives: {ecu:?}"),
            });
        }
        let floor = ecu.floor();
        let slots = SlotSet::ALL;
        let Ok(slot) = target(state, slots, self.two_update_slots, ecu.takes_over) else {
            self.check_refused(ecu);
            return;
        };
        if self.two_update_slots {
            assert_ne!(slot, state.confirmed, "{ecu:?}");
        }
        for (counter, exception) in [
            (floor, false),
            ((floor + 1).min(HIGHEST), false),
            (floor.saturating_sub(1).max(1), true),
        ] {
            let mut after = *ecu;
            accept(
                &mut after.state,
                slot,
                ImageDigest([slot as u8; 32]),
                SecurityCounter(counter),
                SequenceNumber(1),
            );
            after.state.erases_left = 0;
            let [a, b] = &mut after.excepted;
            *(if slot == SlotId::A { a } else { b }) = exception && counter < floor;
            assert_ne!(after.state.confirmed, slot, "{ecu:?}");
            next.push(after);
        }
    }

    /// A download is refused only while an image waits, or where nothing could take over.
    fn check_refused(&self, ecu: &Ecu) {
        let after = revert(&ecu.state);
        let waited = after != ecu.state;
        let again = target(&after, SlotSet::ALL, self.two_update_slots, ecu.takes_over);
        let none_takes_over = !self.two_update_slots && !ecu.takes_over;
        assert!(
            (waited && again.is_ok()) || none_takes_over,
            "no image can be installed any more: {ecu:?}"
        );
    }

    /// Every ECU that can be reached.
    fn search(&mut self) -> Vec<Ecu> {
        let start = Ecu {
            state: State::provisioned(ImageDigest([0xFA; 32]), SecurityCounter(1)),
            counter: 1,
            excepted: [false; 2],
            running: None,
            takes_over: false,
        };
        let mut seen = HashSet::from([start.key()]);
        let mut found = Vec::from([start]);
        let mut at = 0;
        while let Some(ecu) = found.get(at).copied() {
            at += 1;
            self.check_state(&ecu);
            for next in self.next(&ecu) {
                assert!(next.state.floor >= ecu.state.floor, "{ecu:?} -> {next:?}");
                assert!(next.counter >= ecu.counter, "{ecu:?} -> {next:?}");
                if seen.insert(next.key()) {
                    found.push(next);
                }
            }
        }
        found
    }
}

/// Abnormal resets as far as they matter: those short of a threshold are one before it.
fn bucket(crashes: u8) -> u8 {
    if crashes <= HEALTHY_CRASHES {
        crashes
    } else if crashes <= SEALED_CRASHES {
        crashes.max(SEALED_CRASHES - 1)
    } else {
        crashes.max(LIMP_HOME_CRASHES - 1)
    }
}

fn with_progress(state: &State, progress: Progress) -> State {
    State { progress, ..*state }
}

fn name(slot: SlotId) -> &'static str {
    match slot {
        SlotId::Factory => "F",
        SlotId::A => "A",
        SlotId::B => "B",
    }
}

/// What a start leads to, in two signs.
fn sign(decision: &Decision) -> String {
    let (slot, reason) = match *decision {
        Decision::Boot { slot, reason, .. } => (name(slot), reason),
        Decision::Stay { reason, .. } => ("-", reason),
        Decision::Verify(_) => unreachable!(),
    };
    let mark = match reason {
        BootReason::Normal => "",
        BootReason::Trial => "?",
        BootReason::FellBackToPrevious | BootReason::FellBackToFactory => "<",
        BootReason::LimpHome => "~",
        BootReason::Programming => "p",
        BootReason::Recovery => "r",
    };
    format!("{slot}{mark}")
}

/// The starts that the table shows.
const COLUMNS: [(&str, ResetCause, Found); 6] = [
    ("all good", ResetCause::PowerOn, [true, true, true]),
    ("crash", ResetCause::Crash, [true, true, true]),
    ("A bad", ResetCause::PowerOn, [false, true, true]),
    ("B bad", ResetCause::PowerOn, [true, false, true]),
    ("A, B bad", ResetCause::PowerOn, [false, false, true]),
    ("all bad", ResetCause::PowerOn, [false, false, false]),
];

/// One line for each combination of the slots, what is confirmed and what comes before it; in each
/// column every outcome that some counters, crashes and attempts lead to.
fn table(model: &Model, found: &[Ecu]) -> String {
    let mut rows: BTreeMap<[String; 4], [BTreeSet<String>; 6]> = BTreeMap::new();
    for ecu in found {
        let state = &ecu.state;
        let row = [
            format!(
                "{}{}",
                name(state.confirmed),
                if state.crashes == SEALED_CRASHES {
                    "!"
                } else {
                    ""
                }
            ),
            state.previous.map_or("-", name).to_string(),
            format!("{:?}", state.a.state),
            format!("{:?}", state.b.state),
        ];
        let row = rows.entry(row).or_default();
        for (cell, (_, cause, verdicts)) in row.iter_mut().zip(COLUMNS) {
            cell.insert(sign(&model.start(ecu, cause, false, verdicts).0));
        }
    }
    let mut text = String::new();
    let line = |text: &mut String, head: [&str; 4], cells: [String; 6]| {
        let [confirmed, previous, a, b] = head;
        let mut line = format!("{confirmed:4} {previous:4} {a:9} {b:9}");
        for cell in cells {
            write!(line, " | {cell:18}").unwrap();
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    };
    let titles = COLUMNS.map(|(title, ..)| title.to_string());
    line(&mut text, ["conf", "prev", "A", "B"], titles);
    for (row, cells) in &rows {
        let [confirmed, previous, a, b] = row;
        let cells = cells.each_ref().map(|cell| {
            let outcomes: Vec<&str> = cell.iter().map(String::as_str).collect();
            outcomes.join(" ")
        });
        line(&mut text, [confirmed, previous, a, b], cells);
    }
    text
}

#[test]
fn every_reachable_state_and_every_boot() {
    let mut text = String::from(
        "A B F: boots it. ? in trial, < fell back, ~ limp-home, -p stays for a tester, -r recovery.\n\
         conf!: after eight abnormal resets. Several outcomes: counters, attempts and crashes differ.\n",
    );
    for two_update_slots in [true, false] {
        for limp_home in [true, false] {
            let mut model = Model {
                two_update_slots,
                limp_home,
                edges: 0,
            };
            let found = model.search();
            let slots = if two_update_slots {
                "two update slots"
            } else {
                "one update slot"
            };
            let limp = if limp_home { "may" } else { "may not" };
            writeln!(
                text,
                "\n{slots}, the factory image {limp} limp home: {} states, {} transitions",
                found.len(),
                model.edges,
            )
            .unwrap();
            text.push_str(&table(&model, &found));
        }
    }
    insta::assert_snapshot!("reachable_states", text);
}

//! The journal against the flash model: any number of writes, cut anywhere, torn in any way.

use super::*;
use crate::keys::SoftKeyStore;
use crate::state::State;
use ecu_image::crypto::{MacKey, WrapKey};
use ecu_image::{ImageDigest, SecurityCounter};
use nor::{Cut, Geometry, Marginal, Nor, Tear, When};
use proptest::prelude::*;

const LAYOUT: Layout = match Layout::uniform(0, 2048, 8, 1, 4096, true) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

struct Chip(Nor);

impl FlashRead for Chip {
    fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), FlashError> {
        self.0.read(address, buffer).map_err(|_| FlashError)
    }
}

fn keys() -> SoftKeyStore {
    let mac = |byte| MacKey::new([byte; 16]);
    SoftKeyStore::new(WrapKey::new([1; 16]), mac(2), mac(3), mac(4))
}

fn state(number: u32) -> State {
    State::provisioned(ImageDigest([7; 32]), SecurityCounter(number))
}

fn perform(chip: &mut Chip, op: FlashOp<'_>) -> Result<(), FlashError> {
    let result = match op {
        FlashOp::Erase { address, .. } => chip.0.erase(address),
        FlashOp::Program { address, bytes } => chip.0.program(address, bytes),
    };
    result.map(drop).map_err(|_| FlashError)
}

fn provisioned() -> Chip {
    let mut chip = Chip(Nor::in_memory(Geometry::pages_2k_8(1 << 16)));
    initialise(&LAYOUT, &state(0), &mut keys(), &mut |op| {
        perform(&mut chip, op)
    })
    .unwrap();
    chip
}

/// Writes a state; `false` where power failed.
fn write(journal: &mut Journal, chip: &mut Chip, state: &State) -> bool {
    journal.write(&LAYOUT, state, &mut keys());
    loop {
        let op = journal.op(&LAYOUT).expect("an operation until the end");
        let result = perform(chip, op);
        if !chip.0.is_powered() {
            return false;
        }
        assert_eq!(result, Ok(()), "the journal misuses the flash");
        match journal.on_done(result) {
            Written::NotYet => {}
            Written::Durable => return true,
            Written::Failed => panic!("nothing failed"),
        }
    }
}

/// Opens and, as the machine does, writes an unwitnessed record again before it is acted upon.
fn settle(chip: &mut Chip) -> Option<(Journal, State)> {
    let (mut journal, found) = Journal::open(&LAYOUT, chip, &mut keys());
    let found = found.expect("a state");
    if !found.settled && !write(&mut journal, chip, &found.state) {
        return None;
    }
    Some((journal, found.state))
}

#[test]
fn a_blank_or_foreign_journal_has_no_state() {
    let mut chip = Chip(Nor::in_memory(Geometry::pages_2k_8(1 << 16)));
    assert_eq!(Journal::open(&LAYOUT, &mut chip, &mut keys()).1, None);
    let mut chip = provisioned();
    let mac = |byte| MacKey::new([byte; 16]);
    let mut others = SoftKeyStore::new(WrapKey::new([1; 16]), mac(2), mac(9), mac(4));
    assert_eq!(Journal::open(&LAYOUT, &mut chip, &mut others).1, None);
}

#[test]
fn sectors_alternate_and_wear_is_shared() {
    let mut chip = provisioned();
    let (mut journal, _) = settle(&mut chip).unwrap();
    for number in 1..=100 {
        assert!(write(&mut journal, &mut chip, &state(number)));
    }
    let erases = &chip.0.erases()[..2];
    // Seven entries of 272 bytes in a sector of 2 KiB.
    assert!(
        erases.iter().all(|count| (7..=8).contains(count)),
        "{erases:?}"
    );
    let (_, found) = Journal::open(&LAYOUT, &mut chip, &mut keys());
    assert_eq!(found.unwrap().state, state(100));
}

#[test]
fn a_failing_sector_is_tried_once_more_and_then_given_up() {
    let mut chip = provisioned();
    let (mut journal, _) = settle(&mut chip).unwrap();
    journal.write(&LAYOUT, &state(1), &mut keys());
    assert_eq!(journal.on_done(Err(FlashError)), Written::NotYet);
    assert!(matches!(journal.op(&LAYOUT), Some(FlashOp::Erase { .. })));
    assert_eq!(journal.on_done(Err(FlashError)), Written::Failed);
    assert!(!journal.is_writing());
    assert!(write(&mut journal, &mut chip, &state(2)));
}

/// The witness was barely begun: it reads now as one, now as none.
#[test]
fn a_record_that_was_acted_upon_outlives_its_interrupted_witness() {
    let mut interrupted = provisioned();
    let (mut journal, _) = settle(&mut interrupted).unwrap();
    let when = When::Inside {
        tear: Tear::Prefix { words: 0 },
        marginal: Marginal::One,
    };
    let witness = interrupted.0.operations() + 2;
    interrupted.0.arm(Cut {
        operation: witness,
        when,
    });
    assert!(!write(&mut journal, &mut interrupted, &state(1)));
    for seed in 0..64 {
        let mut chip = Chip(interrupted.0.fork().unwrap());
        chip.0.seed(seed);
        let (_, acted_upon) = settle(&mut chip).unwrap();
        // The power cycle after may begin to settle, and power fails again.
        let operation = chip.0.operations();
        chip.0.arm(Cut {
            operation,
            when: When::After,
        });
        settle(&mut chip);
        let mut chip = Chip(chip.0.fork().unwrap());
        let (_, found) = settle(&mut chip).unwrap();
        assert_eq!(found.floor, acted_upon.floor, "seed {seed}");
    }
}

/// A chip on which one record reads well a number of times, and no more.
struct Fading {
    chip: Chip,
    address: u32,
    left: u32,
}

impl FlashRead for Fading {
    fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), FlashError> {
        if address == self.address && buffer.len() > 16 {
            self.left = self.left.checked_sub(1).ok_or(FlashError)?;
        }
        self.chip.read(address, buffer)
    }
}

/// Its witness was begun, and then the erase before it was to be written again.
#[test]
fn a_record_that_fades_before_it_was_acted_upon_leaves_the_one_before_it() {
    let mut chip = provisioned();
    let (mut journal, _) = settle(&mut chip).unwrap();
    let witness = Cut {
        operation: chip.0.operations() + 2,
        when: When::Inside {
            tear: Tear::Prefix { words: 1 },
            marginal: Marginal::None,
        },
    };
    chip.0.arm(witness);
    assert!(!write(&mut journal, &mut chip, &state(1)));
    let mut chip = Chip(chip.0.fork().unwrap());
    let (journal, found) = Journal::open(&LAYOUT, &mut chip, &mut keys());
    let found = found.unwrap();
    assert_eq!((found.state, found.settled), (state(1), false));
    let faded = journal.newest.unwrap();
    let address = address(&LAYOUT, faded).unwrap();
    let mut fading = Fading {
        chip,
        address,
        left: 1,
    };
    let (mut journal, found) = Journal::open(&LAYOUT, &mut fading, &mut keys());
    let found = found.unwrap();
    assert_eq!((found.state, found.settled), (state(0), false));
    assert_eq!(journal.keep, Some(faded.half.other()));
    assert!(write(&mut journal, &mut fading.chip, &found.state));
    let (_, found) = Journal::open(&LAYOUT, &mut fading.chip, &mut keys());
    let found = found.unwrap();
    assert_eq!((found.state, found.settled), (state(0), true));
}

/// An interrupted witness that reads blank, and behind it a torn record that reads well only once.
#[test]
fn a_torn_record_does_not_hide_the_one_before_it() {
    let blank = Nor::in_memory(Geometry::pages_2k_8(1 << 16).with_ecc());
    let mut interrupted = Chip(blank);
    initialise(&LAYOUT, &state(0), &mut keys(), &mut |op| {
        perform(&mut interrupted, op)
    })
    .unwrap();
    let (mut journal, _) = settle(&mut interrupted).unwrap();
    let torn = |operation, tear| Cut {
        operation,
        when: When::Inside {
            tear,
            marginal: Marginal::One,
        },
    };
    let witness = interrupted.0.operations() + 2;
    interrupted.0.arm(torn(witness, Tear::Prefix { words: 0 }));
    assert!(!write(&mut journal, &mut interrupted, &state(1)));
    for seed in 0..256 {
        let mut chip = Chip(interrupted.0.fork().unwrap());
        chip.0.seed(seed);
        // The erase, then the record.
        chip.0.arm(torn(1, Tear::MissingBit { bit: 0 }));
        settle(&mut chip);
        let mut chip = Chip(chip.0.fork().unwrap());
        for _ in 0..8 {
            let (_, found) = Journal::open(&LAYOUT, &mut chip, &mut keys());
            assert!(found.is_some(), "seed {seed}");
        }
    }
}

fn when() -> impl Strategy<Value = When> {
    let tear = prop_oneof![
        (0..40u32).prop_map(|words| Tear::Prefix { words }),
        any::<u32>().prop_map(|bit| Tear::MissingBit { bit }),
        Just(Tear::FirstHalf),
        Just(Tear::SecondHalf),
        Just(Tear::EvenBits),
        Just(Tear::OddBits),
        any::<u64>().prop_map(Tear::Seeded),
    ];
    prop_oneof![
        Just(When::Before),
        Just(When::After),
        (tear, prop::sample::select(&Marginal::ALL[..]))
            .prop_map(|(tear, marginal)| When::Inside { tear, marginal }),
    ]
}

proptest! {
    /// After any sequence of cuts the journal holds the last state that was reported durable, or
    /// the one being written; what was settled after a cut never changes again; and no word is
    /// programmed that was not erased in the same power cycle.
    #[test]
    fn a_cut_loses_nothing_that_was_durable(
        cuts in prop::collection::vec((0..24u64, when()), 1..6),
    ) {
        let mut chip = provisioned();
        let (mut durable, mut number) = (0, 0);
        for (after, when) in cuts {
            let operation = chip.0.operations() + after;
            chip.0.arm(Cut { operation, when });
            // Until the power fails, also while settling.
            if let Some((mut journal, found)) = settle(&mut chip) {
                prop_assert!(found == state(durable) || found == state(number));
                (durable, number) = (found.floor.0, found.floor.0);
                loop {
                    number += 1;
                    if !write(&mut journal, &mut chip, &state(number)) {
                        break;
                    }
                    durable = number;
                }
            }
            chip.0.power_on();
        }
        let (_, found) = settle(&mut chip).expect("power is on");
        prop_assert!(found == state(durable) || found == state(number));
        // A torn erase may still flicker; the state must not.
        for _ in 0..4 {
            let (_, again) = Journal::open(&LAYOUT, &mut chip, &mut keys());
            prop_assert_eq!(again.unwrap().state, found);
        }
        prop_assert_eq!(chip.0.violations(), 0);
    }
}

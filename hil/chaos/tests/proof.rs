//! A sample of the single interruptions, and of pairs. The whole is `cargo xtask chaos`.

// A program of tests alone.
#![allow(missing_docs)]

use chaos::proof::{PAGE, Plan, RESENT_BOUND, Setup, play, run, singles};
use chaos::vehicle::Interruption;

/// Changes with the day would not repeat; the seed is printed with what it found.
const SEED: u64 = 0x5EED;

#[test]
fn a_sample_of_interruptions_violates_nothing() {
    let setup = Setup::new(SEED);
    let plan = Plan {
        one_of: 40,
        pairs: 300,
        seed: SEED,
        threads: 2,
        first_only: false,
    };
    let tally = run(&setup, &plan, &|_, _| {}).unwrap();
    println!("seed {SEED}: {tally:?}");
    assert_eq!(tally.violations, 0, "{:#?}", tally.examples);
    assert!(tally.single > 500 && tally.pairs > 250, "{tally:?}");
    assert_eq!(tally.pairs + tally.too_late, 300);
    // Interruptions cost something, and few of them the campaign.
    assert!(tally.resent_worst > 0.0 && tally.resent_worst <= f64::from(RESENT_BOUND * PAGE));
    assert!(
        tally.reverted > 0 && tally.completed > 9 * tally.reverted,
        "{tally:?}"
    );
}

#[test]
fn every_run_with_one_seed_is_the_same() {
    let setup = Setup::new(SEED);
    let base = play(&setup, &[]).unwrap();
    assert_eq!(base.resent, [0, 0, 0], "nothing is sent twice");
    let all = singles(&base);
    for single in all.iter().step_by(all.len() / 9) {
        let (one, other) = (play(&setup, &[*single]), play(&setup, &[*single]));
        assert_eq!(one.unwrap(), other.unwrap(), "{single:?}");
    }
}

/// Ten crashes of one ECU: its bootloader stays for a tester, and boots when none has come.
#[test]
fn an_ecu_that_stays_after_crashes_comes_back() {
    let crash = |frame| Interruption::Crash { ecu: 0, frame };
    play(&Setup::new(1), &[crash(2931), crash(48)]).unwrap();
}

//! Every single cut of a life, and a sample of pairs. The long run is `cargo xtask powercut`.

// A program of tests alone.
#![allow(missing_docs)]

use powercut::life::Life;
use powercut::proof::{Pairs, Plan, Torn, run};

/// Changes with the day would not repeat; the seed is printed with what it found.
const SEED: u64 = 0x5EED;

fn nothing_is_violated(life: &Life, pairs: u64) {
    let plan = Plan {
        torn: Torn::Fixed,
        pairs: Pairs::Sample(pairs),
        seed: SEED,
        threads: 1,
        first_only: false,
    };
    let tally = run(life, &plan, &|_, _| {}).unwrap();
    println!("{}, seed {SEED}: {tally:?}", life.name);
    assert_eq!(tally.violations, 0, "{:#?}", tally.examples);
    // Before, after and a dozen inside of every erase and program; raises are not torn.
    assert!(tally.operations > 200, "this is no whole life");
    assert_eq!(tally.single, 2 * tally.operations);
    let raises = tally.operations - tally.torn / 12;
    assert!(
        tally.torn.is_multiple_of(12) && (2..8).contains(&raises),
        "{raises}"
    );
    assert!(
        (pairs / 4..pairs * 4).contains(&tally.pairs),
        "{}",
        tally.pairs
    );
}

#[test]
fn every_cut_on_small_pages_with_ecc() {
    nothing_is_violated(&Life::pages_2k_8(), 2_000);
}

#[test]
fn every_cut_on_words_of_32_bytes() {
    nothing_is_violated(&Life::pages_2k_32(), 1_000);
}

#[test]
fn every_cut_on_uniform_sectors() {
    nothing_is_violated(&Life::uniform_4k(), 1_000);
}

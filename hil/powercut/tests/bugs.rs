//! Each deliberate bug is found: a proof that finds nothing must be able to.

// A program of tests alone.
#![allow(missing_docs)]

use ecu_bootloader::bugs::{Bug, choose};
use powercut::life::Life;
use powercut::proof::{Pairs, Plan, Torn, run};

/// One test for all, since the bug is chosen for the whole process.
#[test]
fn each_deliberate_bug_is_found() {
    // Without ECC: torn words read as if nothing were wrong with them.
    let life = Life::uniform_4k();
    let plan = Plan {
        torn: Torn::Fixed,
        pairs: Pairs::None,
        seed: 1,
        threads: 1,
        first_only: true,
    };
    for (name, bug) in Bug::ALL {
        choose(Some(bug));
        let tally = run(&life, &plan, &|_, _| {}).expect("without a cut the bug does not show");
        println!(
            "{name}: {}",
            tally.examples.first().map_or("", String::as_str)
        );
        assert_ne!(tally.violations, 0, "{name} is not found");
    }
}

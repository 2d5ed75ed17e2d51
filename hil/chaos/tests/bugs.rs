//! Each deliberate bug is found: a proof that finds nothing must be able to.

// A program of tests alone.
#![allow(missing_docs)]

use chaos::proof::{Plan, Setup, run};
use tcu::bugs::{Bug, choose};

/// One test for all, since the bug is chosen for the whole process.
#[test]
fn each_deliberate_bug_is_found() {
    let setup = Setup::new(1);
    let plan = Plan {
        one_of: 20,
        pairs: 0,
        seed: 1,
        threads: 1,
        first_only: true,
    };
    for (name, bug) in Bug::ALL {
        choose(Some(bug));
        let tally = run(&setup, &plan, &|_, _| {}).expect("without a cut the bug does not show");
        println!(
            "{name}, after {} runs: {}",
            tally.single,
            tally.examples.first().map_or("", String::as_str)
        );
        assert_ne!(tally.violations, 0, "{name} is not found");
    }
}

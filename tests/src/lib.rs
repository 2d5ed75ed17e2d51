//! The harness of the end-to-end tests: built programs on one bench at a time.

#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rig::bench::{Bench, Options};
use rig::programs::Programs;
use rig::report::Report;
use rig::scenario;

/// Benches take turns: each has eleven processes, and a late one is judged by its deadlines.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `job` with a bench of built programs, on which six ECUs run their factory firmware.
///
/// # Panics
/// When the bench fails.
pub fn on_bench(job: impl FnOnce(&mut Bench) -> anyhow::Result<()>) {
    let _turn = turn();
    let bench = Bench::start(programs(), Options::default());
    let done = bench.and_then(|mut bench| job(&mut bench));
    done.unwrap_or_else(|error| panic!("{error:#}"));
}

/// Plays the scenario `name` with built programs and returns its report, which must be `ok`.
///
/// # Panics
/// When the bench fails or the vehicle does not end as the scenario demands.
pub fn play(name: &str) -> Report {
    let _turn = turn();
    let scenario = scenario::find(name).unwrap_or_else(|error| panic!("{error}"));
    let report = scenario::play(scenario, programs(), Options::default())
        .unwrap_or_else(|error| panic!("{name}: {error:#}"));
    assert!(
        report.ok,
        "{name}: {:#?}\n{}",
        report.failures,
        report.table()
    );
    report
}

/// Nothing was transferred to any ECU, as the logs of the buses say.
///
/// # Panics
/// When something was.
pub fn assert_no_transfer(report: &Report) {
    for ecu in &report.ecus {
        assert!(
            ecu.bytes == 0 && ecu.bus_share.is_none(),
            "{}",
            report.table()
        );
    }
}

/// The programs, built once per test binary.
///
/// # Panics
/// When cargo fails to build them.
pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| Programs::build(false).unwrap_or_else(|error| panic!("{error:#}")))
}

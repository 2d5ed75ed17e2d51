//! Faults: firmware that fails, power that fails, a TCU that dies.

use anyhow::Result;

use super::{Expected, Scenario};
use crate::bench::{Bench, NewApp};
use virtual_ecu::app::Behaviour;

/// The ECU that the faults befall.
const VICTIM: &str = "steering";

pub(super) const TRIAL_CRASH: Scenario = Scenario {
    name: "trial-crash",
    about: "the new firmware of one ECU crashes at start: every ECU returns to the old one",
    play: |bench| failing_trial(bench, Behaviour::Crash),
};

pub(super) const TRIAL_HANG: Scenario = Scenario {
    name: "trial-hang",
    about: "the new firmware of one ECU hangs: its watchdog ends it, every ECU returns to the old one",
    play: |bench| failing_trial(bench, Behaviour::Hang),
};

pub(super) const FACTORY_REVERT: Scenario = Scenario {
    name: "factory-revert",
    about: "an updated ECU loses its firmware to worn flash and starts its factory firmware, limping",
    play: factory_revert,
};

pub(super) const ECU_POWER_CUT: Scenario = Scenario {
    name: "ecu-power-cut",
    about: "one ECU loses power inside a flash operation: the update resumes where it was",
    play: ecu_power_cut,
};

pub(super) const TCU_KILL: Scenario = Scenario {
    name: "tcu-kill",
    about: "the TCU is killed in the middle of flashing and started again: the update resumes",
    play: tcu_kill,
};

fn failing_trial(bench: &mut Bench, behaviour: Behaviour) -> Result<Expected> {
    bench.release("good", &NewApp::good("2.0.0", 2))?;
    bench.install()?;
    bench.release_with("failing", &NewApp::good("3.0.0", 3), VICTIM, behaviour)?;
    bench.install()?;
    Ok(Expected::all("reverted", "reverted", "2.0.0"))
}

fn factory_revert(bench: &mut Bench) -> Result<Expected> {
    bench.release("good", &NewApp::good("2.0.0", 2))?;
    bench.install()?;
    bench.wear_out_running_slot(VICTIM)?;
    let mut expected = Expected::all("completed", "sealed", "2.0.0");
    expected.except.push((VICTIM, "factory", "1.0.0"));
    Ok(expected)
}

fn ecu_power_cut(bench: &mut Bench) -> Result<Expected> {
    bench.release("good", &NewApp::good("2.0.0", 2))?;
    bench.cut_power_at_flash_operation(VICTIM, 14)?;
    bench.install()?;
    Ok(Expected::all("completed", "sealed", "2.0.0"))
}

fn tcu_kill(bench: &mut Bench) -> Result<Expected> {
    bench.release("good", &NewApp::good("2.0.0", 2))?;
    bench.kill_tcu_while_flashing()?;
    bench.install()?;
    Ok(Expected::all("completed", "sealed", "2.0.0"))
}

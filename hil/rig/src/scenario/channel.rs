//! The control channel: the backend says when to look, and is told what became of it.

use anyhow::{Result, ensure};

use super::{Expected, Scenario};
use crate::bench::{Bench, NewApp};

pub(super) const CONTROL_CHANNEL: Scenario = Scenario {
    name: "control-channel",
    about: "over hawkBit's interface: a deployment, a TCU killed on the way, success once sealed",
    play,
};

fn play(bench: &mut Bench) -> Result<Expected> {
    bench.release("by-ddi", &NewApp::good("2.0.0", 2))?;
    let (status, told) = bench.follow_with_a_kill()?;
    ensure!(
        status.code() == Some(0),
        "SIGTERM is an ordinary end: {status}"
    );
    ensure!(told["action"]["campaign"] == "by-ddi", "{told}");
    // One for each phase: activating, awaiting health, sealing, done.
    ensure!(told["reports"] == 4, "each report counts once: {told}");
    Ok(Expected::all("completed", "sealed", "2.0.0"))
}

//! The main job: every ECU gets a new application.

use anyhow::Result;

use super::{Expected, Scenario};
use crate::bench::{Bench, NewApp};

/// How large the new applications are, in bytes.
const SIZE: usize = 400 * 1024;

pub(super) const UPDATE: Scenario = Scenario {
    name: "update",
    about: "six ECUs on two buses get new firmware, try it, confirm it and seal it",
    play,
};

fn play(bench: &mut Bench) -> Result<Expected> {
    bench.release(
        "spring-update",
        &NewApp {
            size: SIZE,
            ..NewApp::good("2.0.0", 2)
        },
    )?;
    bench.install()?;
    Ok(Expected::all("completed", "sealed", "2.0.0"))
}

//! `cargo xtask board`: builds the emulated board and hands over to its host.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process::{cargo, run};
use crate::tally::Tally;
use crate::{cores, needs};

/// How long a run may take, with everything to be built.
const LIMIT: Duration = Duration::from_secs(1200);

/// Builds the board's program and runs the host with its path and `args`.
pub(crate) fn run_host(args: &[String]) -> Result<()> {
    let (deadline, mut tally) = (Instant::now() + LIMIT, Tally::default());
    needs::install(&needs::BOARDS)?;
    let program = cores::board(cores::MPS2_AN386, &["shell"], deadline, &mut tally)?;
    let mut host = cargo(&["run", "--quiet", "--locked", "--package", "board", "--"]);
    host.arg(program).args(args);
    run(host, deadline, &mut tally)
}

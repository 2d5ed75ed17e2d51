//! `cargo xtask board`: builds the emulated board and hands over to its host.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;

use crate::process::{cargo, run};
use crate::tally::Tally;
use crate::{cores, needs};

/// How long a run may take, with everything to be built.
const LIMIT: Duration = Duration::from_secs(1200);

/// An emulated board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum On {
    /// A Cortex-M4F.
    #[value(name = "mps2-an386")]
    Mps2An386,
    /// A Cortex-R5F.
    CortexR5,
}

impl On {
    const fn board(self) -> (&'static str, &'static str) {
        match self {
            Self::Mps2An386 => cores::MPS2_AN386,
            Self::CortexR5 => cores::CORTEX_R5,
        }
    }
}

/// Builds the board's program and runs the host with it and `args`.
pub(crate) fn run_host(on: On, args: &[String]) -> Result<()> {
    let (deadline, mut tally) = (Instant::now() + LIMIT, Tally::default());
    host(on, args, deadline, &mut tally)
}

/// Lets the bootloader enter an application on each board: on a Cortex-M4 one that takes exceptions of
/// its own.
pub(crate) fn enter_application(deadline: Instant, tally: &mut Tally) -> Result<()> {
    let args = ["application".to_owned()];
    host(On::Mps2An386, &args, deadline, tally)?;
    host(On::CortexR5, &args, deadline, tally)
}

fn host(on: On, args: &[String], deadline: Instant, tally: &mut Tally) -> Result<()> {
    needs::install(&needs::BOARDS)?;
    let program = cores::board(on.board(), &["shell"], deadline, tally)?;
    let mut host = cargo(&["run", "--quiet", "--locked", "--package", "board", "--"]);
    host.arg(cores::named(on.board(), &program)).args(args);
    run(host, deadline, tally)
}

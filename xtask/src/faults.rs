//! `cargo xtask faults`: forged ECUs start on the emulated board while instructions are skipped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::process::{cargo, program, run, succeeds};
use crate::tally::Tally;
use crate::{cores, needs, paths};

/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(4 * 3600);
/// The feature of the variant that must fall.
const SINGLE_CHECKS: &str = "ecu-bootloader/single-checks";
/// The campaign's program and what it needs from PyPI.
const CAMPAIGN: &str = "hil/faults/campaign.py";
const REQUIREMENTS: &str = "hil/faults/requirements.txt";

/// What is asked for on the command line.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Writes the results to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Tries a seeded sample of the faults, in about two minutes.
    #[arg(long)]
    quick: bool,
    /// Only these forgeries; without any, all.
    #[arg(value_name = "FORGERY")]
    forgeries: Vec<String>,
}

/// Builds both variants, makes the forgeries and runs the campaign.
pub(crate) fn faults(options: &Options) -> Result<()> {
    let (deadline, mut tally) = (Instant::now() + LIMIT, Tally::default());
    needs::install(&needs::FAULTS)?;
    needs::install(&needs::BOARDS)?;
    let python = make_venv(deadline, &mut tally)?;
    let hardened = cores::board(cores::MPS2_AN386, &["shell"], deadline, &mut tally)?;
    let single = cores::board(
        cores::MPS2_AN386,
        &["shell", SINGLE_CHECKS],
        deadline,
        &mut tally,
    )?;
    let cases = paths::target().join("faults/cases");
    let mut make = cargo(&["run", "--quiet", "--locked", "--package", "faults", "--"]);
    let hardened_program = cores::named(cores::MPS2_AN386, &hardened);
    make.arg(&cases).args(["--program", &hardened_program]);
    run(make, deadline, &mut tally)?;
    let mut campaign = program(&python.to_string_lossy(), &[CAMPAIGN]);
    campaign.arg(&hardened).arg(&single).arg(&cases);
    if options.quick {
        campaign.arg("--quick");
    }
    if let Some(file) = &options.json {
        campaign.arg("--json").arg(std::path::absolute(file)?);
    }
    campaign.args(&options.forgeries);
    run(campaign, deadline, &mut tally)
}

/// Makes a Python environment with what the campaign needs, once.
fn make_venv(deadline: Instant, tally: &mut Tally) -> Result<PathBuf> {
    let venv = paths::target().join("faults/venv");
    let python = venv.join("bin/python");
    let wanted = std::fs::read_to_string(paths::root().join(REQUIREMENTS))?;
    let stamp = venv.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    let mut make = program("/usr/bin/python3", &["-m", "venv", "--clear"]);
    make.arg(&venv);
    run(make, deadline, tally)?;
    let mut install = program(
        &venv.join("bin/pip").to_string_lossy(),
        &["install", "--quiet", "--no-input", "--requirement"],
    );
    install.arg(paths::root().join(REQUIREMENTS));
    run(install, deadline, tally)?;
    if !succeeds(import(&python)) {
        bail!("Unicorn does not start in {}", venv.display());
    }
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

fn import(python: &Path) -> std::process::Command {
    program(&python.to_string_lossy(), &["-c", "import unicorn"])
}

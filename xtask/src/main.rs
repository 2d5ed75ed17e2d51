//! The chores of the workspace; see `cargo xtask --help`.
#![forbid(unsafe_code)]

mod audit;
mod board;
mod cores;
mod demo;
mod faults;
mod footprint;
mod hil;
mod needs;
mod package;
mod parts;
mod paths;
mod process;
mod proof;
mod runner;
mod suites;
mod tally;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::parts::Part;

/// The chores of the Canopus workspace.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:\n  \
        cargo xtask demo                        six ECUs get new firmware, in about two minutes\n  \
        cargo xtask demo --scenario trial-hang  one of the fault scenarios\n  \
        cargo xtask test                        everything that CI runs\n  \
        cargo xtask test --no-hil               the same without the Linux guest\n  \
        cargo xtask test --part fmt --part unit two parts only\n  \
        cargo xtask hil isotp-matrix            one case in the Linux guest\n  \
        cargo xtask hil kills guest-kill --seed 7 --json counts.json\n  \
        cargo xtask powercut --json counts.json every power cut; takes minutes\n  \
        cargo xtask chaos --json counts.json    every interruption of an update of a whole vehicle\n  \
        cargo xtask package --install           the Debian package, tried in a fresh root\n\n\
        Exit codes: 0 all is well, 1 something failed, 2 wrong usage."
)]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Plays the main job or a scenario on six ECU processes and two buses; needs no root.
    #[command(disable_help_flag = true)]
    Demo {
        /// Passed to the bench: `--list`, `--scenario NAME`, `--json FILE`, ...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measures the TCU's peak memory while it flashes sixteen ECUs; fails where it passes its goal.
    #[command(disable_help_flag = true)]
    Bench {
        /// Passed to the bench: `--json FILE`, `--app-size BYTES`, ...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs all checks and tests; installs the Debian packages that they need.
    Test {
        /// Leaves the Linux guest out.
        #[arg(long)]
        no_hil: bool,
        /// Runs only this part; may be given several times.
        #[arg(long = "part", value_name = "NAME")]
        parts: Vec<Part>,
    },
    /// Runs cases on the kernel's own CAN, in a Linux guest under QEMU.
    Hil {
        /// The cases to run; without any, all.
        cases: Vec<String>,
        /// Lists the cases and ends.
        #[arg(long)]
        list: bool,
        /// Chooses the moments at which processes and the guest are killed.
        #[arg(long, default_value_t = 1, value_name = "N")]
        seed: u64,
        /// Writes the results and what the cases counted to FILE as JSON.
        #[arg(long, value_name = "FILE", conflicts_with = "script")]
        json: Option<std::path::PathBuf>,
        /// Runs this script in the guest instead of the cases.
        #[arg(long, value_name = "FILE", conflicts_with = "cases")]
        script: Option<std::path::PathBuf>,
    },
    /// Builds the emulated board and plays on it; `board --help` has the commands.
    #[command(disable_help_flag = true)]
    Board {
        /// The board; this option comes first.
        #[arg(long, value_enum, default_value_t = board::On::Mps2An386)]
        on: board::On,
        /// Passed on: `update`, `snapshot DIR`, ...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Cuts an ECU's power at every flash operation of its life.
    #[command(disable_help_flag = true)]
    Powercut {
        /// Passed to the proof: `--json FILE`, `--quick`, `--bug NAME`, ...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Interrupts the update of a vehicle everywhere: TCU, journal, frames, buses, every ECU.
    #[command(disable_help_flag = true)]
    Chaos {
        /// Passed to the proof: `--json FILE`, `--quick`, `--pairs N`, `--bug NAME`, ...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Skips instructions while forged ECUs start: none may boot. Takes half an hour of a processor without `--quick`.
    Faults(faults::Options),
    /// Measures the bootloader on its bare-metal targets; fails where it passes its goal.
    Footprint {
        /// Writes the report to this file.
        #[arg(long, value_name = "FILE")]
        json: Option<std::path::PathBuf>,
    },
    /// Makes the Debian package of the telematics unit and runs what is in it.
    Package(package::Options),
    /// Looks the dependencies up in the RustSec advisory database; needs network access to it.
    Audit,
    /// Runs the TUF conformance suite, of which `TUF_CONFORMANCE` names a checkout, against the
    /// verifier of the vehicles; needs `faketime`, and PyPI for the suite's own packages.
    TufConformance,
    /// Runs the Uptane vectors, of which `UPTANE_VECTORS` names a checkout, against the same; needs
    /// PyPI for what writes them.
    UptaneVectors,
    /// Installs the Debian packages that `test` needs, and nothing else.
    Setup {
        /// Leaves out what only the Linux guest needs.
        #[arg(long)]
        no_hil: bool,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().chore {
        Chore::Demo { args } => return demo::run(&args),
        Chore::Bench { args } => return demo::memory(&args),
        Chore::Powercut { args } => return proof::run("powercut", &args),
        Chore::Chaos { args } => return proof::run("chaos", &args),
        Chore::Test { no_hil, parts } => runner::run(&parts, no_hil),
        Chore::Hil { list: true, .. } => hil::list(),
        Chore::Hil {
            script: Some(script),
            ..
        } => hil::run_script(&script),
        Chore::Hil {
            cases, seed, json, ..
        } => hil::run(&cases, seed, json.as_deref()),
        Chore::Board { on, args } => board::run_host(on, &args),
        Chore::Faults(options) => faults::faults(&options),
        Chore::Footprint { json } => footprint::with_features(json.as_deref()),
        Chore::Package(options) => package::run(&options),
        Chore::Audit => audit::run(),
        Chore::TufConformance => suites::tuf_conformance(),
        Chore::UptaneVectors => suites::uptane_vectors(),
        Chore::Setup { no_hil } => needs::install_all(!no_hil),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

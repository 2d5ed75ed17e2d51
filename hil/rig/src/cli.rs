//! The command line of `rig`, which `cargo xtask demo` passes its arguments to.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::bench::{Links, Options};
use crate::memory;
use crate::programs::Programs;
use crate::scenario::{self, Scenario};

/// Plays the main job, or a fault or attack, on a vehicle of six ECU processes and two CAN buses.
#[derive(Debug, Parser)]
#[command(
    name = "rig",
    version,
    after_help = "Examples:\n  \
        rig                              the main job: six ECUs get new firmware\n  \
        rig --list                       the names of all scenarios\n  \
        rig --scenario trial-crash       one scenario\n  \
        rig --scenario all --json r.json all of them, results as JSON lines\n  \
        rig --links vcan0,vcan1 --transport kernel\n\n\
        Exit codes: 0 the vehicle ended as the scenario demands, 1 it did not, 2 usage,\n\
        3 the bench itself failed."
)]
struct Args {
    /// The scenario to play, or `all`.
    #[arg(long, default_value = "update", value_name = "NAME")]
    scenario: String,
    /// Lists the scenarios and ends.
    #[arg(long)]
    list: bool,
    /// Writes the result to FILE as JSON; one line per scenario.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// CAN interfaces of the kernel instead of the user-space bus: classical, then FD.
    #[arg(long, value_name = "IF,IF", value_delimiter = ',')]
    links: Vec<String>,
    /// The TCU's ISO-TP: ours or the kernel's.
    #[arg(long, default_value = "isotp", value_parser = ["isotp", "kernel"])]
    transport: String,
    /// Where the built programs are; without it they are built first.
    #[arg(long, value_name = "DIR", requires = "app")]
    bin_dir: Option<PathBuf>,
    /// The built ECU application.
    #[arg(long, value_name = "FILE", requires = "bin_dir")]
    app: Option<PathBuf>,
    /// Keeps all files of the run in DIR.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Size of the new applications in bytes, for slow machines.
    #[arg(long, value_name = "BYTES")]
    app_size: Option<usize>,
    /// Multiplies every time limit, for slow machines.
    #[arg(long, default_value_t = 1, value_name = "N")]
    patience: u32,
    /// Says only the result.
    #[arg(long)]
    quiet: bool,
    /// Measures the TCU's memory while it flashes so many ECUs, at most sixteen, instead of a
    /// scenario; the programs are built with optimisation unless `--bin-dir` names them.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "16")]
    memory: Option<usize>,
}

/// Parses the arguments, plays, and returns the documented exit code.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let plan = match plan(&args) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("rig: {error:#}");
            return ExitCode::from(2);
        }
    };
    let done = match args.memory {
        Some(ecus) => memory(&args, ecus, plan.1),
        None => play(&args, plan),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("rig: {error:#}");
            ExitCode::from(3)
        }
    }
}

/// What is to be played, and on which bench.
fn plan(args: &Args) -> Result<(Vec<Scenario>, Options)> {
    let scenarios = match args.scenario.as_str() {
        "all" => scenario::ALL.to_vec(),
        name => vec![scenario::find(name)?],
    };
    Ok((scenarios, options(args)?))
}

fn play(args: &Args, (scenarios, options): (Vec<Scenario>, Options)) -> Result<bool> {
    if args.list {
        for scenario in scenario::ALL {
            println!("{:18} {}", scenario.name, scenario.about);
        }
        return Ok(true);
    }
    let programs = match (&args.bin_dir, &args.app) {
        (Some(bin_dir), Some(app)) => Programs::at(bin_dir, app)?,
        _ => {
            println!("- building the programs; the first time this takes some minutes");
            Programs::build(false)?
        }
    };
    let mut all_ok = true;
    let mut lines = String::new();
    for scenario in scenarios {
        let report = scenario::play(scenario, &programs, options.clone())?;
        println!(
            "\n{}: campaign {} {}",
            scenario.name, report.campaign.id, report.campaign.state
        );
        println!("{}", report.table());
        for failure in &report.failures {
            println!("NOT AS DEMANDED: {failure}");
        }
        println!(
            "{} {}",
            if report.ok { "ok" } else { "FAILED" },
            scenario.name
        );
        all_ok &= report.ok;
        lines.push_str(&serde_json::to_string(&report)?);
        lines.push('\n');
    }
    if let Some(path) = &args.json {
        std::fs::write(path, lines).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(all_ok)
}

fn memory(args: &Args, ecus: usize, options: Options) -> Result<bool> {
    let (programs, profile) = match (&args.bin_dir, &args.app) {
        (Some(bin_dir), Some(app)) => {
            let release = bin_dir.ends_with("release");
            let profile = if release { "release" } else { "debug" };
            (Programs::at(bin_dir, app)?, profile)
        }
        _ => (Programs::build(true)?, "release"),
    };
    let memory = memory::measure(&programs, profile, Options { ecus, ..options })?;
    let mib = memory.peak_rss_kib / 1024;
    println!("the TCU had at most {mib} MiB while it flashed {ecus} ECUs ({profile} build)");
    let line = serde_json::to_string(&memory)?;
    match &args.json {
        Some(path) => std::fs::write(path, line + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?,
        None => println!("{line}"),
    }
    Ok(memory.ok)
}

fn options(args: &Args) -> Result<Options> {
    let links = match args.links.as_slice() {
        [] => Links::UserSpace,
        [classical, fd] => Links::Kernel([classical.clone(), fd.clone()]),
        other => anyhow::bail!(
            "--links takes two interfaces, classical and FD; got {}",
            other.len()
        ),
    };
    Ok(Options {
        links,
        transport: args.transport.clone(),
        keep: args.keep.clone(),
        app_size: args.app_size,
        patience: args.patience.max(1),
        quiet: args.quiet,
        ..Options::default()
    })
}

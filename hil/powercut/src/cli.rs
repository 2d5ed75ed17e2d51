//! The command line, which `cargo xtask powercut` passes its arguments to.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::life::{Life, PAGES};
use crate::proof::{Pairs, Plan, Tally, Torn, run};

/// Cuts the power at every flash operation of an ECU's whole life, and at pairs of them.
#[derive(Debug, Parser)]
#[command(
    name = "powercut",
    bin_name = "cargo xtask powercut",
    after_help = "Examples:\n  \
        cargo xtask powercut --json p.json    every cut, pairs complete on the smallest geometry\n  \
        cargo xtask powercut --quick          a fixed dozen of torn variants, few pairs\n  \
        cargo xtask powercut --geometry mixed one geometry, by a part of its name\n  \
        cargo xtask powercut --bug blank-sector\n\
        \x20                                       what one deliberate bug leads to\n\n\
        Exit codes: 0 nothing was violated, 1 something was, or the program failed, 2 usage."
)]
struct Args {
    /// Writes the counts to FILE as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only the geometries with NAME in their names; may be given several times.
    #[arg(long = "geometry", value_name = "NAME")]
    geometries: Vec<String>,
    /// Only the fixed dozen of torn variants of each operation, and a tenth of the pairs.
    #[arg(long)]
    quick: bool,
    /// How many prefixes and how many missing bits of one operation at most; by default all on the
    /// smallest geometry and 64 on the others.
    #[arg(long, value_name = "N")]
    tears: Option<u32>,
    /// About how many pairs of cuts; by default all on the smallest geometry and 20000 on the
    /// others.
    #[arg(long, value_name = "N")]
    pairs: Option<u64>,
    /// Chooses samples and the luck of marginal bits.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Threads; by default one for each processor.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Gives the bootloader a deliberate bug and ends at the first violation.
    #[arg(long, value_name = "NAME", value_parser = bug_names())]
    bug: Option<String>,
}

#[cfg(feature = "deliberate-bugs")]
fn bug_names() -> Vec<&'static str> {
    ecu_bootloader::bugs::Bug::ALL.map(|(name, _)| name).into()
}

#[cfg(feature = "deliberate-bugs")]
fn choose(name: &str) {
    let bugs = ecu_bootloader::bugs::Bug::ALL.into_iter();
    ecu_bootloader::bugs::choose(bugs.into_iter().find(|bug| bug.0 == name).map(|bug| bug.1));
}

/// Built without bugs there are none to choose.
#[cfg(not(feature = "deliberate-bugs"))]
fn bug_names() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(not(feature = "deliberate-bugs"))]
fn choose(_name: &str) {}

impl Args {
    /// What is run on the `index`th geometry; the first is the smallest.
    fn plan(&self, index: usize) -> Plan {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let smallest = index == 0;
        let tears = self.tears.unwrap_or(if smallest { u32::MAX } else { 64 });
        let sample = self.pairs.unwrap_or(20_000);
        Plan {
            torn: if self.quick || self.bug.is_some() {
                Torn::Fixed
            } else {
                Torn::Spread {
                    prefixes: tears,
                    bits: tears,
                }
            },
            pairs: match self.bug {
                Some(_) => Pairs::None,
                None if self.quick => Pairs::Sample(sample / 10),
                None if smallest && self.pairs.is_none() => Pairs::All,
                None => Pairs::Sample(sample),
            },
            seed: self.seed,
            threads: self.threads.unwrap_or(threads),
            first_only: self.bug.is_some(),
        }
    }

    fn wants(&self, life: &Life) -> bool {
        self.geometries.is_empty() || self.geometries.iter().any(|name| life.name.contains(name))
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    match prove(&args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("powercut: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what is asked for; the number of violations.
fn prove(args: &Args) -> Result<u64> {
    let start = Instant::now();
    if let Some(bug) = &args.bug {
        choose(bug);
    }
    println!("seed {}", args.seed);
    let mut geometries = Vec::new();
    let mut violations = 0;
    for (index, life) in Life::all().iter().enumerate() {
        if !args.wants(life) {
            continue;
        }
        let bar = bar(life.name);
        let progress = |done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        };
        let tally = run(life, &args.plan(index), &progress);
        bar.finish_and_clear();
        let tally = tally.map_err(anyhow::Error::msg).context(life.name)?;
        report(life, &tally, start);
        violations += tally.violations;
        geometries.push(json!({
            "name": life.name,
            "image_pages": PAGES,
            "operations": tally.operations,
            "single": tally.single,
            "torn": tally.torn,
            "unread": tally.unread,
            "pairs": tally.pairs,
            "violations": tally.violations,
        }));
        if args.bug.is_some() && violations > 0 {
            break;
        }
    }
    let seconds = start.elapsed().as_secs();
    if let Some(path) = &args.json {
        let report = json!({ "geometries": geometries, "seconds": seconds, "seed": args.seed });
        std::fs::write(path, format!("{report:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{violations} violations in {seconds} s");
    Ok(violations)
}

/// Shown on a terminal only.
fn bar(name: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{prefix:32} {bar:40} {pos:>4} of {len} operations, {elapsed}, {eta} left";
    let style = ProgressStyle::with_template(style);
    ProgressBar::new(1)
        .with_prefix(name)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn report(life: &Life, tally: &Tally, start: Instant) {
    println!(
        "{}: {} operations; {} cuts before or after one, {} inside, {} more that nothing read; \
         {} pairs; {} violations ({} s)",
        life.name,
        tally.operations,
        tally.single,
        tally.torn,
        tally.unread,
        tally.pairs,
        tally.violations,
        start.elapsed().as_secs(),
    );
    for example in &tally.examples {
        println!("  {example}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn all_is_run_on_the_smallest_geometry_only() {
        let args = Args::parse_from(["powercut"]);
        assert_eq!(args.plan(0).pairs, Pairs::All);
        assert_eq!(args.plan(1).pairs, Pairs::Sample(20_000));
        let quick = Args::parse_from(["powercut", "--quick"]);
        assert_eq!(quick.plan(0).torn, Torn::Fixed);
    }
}

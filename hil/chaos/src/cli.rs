//! The command line, which `cargo xtask chaos` passes its arguments to.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::json;

use crate::kills::{self, Killed};
use crate::proof::{ECUS, PAGE, PAGES, Plan, RESENT_BOUND, Setup, Tally, run};

/// Interrupts a campaign of three ECUs on two buses everywhere, and at pairs of places.
#[derive(Debug, Parser)]
#[command(
    name = "chaos",
    bin_name = "cargo xtask chaos",
    after_help = "Examples:\n  \
        cargo xtask chaos --json c.json   every interruption, 56000 pairs, 200 killed processes\n  \
        cargo xtask chaos --quick         a sample of each, in about a minute\n  \
        cargo xtask chaos --kills 0       the part in virtual time alone\n  \
        cargo xtask chaos --bug synchronous-off\n\
        \x20                                   what one deliberate bug leads to\n\n\
        Exit codes: 0 nothing was violated, 1 something was, or the program failed, 2 usage."
)]
struct Args {
    /// Writes the counts to FILE as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// One of forty single interruptions, 500 pairs and 4 killed processes.
    #[arg(long)]
    quick: bool,
    /// How many pairs of interruptions; 56000 by default, of which more than 50000 count.
    #[arg(long, value_name = "N")]
    pairs: Option<usize>,
    /// How many processes are killed; 200 by default.
    #[arg(long, value_name = "N")]
    kills: Option<u32>,
    /// Chooses samples, pairs, what a lost disk keeps and when processes are killed.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Threads; by default one for each processor.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Gives the TCU a deliberate bug and ends at the first violation.
    #[arg(long, value_name = "NAME", value_parser = bug_names())]
    bug: Option<String>,
}

#[cfg(feature = "deliberate-bugs")]
fn bug_names() -> Vec<&'static str> {
    tcu::bugs::Bug::ALL.map(|(name, _)| name).into()
}

#[cfg(feature = "deliberate-bugs")]
fn choose(name: &str) {
    let bugs = tcu::bugs::Bug::ALL.into_iter();
    tcu::bugs::choose(bugs.into_iter().find(|bug| bug.0 == name).map(|bug| bug.1));
}

/// Built without bugs there are none to choose.
#[cfg(not(feature = "deliberate-bugs"))]
fn bug_names() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(not(feature = "deliberate-bugs"))]
fn choose(_name: &str) {}

impl Args {
    fn plan(&self) -> Plan {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let pairs = match (&self.bug, self.quick) {
            (Some(_), _) => 0,
            (None, true) => 500,
            // In one of twelve the second comes too late to count.
            (None, false) => 56_000,
        };
        Plan {
            one_of: if self.quick { 40 } else { 1 },
            pairs: self.pairs.unwrap_or(pairs),
            seed: self.seed,
            threads: self.threads.unwrap_or(threads),
            first_only: self.bug.is_some(),
        }
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    match prove(&Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what is asked for; the number of violations.
fn prove(args: &Args) -> Result<usize> {
    let start = Instant::now();
    println!("seed {}", args.seed);
    let setup = Setup::new(args.seed);
    if let Some(bug) = &args.bug {
        choose(bug);
    }
    let shown = std::io::stderr().is_terminal();
    let progress = |done: usize, all: usize| {
        let seconds = start.elapsed().as_secs();
        match shown {
            true if done.is_multiple_of(100) => eprint!("\r{done} of {all} runs, {seconds} s "),
            // A log has a line now and then.
            false if done.is_multiple_of(5000) => eprintln!("{done} of {all} runs, {seconds} s"),
            _ => {}
        }
    };
    let tally = run(&setup, &args.plan(), &progress).map_err(anyhow::Error::msg)?;
    report(&tally);
    let killed = kill(args)?;
    if let Some(path) = &args.json {
        let report = counts(&tally, &killed, args.seed, start.elapsed().as_secs());
        std::fs::write(path, format!("{report:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let violations = tally.violations + killed.violations.len();
    println!("{violations} violations in {} s", start.elapsed().as_secs());
    Ok(violations)
}

/// Processes, unless a bug is looked for in virtual time.
fn kill(args: &Args) -> Result<Killed> {
    let kills = match (&args.bug, args.quick) {
        (Some(_), _) => 0,
        (None, true) => 4,
        (None, false) => 200,
    };
    let kills = args.kills.unwrap_or(kills);
    if kills == 0 {
        return Ok(Killed::default());
    }
    println!("killing {kills} processes on the user-space bus");
    let progress = |done| println!("  {done} killed");
    let killed = kills::run(kills, args.seed, !cfg!(debug_assertions), &progress)?;
    println!(
        "{} processes killed in {} campaigns, {} violations",
        killed.kills,
        killed.campaigns,
        killed.violations.len()
    );
    for violation in &killed.violations {
        println!("  {violation}");
    }
    Ok(killed)
}

fn pages(bytes: f64) -> f64 {
    (bytes / f64::from(PAGE) * 1000.0).round() / 1000.0
}

fn counts(tally: &Tally, killed: &Killed, seed: u64, seconds: u64) -> serde_json::Value {
    json!({
        "ecus": ECUS,
        "image_pages": PAGES,
        "single": tally.single,
        "pairs": tally.pairs,
        "pairs_too_late": tally.too_late,
        "process_kills": killed.kills,
        "violations": tally.violations + killed.violations.len(),
        "resent_pages_worst": pages(tally.resent_worst),
        "resent_pages_mean": pages(tally.resent_mean()),
        "resent_pages_bound": RESENT_BOUND,
        "completed": tally.completed,
        "reverted": tally.reverted,
        "virtual_hours": tally.time.as_secs() / 3600,
        "seconds": seconds,
        "seed": seed,
    })
}

fn report(tally: &Tally) {
    println!(
        "\r{} single interruptions, {} pairs, {} more whose second came too late: {} campaigns \
         completed, {} reverted, in {} h of virtual time",
        tally.single,
        tally.pairs,
        tally.too_late,
        tally.completed,
        tally.reverted,
        tally.time.as_secs() / 3600,
    );
    println!(
        "pages sent again, per interruption and ECU: {} at most, {} on average, {RESENT_BOUND} allowed",
        pages(tally.resent_worst),
        pages(tally.resent_mean()),
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
    fn all_is_run_by_default() {
        let plan = Args::parse_from(["chaos"]).plan();
        assert_eq!((plan.one_of, plan.pairs), (1, 56_000));
    }
}

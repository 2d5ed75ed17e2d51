//! Plays on the emulated board, and writes the memory of ECUs for other emulators.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use board::footprint::{self, Measured, Size};
use board::images::{self, Recipe};
use board::keys::{Keys, Mode};
use board::qemu::{Processor, Program};
use board::tester::Bench;
use clap::{Parser, Subcommand};
use ecu_bootloader::layout::SlotId;

/// Bits of the image key.
const BITS: usize = 3072;

/// The bootloader on an emulated board.
#[derive(Debug, Parser)]
struct Args {
    /// The board's program: TARGET=FILE, an ELF file.
    #[arg(value_name = "TARGET=FILE")]
    program: Program,
    /// From what the keys are made: the same seed, the same run.
    #[arg(long, default_value_t = 1, global = true)]
    seed: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A whole update under QEMU, and what it cost.
    Update {
        /// Bytes of the new image.
        #[arg(long, default_value_t = 65536)]
        len: usize,
    },
    /// Boots an application: on a Cortex-M4 one that takes exceptions through its own vector table.
    Application,
    /// Measures flash, RAM, stack and instructions.
    Footprint {
        /// A program without the shell: TARGET=FILE.
        #[arg(long = "target", value_name = "TARGET=FILE")]
        targets: Vec<String>,
        /// Another program with the shell: TARGET=FILE.
        #[arg(long = "also", value_name = "TARGET=FILE")]
        others: Vec<Program>,
        /// A program without the shell, with one more feature: FEATURE=FILE.
        #[arg(long = "feature", value_name = "FEATURE=FILE")]
        features: Vec<String>,
        /// Bytes of the stack that the linker script gives the program with the shell.
        #[arg(long)]
        stack: u64,
        /// The folder with the fuzz targets' seeds.
        #[arg(long)]
        corpora: PathBuf,
        /// Writes the report to this file.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Writes `flash` and `provision` of an updated ECU, for a start to the boot decision.
    Snapshot {
        /// The folder.
        out: PathBuf,
        /// Bytes of the image.
        #[arg(long, default_value_t = 4096)]
        len: usize,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let keys = Keys::generate(args.seed, BITS)?;
    match args.command {
        Command::Update { len } => {
            let mut bench = updated(&args.program, &keys, len)?;
            let update = std::mem::take(&mut bench.instructions);
            bench.reset(0, &[])?;
            println!(
                "{{\"report\": \"{:#010x}\", \"update\": {update}, \"boot\": {}, \"free_stack\": {}}}",
                bench.event, bench.instructions, bench.free_stack
            );
        }
        Command::Application => application(&args.program, &keys)?,
        Command::Footprint {
            targets,
            others,
            features,
            stack,
            corpora,
            json,
        } => {
            let (targets, features) = (sizes(&targets)?, sizes(&features)?);
            let mut measured = Vec::new();
            for program in std::iter::once(&args.program).chain(&others) {
                let target = program.processor.target();
                let size = targets.iter().find(|(name, _)| name == target);
                let (_, size) = size.with_context(|| format!("no size of {target}"))?;
                let runs = footprint::runs(program, &keys, stack, &corpora)?;
                let (target, size) = (target.to_owned(), *size);
                measured.push(Measured { target, size, runs });
            }
            ensure!(measured.len() == targets.len(), "a target was not run");
            let report = footprint::report(&measured, &features);
            let report = serde_json::to_string_pretty(&report)?;
            match json {
                Some(file) => std::fs::write(file, report)?,
                None => println!("{report}"),
            }
            let excess = footprint::excess(&measured, footprint::GOAL);
            ensure!(excess.is_empty(), "{}", excess.join("\n"));
        }
        Command::Snapshot { out, len } => {
            let mut bench = updated(&args.program, &keys, len)?;
            std::fs::create_dir_all(&out)?;
            std::fs::write(out.join("flash"), bench.flash()?)?;
            std::fs::write(out.join("provision"), keys.provision(Mode::Boot, 0, 2))?;
        }
    }
    Ok(())
}

/// The bootloader enters its factory firmware, which ends the emulator; on a Cortex-M4 from a handler
/// of its own.
fn application(program: &Program, keys: &Keys) -> Result<()> {
    let map = board::flash::map()?;
    let slot = map.slot(SlotId::Factory).context("no factory slot")?;
    let mut recipe = Recipe::new(1, 0);
    recipe.program = Some(match program.processor {
        Processor::CortexM4 => images::takes_exceptions(slot.payload.address),
        Processor::CortexR5 => images::ends(),
    });
    let flash = board::flash::provisioned(keys, &recipe.make(keys, keys)?, 1)?;
    let provision = keys.provision(Mode::Boot, 0, 1);
    let status = board::qemu::run_to_end(program, &flash, &provision)?;
    ensure!(status.success(), "the application ended with {status}");
    println!("the application ran on {:?}", program.processor);
    Ok(())
}

/// Measures files that are given as NAME=FILE.
fn sizes(named: &[String]) -> Result<Vec<(String, Size)>> {
    let sizes = named.iter().map(|named| {
        let (name, file) = named.split_once('=').context("not NAME=FILE")?;
        Ok((name.to_owned(), footprint::size(file.as_ref())?))
    });
    sizes.collect()
}

fn updated(program: &Program, keys: &Keys, len: usize) -> Result<Bench> {
    let factory = Recipe::new(1, 4096).make(keys, keys)?;
    let flash = board::flash::provisioned(keys, &factory, 1)?;
    let mut bench = Bench::start(program, keys, &flash)?;
    bench.update(&Recipe::new(2, len).make(keys, keys)?)?;
    Ok(bench)
}

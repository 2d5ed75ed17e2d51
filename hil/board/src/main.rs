//! Plays on the emulated board, and writes the memory of ECUs for other emulators.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use board::footprint::{self, Limits, Size};
use board::images::Recipe;
use board::keys::{Keys, Mode};
use board::tester::Bench;
use clap::{Parser, Subcommand};

/// Bits of the image key.
const BITS: usize = 3072;

/// The bootloader on an emulated board.
#[derive(Debug, Parser)]
struct Args {
    /// The board's ELF file.
    program: PathBuf,
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
    /// Measures flash, RAM, stack and instructions.
    Footprint {
        /// A program without the shell: TARGET=FILE.
        #[arg(long = "target", value_name = "TARGET=FILE")]
        targets: Vec<String>,
        /// The target on which the program with the shell runs.
        #[arg(long)]
        measured_on: String,
        /// A program without the shell, with one more feature: FEATURE=FILE.
        #[arg(long = "feature", value_name = "FEATURE=FILE")]
        features: Vec<String>,
        /// Bytes of the stack that the linker script gives the program with the shell.
        #[arg(long)]
        stack: u64,
        /// The folder with the fuzz targets' seeds.
        #[arg(long)]
        corpora: PathBuf,
        /// Holds the figures against these limits instead of the goal: flash, cryptography, RAM.
        #[arg(long, num_args = 3)]
        limits: Option<Vec<u64>>,
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
        Command::Footprint {
            targets,
            measured_on,
            features,
            stack,
            corpora,
            limits,
            json,
        } => {
            let (targets, features) = (sizes(&targets)?, sizes(&features)?);
            let runs = footprint::runs(&args.program, &keys, stack, &corpora)?;
            let report = footprint::report(&targets, &measured_on, &runs, &features);
            let report = serde_json::to_string_pretty(&report)?;
            match json {
                Some(file) => std::fs::write(file, report)?,
                None => println!("{report}"),
            }
            let limits = match limits.as_deref() {
                Some(&[flash, crypto_flash, ram]) => Limits {
                    flash,
                    crypto_flash,
                    ram,
                },
                _ => footprint::GOAL,
            };
            let excess = footprint::excess(&targets, &runs, limits);
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

/// Measures files that are given as NAME=FILE.
fn sizes(named: &[String]) -> Result<Vec<(String, Size)>> {
    let sizes = named.iter().map(|named| {
        let (name, file) = named.split_once('=').context("not NAME=FILE")?;
        Ok((name.to_owned(), footprint::size(file.as_ref())?))
    });
    sizes.collect()
}

fn updated(program: &Path, keys: &Keys, len: usize) -> Result<Bench> {
    let factory = Recipe::new(1, 4096).make(keys, keys)?;
    let flash = board::flash::provisioned(keys, &factory, 1)?;
    let mut bench = Bench::start(program, keys, &flash)?;
    bench.update(&Recipe::new(2, len).make(keys, keys)?)?;
    Ok(bench)
}

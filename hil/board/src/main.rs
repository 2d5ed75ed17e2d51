//! Plays on the emulated board, and writes the memory of ECUs for other emulators.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use anyhow::Result;
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
        Command::Snapshot { out, len } => {
            let mut bench = updated(&args.program, &keys, len)?;
            std::fs::create_dir_all(&out)?;
            std::fs::write(out.join("flash"), bench.flash()?)?;
            std::fs::write(out.join("provision"), keys.provision(Mode::Boot, 0, 2))?;
        }
    }
    Ok(())
}

fn updated(program: &Path, keys: &Keys, len: usize) -> Result<Bench> {
    let factory = Recipe::new(1, 4096).make(keys, keys)?;
    let flash = board::flash::provisioned(keys, &factory, 1)?;
    let mut bench = Bench::start(program, keys, &flash)?;
    bench.update(&Recipe::new(2, len).make(keys, keys)?)?;
    Ok(bench)
}

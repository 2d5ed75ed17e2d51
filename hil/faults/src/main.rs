//! Writes the memory of ECUs on the eve of a boot: a genuine one, and forgeries that are right in
//! everything but one thing. `campaign.py` starts them and skips instructions; what it is for:
//! `docs/spec/faults.md`.
#![forbid(unsafe_code)]

mod cases;
mod memory;
mod rejects;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use board::keys::Keys;
use board::qemu::Program;
use board_shell::machine::FLASH_LEN;
use clap::Parser;

/// Bits of the image key: the default profile's.
const BITS: usize = 3072;

/// Writes `NAME.flash` and `NAME.provision` for each case, `layout` (bytes of the
/// flash, address of slot A's payload) and `rejects`.
#[derive(Debug, Parser)]
struct Args {
    /// The folder.
    out: PathBuf,
    /// The board's program: also runs it under QEMU and writes what it takes to refuse.
    #[arg(long, value_name = "TARGET=FILE")]
    program: Option<Program>,
    /// From what the keys are made: the same seed, the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let keys = Keys::generate(args.seed, BITS)?;
    let stranger = Keys::generate(args.seed.wrapping_add(1), BITS)?;
    std::fs::create_dir_all(&args.out)?;
    for case in cases::all(&keys, &stranger)? {
        for (ending, bytes) in [("flash", &case.flash), ("provision", &case.provision)] {
            let path = args.out.join(format!("{}.{ending}", case.name));
            std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
    }
    let layout = format!("{FLASH_LEN} {}\n", memory::payload_address()?);
    std::fs::write(args.out.join("layout"), layout)?;
    if let Some(program) = &args.program {
        let counts = rejects::count(program, &keys)?;
        let lines = counts
            .iter()
            .map(|(stage, at, count)| format!("{stage} {at} {count}\n"));
        std::fs::write(args.out.join("rejects"), lines.collect::<String>())?;
    }
    Ok(())
}

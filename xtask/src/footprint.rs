//! `cargo xtask footprint`: builds the bootloader for its bare-metal targets and measures it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cores::{self, CORTEX_R5, MPS2_AN386};
use crate::needs;
use crate::process::{cargo, run};
use crate::tally::Tally;

/// How long it may take with everything to be built.
const LIMIT: Duration = Duration::from_secs(1800);

/// Bytes of the stack in the linker script of the emulated board.
const STACK: u64 = 0x10000;

/// Features beyond the default profile.
const FEATURES: [&str; 7] = [
    "aes-256",
    "attestation",
    "authentication",
    "ecdsa-p256",
    "key-set-update",
    "parallel-aes",
    "rsa-4096",
];

/// What the tests hold the bootloader to, until it fits the goal: flash, cryptography, RAM.
pub(crate) const CEILING: [u64; 3] = [36_200, 4_900, 16_384];

/// Measures, and holds the figures against the goal.
pub(crate) fn against_goal(json: Option<&Path>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    measure(json, &[], &FEATURES, deadline, &mut Tally::default())
}

/// Measures, and holds the figures against what was reached; no features, to save time.
pub(crate) fn against_ceiling(deadline: Instant, tally: &mut Tally) -> Result<()> {
    measure(None, &CEILING, &[], deadline, tally)
}

fn measure(
    json: Option<&Path>,
    limits: &[u64],
    features: &[&str],
    deadline: Instant,
    tally: &mut Tally,
) -> Result<()> {
    needs::install(&needs::BOARDS)?;
    let shell = cores::board(MPS2_AN386, &["shell"], deadline, tally)?;
    let mut host = cargo(&["run", "--quiet", "--locked", "--package", "board", "--"]);
    host.arg(shell).arg("footprint");
    for board in [MPS2_AN386, CORTEX_R5] {
        let program = cores::board(board, &[], deadline, tally)?;
        let named = format!("{}={}", board.1, program.display());
        host.args(["--target", &named]);
    }
    for feature in features {
        let program = cores::board(MPS2_AN386, &[feature], deadline, tally)?;
        let named = format!("{feature}={}", program.display());
        host.args(["--feature", &named]);
    }
    host.args(["--measured-on", MPS2_AN386.1, "--corpora", "fuzz/corpus"]);
    host.args(["--stack", &STACK.to_string()]);
    if !limits.is_empty() {
        host.arg("--limits");
        host.args(limits.iter().map(u64::to_string));
    }
    if let Some(json) = json {
        host.arg("--json").arg(std::path::absolute(json)?);
    }
    run(host, deadline, tally)
}

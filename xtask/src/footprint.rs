//! `cargo xtask footprint`: builds the bootloader for its bare-metal targets and measures it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cores::{self, CORTEX_R5, MPS2_AN386, named};
use crate::needs;
use crate::process::{cargo, run};
use crate::tally::Tally;

/// How long it may take with everything to be built.
const LIMIT: Duration = Duration::from_secs(1800);

/// Bytes of the stack in the linker script of the emulated boards.
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

/// Measures the default profile and every feature, and holds the former against the limits.
pub(crate) fn with_features(json: Option<&Path>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    measure(json, &FEATURES, deadline, &mut Tally::default())
}

/// Measures the default profile alone, to save time, and holds it against the limits.
pub(crate) fn of_profile(deadline: Instant, tally: &mut Tally) -> Result<()> {
    measure(None, &[], deadline, tally)
}

fn measure(
    json: Option<&Path>,
    features: &[&str],
    deadline: Instant,
    tally: &mut Tally,
) -> Result<()> {
    needs::install(&needs::BOARDS)?;
    let shell = cores::board(MPS2_AN386, &["shell"], deadline, tally)?;
    let other = cores::board(CORTEX_R5, &["shell"], deadline, tally)?;
    let mut host = cargo(&["run", "--quiet", "--locked", "--package", "board", "--"]);
    host.arg(named(MPS2_AN386, &shell)).arg("footprint");
    host.args(["--also", &named(CORTEX_R5, &other)]);
    for board in [MPS2_AN386, CORTEX_R5] {
        let program = cores::board(board, &[], deadline, tally)?;
        host.args(["--target", &named(board, &program)]);
    }
    for feature in features {
        let program = cores::board(MPS2_AN386, &[feature], deadline, tally)?;
        let named = format!("{feature}={}", program.display());
        host.args(["--feature", &named]);
    }
    host.args(["--corpora", "fuzz/corpus"]);
    host.args(["--stack", &STACK.to_string()]);
    if let Some(json) = json {
        host.arg("--json").arg(std::path::absolute(json)?);
    }
    run(host, deadline, tally)
}

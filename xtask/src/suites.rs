//! Suites of others, run from a checkout of theirs: neither committed here nor part of `test`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::process::{self, cargo, program};
use crate::tally::Tally;

/// How long one of them may take, its packages included.
const LIMIT: Duration = Duration::from_secs(1800);

/// The TUF conformance suite against `tcu/examples/tuf_client.rs`.
///
/// `TUF_CONFORMANCE` names a checkout of <https://github.com/theupdateframework/tuf-conformance>; the
/// suite needs Debian's `faketime`.
pub(crate) fn tuf_conformance() -> Result<()> {
    let suite = checkout("TUF_CONFORMANCE", "theupdateframework/tuf-conformance")?;
    let deadline = Instant::now() + LIMIT;
    let mut tally = Tally::default();
    process::run(
        cargo(&["build", "--locked", "-p", "tcu", "--example", "tuf_client"]),
        deadline,
        &mut tally,
    )?;
    let python = venv(&suite, deadline, &mut tally)?;
    let client = paths::programs().join("examples/tuf_client");
    let mut tests = Command::new(python);
    tests.args(["-m", "pytest", "-q", "tuf_conformance", "--entrypoint"]);
    tests.arg(client).current_dir(&suite);
    process::run(tests, deadline, &mut tally)
}

/// The folder that an environment variable names.
fn checkout(variable: &str, repository: &str) -> Result<PathBuf> {
    let dir = std::env::var_os(variable);
    let dir = dir.map(PathBuf::from).with_context(|| {
        format!("{variable} must name a checkout of https://github.com/{repository}")
    })?;
    ensure!(dir.is_dir(), "{variable}: {} is no folder", dir.display());
    Ok(std::path::absolute(dir)?)
}

/// A Python environment with the suite and what it needs, made once; its interpreter.
fn venv(suite: &Path, deadline: Instant, tally: &mut Tally) -> Result<PathBuf> {
    let name = suite.file_name().context("a folder without a name")?;
    let dir = paths::target().join("suites").join(name);
    let python = dir.join("bin/python");
    if !python.exists() {
        let mut make = program("/usr/bin/python3", &["-m", "venv"]);
        make.arg(&dir);
        process::run(make, deadline, tally)?;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--editable"]);
    install.arg(suite);
    process::run(install, deadline, tally)?;
    Ok(python)
}

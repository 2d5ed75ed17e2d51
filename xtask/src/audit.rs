//! `cargo xtask audit`: known vulnerabilities of the dependencies.
//!
//! Apart from `test`, since the advisory database is fetched over the network.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::parts::require_cargo_deny;
use crate::process::{self, cargo};
use crate::tally::Tally;

/// How long the look-up may take.
const LIMIT: Duration = Duration::from_secs(900);

/// Checks the advisories; `deny.toml` says which are accepted and why.
pub(crate) fn run() -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut tally = Tally::default();
    require_cargo_deny(deadline, &mut tally)?;
    process::run(
        cargo(&["deny", "--locked", "check", "advisories"]),
        deadline,
        &mut tally,
    )
    .context("an advisory applies, or the database cannot be fetched from here")
}

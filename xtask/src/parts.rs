//! The parts of `cargo xtask test`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::process::{cargo, program, run, succeeds};
use crate::tally::Tally;
use crate::{board, cores, footprint, hil, needs, paths};

/// The largest ECU application, in bytes: what it costs to flash one decides how long tests take.
const APP_LIMIT: u64 = 64 * 1024;

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Room on the disk, and the Debian packages that the other parts need.
    Packages,
    /// Formatting of Rust.
    Fmt,
    /// Shell and Python scripts.
    Scripts,
    /// Lints, as errors.
    Clippy,
    /// Licences, duplicate versions and sources of dependencies.
    Deny,
    /// API documentation, warnings as errors.
    Rustdoc,
    /// Each `no_std` core alone, for bare metal.
    Cores,
    /// The bootloader's flash, RAM and stack on its bare-metal targets, and an application that it enters.
    Footprint,
    /// The ECU application and its size.
    App,
    /// All tests of all crates but the end-to-end ones.
    Unit,
    /// End to end, on built programs.
    E2e,
    /// On the kernel's CAN, in a Linux guest.
    Guest,
}

impl Part {
    /// How many seconds the part may take on two cores from nothing built; thrice that is failure.
    pub(crate) fn budget_s(self) -> u64 {
        match self {
            Self::Packages => 120,
            Self::Fmt | Self::Scripts => 10,
            Self::Clippy => 180,
            Self::Deny => 240,
            Self::Rustdoc | Self::App => 60,
            Self::Cores => 120,
            Self::Footprint => 240,
            Self::Unit => 420,
            Self::E2e => 480,
            Self::Guest => 600,
        }
    }

    /// Runs the part until `deadline`.
    pub(crate) fn run(self, hil: bool, deadline: Instant, tally: &mut Tally) -> Result<()> {
        match self {
            Self::Packages => {
                needs::room()?;
                needs::install_all(hil)
            }
            Self::Fmt => fmt(deadline, tally),
            Self::Scripts => scripts(deadline, tally),
            Self::Clippy => clippy(deadline, tally),
            Self::Deny => deny(deadline, tally),
            Self::Rustdoc => rustdoc(deadline, tally),
            Self::Cores => cores::build(deadline, tally),
            Self::Footprint => {
                footprint::of_profile(deadline, tally)?;
                board::enter_application(deadline, tally)
            }
            Self::App => app(deadline, tally),
            Self::Unit => {
                let args = ["test", "--locked", "--workspace", "--exclude", "e2e"];
                run(cargo(&args), deadline, tally)?;
                let args = ["test", "--locked", "--package", "ecu-bootloader"];
                let mut optional = cargo(&args);
                optional.args([
                    "--features",
                    "attestation,authentication",
                    "--test",
                    "machine",
                ]);
                run(optional, deadline, tally)
            }
            Self::E2e => e2e(deadline, tally),
            Self::Guest => hil::run_within(&[], 1, deadline, tally),
        }
    }
}

/// The workspaces beside the main one; what is in them must at least compile and be clean.
const OTHER_WORKSPACES: [&str; 3] = ["ecu-bootloader/boards", "fuzz", "hil/ecu-app"];

fn fmt(deadline: Instant, tally: &mut Tally) -> Result<()> {
    run(cargo(&["fmt", "--all", "--check"]), deadline, tally)?;
    for other in OTHER_WORKSPACES {
        let manifest = format!("{other}/Cargo.toml");
        run(
            cargo(&["fmt", "--manifest-path", &manifest, "--check"]),
            deadline,
            tally,
        )?;
    }
    Ok(())
}

fn scripts(deadline: Instant, tally: &mut Tally) -> Result<()> {
    let tracked = crate::process::output_of(program("git", &["ls-files"]))
        .context("git cannot list the files: not in a clone?")?;
    let (mut shell, mut python) = (
        vec!["--external-sources", ".ci/run"],
        vec!["-m", "py_compile"],
    );
    for file in tracked.lines() {
        match file.rsplit_once('.') {
            Some((_, "sh")) => shell.push(file),
            Some((_, "py")) => python.push(file),
            _ => {}
        }
    }
    run(program("shellcheck", &shell), deadline, tally)?;
    if python.len() == 2 {
        return Ok(());
    }
    let mut compile = program("python3", &python);
    compile.env("PYTHONPYCACHEPREFIX", paths::target().join("pycache"));
    run(compile, deadline, tally)
}

fn clippy(deadline: Instant, tally: &mut Tally) -> Result<()> {
    let args = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    run(cargo(&args), deadline, tally)?;
    for other in OTHER_WORKSPACES {
        let manifest = format!("{other}/Cargo.toml");
        let mut lint = cargo(&[
            "clippy",
            "--locked",
            "--manifest-path",
            &manifest,
            "--target-dir",
        ]);
        lint.arg(paths::target().join("clippy-other"))
            .args(["--", "-D", "warnings"]);
        run(lint, deadline, tally)?;
    }
    Ok(())
}

fn deny(deadline: Instant, tally: &mut Tally) -> Result<()> {
    require_cargo_deny(deadline, tally)?;
    run(
        cargo(&["deny", "--locked", "check", "licenses", "bans", "sources"]),
        deadline,
        tally,
    )
}

/// Builds and installs cargo-deny if it is not there.
pub(crate) fn require_cargo_deny(deadline: Instant, tally: &mut Tally) -> Result<()> {
    if succeeds(cargo(&["deny", "--version"])) {
        return Ok(());
    }
    let mut install = cargo(&[
        "install",
        "--locked",
        "--quiet",
        "cargo-deny",
        "--target-dir",
    ]);
    install.arg(paths::target().join("tools"));
    run(install, deadline, tally)
}

fn rustdoc(deadline: Instant, tally: &mut Tally) -> Result<()> {
    let mut doc = cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run(doc, deadline, tally)
}

/// Builds the programs of the bench, in the selection of packages that the bench itself uses: another
/// one could mean other features, and everything built twice.
pub(crate) fn programs(deadline: Instant, tally: &mut Tally) -> Result<()> {
    let mut build = cargo(&["build", "--locked", "--bins"]);
    build.args(
        ["oem", "tcu", "virtual-ecu", "rig"]
            .iter()
            .flat_map(|name| ["--package", name]),
    );
    run(build, deadline, tally)
}

/// Builds the ECU application and checks its size.
pub(crate) fn app(deadline: Instant, tally: &mut Tally) -> Result<()> {
    let manifest = [
        "build",
        "--release",
        "--locked",
        "--manifest-path",
        "hil/ecu-app/Cargo.toml",
    ];
    let mut build = cargo(&manifest);
    build
        .arg("--target-dir")
        .arg(paths::target().join("ecu-app"));
    run(build, deadline, tally)?;
    let path = paths::ecu_app();
    let size = size_of(&path)?;
    println!("{}: {size} bytes of at most {APP_LIMIT}", path.display());
    if size > APP_LIMIT {
        bail!("{} has {size} bytes, more than {APP_LIMIT}", path.display());
    }
    Ok(())
}

fn size_of(path: &PathBuf) -> Result<u64> {
    let meta = std::fs::metadata(path).with_context(|| format!("{} is missing", path.display()))?;
    Ok(meta.len())
}

fn e2e(deadline: Instant, tally: &mut Tally) -> Result<()> {
    app(deadline, tally)?;
    programs(deadline, tally)?;
    run(
        cargo(&["test", "--locked", "--package", "e2e"]),
        deadline,
        tally,
    )
}

//! Building for bare metal: each `no_std` core alone, so that no std feature leaks in, and the boards.
//!
//! rustup's targets serve where they are installed or can be added; else Debian's Rust, which
//! brings the sources of `core` and `alloc`, builds those as well.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::needs::{self, CORES};
use crate::paths;
use crate::process::{cargo, output_of, program, run, succeeds};
use crate::tally::Tally;

/// Cortex-M4F/M7F and Cortex-R4F/R5F, both with hardware floating point.
const TARGETS: [&str; 2] = ["thumbv7em-none-eabihf", "armv7r-none-eabihf"];

/// The workspace of the boards.
const BOARDS: &str = "ecu-bootloader/boards/Cargo.toml";

/// The emulated Cortex-M4 and its target.
pub(crate) const MPS2_AN386: (&str, &str) = ("mps2-an386", TARGETS[0]);

/// A Cortex-R5 and its target.
pub(crate) const CORTEX_R5: (&str, &str) = ("cortex-r5", TARGETS[1]);

/// The cores, and whether they use `alloc`.
const CRATES: [(&str, bool); 4] = [
    ("uds", false),
    ("ecu-image", false),
    ("ecu-bootloader", false),
    ("campaign", true),
];

/// Whether it builds is the question here, not how fast it runs.
const UNOPTIMISED: [&str; 3] = [
    "profile.dev.opt-level=0",
    "profile.dev.debug=0",
    "profile.dev.package.'*'.opt-level=0",
];

/// Who compiles for bare metal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Toolchain {
    /// The toolchain in use, with the targets' libraries.
    Rustup,
    /// Debian's `cargo-web`, which builds `core` itself.
    Debian,
}

/// Builds every core for every target, each by itself.
pub(crate) fn build(deadline: Instant, tally: &mut Tally) -> Result<()> {
    let toolchain = choose()?;
    for target in TARGETS {
        for (package, alloc) in CRATES {
            run(command(toolchain, target, package, alloc), deadline, tally)?;
        }
    }
    Ok(())
}

/// Builds the program of a board; its ELF file.
pub(crate) fn board(
    (name, target): (&str, &str),
    features: &[&str],
    deadline: Instant,
    tally: &mut Tally,
) -> Result<PathBuf> {
    let mut build = bare(choose()?, target, false);
    build.args(["--release", "--manifest-path", BOARDS, "--bin", name]);
    build.args(["--no-default-features", "--features", &features.join(",")]);
    build.env("RUSTFLAGS", flags(target));
    let folder = paths::target().join("boards");
    build.arg("--target-dir").arg(&folder);
    run(build, deadline, tally)?;
    // One folder, so that what they share is built once; each program by its own name.
    let kept = folder.join([&[name], features].concat().join("-").replace('/', "-"));
    let built = folder.join(target).join("release").join(name);
    std::fs::copy(&built, &kept).with_context(|| format!("{} is missing", built.display()))?;
    Ok(kept)
}

/// A board's program as its host takes it: `TARGET=FILE`.
pub(crate) fn named((_, target): (&str, &str), program: &Path) -> String {
    format!("{target}={}", program.display())
}

/// The linker scripts are for ld. The compact forms of SHA-256 and of the AES of `parallel-aes` take a
/// quarter of the flash of the fast ones; Thumb code takes two thirds of Arm code. The
/// threshold of the inliner saves half a kilobyte, no copies before loops and on edges a third of one,
/// a layout of blocks for size and no second scheduling a quarter.
fn flags(target: &str) -> String {
    let mut flags = "-Clinker-flavor=ld -Clinker=arm-none-eabi-ld \
        -Cllvm-args=-inline-threshold=18 \
        -Cllvm-args=-disable-machine-licm -Cllvm-args=-disable-phi-elim-edge-splitting \
        -Cllvm-args=-apply-ext-tsp-for-size -Cllvm-args=-disable-post-ra \
        --cfg sha2_backend_soft=\"compact\" --cfg aes_backend_soft=\"compact\""
        .to_owned();
    if target == CORTEX_R5.1 {
        // What is said more than once is said in a function: by itself the compiler does that for
        // Cortex-M only.
        flags.push_str(" -Ctarget-feature=+thumb-mode -Cllvm-args=-enable-machine-outliner=always");
    }
    flags
}

fn choose() -> Result<Toolchain> {
    let toolchain = choose_silently()?;
    println!("toolchain for bare metal: {toolchain:?}");
    Ok(toolchain)
}

fn choose_silently() -> Result<Toolchain> {
    let missing = missing_targets();
    if missing.is_empty() {
        return Ok(Toolchain::Rustup);
    }
    let mut add = program("rustup", &["target", "add"]);
    add.args(&missing);
    if succeeds(add) && missing_targets().is_empty() {
        return Ok(Toolchain::Rustup);
    }
    needs::install(&CORES)?;
    Ok(Toolchain::Debian)
}

fn missing_targets() -> Vec<&'static str> {
    let list = program("rustup", &["target", "list", "--installed"]);
    let installed = output_of(list).unwrap_or_default();
    let is_there = |target: &str| installed.lines().any(|line| line == target);
    TARGETS
        .into_iter()
        .filter(|target| !is_there(target))
        .collect()
}

fn command(toolchain: Toolchain, target: &str, package: &str, alloc: bool) -> Command {
    let mut command = bare(toolchain, target, alloc);
    command.args(["--package", package]);
    command.args(UNOPTIMISED.iter().flat_map(|setting| ["--config", setting]));
    // Apart, since the two compilers are of different versions.
    command
        .arg("--target-dir")
        .arg(paths::target().join(match toolchain {
            Toolchain::Rustup => "cores",
            Toolchain::Debian => "cores-debian",
        }));
    command
}

/// A build for `target`.
fn bare(toolchain: Toolchain, target: &str, alloc: bool) -> Command {
    let mut command = match toolchain {
        Toolchain::Rustup => cargo(&[]),
        Toolchain::Debian => {
            let mut debian = program("/usr/bin/cargo", &[]);
            // rustup's proxies must not be found first.
            let path = std::env::var("PATH").unwrap_or_default();
            debian.env("PATH", format!("/usr/bin:{path}"));
            debian
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", "/usr/bin/rustc");
            debian.env_remove("RUSTUP_TOOLCHAIN");
            debian
        }
    };
    command.args(["build", "--locked", "--target", target]);
    if toolchain == Toolchain::Debian {
        command.arg(if alloc {
            "-Zbuild-std=core,alloc"
        } else {
            "-Zbuild-std=core"
        });
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::show;

    #[test]
    fn only_debians_compiler_builds_the_library_itself() {
        let line = |toolchain| show(&command(toolchain, TARGETS[0], "uds", false));
        assert!(line(Toolchain::Debian).contains("-Zbuild-std=core"));
        assert!(!line(Toolchain::Rustup).contains("-Z"));
    }
}

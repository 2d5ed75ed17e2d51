//! `cargo xtask powercut` and `cargo xtask chaos`: builds a proof with optimisation and hands over to it.

use std::process::ExitCode;

use crate::demo::pass_on;
use crate::process::cargo;

/// Runs the proof in `package` with `args`; its exit code is ours. Deliberate bugs are built in only where one is
/// asked for.
pub(crate) fn run(package: &str, args: &[String]) -> ExitCode {
    eprintln!("building the proof; the first time this takes some minutes");
    let mut proof = cargo(&[
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        package,
    ]);
    if args.iter().any(|arg| arg.starts_with("--bug")) {
        proof.args(["--features", "deliberate-bugs"]);
    }
    pass_on(proof.arg("--").args(args))
}

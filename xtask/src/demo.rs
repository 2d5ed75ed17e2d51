//! `cargo xtask demo`: builds the programs and hands over to the bench.

use std::process::{Command, ExitCode};

use crate::process::cargo;

/// Runs the bench with `args`; its exit code is ours.
pub(crate) fn run(args: &[String]) -> ExitCode {
    eprintln!("building the bench; the first time this takes some minutes");
    let mut bench = cargo(&[
        "run",
        "--quiet",
        "--locked",
        "--package",
        "rig",
        "--bin",
        "rig",
        "--",
    ]);
    pass_on(bench.args(args))
}

/// `cargo xtask bench`: measures the TCU's memory on the bench; its exit code is ours.
pub(crate) fn memory(args: &[String]) -> ExitCode {
    let mut all = vec!["--memory".to_owned()];
    all.extend_from_slice(args);
    run(&all)
}

/// Runs a program; its exit code is ours.
pub(crate) fn pass_on(program: &mut Command) -> ExitCode {
    match program.status() {
        Ok(status) => status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            eprintln!("xtask: cannot start cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

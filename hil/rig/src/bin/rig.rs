//! `rig`: plays the scenarios of the bench. All work is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    rig::cli::main()
}

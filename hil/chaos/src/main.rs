//! `chaos`: the joint interruption proof as a program. All work is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    chaos::cli::main()
}

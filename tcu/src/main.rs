//! `tcu`: the command line is in the library.

fn main() -> std::process::ExitCode {
    tcu::cli::main()
}

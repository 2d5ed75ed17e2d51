//! `oem`: see `oem --help`.

fn main() -> std::process::ExitCode {
    oem::run::main()
}

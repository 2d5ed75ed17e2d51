//! A whole ECU as a Linux process; see `virtual-ecu --help`.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    virtual_ecu::cli::main(std::env::args_os())
}

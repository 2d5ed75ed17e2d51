//! The command line: raw arguments become checked ones, results become exit codes.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode as ProcessExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use ecu_image::provision::EcuProvisioning;
use nor::{Cut, Marginal, Nor, Tear, When};
use uds::can::CanId;
use uds::time::Duration;

use crate::chip::{Chip, Otp};
use crate::hardware::{ChipModel, Hardware};
use crate::machine::{Machine, Options};
use crate::process::Processes;
use crate::provision::provision;
use crate::run::{self, Output};

/// How the program ends. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Done; for `run`, ended by SIGTERM or SIGINT.
    Ok = 0,
    /// The command line is wrong.
    Usage = 2,
    /// A configuration, image or grant is wrong; nothing was written.
    Input = 65,
    /// A file, the flash or the bus failed.
    Io = 74,
    /// The power cut of `--power-cut-at-op` has happened.
    PowerCut = crate::POWER_CUT_EXIT_CODE as isize,
}

const EXAMPLES: &str = "\
Examples:
  virtual-ecu provision --config ecu.json --flash ecu.nor --factory factory.img --grant factory.grant
  virtual-ecu run --config ecu.json --flash ecu.nor --bus bus:/tmp/chassis.sock
  virtual-ecu run --config ecu.json --flash ecu.nor --bus vcan0 --json

Exit codes: 0 done, 2 command line, 65 configuration, image or grant, 74 file, flash or bus,
75 power cut.";

#[derive(Debug, Parser)]
#[command(name = "virtual-ecu", version, about = "A whole ECU as a Linux process", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write keys' journal and the factory firmware into a flash file, as the production line does
    #[command(after_help = EXAMPLES)]
    Provision(ProvisionArgs),
    /// Power on: run bootloader and application on a bus
    #[command(after_help = EXAMPLES)]
    Run(RunArgs),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command too
    Man {
        /// The folder for all pages: virtual-ecu-COMMAND.1
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct EcuArgs {
    /// The ECU's provisioning file
    #[arg(long, value_name = "ECU.JSON")]
    config: PathBuf,
    /// The file that is its flash; the counter is beside it, with `.otp` appended
    #[arg(long, value_name = "FILE")]
    flash: PathBuf,
    /// Its flash chip; always the same one for the same file
    #[arg(long, value_enum, default_value_t = ChipArg(ChipModel::Serial4k))]
    chip: ChipArg,
    /// Update slots besides the factory slot
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=2), default_value_t = 2)]
    update_slots: u8,
    /// Accept RSA-2048 signatures (tests only)
    #[arg(long)]
    allow_rsa_2048: bool,
}

#[derive(Debug, Args)]
struct ProvisionArgs {
    #[command(flatten)]
    ecu: EcuArgs,
    /// The factory image, packed
    #[arg(long, value_name = "IMG")]
    factory: PathBuf,
    /// Its install grant for this ECU
    #[arg(long, value_name = "GRANT")]
    grant: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    ecu: EcuArgs,
    /// Its bus: an interface such as vcan0, or bus:PATH
    #[arg(long, value_name = "LINK")]
    bus: String,
    /// Cut the power inside the flash operation with this number, counted from 0 and from now
    #[arg(long, value_name = "N")]
    power_cut_at_op: Option<u64>,
    /// Leave the operation half done, chosen by this seed; without it nothing of it is done
    #[arg(long, value_name = "SEED", requires = "power_cut_at_op")]
    torn: Option<u64>,
    /// Reset an application that has not kicked for this long
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    watchdog_ms: u64,
    /// Frames of this identifier tell whether the vehicle stands still: first byte 1, or moves: 0
    #[arg(long, value_name = "HEX", value_parser = can_id)]
    standstill_id: Option<CanId>,
    /// One JSON object per event instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
struct ChipArg(ChipModel);

impl ValueEnum for ChipArg {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(ChipModel::ALL[0]),
            Self(ChipModel::ALL[1]),
            Self(ChipModel::ALL[2]),
        ]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.name()))
    }
}

fn can_id(text: &str) -> Result<CanId, String> {
    let bad = || format!("`{text}` is not an identifier of 3 or 8 hexadecimal digits");
    let raw = u32::from_str_radix(text, 16).map_err(|_| bad())?;
    let id = match text.len() {
        3 => u16::try_from(raw).ok().and_then(CanId::standard),
        8 => CanId::extended(raw),
        _ => None,
    };
    id.ok_or_else(bad)
}

/// What went wrong: the exit code and the message.
#[derive(Debug)]
struct Failure(ExitCode, String);

fn input(what: impl std::fmt::Display) -> Failure {
    Failure(ExitCode::Input, what.to_string())
}

fn io(what: impl std::fmt::Display) -> Failure {
    Failure(ExitCode::Io, what.to_string())
}

/// Runs the program with these arguments, the first being its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ProcessExitCode {
    let code = match Cli::try_parse_from(arguments) {
        Ok(cli) => match execute(cli.command) {
            Ok(code) => code,
            Err(Failure(code, message)) => {
                eprintln!("error: {message}");
                code
            }
        },
        Err(error) => {
            // Help and version also come here; a closed standard output is nobody's loss.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Ok
            }
        }
    };
    ProcessExitCode::from(u8::try_from(code as isize).unwrap_or(1))
}

fn execute(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Provision(args) => provision_command(&args),
        Command::Run(args) => run_command(&args),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "virtual-ecu", &mut std::io::stdout());
            Ok(ExitCode::Ok)
        }
        Command::Man { out: Some(dir) } => {
            clap_mangen::generate_to(Cli::command(), dir).map_err(io)?;
            Ok(ExitCode::Ok)
        }
        Command::Man { out: None } => {
            let page = clap_mangen::Man::new(Cli::command());
            page.render(&mut std::io::stdout()).map_err(io)?;
            Ok(ExitCode::Ok)
        }
    }
}

fn hardware(args: &EcuArgs) -> Result<Hardware, Failure> {
    let path = args.config.display();
    let text = std::fs::read(&args.config).map_err(|error| input(format!("{path}: {error}")))?;
    let provisioning: EcuProvisioning =
        serde_json::from_slice(&text).map_err(|error| input(format!("{path}: {error}")))?;
    Ok(Hardware {
        chip: args.chip.0,
        two_update_slots: args.update_slots == 2,
        allow_rsa_2048: args.allow_rsa_2048,
        proof_seed: None,
        ..Hardware::new(provisioning)
    })
}

fn open_flash(args: &EcuArgs, hardware: &Hardware) -> Result<Nor, Failure> {
    let flash = Nor::open(&args.flash, hardware.geometry());
    flash.map_err(|error| io(format!("{}: {error}", args.flash.display())))
}

fn open_counter(args: &EcuArgs) -> Result<Otp, Failure> {
    let mut path = args.flash.clone().into_os_string();
    path.push(".otp");
    let path = PathBuf::from(path);
    Otp::open(&path).map_err(|error| io(format!("{}: {error}", path.display())))
}

fn provision_command(args: &ProvisionArgs) -> Result<ExitCode, Failure> {
    let hardware = hardware(&args.ecu)?;
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| input(format!("{}: {error}", path.display())))
    };
    let (image, grant) = (read(&args.factory)?, read(&args.grant)?);
    // In memory first: an image that is refused leaves no half-written flash behind.
    let rehearsal = Chip::new(Nor::in_memory(hardware.geometry()));
    provision(&hardware, &rehearsal, &image, &grant).map_err(input)?;
    let chip = Chip::new(open_flash(&args.ecu, &hardware)?);
    let digest = provision(&hardware, &chip, &image, &grant).map_err(io)?;
    println!(
        "provisioned {} with factory image {digest}",
        hardware.provisioning.name
    );
    Ok(ExitCode::Ok)
}

fn run_command(args: &RunArgs) -> Result<ExitCode, Failure> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let hardware = hardware(&args.ecu)?;
    if !args.ecu.flash.exists() {
        let path = args.ecu.flash.display();
        return Err(input(format!(
            "{path} does not exist; make it by `virtual-ecu provision`"
        )));
    }
    let mut nor = open_flash(&args.ecu, &hardware)?;
    if let Some(operation) = args.power_cut_at_op {
        let when = args.torn.map_or(When::Before, |seed| When::Inside {
            tear: Tear::Seeded(seed),
            marginal: Marginal::None,
        });
        nor.arm(Cut { operation, when });
    }
    let counter = open_counter(&args.ecu)?;
    let options = Options {
        watchdog: Duration::from_millis(args.watchdog_ms),
        compute_slice: Duration::ZERO,
    };
    let machine =
        Machine::new(hardware, Chip::new(nor), counter, Processes, options).map_err(input)?;
    let output = Output::new(args.json, std::io::stdout());
    let ended = run::run(machine, &args.bus, args.standstill_id, output).map_err(io)?;
    std::io::stdout().flush().map_err(io)?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn identifiers_have_three_or_eight_digits() {
        assert_eq!(can_id("7DF"), Ok(CanId::standard(0x7DF).unwrap()));
        assert_eq!(
            can_id("18DA10F1"),
            Ok(CanId::extended(0x18DA_10F1).unwrap())
        );
        for bad in ["", "7D", "800", "20000000", "xyz"] {
            assert!(can_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_file_is_bad_input_and_nothing_is_written() {
        let dir = std::env::temp_dir().join(format!("virtual-ecu-cli-{}", std::process::id()));
        let flash = dir.join("ecu.nor");
        let line = [
            "virtual-ecu",
            "provision",
            "--config",
            "/nonexistent",
            "--factory",
            "a",
        ];
        let line = line.map(OsString::from).into_iter();
        let more = [
            "--grant".into(),
            "b".into(),
            "--flash".into(),
            flash.clone().into(),
        ];
        assert_eq!(main(line.chain(more)), ProcessExitCode::from(65));
        assert!(!flash.exists());
    }
}

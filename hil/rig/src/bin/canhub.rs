//! The hub of a user-space CAN bus as a program: parses, runs, says how it went.

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rig::hub::{Hub, HubConfig, Summary};
use simbus::{BusConfig, Faults};
use std::path::PathBuf;
use std::process::ExitCode;

/// Serves a CAN bus to processes on this machine, for kernels without SocketCAN.
///
/// Stops on SIGTERM or SIGINT and says how busy the bus was.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
        canhub --listen /tmp/can0.sock\n  \
        canhub --listen /tmp/can1.sock --data-bitrate 2000000 --log can1.log --json\n\n\
        Programs join with the link name bus:/tmp/can0.sock.\n\n\
        Exit codes: 0 stopped by a signal, 2 usage, 3 the bus could not be served."
)]
struct Args {
    /// Path of the socket.
    #[arg(long, value_name = "PATH")]
    listen: PathBuf,
    /// Nominal bit rate in bit/s.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(10_000..=1_000_000))]
    bitrate: u32,
    /// Bit rate of the data phase in bit/s; makes it a CAN FD bus.
    #[arg(long, value_parser = clap::value_parser!(u32).range(10_000..=20_000_000))]
    data_bitrate: Option<u32>,
    /// Writes every frame to FILE in candump's format, with model time.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Parts of a million frames that nobody receives.
    #[arg(long, default_value_t = 0, value_name = "PPM", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    drop_ppm: u32,
    /// Parts of a million transmissions that are destroyed and repeated.
    #[arg(long, default_value_t = 0, value_name = "PPM", value_parser = clap::value_parser!(u32).range(0..=900_000))]
    corrupt_ppm: u32,
    /// Seed of these faults.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Speaks JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// Exit code where the bus could not be served.
const EXIT_FAILED: u8 = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    match serve(&args) {
        Ok(summary) => {
            say(&args, &summary);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("canhub: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn serve(args: &Args) -> anyhow::Result<Summary> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let stop = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    let bus = BusConfig {
        data_bps: args.data_bitrate,
        seed: args.seed,
        faults: Faults {
            drop_ppm: args.drop_ppm,
            corrupt_ppm: args.corrupt_ppm,
        },
        ..BusConfig::classical(args.bitrate)
    };
    let hub = Hub::bind(HubConfig {
        bus,
        listen: args.listen.clone(),
        log: args.log.clone(),
    })?;
    if args.json {
        println!(
            "{}",
            serde_json::json!({"event": "listening", "path": args.listen})
        );
    } else {
        println!("canhub: listening at {}", args.listen.display());
    }
    hub.run(&stop)
}

fn say(args: &Args, summary: &Summary) {
    if args.json {
        println!(
            "{}",
            serde_json::json!({"event": "stopped", "summary": summary})
        );
        return;
    }
    let warning = if summary.lagging {
        "; the machine was too slow"
    } else {
        ""
    };
    println!(
        "canhub: {} frames in {:.1} s, busy {:.1} %, at most {} µs late{warning}",
        summary.frames,
        summary.seconds,
        summary.busy_fraction * 100.0,
        summary.max_lag_us,
    );
}

//! The command line of `tcu`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use campaign::vehicle::Vehicle;
use clap::{CommandFactory, Parser, Subcommand};
use rand::RngExt;
use serde::Serialize;
use tokio::sync::watch;

use crate::engine::{Engine, Report};
use crate::error::{EXIT_CODES, Error, Exit};
use crate::flash::Job;
use crate::install::{Context, Found};
use crate::link::Transport;
use crate::output::{Output, columns};
use crate::planner::Battery;
use crate::state::State;
use crate::vehicle::Control;
use crate::{ddi, engine, flash};

const EXAMPLES: &str = "Examples:
  tcu --config vehicle.json inventory
  tcu --config vehicle.json --root root.json --ca ca.pem --state /var/lib/tcu \\
      install https://updates.example
  tcu --config vehicle.json --root root.json --state /var/lib/tcu install campaign.tar
  tcu --config vehicle.json --root root.json --ca ca.pem --state /var/lib/tcu \\
      run --url https://updates.example --interval 3600
  tcu --config vehicle.json --root root.json --state /var/lib/tcu \\
      run --ddi https://hawkbit.example --tenant default --token-file token \\
      --url https://updates.example
  tcu completions bash > /etc/bash_completion.d/tcu
";

/// Updates the ECUs of a vehicle: downloads a campaign, validates it, and installs it on all ECUs or
/// on none.
#[derive(Debug, Parser)]
#[command(name = "tcu", version, after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub struct Cli {
    /// The vehicle's buses and ECUs.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "vehicle.json"
    )]
    config: PathBuf,
    /// The pinned roots of both repositories.
    #[arg(long, global = true, value_name = "FILE", default_value = "root.json")]
    root: PathBuf,
    /// The authorities that vouch for the repository's server; those of the system without it.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Where journal, trust and images are kept.
    #[arg(long, global = true, value_name = "DIR", default_value = "tcu-state")]
    state: PathBuf,
    /// How PDUs are carried.
    #[arg(long, global = true, value_enum, default_value_t = Transport::Isotp)]
    transport: Transport,
    /// ECUs that are staged at the same time on one bus.
    #[arg(long, global = true, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    parallel: u8,
    /// Seconds for a new image to report healthy.
    #[arg(long, global = true, value_name = "S", default_value_t = 60)]
    health_timeout: u64,
    /// Energy in Wh that an update may draw from the battery; a campaign that needs more is left.
    #[arg(long, global = true, value_name = "WH")]
    battery_budget: Option<u32>,
    /// What the vehicle draws while it is updated, in W.
    #[arg(long, global = true, value_name = "W", default_value_t = 60)]
    draw: u32,
    /// Accept image signatures of RSA-2048, for tests.
    #[arg(long, global = true, hide = true)]
    accept_rsa_2048: bool,
    /// JSON lines: progress events, then the result.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask every ECU what it is and what it runs.
    Inventory,
    /// Download and validate a campaign without touching an ECU.
    Verify {
        /// The https URL of the repository, or the path of a bundle.
        source: String,
    },
    /// Say what a campaign would do, in which order, in what time; no ECU is touched.
    Plan {
        /// The https URL of the repository, or the path of a bundle.
        source: String,
        /// Name each ECU and rule, not the sum alone.
        #[arg(long)]
        explain: bool,
    },
    /// Install a campaign, or go on with the one that was interrupted.
    Install {
        /// The https URL of the repository, or the path of a bundle.
        source: String,
    },
    /// Poll the repository, or a hawkBit server, and install what it has, until SIGTERM.
    Run {
        /// The https URL of the repository; that of the server where only --ddi is given.
        #[arg(long, required_unless_present = "ddi")]
        url: Option<String>,
        /// Seconds between two polls; up to a quarter is added at random.
        #[arg(long, value_name = "S", default_value_t = 3600, value_parser = seconds)]
        interval: u64,
        #[command(flatten)]
        channel: ddi::Options,
    },
    /// What became of the last campaign.
    Status,
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Seconds, at least one.
fn seconds(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 second".into()),
        Ok(seconds) => Ok(seconds),
        Err(error) => Err(format!("seconds: {error}")),
    }
}

/// Parses the arguments, does what they say, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return match error.use_stderr() {
                true => Exit::Usage.into(),
                false => Exit::Success.into(),
            };
        }
    };
    // Without RUST_LOG warnings are shown: whoever runs the daemon wants to know of failed polls.
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match execute(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            if cli.json {
                let failure = ErrorLine {
                    error: error.to_string(),
                };
                Output::Json.value(&failure, "");
            }
            eprintln!("tcu: {error}");
            error.exit().into()
        }
    }
}

/// The last line of `--json` where a command fails without a report.
#[derive(Serialize)]
struct ErrorLine {
    error: String,
}

fn execute(cli: &Cli) -> Result<Exit, Error> {
    match &cli.command {
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(*shell, &mut command, "tcu", &mut std::io::stdout());
            return Ok(Exit::Success);
        }
        Command::Man => {
            let page = clap_mangen::Man::new(Cli::command());
            let rendered = page.render(&mut std::io::stdout());
            rendered.map_err(Error::file(Path::new("stdout")))?;
            return Ok(Exit::Success);
        }
        Command::Status => return status(cli),
        _ => {}
    }
    // One thread: a block passes five tasks on its way out, and waking another thread for each
    // costs more than all of them do.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::file(Path::new("runtime")))?;
    let result = runtime.block_on(run(cli));
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn run(cli: &Cli) -> Result<Exit, Error> {
    let context = cli.context(stop_signal()?)?;
    let mut output = Output::new(cli.json);
    match &cli.command {
        Command::Inventory => {
            let ecus: Vec<_> = context.vehicle.ecus().iter().collect();
            let found = context
                .inventory(&ecus, Job::Inventory, &mut output)
                .await?;
            Ok(show_inventory(&context, &found, &mut output))
        }
        Command::Verify { source } => {
            let state = State::open(&cli.state)?;
            let mut name = None;
            let campaign = context
                .verify(source, &state, &mut output, &mut name)
                .await?;
            let verified = Verified {
                campaign: campaign.id.to_string(),
                verified: true,
            };
            output.value(&verified, &format!("campaign {} is valid", campaign.id));
            Ok(Exit::Success)
        }
        Command::Plan { source, explain } => {
            let state = State::open(&cli.state)?;
            let mut name = None;
            let (_, explanation) = context.plan(source, &state, &mut output, &mut name).await?;
            let text = match explain {
                true => explanation.to_string(),
                false => explanation.sum(),
            };
            output.value(&explanation, &text);
            Ok(Exit::Success)
        }
        Command::Install { source } => {
            let state = State::open(&cli.state)?;
            let report = context.install(source, &state, &mut output).await?;
            output.report(&report);
            Ok(report.campaign.state.into())
        }
        Command::Run {
            url,
            interval,
            channel,
        } => {
            let interval = Duration::from_secs(*interval);
            if let Some(server) = channel.server(&context)? {
                let state = State::open(&cli.state)?;
                let repository = url.clone().unwrap_or_else(|| channel.url());
                let policy = channel.policy(interval);
                ddi::run(context, &server, &repository, policy, &state, &mut output).await?;
                return Ok(Exit::Success);
            }
            let url = url.as_deref().unwrap_or_default();
            poll(&context, cli, url, interval, &mut output).await
        }
        Command::Status | Command::Completions { .. } | Command::Man => Ok(Exit::Success),
    }
}

impl Cli {
    fn context(&self, stop: watch::Receiver<Control>) -> Result<Context, Error> {
        let bytes = std::fs::read(&self.config).map_err(Error::configuration(&self.config))?;
        let vehicle = Vehicle::from_json(&bytes).map_err(|source| Error::Vehicle {
            path: self.config.clone(),
            source,
        })?;
        let mut images = ecu_image::verify::Policy::default();
        if self.accept_rsa_2048 {
            images.shortest_signature = ecu_image::SignatureLen::Rsa2048;
        }
        Ok(Context {
            vehicle,
            root: self.root.clone(),
            ca: self.ca.clone(),
            transport: self.transport,
            policy: engine::Policy {
                parallel_per_bus: usize::from(self.parallel),
                ..engine::Policy::default()
            },
            flash: flash::Policy {
                health_timeout: Duration::from_secs(self.health_timeout),
                ..flash::Policy::default()
            },
            images,
            battery: self.battery_budget.map(|budget_wh| Battery {
                budget_wh,
                draw_w: self.draw,
            }),
            control: stop,
        })
    }
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_signal() -> Result<watch::Receiver<Control>, Error> {
    use tokio::signal::unix::{SignalKind, signal};

    let failed = |source| Error::file(Path::new("signal handler"))(source);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (set, stop) = watch::channel(Control::default());
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        set.send_modify(|control| control.stop = true);
        std::future::pending::<()>().await;
    });
    Ok(stop)
}

/// Polls until told to stop. A failed poll is logged: the next one may succeed, unless the
/// configuration is wrong.
async fn poll(
    context: &Context,
    cli: &Cli,
    url: &str,
    interval: Duration,
    output: &mut Output,
) -> Result<Exit, Error> {
    let state = State::open(&cli.state)?;
    let mut stop = context.control.clone();
    loop {
        match context.install(url, &state, output).await {
            Ok(report) => output.report(&report),
            Err(Error::Stopped) => return Ok(Exit::Success),
            // Without a journal nothing may be started.
            Err(error @ Error::Journal(_)) => return Err(error),
            Err(error) if error.exit() == Exit::Usage => return Err(error),
            Err(error) => tracing::warn!(%error, "the poll failed"),
        }
        let jitter: f64 = crate::random().random_range(0.0..0.25);
        tokio::select! {
            () = tokio::time::sleep(interval + interval.mul_f64(jitter)) => {}
            _ = stop.wait_for(|control| control.stop) => return Ok(Exit::Success),
        }
        if stop.borrow().stop {
            return Ok(Exit::Success);
        }
    }
}

#[derive(Serialize)]
struct Verified {
    campaign: String,
    verified: bool,
}

/// One ECU of `inventory --json`.
#[derive(Serialize)]
struct InventoryEntry {
    name: String,
    bus: String,
    serial: Option<String>,
    hardware: Option<String>,
    version: Option<String>,
    image: Option<String>,
    error: Option<String>,
}

#[derive(Serialize)]
struct InventoryList {
    ecus: Vec<InventoryEntry>,
}

fn show_inventory(context: &Context, found: &[Found], output: &mut Output) -> Exit {
    let entry = |(ecu, found): (&campaign::vehicle::Ecu, &Found)| {
        let outcome = found.as_ref().ok();
        InventoryEntry {
            name: ecu.name.to_string(),
            bus: ecu.bus.to_string(),
            serial: outcome.and_then(|found| found.serial.clone()),
            hardware: outcome.and_then(|found| found.hardware.clone()),
            version: outcome.and_then(|found| found.version.clone()),
            image: outcome.map(|found| found.status.running.0.to_string()),
            error: found.as_ref().err().map(ToString::to_string),
        }
    };
    let ecus: Vec<_> = context
        .vehicle
        .ecus()
        .iter()
        .zip(found)
        .map(entry)
        .collect();
    let mut rows = vec![["ECU", "bus", "serial", "hardware", "version", ""].map(str::to_owned)];
    rows.extend(ecus.iter().map(|ecu| {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        [
            ecu.name.clone(),
            ecu.bus.clone(),
            text(&ecu.serial),
            text(&ecu.hardware),
            text(&ecu.version),
            ecu.error.clone().unwrap_or_default(),
        ]
    }));
    let silent = ecus.iter().any(|ecu| ecu.error.is_some());
    output.value(&InventoryList { ecus }, columns(&rows).trim_end());
    if silent {
        Exit::Unreachable
    } else {
        Exit::Success
    }
}

fn status(cli: &Cli) -> Result<Exit, Error> {
    let mut output = match cli.json {
        true => Output::Json,
        false => Output::Plain,
    };
    let path = cli.state.join("journal.sqlite");
    if !path.exists() {
        output.value(&None::<Report>, "no campaign yet");
        return Ok(Exit::Success);
    }
    let Some(entry) = crate::journal::SqliteJournal::open(&path)?.last()? else {
        output.value(&None::<Report>, "no campaign yet");
        return Ok(Exit::Success);
    };
    let engine = Engine::new(entry.plan, engine::Policy::default(), &entry.records, 0);
    let report = engine.report();
    output.report(&report);
    Ok(report.campaign.state.into())
}

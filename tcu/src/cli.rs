//! The command line of `tcu`.

mod evidence;
mod inventory;
mod manifest;
mod options;
mod remote;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use campaign::time::Nonce;
use clap::{CommandFactory, Parser, Subcommand};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::options::Options;
use crate::config::{Level, LogFormat};
use crate::ddi;
use crate::desk::Desk;
use crate::engine::{self, Engine, Report};
use crate::error::{EXIT_CODES, Error, Exit};
use crate::flash::Job;
use crate::install::Context;
use crate::link::Transport;
use crate::logging;
use crate::manifest::Courier;
use crate::output::Output;
use crate::policy::{Mode, Rules};
use crate::preconditions;
use crate::service::Service;
use crate::state::{JOURNAL, State};
use crate::vehicle::Control;

const EXAMPLES: &str = "Examples:
  tcu --config vehicle.json inventory
  tcu --config vehicle.json --root root.json --ca ca.pem --state /var/lib/tcu \\
      install https://updates.example
  tcu --config vehicle.json --root root.json --state /var/lib/tcu install campaign.tar
  tcu --config vehicle.json --ca ca.pem manifest https://updates.example
  tcu --config vehicle.json manifest --nonce 00112233445566778899aabbccddeeff > manifest.json
  tcu --config vehicle.json --root root.json --ca ca.pem --state /var/lib/tcu \\
      run --url https://updates.example --interval 3600
  tcu --config vehicle.json --root root.json --state /var/lib/tcu \\
      run --ddi https://hawkbit.example --tenant default --token-file token \\
      --url https://updates.example
  tcu --settings /etc/canopus/tcu.toml run
  tcu status --watch
  tcu consent --anytime
  tcu give-up door --reason 'replaced, serial 4711'
  tcu evidence verify
  tcu completions bash > /etc/bash_completion.d/tcu
";

/// Updates the ECUs of a vehicle: downloads a campaign, validates it, and installs it on all ECUs or
/// on none.
#[derive(Debug, Parser)]
#[command(name = "tcu", version, after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub struct Cli {
    /// The settings, which say what the options below do not [default: /etc/canopus/tcu.toml, if it
    /// is there].
    #[arg(long, global = true, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The vehicle's buses and ECUs [default: vehicle.json].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The pinned roots of both repositories [default: root.json].
    #[arg(long, global = true, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The authorities that vouch for the repository's server; those of the system without it.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The telematics unit's own key, which signs manifests [default: tcu.pem beside the vehicle's
    /// file, if it is there].
    #[arg(long, global = true, value_name = "FILE")]
    tcu_key: Option<PathBuf>,
    /// Where journal, trust and images are kept [default: tcu-state].
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How PDUs are carried [default: isotp].
    #[arg(long, global = true, value_enum)]
    transport: Option<Transport>,
    /// ECUs that are staged at the same time on one bus [default: 1].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    parallel: Option<u8>,
    /// Works on one ECU after the other in the whole vehicle; by default the buses are used side by side.
    #[arg(long, global = true, conflicts_with = "parallel")]
    one_at_a_time: bool,
    /// Seconds for a new image to report healthy [default: 60].
    #[arg(long, global = true, value_name = "S")]
    health_timeout: Option<u64>,
    /// Energy in Wh that an update may draw from the battery; a campaign that needs more is left.
    #[arg(long, global = true, value_name = "WH")]
    battery_budget: Option<u32>,
    /// What the vehicle draws while it is updated, in W [default: 60].
    #[arg(long, global = true, value_name = "W")]
    draw: Option<u32>,
    /// How messages are logged to stderr [default: text; journal under systemd].
    #[arg(long, global = true, value_enum)]
    log_format: Option<LogFormat>,
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
    /// Have every ECU report what it runs, under its own key, and tell the backend.
    Manifest {
        /// The https URL of the repository; that of the settings if not given.
        url: Option<String>,
        /// Answer this nonce of `oem manifest nonce` instead, and print the signed manifest, for
        /// `oem manifest verify`.
        #[arg(long, value_name = "HEX", conflicts_with = "url")]
        nonce: Option<Nonce>,
    },
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
        #[arg(long)]
        url: Option<String>,
        /// Seconds between two polls; up to a quarter is added at random [default: 3600].
        #[arg(long, value_name = "S", value_parser = seconds)]
        interval: Option<u64>,
        #[command(flatten)]
        channel: ddi::Options,
    },
    /// What became of the last campaign; with --watch, what the service is doing.
    Status {
        /// Follow the service of this machine until it ends.
        #[arg(long)]
        watch: bool,
    },
    /// Consent to the campaign that the service has on offer.
    Consent {
        /// The campaign that is meant; the one on offer if not given.
        campaign: Option<String>,
        /// Do not wait for a maintenance window either.
        #[arg(long)]
        anytime: bool,
    },
    /// Decline the campaign on offer; one that is being installed goes back, unless it is committed.
    Cancel {
        /// The campaign that is meant; the one on offer if not given.
        campaign: Option<String>,
    },
    /// Be asked about the campaign again later.
    Postpone {
        /// How long.
        #[arg(value_name = "SECONDS", value_parser = seconds)]
        seconds: u64,
        /// The campaign that is meant; the one on offer if not given.
        campaign: Option<String>,
    },
    /// Give up an ECU that was replaced or never answers again, where a campaign is incomplete because
    /// of it: the campaign ends without it, and says so.
    GiveUp {
        /// The ECU, as `vehicle.json` names it.
        ecu: String,
        /// Why; it is recorded.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// The campaign that is meant; the one under way if not given.
        #[arg(long)]
        campaign: Option<String>,
    },
    /// The chained record of every decision.
    #[command(subcommand)]
    Evidence(evidence::Command),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command too.
    Man {
        /// The folder for all pages: tcu-COMMAND.1.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
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
    match execute(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            if cli.json {
                let failure = ErrorLine {
                    error: error.to_string(),
                };
                Output::plain(true).value(&failure, "");
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
    let options = Options::new(cli);
    let log = options.as_ref().map(|options| options.log.clone());
    // Who runs a service wants to know what it does; who runs a command sees it.
    let level = match cli.command {
        Command::Run { .. } => Level::Info,
        _ => Level::Warn,
    };
    logging::start(&log.unwrap_or_default(), level);
    match &cli.command {
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(*shell, &mut command, "tcu", &mut std::io::stdout());
            return Ok(Exit::Success);
        }
        Command::Man { out: Some(dir) } => {
            clap_mangen::generate_to(Cli::command(), dir).map_err(Error::file(dir))?;
            return Ok(Exit::Success);
        }
        Command::Man { out: None } => {
            let page = clap_mangen::Man::new(Cli::command());
            let rendered = page.render(&mut std::io::stdout());
            rendered.map_err(Error::file(Path::new("stdout")))?;
            return Ok(Exit::Success);
        }
        _ => {}
    }
    let options = options?;
    match &cli.command {
        Command::Status { watch: false } => return status(&options, cli.json),
        Command::Evidence(command) => return evidence::run(command, &options, cli.json),
        _ => {}
    }
    // One thread: a block passes five tasks on its way out, and waking another thread for each
    // costs more than all of them do.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::file(Path::new("runtime")))?;
    let result = runtime.block_on(run(cli, &options));
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn run(cli: &Cli, options: &Options) -> Result<Exit, Error> {
    if let Some(exit) = remote::run(&cli.command, options, cli.json).await? {
        return Ok(exit);
    }
    let control = stop_signal()?;
    let mut context = options.context(control.subscribe())?;
    let mut output = Output::new(cli.json);
    match &cli.command {
        Command::Inventory => {
            let ecus: Vec<_> = context.vehicle.ecus().iter().collect();
            let found = context
                .inventory(&ecus, Job::Inventory, &mut output)
                .await?;
            Ok(inventory::show(&context, &found, &mut output))
        }
        Command::Manifest { url, nonce } => {
            let url = url.clone().or_else(|| options.repository.url.clone());
            manifest::run(&context, url.as_deref(), nonce.as_ref(), &mut output).await
        }
        Command::Verify { source } => {
            let state = State::open(&options.state)?;
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
            let state = State::open(&options.state)?;
            let mut name = None;
            let prepared = context.prepare(source, &state, &mut output, &mut name);
            let (_, explanation) = prepared.await?;
            let text = match explain {
                true => explanation.to_string(),
                false => explanation.sum(),
            };
            output.value(&explanation, &text);
            Ok(Exit::Success)
        }
        Command::Install { source } => {
            let state = State::open(&options.state)?;
            // Before anything happens: afterwards nothing may fail.
            let mut courier = Courier::new(&context, source, Duration::ZERO)?;
            // Whoever calls this has decided.
            let rules = Rules {
                mode: Mode::Forced,
                ..Rules::default()
            };
            let by = format!("uid {} at the command line", state.user());
            let desk = Desk::new(&state, rules, by, control, Arc::default())?;
            let desk = Arc::new(desk);
            let watch = watch(options, &context, &desk)?;
            context.desk = Some(desk);
            let report = context.install(source, &state, &mut output).await;
            watch.iter().for_each(JoinHandle::abort);
            let report = report?;
            courier.deliver(&context, &state, &mut output).await;
            output.report(&report);
            Ok(report.campaign.state.into())
        }
        Command::Run {
            url,
            interval,
            channel,
        } => {
            let url = url.clone().or_else(|| options.repository.url.clone());
            let interval = interval.unwrap_or_else(|| options.interval());
            let service = Service {
                state: &State::open(&options.state)?,
                server: channel.server(&context)?,
                reports: channel.reports(&context)?,
                repository: url.unwrap_or_else(|| channel.url()),
                policy: channel.policy(Duration::from_secs(interval)),
                rules: options.rules.clone(),
                access: options.access(),
                preconditions: options.preconditions.machine(&context.vehicle)?,
            };
            if service.repository.is_empty() && service.access.is_none() {
                let missing = "no source of campaigns: --url, --ddi, or `repository.url` or \
                               `api.socket` in the settings";
                return Err(Error::Usage(missing.into()));
            }
            service.run(context, control, output).await
        }
        _ => Ok(Exit::Success),
    }
}

/// Starts to follow the preconditions, if there are any. Until they are known nothing is permitted.
fn watch(
    options: &Options,
    context: &Context,
    desk: &Arc<Desk>,
) -> Result<Option<JoinHandle<()>>, Error> {
    let machine = options.preconditions.machine(&context.vehicle)?;
    let (vehicle, lines) = (&context.vehicle, &context.lines);
    Ok(machine.map(|machine| preconditions::start(machine, vehicle, lines, desk)))
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_signal() -> Result<watch::Sender<Control>, Error> {
    use tokio::signal::unix::{SignalKind, signal};

    let failed = |source| Error::file(Path::new("signal handler"))(source);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (control, _) = watch::channel(Control::default());
    let set = control.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        set.send_modify(|control| control.stop = true);
        std::future::pending::<()>().await;
    });
    Ok(control)
}

#[derive(Serialize)]
struct Verified {
    campaign: String,
    verified: bool,
}

fn status(options: &Options, json: bool) -> Result<Exit, Error> {
    let mut output = Output::plain(json);
    let path = options.state.join(JOURNAL);
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

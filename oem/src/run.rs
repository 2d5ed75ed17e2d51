//! Runs a parsed command line.

use std::{
    io::{self, Write as _},
    path::Path,
    time::SystemTime,
};

use campaign::UnixTime;
use clap::{CommandFactory as _, Parser as _};
use serde_json::json;

use crate::{
    bundle, cli,
    cli::{Cli, Command},
    draft,
    error::{Error, ExitCode},
    fleet,
    grant::{GrantOptions, grant_file},
    init::{InitOptions, init},
    inspect,
    keys::Unlock,
    pack::{PackOptions, pack_file},
    publish,
    release::{ReleaseOptions, Summary, release},
    repo::Repo,
    rotate,
    serve::Server,
    vehicle,
};

mod trust;

/// Parses the process's arguments, does what they say, reports errors on standard error.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, too.
            let failed = error.use_stderr();
            let printed = error.print().is_ok();
            return code(match (failed, printed) {
                (true, _) => ExitCode::Usage,
                (false, true) => ExitCode::Success,
                (false, false) => ExitCode::Io,
            });
        }
    };
    match run(&cli) {
        Ok(()) => code(ExitCode::Success),
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _ = writeln!(io::stderr(), "oem: {error}");
            code(error.exit_code())
        }
    }
}

fn code(code: ExitCode) -> std::process::ExitCode {
    std::process::ExitCode::from(code as u8)
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::from_secs(since.map_or(0, |since| since.as_secs()))
}

/// Does what the command line says.
///
/// # Errors
///
/// [`Error`].
pub fn run(cli: &Cli) -> Result<(), Error> {
    let unlock = || Unlock::new(cli.passphrase_file.clone());
    let open = || Ok::<_, Error>(Repo::open(&cli.repo)?.with_unlock(unlock()));
    match &cli.command {
        Command::Init(arguments) => run_init(cli, arguments),
        Command::Vehicle(command) => run_vehicle(&open()?, command),
        Command::Pack(arguments) => run_pack(&open()?, arguments),
        Command::Grant(arguments) => run_grant(&open()?, arguments),
        Command::Release(arguments) => run_release(&open()?, arguments),
        Command::Bundle(arguments) => {
            let (vin, out) = (&arguments.vin, &arguments.out);
            let campaign = bundle::bundle(&open()?, vin, out, now())?;
            let ecus = campaign.ecus.len();
            say(&format!(
                "campaign {} for {ecus} ECUs in {}",
                campaign.id,
                out.display()
            ))
        }
        Command::Refresh => {
            let vins = publish::refresh(&open()?, now())?;
            say(&format!("timestamps of {} vehicles refreshed", vins.len()))
        }
        Command::Rotate { role } => {
            let version = rotate::rotate(&open()?, *role, now())?;
            say(&format!("root version {version} names the new key"))
        }
        Command::Serve(arguments) => run_serve(&cli.repo, arguments),
        Command::Fleet(command) => run_fleet(&cli.repo, command),
        Command::Keyset(command) => trust::keyset(cli, command),
        Command::Manifest(command) => trust::manifest(&open()?, command),
        Command::Audit(command) => trust::audit(&open()?, command),
        Command::Root(command) => trust::root(&open()?, command),
        Command::Revoke { key, draft } => trust::revoke(&open()?, key, draft.as_deref()),
        Command::Sign { draft, key } => trust::sign(draft, key, &unlock()),
        Command::Publish { draft, json } => trust::publish(&open()?, draft, *json),
        Command::Key(command) => trust::key(command, &unlock()),
        Command::Inspect(arguments) => run_inspect(arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "oem", &mut script);
            write_out(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(output_error)?;
            write_out(&page)
        }
    }
}

fn run_inspect(arguments: &cli::Inspect) -> Result<(), Error> {
    let description = inspect::inspect(&arguments.file)?;
    if arguments.json {
        say(&description.to_string())
    } else {
        write_out(inspect::to_text(&description).as_bytes())
    }
}

fn run_init(cli: &Cli, arguments: &cli::Init) -> Result<(), Error> {
    let dir = &cli.repo;
    let mut options = InitOptions::default();
    options.hosts.extend(arguments.hosts.iter().cloned());
    (options.signers, options.threshold) = (arguments.signers, arguments.threshold);
    if arguments.encrypt {
        let unlock = Unlock::new(cli.passphrase_file.clone());
        options.passphrase = Some(unlock.passphrase(&dir.join("keys"))?);
    }
    init(dir, &options, now())?;
    say(&format!(
        "repository in {}; keep {} secret",
        dir.display(),
        dir.join("keys").display()
    ))
}

fn run_vehicle(repo: &Repo, command: &cli::Vehicle) -> Result<(), Error> {
    match command {
        cli::Vehicle::Add { spec, out } => {
            let record = vehicle::add(repo, spec, out)?;
            let (vin, ecus) = (record.vehicle.vin(), record.ecus.len());
            say(&format!(
                "vehicle {vin} with {ecus} ECUs; its files are in {}",
                out.display()
            ))
        }
        cli::Vehicle::Export { vin, out } => vehicle::export(repo, vin, out),
        cli::Vehicle::List => repo.vins()?.iter().try_for_each(|vin| say(vin.as_str())),
    }
}

fn run_pack(repo: &Repo, arguments: &cli::Pack) -> Result<(), Error> {
    let options = PackOptions {
        hardware_id: arguments.hardware_id,
        version: arguments.version,
        security_counter: arguments.counter,
        limp_home: arguments.limp_home,
        slots: arguments.slots,
        cipher: arguments.cipher.into(),
        page_size: arguments.page_size,
        logical_block: arguments.block,
    };
    let (input, out) = (&arguments.input, &arguments.out);
    let packed = pack_file(repo, input, arguments.format, &options, out)?;
    say(&format!(
        "image {} of {} bytes in {}",
        packed.digest,
        packed.bytes.len(),
        out.display()
    ))
}

fn run_grant(repo: &Repo, arguments: &cli::Grant) -> Result<(), Error> {
    let options = GrantOptions {
        vin: arguments.vin.clone(),
        ecu: arguments.ecu.clone(),
        sequence: arguments.sequence,
        allow_downgrade: arguments.allow_downgrade,
    };
    let sequence = grant_file(repo, &arguments.image, &options, &arguments.out)?;
    say(&format!(
        "grant with sequence {sequence} in {}",
        arguments.out.display()
    ))
}

fn run_release(repo: &Repo, arguments: &cli::Release) -> Result<(), Error> {
    let options = ReleaseOptions {
        campaign: arguments.campaign.clone(),
        vins: arguments.vins.clone(),
        images: arguments.images.clone(),
        rules: arguments.rules.clone(),
        allow_downgrade: arguments.allow_downgrade,
        valid_days: arguments.valid_days,
        rxswins: arguments.rxswins.iter().cloned().collect(),
    };
    if let Some(path) = &arguments.draft {
        draft::of_release(repo, &options, now())?.store(path)?;
        return say(&format!("to be signed: {}", path.display()));
    }
    released(&release(repo, &options, now())?, arguments.json)
}

fn released(summary: &Summary, json: bool) -> Result<(), Error> {
    if json {
        let text = serde_json::to_string(summary).map_err(Error::crypto("JSON encoding"))?;
        return say(&text);
    }
    say(&format!("campaign {} released", summary.campaign))?;
    for (vin, ecus) in &summary.vehicles {
        say(&format!("  {vin}: {}", ecus.join(", ")))?;
    }
    let mut left_out = summary.left_out.iter();
    left_out.try_for_each(|vin| say(&format!("  {vin}: nothing, its telematics unit lied")))
}

fn run_serve(dir: &Path, arguments: &cli::Serve) -> Result<(), Error> {
    let system = |error| Error::System {
        what: "starting the server",
        error,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(system)?;
    runtime.block_on(async {
        let server = Server::bind(dir, arguments.listen, arguments.poll)?;
        let url = server.url();
        if arguments.json {
            say(&json!({ "url": url }).to_string())?;
        } else {
            say(&url)?;
        }
        server.run().await
    })
}

fn run_fleet(dir: &Path, command: &cli::Fleet) -> Result<(), Error> {
    match command {
        cli::Fleet::Status { json } => {
            let status = fleet::Status::of(dir)?;
            if *json {
                let text =
                    serde_json::to_string(&status).map_err(Error::crypto("JSON encoding"))?;
                return say(&text);
            }
            status.lines().iter().try_for_each(|line| say(line))
        }
        cli::Fleet::Cancel { vin } => match fleet::cancel(dir, vin)? {
            Some(action) => say(&format!("action {action} is taken back with the next poll")),
            None => say(&format!("{vin} has nothing open")),
        },
        cli::Fleet::Token { vin } => say(&fleet::token(dir, vin.as_ref())?),
    }
}

fn say(line: &str) -> Result<(), Error> {
    write_out(format!("{line}\n").as_bytes())
}

fn write_out(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(output_error)
}

fn output_error(error: io::Error) -> Error {
    let what = "standard output";
    Error::System { what, error }
}

//! Runs a parsed command line.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::Path,
    time::SystemTime,
};

use campaign::UnixTime;
use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};

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
    let json = cli.json;
    match &cli.command {
        Command::Init(arguments) => run_init(cli, arguments),
        Command::Vehicle(command) => run_vehicle(&open()?, command, json),
        Command::Pack(arguments) => run_pack(&open()?, arguments, json),
        Command::Grant(arguments) => run_grant(&open()?, arguments, json),
        Command::Release(arguments) => run_release(&open()?, arguments),
        Command::Bundle(arguments) => {
            let (vin, out) = (&arguments.vin, &arguments.out);
            let campaign = bundle::bundle(&open()?, vin, out, now())?;
            let (id, ecus) = (&campaign.id, campaign.ecus.len());
            let text = format!("campaign {id} for {ecus} ECUs in {}", out.display());
            let value = json!({ "campaign": id, "ecus": ecus, "out": out });
            tell(json, &value, &text)
        }
        Command::Refresh => refreshed(publish::refresh(&open()?, now())?, json),
        Command::Rotate { role } => {
            let version = rotate::rotate(&open()?, *role, now())?;
            let text = format!("root version {version} names the new key");
            tell(json, &json!({ "root": version }), &text)
        }
        Command::Serve(arguments) => run_serve(&cli.repo, arguments),
        Command::Fleet(command) => run_fleet(&cli.repo, command, json),
        Command::Keyset(command) => trust::keyset(cli, command),
        Command::Manifest(command) => trust::manifest(&open()?, command),
        Command::Vault(command) => trust::vault(cli, command),
        Command::Audit(command) => trust::audit(&open()?, command),
        Command::Root(command) => trust::root(&open()?, command, json),
        Command::Revoke { key, draft } => trust::revoke(&open()?, key, draft.as_deref(), json),
        Command::Sign { draft, key } => trust::sign(draft, key, &unlock(), json),
        Command::Publish { draft, json } => trust::publish(&open()?, draft, *json),
        Command::Key(command) => trust::key(command, &unlock(), json),
        Command::Inspect(arguments) => run_inspect(arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "oem", &mut script);
            write_out(&script)
        }
        Command::Man { out: Some(dir) } => {
            clap_mangen::generate_to(Cli::command(), dir).map_err(Error::file(dir))
        }
        Command::Man { out: None } => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(output_error)?;
            write_out(&page)
        }
    }
}

/// Says what has expired all the same, and fails with the first that could not be refreshed.
fn refreshed(done: publish::Refreshed, json: bool) -> Result<(), Error> {
    let count = done.vehicles.len();
    let expired: BTreeMap<_, _> = done.expired.iter().cloned().collect();
    let failed = done.failed.iter();
    let failed: BTreeMap<_, _> = failed
        .map(|(what, error)| (what, error.to_string()))
        .collect();
    let value = json!({ "vehicles": done.vehicles, "expired": expired, "failed": failed });
    let text = format!("timestamps of {count} vehicles refreshed");
    tell(json, &value, &text)?;
    for (what, expired) in done.expired {
        warn(&format!(
            "{what}: its root, snapshot or targets expired at {expired}; vehicles believe it again after \
             the next release, or for a root after `oem rotate`"
        ));
    }
    let mut failed = done.failed.into_iter();
    let first = failed.next();
    failed.for_each(|(what, error)| warn(&format!("{what}: {error}")));
    first.map_or(Ok(()), |(what, error)| {
        warn(&format!("{what} was not refreshed; the others were"));
        Err(error)
    })
}

fn warn(line: &str) {
    // Nobody is left to tell when this fails.
    let _ = writeln!(io::stderr(), "oem: {line}");
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
    options.image_algorithm = arguments.image_algorithm.into();
    if arguments.encrypt {
        let unlock = Unlock::new(cli.passphrase_file.clone());
        options.passphrase = Some(unlock.passphrase(&dir.join("keys"))?);
    }
    init(dir, &options, now())?;
    let secret = dir.join("keys");
    let text = format!(
        "repository in {}; keep {} secret",
        dir.display(),
        secret.display()
    );
    tell(
        cli.json,
        &json!({ "repository": dir, "secret": secret }),
        &text,
    )
}

fn run_vehicle(repo: &Repo, command: &cli::Vehicle, json: bool) -> Result<(), Error> {
    match command {
        cli::Vehicle::Add { spec, out } => {
            let record = vehicle::add(repo, spec, out)?;
            let (vin, ecus) = (record.vehicle.vin(), record.vehicle.ecus().len());
            let out_is = out.display();
            let text = match record.ecus.is_empty() {
                false => format!("vehicle {vin} with {ecus} ECUs; its files are in {out_is}"),
                true => format!(
                    "vehicle {vin} with {ecus} ECUs; its files are in {out_is}, those of its ECUs at the \
                     vault: `oem vehicle export` there"
                ),
            };
            tell(
                json,
                &json!({ "vin": vin, "ecus": ecus, "out": out }),
                &text,
            )
        }
        cli::Vehicle::Export { vin, out } => {
            vehicle::export(repo, vin, out)?;
            match json {
                true => say(&json!({ "vin": vin, "out": out }).to_string()),
                false => say(&format!("files of vehicle {vin} are in {}", out.display())),
            }
        }
        cli::Vehicle::List if json => say(&json!({ "vehicles": repo.vins()? }).to_string()),
        cli::Vehicle::List => repo.vins()?.iter().try_for_each(|vin| say(vin.as_str())),
    }
}

fn run_pack(repo: &Repo, arguments: &cli::Pack, json: bool) -> Result<(), Error> {
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
    let (digest, bytes) = (packed.digest, packed.bytes.len());
    let text = format!("image {digest} of {bytes} bytes in {}", out.display());
    tell(
        json,
        &json!({ "image": digest, "bytes": bytes, "out": out }),
        &text,
    )
}

fn run_grant(repo: &Repo, arguments: &cli::Grant, json: bool) -> Result<(), Error> {
    let options = GrantOptions {
        vin: arguments.vin.clone(),
        ecu: arguments.ecu.clone(),
        sequence: arguments.sequence,
        allow_downgrade: arguments.allow_downgrade,
    };
    let out = &arguments.out;
    let sequence = grant_file(repo, &arguments.image, &options, out)?;
    let text = format!("grant with sequence {sequence} in {}", out.display());
    tell(json, &json!({ "sequence": sequence, "out": out }), &text)
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
        let text = format!("to be signed: {}", path.display());
        return tell(arguments.json, &json!({ "draft": path }), &text);
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
    serve(arguments.json, || {
        Server::bind(dir, arguments.listen, arguments.poll)
    })
}

/// Says where the server is reached, and serves until it is stopped.
fn serve(json: bool, bind: impl FnOnce() -> Result<Server, Error>) -> Result<(), Error> {
    let system = |error| Error::System {
        what: "starting the server",
        error,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(system)?;
    runtime.block_on(async {
        let server = bind()?;
        let url = server.url();
        if json {
            say(&json!({ "url": url }).to_string())?;
        } else {
            say(&url)?;
        }
        server.run().await
    })
}

fn run_fleet(dir: &Path, command: &cli::Fleet, as_json: bool) -> Result<(), Error> {
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
        cli::Fleet::Cancel { vin } => {
            let action = fleet::cancel(dir, vin)?;
            let text = match action {
                Some(action) => format!("action {action} is taken back with the next poll"),
                None => format!("{vin} has nothing open"),
            };
            tell(as_json, &json!({ "action": action }), &text)
        }
        cli::Fleet::Token { vin } => {
            let token = fleet::token(dir, vin.as_ref())?;
            tell(as_json, &json!({ "token": token }), &token)
        }
    }
}

/// Says what was done, for machines or for people.
fn tell(json: bool, value: &Value, text: &str) -> Result<(), Error> {
    match json {
        true => say(&value.to_string()),
        false => say(text),
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

//! A TUF client with the command line of theupdateframework/tuf-conformance, over the verifier that
//! vehicles use: anybody can run that suite against it.
//!
//! ```text
//! tuf_client --metadata-dir DIR init ROOT
//! tuf_client --metadata-dir DIR --metadata-url URL refresh
//! tuf_client --metadata-dir DIR --metadata-url URL --target-name PATH --target-base-url URL \
//!     --target-dir DIR download
//! ```
//!
//! Exit code 0 or 1, the reason on standard error.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use campaign::UnixTime;
use campaign::meta::{KeyPolicy, Target};
use campaign::repository::{Client, Limits, Stored, percent};
use clap::{Parser, Subcommand};

/// A TUF client for the conformance suite.
#[derive(Debug, Parser)]
struct Args {
    /// Where believed metadata are kept.
    #[arg(long)]
    metadata_dir: PathBuf,
    /// The repository's metadata.
    #[arg(long, default_value = "")]
    metadata_url: String,
    /// A target; may be repeated.
    #[arg(long)]
    target_name: Vec<String>,
    /// The repository's targets.
    #[arg(long, default_value = "")]
    target_base_url: String,
    /// Where targets go.
    #[arg(long, default_value = ".")]
    target_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Believe this root.
    Init {
        /// A root document.
        root: PathBuf,
    },
    /// Bring the top-level metadata up to date.
    Refresh,
    /// The same, then fetch the targets.
    Download,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args = Args::parse();
    // reqwest wants one, although nothing here is encrypted; a second call would be refused.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    if let Err(error) = run(&args).await {
        eprintln!("tuf_client: {error:#}");
        std::process::exit(1);
    }
}

async fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Init { root } => {
            let bytes = std::fs::read(root).with_context(|| root.display().to_string())?;
            // Refused here already where it could never be believed.
            client(Stored::root(&bytes))?;
            std::fs::create_dir_all(&args.metadata_dir)?;
            std::fs::write(args.metadata_dir.join("root.json"), bytes)?;
            Ok(())
        }
        Command::Refresh => {
            let mut client = client(stored(&args.metadata_dir)?)?;
            drive(args, &mut client).await
        }
        Command::Download => {
            let mut client = client(stored(&args.metadata_dir)?)?;
            drive(args, &mut client).await?;
            for name in &args.target_name {
                client.find(name)?;
                drive(args, &mut client).await?;
                let found = client.found();
                let (_, target) = found.with_context(|| format!("{name}: no such target"))?;
                let consistent = client.believed().root().consistent_snapshot;
                download(args, name, target, consistent).await?;
            }
            Ok(())
        }
    }
}

fn client(stored: Stored) -> Result<Client> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    // The suite's RSA keys have 2048 bits.
    let policy = KeyPolicy { rsa_min_bits: 2048 };
    let now = UnixTime::from_secs(now);
    Ok(Client::new(stored, policy, Limits::default(), now)?)
}

/// Every `ROLE.json`, its name percent-encoded.
fn stored(dir: &Path) -> Result<Stored> {
    let mut stored = Stored::default();
    for file in std::fs::read_dir(dir)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_suffix(".json")) else {
            continue;
        };
        stored.insert(&decoded(name)?, &std::fs::read(&path)?);
    }
    Ok(stored)
}

fn decoded(name: &str) -> Result<String> {
    let mut parts = name.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).context("a name ends early")?;
        bytes.push(u8::from_str_radix(digits, 16)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Ok(String::from_utf8(bytes)?)
}

/// Fetches what the client wants, and stores what it believes even where it refuses something later.
async fn drive(args: &Args, client: &mut Client) -> Result<()> {
    let mut result = Ok(());
    while let Some(wanted) = client.wanted().filter(|_| result.is_ok()) {
        let url = format!(
            "{}/{}",
            args.metadata_url.trim_end_matches('/'),
            wanted.name
        );
        result = match get(&url, wanted.limit).await? {
            Some(bytes) => client.on_file(&bytes),
            None => client.on_missing(),
        };
    }
    while let Some((role, bytes)) = client.poll_changed() {
        let name = format!("{}.json", percent(&role));
        std::fs::write(args.metadata_dir.join(name), bytes)?;
    }
    Ok(result?)
}

/// A file of at most `limit` bytes; `None` where there is none.
async fn get(url: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let mut response = reqwest::get(url).await?;
    let status = response.status().as_u16();
    if matches!(status, 403 | 404) {
        return Ok(None);
    }
    ensure!(status == 200, "{url}: HTTP status {status}");
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        ensure!(
            bytes.len() as u64 <= limit,
            "{url}: longer than {limit} bytes"
        );
    }
    Ok(Some(bytes))
}

async fn download(args: &Args, name: &str, target: &Target, consistent: bool) -> Result<()> {
    let path = args.target_dir.join(percent(name));
    if let Ok(bytes) = std::fs::read(&path)
        && is_target(&bytes, target)
    {
        return Ok(());
    }
    let file = match consistent {
        true => with_hash(name, target)?,
        false => name.to_owned(),
    };
    let url = format!("{}/{file}", args.target_base_url.trim_end_matches('/'));
    let bytes = get(&url, target.length).await?;
    let bytes = bytes.with_context(|| format!("{url}: there is none"))?;
    if !is_target(&bytes, target) {
        bail!("{name}: not the file that the metadata name");
    }
    Ok(std::fs::write(path, bytes)?)
}

fn is_target(bytes: &[u8], target: &Target) -> bool {
    target.length == bytes.len() as u64 && target.hashes.describe(bytes)
}

/// `dir/HASH.name`.
fn with_hash(name: &str, target: &Target) -> Result<String> {
    let sha256 = target.hashes.sha256.map(|digest| digest.to_string());
    let hash = sha256.or_else(|| target.hashes.sha512.clone());
    let hash = hash.context("no digest of a known algorithm")?;
    Ok(match name.rsplit_once('/') {
        Some((dir, name)) => format!("{dir}/{hash}.{name}"),
        None => format!("{hash}.{name}"),
    })
}

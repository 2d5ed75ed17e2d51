//! Subcommands that decide who is trusted.

use std::{net::SocketAddr, path::PathBuf};

use campaign::{
    ids::{ImageDigest, Vin},
    meta::RoleName,
};
use clap::{Args, Subcommand};
use ecu_image::KeyId;

use super::{ImageAlgorithm, Inspect};
use crate::{audit::NotedHead, root::Which};

pub(super) const REVOKE_HELP: &str = "\
A key of a metadata role: the next root no longer names it. The only key of its role is replaced by a
new one, which is made here. Otherwise as many keys must be left as the role asks for.

An image key (16 digits): the next key set no longer lets it sign; with it a new key is made where it
was the only one. Two holders of ECU roots sign the set: see `oem keyset sign` and `oem keyset use`.

Examples:
  oem --repo fleet revoke 3b1d7c09a4e2f586
  oem --repo fleet revoke 9f3c5a10… --draft root.draft";

/// Subcommands of `audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Print the record; who acted is $OEM_OPERATOR, else the login name.
    Show {
        /// Print the lines as they are: JSON.
        #[arg(long)]
        json: bool,
    },
    /// Follow the chain from its first entry and print its head, to be noted elsewhere.
    Verify {
        /// A head that was noted before: the record must still hold its entry.
        #[arg(long, value_name = "SEQUENCE:DIGEST")]
        head: Option<NotedHead>,
        /// Print {"sequence": .., "digest": ..}.
        #[arg(long)]
        json: bool,
    },
}

/// Subcommands of `keyset`.
#[derive(Debug, Subcommand)]
pub enum Keyset {
    /// Write the successor of the key set in use, unsigned.
    Make {
        /// Add a new image key, which signs once the set is in use.
        #[arg(long)]
        rotate: bool,
        /// What the new key signs by; as the one in use where it is not said. Every ECU must have it built
        /// in.
        #[arg(long, value_enum, requires = "rotate")]
        algorithm: Option<ImageAlgorithm>,
        /// A key that no longer signs.
        #[arg(long, value_name = "KEY-ID")]
        revoke: Vec<KeyId>,
        /// A key to leave out; ECUs that run an image of it refuse the set.
        #[arg(long, value_name = "KEY-ID")]
        drop: Vec<KeyId>,
        /// The key set's file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Add the signature of one root; needs no repository.
    Sign {
        /// The key set.
        #[arg(value_name = "FILE")]
        input: PathBuf,
        /// The root's private key.
        #[arg(long, value_name = "PEM")]
        root: PathBuf,
        /// The key set with the signature.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Take a key set that two roots have signed into use.
    Use {
        /// The key set.
        #[arg(value_name = "FILE")]
        input: PathBuf,
    },
    /// Show what a key set says.
    Show(Inspect),
}

/// Subcommands of `root`.
#[derive(Debug, Subcommand)]
pub enum Root {
    /// Show the newest root.
    Show {
        /// The repository.
        #[arg(value_enum)]
        repository: Which,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make the next root.
    #[command(after_help = "\
Example: two of three people release together.
  oem --repo fleet root change image --add targets=bob.pub --add targets=eve.pub --threshold targets=2")]
    Change(RootChange),
}

/// Arguments of `root change`.
#[derive(Debug, Args)]
pub struct RootChange {
    /// The repository.
    #[arg(value_enum)]
    pub repository: Which,
    /// Add a public key (PEM) to a role.
    #[arg(long, value_name = "ROLE=PEM", value_parser = role_and::<PathBuf>)]
    pub add: Vec<(RoleName, PathBuf)>,
    /// Remove a key from all roles; 8 digits of its name are enough.
    #[arg(long, value_name = "KEY-ID")]
    pub remove: Vec<String>,
    /// How many keys of a role must sign.
    #[arg(long, value_name = "ROLE=N", value_parser = role_and::<u32>)]
    pub threshold: Vec<(RoleName, u32)>,
    /// Change nothing: write what is to be signed to this file, for `oem sign` and `oem publish`.
    #[arg(long, value_name = "FILE")]
    pub draft: Option<PathBuf>,
}

/// Subcommands of `vault`.
#[derive(Debug, Subcommand)]
pub enum Vault {
    /// Move the keys of ECUs and images from this desk to a folder, which becomes the vault's.
    #[command(after_help = VAULT_HELP)]
    Part {
        /// The new folder; move it to the vault's host.
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// Where the desk will find the vault, for example `https://vault.example:8444`.
        #[arg(long)]
        url: reqwest::Url,
    },
    /// Answer the desk; --repo names the vault's folder.
    Serve {
        /// The address to listen on.
        #[arg(long, default_value = "127.0.0.1:8444")]
        listen: SocketAddr,
    },
    /// Permit grants for an image below what was granted before; --repo names the vault's folder.
    Permit {
        /// The image, as `oem inspect` names it.
        #[arg(value_name = "DIGEST")]
        image: ImageDigest,
    },
}

const VAULT_HELP: &str = "\
Examples:
  oem --repo fleet vault part --store vault --url https://vault.example:8444
  oem --repo vault vault serve --listen 0.0.0.0:8444
  oem --repo vault vehicle export --vin WCANEPUS000000001 --out ecu-keys/
  oem --repo vault vault permit 5b0c...
  oem --repo vault keyset use next.keyset";

/// Subcommands of `manifest`.
#[derive(Debug, Subcommand)]
pub enum Manifest {
    /// Print the nonce for a vehicle's next manifest; it is good for an hour.
    Nonce {
        /// The vehicle.
        #[arg(long)]
        vin: Vin,
    },
    /// Check a manifest, ECU by ECU, and record what it proves.
    Verify {
        /// The vehicle.
        #[arg(long)]
        vin: Vin,
        /// The manifest.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print what is installed as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what the last manifest of a vehicle proved.
    Show {
        /// The vehicle.
        #[arg(long)]
        vin: Vin,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Subcommands of `key`.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key; its public half goes to the desk, for `oem root change --add`.
    New {
        /// The private key's file.
        #[arg(long, value_name = "PEM")]
        out: PathBuf,
        /// What it signs by; a key of ECDSA signs images and nothing else.
        #[arg(long, value_enum, conflicts_with = "token", default_value_t = ImageAlgorithm::RsaPssSha256)]
        algorithm: ImageAlgorithm,
        /// Make it in a token (RSA, PKCS #11); the file then holds only this name of it, for example
        /// "pkcs11:token=canopus;object=root?module-path=/usr/lib/softhsm/libsofthsm2.so".
        #[arg(long, value_name = "URI")]
        token: Option<String>,
        /// Encrypt the file by a passphrase.
        #[arg(long, conflicts_with = "token")]
        encrypt: bool,
        /// The public key's file.
        #[arg(long, value_name = "PEM")]
        public: PathBuf,
    },
    /// Encrypt a key's file by another passphrase, or by its first one.
    Passphrase {
        /// The private key's file.
        #[arg(value_name = "PEM")]
        key: PathBuf,
        /// The file whose first line is the new passphrase; asked for at the terminal where none is
        /// named.
        #[arg(long, value_name = "FILE")]
        new: Option<PathBuf>,
    },
    /// Print the name of a key and write its public half.
    Public {
        /// The private key's file.
        #[arg(value_name = "PEM")]
        key: PathBuf,
        /// The public key's file.
        #[arg(long, value_name = "PEM")]
        out: PathBuf,
    },
}

/// `ROLE=VALUE`.
fn role_and<T: std::str::FromStr>(text: &str) -> Result<(RoleName, T), String> {
    let (role, value) = text.split_once('=').ok_or("ROLE=VALUE expected")?;
    let role = match role {
        "root" => RoleName::Root,
        "targets" => RoleName::Targets,
        "snapshot" => RoleName::Snapshot,
        "timestamp" => RoleName::Timestamp,
        _ => return Err("no such role: root, targets, snapshot, timestamp".into()),
    };
    let value = value
        .parse()
        .map_err(|_| "a value of another kind expected")?;
    Ok((role, value))
}

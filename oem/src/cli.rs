//! The command line of `oem`: arguments become validated values here.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use campaign::ids::{
    CampaignId, EcuName, HardwareId, SecurityCounter, SequenceNumber, Version, Vin,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ecu_image::{Algorithm, Cipher, LogicalBlock, PageSize, Slot, SlotSet};

use crate::firmware::Format;
use crate::rotate::Rotated;

mod trust;

pub use trust::{Audit, Key, Keyset, Manifest, Root, Vault};

const EXAMPLES: &str = "\
Examples:
  oem --repo fleet init
  oem --repo fleet vehicle add --spec vehicle-spec.json --out out/
  oem --repo fleet pack --input brake.elf --hardware-id bcu-r2 --version 2.0.0 --counter 7 --out brake.img
  oem --repo fleet release --campaign spring --image brake.img
  oem --repo fleet release --campaign spring --image brake.img --draft spring.draft
  oem sign spring.draft --key bob.pem
  oem --repo fleet publish spring.draft
  oem --repo fleet serve --listen 0.0.0.0:8443
  oem inspect brake.img
  oem --json --repo fleet refresh

Exit codes:
  0  done
  1  a file or the network failed
  2  the command line is wrong
  3  a file that was given is malformed
  4  a rule of the repository refuses the request; nothing was changed
  5  the repository lacks or holds something that it should not";

/// Keys, images, campaigns and the server of an OEM.
#[derive(Debug, Parser)]
#[command(name = "oem", version, after_help = EXAMPLES)]
pub struct Cli {
    /// The repository folder.
    #[arg(long, global = true, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
    /// The file whose first line opens encrypted keys and tokens; else $OEM_PASSPHRASE and $OEM_PIN,
    /// else the terminal. $OEM_PIN comes first for tokens.
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Print what was done as one line of JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Generate keys, certificates and root metadata.
    Init(Init),
    /// Vehicles and their ECUs.
    #[command(subcommand)]
    Vehicle(Vehicle),
    /// Encrypt and sign a firmware file.
    Pack(Box<Pack>),
    /// Issue an install grant outside of a campaign.
    Grant(Grant),
    /// Release images to vehicles as a campaign.
    Release(Release),
    /// Write all that one vehicle needs into one file.
    Bundle(Bundle),
    /// Serve the published files over HTTPS, and tell vehicles that poll by hawkBit's DDI.
    Serve(Serve),
    /// What vehicles said to the server, and the tokens by which it knows them.
    #[command(subcommand)]
    Fleet(Fleet),
    /// Decide which image keys ECUs accept: made here, signed by two holders of ECU roots.
    #[command(subcommand)]
    Keyset(Keyset),
    /// Sign the timestamps of what is published anew, with the online keys alone: they expire after
    /// 7 days.
    Refresh,
    /// Give a role a new key: makes the next root, which the keys of the root before sign.
    Rotate {
        /// The role.
        #[arg(value_enum)]
        role: Rotated,
    },
    /// Show or change a repository's root: whose keys speak for which role, and how many of them must
    /// sign.
    #[command(subcommand)]
    Root(Root),
    /// Take a key's power: of a metadata role, or to sign images.
    #[command(after_help = trust::REVOKE_HELP)]
    Revoke {
        /// The key, as `oem root show` or `oem keyset show` names it.
        #[arg(value_name = "KEY-ID")]
        key: String,
        /// Write what is to be signed to this file; for an image key, the next key set.
        #[arg(long, value_name = "FILE")]
        draft: Option<PathBuf>,
    },
    /// Add the signature of one person to a draft; needs no repository.
    Sign {
        /// The draft, which is replaced.
        #[arg(value_name = "DRAFT")]
        draft: PathBuf,
        /// The person's private key.
        #[arg(long, value_name = "PEM")]
        key: PathBuf,
    },
    /// Publish a draft that enough people have signed.
    Publish {
        /// The draft.
        #[arg(value_name = "DRAFT")]
        draft: PathBuf,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Keys of people who sign.
    #[command(subcommand)]
    Key(Key),
    /// What the ECUs of a vehicle prove to run.
    #[command(subcommand)]
    Manifest(Manifest),
    /// Keep the keys of ECUs and images on another host, which gives grants by rules of its own.
    #[command(subcommand)]
    Vault(Vault),
    /// The record of all commands that changed trust or released something.
    #[command(subcommand)]
    Audit(Audit),
    /// Show what an image, a grant, a key set, a draft or a bundle says.
    Inspect(Inspect),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command too.
    Man {
        /// The folder for all pages: oem-COMMAND.1.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// A name or address of the server beside 127.0.0.1, ::1 and localhost.
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// People who share the roots and the right to release, each with keys of their own.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub signers: usize,
    /// How many of them must sign.
    #[arg(long, value_name = "M", default_value_t = 1)]
    pub threshold: u32,
    /// What images are signed by. Every ECU must have it built in.
    #[arg(long, value_enum, value_name = "ALGORITHM", default_value_t = ImageAlgorithm::RsaPssSha256)]
    pub image_algorithm: ImageAlgorithm,
    /// Encrypt all keys but the online ones (director*.pem but for director-root.pem, timestamp.pem).
    #[arg(long)]
    pub encrypt: bool,
}

/// What an image key signs by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageAlgorithm {
    /// RSASSA-PSS with SHA-256, keys of 3072 bits.
    RsaPssSha256,
    /// ECDSA over P-256 with SHA-256: the bootloader's feature `ecdsa-p256`.
    #[value(name = "ecdsa-p256-sha256")]
    EcdsaP256Sha256,
}

impl From<ImageAlgorithm> for Algorithm {
    fn from(algorithm: ImageAlgorithm) -> Self {
        match algorithm {
            ImageAlgorithm::RsaPssSha256 => Self::RsaPssSha256,
            ImageAlgorithm::EcdsaP256Sha256 => Self::EcdsaP256Sha256,
        }
    }
}

/// Subcommands of `vehicle`.
#[derive(Debug, Subcommand)]
pub enum Vehicle {
    /// Register a vehicle: generate its ECUs' keys, write the files of TCU and ECUs.
    Add {
        /// Description of the vehicle (docs/spec/campaign.md).
        #[arg(long, value_name = "FILE")]
        spec: PathBuf,
        /// Folder for vehicle.json, root.json, ca.pem and ecus/NAME.json.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Write the files of a registered vehicle again.
    Export {
        /// The vehicle.
        #[arg(long)]
        vin: Vin,
        /// Folder for the files.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// List the registered vehicles.
    List,
}

/// Arguments of `pack`.
#[derive(Debug, Args)]
pub struct Pack {
    /// The firmware file.
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Its format.
    #[arg(long, value_enum, default_value = "auto")]
    pub format: Format,
    /// The hardware type that it is for.
    #[arg(long, value_name = "ID")]
    pub hardware_id: HardwareId,
    /// Its version, major.minor.patch.
    #[arg(long)]
    pub version: Version,
    /// Its security counter: raise it when older images must not return.
    #[arg(long, value_name = "N", value_parser = counter)]
    pub counter: SecurityCounter,
    /// Let it start below the floor with reduced function; for factory images.
    #[arg(long)]
    pub limp_home: bool,
    /// Slots that it is linked for, out of factory, a, b.
    #[arg(long, default_value = "a,b", value_parser = slots)]
    pub slots: SlotSet,
    /// How it is encrypted.
    #[arg(long, value_enum, default_value = "aes128")]
    pub cipher: CipherArg,
    /// Bytes of a page: a power of two from 256 to 65536.
    #[arg(long, default_value = "4096", value_parser = page_size)]
    pub page_size: PageSize,
    /// The logical block that it fills: 0 application, 1 calibration.
    #[arg(long, default_value = "0", value_parser = logical_block)]
    pub block: LogicalBlock,
    /// The image file.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// The ciphers of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CipherArg {
    /// AES-128-CBC.
    Aes128,
    /// AES-256-CBC.
    Aes256,
}

impl From<CipherArg> for Cipher {
    fn from(cipher: CipherArg) -> Self {
        match cipher {
            CipherArg::Aes128 => Self::Aes128Cbc,
            CipherArg::Aes256 => Self::Aes256Cbc,
        }
    }
}

/// Arguments of `grant`.
#[derive(Debug, Args)]
pub struct Grant {
    /// The image file.
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// The vehicle.
    #[arg(long)]
    pub vin: Vin,
    /// The ECU in it.
    #[arg(long, value_name = "NAME")]
    pub ecu: EcuName,
    /// The sequence number; the next one by default.
    #[arg(long, value_name = "N", value_parser = sequence)]
    pub sequence: Option<SequenceNumber>,
    /// Permit the image below the ECU's floor.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// The grant file.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Arguments of `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// The campaign's name.
    #[arg(long, value_name = "ID")]
    pub campaign: CampaignId,
    /// A vehicle; all of them where none is named.
    #[arg(long = "vin")]
    pub vins: Vec<Vin>,
    /// An image; it goes to every ECU of its hardware type.
    #[arg(long = "image", value_name = "FILE", required = true)]
    pub images: Vec<PathBuf>,
    /// What the images ask of other ECUs, by hardware type: {"bcu-r2": {"requires": [{"hardwareId":
    /// "gw-r1", "versions": ">=1.4.0"}], "conflicts": [..], "after": [..], "group": {..}}}.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Permit images below the counter released before; the grants say so.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// How long the metadata are believed.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub valid_days: u32,
    /// A software identification number of the vehicle type (UN R156) that applies once the campaign is
    /// completed, such as `R79=R79 2026-11 A`; the vehicle records it with the one before.
    #[arg(long = "rxswin", value_name = "REGULATION=RXSWIN", value_parser = rxswin)]
    pub rxswins: Vec<(String, String)>,
    /// Change nothing: write what is to be signed to this file, for `oem sign` and `oem publish`.
    #[arg(long, value_name = "FILE")]
    pub draft: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `REGULATION=RXSWIN`, both of printable ASCII.
fn rxswin(text: &str) -> Result<(String, String), String> {
    let fits = |part: &&str| {
        let printable = |byte: u8| (b' '..=b'~').contains(&byte);
        (1..=64).contains(&part.len()) && part.trim() == *part && part.bytes().all(printable)
    };
    let parts = text.split_once('=');
    parts
        .filter(|(regulation, number)| fits(regulation) && fits(number))
        .map(|(regulation, number)| (regulation.into(), number.into()))
        .ok_or_else(|| "a regulation, `=` and at most 64 characters of ASCII".into())
}

/// Arguments of `bundle`.
#[derive(Debug, Args)]
pub struct Bundle {
    /// The vehicle.
    #[arg(long)]
    pub vin: Vin,
    /// The bundle file.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Address and port; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Seconds between two polls of a vehicle.
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..86_400))]
    pub poll: u32,
    /// Print {"url": ..} as the first line.
    #[arg(long)]
    pub json: bool,
}

/// Subcommands of `fleet`.
#[derive(Debug, Subcommand)]
pub enum Fleet {
    /// Show each vehicle that was seen: its deployment, what became of it, its reports.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take back what a vehicle was last offered, if it has not ended.
    Cancel {
        /// The vehicle.
        #[arg(long)]
        vin: Vin,
    },
    /// Print the token of a vehicle, or without one that of a gateway, which may speak for all.
    Token {
        /// The vehicle.
        #[arg(long)]
        vin: Option<Vin>,
    },
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// An image, a grant, a key set, a draft or a bundle.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what} expected"))
}

fn counter(text: &str) -> Result<SecurityCounter, String> {
    number(text, "a number up to 4294967295").map(SecurityCounter)
}

fn sequence(text: &str) -> Result<SequenceNumber, String> {
    number(text, "a number").map(SequenceNumber)
}

fn logical_block(text: &str) -> Result<LogicalBlock, String> {
    number(text, "a number up to 65535").map(LogicalBlock)
}

fn page_size(text: &str) -> Result<PageSize, String> {
    let what = "a power of two from 256 to 65536";
    PageSize::new(number(text, what)?).ok_or_else(|| format!("{what} expected"))
}

fn slots(text: &str) -> Result<SlotSet, String> {
    let slot = |name: &str| match name {
        "factory" => Ok(Slot::Factory),
        "a" => Ok(Slot::A),
        "b" => Ok(Slot::B),
        _ => Err(format!("{name:?} is no slot: factory, a, b")),
    };
    let mut slots = text.split(',').map(slot);
    let first = slots.next().ok_or("no slot")??;
    slots.try_fold(SlotSet::only(first), |set, slot| Ok(set.with(slot?)))
}

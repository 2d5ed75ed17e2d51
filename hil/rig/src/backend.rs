//! The OEM's side of the bench: everything through the `oem` program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use oem::repo::{KeyName, Repo};

use crate::process::{Process, run};
use crate::programs::Programs;
use crate::vehicle::{VIN, VehicleSpec};

/// An OEM repository in a folder of its own.
#[derive(Debug)]
pub struct Backend {
    programs: Programs,
    repo: PathBuf,
    work: PathBuf,
}

/// What goes into one packed image.
#[derive(Debug, Clone)]
pub struct Firmware<'a> {
    /// The program, a raw binary.
    pub program: &'a Path,
    /// The hardware that it is for.
    pub hardware_id: &'a str,
    /// `major.minor.patch`.
    pub version: &'a str,
    /// The security counter.
    pub counter: u32,
    /// Whether it may run as limp-home below the floor.
    pub limp_home: bool,
}

impl Backend {
    /// Generates the keys and the roots of trust in `work/NAME`.
    ///
    /// # Errors
    /// When `oem init` fails.
    pub fn create(programs: &Programs, work: &Path, name: &str) -> Result<Self> {
        let backend = Self {
            programs: programs.clone(),
            repo: work.join(name),
            work: work.to_owned(),
        };
        backend.oem(&["init"])?;
        Ok(backend)
    }

    /// Registers a vehicle; the TCU's and the ECUs' files are then in `out`.
    ///
    /// # Errors
    /// When `oem vehicle add` fails.
    pub fn add_vehicle(&self, vehicle: &VehicleSpec, out: &Path) -> Result<()> {
        let spec = self.work.join("vehicle-spec.json");
        std::fs::write(&spec, serde_json::to_vec_pretty(vehicle)?)?;
        self.oem(&[
            "vehicle",
            "add",
            "--spec",
            text(&spec)?,
            "--out",
            text(out)?,
        ])
    }

    /// Packs and signs `firmware`; returns the image's path.
    ///
    /// # Errors
    /// When `oem pack` fails.
    pub fn pack(&self, firmware: &Firmware<'_>) -> Result<PathBuf> {
        let Firmware {
            program,
            hardware_id,
            version,
            counter,
            limp_home,
        } = firmware;
        let image = self
            .work
            .join(format!("{}-{hardware_id}-{version}.img", self.name()));
        let counter = counter.to_string();
        let mut args = vec!["pack", "--format", "raw", "--input", text(program)?];
        args.extend(["--hardware-id", hardware_id, "--version", version]);
        args.extend([
            "--slots",
            "factory,a,b",
            "--counter",
            &counter,
            "--out",
            text(&image)?,
        ]);
        if *limp_home {
            args.push("--limp-home");
        }
        self.oem(&args)?;
        Ok(image)
    }

    /// Issues an install grant of `image` for the ECU of a vehicle, outside of any campaign.
    ///
    /// # Errors
    /// When `oem grant` fails.
    pub fn grant(&self, image: &Path, vin: &str, ecu: &str) -> Result<PathBuf> {
        let grant = self.work.join(format!("{vin}-{ecu}.grant"));
        let (image, out) = (text(image)?, text(&grant)?);
        self.oem(&[
            "grant", "--image", image, "--vin", vin, "--ecu", ecu, "--out", out,
        ])?;
        Ok(grant)
    }

    /// Releases `images` to the bench's vehicle as the campaign `id`.
    ///
    /// # Errors
    /// When `oem release` refuses.
    pub fn release(&self, id: &str, images: &[PathBuf]) -> Result<()> {
        let mut args = vec!["release", "--campaign", id, "--vin", VIN];
        for image in images {
            args.extend(["--image", text(image)?]);
        }
        self.oem(&args)
    }

    /// Writes all that the bench's vehicle needs into one file; returns its path.
    ///
    /// # Errors
    /// When `oem bundle` fails.
    pub fn bundle(&self) -> Result<PathBuf> {
        let bundle = self.work.join("campaign.tar");
        self.oem(&["bundle", "--vin", VIN, "--out", text(&bundle)?])?;
        Ok(bundle)
    }

    /// Gives a role a new key.
    ///
    /// # Errors
    /// When `oem rotate` fails.
    pub fn rotate(&self, role: &str) -> Result<()> {
        self.oem(&["rotate", role])
    }

    /// Signs the timestamps anew.
    ///
    /// # Errors
    /// When `oem refresh` fails.
    pub fn refresh(&self) -> Result<()> {
        self.oem(&["refresh"])
    }

    /// Gives images a new key and revokes the one before: a key set that two ECU roots sign. The key
    /// is of `algorithm`, as `oem` names it, or else as the one before.
    ///
    /// # Errors
    /// When an `oem keyset` command fails.
    pub fn replace_image_key(&self, algorithm: Option<&str>) -> Result<()> {
        let old = Repo::open(&self.repo)?
            .key(KeyName::Image)?
            .image_key_id()?;
        let old = old.to_string();
        let file = |name: &str| self.work.join(name).display().to_string();
        let root = |number: u32| {
            let path = self.repo.join(format!("keys/ecu-roots/{number}.pem"));
            path.display().to_string()
        };
        let (draft, once, twice) = (file("0.keyset"), file("1.keyset"), file("2.keyset"));
        let mut make = vec!["keyset", "make", "--rotate", "--revoke", &old];
        make.extend(["--out", &draft]);
        make.extend(algorithm.iter().flat_map(|name| ["--algorithm", *name]));
        self.oem(&make)?;
        self.oem(&["keyset", "sign", &draft, "--root", &root(1), "--out", &once])?;
        self.oem(&["keyset", "sign", &once, "--root", &root(3), "--out", &twice])?;
        self.oem(&["keyset", "use", &twice])
    }

    /// The folder with the repository's files.
    #[must_use]
    pub fn repo(&self) -> &Path {
        &self.repo
    }

    /// Serves the repository over HTTPS; returns the process and its URL.
    ///
    /// # Errors
    /// When the server does not come up.
    pub fn serve(&self, logs: &Path) -> Result<(Process, String)> {
        let mut command = self.programs.command("oem");
        command.arg("--repo").arg(&self.repo);
        command.args(["serve", "--listen", "127.0.0.1:0", "--poll", "10", "--json"]);
        let server = Process::spawn("oem-serve", command, logs)?;
        let url = server.wait_for("URL", Duration::from_secs(60), |line| {
            let value: serde_json::Value = serde_json::from_str(line).ok()?;
            value.get("url")?.as_str().map(str::to_owned)
        })?;
        Ok((server, url))
    }

    /// Writes the token of the bench's vehicle to a file; returns its path.
    ///
    /// # Errors
    /// When `oem fleet token` fails.
    pub fn token(&self) -> Result<PathBuf> {
        let path = self.work.join("token");
        std::fs::write(&path, self.ask(&["fleet", "token", "--vin", VIN])?)?;
        Ok(path)
    }

    /// What the bench's vehicle has said to the server, as `oem fleet status --json` has it.
    ///
    /// # Errors
    /// When the command fails or says something else.
    pub fn fleet_status(&self) -> Result<serde_json::Value> {
        let status = self.ask(&["fleet", "status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let vehicle = status.get("vehicles").and_then(|all| all.get(0)).cloned();
        Ok(vehicle.unwrap_or_default())
    }

    fn name(&self) -> String {
        self.repo
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    fn oem(&self, args: &[&str]) -> Result<()> {
        self.ask(args).map(drop)
    }

    fn ask(&self, args: &[&str]) -> Result<String> {
        let mut command = self.programs.command("oem");
        command.arg("--repo").arg(&self.repo).args(args);
        run(command)
    }
}

/// A path as the text of an argument.
fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

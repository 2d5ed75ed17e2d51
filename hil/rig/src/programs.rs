//! Where the programs of the bench are, and how they are built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::run;

/// The packages whose binaries the bench starts.
const PACKAGES: [&str; 4] = ["oem", "tcu", "virtual-ecu", "rig"];

/// The built programs.
#[derive(Debug, Clone)]
pub struct Programs {
    bin_dir: PathBuf,
    app: PathBuf,
}

impl Programs {
    /// Programs that are built already: binaries in `bin_dir`, the ECU application at `app`.
    ///
    /// # Errors
    /// When one is missing; the message says which and how to build it.
    pub fn at(bin_dir: &Path, app: &Path) -> Result<Self> {
        let programs = Self {
            bin_dir: bin_dir.to_owned(),
            app: app.to_owned(),
        };
        for name in ["oem", "tcu", "virtual-ecu", "canhub"] {
            require(&bin_dir.join(name), "cargo build --workspace --bins")?;
        }
        require(app, "cargo build --release in hil/ecu-app")?;
        Ok(programs)
    }

    /// Builds everything with cargo, as `release` or in the development profile.
    ///
    /// # Errors
    /// When cargo fails; the message has its output.
    pub fn build(release: bool) -> Result<Self> {
        let root = workspace_root();
        let mut cargo = cargo();
        cargo
            .current_dir(&root)
            .args(["build", "--quiet", "--locked", "--bins"]);
        cargo.args(PACKAGES.iter().flat_map(|name| ["--package", name]));
        if release {
            cargo.arg("--release");
        }
        run(cargo)?;
        let mut app = self::cargo();
        app.current_dir(root.join("hil/ecu-app")).args([
            "build",
            "--quiet",
            "--locked",
            "--release",
        ]);
        app.arg("--target-dir").arg(target_dir().join("ecu-app"));
        run(app)?;
        let profile = if release { "release" } else { "debug" };
        Self::at(
            &target_dir().join(profile),
            &target_dir().join("ecu-app/release/ecu-app"),
        )
    }

    /// A command for the program `name`.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        Command::new(self.bin_dir.join(name))
    }

    /// The ECU application before a version and a behaviour are written into it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn app(&self) -> Result<Vec<u8>> {
        std::fs::read(&self.app).with_context(|| format!("cannot read {}", self.app.display()))
    }
}

/// The folder of the workspace that this crate was built from.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Where cargo puts what it builds.
#[must_use]
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo says about the package that runs us would make build scripts of others run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

fn require(path: &Path, how: &str) -> Result<()> {
    if !path.is_file() {
        bail!("{} is missing: {how}", path.display());
    }
    Ok(())
}

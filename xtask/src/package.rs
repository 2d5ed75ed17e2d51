//! `cargo xtask package`: the Debian package of the telematics unit, and whether it can be used.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, cargo, output_of, program, succeeds};
use crate::tally::Tally;
use crate::{needs, paths};

/// How long all of it may take, the tools and a Debian root included.
const LIMIT: Duration = Duration::from_secs(3600);
/// What the program needs in a Debian root besides the essential packages.
const DEPENDS: &str = "--include=adduser,ca-certificates";

/// A unit that is more exposed than this by systemd's reckoning, from 0 to 100, is refused.
const EXPOSURE: &str = "--threshold=25";

/// How the package is made and tried.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Packs the development build: made sooner, but large.
    #[arg(long)]
    dev: bool,
    /// Installs, runs, and purges the package in a fresh Debian root; needs root and a mirror.
    #[arg(long)]
    install: bool,
}

/// Makes the package, looks into it, and runs what is in it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut tally = Tally::default();
    require_cargo_deb(deadline, &mut tally)?;
    let profile = if options.dev { "dev" } else { "release" };
    let build = [
        "build",
        "--locked",
        "--package",
        "tcu",
        "--profile",
        profile,
    ];
    process::run(cargo(&build), deadline, &mut tally)?;
    let built = paths::target().join(if options.dev { "debug" } else { "release" });
    // Beside the workspace's manifest, wherever cargo builds: so the package's own manifest names it.
    let made = paths::root().join("target/package");
    fs::create_dir_all(&made)?;
    documents(&built.join("tcu"), &made)?;
    let package = made.join("canopus-tcu.deb");
    let mut pack = cargo(&[
        "deb",
        "--locked",
        "--package",
        "tcu",
        "--no-build",
        "--profile",
    ]);
    pack.args([profile, "--output"]).arg(&package);
    process::run(pack, deadline, &mut tally)?;
    for look in ["--info", "--contents"] {
        let mut show = program("dpkg-deb", &[look]);
        show.arg(&package);
        process::run(show, deadline, &mut tally)?;
    }
    extracted(&package, &made, deadline, &mut tally)?;
    if options.install {
        installed(&package, deadline, &mut tally)?;
    }
    println!("{}", package.display());
    Ok(())
}

/// Builds and installs cargo-deb if it is not there.
fn require_cargo_deb(deadline: Instant, tally: &mut Tally) -> Result<()> {
    if succeeds(cargo(&["deb", "--version"])) {
        return Ok(());
    }
    let mut install = cargo(&[
        "install",
        "--locked",
        "--quiet",
        "cargo-deb",
        "--target-dir",
    ]);
    install.arg(paths::target().join("tools"));
    process::run(install, deadline, tally)
}

/// The manual pages and the completions, as the program itself prints them.
fn documents(tcu: &Path, dir: &Path) -> Result<()> {
    let pages = dir.join("man");
    if pages.exists() {
        fs::remove_dir_all(&pages)?;
    }
    fs::create_dir_all(&pages)?;
    let status = Command::new(tcu)
        .args(["man", "--out"])
        .arg(&pages)
        .status()?;
    ensure!(status.success(), "tcu man: {status}");
    let mut pack = program("gzip", &["--force", "--no-name", "--best", "--recursive"]);
    pack.arg(&pages);
    ensure!(succeeds(pack), "gzip cannot pack the manual pages");
    for (shell, file) in [("bash", "tcu.bash"), ("zsh", "_tcu")] {
        let path = dir.join(file);
        let status = Command::new(tcu)
            .args(["completions", shell])
            .stdout(File::create(&path)?)
            .status()?;
        ensure!(status.success(), "tcu completions {shell}: {status}");
    }
    Ok(())
}

/// The program of the package runs, and its settings are valid.
fn extracted(package: &Path, made: &Path, deadline: Instant, tally: &mut Tally) -> Result<()> {
    let root = made.join("extracted");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let mut extract = program("dpkg-deb", &["--extract"]);
    extract.arg(package).arg(&root);
    process::run(extract, deadline, tally)?;
    for page in ["tcu", "tcu-install"] {
        let path = root.join(format!("usr/share/man/man1/{page}.1.gz"));
        ensure!(path.exists(), "{}: missing", path.display());
    }
    let mut version = Command::new(root.join("usr/bin/tcu"));
    version.arg("--version");
    process::run(version, deadline, tally)?;
    // No campaign yet: with valid settings that is a success.
    let mut status = Command::new(root.join("usr/bin/tcu"));
    status
        .arg("--settings")
        .arg(root.join("etc/canopus/tcu.toml"));
    status.args(["--state", "/nowhere", "status"]);
    process::run(status, deadline, tally)?;
    if needs::on_path("systemd-analyze") {
        unit(&root, made, deadline, tally)?;
    }
    Ok(())
}

/// systemd understands the unit and finds it well protected.
fn unit(root: &Path, made: &Path, deadline: Instant, tally: &mut Tally) -> Result<()> {
    let text = fs::read_to_string(root.join("usr/lib/systemd/system/tcu.service"))?;
    // It looks for the program where the package would put it.
    let program_there = format!("{}/usr/bin/tcu", root.display());
    let copy = made.join("tcu.service");
    fs::write(&copy, text.replace("/usr/bin/tcu", &program_there))?;
    for look in [
        &["verify", "--man=no"][..],
        &["security", "--offline=yes", EXPOSURE],
    ] {
        let mut analyze = program("systemd-analyze", look);
        analyze.arg(&copy);
        process::run(analyze, deadline, tally)?;
    }
    Ok(())
}

/// Installs, runs and purges the package in a Debian root, which is made once.
fn installed(package: &Path, deadline: Instant, tally: &mut Tally) -> Result<()> {
    let root = paths::target().join("debian-root");
    if !root.join("etc/debian_version").exists() {
        needs::install(&[needs::DEBOOTSTRAP])?;
        let mut bootstrap = program("debootstrap", &["--variant=minbase", DEPENDS]);
        bootstrap.arg(suite()?).arg(&root).args(mirror());
        process::run(bootstrap, deadline, tally)?;
    }
    fs::copy(package, root.join("tcu.deb")).context("the package cannot be copied")?;
    let steps: [&[&str]; 5] = [
        &["dpkg", "--install", "/tcu.deb"],
        &["tcu", "--version"],
        &["tcu", "--state", "/var/lib/canopus", "status"],
        &["id", "canopus"],
        &["dpkg", "--purge", "canopus-tcu"],
    ];
    for step in steps {
        let mut inside = program("chroot", &[]);
        inside.arg(&root).args(step);
        process::run(inside, deadline, tally)?;
    }
    if root.join("usr/bin/tcu").exists() {
        bail!("purging left the program behind");
    }
    Ok(())
}

/// The name of the Debian release that this is.
fn suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release")?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(str::to_owned)
        .context("/etc/os-release names no release")
}

/// The mirror that apt uses, if it tells.
fn mirror() -> Option<String> {
    let known = ["indextargets", "--format", "$(SITE)"];
    let sites = output_of(program("apt-get", &known))?;
    sites
        .lines()
        .find(|site| !site.contains("security"))
        .map(str::to_owned)
}

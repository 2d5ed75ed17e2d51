//! What runs in the guest, built or fetched on the host beforehand: the guest has no network.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::Case;
use crate::process::{cargo, output_of, program, run};
use crate::tally::Tally;
use crate::{parts, paths};

/// The program that was published with uds-rs and is moved over by its import alone.
const UDS_RS: &str = "0.3.0";

/// The Python packages that form the independent tester.
const PYTHON_PACKAGES: [&str; 2] = ["udsoncan==1.26.1", "can-isotp==2.0.7"];

/// Paths that the cases' scripts use, by the name of their variable.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) paths: Vec<(&'static str, PathBuf)>,
}

impl Setup {
    /// The paths, whether or not something has been built there.
    pub(super) fn unbuilt() -> Self {
        let paths = vec![
            ("BIN", paths::programs()),
            ("EXAMPLES", paths::programs().join("examples")),
            ("APP", paths::ecu_app()),
            ("PREPARED", prepared()),
            ("VEHICLE", paths::hil().join("vehicle")),
            ("VENV", paths::hil().join("venv")),
            ("UDS_RS_EXAMPLE", paths::programs().join("moved")),
        ];
        Self { paths }
    }
}

/// Builds and fetches what `cases` need.
///
/// # Errors
/// When a build fails or a package cannot be fetched.
pub(super) fn build(cases: &[Case], deadline: Instant, tally: &mut Tally) -> Result<Setup> {
    let needs = |name: &str| cases.iter().any(|case| case.name == name);
    let vehicle = needs("install-kernel") || needs("install-isotp");
    let tester = needs("uds-rs-example") || needs("udsoncan-flash");
    // What comes from a registry first: where one cannot be reached it shows at once.
    if needs("udsoncan-flash") {
        make_venv(deadline, tally)?;
    }
    if needs("uds-rs-example") {
        build_moved_example(deadline, tally)?;
    }
    if needs("isotp-matrix") {
        run(
            cargo(&["build", "--locked", "--package", "uds-client", "--examples"]),
            deadline,
            tally,
        )?;
    }
    let service = ["disks", "service", "kills", super::guest_kill::NAME];
    let service = service.into_iter().any(needs);
    if vehicle || tester || service {
        parts::programs(deadline, tally)?;
        parts::app(deadline, tally)?;
    }
    if tester {
        prepare("prepare.sh", &prepared(), deadline, tally)?;
    }
    if service {
        let out = paths::hil().join("vehicle");
        prepare("prepare-vehicle.sh", &out, deadline, tally)?;
    }
    Ok(Setup::unbuilt())
}

/// The ECU that the independent testers talk to: its keys, its flash, an image and a grant for it.
fn prepared() -> PathBuf {
    paths::hil().join("prepared")
}

/// Makes keys, images and flash on the host, where that is faster.
fn prepare(script: &str, out: &Path, deadline: Instant, tally: &mut Tally) -> Result<()> {
    let script = format!("hil/guest/{script}");
    let mut prepare = program("bash", &[&script]);
    prepare
        .arg(out)
        .env("BIN", paths::programs())
        .env("APP", paths::ecu_app());
    run(prepare, deadline, tally)
}

/// The package that holds the moved example program.
fn moved() -> PathBuf {
    paths::hil().join("moved")
}

/// Fetches uds-rs from the registry, changes the import of its example and builds that on our
/// client.
fn build_moved_example(deadline: Instant, tally: &mut Tally) -> Result<()> {
    let source = fetch_example(deadline, tally)?;
    let dir = moved();
    std::fs::create_dir_all(dir.join("src"))?;
    std::fs::write(dir.join("src/main.rs"), change_import(&source)?)?;
    let client = paths::root().join("uds/client");
    write_manifest(&dir, &format!("uds-client = {{ path = {client:?} }}"))?;
    // The versions that the workspace has been tested with.
    std::fs::copy(paths::root().join("Cargo.lock"), dir.join("Cargo.lock"))?;
    // The workspace's folder and profile, so that what is built there already serves here.
    let mut build = cargo(&["build"]);
    build
        .current_dir(&dir)
        .arg("--target-dir")
        .arg(paths::target());
    run(build, deadline, tally)
}

/// The example's text, as published.
fn fetch_example(deadline: Instant, tally: &mut Tally) -> Result<String> {
    let dir = paths::hil().join("uds-rs");
    std::fs::create_dir_all(dir.join("src"))?;
    std::fs::write(dir.join("src/main.rs"), "fn main() {}\n")?;
    write_manifest(&dir, &format!("uds-rs = \"={UDS_RS}\""))?;
    let mut fetch = cargo(&["fetch"]);
    fetch.current_dir(&dir);
    run(fetch, deadline, tally)?;
    // Only cargo knows where it keeps the sources of packages.
    let mut metadata = cargo(&["metadata", "--format-version", "1", "--offline"]);
    metadata.current_dir(&dir);
    let metadata = output_of(metadata).context("cargo metadata fails")?;
    let manifest = manifest_path(&metadata).context("cargo does not say where uds-rs is")?;
    let example = Path::new(manifest).with_file_name("examples/basic_functionality.rs");
    std::fs::read_to_string(&example).with_context(|| format!("cannot read {}", example.display()))
}

/// The path of uds-rs's manifest in what `cargo metadata` prints.
fn manifest_path(metadata: &str) -> Option<&str> {
    let end = format!("uds-rs-{UDS_RS}/Cargo.toml");
    metadata.split('"').find(|word| word.ends_with(&end))
}

/// The program with `uds_rs` in its import replaced by our client, and nothing else changed.
fn change_import(source: &str) -> Result<String> {
    let (old, new) = ("use uds_rs::{", "use uds_client::{");
    if source.matches("uds_rs").count() != 1 || !source.contains(old) {
        bail!("the example of uds-rs {UDS_RS} no longer imports it in one line");
    }
    Ok(source.replacen(old, new, 1))
}

/// A package with what the example needs, plus `client`.
fn write_manifest(dir: &Path, client: &str) -> Result<()> {
    let manifest = format!(
        "[package]\nname = \"moved\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\n{client}\nembedded-can = \"0.4\"\nenv_logger = \"0.11\"\nlog = \"0.4\"\n\
         tokio = {{ version = \"1\", features = [\"full\"] }}\n\n[workspace]\n\n\
         [profile.dev]\nopt-level = 1\n\n\
         [profile.dev.package.\"*\"]\nopt-level = 2\n"
    );
    std::fs::write(dir.join("Cargo.toml"), manifest)?;
    Ok(())
}

/// Makes a Python environment with the independent tester in it, once.
fn make_venv(deadline: Instant, tally: &mut Tally) -> Result<()> {
    let venv = paths::hil().join("venv");
    let list = PYTHON_PACKAGES.join("\n");
    let stamp = venv.join("packages");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == list) {
        return Ok(());
    }
    let mut make = program("/usr/bin/python3", &["-m", "venv", "--clear"]);
    make.arg(&venv);
    run(make, deadline, tally)?;
    let pip = venv.join("bin/pip");
    let mut install = program(
        &pip.to_string_lossy(),
        &["install", "--quiet", "--no-input"],
    );
    install.args(PYTHON_PACKAGES);
    run(install, deadline, tally)?;
    std::fs::write(stamp, list)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_import_of_the_example_changes() {
        let source = "use log::info;\nuse uds_rs::{A, B};\nfn main() {}\n";
        let expected = "use log::info;\nuse uds_client::{A, B};\nfn main() {}\n";
        assert_eq!(change_import(source).unwrap(), expected);
        assert!(change_import("use uds_rs::A;").is_err());
    }

    #[test]
    fn the_manifest_is_found_in_cargos_answer() {
        let metadata = r#"{"id":"x","manifest_path":"/r/uds-rs-0.3.0/Cargo.toml","a":1}"#;
        assert_eq!(manifest_path(metadata), Some("/r/uds-rs-0.3.0/Cargo.toml"));
    }
}

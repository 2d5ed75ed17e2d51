//! Suites of others, run from a checkout of theirs: neither committed here nor part of `test`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::process::{self, cargo, program};
use crate::tally::Tally;

/// How long one of them may take, its packages included.
const LIMIT: Duration = Duration::from_secs(1800);

/// The TUF conformance suite against `tcu/examples/tuf_client.rs`.
///
/// `TUF_CONFORMANCE` names a checkout of <https://github.com/theupdateframework/tuf-conformance>; the
/// suite needs Debian's `faketime`.
pub(crate) fn tuf_conformance() -> Result<()> {
    let suite = checkout("TUF_CONFORMANCE", "theupdateframework/tuf-conformance")?;
    let deadline = Instant::now() + LIMIT;
    let mut tally = Tally::default();
    process::run(
        cargo(&["build", "--locked", "-p", "tcu", "--example", "tuf_client"]),
        deadline,
        &mut tally,
    )?;
    let editable = [OsStr::new("--editable"), suite.as_os_str()];
    let python = venv(&suite, editable, deadline, &mut tally)?;
    let client = paths::programs().join("examples/tuf_client");
    let mut tests = Command::new(python);
    tests.args(["-m", "pytest", "-q", "tuf_conformance", "--entrypoint"]);
    tests.arg(client).current_dir(&suite);
    process::run(tests, deadline, &mut tally)
}

/// What writes the vectors and their verdicts: arguments are checkout, folder, canonical form, encoding of
/// signatures, key type and scheme. Their own programs write no verdicts, or serve them over HTTP. They
/// are written without white space since their digests are over the canonical form.
const GENERATOR: &str = r#"
import json, os, sys
checkout, out, cjson, encoding, key, scheme = sys.argv[1:]
sys.path.insert(0, checkout)
from tuf_vectors import subclasses
from tuf_vectors.uptane import Uptane
verdicts = {}
for kind in subclasses(Uptane):
    vector = kind(output_dir=out, key_type=key, signature_scheme=scheme, signature_encoding=encoding,
                  compact=True, cjson_strategy=cjson, ecu_identifier="ECU-SERIAL", hardware_id="ECU-HW")
    vector.persist()
    verdicts[vector.name()] = vector.meta()["steps"]
with open(os.path.join(out, "verdicts.json"), "w") as file:
    json.dump(verdicts, file)
"#;

/// What the vectors are made with: the options that aktualizr runs them with, then the other canonical
/// form, and keys whose text is not the same in both.
const VARIANTS: [[&str; 4]; 3] = [
    ["json-subset", "base64", "ed25519", "ed25519"],
    ["json-subset", "base64", "rsa-4096", "rsassa-pss-sha256"],
    ["olpc", "hex", "rsa-4096", "rsassa-pss-sha256"],
];

/// The Uptane vectors against `campaign/examples/uptane_vectors.rs`.
///
/// `UPTANE_VECTORS` names a checkout of <https://github.com/advancedtelematic/tuf-test-vectors>.
pub(crate) fn uptane_vectors() -> Result<()> {
    let suite = checkout("UPTANE_VECTORS", "advancedtelematic/tuf-test-vectors")?;
    let deadline = Instant::now() + LIMIT;
    let mut tally = Tally::default();
    let packages = ["ed25519==1.5", "pycryptodome", "securesystemslib==0.21.0"];
    let python = venv(&suite, packages, deadline, &mut tally)?;
    let example = ["--locked", "-p", "campaign", "--example", "uptane_vectors"];
    for variant in VARIANTS {
        let vectors = paths::target()
            .join("suites/vectors")
            .join(variant.join("-"));
        if vectors.exists() {
            std::fs::remove_dir_all(&vectors)?;
        }
        std::fs::create_dir_all(&vectors)?;
        println!("vectors with {}", variant.join(", "));
        let mut generate = Command::new(&python);
        generate.args(["-c", GENERATOR]).arg(&suite).arg(&vectors);
        generate.args(variant).env("PYTHONDONTWRITEBYTECODE", "1");
        ensure!(process::succeeds(generate), "the vectors cannot be written");
        let mut run = cargo(&["run", "--quiet"]);
        run.args(example).arg(&vectors);
        process::run(run, deadline, &mut tally)?;
    }
    Ok(())
}

/// The folder that an environment variable names.
fn checkout(variable: &str, repository: &str) -> Result<PathBuf> {
    let dir = std::env::var_os(variable);
    let dir = dir.map(PathBuf::from).with_context(|| {
        format!("{variable} must name a checkout of https://github.com/{repository}")
    })?;
    ensure!(dir.is_dir(), "{variable}: {} is no folder", dir.display());
    Ok(std::path::absolute(dir)?)
}

/// A Python environment of a suite with these packages, made once; its interpreter.
fn venv(
    suite: &Path,
    packages: impl IntoIterator<Item: AsRef<OsStr>>,
    deadline: Instant,
    tally: &mut Tally,
) -> Result<PathBuf> {
    let name = suite.file_name().context("a folder without a name")?;
    let dir = paths::target().join("suites").join(name);
    let python = dir.join("bin/python");
    if !python.exists() {
        let mut make = program("/usr/bin/python3", &["-m", "venv"]);
        make.arg(&dir);
        process::run(make, deadline, tally)?;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet"]);
    install.args(packages);
    process::run(install, deadline, tally)?;
    Ok(python)
}

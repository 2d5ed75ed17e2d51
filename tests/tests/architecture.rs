//! Keeps ARCHITECTURE.md true: the arrows between crates, the rules of every crate root, and that
//! the workspaces beside the main one do not drift from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may depend on whom, in the libraries and programs themselves. A crate that is not listed
/// fails the test: give it its place here.
const ARROWS: [(&str, &[&str]); 15] = [
    ("uds", &[]),
    ("can-link", &["uds"]),
    ("uds-client", &["uds", "can-link"]),
    ("ecu-image", &[]),
    ("ecu-bootloader", &["uds", "ecu-image"]),
    ("campaign", &["ecu-image"]),
    (
        "tcu",
        &["campaign", "ecu-image", "uds", "uds-client", "can-link"],
    ),
    ("oem", &["campaign", "ecu-image"]),
    ("simbus", &["uds"]),
    ("nor", &[]),
    ("powercut", &["ecu-bootloader", "uds", "ecu-image", "nor"]),
    (
        "virtual-ecu",
        &[
            "ecu-bootloader",
            "uds",
            "can-link",
            "ecu-image",
            "nor",
            "powercut",
            "simbus",
        ],
    ),
    ("ecu-app", &["ecu-bootloader", "uds"]),
    ("board-shell", &["ecu-bootloader", "ecu-image", "uds"]),
    ("boards", &["board-shell", "ecu-bootloader", "uds"]),
];
/// Crates that bring everything together, so they may depend on anything and nobody else on them.
const ON_TOP: [&str; 7] = ["board", "chaos", "faults", "rig", "e2e", "xtask", "fuzz"];
/// What tests of any crate may use besides.
const TEST_MODELS: [&str; 3] = ["nor", "powercut", "simbus"];
/// Crates without `std`.
const CORES: [&str; 4] = ["uds", "ecu-image", "ecu-bootloader", "campaign"];
/// Lints that the cores deny outside tests: nothing hostile panics.
const CORE_LINTS: [&str; 6] = [
    "clippy::arithmetic_side_effects",
    "clippy::cast_possible_truncation",
    "clippy::expect_used",
    "clippy::indexing_slicing",
    "clippy::panic",
    "clippy::unwrap_used",
];
/// Crates that may contain `unsafe` code: they call the operating system where no safe wrapper
/// exists, or are the bare metal. Each block says why it is sound; the workspace's lints see to that.
const MAY_BE_UNSAFE: [&str; 4] = ["boards", "chaos", "ecu-app", "uds-client"];
const MAX_LINES: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn output(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    output.stdout
}

/// Every file of the repository, by its path in it.
fn files() -> Vec<String> {
    let listed = output(
        "git",
        &[
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ],
    );
    let listed = String::from_utf8(listed).unwrap();
    let existing = |path: &&str| root().join(path).is_file();
    listed
        .split_terminator('\0')
        .filter(existing)
        .map(str::to_owned)
        .collect()
}

/// The manifests of the workspaces beside the main one.
fn other_manifests() -> Vec<String> {
    let other = |path: &String| {
        let manifest = path.as_str() == "Cargo.toml" || path.ends_with("/Cargo.toml");
        manifest && path != "Cargo.toml" && read(path).lines().any(|line| line == "[workspace]")
    };
    files().into_iter().filter(other).collect()
}

fn packages_of(manifest: &str) -> Vec<Value> {
    let args = [
        "metadata",
        "--no-deps",
        "--format-version=1",
        "--manifest-path",
        manifest,
    ];
    let metadata: Value = serde_json::from_slice(&output(env!("CARGO"), &args)).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// All packages of all workspaces.
fn packages() -> Vec<Value> {
    let manifests = ["Cargo.toml".to_owned()]
        .into_iter()
        .chain(other_manifests());
    manifests
        .flat_map(|manifest| packages_of(&manifest))
        .collect()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("")
}

/// The path of a package's crate root, library first.
fn crate_root(package: &Value) -> PathBuf {
    let targets = package["targets"].as_array().unwrap();
    let is_lib = |target: &&Value| target["kind"].as_array().unwrap().contains(&"lib".into());
    let target = targets.iter().find(is_lib).or(targets.first()).unwrap();
    PathBuf::from(text(target, "src_path"))
}

/// Our crates on which `package` depends, outside tests or in tests alone.
fn arrows_of(package: &Value, ours: &BTreeSet<String>, dev: bool) -> Vec<String> {
    let dependencies = package["dependencies"].as_array().unwrap();
    dependencies
        .iter()
        .filter(|dependency| (dependency["kind"] == "dev") == dev)
        .map(|dependency| text(dependency, "name").to_owned())
        .filter(|name| ours.contains(name))
        .collect()
}

#[test]
fn arrows_point_only_as_listed() {
    let packages = packages();
    let ours: BTreeSet<String> = packages
        .iter()
        .map(|package| text(package, "name").to_owned())
        .collect();
    let listed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    for package in &packages {
        let name = text(package, "name");
        if ON_TOP.contains(&name) {
            continue;
        }
        let allowed = listed
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no place in the architecture"));
        for to in arrows_of(package, &ours, false) {
            assert!(allowed.contains(&to.as_str()), "{name} -> {to}");
        }
        for to in arrows_of(package, &ours, true) {
            let to = to.as_str();
            let may = to == name || allowed.contains(&to) || TEST_MODELS.contains(&to);
            assert!(may, "tests of {name} -> {to}");
        }
    }
    for name in listed.keys().chain(&ON_TOP) {
        assert!(ours.contains(*name), "{name} is listed but is no crate");
    }
}

#[test]
fn models_know_only_the_flash_interface() {
    let packages = packages();
    let nor = packages
        .iter()
        .find(|package| text(package, "name") == "nor");
    let dependencies = nor.unwrap()["dependencies"].as_array().unwrap();
    let normal = dependencies
        .iter()
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| text(dependency, "name"));
    assert_eq!(normal.collect::<Vec<_>>(), ["embedded-storage"]);
}

#[test]
fn cores_have_no_std_and_no_way_to_panic() {
    for package in packages() {
        let name = text(&package, "name");
        if !CORES.contains(&name) {
            continue;
        }
        let source = read(crate_root(&package));
        let (attributes, _) = source.split_once("\nmod ").unwrap_or((&source, ""));
        assert!(attributes.contains("#![no_std]"), "{name} is not no_std");
        for lint in CORE_LINTS {
            assert!(attributes.contains(lint), "{name} does not deny {lint}");
        }
        let lines: Vec<&str> = source.lines().collect();
        let std = lines
            .iter()
            .position(|line| line.contains("extern crate std;"));
        let attributes = std.map(|at| {
            lines[..at]
                .iter()
                .rev()
                .take_while(|line| line.starts_with('#'))
        });
        let for_tests =
            attributes.is_none_or(|mut lines| lines.any(|line| line.contains("cfg(test)")));
        assert!(for_tests, "{name} uses std outside tests");
    }
}

#[test]
fn unsafe_code_is_forbidden_but_where_it_is_listed() {
    for package in packages() {
        let name = text(&package, "name");
        let forbids = read(crate_root(&package)).contains("#![forbid(unsafe_code)]");
        let fuzz_target = name == "fuzz";
        assert!(
            forbids || fuzz_target || MAY_BE_UNSAFE.contains(&name),
            "{name} does not forbid unsafe code"
        );
    }
}

#[test]
fn every_crate_takes_version_and_lints_from_the_workspace() {
    for package in packages_of("Cargo.toml") {
        let manifest = text(&package, "manifest_path");
        let inherits = read(manifest);
        for line in [
            "version.workspace = true",
            "edition.workspace = true",
            "rust-version.workspace = true",
            "license.workspace = true",
            "publish.workspace = true",
        ] {
            assert!(
                inherits.lines().any(|found| found == line),
                "{manifest}: {line}"
            );
        }
        assert_eq!(
            section(&inherits, "lints"),
            ["workspace = true"],
            "{manifest}"
        );
    }
}

/// The settings of one table of a manifest, sorted.
fn section(manifest: &str, table: &str) -> Vec<String> {
    let header = format!("[{table}]");
    let mut lines: Vec<String> = manifest
        .lines()
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

#[test]
fn other_workspaces_have_the_lints_of_the_main_one() {
    let main = read("Cargo.toml");
    let others = other_manifests();
    assert!(!others.is_empty(), "where is the fuzz workspace?");
    for manifest in others {
        let other = read(&manifest);
        for tool in ["rust", "clippy"] {
            let lints = section(&main, &format!("workspace.lints.{tool}"));
            assert!(!lints.is_empty());
            let found = [format!("lints.{tool}"), format!("workspace.lints.{tool}")]
                .iter()
                .map(|table| section(&other, table))
                .find(|lints| !lints.is_empty());
            assert_eq!(found, Some(lints), "{tool} lints of {manifest}");
        }
    }
}

#[test]
fn other_workspaces_have_the_versions_of_the_main_one() {
    let main = packages_of("Cargo.toml");
    let requirements = |packages: &[Value]| -> BTreeMap<String, String> {
        let dependencies = packages
            .iter()
            .flat_map(|package| package["dependencies"].as_array().unwrap());
        dependencies
            .filter(|dependency| dependency["path"].is_null())
            .map(|dependency| {
                (
                    text(dependency, "name").into(),
                    text(dependency, "req").into(),
                )
            })
            .collect()
    };
    let expected = requirements(&main);
    for manifest in other_manifests() {
        let packages = packages_of(&manifest);
        for package in &packages {
            for key in ["version", "edition", "rust_version", "license"] {
                assert_eq!(package[key], main[0][key], "{key} of {manifest}");
            }
        }
        for (name, requirement) in requirements(&packages) {
            if let Some(expected) = expected.get(&name) {
                assert_eq!(&requirement, expected, "{name} in {manifest}");
            }
        }
    }
}

/// The feature that leaves checks out is asked for on the command line of the campaign alone.
#[test]
fn no_crate_turns_the_second_look_off() {
    for path in files().iter().filter(|path| path.ends_with("Cargo.toml")) {
        let manifest = read(path);
        let found: Vec<&str> = manifest
            .lines()
            .filter(|line| line.contains("single-checks") && !line.starts_with('#'))
            .collect();
        let declared: &[&str] = if path == "ecu-bootloader/Cargo.toml" {
            &["single-checks = []"]
        } else {
            &[]
        };
        assert_eq!(found, declared, "{path}");
    }
}

/// Deliberate bugs are compiled for the tests of the proof and where `--bug` asks for them.
#[test]
fn deliberate_bugs_are_built_for_the_proof_alone() {
    for path in files().iter().filter(|path| path.ends_with("Cargo.toml")) {
        let manifest = read(path);
        let found: Vec<&str> = manifest
            .lines()
            .filter(|line| line.contains("deliberate-bugs") && !line.starts_with('#'))
            .collect();
        let declared: &[&str] = match path.as_str() {
            "ecu-bootloader/Cargo.toml" => &["deliberate-bugs = []"],
            "hil/powercut/Cargo.toml" => &[
                r#"deliberate-bugs = ["ecu-bootloader/deliberate-bugs"]"#,
                r#"ecu-bootloader = { workspace = true, features = ["deliberate-bugs"] }"#,
            ],
            "tcu/Cargo.toml" => &["deliberate-bugs = []"],
            "hil/chaos/Cargo.toml" => &[
                r#"deliberate-bugs = ["tcu/deliberate-bugs"]"#,
                r#"tcu = { workspace = true, features = ["deliberate-bugs"] }"#,
            ],
            _ => &[],
        };
        assert_eq!(found, declared, "{path}");
    }
    let proof = read("hil/powercut/Cargo.toml");
    let for_tests = section(&proof, "dev-dependencies").concat();
    assert!(for_tests.contains("deliberate-bugs"), "{for_tests}");
}

#[test]
fn every_fuzz_target_is_declared_and_has_a_corpus() {
    let manifest = read("fuzz/Cargo.toml");
    let files = files();
    let targets = files
        .iter()
        .filter_map(|path| path.strip_prefix("fuzz/fuzz_targets/")?.strip_suffix(".rs"));
    let mut count = 0;
    for target in targets {
        count += 1;
        let declared = format!("path = \"fuzz_targets/{target}.rs\"");
        assert!(
            manifest.contains(&declared),
            "{target} is not in fuzz/Cargo.toml"
        );
        let corpus = format!("fuzz/corpus/{target}/");
        let seeds = files.iter().any(|path| path.starts_with(&corpus));
        assert!(seeds, "{corpus} is empty");
        let lines = read(format!("fuzz/fuzz_targets/{target}.rs"))
            .lines()
            .count();
        assert!(lines < 12, "the logic of {target} belongs in its library");
    }
    assert_ne!(count, 0);
    assert_eq!(manifest.matches("[[bin]]").count(), count);
}

#[test]
fn files_stay_readable() {
    let source = |path: &&String| {
        [".rs", ".sh", ".py", ".md"]
            .iter()
            .any(|ending| path.ends_with(ending))
    };
    for path in files().iter().filter(source) {
        let lines = read(path).lines().count();
        assert!(lines <= MAX_LINES, "{path} has {lines} lines");
    }
}

/// Absolute paths that exist only where somebody worked.
#[test]
fn no_file_names_a_path_of_a_developers_machine() {
    let roots = ["home", "root", "Users", "work"].map(|name| format!("/{name}/"));
    for path in files() {
        let Ok(content) = fs::read_to_string(root().join(&path)) else {
            continue; // Not text: a seed of a corpus.
        };
        for (number, line) in (1..).zip(content.lines()) {
            for start in &roots {
                for (at, _) in line.match_indices(start.as_str()) {
                    let before = line[..at].chars().next_back();
                    let inner = before.is_some_and(|c| c.is_alphanumeric() || "._-/}*".contains(c));
                    assert!(inner, "{path}:{number}: {line}");
                }
            }
        }
    }
}

/// The targets of a document's links into the repository, without anchors.
fn links_of(document: &str) -> Vec<&str> {
    let after = document.split("](").skip(1);
    after
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://") && !link.starts_with('#'))
        .map(|link| link.split('#').next().unwrap_or(link))
        .collect()
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for path in files().iter().filter(|path| path.ends_with(".md")) {
        let document = read(path);
        let folder = root().join(path).parent().unwrap().to_owned();
        for link in links_of(&document) {
            if !folder.join(link).exists() {
                broken.push(format!("{path} -> {link}"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

//! Keeps docs/catalogue.md true: all techniques are there, and what is said to work is proved by a
//! test that exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The groups of techniques (T) and recommendations (R), and how many each has.
const GROUPS: [(&str, u32); 30] = [
    ("T1", 8),
    ("T2", 5),
    ("T3", 13),
    ("T4", 11),
    ("T5", 3),
    ("T6", 6),
    ("T7", 13),
    ("T8", 5),
    ("T9", 6),
    ("T10", 8),
    ("T11", 3),
    ("T12", 2),
    ("T13", 3),
    ("T14", 7),
    ("T15", 8),
    ("T16", 2),
    ("T17", 6),
    ("T18", 4),
    ("T19", 3),
    ("T20", 4),
    ("T21", 7),
    ("T22", 5),
    ("R1", 7),
    ("R2", 5),
    ("R3", 10),
    ("R4", 9),
    ("R5", 9),
    ("R6", 9),
    ("R7", 4),
    ("R8", 21),
];

#[derive(Debug)]
struct Row {
    id: String,
    mechanism: String,
    what: String,
    status: String,
    proof: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn catalogue() -> String {
    fs::read_to_string(root().join("docs/catalogue.md")).unwrap()
}

fn rows() -> Vec<Row> {
    let text = catalogue();
    let lines = text.lines().filter(|line| line.starts_with('|'));
    lines
        .skip(2) // Heading and rule.
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [id, mechanism, what, status, proof] = cells[..] else {
                panic!("five columns, please: {line}");
            };
            Row {
                id: id.into(),
                mechanism: mechanism.into(),
                what: what.into(),
                status: status.into(),
                proof: proof.into(),
            }
        })
        .collect()
}

#[test]
fn all_techniques_are_there_once_and_in_order() {
    let expected: Vec<String> = GROUPS
        .iter()
        .flat_map(|(group, count)| (1..=*count).map(move |number| format!("{group}.{number}")))
        .collect();
    let found: Vec<String> = rows().into_iter().map(|row| row.id).collect();
    assert_eq!(found, expected);
    assert_eq!(found.len(), 206);
}

#[test]
fn every_row_is_complete() {
    for row in rows() {
        let known = ["M1", "M2", "M3", "M4", "M5", "M6"].contains(&row.mechanism.as_str());
        assert!(known, "{row:?}");
        assert!(row.what.len() > 3, "{row:?}");
        let explained = match row.status.as_str() {
            "works" => row.proof.contains('`'),
            "not yet" => row.proof.len() > "missing: ".len() && row.proof.starts_with("missing: "),
            "out" => row.proof.len() > 20,
            _ => panic!("no such status: {row:?}"),
        };
        assert!(explained, "{row:?}");
    }
}

#[test]
fn the_sums_are_right() {
    let rows = rows();
    let count = |status| rows.iter().filter(|row| row.status == status).count();
    let sums = format!(
        "Of {}: {} work, {} do not yet, {} are out.",
        rows.len(),
        count("works"),
        count("not yet"),
        count("out")
    );
    assert!(catalogue().contains(&sums), "it should say: {sums}");
}

#[test]
fn what_works_is_proved_by_a_test_that_exists() {
    let tests = tests_by_crate();
    for row in rows().iter().filter(|row| row.status == "works") {
        assert_tests(&tests, &row.id, &row.proof);
    }
}

#[test]
fn each_threat_names_tests_that_exist() {
    let tests = tests_by_crate();
    let text = fs::read_to_string(root().join("docs/spec/threats.md")).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('|'));
    let threats: Vec<_> = lines.filter(|line| line.contains("::")).collect();
    assert!(threats.len() > 15, "{threats:?}");
    for threat in threats {
        let cells: Vec<&str> = threat.trim_matches('|').split('|').collect();
        assert_tests(&tests, cells[0], cells[2]);
    }
}

/// What has no package's name before it is one of the bootloader's.
#[test]
fn the_comparison_of_bootloaders_names_tests_that_exist() {
    let tests = tests_by_crate();
    let text = fs::read_to_string(root().join("docs/comparison.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let mut names = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let words = cells[1].split('`').skip(1).step_by(2);
        for word in words.filter(|word| word.contains("::")) {
            let package = word.split("::").next().unwrap_or_default();
            let path = match tests.contains_key(package) {
                true => format!("`{word}`"),
                false => format!("`ecu-bootloader::machine::{word}`"),
            };
            assert_tests(&tests, cells[0], &path);
            names += 1;
        }
    }
    assert!(names > 10, "{names}");
}

#[test]
fn each_clause_of_uptane_names_tests_that_exist() {
    let tests = tests_by_crate();
    let text = fs::read_to_string(root().join("docs/spec/trust.md")).unwrap();
    let rows = text
        .lines()
        .map(|line| line.trim_matches('|').split('|').map(str::trim));
    let rows = rows.map(Iterator::collect::<Vec<_>>);
    let clauses: Vec<_> = rows
        .filter(|cells| cells.len() == 5 && cells[0].starts_with(|first: char| first.is_numeric()))
        .collect();
    assert!(clauses.len() > 70, "{} clauses", clauses.len());
    for cells in clauses {
        let [clause, shall, status, reason, proof] = cells[..] else {
            panic!("five columns, please")
        };
        let of = format!("{clause}, {shall}");
        match status {
            "yes" | "part" => assert!(!proof.is_empty(), "{of}: says nothing that shows it"),
            "no" | "n.a." => assert!(!reason.is_empty(), "{of}: says no reason"),
            status => panic!("{of}: {status}"),
        }
        assert_tests(&tests, &of, proof);
    }
}

/// Every word in backticks is the path of a test.
fn assert_tests(tests: &BTreeMap<String, BTreeSet<(String, String)>>, of: &str, proof: &str) {
    for proof in proof.split('`').skip(1).step_by(2) {
        let path: Vec<&str> = proof.split("::").collect();
        let (Some(package), Some(name)) = (path.first(), path.last()) else {
            panic!("{of}: {proof}");
        };
        let known = tests.get(*package);
        let known = known.unwrap_or_else(|| panic!("{of}: no crate {package}"));
        let module = path[1..path.len() - 1].join("/");
        let found = known
            .iter()
            .any(|(file, test)| test == name && belongs(file, &module));
        assert!(found, "{of}: {proof} is no test");
    }
}

/// Whether a source file is that of a module, wherever the crate's tests lie: `src/pss/tests.rs`
/// belongs to `pss`, to `pss::tests` and to the crate itself.
fn belongs(file: &str, module: &str) -> bool {
    let place = file
        .trim_start_matches("src/")
        .trim_start_matches("tests/")
        .trim_end_matches(".rs")
        .trim_end_matches("/mod")
        .trim_end_matches("/main");
    place == module || place.strip_suffix("/tests") == Some(module) || module.is_empty()
}

/// The tests of each crate: the file in the crate, and the function's name.
fn tests_by_crate() -> BTreeMap<String, BTreeSet<(String, String)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let folder = |package: &Value| {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        manifest.parent().unwrap().to_owned()
    };
    let tests_in = |package: &Value| {
        let folder = folder(package);
        ["src", "tests"]
            .iter()
            .flat_map(|part| tests_below(&folder, &folder.join(part)))
            .collect()
    };
    packages
        .iter()
        .map(|package| {
            (
                package["name"].as_str().unwrap().to_owned(),
                tests_in(package),
            )
        })
        .collect()
}

fn tests_below(package: &Path, folder: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut tests = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests.extend(tests_below(package, &path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(package).unwrap().to_str().unwrap();
            let source = fs::read_to_string(&path).unwrap();
            tests.extend(tests_of(&source).map(|name| (file.to_owned(), name)));
        }
    }
    tests
}

/// The functions of a source that are marked as tests and not ignored.
fn tests_of(source: &str) -> impl Iterator<Item = String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let name = |line: &str| {
        let (_, rest) = line.split_once("fn ")?;
        let (name, _) = rest.split_once('(')?;
        Some(name.to_owned())
    };
    let mut names = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if *line != "#[test]" && !line.starts_with("#[tokio::test") {
            continue;
        }
        let mut rest = lines[at + 1..].iter();
        let attributes = rest.clone().take_while(|line| !line.contains("fn "));
        let ignored = attributes.clone().any(|line| line.starts_with("#[ignore"));
        names.extend(
            rest.nth(attributes.count())
                .filter(|_| !ignored)
                .and_then(|line| name(line)),
        );
    }
    names.into_iter()
}

#[test]
fn only_marked_functions_are_tests() {
    let source = "#[test]\nfn a() {}\nfn b() {}\n#[test]\n#[ignore]\nfn c() {}\n\
                  #[tokio::test(flavor = \"x\")]\nasync fn d() {}\n#[test]\n#[should_panic]\nfn e() {}";
    assert_eq!(tests_of(source).collect::<Vec<_>>(), ["a", "d", "e"]);
}

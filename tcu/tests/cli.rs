//! The program from outside: arguments, exit codes, output.

use std::path::Path;
use std::process::{Command, Output};

const VEHICLE: &str = r#"{"vin": "WCANPS00000000001",
    "buses": [{"name": "body", "link": "bus:/nowhere/bus", "bitrate": 500000}],
    "ecus": [{"name": "door", "bus": "body", "serial": "SN-1", "hardware_id": "hw-a",
              "request_id": "7E0", "response_id": "7E8", "functional_id": "7DF",
              "access_key": "000102030405060708090a0b0c0d0e0f"}]}"#;

/// Runs the program in a folder that holds a valid `vehicle.json`.
fn tcu(dir: &Path, arguments: &[&str]) -> Output {
    std::fs::write(dir.join("vehicle.json"), VEHICLE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcu"));
    command.current_dir(dir).args(arguments).output().unwrap()
}

fn check(arguments: &[&str], code: i32, said: &str) {
    let dir = tempfile::tempdir().unwrap();
    let output = tcu(dir.path(), arguments);
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}\n{out}{err}"
    );
    assert!(
        out.contains(said) || err.contains(said),
        "{arguments:?} does not say {said:?}\n{out}{err}"
    );
}

#[test]
fn help_has_examples_and_exit_codes() {
    check(&["--help"], 0, "Examples:");
    check(&["--help"], 0, "Exit codes:");
    check(&["--version"], 0, "tcu 0.1.0");
}

#[test]
fn wrong_arguments_are_usage() {
    check(&[], 2, "Usage");
    check(&["fly"], 2, "unrecognized subcommand");
    check(&["install"], 2, "SOURCE");
    check(
        &["run", "--url", "https://x", "--interval", "0"],
        2,
        "at least 1 second",
    );
    check(&["--parallel", "0", "status"], 2, "parallel");
    check(&["--transport", "pigeon", "status"], 2, "pigeon");
    check(
        &["verify", "http://example.org"],
        2,
        "neither an https URL nor a file",
    );
}

#[test]
fn a_control_channel_that_cannot_be_used_is_usage() {
    check(&["run", "--tenant", "x"], 2, "--ddi");
    check(&["run", "--ddi", "http://x.example"], 2, "not an https URL");
    check(
        &["run", "--ddi", "https://x.example", "--tenant", "a/b"],
        2,
        "a tenant",
    );
    check(
        &["run", "--ddi", "https://x.example", "--controller", ".."],
        2,
        "a controller",
    );
    check(
        &["run", "--ddi", "https://x.example", "--token-file", "none"],
        2,
        "none",
    );
    check(
        &["run", "--url", "https://x.example", "--reports", "http://x"],
        2,
        "https",
    );
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    check(&["completions", "bash"], 0, "_tcu");
    check(&["man"], 0, ".TH tcu");
    let dir = tempfile::tempdir().unwrap();
    check(&["man", "--out", dir.path().to_str().unwrap()], 0, "");
    let page = std::fs::read_to_string(dir.path().join("tcu-install.1")).unwrap();
    assert!(page.contains(".TH tcu-install"), "{page}");
}

#[test]
fn status_without_a_campaign_is_success() {
    check(&["status"], 0, "no campaign yet");
    check(&["--json", "status"], 0, "null");
}

#[test]
fn a_broken_vehicle_is_usage_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.json");
    std::fs::write(&path, r#"{"vin": "short"}"#).unwrap();
    check(
        &["--config", path.to_str().unwrap(), "inventory"],
        2,
        "broken.json",
    );
    check(
        &["--config", "/nowhere.json", "inventory"],
        2,
        "/nowhere.json",
    );
}

#[test]
fn a_bus_that_is_not_there_is_io_and_says_which() {
    check(&["inventory"], 7, "bus body");
}

#[test]
fn a_bundle_that_is_not_there_is_io() {
    check(&["verify", "missing.tar"], 7, "missing.tar");
}

#[test]
fn a_root_that_is_not_there_is_usage() {
    check(
        &["--root", "/nowhere.json", "verify", "https://localhost:1"],
        2,
        "/nowhere.json",
    );
}

#[test]
fn a_broken_root_is_usage_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("root.json"), "{}").unwrap();
    let root = dir.path().join("root.json");
    check(
        &[
            "--root",
            root.to_str().unwrap(),
            "verify",
            "https://localhost:1",
        ],
        2,
        "root.json",
    );
}

#[test]
fn one_state_folder_serves_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let held = tcu::state::State::open(&state).unwrap();
    let text = state.to_str().unwrap();
    check(
        &["--state", text, "verify", "x.tar"],
        7,
        "in use by another tcu",
    );
    drop(held);
    check(&["--state", text, "verify", "x.tar"], 7, "x.tar");
}

#[test]
fn errors_are_json_too() {
    check(&["--json", "verify", "x.tar"], 7, r#"{"error":"#);
}

/// A committed campaign that does not reach its ECU, in the state folder.
fn incomplete(dir: &Path) {
    use tcu::engine::{Journal as _, Plan, PlannedEcu, Record, Running};

    let state = tcu::state::State::open(&dir.join("state")).unwrap();
    let mut journal = state.journal().unwrap();
    let door = PlannedEcu {
        name: "door".into(),
        bus: "body".into(),
        image: ecu_image::ImageDigest([2; 32]),
        artifact: ecu_image::Digest::ZERO,
        length: 0,
        grant: String::new(),
        key_set: None,
        from: Running {
            version: "1.0.0".into(),
            image: ecu_image::ImageDigest([1; 32]),
        },
        to_version: "2.0.0".into(),
        unchanged: false,
        last: false,
        restore: None,
        after: Vec::new(),
    };
    let plan = Plan {
        campaign: "spring".into(),
        ecus: vec![door],
        rxswins: Default::default(),
        together: Default::default(),
    };
    journal.begin(&plan).unwrap();
    let named = Record::Incomplete { ecus: vec![0] };
    for record in [
        Record::AllStaged,
        Record::AllActivated,
        Record::Commit,
        named,
    ] {
        journal.append(&record, None).unwrap();
    }
}

#[test]
fn an_ecu_is_given_up_without_a_service_and_the_record_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &str, code: i32, said: &str| {
        let arguments = format!("--state state {arguments}");
        let output = tcu(dir.path(), &arguments.split(' ').collect::<Vec<_>>());
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}\n{out}{err}");
        assert!(out.contains(said) || err.contains(said), "{out}{err}");
        out
    };
    run("give-up door", 2, "--reason");
    run("give-up door --reason dead", 6, "no service answers");
    incomplete(dir.path());
    run(
        "give-up window --reason dead",
        3,
        "has no ECU window; it is about door",
    );
    run("give-up door --reason dead", 0, "door is given up");
    run("give-up door --reason dead", 0, "was given up before");
    run("evidence verify", 0, "1 entries, whole");
    let status = run("status --json", 5, "given-up");
    let report: serde_json::Value = serde_json::from_str(status.trim()).unwrap();
    let door = &report["ecus"][0];
    assert_eq!(door["to"], "unknown");
    assert!(
        door["reason"]
            .as_str()
            .unwrap()
            .ends_with("at the command line: dead")
    );
}

//! The audit log: what is recorded, and what is found in it.

use std::fs;

use crate::common::*;
use campaign::{chain::ChainFault, ids::sha256};
use oem::{
    Error, ExitCode,
    audit::{self, NotedHead},
    publish,
    rotate::{Rotated, rotate},
};

const LOG: &str = "repo/keys/audit.log";

fn what(desk: &Desk) -> Vec<String> {
    let record = audit::verify(&desk.repo(), None).unwrap();
    let what = |body: &serde_json::Value| body["what"].as_str().unwrap().to_owned();
    record
        .entries
        .iter()
        .map(|entry| what(&entry.body))
        .collect()
}

/// A desk that has done something of each kind.
fn busy() -> Desk {
    let desk = Desk::new();
    let image = desk.pack("hw-a", "1.0.0", 2);
    desk.release("spring", &[image]).unwrap();
    rotate(&desk.repo(), Rotated::ImageTimestamp, now()).unwrap();
    publish::refresh(&desk.repo(), now()).unwrap();
    desk
}

#[test]
fn what_changed_trust_or_was_released_is_recorded() {
    let desk = busy();
    let expected = [
        "init",
        "vehicle add",
        "pack",
        "release",
        "rotate",
        "refresh",
    ];
    assert_eq!(what(&desk), expected);
    let record = audit::read(&desk.repo()).unwrap();
    let release = &record.entries[3].body["details"];
    assert_eq!(release["campaign"], "spring");
    let targets = fs::read(desk.path("repo/metadata/1.targets.json")).unwrap();
    let digest = sha256(&targets).to_string();
    assert_eq!(release["documents"]["metadata/1.targets.json"], digest);
    assert_eq!(
        record.entries[3].body["who"].as_str().map(str::is_empty),
        Some(false)
    );
}

#[test]
fn a_refused_command_is_not_recorded() {
    let desk = busy();
    let old = desk.pack("hw-a", "0.9.0", 1);
    let before = what(&desk);
    assert!(desk.release("old", &[old]).is_err());
    assert_eq!(what(&desk), before);
}

#[test]
fn no_key_is_recorded() {
    let desk = busy();
    let log = fs::read_to_string(desk.path(LOG)).unwrap();
    assert!(!log.contains("PRIVATE"));
    let vehicle = fs::read(desk.path(&format!("repo/keys/vehicles/{VIN}.json"))).unwrap();
    let vehicle: serde_json::Value = serde_json::from_slice(&vehicle).unwrap();
    for (_, ecu) in vehicle["ecus"].as_object().unwrap() {
        for (name, value) in ecu["provisioning"].as_object().unwrap() {
            let secret = name.ends_with("_key").then(|| value.as_str()).flatten();
            assert!(secret.is_none_or(|secret| !log.contains(secret)), "{name}");
        }
    }
}

#[test]
fn tampering_is_found_where_it_is_and_nothing_is_done_after_it() {
    let desk = busy();
    let image = desk.pack("hw-a", "1.1.0", 3);
    let log = fs::read_to_string(desk.path(LOG)).unwrap();
    fs::write(desk.path(LOG), log.replace("spring", "winter")).unwrap();
    let before = desk.files("repo");
    let error = desk.release("summer", &[image]).unwrap_err();
    assert!(desk.files("repo") == before);
    assert_eq!(error.exit_code(), ExitCode::Repository);
    let Error::Audit(error) = error else {
        panic!("{error}")
    };
    assert_eq!((error.sequence, error.fault), (4, ChainFault::Altered));

    let lines: Vec<_> = log
        .lines()
        .filter(|line| !line.contains("spring"))
        .collect();
    fs::write(desk.path(LOG), lines.join("\n") + "\n").unwrap();
    let Err(Error::Audit(error)) = audit::verify(&desk.repo(), None) else {
        panic!()
    };
    let found = ChainFault::Sequence { found: 5 };
    assert_eq!((error.sequence, error.fault), (4, found));
}

#[test]
fn an_end_that_was_cut_off_is_found_by_a_noted_head() {
    let desk = busy();
    let head = audit::read(&desk.repo()).unwrap().head;
    let noted: NotedHead = NotedHead(head).to_string().parse().unwrap();
    publish::refresh(&desk.repo(), now()).unwrap();
    assert!(audit::verify(&desk.repo(), Some(&noted)).is_ok());
    let log = fs::read_to_string(desk.path(LOG)).unwrap();
    let lines: Vec<_> = log.lines().take(5).collect();
    fs::write(desk.path(LOG), lines.join("\n") + "\n").unwrap();
    assert!(audit::verify(&desk.repo(), None).is_ok());
    let error = audit::verify(&desk.repo(), Some(&noted)).unwrap_err();
    let Error::Audit(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.fault, ChainFault::Head { expected: head });
}

/// Power fails while the last line is written.
#[test]
fn a_torn_line_is_said_and_recorded() {
    let desk = busy();
    let log = fs::read(desk.path(LOG)).unwrap();
    fs::write(desk.path(LOG), &log[..log.len() - 10]).unwrap();
    assert!(matches!(
        audit::verify(&desk.repo(), None),
        Err(Error::Audit(_))
    ));
    publish::refresh(&desk.repo(), now()).unwrap();
    let record = audit::verify(&desk.repo(), None).unwrap();
    assert!(record.entries[5].body["torn_before"].as_u64() > Some(100));
}

//! The program from outside: what is wrong on the command line is seen before anything is built.

use std::process::Command;

fn usage(arguments: &[&str], said: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_rig"))
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    assert!(errors.contains(said), "{arguments:?}: {errors}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

#[test]
fn a_scenario_that_is_not_there_is_usage() {
    usage(
        &["--scenario", "nope"],
        "no scenario nope; there are: update",
    );
}

#[test]
fn links_are_two() {
    usage(&["--links", "vcan0"], "--links takes two interfaces");
    usage(&["--links", "a,b,c"], "got 3");
    usage(&["--transport", "pigeon"], "pigeon");
}

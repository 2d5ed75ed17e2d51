//! The program: exit codes, and what it prints for machines.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::common::Desk;

fn oem(repo: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oem"))
        .arg("--repo")
        .arg(repo)
        .args(arguments)
        .output()
        .unwrap()
}

fn check(desk: &Desk, arguments: &[&str], code: i32) -> String {
    let output = oem(&desk.repo_dir(), arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    assert_eq!(errors.is_empty(), code == 0, "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn exit_codes_are_as_documented() {
    let desk = Desk::new();
    let (firmware, image) = (desk.path("fw"), desk.path("fw.img"));
    std::fs::write(&firmware, ":0000000\n").unwrap();
    let pack = |format: &'static str| {
        let (input, out) = (firmware.to_str().unwrap(), image.to_str().unwrap());
        let head = ["pack", "--input", input, "--out", out, "--format", format];
        let options = [
            "--hardware-id",
            "hw-a",
            "--version",
            "1.0.0",
            "--counter",
            "3",
        ];
        [head.as_slice(), options.as_slice()].concat()
    };
    check(&desk, &pack("hex"), 3);
    check(&desk, &pack("auto"), 3);
    assert!(!image.exists());
    check(&desk, &pack("raw"), 0);
    check(&desk, &["inspect", firmware.to_str().unwrap()], 3);
    let text = check(&desk, &["inspect", "--json", image.to_str().unwrap()], 0);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["security_counter"], 3);
    check(&desk, &["inspect", "/nowhere"], 1);
    let key = std::fs::read(desk.repo_dir().join("keys/timestamp.pem")).unwrap();
    std::fs::write(&firmware, key).unwrap();
    check(&desk, &pack("raw"), 4);
    check(&desk, &["pack"], 2);
    check(&desk, &["release", "--campaign", "a b", "--image", "x"], 2);
    check(&desk, &["init"], 4);
    let nowhere = oem(&desk.path("out"), &["vehicle", "list"]);
    assert_eq!(nowhere.status.code(), Some(5));
    let release = [
        "release",
        "--json",
        "--campaign",
        "c",
        "--image",
        image.to_str().unwrap(),
    ];
    let json: serde_json::Value = serde_json::from_str(&check(&desk, &release, 0)).unwrap();
    assert_eq!(json["vehicles"][crate::common::VIN][0], "door");
}

#[test]
fn help_scripts_and_manual_are_printed() {
    let desk = Desk::new();
    assert!(check(&desk, &["--help"], 0).contains("Exit codes:"));
    assert!(check(&desk, &["completions", "bash"], 0).contains("oem"));
    assert!(check(&desk, &["man"], 0).contains(".TH oem"));
    let pages = desk.path("pages");
    std::fs::create_dir(&pages).unwrap();
    check(&desk, &["man", "--out", pages.to_str().unwrap()], 0);
    let page = std::fs::read_to_string(pages.join("oem-key-new.1")).unwrap();
    assert!(page.contains("encrypt"), "{page}");
    assert_eq!(
        check(&desk, &["vehicle", "list"], 0),
        format!("{}\n", crate::common::VIN)
    );
}

#[test]
fn what_was_done_is_said_as_json_too() {
    let desk = Desk::new();
    let vin = crate::common::VIN;
    let image = desk.pack("hw-a", "1.0.0", 4);
    let (image, out) = (image.to_str().unwrap(), desk.path("again"));
    let bundle = desk.path("spring.tar");
    let (out, bundle) = (out.to_str().unwrap(), bundle.to_str().unwrap());
    let done = |arguments: &[&str]| -> serde_json::Value {
        let text = check(&desk, &[&["--json"], arguments].concat(), 0);
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(done(&["vehicle", "list"])["vehicles"][0], vin);
    let exported = done(&["vehicle", "export", "--vin", vin, "--out", out]);
    assert_eq!(exported["out"], out);
    let released = done(&["release", "--campaign", "spring", "--image", image]);
    assert_eq!(released["campaign"], "spring");
    assert_eq!(done(&["refresh"])["vehicles"][0], vin);
    let bundled = done(&["bundle", "--vin", vin, "--out", bundle]);
    assert_eq!(bundled["ecus"], 1);
    assert_eq!(done(&["rotate", "image-timestamp"])["root"], 2);
    assert!(done(&["fleet", "token"])["token"].is_string());
    let shown = done(&["root", "show", "image"]);
    assert_eq!(shown["version"], 2, "as with `oem root show --json`");
}

//! Keys at rest: encrypted files, and keys that lie in a token.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::common::*;
use crate::release::verify;
use oem::{
    Error, ExitCode,
    init::{InitOptions, init},
    keys::{Secret, SigningKey, Unlock},
    publish,
    repo::Repo,
    rotate::{Rotated, rotate},
    vehicle,
};

const WORD: &str = "a passphrase of the desk";

fn secret() -> Option<Secret> {
    Some(Secret::new(WORD.into()))
}

fn encrypted_desk() -> Desk {
    let desk = Desk::empty();
    let options = InitOptions {
        rsa_bits: 2048,
        passphrase: secret(),
        ..InitOptions::default()
    };
    let repo = init(&desk.repo_dir(), &options, now()).unwrap();
    vehicle::add(&repo, &desk.path("spec.json"), &desk.path("out")).unwrap();
    desk
}

fn unlocked(desk: &Desk) -> Repo {
    desk.repo().with_unlock(Unlock::with(secret()))
}

#[test]
fn offline_keys_are_encrypted_and_online_keys_are_not() {
    let desk = encrypted_desk();
    let mut plain = Vec::new();
    for (path, bytes) in desk.files("repo/keys") {
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("BEGIN PRIVATE KEY") {
            plain.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
        assert!(!text.contains(WORD), "{path:?}");
    }
    let online = [
        "director-snapshot.pem",
        "director-time.pem",
        "director-timestamp.pem",
        "director.pem",
        "timestamp.pem",
    ];
    let tls = ["ca.key", "server.key"];
    assert_eq!(plain, [online.as_slice(), tls.as_slice()].concat());
}

#[test]
fn a_release_needs_the_passphrase_and_a_refresh_does_not() {
    let desk = encrypted_desk();
    let image = desk.pack_in(&unlocked(&desk), "hw-a", "1.0.0", 4);
    let options = desk.options("spring", &[image]);
    let release = |repo: &Repo| oem::release::release(repo, &options, now());
    // Tests have no terminal.
    let error = release(&desk.repo()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Repository);
    let wrong = Some(Secret::new("another".into()));
    let wrong = desk.repo().with_unlock(Unlock::with(wrong));
    assert!(matches!(release(&wrong), Err(Error::Corrupt { .. })));
    drop(wrong);
    release(&unlocked(&desk)).unwrap();
    assert!(verify(&desk).is_ok());
    publish::refresh(&desk.repo(), now()).unwrap();
}

#[test]
fn a_new_key_is_encrypted_as_the_one_before() {
    let desk = encrypted_desk();
    rotate(&unlocked(&desk), Rotated::ImageTargets, now()).unwrap();
    for name in ["targets.pem", "targets.before-2.pem"] {
        let text = fs::read_to_string(desk.path(&format!("repo/keys/{name}"))).unwrap();
        assert!(
            text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            "{name}"
        );
    }
}

/// `oem` with these variables and nothing to read from.
fn oem(desk: &Desk, variables: &[(&str, &Path)], arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_oem"))
        .arg("--repo")
        .arg(desk.repo_dir())
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_passphrase_comes_from_a_file_or_the_environment_and_can_be_changed() {
    let desk = Desk::new();
    let key = desk.path("repo/keys/targets.pem");
    let (old, new, public) = (desk.path("old"), desk.path("new"), desk.path("pub"));
    fs::write(&old, "old one\nnot this line\n").unwrap();
    fs::write(&new, "new one").unwrap();
    let change =
        |new: &Path| ["key", "passphrase", text(&key), "--new", text(new)].map(str::to_owned);
    let run = |arguments: &[String], more: &[&str], variables: &[(&str, &Path)]| {
        let arguments: Vec<_> = arguments
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        oem(&desk, variables, &arguments)
    };
    assert_eq!(run(&change(&old), &[], &[]).0, Some(0));
    let show = ["key", "public", text(&key), "--out", text(&public)].map(str::to_owned);
    let (code, message) = run(&show, &[], &[]);
    assert_eq!(code, Some(5), "{message}");
    assert!(message.contains("OEM_PASSPHRASE"), "{message}");
    let file = ["--passphrase-file", text(&old)];
    assert_eq!(run(&change(&new), &file, &[]).0, Some(0));
    assert_eq!(run(&show, &file, &[]).0, Some(5));
    let variable: [(&str, &Path); 1] = [("OEM_PASSPHRASE", Path::new("new one"))];
    assert_eq!(run(&show, &[], &variable).0, Some(0));
}

const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// A token of `SoftHSM`, with its configuration; `None` where that is not installed.
fn token(desk: &Desk) -> Option<(PathBuf, &'static str)> {
    let module = MODULES.into_iter().find(|path| Path::new(path).exists())?;
    let (folder, conf) = (desk.path("tokens"), desk.path("softhsm2.conf"));
    fs::create_dir(&folder).unwrap();
    fs::write(
        &conf,
        format!("directories.tokendir = {}\n", folder.display()),
    )
    .unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "canopus"])
        .args(["--so-pin", "1234", "--pin", "5678"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .ok()?;
    assert!(made.status.success(), "{made:?}");
    Some((conf, module))
}

/// The second of two people has the key in a token.
#[test]
fn a_key_in_a_token_signs_a_release() {
    let desk = Desk::new();
    let (conf, module) = token(&desk).expect("SoftHSM: install Debian's softhsm2");
    let pin = desk.path("pin");
    fs::write(&pin, "5678\n").unwrap();
    let uri = format!(
        "pkcs11:token=canopus;object=bob%20targets?module-path={module}&pin-source=file:{}",
        pin.display()
    );
    let (key, public) = (desk.path("bob.key"), desk.path("bob.pub"));
    let (root, draft) = (desk.path("root.draft"), desk.path("spring.draft"));
    let image = desk.pack("hw-a", "1.0.0", 4);
    let variables: [(&str, &Path); 1] = [("SOFTHSM2_CONF", &conf)];
    let done = |arguments: &[&str]| {
        let (code, message) = oem(&desk, &variables, arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {message}");
        message
    };
    let new = [
        "key",
        "new",
        "--token",
        &uri,
        "--out",
        text(&key),
        "--public",
        text(&public),
    ];
    done(&new);
    let stored = fs::read_to_string(&key).unwrap();
    assert_eq!(stored.trim(), uri);
    let (code, message) = oem(&desk, &variables, &new);
    assert_eq!(code, Some(5), "made twice: {message}");

    let add = format!("targets={}", public.display());
    let change = [
        "root",
        "change",
        "image",
        "--add",
        &add,
        "--threshold",
        "targets=2",
    ];
    done(&[&change[..], &["--draft", text(&root)]].concat());
    let desk_key = |name: &str| desk.path(&format!("repo/keys/{name}.pem"));
    done(&["sign", text(&root), "--key", text(&desk_key("root"))]);
    done(&["publish", text(&root)]);
    let release = ["release", "--campaign", "spring", "--image", text(&image)];
    assert_eq!(oem(&desk, &variables, &release).0, Some(4));
    done(&[&release[..], &["--draft", text(&draft)]].concat());
    done(&["sign", text(&draft), "--key", text(&desk_key("targets"))]);
    assert_eq!(
        oem(&desk, &variables, &["publish", text(&draft)]).0,
        Some(4)
    );
    let signed = done(&["sign", text(&draft), "--key", text(&key)]);
    assert!(signed.contains("targets: 2 of 2 signatures"), "{signed}");
    done(&["publish", text(&draft)]);
    assert_eq!(verify(&desk).unwrap().id.as_str(), "spring");

    fs::write(&pin, "0000\n").unwrap();
    let (code, message) = oem(
        &desk,
        &variables,
        &["sign", text(&draft), "--key", text(&key)],
    );
    assert_eq!(code, Some(5), "{message}");
    assert!(!message.contains("0000"), "{message}");
}

/// Images too can be signed by a key that never was in a file.
#[test]
fn an_image_key_may_lie_in_a_token() {
    let desk = Desk::new();
    let (conf, module) = token(&desk).expect("SoftHSM: install Debian's softhsm2");
    let uri = format!("pkcs11:token=canopus;object=image?module-path={module}");
    let next = desk.path("repo/keys/image-next.pem");
    let (public, set) = (desk.path("image.pub"), desk.path("next.keyset"));
    let variables: [(&str, &Path); 2] = [("SOFTHSM2_CONF", &conf), ("OEM_PIN", Path::new("5678"))];
    let done = |arguments: &[&str]| {
        let (code, message) = oem(&desk, &variables, arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {message}");
    };
    done(&[
        "key",
        "new",
        "--token",
        &uri,
        "--out",
        text(&next),
        "--public",
        text(&public),
    ]);
    done(&["keyset", "make", "--rotate", "--out", text(&set)]);
    for number in [1, 2] {
        let root = desk.path(&format!("repo/keys/ecu-roots/{number}.pem"));
        done(&[
            "keyset",
            "sign",
            text(&set),
            "--root",
            text(&root),
            "--out",
            text(&set),
        ]);
    }
    done(&["keyset", "use", text(&set)]);
    let (firmware, image) = (desk.path("fw"), desk.path("fw.img"));
    fs::write(&firmware, [7; 5000]).unwrap();
    let pack = [
        "pack",
        "--input",
        text(&firmware),
        "--out",
        text(&image),
        "--format",
        "raw",
    ];
    let header = [
        "--hardware-id",
        "hw-a",
        "--version",
        "1.0.0",
        "--counter",
        "3",
    ];
    done(&[&pack[..], &header[..]].concat());
    done(&["release", "--campaign", "spring", "--image", text(&image)]);
    assert_eq!(verify(&desk).unwrap().id.as_str(), "spring");
    // Its successor is not put into a file unless somebody says so.
    let rotate = ["keyset", "make", "--rotate", "--out", text(&set)];
    let (code, message) = oem(&desk, &variables, &rotate);
    assert_eq!(code, Some(4), "{message}");
    assert!(
        message.contains("in a token") && !next.exists(),
        "{message}"
    );
    done(&[
        "key",
        "new",
        "--algorithm",
        "ecdsa-p256-sha256",
        "--out",
        text(&next),
        "--public",
        text(&public),
    ]);
    done(&[&rotate[..], &["--algorithm", "ecdsa-p256-sha256"]].concat());
    assert!(
        !SigningKey::load(&desk.path("repo/keys/targets.pem"))
            .unwrap()
            .is_in_token()
    );
}

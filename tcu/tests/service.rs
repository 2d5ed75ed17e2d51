//! `tcu run` as systemd starts it: what it says, how it ends, and what it makes of a bad surrounding.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const VEHICLE: &str = include_str!("data/vehicle.json");
const ROOT: &str = include_str!("data/root.json");
/// Longer than anything here takes; a test that meets it has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder with all files of a vehicle, and what systemd hears.
struct Bench {
    dir: tempfile::TempDir,
    systemd: UnixDatagram,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("vehicle.json"), VEHICLE).unwrap();
        std::fs::write(dir.path().join("root.json"), ROOT).unwrap();
        let systemd = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        systemd.set_read_timeout(Some(LIMIT)).unwrap();
        Self { dir, systemd }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self, text: &str) {
        let common = "vehicle = \"vehicle.json\"\nroot = \"root.json\"\nstate = \"state\"\n";
        std::fs::write(self.path("tcu.toml"), format!("{common}{text}")).unwrap();
    }

    /// The program with the settings, started by a shell that prepares its limits.
    fn shell(&self, prepare: &str, arguments: &str) -> Command {
        let program = env!("CARGO_BIN_EXE_tcu");
        let mut command = Command::new("sh");
        let script = format!("{prepare} exec {program} --settings tcu.toml {arguments}");
        command.args(["-c", &script]).current_dir(self.dir.path());
        command.env("NOTIFY_SOCKET", self.path("notify"));
        command.env("WATCHDOG_USEC", "200000");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self) -> Running {
        Running(self.shell("", "run").spawn().unwrap())
    }

    /// Waits until systemd hears a message that starts so.
    fn hears(&self, start: &str) -> String {
        let mut buffer = [0; 1000];
        loop {
            let length = match self.systemd.recv(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                length => length.unwrap(),
            };
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if said.starts_with(start) {
                return said;
            }
        }
    }
}

/// A service that does not outlive its test.
struct Running(Child);

impl Running {
    fn terminate(&self) {
        let pid = self.0.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Its exit code, and what it wrote to stderr.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn exit_of(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn sigterm_ends_it_even_while_the_repository_says_nothing() {
    let bench = Bench::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    bench.settings(&format!(
        "[repository]\nurl = \"https://127.0.0.1:{port}\"\n"
    ));
    let mut service = bench.start();
    bench.hears("STATUS=looking for a campaign");
    bench.hears("READY=1");
    let _connection = silent.accept().unwrap();
    bench.hears("WATCHDOG=1");
    bench.hears("WATCHDOG=1");
    service.terminate();
    bench.hears("STOPPING=1");
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_repository_that_is_not_there_is_logged_and_polled_again() {
    let bench = Bench::new();
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    bench.settings(&format!(
        "[repository]\nurl = \"https://{nobody}\"\ninterval-s = 1\n[log]\nformat = \"journal\"\n"
    ));
    let mut service = bench.start();
    bench.hears("STATUS=looking for a campaign");
    bench.hears("STATUS=next poll in 1 s");
    bench.hears("STATUS=looking for a campaign");
    service.terminate();
    let (code, said) = service.end();
    assert_eq!(code, Some(0));
    let failures = said.lines().filter(|line| line.starts_with("<4>"));
    assert!(failures.count() >= 1, "{said}");
}

#[test]
fn broken_settings_are_usage_and_every_key_is_named() {
    let bench = Bench::new();
    bench.settings("paralell = 2\n[repository]\nulr = \"https://x\"\n");
    let (code, said) = exit_of(bench.shell("", "run"));
    assert_eq!(code, Some(2));
    assert!(
        said.contains("tcu.toml: line 4, column 1: unknown key paralell"),
        "{said}"
    );
    assert!(
        said.contains("line 6, column 1: unknown key repository.ulr"),
        "{said}"
    );
}

#[test]
fn without_a_repository_it_says_what_is_missing() {
    let bench = Bench::new();
    bench.settings("");
    let (code, said) = exit_of(bench.shell("", "run"));
    assert_eq!(code, Some(2));
    assert!(said.contains("repository.url"), "{said}");
}

#[test]
fn a_full_disk_starts_nothing_and_says_so() {
    let bench = Bench::new();
    bench.settings("[repository]\nurl = \"https://127.0.0.1:9\"\n");
    // No file may grow beyond a block.
    let (code, said) = exit_of(bench.shell("trap '' XFSZ; ulimit -f 1;", "run"));
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("journal"), "{said}");
    // With room again the same folder serves.
    let output = bench.shell("", "status").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_damaged_journal_is_set_aside_and_the_vehicle_stays_usable() {
    let bench = Bench::new();
    bench.settings("[api]\nsocket = \"tcu.sock\"\n");
    std::fs::create_dir(bench.path("state")).unwrap();
    let noise = "this was a database once, and now it is something else entirely";
    std::fs::write(bench.path("state/journal.sqlite"), noise.repeat(100)).unwrap();
    let mut service = bench.start();
    bench.hears("READY=1");
    service.terminate();
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the journal is damaged"), "{said}");
    assert!(bench.path("state/journal.broken-1.sqlite").exists());
    let (code, said) = exit_of(bench.shell("", "evidence verify"));
    assert_eq!(code, Some(0), "{said}");
    let evidence = std::fs::read_to_string(bench.path("state/evidence.jsonl")).unwrap();
    assert!(evidence.contains("set-aside"), "{evidence}");
    let (code, _) = exit_of(bench.shell("", "status"));
    assert_eq!(code, Some(0));
}

#[test]
fn the_command_line_follows_and_answers_the_service() {
    let bench = Bench::new();
    bench.settings("[api]\nsocket = \"tcu.sock\"\n");
    let (code, said) = exit_of(bench.shell("", "consent"));
    assert_eq!(code, Some(6), "{said}");
    let mut service = bench.start();
    bench.hears("READY=1");
    let mut watch = bench.shell("", "--json status --watch").spawn().unwrap();
    let mut first = String::new();
    let mut lines = BufReader::new(watch.stdout.take().unwrap());
    lines.read_line(&mut first).unwrap();
    let status: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let (code, said) = exit_of(bench.shell("", "cancel"));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("no campaign is on offer"), "{said}");
    service.terminate();
    assert_eq!(service.end().0, Some(0));
    assert!(watch.wait().unwrap().success(), "it ends with the service");
}

#[test]
fn evidence_that_was_tampered_with_is_found() {
    let bench = Bench::new();
    bench.settings("[api]\nsocket = \"tcu.sock\"\n");
    std::fs::create_dir(bench.path("state")).unwrap();
    std::fs::write(bench.path("state/journal.sqlite"), "x".repeat(5000)).unwrap();
    let mut service = bench.start();
    bench.hears("READY=1");
    service.terminate();
    service.end();
    let path = bench.path("state/evidence.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("set-aside", "set-asides")).unwrap();
    for command in ["evidence verify", "evidence export out.jsonl"] {
        let (code, said) = exit_of(bench.shell("", command));
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("tampered"), "{said}");
    }
}

#[test]
fn the_unit_gives_the_fewest_rights() {
    let unit = include_str!("../../packaging/tcu.service");
    let lines: Vec<&str> = unit.lines().collect();
    for line in [
        "Type=notify",
        "User=canopus",
        "CapabilityBoundingSet=CAP_NET_RAW",
        "AmbientCapabilities=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "SystemCallFilter=@system-service",
        "StateDirectory=canopus",
        "WatchdogSec=60",
    ] {
        assert!(lines.contains(&line), "{line}");
    }
    assert!(
        !unit.contains("ReadWritePaths"),
        "nothing but its own folders"
    );
    assert!(unit.contains("ExecStart=/usr/bin/tcu "));
}

#[test]
fn the_settings_of_the_package_are_valid() {
    let bench = Bench::new();
    let text = include_str!("../../packaging/tcu.toml");
    // Each key that is a comment is a key that the program knows.
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key,
            _ => line,
        })
        .collect();
    for text in [text.to_owned(), uncommented.join("\n")] {
        std::fs::write(bench.path("tcu.toml"), text).unwrap();
        let (code, said) = exit_of(bench.shell("", "--state none status"));
        assert_eq!(code, Some(0), "{said}");
    }
}

//! `tcu run` as systemd starts it: what it says, how it ends, and what it makes of a bad surrounding.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
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
            let length = self.systemd.recv(&mut buffer).unwrap();
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
    bench.hears("STATUS=asking the repository");
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
    bench.hears("STATUS=asking the repository");
    bench.hears("STATUS=next poll in 1 s");
    bench.hears("STATUS=asking the repository");
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
    assert!(said.contains("the journal"), "{said}");
    // With room again the same folder serves.
    let output = bench.shell("", "status").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_read_only_disk_starts_nothing_and_says_so() {
    let bench = Bench::new();
    bench.settings("[repository]\nurl = \"https://127.0.0.1:9\"\n");
    std::fs::create_dir(bench.path("state")).unwrap();
    let read_only = "mount -t tmpfs -o ro none state &&";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &format!("{read_only} true")]);
    command.current_dir(bench.dir.path()).stderr(Stdio::null());
    if !command.status().is_ok_and(|status| status.success()) {
        eprintln!("not tried: this system makes no mount namespace");
        return;
    }
    let inner = bench.shell(read_only, "run");
    let mut command = Command::new("unshare");
    command
        .arg("-rm")
        .arg(inner.get_program())
        .args(inner.get_args());
    command.current_dir(bench.dir.path());
    let (code, said) = exit_of(command);
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(
        said.contains(Path::new("state").to_str().unwrap()),
        "{said}"
    );
}

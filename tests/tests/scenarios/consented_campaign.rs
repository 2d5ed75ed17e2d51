//! A whole campaign through the service: a bundle is brought to the local API, the driver is asked and
//! consents, a precondition is lost while images are brought into ECUs and comes back, all is sealed,
//! and the evidence tells all of it, with the RXSWINs before and after. Then one that is cancelled
//! when every ECU already tries its new image.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use can_link::{FrameLink, LinkOptions};
use rig::bench::{Bench, NewApp};
use rig::vehicle::VIN;
use serde_json::Value;
use uds::can::{CanId, Format, Frame};

const DBC: &str = include_str!("../../../tcu/tests/data/vehicle.dbc");
/// Longer than anything here takes; a test that meets it has failed.
const LIMIT: Duration = Duration::from_secs(300);

/// What the vehicle says of its battery each 100 ms, in millivolts, until it is dropped.
struct Battery {
    millivolts: Arc<AtomicU16>,
    ends: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Battery {
    fn of(bus: &Path) -> Self {
        let link = format!("bus:{}", bus.display());
        let millivolts = Arc::new(AtomicU16::new(12_500));
        let (ends, ended) = tokio::sync::oneshot::channel();
        let said = millivolts.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = say(&link, &said) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            millivolts,
            ends: Some(ends),
            thread: Some(thread),
        }
    }

    fn set(&self, millivolts: u16) {
        self.millivolts.store(millivolts, Ordering::Relaxed);
    }
}

impl Drop for Battery {
    fn drop(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn say(link: &str, millivolts: &AtomicU16) {
    let link = FrameLink::open(link, &LinkOptions::default()).unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tick.tick().await;
        let [high, low] = millivolts.load(Ordering::Relaxed).to_be_bytes();
        let id = CanId::standard(801).unwrap();
        let frame = Frame::new(id, Format::Classical, &[0, 0, high, low, 0, 0, 0, 0]);
        link.send(&frame.unwrap()).await.unwrap();
    }
}

/// The service, its settings beside the bench's vehicle.
struct Service {
    process: Child,
    dir: PathBuf,
}

impl Service {
    fn start(bench: &Bench) -> Self {
        let dir = bench.folder().to_owned();
        std::fs::write(dir.join("vehicle.dbc"), DBC).unwrap();
        let settings = r#"
            vehicle = "vehicle/vehicle.json"
            root = "vehicle/root.json"
            state = "tcu-state"
            [api]
            socket = "tcu.sock"
            [policy]
            mode = "ask"
            [preconditions]
            dbc = "vehicle.dbc"
            settle-ms = 500
            [[preconditions.signal]]
            name = "battery voltage"
            bus = "body"
            message = "Body"
            signal = "Battery"
            min = 11.8
            max = 15.0
        "#;
        std::fs::write(dir.join("tcu.toml"), settings).unwrap();
        let log = std::fs::File::create(dir.join("service.log")).unwrap();
        let mut command = tcu(&dir);
        command.arg("run").stdout(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap();
        let service = Self { process, dir };
        service.wait("the API", |_| true);
        service
    }

    /// Waits until the status is as wanted.
    fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.http("GET", "/v1/status", b"").ok();
            let status = status.map(|(_, status)| status);
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            let log = || std::fs::read_to_string(self.dir.join("service.log"));
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}: {status:?}\n{}",
                log().unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The code of the answer, and what it says.
    fn http(&self, method: &str, path: &str, body: &[u8]) -> std::io::Result<(u16, Value)> {
        let mut stream = UnixStream::connect(self.dir.join("tcu.sock"))?;
        let len = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: tcu\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let text = answer.split_once("\r\n\r\n").map_or("", |(_, text)| text);
        let value = serde_json::from_str(text).unwrap_or(Value::Null);
        Ok((code.unwrap_or(0), value))
    }

    fn bring(&self, bundle: &Path) {
        let bytes = std::fs::read(bundle).unwrap();
        let (code, said) = self.http("POST", "/v1/campaign", &bytes).unwrap();
        assert!((200..300).contains(&code), "{code} {said}");
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        tcu(&self.dir).args(arguments).output().unwrap()
    }

    /// SIGTERM, and how it ends.
    fn stop(&mut self) -> Option<i32> {
        let pid = self.process.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(status.unwrap().success());
        self.process.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tcu(dir: &Path) -> Command {
    let mut command = e2e::programs().command("tcu");
    command.arg("--settings").arg(dir.join("tcu.toml"));
    command.current_dir(dir);
    command
}

/// Releases an application with an RXSWIN, as a bundle.
fn bundle(bench: &Bench, campaign: &str, app: &NewApp, rxswin: &str) -> PathBuf {
    let out = bench.folder().join(format!("{campaign}.tar"));
    let images = bench.pack(app).unwrap();
    let oem = || {
        let mut command = e2e::programs().command("oem");
        command.arg("--repo").arg(bench.repo());
        command
    };
    let mut release = oem();
    release.args(["release", "--campaign", campaign, "--vin", VIN, "--rxswin"]);
    release.arg(rxswin);
    for image in images {
        release.arg("--image").arg(image);
    }
    let mut bundle = oem();
    bundle.args(["bundle", "--vin", VIN, "--out"]).arg(&out);
    for mut command in [release, bundle] {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    out
}

/// The decisions in an evidence file, oldest first.
fn decisions(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str(line).unwrap());
    entries.map(|entry: Value| entry["body"].clone()).collect()
}

/// Where `what` is decided for the first time after `from`.
fn next<'d>(decisions: &'d [Value], from: &mut usize, what: &str) -> &'d Value {
    let rest = decisions.iter().skip(*from);
    let found = rest.clone().position(|decision| decision["what"] == what);
    let found = found.unwrap_or_else(|| panic!("no `{what}` after {from} in {decisions:#?}"));
    *from += found + 1;
    &decisions[*from - 1]
}

fn staged_bytes(status: &Value) -> u64 {
    let ecus = status["ecus"].as_object().into_iter().flatten();
    ecus.filter_map(|(_, ecu)| ecu["done"].as_u64()).sum()
}

#[test]
fn consent_a_pause_the_seal_and_a_cancellation_are_all_in_the_evidence() {
    e2e::on_bench(|bench| {
        let battery = Battery::of(&bench.folder().join("body.sock"));
        let mut service = Service::start(bench);
        service.bring(&bundle(
            bench,
            "spring",
            &NewApp::good("2.0.0", 2),
            "R79=R79 A",
        ));
        let waits = service.wait("the question", |status| status["doing"] == "waiting");
        assert_eq!(waits["offer"]["campaign"], "spring");
        assert_eq!(waits["offer"]["waits_for"], "consent");
        assert!(
            bench
                .versions_now()?
                .iter()
                .all(|version| version == "1.0.0")
        );

        assert!(service.ask(&["consent"]).status.success());
        service.wait("the first pages", |status| staged_bytes(status) > 8192);
        battery.set(11_000);
        let paused = service.wait("the pause", |status| status["doing"] == "paused");
        assert_eq!(paused["preconditions"]["battery voltage"]["met"], false);
        battery.set(12_500);
        let done = |status: &Value| status["last_report"]["campaign"]["state"] == "completed";
        service.wait("the end", done);
        assert!(
            bench
                .versions_now()?
                .iter()
                .all(|version| version == "2.0.0")
        );

        service.bring(&bundle(
            bench,
            "summer",
            &NewApp::good("3.0.0", 3),
            "R79=R79 B",
        ));
        service.wait("the question", |status| {
            status["offer"]["campaign"] == "summer"
        });
        assert!(service.ask(&["consent"]).status.success());
        // Every image is in its ECU, and some are tried already.
        service.wait("the trial", |status| {
            status["phase"] == "activating" || status["phase"] == "awaiting-healthy"
        });
        let cancelled = service.ask(&["cancel"]);
        assert!(cancelled.status.success(), "{cancelled:?}");
        let gone = |status: &Value| status["last_report"]["campaign"]["state"] == "reverted";
        service.wait("the way back", gone);
        assert!(
            bench
                .versions_now()?
                .iter()
                .all(|version| version == "2.0.0")
        );
        assert_eq!(service.stop(), Some(0), "SIGTERM is an ordinary end");

        let export = bench.folder().join("record.jsonl");
        let to = export.to_string_lossy();
        for command in [
            &["evidence", "export", &*to][..],
            &["evidence", "verify", &*to],
        ] {
            let output = service.ask(command);
            assert!(output.status.success(), "{output:?}");
        }
        judge(&decisions(&export));
        Ok(())
    });
}

fn judge(decisions: &[Value]) {
    let none = serde_json::json!({});
    let (a, b) = (
        serde_json::json!({"R79": "R79 A"}),
        serde_json::json!({"R79": "R79 B"}),
    );
    let mut at = 0;
    assert_eq!(next(decisions, &mut at, "offered")["campaign"], "spring");
    let consented = next(decisions, &mut at, "consented");
    assert!(
        consented["answer"]["who"]
            .as_str()
            .unwrap()
            .starts_with("uid ")
    );
    let started = next(decisions, &mut at, "started");
    assert_eq!(started["preconditions"]["battery voltage"]["met"], true);
    assert_eq!(
        (&started["rxswins"]["before"], &started["rxswins"]["after"]),
        (&none, &a)
    );
    assert_eq!(started["ecus"].as_array().unwrap().len(), 6);
    let paused = next(decisions, &mut at, "paused");
    assert_eq!(paused["preconditions"]["battery voltage"]["value"], 11.0);
    next(decisions, &mut at, "continued");
    let ended = next(decisions, &mut at, "ended");
    assert_eq!(ended["report"]["campaign"]["state"], "completed");
    assert_eq!(
        (&ended["rxswins"]["before"], &ended["rxswins"]["after"]),
        (&none, &a)
    );

    assert_eq!(next(decisions, &mut at, "offered")["campaign"], "summer");
    let started = next(decisions, &mut at, "started");
    assert_eq!(
        (&started["rxswins"]["before"], &started["rxswins"]["after"]),
        (&a, &b)
    );
    next(decisions, &mut at, "declined");
    let ended = next(decisions, &mut at, "ended");
    assert_eq!(ended["report"]["campaign"]["state"], "reverted");
    assert_eq!(
        (&ended["rxswins"]["before"], &ended["rxswins"]["after"]),
        (&a, &a)
    );
}

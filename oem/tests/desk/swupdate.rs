//! Debian's SWUpdate, an independent client of hawkBit, follows our server. An ECU's image is nothing
//! that it can install, and nothing is: it says so, and the server has understood it.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::common::{Desk, VIN};
use oem::{
    ddi::store::{Seen, State},
    fleet,
    serve::Server,
};

/// How long it may take from its start to its last word.
const LIMIT: Duration = Duration::from_secs(120);

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// SWUpdate as a daemon for the vehicle, with all it writes below the desk's folder; a dry run.
fn follow(desk: &Desk, url: &str) -> Ended {
    let run = desk.path("run");
    fs::create_dir(&run).unwrap();
    let ca = desk.path("out/ca.pem");
    let token = fleet::token(&desk.repo_dir(), Some(&VIN.parse().unwrap())).unwrap();
    let configuration = format!(
        r#"globals: {{ verbose = true; loglevel = 5; }};
           suricatta: {{ tenant = "default"; id = "{VIN}"; url = "{url}"; targettoken = "{token}";
                        cafile = "{}"; polldelay = 1; enable = true; }};
           identify: ( {{ name = "vin"; value = "{VIN}"; }} );"#,
        ca.display()
    );
    fs::write(run.join("swupdate.cfg"), configuration).unwrap();
    let log = fs::File::create(run.join("log")).unwrap();
    let mut command = Command::new("swupdate");
    command
        .args([
            "--verbose",
            "--dry-run",
            "--no-transaction-marker",
            "--no-state-marker",
            "-k",
        ])
        // It wants a key for packages of its own, of which there are none.
        .arg(&ca)
        .arg("-f")
        .arg(run.join("swupdate.cfg"))
        .args(["-u", ""])
        .env("TMPDIR", &run)
        .env("RUNTIME_DIRECTORY", &run)
        .current_dir(&run)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let child = command.spawn();
    Ended(child.expect("swupdate is missing: `cargo xtask setup` installs it"))
}

#[tokio::test(flavor = "multi_thread")]
async fn swupdate_gets_its_deployment_and_its_word_is_understood() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let desk = Desk::new();
    let image = desk.pack("hw-a", "1.2.0", 2);
    desk.release("spring", std::slice::from_ref(&image))
        .unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(&desk.repo_dir(), address, 2).unwrap();
    let (url, stop) = (server.url(), server.handle());
    let server = tokio::spawn(server.run());
    let client = follow(&desk, &url);
    let started = Instant::now();
    let seen: Seen = loop {
        let status = fleet::Status::of(&desk.repo_dir()).unwrap();
        let ended = status.vehicles.into_iter().find(|seen| {
            let action = seen.action.as_ref();
            action.is_some_and(|action| !action.state.is_offered())
        });
        if let Some(seen) = ended {
            break seen;
        }
        let log = || fs::read_to_string(desk.path("run/log")).unwrap_or_default();
        assert!(started.elapsed() < LIMIT, "{}", log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    drop(client);
    stop.graceful_shutdown(None);
    server.await.unwrap().unwrap();
    let action = seen.action.unwrap();
    assert_eq!(
        (action.campaign.as_str(), action.state),
        ("spring", State::Failure)
    );
    assert_eq!(action.detail, "No suitable .swu image found");
    let mut store = oem::ddi::store::Store::open(&desk.repo_dir()).unwrap();
    assert!(!store.is_unknown(VIN).unwrap(), "it sent its attributes");
}

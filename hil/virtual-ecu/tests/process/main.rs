//! The program `virtual-ecu` with the real application: what is flashed is executed, and survives
//! the end of the process. The test is the other node of the bus.

#[allow(dead_code)]
#[path = "../life/images.rs"]
mod images;
mod node;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use images::{Image, hardware, image_of};
use node::Node;
use virtual_ecu::POWER_CUT_EXIT_CODE;
use virtual_ecu::app::{AppConfig, Behaviour, patch};

/// The application, built once.
fn application() -> &'static [u8] {
    static APPLICATION: OnceLock<Vec<u8>> = OnceLock::new();
    APPLICATION.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| here.join("../../target"), PathBuf::from)
            .join("ecu-app");
        let status = Command::new(env!("CARGO"))
            .current_dir(here.join("../ecu-app"))
            .args(["build", "--quiet", "--locked", "--release", "--target-dir"])
            .arg(&target)
            .status()
            .unwrap();
        assert!(status.success(), "ecu-app does not build");
        std::fs::read(target.join("release/ecu-app")).unwrap()
    })
}

fn program(number: u16, behaviour: Behaviour) -> Image {
    let config = AppConfig::new(&format!("{number}.0.0"), behaviour).unwrap();
    image_of(number, &patch(application(), &config, 0).unwrap())
}

/// An ECU's files, and its process while it has power.
struct Ecu {
    dir: tempfile::TempDir,
    process: Option<Child>,
}

impl Drop for Ecu {
    fn drop(&mut self) {
        self.power_off();
    }
}

impl Ecu {
    /// Provisioned with a good application 1.0.0.
    fn new() -> Self {
        let ecu = Self {
            dir: tempfile::tempdir().unwrap(),
            process: None,
        };
        let config = serde_json::to_vec(&hardware(false).provisioning).unwrap();
        let factory = program(1, Behaviour::Good);
        ecu.write("ecu.json", &config);
        ecu.write("factory.img", &factory.packed);
        ecu.write("factory.grant", &factory.grant);
        let mut command = ecu.command("provision");
        command.arg("--factory").arg(ecu.file("factory.img"));
        command.arg("--grant").arg(ecu.file("factory.grant"));
        assert!(command.status().unwrap().success());
        ecu
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.file(name), bytes).unwrap();
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtual-ecu"));
        command.arg(subcommand).arg("--allow-rsa-2048");
        command.arg("--config").arg(self.file("ecu.json"));
        command.arg("--flash").arg(self.file("ecu.nor"));
        command.stdout(Stdio::null());
        command
    }

    /// Power on, on a bus with the test alone.
    async fn power_on(&mut self, more: &[&str]) -> Node {
        let path = self.file("bus");
        let _ = std::fs::remove_file(&path);
        let listener = node::listen(&path);
        let mut command = self.command("run");
        // A busy machine schedules the application late; hanging is tested in virtual time.
        command.args(["--watchdog-ms", "20000"]).args(more);
        command.arg("--bus").arg(format!("bus:{}", path.display()));
        self.process = Some(command.spawn().unwrap());
        Node::accept(listener).await
    }

    /// Power off: `kill -9`.
    fn power_off(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            process.wait().unwrap();
        }
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.process.take().unwrap().wait().unwrap().code()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_executed_and_survives_the_end_of_the_process() {
    let mut ecu = Ecu::new();
    let mut bus = ecu.power_on(&[]).await;
    bus.heartbeat("1.0.0").await;
    bus.install(&program(2, Behaviour::Good)).await.unwrap();
    bus.heartbeat("2.0.0").await;
    bus.healthy().await;
    ecu.power_off();
    let mut bus = ecu.power_on(&[]).await;
    bus.heartbeat("2.0.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_crashes_is_given_up() {
    let mut ecu = Ecu::new();
    let mut bus = ecu.power_on(&[]).await;
    bus.heartbeat("1.0.0").await;
    bus.install(&program(2, Behaviour::Crash)).await.unwrap();
    bus.heartbeat("1.0.0").await;
    // Application, factory slot, fell back to factory, factory, rejected.
    assert_eq!(bus.status().await.unwrap(), [1, 0, 3, 7, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_ends_the_process_with_its_code_and_the_update_resumes() {
    let mut ecu = Ecu::new();
    let update = program(2, Behaviour::Good);
    let cut = ["--power-cut-at-op", "20", "--torn", "1"];
    let mut bus = ecu.power_on(&cut).await;
    bus.heartbeat("1.0.0").await;
    bus.install(&update).await.unwrap_err();
    assert_eq!(ecu.exit_code(), Some(POWER_CUT_EXIT_CODE));
    let mut bus = ecu.power_on(&[]).await;
    bus.heartbeat("1.0.0").await;
    bus.install(&update).await.unwrap();
    bus.heartbeat("2.0.0").await;
}

//! The TCU of the bench: the `tcu` program, its progress and its final report.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::display::{Display, Download, Event};
use crate::process::Process;
use crate::programs::Programs;
use crate::relay::Relay;

/// How the TCU program is called.
#[derive(Debug)]
pub struct Tcu {
    programs: Programs,
    dir: PathBuf,
    transport: String,
    /// What changes the clock that it sees.
    clock: Vec<(&'static str, String)>,
}

/// The final report of `tcu install --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct TcuReport {
    /// The campaign.
    pub campaign: TcuCampaign,
    /// The ECUs that it names.
    pub ecus: Vec<TcuEcu>,
}

/// The campaign in the final report.
#[derive(Debug, Clone, Deserialize)]
pub struct TcuCampaign {
    /// Its id; absent where it never became known.
    pub id: Option<String>,
    /// `completed`, `rejected`, `reverted` or `incomplete`.
    pub state: String,
    /// What a refusal of its metadata looks like.
    pub attack: Option<String>,
}

/// One ECU in the final report.
#[derive(Debug, Clone, Deserialize)]
pub struct TcuEcu {
    /// Its name.
    pub name: String,
    /// Ciphertext bytes transferred.
    pub bytes: u64,
    /// Seconds of the transfer by the TCU's clock.
    pub seconds: f64,
    /// Its state.
    pub state: String,
}

impl TcuReport {
    /// The entry of the ECU `name`.
    #[must_use]
    pub fn ecu(&self, name: &str) -> Option<&TcuEcu> {
        self.ecus.iter().find(|ecu| ecu.name == name)
    }
}

impl Tcu {
    /// The TCU of the vehicle whose files are in `dir/vehicle`.
    #[must_use]
    pub fn new(programs: &Programs, dir: &Path, transport: &str) -> Self {
        Self {
            programs: programs.clone(),
            dir: dir.to_owned(),
            transport: transport.into(),
            clock: Vec::new(),
        }
    }

    /// Sets its clock back by so many days, from the next start on.
    ///
    /// # Errors
    /// When there is no libfaketime.
    pub fn set_clock_back(&mut self, days: u32) -> Result<()> {
        let library = faketime().context("no libfaketime: install Debian's faketime")?;
        self.clock = vec![
            ("LD_PRELOAD", library.to_string_lossy().into_owned()),
            ("FAKETIME", format!("-{days}d")),
            // Durations stay what they are.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        Ok(())
    }

    /// Starts `tcu install SOURCE`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn install(&self, source: &str) -> Result<Run> {
        self.start(&["install", source])
    }

    /// Starts `tcu run`, which polls `url` each `interval` seconds until it is told to stop.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn run(&self, url: &str, interval: u32) -> Result<Run> {
        let interval = interval.to_string();
        self.start(&["run", "--url", url, "--interval", &interval])
    }

    /// Starts `tcu run` as a client of the hawkBit server at `url`, which gets its reports too.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn follow(&self, url: &str, token: &Path) -> Result<Run> {
        let token = token.to_string_lossy();
        let server = ["run", "--ddi", url, "--reports", url];
        self.start(&[&server[..], &["--token-file", &token]].concat())
    }

    /// Runs a command that ends by itself; its exit status and the last line of its output, JSON.
    ///
    /// # Errors
    /// When it does not end within a minute, or says nothing.
    pub fn ask(&self, arguments: &[&str]) -> Result<(ExitStatus, serde_json::Value)> {
        let mut process = self.start(arguments)?.process;
        let mut last = String::new();
        let status = process.finish(Duration::from_secs(60), |line| line.clone_into(&mut last))?;
        let said = serde_json::from_str(&last).with_context(|| process.tail())?;
        Ok((status, said))
    }

    fn start(&self, arguments: &[&str]) -> Result<Run> {
        let vehicle = self.dir.join("vehicle");
        let mut command = self.programs.command("tcu");
        command.envs(self.clock.iter().map(|(name, value)| (name, value)));
        command.arg("--config").arg(vehicle.join("vehicle.json"));
        command.arg("--root").arg(vehicle.join("root.json"));
        command.arg("--ca").arg(vehicle.join("ca.pem"));
        command.arg("--state").arg(self.dir.join("tcu-state"));
        command.args(["--transport", &self.transport, "--json"]);
        command.args(arguments);
        Ok(Run {
            process: Process::spawn("tcu", command, &self.dir)?,
            report: None,
            downloads: Vec::new(),
        })
    }
}

/// A running installation.
#[derive(Debug)]
pub struct Run {
    process: Process,
    report: Option<TcuReport>,
    downloads: Vec<Download>,
}

impl Run {
    /// Takes in output for `time` and shows it; the exit status when it has ended.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn poll(&mut self, time: Duration, display: &mut Display) -> Result<Option<ExitStatus>> {
        let (report, downloads) = (&mut self.report, &mut self.downloads);
        self.process.poll(time, |line| {
            if let Ok(done) = serde_json::from_str(line) {
                *report = Some(done);
            } else if let Some(event) = Event::parse(line) {
                if let Event::Download(download) = &event
                    && !(downloads.iter()).any(|begun| begun.artifact == download.artifact)
                {
                    downloads.push(download.clone());
                }
                display.show(&event);
            }
        })
    }

    /// Waits until some ECU has got `numerator / denominator` of its image.
    ///
    /// # Errors
    /// When the TCU ends before, or `limit` passes.
    pub fn wait_for_progress(
        &mut self,
        numerator: u64,
        denominator: u64,
        limit: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut reached = false;
        while !reached {
            let ended = self.process.poll(Duration::from_millis(50), |line| {
                reached |= progress_of(line)
                    .is_some_and(|(done, total)| done * denominator >= total * numerator);
            })?;
            if !reached && (ended.is_some() || Instant::now() > deadline) {
                bail!("the TCU never got so far\n{}", self.tail());
            }
        }
        Ok(())
    }

    /// Lets answers through `relay` until a part of some image is there, and says of which.
    ///
    /// # Errors
    /// When the TCU ends before, or `limit` passes.
    pub fn wait_for_part(&mut self, relay: &Relay, limit: Duration) -> Result<Download> {
        let deadline = Instant::now() + limit;
        loop {
            relay.let_through(1024);
            let mut part = None;
            let ended = self.process.poll(Duration::from_millis(10), |line| {
                if let Some(Event::Download(download)) = Event::parse(line) {
                    part = Some(download).filter(|part| (1..part.of).contains(&part.have));
                }
            })?;
            if let Some(part) = part {
                return Ok(part);
            }
            if ended.is_some() || Instant::now() > deadline {
                bail!("the TCU never had a part of an image\n{}", self.tail());
            }
        }
    }

    /// Where the download of each image began.
    #[must_use]
    pub fn downloads(&self) -> &[Download] {
        &self.downloads
    }

    /// Whether it has reported a campaign that it knows by its id.
    #[must_use]
    pub fn has_reported(&self) -> bool {
        let id = self
            .report
            .as_ref()
            .and_then(|report| report.campaign.id.as_ref());
        id.is_some_and(|id| !id.is_empty())
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.terminate(limit)
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()
    }

    /// The final report.
    ///
    /// # Errors
    /// When it ended without one.
    pub fn report(self) -> Result<TcuReport> {
        let tail = self.tail();
        self.report
            .with_context(|| format!("the TCU ended without a report\n{tail}"))
    }

    /// The most memory that it has had at once, KiB.
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        self.process.peak_memory()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

/// The library that changes a program's clock, in the folder of whatever architecture this is.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let library = |folder: PathBuf| folder.join("faketime/libfaketimeMT.so.1");
    folders
        .map(|folder| library(folder.path()))
        .find(|library| library.exists())
}

/// Bytes accepted and in all, where `line` is an event about payload.
fn progress_of(line: &str) -> Option<(u64, u64)> {
    match Event::parse(line)? {
        Event::Progress { done, total, .. } => Some((done, total)),
        _ => None,
    }
}

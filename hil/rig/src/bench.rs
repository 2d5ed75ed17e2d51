//! One vehicle of processes: buses, ECUs, backend and TCU, and what scenarios do to them.

mod harm;
mod releases;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::backend::Backend;
use crate::bus::Buses;
use crate::display::{Display, Download};
use crate::ecu::EcuProcess;
use crate::monitor::{Mark, Monitor};
use crate::process::Process;
use crate::programs::Programs;
use crate::report::{Campaign, Ecu, Report};
use crate::tcu::{Tcu, TcuCampaign, TcuReport};
use crate::vehicle::{self, ECUS, EcuSpec};

/// The version of every ECU's factory firmware.
const FACTORY_VERSION: &str = "1.0.0";
/// The security counter of the factory firmware, and the ECUs' floor at first.
const FACTORY_COUNTER: u32 = 1;
/// How long an application may take to be heard after a reset.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(30);

/// Which buses the vehicle is on.
#[derive(Debug, Clone)]
pub enum Links {
    /// Hubs of the bench, one process per bus.
    UserSpace,
    /// Interfaces of the kernel: classical, then FD.
    Kernel([String; 2]),
}

/// How the bench is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The buses.
    pub links: Links,
    /// The TCU's `--transport`.
    pub transport: String,
    /// Keeps the files of the run here.
    pub keep: Option<PathBuf>,
    /// Overrides the size of new applications, bytes.
    pub app_size: Option<usize>,
    /// Factor on every time limit.
    pub patience: u32,
    /// No narration.
    pub quiet: bool,
    /// How many ECUs the vehicle has, at most sixteen.
    pub ecus: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            links: Links::UserSpace,
            transport: "isotp".into(),
            keep: None,
            app_size: None,
            patience: 1,
            quiet: true,
            ecus: vehicle::USUAL,
        }
    }
}

/// A new application to be released for every hardware type.
#[derive(Debug, Clone)]
pub struct NewApp {
    /// `major.minor.patch`.
    pub version: &'static str,
    /// Security counter of the image.
    pub counter: u32,
    /// Size in bytes; calibration data fill it up.
    pub size: usize,
}

impl NewApp {
    /// An application of 48 KiB that works.
    #[must_use]
    pub const fn good(version: &'static str, counter: u32) -> Self {
        Self {
            version,
            counter,
            size: 48 * 1024,
        }
    }
}

/// The running bench. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Bench {
    specs: &'static [EcuSpec],
    // Processes come before the folder that they write to: fields are dropped in this order.
    ecus: Vec<EcuProcess>,
    server: Option<(Process, String)>,
    monitor: Monitor,
    buses: Buses,
    tcu: Tcu,
    backend: Backend,
    programs: Programs,
    options: Options,
    before: Vec<String>,
    outcome: Option<TcuReport>,
    downloads: Vec<Download>,
    tcu_memory: u64,
    work: WorkDir,
}

impl Bench {
    /// Provisions the ECUs with factory firmware and waits until all applications run.
    ///
    /// # Errors
    /// When a program fails or an ECU's heartbeat does not come.
    pub fn start(programs: &Programs, options: Options) -> Result<Self> {
        let work = WorkDir::new(options.keep.as_deref())?;
        let dir = work.path().to_owned();
        let specs = ECUS.get(..options.ecus).context("at most sixteen ECUs")?;
        let count = specs.len();
        let text = format!("the OEM generates its keys and registers a vehicle of {count} ECUs");
        narrate(&options, &text);
        let buses = Buses::start(programs, &options.links, &dir)?;
        let backend = Backend::create(programs, &dir, "oem")?;
        let spec = vehicle::spec(specs, buses.links(), FACTORY_COUNTER);
        backend.add_vehicle(&spec, &dir.join("vehicle"))?;
        let monitor = Monitor::start(buses.links())?;
        let mut bench = Self {
            specs,
            ecus: Vec::new(),
            server: None,
            monitor,
            tcu: Tcu::new(programs, &dir, &options.transport),
            buses,
            backend,
            programs: programs.clone(),
            options,
            before: vec![FACTORY_VERSION.into(); specs.len()],
            outcome: None,
            downloads: Vec::new(),
            tcu_memory: 0,
            work,
        };
        bench.provision_all()?;
        bench.say(&format!("{count} ECUs boot their factory firmware"));
        bench.await_heartbeats()?;
        Ok(bench)
    }

    /// Runs the TCU until it ends, giving ECUs whose power was cut their power back.
    ///
    /// # Errors
    /// When the TCU does not end in time or its report cannot be read. A refused or reverted
    /// campaign is not an error.
    pub fn install(&mut self) -> Result<ExitStatus> {
        let url = self.serve()?;
        self.install_from(&url)
    }

    /// As [`install`](Self::install), without a server: from one file that the OEM writes.
    ///
    /// # Errors
    /// As there, and when the OEM does not write it.
    pub fn install_bundle(&mut self) -> Result<ExitStatus> {
        let bundle = self.backend.bundle()?;
        self.install_from(&bundle.to_string_lossy())
    }

    fn install_from(&mut self, source: &str) -> Result<ExitStatus> {
        self.before = self.versions();
        self.say("the TCU installs it");
        let mut run = self.tcu.install(source)?;
        let deadline = std::time::Instant::now() + self.limit(Duration::from_secs(300));
        let mut display = Display::new(self.options.quiet);
        let status = loop {
            if let Some(status) = run.poll(Duration::from_millis(50), &mut display)? {
                break status;
            }
            self.tcu_memory = self.tcu_memory.max(run.peak_memory().unwrap_or(0));
            self.restore_power()?;
            anyhow::ensure!(
                std::time::Instant::now() < deadline,
                "the TCU did not end\n{}",
                run.tail()
            );
        };
        self.restore_power()?;
        self.downloads = run.downloads().to_vec();
        self.outcome = Some(run.report()?);
        Ok(status)
    }

    /// Runs the TCU as a daemon that polls each second. When it has polled for nothing `release` is
    /// called; when it has installed what that released it is told to end.
    ///
    /// # Errors
    /// When releasing fails, or the TCU ends by itself or reports no campaign in time.
    pub fn poll_until_installed(
        &mut self,
        release: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<ExitStatus> {
        self.before = self.versions();
        let url = self.serve()?;
        let mut run = self.tcu.run(&url, 1)?;
        let mut display = Display::new(self.options.quiet);
        let ended = run.poll(Duration::from_secs(3), &mut display)?;
        anyhow::ensure!(
            ended.is_none() && !run.has_reported(),
            "nothing is released\n{}",
            run.tail()
        );
        release(self)?;
        let deadline = std::time::Instant::now() + self.limit(Duration::from_secs(300));
        while !run.has_reported() {
            let ended = run.poll(Duration::from_millis(50), &mut display)?;
            anyhow::ensure!(
                ended.is_none() && std::time::Instant::now() < deadline,
                "the TCU did not install it\n{}",
                run.tail()
            );
        }
        let status = run.stop(self.limit(Duration::from_secs(30)))?;
        self.outcome = Some(run.report()?);
        Ok(status)
    }

    /// The folder of the run: `oem` is the repository, `tcu-state` the TCU's own, `NAME.nor` the flash
    /// of an ECU, `NAME.candump` the log of a bus.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.work.path()
    }

    /// How the last installation ended.
    #[must_use]
    pub fn last_campaign(&self) -> Option<&TcuCampaign> {
        self.outcome.as_ref().map(|outcome| &outcome.campaign)
    }

    /// Where the download of each image began in the last installation.
    #[must_use]
    pub fn downloads(&self) -> &[Download] {
        &self.downloads
    }

    /// The OEM signs its timestamps anew.
    ///
    /// # Errors
    /// When the backend refuses.
    pub fn refresh(&mut self) -> Result<()> {
        self.say("the OEM signs its timestamps anew");
        self.backend.refresh()
    }

    /// The most memory that the TCU had at once in the last installation, KiB.
    #[must_use]
    pub const fn tcu_memory(&self) -> u64 {
        self.tcu_memory
    }

    /// Runs a command of the TCU that ends by itself; its exit status and what it says, JSON.
    ///
    /// # Errors
    /// When it says nothing, or does not end in time.
    pub fn ask_tcu(&self, arguments: &[&str]) -> Result<(ExitStatus, serde_json::Value)> {
        self.tcu.ask(arguments)
    }

    /// Looks at every ECU and puts the report together.
    ///
    /// # Errors
    /// When no campaign was installed or an ECU is silent.
    pub fn finish(&mut self, scenario: &str) -> Result<Report> {
        let outcome = self.outcome.take().context("no campaign was installed")?;
        let mark = self.monitor.mark();
        let mut ecus = Vec::new();
        for (index, spec) in self.specs.iter().enumerate() {
            let version =
                self.monitor
                    .await_version_after(mark, spec, self.limit(HEARTBEAT_TIMEOUT))?;
            let told = outcome
                .ecu(spec.name)
                .with_context(|| format!("no report of {}", spec.name))?;
            let transfer = self.buses.transfer(spec)?;
            ecus.push(Ecu {
                name: spec.name.into(),
                bus: spec.bus.into(),
                from: self.before[index].clone(),
                to: version,
                bytes: told.bytes,
                seconds: transfer
                    .as_ref()
                    .map_or(told.seconds, |transfer| transfer.seconds),
                bus_share: transfer.map(|transfer| transfer.share),
                state: self.state_now(spec, &told.state)?,
            });
        }
        for line in self.buses.summary()? {
            self.say(&line);
        }
        let id = outcome.campaign.id.unwrap_or_else(|| "unknown".into());
        let campaign = Campaign {
            id,
            state: outcome.campaign.state,
        };
        Ok(Report {
            scenario: scenario.into(),
            ok: false,
            campaign,
            ecus,
            failures: Vec::new(),
        })
    }

    /// `factory` where an ECU fell back after the TCU was done with it; else what the TCU reported.
    fn state_now(&mut self, spec: &EcuSpec, told: &str) -> Result<String> {
        let fell_back = self.ecu_mut(spec.name)?.fell_back_to_factory()?;
        Ok(if fell_back && told == "sealed" {
            "factory".into()
        } else {
            told.to_owned()
        })
    }

    fn provision_all(&mut self) -> Result<()> {
        let dir = self.work.path().to_owned();
        let mut images = std::collections::HashMap::new();
        for id in vehicle::hardware_ids() {
            images.insert(
                id,
                self.pack_one(&self.backend, FACTORY_VERSION, FACTORY_COUNTER, id)?,
            );
        }
        for spec in self.specs {
            let image = images
                .get(spec.hardware_id)
                .context("an image per hardware type")?;
            let grant = self.backend.grant(image, vehicle::VIN, spec.name)?;
            let mut ecu = EcuProcess::new(&self.programs, *spec, &dir, self.buses.link_of(spec)?);
            let config = dir.join("vehicle/ecus").join(format!("{}.json", spec.name));
            ecu.provision(&config, image, &grant)?;
            ecu.restart(None)?;
            self.ecus.push(ecu);
        }
        Ok(())
    }

    pub(crate) fn serve(&mut self) -> Result<String> {
        if self.server.is_none() {
            self.server = Some(self.backend.serve(self.work.path())?);
        }
        Ok(self
            .server
            .as_ref()
            .map(|(_, url)| url.clone())
            .unwrap_or_default())
    }

    pub(crate) const fn tcu(&self) -> &Tcu {
        &self.tcu
    }

    /// Kills an ECU's process and starts it again.
    pub(crate) fn kill_ecu(&mut self, name: &str, off: Duration) -> Result<()> {
        let ecu = self.ecu_mut(name)?;
        ecu.stop()?;
        std::thread::sleep(off);
        ecu.restart(None)
    }

    /// What every ECU runs, by heartbeats that come from now on.
    ///
    /// # Errors
    /// When an ECU is silent.
    pub fn versions_now(&mut self) -> Result<Vec<String>> {
        let mark = self.monitor.mark();
        let limit = self.limit(HEARTBEAT_TIMEOUT);
        let version = |spec| self.monitor.await_version_after(mark, spec, limit);
        self.specs.iter().map(version).collect()
    }

    /// The vehicle's ECUs.
    #[must_use]
    pub const fn ecus(&self) -> &'static [EcuSpec] {
        self.specs
    }

    fn await_heartbeats(&mut self) -> Result<()> {
        for spec in self.specs {
            let limit = self.limit(HEARTBEAT_TIMEOUT);
            self.monitor
                .await_version_after(Mark::default(), spec, limit)?;
        }
        Ok(())
    }

    fn versions(&self) -> Vec<String> {
        self.specs
            .iter()
            .map(|spec| self.monitor.version(spec).unwrap_or_else(|| "none".into()))
            .collect()
    }

    fn ecu_mut(&mut self, name: &str) -> Result<&mut EcuProcess> {
        self.ecus
            .iter_mut()
            .find(|ecu| ecu.name() == name)
            .with_context(|| format!("no ECU {name}"))
    }

    fn limit(&self, limit: Duration) -> Duration {
        limit * self.options.patience
    }

    /// Tells who watches what happens.
    pub fn say(&self, text: &str) {
        narrate(&self.options, text);
    }
}

fn narrate(options: &Options, text: &str) {
    if !options.quiet {
        println!("- {text}");
    }
}

fn spec_of(name: &str) -> Result<&'static EcuSpec> {
    ECUS.iter()
        .find(|spec| spec.name == name)
        .with_context(|| format!("no ECU {name}"))
}

/// The folder of a run: kept where the user said so, else removed at the end.
#[derive(Debug)]
enum WorkDir {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl WorkDir {
    fn new(keep: Option<&Path>) -> Result<Self> {
        let Some(dir) = keep else {
            return Ok(Self::Temporary(
                tempfile::Builder::new().prefix("canopus-").tempdir()?,
            ));
        };
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self::Kept(std::fs::canonicalize(dir)?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

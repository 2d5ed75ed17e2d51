//! The vehicle's buses: one hub process each, or interfaces of the kernel.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::Links;
use crate::busshare::{self, Transfer};
use crate::process::Process;
use crate::programs::Programs;
use crate::vehicle::{BUSES, BusSpec, ECUS, EcuSpec};

/// The buses of one bench.
#[derive(Debug)]
pub struct Buses {
    links: Vec<String>,
    hubs: Vec<Process>,
    logs: Vec<PathBuf>,
}

impl Buses {
    /// Starts a hub per bus in `dir`, or takes the kernel's interfaces as they are.
    ///
    /// # Errors
    /// When a hub does not come up.
    pub fn start(programs: &Programs, links: &Links, dir: &Path) -> Result<Self> {
        if let Links::Kernel(interfaces) = links {
            return Ok(Self {
                links: interfaces.to_vec(),
                hubs: Vec::new(),
                logs: Vec::new(),
            });
        }
        let mut buses = Self {
            links: Vec::new(),
            hubs: Vec::new(),
            logs: Vec::new(),
        };
        for bus in &BUSES {
            let socket = dir.join(format!("{}.sock", bus.name));
            let log = dir.join(format!("{}.candump", bus.name));
            buses.hubs.push(hub(programs, bus, &socket, &log, dir)?);
            buses.links.push(format!("bus:{}", socket.display()));
            buses.logs.push(log);
        }
        Ok(buses)
    }

    /// The links in the order of [`BUSES`], as `can-link` takes them.
    #[must_use]
    pub fn links(&self) -> &[String] {
        &self.links
    }

    /// The link of the bus that `ecu` is on.
    ///
    /// # Errors
    /// When there is no such bus.
    pub fn link_of(&self, ecu: &EcuSpec) -> Result<&str> {
        let index = index_of(ecu)?;
        self.links
            .get(index)
            .map(String::as_str)
            .context("a link per bus")
    }

    /// What TransferData carried to `ecu`, by the hub's time; `None` without a hub or a transfer.
    ///
    /// # Errors
    /// When the hub's log cannot be read.
    pub fn transfer(&self, ecu: &EcuSpec) -> Result<Option<Transfer>> {
        let index = index_of(ecu)?;
        let Some(log) = self.logs.get(index) else {
            return Ok(None);
        };
        busshare::of_ecu(log, &BUSES[index], ecu)
    }

    /// One line per bus: what all transfers on it reached together. Empty without hubs.
    ///
    /// # Errors
    /// When a hub's log cannot be read.
    pub fn summary(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for (bus, log) in BUSES.iter().zip(&self.logs) {
            let ecus: Vec<EcuSpec> = ECUS
                .iter()
                .filter(|ecu| ecu.bus == bus.name)
                .copied()
                .collect();
            if let Some(transfer) = busshare::of_ecus(log, bus, &ecus)? {
                lines.push(format!(
                    "bus {}: {} bytes of TransferData in {:.1} s, {:.1} % of what the bus allows",
                    bus.name,
                    transfer.bytes,
                    transfer.seconds,
                    transfer.share * 100.0
                ));
            }
        }
        Ok(lines)
    }
}

fn index_of(ecu: &EcuSpec) -> Result<usize> {
    BUSES
        .iter()
        .position(|bus| bus.name == ecu.bus)
        .context("the ECU's bus")
}

fn hub(
    programs: &Programs,
    bus: &BusSpec,
    socket: &Path,
    log: &Path,
    dir: &Path,
) -> Result<Process> {
    let mut command = programs.command("canhub");
    command
        .arg("--listen")
        .arg(socket)
        .arg("--log")
        .arg(log)
        .arg("--json");
    command.arg("--bitrate").arg(bus.bitrate.to_string());
    if let Some(data_bitrate) = bus.data_bitrate {
        command.arg("--data-bitrate").arg(data_bitrate.to_string());
    }
    let hub = Process::spawn(&format!("hub-{}", bus.name), command, dir)?;
    hub.wait_for("its socket", Duration::from_secs(30), |line| {
        line.contains("listening").then_some(())
    })?;
    Ok(hub)
}

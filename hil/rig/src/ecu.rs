//! One ECU process of the bench and its flash.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Process, run};
use crate::programs::Programs;
use crate::vehicle::EcuSpec;

/// An ECU: its files, and its process while it has power.
#[derive(Debug)]
pub struct EcuProcess {
    spec: EcuSpec,
    programs: Programs,
    dir: PathBuf,
    link: String,
    config: PathBuf,
    process: Option<Process>,
    fell_back: bool,
}

impl EcuProcess {
    /// An ECU without firmware or power on the bus `link`.
    #[must_use]
    pub fn new(programs: &Programs, spec: EcuSpec, dir: &Path, link: &str) -> Self {
        Self {
            spec,
            programs: programs.clone(),
            dir: dir.to_owned(),
            link: link.to_owned(),
            config: PathBuf::new(),
            process: None,
            fell_back: false,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.spec.name
    }

    /// Writes keys and factory firmware, as the production line does.
    ///
    /// # Errors
    /// When `virtual-ecu provision` refuses.
    pub fn provision(&mut self, config: &Path, factory: &Path, grant: &Path) -> Result<()> {
        config.clone_into(&mut self.config);
        let _ = std::fs::remove_file(self.flash());
        let mut command = self.command("provision");
        command
            .arg("--factory")
            .arg(factory)
            .arg("--grant")
            .arg(grant);
        run(command).map(|_| ())
    }

    /// Power on; with `cut_at`, power fails inside that flash operation.
    ///
    /// # Errors
    /// When the process does not come up.
    pub fn restart(&mut self, cut_at: Option<u64>) -> Result<()> {
        self.stop()?;
        let mut command = self.command("run");
        command.arg("--bus").arg(&self.link).arg("--json");
        if let Some(operation) = cut_at {
            command
                .arg("--power-cut-at-op")
                .arg(operation.to_string())
                .args(["--torn", "1"]);
        }
        self.process = Some(Process::spawn(self.spec.name, command, &self.dir)?);
        Ok(())
    }

    /// Power off.
    ///
    /// # Errors
    /// When the process cannot be ended.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Whether the process ended by itself, which it does only at a power cut.
    ///
    /// # Errors
    /// When it ended in any other way.
    pub fn lost_power(&mut self) -> Result<bool> {
        let Some(process) = &mut self.process else {
            return Ok(false);
        };
        let Some(status) = process.ended()? else {
            return Ok(false);
        };
        if status.code() != Some(virtual_ecu::POWER_CUT_EXIT_CODE) {
            bail!("{} ended with {status}\n{}", self.spec.name, process.tail());
        }
        Ok(true)
    }

    /// Clears bits in the flash where the program of `version` is stored.
    ///
    /// # Errors
    /// When the flash holds no such program.
    pub fn wear_out(&self, version: &str) -> Result<()> {
        let path = self.flash();
        let mut flash = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let at = virtual_ecu::app::find(&flash, version)
            .with_context(|| format!("no program {version} in {}", path.display()))?;
        // Worn NOR cells lose charge: ones become zeros.
        for byte in flash.iter_mut().skip(at).take(16) {
            *byte &= 0x0F;
        }
        std::fs::write(&path, flash).with_context(|| format!("write {}", path.display()))
    }

    fn flash(&self) -> PathBuf {
        self.dir.join(format!("{}.nor", self.spec.name))
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = self.programs.command("virtual-ecu");
        command.arg(subcommand).arg("--config").arg(&self.config);
        command.arg("--flash").arg(self.flash());
        command
    }

    /// Whether its bootloader's last decision was to fall back to the factory firmware.
    ///
    /// # Errors
    /// When the process cannot be asked.
    pub fn fell_back_to_factory(&mut self) -> Result<bool> {
        let fell_back = &mut self.fell_back;
        if let Some(process) = &mut self.process {
            process.poll(Duration::ZERO, |line| {
                if let Some(reason) = boot_reason(line) {
                    *fell_back = matches!(reason.as_str(), "factory" | "limp-home");
                }
            })?;
        }
        Ok(self.fell_back)
    }
}

/// The reason in a line that reports a boot.
fn boot_reason(line: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    (event.get("event")? == "boot").then_some(())?;
    event.get("reason")?.as_str().map(str::to_owned)
}

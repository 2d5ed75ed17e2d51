//! What is done to a vehicle besides updating it.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Bench, FACTORY_COUNTER, FACTORY_VERSION, HEARTBEAT_TIMEOUT, narrate, spec_of};
use crate::backend::Backend;
use crate::display::{Display, Download};
use crate::relay::Relay;
use crate::vehicle::{self, Exchanged};

impl Bench {
    /// Runs the TCU as a client of hawkBit's interface, kills it while it flashes, and starts it
    /// again; when the backend has its last word it is told to end. Returns how that ended, and what
    /// the backend knows of the vehicle.
    ///
    /// # Errors
    /// When the TCU does not get so far in time.
    pub fn follow_with_a_kill(&mut self) -> Result<(ExitStatus, serde_json::Value)> {
        self.before = self.versions();
        let url = self.serve()?;
        let token = self.backend.token()?;
        self.say("the TCU follows the server, and is killed while it flashes");
        let mut run = self.tcu.follow(&url, &token)?;
        run.wait_for_progress(1, 3, self.limit(Duration::from_secs(120)))?;
        run.kill()?;
        self.say("it starts again");
        let mut run = self.tcu.follow(&url, &token)?;
        let mut display = Display::new(self.options.quiet);
        let deadline = std::time::Instant::now() + self.limit(Duration::from_secs(300));
        let told = loop {
            let ended = run.poll(Duration::from_millis(500), &mut display)?;
            let told = self.backend.fleet_status()?;
            if told["action"]["state"] == "success" && told["last_report"] == "completed" {
                break told;
            }
            anyhow::ensure!(
                ended.is_none() && std::time::Instant::now() < deadline,
                "the backend was not told of the end: {told}\n{}",
                run.tail()
            );
        };
        let status = run.stop(self.limit(Duration::from_secs(30)))?;
        self.outcome = Some(run.report()?);
        Ok((status, told))
    }

    /// Sets the TCU's clock back by so many days.
    ///
    /// # Errors
    /// When there is no libfaketime.
    pub fn set_clock_back(&mut self, days: u32) -> Result<()> {
        self.say(&format!("the vehicle's clock is set back by {days} days"));
        self.tcu.set_clock_back(days)
    }

    /// Starts the TCU and kills it when a third of one ECU's image is in.
    ///
    /// # Errors
    /// When the TCU ends before that.
    pub fn kill_tcu_while_flashing(&mut self) -> Result<()> {
        let url = self.serve()?;
        self.say("the TCU starts to install it, and is killed while flashing");
        let mut run = self.tcu.install(&url)?;
        run.wait_for_progress(1, 3, self.limit(Duration::from_secs(120)))?;
        run.kill()
    }

    /// Starts the TCU and kills it when it has a part of an image; says how much it had at least.
    ///
    /// # Errors
    /// When the TCU ends before that.
    pub fn kill_tcu_while_downloading(&mut self) -> Result<Download> {
        let relay = Relay::start(&self.serve()?)?;
        self.say("the TCU starts to download it, and is killed meanwhile");
        let mut run = self.tcu.install(&relay.url())?;
        let part = run.wait_for_part(&relay, self.limit(Duration::from_secs(60)))?;
        run.kill()?;
        Ok(part)
    }

    /// Arms a power cut inside the `operation`-th flash operation of `ecu` from now on.
    ///
    /// # Errors
    /// When the ECU cannot be restarted.
    pub fn cut_power_at_flash_operation(&mut self, ecu: &str, operation: u64) -> Result<()> {
        self.say(&format!(
            "{ecu} will lose power inside flash operation {operation}"
        ));
        let limit = self.limit(HEARTBEAT_TIMEOUT);
        let mark = self.monitor.mark();
        self.ecu_mut(ecu)?.restart(Some(operation))?;
        self.monitor
            .await_version_after(mark, spec_of(ecu)?, limit)?;
        Ok(())
    }

    /// Wears out a page of the slot that `ecu` runs from and resets the ECU.
    ///
    /// # Errors
    /// When the flash cannot be changed or nothing boots.
    pub fn wear_out_running_slot(&mut self, ecu: &str) -> Result<()> {
        self.say(&format!(
            "the flash of {ecu} loses bits of the firmware it runs"
        ));
        let version = self
            .monitor
            .version(spec_of(ecu)?)
            .context("nothing runs")?;
        let limit = self.limit(HEARTBEAT_TIMEOUT);
        self.ecu_mut(ecu)?.stop()?;
        let mark = self.monitor.mark();
        self.ecu_mut(ecu)?.wear_out(&version)?;
        self.ecu_mut(ecu)?.restart(None)?;
        self.monitor
            .await_version_after(mark, spec_of(ecu)?, limit)?;
        Ok(())
    }

    /// Exchanges the ECU `name` for another, which the backend is not told.
    ///
    /// # Errors
    /// When the other ECU cannot be provisioned or does not boot.
    pub fn exchange(&mut self, name: &'static str, exchanged: Exchanged) -> Result<()> {
        let (other, hardware_id) = match exchanged {
            Exchanged::Hardware(hardware_id) => (format!("type {hardware_id}"), hardware_id),
            Exchanged::Serial(serial) => (format!("serial {serial}"), spec_of(name)?.hardware_id),
        };
        self.say(&format!("{name} is exchanged for an ECU of {other}"));
        let out = self.work.path().join("exchanged");
        let spec = vehicle::exchanged(self.buses.links(), FACTORY_COUNTER, name, exchanged);
        // Of another maker: ours would give no two vehicles the same serial numbers, and here one thing
        // alone shall be wrong.
        let maker = Backend::create(&self.programs, self.work.path(), "other-maker")?;
        maker.add_vehicle(&spec, &out)?;
        let factory = self.pack_one(&maker, FACTORY_VERSION, FACTORY_COUNTER, hardware_id)?;
        let grant = maker.grant(&factory, vehicle::EXCHANGED_VIN, name)?;
        let limit = self.limit(HEARTBEAT_TIMEOUT);
        let mark = self.monitor.mark();
        let ecu = self.ecu_mut(name)?;
        ecu.stop()?;
        ecu.provision(
            &out.join("ecus").join(format!("{name}.json")),
            &factory,
            &grant,
        )?;
        ecu.restart(None)?;
        self.monitor
            .await_version_after(mark, spec_of(name)?, limit)?;
        Ok(())
    }

    pub(super) fn restore_power(&mut self) -> Result<()> {
        for ecu in &mut self.ecus {
            if ecu.lost_power()? {
                narrate(
                    &self.options,
                    &format!("{} lost power; it comes back", ecu.name()),
                );
                ecu.restart(None)?;
            }
        }
        Ok(())
    }
}

//! What is in force: the command line, then the settings file, then the defaults.

use std::path::PathBuf;
use std::time::Duration;

use campaign::vehicle::Vehicle;
use tokio::sync::watch;

use super::Cli;
use crate::api::Access;
use crate::config::{Api, Bounded, Log, Preconditions, Repository, Settings};
use crate::error::Error;
use crate::install::Context;
use crate::lines::Lines;
use crate::link::Transport;
use crate::planner::Battery;
use crate::policy::Rules;
use crate::vehicle::Control;
use crate::{engine, flash, manifest};

/// What is in force.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) vehicle: PathBuf,
    pub(super) root: PathBuf,
    pub(super) ca: Option<PathBuf>,
    pub(super) tcu_key: Option<PathBuf>,
    pub(super) state: PathBuf,
    pub(super) transport: Transport,
    pub(super) parallel: u8,
    pub(super) one_at_a_time: bool,
    pub(super) health_timeout: Duration,
    pub(super) battery: Option<Battery>,
    pub(super) accept_rsa_2048: bool,
    pub(super) repository: Repository,
    pub(super) api: Api,
    pub(super) rules: Rules,
    pub(super) preconditions: Preconditions,
    pub(super) log: Log,
}

impl Options {
    /// # Errors
    ///
    /// The settings file cannot be used.
    pub(super) fn new(cli: &Cli) -> Result<Self, Error> {
        let file = Settings::load(cli.settings.as_deref())?;
        let path = |option: &Option<PathBuf>, set: Option<PathBuf>, default: &str| {
            option.clone().or(set).unwrap_or_else(|| default.into())
        };
        let parallel = file.parallel.map(|parallel| parallel.get());
        let parallel = parallel.and_then(|parallel| u8::try_from(parallel).ok());
        let health = file.health_timeout_s.map(|seconds| seconds.get());
        let number =
            |set: Option<Bounded<1, 100_000>>| set.and_then(|set| u32::try_from(set.get()).ok());
        let battery = cli.battery_budget.or(number(file.battery.budget_wh));
        let draw = number(file.battery.draw_w);
        let vehicle = path(&cli.config, file.vehicle, "vehicle.json");
        let tcu_key = cli.tcu_key.clone().or(file.tcu_key);
        Ok(Self {
            tcu_key: tcu_key.or_else(|| manifest::beside(&vehicle)),
            vehicle,
            root: path(&cli.root, file.root, "root.json"),
            ca: cli.ca.clone().or(file.ca),
            state: path(&cli.state, file.state, "tcu-state"),
            transport: cli.transport.or(file.transport).unwrap_or(Transport::Isotp),
            parallel: cli.parallel.or(parallel).unwrap_or(1),
            // Who names a number wants them side by side.
            one_at_a_time: cli.one_at_a_time || (file.one_at_a_time && cli.parallel.is_none()),
            health_timeout: Duration::from_secs(cli.health_timeout.or(health).unwrap_or(60)),
            battery: battery.map(|budget_wh| Battery {
                budget_wh,
                draw_w: cli.draw.or(draw).unwrap_or(60),
            }),
            accept_rsa_2048: cli.accept_rsa_2048,
            repository: file.repository,
            api: file.api,
            rules: file.policy.rules(),
            preconditions: file.preconditions,
            log: Log {
                format: cli.log_format.or(file.log.format),
                ..file.log
            },
        })
    }

    /// Seconds between two polls.
    pub(super) fn interval(&self) -> u64 {
        self.repository
            .interval_s
            .map_or(3600, |seconds| seconds.get())
    }

    /// The socket of the service's API.
    pub(super) fn socket(&self) -> PathBuf {
        let default = || PathBuf::from("/run/canopus/tcu.sock");
        self.api.socket.clone().unwrap_or_else(default)
    }

    /// Where the API is served, if it is.
    pub(super) fn access(&self) -> Option<Access> {
        let api = &self.api;
        if api.socket.is_none() && api.tls.is_none() {
            return None;
        }
        let mib = api.upload_max_mib.map_or(1024, |mib| mib.get());
        Some(Access {
            socket: api.socket.clone(),
            tls: api.tls.clone(),
            uploads: self.state.clone(),
            upload_max: mib.saturating_mul(1 << 20),
        })
    }

    /// What the commands work with.
    ///
    /// # Errors
    ///
    /// `vehicle.json` cannot be used.
    pub(super) fn context(&self, control: watch::Receiver<Control>) -> Result<Context, Error> {
        let path = &self.vehicle;
        let bytes = std::fs::read(path).map_err(Error::configuration(path))?;
        let vehicle = Vehicle::from_json(&bytes).map_err(|source| Error::Vehicle {
            path: path.clone(),
            source,
        })?;
        let mut images = ecu_image::verify::Policy::default();
        if self.accept_rsa_2048 {
            images.weakest_signature = ecu_image::SignatureLen::Rsa2048;
        }
        Ok(Context {
            lines: Lines::new(vehicle.clone(), self.transport),
            vehicle,
            root: self.root.clone(),
            ca: self.ca.clone(),
            tcu_key: self.tcu_key.clone(),
            transport: self.transport,
            policy: engine::Policy {
                parallel_per_bus: usize::from(self.parallel),
                one_at_a_time: self.one_at_a_time,
                ..engine::Policy::default()
            },
            flash: flash::Policy {
                health_timeout: self.health_timeout,
                driving_share: self
                    .preconditions
                    .staging_share
                    .and_then(|share| u8::try_from(share.get()).ok()),
                ..flash::Policy::default()
            },
            images,
            battery: self.battery,
            desk: None,
            control,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_command_line_comes_before_the_file_and_the_file_before_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tcu.toml");
        std::fs::write(&file, "parallel = 3\nhealth-timeout-s = 9\n").unwrap();
        let file = file.to_str().unwrap();
        let cli = Cli::parse_from(["tcu", "--settings", file, "--parallel", "2", "inventory"]);
        let options = Options::new(&cli).unwrap();
        assert_eq!(options.parallel, 2);
        assert_eq!(options.health_timeout, Duration::from_secs(9));
        assert_eq!(options.vehicle, PathBuf::from("vehicle.json"));
        assert_eq!(options.interval(), 3600);
    }

    #[test]
    fn who_names_a_number_wants_ecus_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tcu.toml");
        std::fs::write(&file, "one-at-a-time = true\n").unwrap();
        let file = file.to_str().unwrap();
        let one_at_a_time = |more: &[&str]| {
            let arguments = [&["tcu", "--settings", file], more, &["inventory"]].concat();
            Options::new(&Cli::parse_from(arguments))
                .unwrap()
                .one_at_a_time
        };
        assert!(one_at_a_time(&[]));
        assert!(!one_at_a_time(&["--parallel", "2"]));
    }
}

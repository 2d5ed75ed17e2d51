//! Processes that are killed (SIGKILL) at random moments of an installation.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::bench::Bench;
use crate::display::Display;
use crate::tcu::TcuReport;

/// Longest time from one kill to the next.
const LONGEST_PAUSE_MS: u64 = 2500;
/// Runs of the TCU within which a campaign must end once nothing is killed any more.
const RUNS: u32 = 5;

impl Bench {
    /// Installs what is released while TCU and ECUs are killed `kills` times, at moments that `rng`
    /// chooses, and started again; then lets it end. How many were killed, and the last report.
    ///
    /// # Errors
    /// When a program cannot be started, or the campaign does not end.
    pub fn install_with_kills(&mut self, kills: u32, rng: &mut StdRng) -> Result<(u32, TcuReport)> {
        let url = self.serve()?;
        let mut display = Display::new(true);
        let mut killed = 0;
        let mut run = self.tcu().install(&url)?;
        while killed < kills {
            let pause = Duration::from_millis(rng.random_range(0..LONGEST_PAUSE_MS));
            if run.poll(pause, &mut display)?.is_some() {
                break;
            }
            killed += 1;
            // The TCU as often as all ECUs together.
            if rng.random() {
                run.kill()?;
                run = self.tcu().install(&url)?;
            } else {
                let ecus = self.ecus();
                let ecu = ecus
                    .get(rng.random_range(0..ecus.len()))
                    .context("an ECU")?;
                let off = Duration::from_millis(rng.random_range(0..300));
                self.kill_ecu(ecu.name, off)?;
            }
        }
        let deadline = Instant::now() + Duration::from_secs(300);
        for _ in 0..RUNS {
            while run.poll(Duration::from_millis(50), &mut display)?.is_none() {
                ensure!(
                    Instant::now() < deadline,
                    "the TCU did not end\n{}",
                    run.tail()
                );
            }
            let report = run.report()?;
            if report.campaign.state != "incomplete" {
                return Ok((killed, report));
            }
            run = self.tcu().install(&url)?;
        }
        anyhow::bail!("incomplete after {RUNS} runs\n{}", run.tail())
    }
}

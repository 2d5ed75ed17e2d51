//! The same with processes: `tcu` and `virtual-ecu` killed at random moments on the user-space bus.

use anyhow::{Context as _, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rig::bench::{Bench, NewApp, Options};
use rig::programs::Programs;

/// Kills in one campaign; about as many as its time has room for.
const PER_CAMPAIGN: u32 = 10;
/// Bytes of an application.
const APP_SIZE: usize = 48 * 1024;

/// What was killed and found.
#[derive(Debug, Clone, Default)]
pub struct Killed {
    /// Processes killed.
    pub kills: u32,
    /// Campaigns installed meanwhile.
    pub campaigns: u32,
    /// Campaigns after which something did not hold, in words.
    pub violations: Vec<String>,
}

/// Kills processes until `kills` were. After each campaign all ECUs run the new version, or all run
/// the one before.
///
/// # Errors
/// When the bench does not come up.
pub fn run(kills: u32, seed: u64, optimised: bool, progress: &dyn Fn(u32)) -> Result<Killed> {
    let programs = Programs::build(optimised)?;
    let options = Options {
        app_size: Some(APP_SIZE),
        ..Options::default()
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bench = Bench::start(&programs, options)?;
    let mut killed = Killed::default();
    let mut before = bench.versions_now()?;
    // A bench whose campaigns end before anything is killed would go on for ever.
    while killed.kills < kills && killed.campaigns < kills {
        killed.campaigns += 1;
        let number = killed.campaigns + 1;
        let version: &'static str = format!("{number}.0.0").leak();
        bench.release(&format!("kills-{number}"), &NewApp::good(version, number))?;
        let wanted = PER_CAMPAIGN.min(kills - killed.kills);
        match campaign(&mut bench, wanted, version, &before, &mut rng) {
            Ok(count) => killed.kills += count,
            Err(error) => {
                killed
                    .violations
                    .push(format!("campaign {number}: {error:#}"));
                break;
            }
        }
        before = bench.versions_now()?;
        progress(killed.kills);
    }
    Ok(killed)
}

fn campaign(
    bench: &mut Bench,
    kills: u32,
    version: &str,
    before: &[String],
    rng: &mut StdRng,
) -> Result<u32> {
    let (count, report) = bench.install_with_kills(kills, rng)?;
    let versions = bench.versions_now().context("an ECU is silent")?;
    let new = versions.iter().all(|found| found == version);
    let state = report.campaign.state;
    match state.as_str() {
        "completed" => anyhow::ensure!(new, "completed, and they run {versions:?}"),
        "reverted" => anyhow::ensure!(versions == before, "reverted, and they run {versions:?}"),
        other => anyhow::bail!("it ended {other}"),
    }
    Ok(count)
}

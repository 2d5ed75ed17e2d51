//! What a campaign means for this vehicle, before an ECU is touched: whether the images work together,
//! in which order they are activated, how long it takes and what it draws from the battery.
//!
//! Pure: what the ECUs say comes in, an [`Explanation`] or a refusal goes out.

pub mod estimate;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use campaign::ids::EcuName;
use campaign::rules::{Broken, Running, check, order};
use campaign::vehicle::Vehicle;
use campaign::{EcuTarget, VerifiedCampaign};
use ecu_image::{GRANT_LEN, ImageDigest};
use serde::Serialize;

pub use estimate::Battery;

use crate::engine::PlannedEcu;
use crate::flash::Outcome;
use estimate::Load;

/// Why a campaign does not fit the vehicle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Rules of images that would not hold.
    #[error("{}", sentences(.0))]
    Rules(Vec<Broken>),
    /// It would take more energy than it may.
    #[error(
        "the update would draw {need} mWh from the battery, {budget_wh} Wh are allowed",
        budget_wh = .battery.budget_wh
    )]
    Battery {
        /// The estimate, in mWh.
        need: u64,
        /// What is allowed.
        battery: Battery,
    },
}

fn sentences(broken: &[Broken]) -> String {
    let sentences: Vec<String> = broken.iter().map(ToString::to_string).collect();
    sentences.join("; ")
}

/// A campaign as it would be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The campaign.
    pub campaign: String,
    /// Its ECUs, in the order of the vehicle's configuration.
    pub ecus: Vec<ExplainedEcu>,
    /// Images whose rules were looked at, those that stay included.
    pub ruled_images: usize,
    /// The estimated time in seconds.
    pub seconds: u64,
    /// The estimated energy in mWh, where the draw is known.
    pub energy_mwh: Option<u64>,
    /// What the update may draw.
    pub battery: Option<Battery>,
}

/// One ECU of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedEcu {
    /// Its name.
    pub name: String,
    /// Its bus.
    pub bus: String,
    /// What it runs.
    pub from: String,
    /// What it will run.
    pub to: String,
    /// It runs the image already.
    pub unchanged: bool,
    /// Bytes that it is sent.
    pub bytes: u64,
    /// The estimated time to stage it, in seconds.
    pub seconds: u64,
    /// ECUs that are activated before it.
    pub after: Vec<String>,
}

/// What a campaign may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Means {
    /// What it may draw, where that matters.
    pub battery: Option<Battery>,
    /// One ECU after the other in the whole vehicle.
    pub one_at_a_time: bool,
}

/// Judges a campaign. `planned` has its ECUs in its order; `found` what the vehicle's other ECUs say,
/// as far as they do.
///
/// # Errors
///
/// [`Unfit`]: no ECU is to be touched.
pub fn judge(
    campaign: &VerifiedCampaign,
    vehicle: &Vehicle,
    found: &BTreeMap<EcuName, Outcome>,
    planned: &mut [PlannedEcu],
    means: Means,
) -> Result<Explanation, Unfit> {
    let after = would_run(campaign, vehicle, found);
    let broken = check(&after, &campaign.rules);
    if !broken.is_empty() {
        return Err(Unfit::Rules(broken));
    }
    let brought: Vec<Running> = campaign.ecus.iter().map(running).collect();
    let order = order(&brought, &campaign.rules).map_err(|cycle| Unfit::Rules(vec![cycle]))?;
    for (ecu, first) in planned.iter_mut().zip(order) {
        ecu.after = first;
    }
    let explanation = explain(campaign, vehicle, planned, means);
    let time = Duration::from_secs(explanation.seconds);
    match means.battery.filter(|battery| !battery.covers(time)) {
        Some(battery) => Err(Unfit::Battery {
            need: battery.energy_mwh(time),
            battery,
        }),
        None => Ok(explanation),
    }
}

fn running(target: &EcuTarget) -> Running {
    Running {
        ecu: target.ecu.clone(),
        hardware_id: target.hardware_id,
        image: target.image_digest,
        version: Some(target.version),
    }
}

/// What every ECU of the vehicle would run after the campaign.
fn would_run(
    campaign: &VerifiedCampaign,
    vehicle: &Vehicle,
    found: &BTreeMap<EcuName, Outcome>,
) -> Vec<Running> {
    let ecus = vehicle.ecus().iter().map(|ecu| {
        let brought = campaign.ecus.iter().find(|target| target.ecu == ecu.name);
        brought.map(running).unwrap_or_else(|| {
            let says = found.get(&ecu.name);
            let version = says.and_then(|says| says.version.as_deref()?.parse().ok());
            Running {
                ecu: ecu.name.clone(),
                hardware_id: ecu.hardware_id,
                image: says.map_or(ImageDigest::ZERO, |says| says.status.running.0),
                version,
            }
        })
    });
    ecus.collect()
}

fn explain(
    campaign: &VerifiedCampaign,
    vehicle: &Vehicle,
    planned: &[PlannedEcu],
    Means {
        battery,
        one_at_a_time,
    }: Means,
) -> Explanation {
    let mut loads = Vec::new();
    let mut ecus = Vec::new();
    for (target, planned) in campaign.ecus.iter().zip(planned.iter()) {
        let load = (!planned.unchanged)
            .then(|| load(vehicle, target))
            .flatten();
        loads.extend(load);
        ecus.push(ExplainedEcu {
            name: planned.name.clone(),
            bus: planned.bus.clone(),
            from: planned.from.version.clone(),
            to: planned.to_version.clone(),
            unchanged: planned.unchanged,
            bytes: load.map_or(0, |load| load.bytes),
            seconds: load.map_or(0, |load| seconds(load.staging())),
            after: names(campaign, &planned.after),
        });
    }
    let seconds_in_all = seconds(estimate::total(&loads, one_at_a_time));
    let time = Duration::from_secs(seconds_in_all);
    Explanation {
        campaign: campaign.id.to_string(),
        ecus,
        ruled_images: campaign.rules.len(),
        seconds: seconds_in_all,
        energy_mwh: battery.map(|battery| battery.energy_mwh(time)),
        battery,
    }
}

fn names(campaign: &VerifiedCampaign, indices: &[usize]) -> Vec<String> {
    let named = |index: &usize| Some(campaign.ecus.get(*index)?.ecu.to_string());
    indices.iter().filter_map(named).collect()
}

fn load<'v>(vehicle: &'v Vehicle, target: &EcuTarget) -> Option<Load<'v>> {
    let ecu = vehicle.ecu(&target.ecu)?;
    Some(Load {
        bus: vehicle.bus(&ecu.bus)?,
        extended_ids: ecu.request_id.is_extended(),
        bytes: target.length.saturating_add(GRANT_LEN as u64),
    })
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Explanation {
    /// The last line of the whole text.
    #[must_use]
    pub fn sum(&self) -> String {
        let changed = self.ecus.iter().filter(|ecu| !ecu.unchanged).count();
        format!(
            "campaign {}: {changed} ECUs in about {} s{}",
            self.campaign,
            self.seconds,
            self.energy()
        )
    }

    /// What the battery gives, where it is known.
    fn energy(&self) -> String {
        match (self.energy_mwh, self.battery) {
            (Some(need), Some(battery)) => format!(
                "; {}.{:03} Wh of the {} Wh that the battery may give, at {} W",
                need / 1000,
                need % 1000,
                battery.budget_wh,
                battery.draw_w
            ),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Explanation {
    /// One sentence a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ecu in &self.ecus {
            write!(f, "{} on {}: {} -> {}", ecu.name, ecu.bus, ecu.from, ecu.to)?;
            match ecu.unchanged {
                true => writeln!(f, ", nothing to do")?,
                false => writeln!(f, ", {} bytes in about {} s", ecu.bytes, ecu.seconds)?,
            }
            if !ecu.after.is_empty() {
                writeln!(f, "  it is activated after {}", ecu.after.join(", "))?;
            }
        }
        match self.ruled_images {
            0 => writeln!(f, "no image asks anything of the others")?,
            1 => writeln!(f, "the rules of 1 image hold")?,
            images => writeln!(f, "the rules of {images} images hold")?,
        }
        f.write_str(&self.sum())
    }
}

//! The report: what became of the campaign and of each ECU.

use serde::{Deserialize, Serialize};

use super::{CampaignState, Engine, Phase, Progress};

/// How an ECU ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EcuResult {
    /// It runs the new image, for good.
    Sealed,
    /// It runs the new image, not yet for good.
    Healthy,
    /// It is back on the image before.
    Reverted,
    /// Nothing of the campaign reached it.
    Unchanged,
    /// It refused or failed, and holds nothing of the campaign.
    Failed,
    /// It lost the image that it should run, and needs a fresh grant for it: the new one after COMMIT,
    /// or the one before where everything goes back and it has one update slot.
    NeedsGrant,
    /// It is under way, or it does not answer.
    Incomplete,
    /// An operator gave it up: what it runs is not known.
    GivenUp,
}

/// What is reported at the end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The campaign.
    pub campaign: CampaignReport,
    /// Its ECUs.
    pub ecus: Vec<EcuReport>,
}

/// The campaign in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignReport {
    /// Its id; empty where it never became known.
    pub id: String,
    /// How it ended.
    pub state: CampaignState,
    /// Why it was rejected or is incomplete, or without which ECUs it ended, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Rules of images that do not hold, or may not, while ECUs are not reached; a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken_rules: Vec<String>,
    /// What the refusal of its metadata looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<campaign::Attack>,
}

/// An ECU in a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EcuReport {
    /// Its name.
    pub name: String,
    /// Its bus.
    pub bus: String,
    /// The version it ran before.
    pub from: String,
    /// The version it runs now, as far as is known.
    pub to: String,
    /// Page bytes that it accepted.
    pub bytes: u64,
    /// Time spent on it.
    pub seconds: f64,
    /// How it ended.
    pub state: EcuResult,
    /// Why it did not end as planned, for people.
    pub reason: Option<String>,
}

impl Engine {
    /// The report as things stand.
    #[must_use]
    pub fn report(&self) -> Report {
        let state = self.finished().unwrap_or(CampaignState::Incomplete);
        Report {
            campaign: CampaignReport {
                id: self.plan.campaign.clone(),
                state,
                reason: (state == CampaignState::GivenUp).then(|| self.without()),
                broken_rules: match state {
                    CampaignState::GivenUp => self.broken(),
                    CampaignState::Incomplete if self.named => self.broken(),
                    _ => Vec::new(),
                },
                attack: None,
            },
            ecus: (0..self.ecus.len())
                .filter_map(|ecu| self.ecu_report(ecu))
                .collect(),
        }
    }

    fn broken(&self) -> Vec<String> {
        let broken = self.broken_rules();
        broken.iter().map(ToString::to_string).collect()
    }

    fn ecu_report(&self, index: usize) -> Option<EcuReport> {
        let planned = self.plan.ecus.get(index)?;
        let ecu = self.ecus.get(index)?;
        let state = match (self.phase, ecu.progress) {
            _ if ecu.given_up.is_some() => EcuResult::GivenUp,
            (_, Progress::Unchanged) => EcuResult::Unchanged,
            (_, Progress::Sealed) => EcuResult::Sealed,
            (_, Progress::Reverted) => EcuResult::Reverted,
            _ if ecu.needs_grant => EcuResult::NeedsGrant,
            _ if !ecu.touched && ecu.failure.is_some() => EcuResult::Failed,
            _ if !ecu.touched => EcuResult::Unchanged,
            (Phase::Sealing, Progress::Healthy) => EcuResult::Healthy,
            _ => EcuResult::Incomplete,
        };
        let known = ecu.version.clone().filter(|_| state != EcuResult::GivenUp);
        let to = known.unwrap_or_else(|| match ecu.progress {
            _ if state == EcuResult::GivenUp => "unknown".into(),
            Progress::Healthy | Progress::Sealed => planned.to_version.clone(),
            _ => planned.from.version.clone(),
        });
        let reason = ecu.failure.as_ref().filter(|_| state != EcuResult::Sealed);
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of a job fit 52 bits"
        )]
        let seconds = ecu.cost.micros as f64 / 1e6;
        Some(EcuReport {
            name: planned.name.clone(),
            bus: planned.bus.clone(),
            from: planned.from.version.clone(),
            to,
            bytes: ecu.cost.bytes,
            seconds,
            state,
            reason: match (state, &ecu.given_up) {
                (_, Some(by)) => Some(format!("given up by {}: {}", by.who, by.reason)),
                (EcuResult::NeedsGrant, _) if self.phase == Phase::Reverting => Some(format!(
                    "it has one update slot, which lost {} when it was given the new image: \
                     release that one again, so that it gets a fresh grant",
                    planned.from.version
                )),
                (EcuResult::NeedsGrant, _) => Some(
                    "it lost the new image after COMMIT, and its grant is spent: release the same \
                     image again, so that it gets a fresh grant"
                        .into(),
                ),
                _ => reason.map(ToString::to_string),
            },
        })
    }
}

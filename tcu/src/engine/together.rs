//! What images ask of one another, judged while the vehicle is incomplete: before its first effect a
//! campaign is judged by what all ECUs will run, but one that is not reached may run something else.

use campaign::rules::{Broken, ImageRules, Running, check};
use ecu_image::{HardwareId, ImageDigest};
use serde::{Deserialize, Serialize};

use super::{CampaignState, Engine, Phase, Progress};

/// The vehicle as it was when the campaign was planned, and the rules that were known then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Together {
    /// Every ECU of the vehicle, those that the campaign leaves alone included.
    pub ecus: Vec<Member>,
    /// The rules of all images at hand.
    pub rules: Vec<ImageRules>,
}

/// One ECU of the vehicle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its hardware.
    pub hardware_id: HardwareId,
    /// The image that it ran; zero where it did not say.
    pub image: ImageDigest,
    /// The image's version.
    pub version: Option<String>,
}

impl Together {
    /// Whether no image asks anything of the others.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Engine {
    /// The rules that do not hold now, or may not: an ECU that a revert has not reached may still run
    /// the new image, and one that was given up either.
    #[must_use]
    pub fn broken_rules(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        for unreached_is_new in [false, true] {
            let running = self.running_now(unreached_is_new);
            for rule in check(&running, &self.plan.together.rules) {
                if !broken.contains(&rule) {
                    broken.push(rule);
                }
            }
        }
        broken
    }

    /// What every ECU runs, as far as is known.
    fn running_now(&self, unreached_is_new: bool) -> Vec<Running> {
        let together = &self.plan.together;
        let running = together.ecus.iter().filter_map(|member| {
            let mut planned = self.plan.ecus.iter();
            let index = planned.position(|ecu| ecu.name == member.name);
            let new = index.filter(|index| self.runs_new(*index, unreached_is_new));
            let new = new.and_then(|index| self.plan.ecus.get(index));
            let version = match new {
                Some(planned) => Some(planned.to_version.as_str()),
                None => member.version.as_deref(),
            };
            Some(Running {
                ecu: member.name.parse().ok()?,
                hardware_id: member.hardware_id,
                image: new.map_or(member.image, |planned| planned.image),
                version: version.and_then(|version| version.parse().ok()),
            })
        });
        running.collect()
    }

    fn runs_new(&self, index: usize, unreached_is_new: bool) -> bool {
        let Some(ecu) = self.ecus.get(index) else {
            return false;
        };
        match (self.phase, ecu.progress) {
            _ if ecu.given_up.is_some() => unreached_is_new,
            (Phase::Reverting | Phase::Done(CampaignState::GivenUp), _) if !self.committed => {
                ecu.touched && !ecu.restores && unreached_is_new
            }
            (_, progress) => matches!(
                progress,
                Progress::Unchanged | Progress::Healthy | Progress::Sealed
            ),
        }
    }
}

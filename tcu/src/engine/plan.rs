//! What a transaction is about: written to the journal before its first effect, so that a restart
//! needs nothing else.

use std::collections::BTreeMap;

use ecu_image::{Digest, ImageDigest, crypto, provision::KeySetBytes};
use serde::{Deserialize, Serialize};

use super::Together;
use uds::time::Duration;

/// A verified campaign, resolved for this vehicle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The campaign's id.
    pub campaign: String,
    /// The ECUs of the campaign, in the order of the vehicle's configuration.
    pub ecus: Vec<PlannedEcu>,
    /// The RXSWINs (UN R156) that apply once all of it is done, by regulation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rxswins: BTreeMap<String, String>,
    /// What images ask of one another, for a vehicle that stays incomplete.
    #[serde(default, skip_serializing_if = "Together::is_empty")]
    pub together: Together,
}

impl Plan {
    /// Whether every ECU runs what it should already.
    #[must_use]
    pub fn has_nothing_to_do(&self) -> bool {
        self.ecus.iter().all(|ecu| ecu.unchanged)
    }

    /// What it installs, as a digest (hexadecimal): the image and the key set of each ECU. Fresh grants
    /// for the same, another order and what the ECUs run by now change nothing.
    #[must_use]
    pub fn content(&self) -> String {
        let ecus = self.ecus.iter();
        let ecus: BTreeMap<_, _> = ecus
            .map(|ecu| (&ecu.name, (&ecu.image, &ecu.key_set)))
            .collect();
        let text = serde_json::to_vec(&ecus).unwrap_or_default();
        crypto::sha256(&[&text]).to_string()
    }
}

/// One ECU of a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedEcu {
    /// Its name in the vehicle's configuration.
    pub name: String,
    /// Its bus in the vehicle's configuration.
    pub bus: String,
    /// The image to install.
    pub image: ImageDigest,
    /// SHA-256 of the packed image, which names its file in the cache.
    pub artifact: Digest,
    /// The packed image's bytes, to fetch it again; 0 in a journal of before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub length: u64,
    /// The install grant, hexadecimal.
    pub grant: String,
    /// The key set that the ECU is to hold first, where the campaign brings one for its hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_set: Option<KeySetBytes>,
    /// What the ECU ran before, as it said.
    pub from: Running,
    /// The new image's version.
    pub to_version: String,
    /// The new image runs already and is sealed: nothing to do.
    pub unchanged: bool,
    /// It has one slot beside the factory's, so that staging takes away what it could fall back to:
    /// it is staged when all others are healthy, and not before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub last: bool,
    /// The image before, which it is to get again: staging took it away, and everything goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// Indices of the ECUs that are activated before this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<usize>,
}

/// An image that an ECU ran before and gets again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// SHA-256 of the packed image, which names its file in the cache.
    pub artifact: Digest,
    /// See [`PlannedEcu::length`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub length: u64,
    /// A fresh install grant for it, hexadecimal.
    pub grant: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What an ECU runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its version, F195.
    pub version: String,
    /// Its image, FD01; zero where the ECU runs none.
    pub image: ImageDigest,
}

/// Bounds of a transaction.
#[derive(Debug, Clone)]
pub struct Policy {
    /// ECUs that are staged at the same time on one bus.
    pub parallel_per_bus: usize,
    /// One ECU after the other in the whole vehicle, whatever is done to it.
    pub one_at_a_time: bool,
    /// How often sealing or reverting an ECU is tried in one run before the vehicle is left
    /// incomplete.
    pub converge_attempts: u32,
    /// Pause before the second of those, doubled for each further one.
    pub converge_backoff: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            parallel_per_bus: 1,
            one_at_a_time: false,
            converge_attempts: 5,
            converge_backoff: Duration::from_secs(1),
        }
    }
}

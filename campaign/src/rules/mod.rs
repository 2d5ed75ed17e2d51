//! What images ask of one another: which versions may run beside them, what is activated first, what
//! changes together.
//!
//! The image repository states the rules of each image, under its offline keys; the vehicle alone
//! knows what it runs. So the rules are checked here, on the vehicle, over the set of images that
//! *would* run after the campaign: those that it brings, and those that stay.

mod check;
#[cfg(test)]
mod tests;

use crate::ids::{EcuName, HardwareId, ImageDigest, Version};
use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use check::{Broken, Running, check, order};

/// Longest notation of a version range, and most rules of one image and kind.
const MAX_LEN: usize = 128;

/// What one image asks of the vehicle that it runs in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rules {
    /// Every ECU of such hardware runs one of these versions; without `ifPresent` there is one.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "few"
    )]
    pub requires: Vec<Requirement>,
    /// No ECU of such hardware runs one of these versions.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "few"
    )]
    pub conflicts: Vec<Conflict>,
    /// ECUs of such hardware are activated before this one, where the campaign brings both.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "few"
    )]
    pub after: Vec<HardwareId>,
    /// ECUs whose images name the same group run the same generation of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
}

impl Rules {
    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Versions that must run beside an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// On ECUs of this hardware type.
    pub hardware_id: HardwareId,
    /// The versions.
    pub versions: Versions,
    /// Whether the vehicle may be without such an ECU.
    #[serde(default)]
    pub if_present: bool,
}

/// Versions that must not run beside an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Conflict {
    /// On ECUs of this hardware type.
    pub hardware_id: HardwareId,
    /// The versions.
    pub versions: Versions,
}

/// Images that change together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: EcuName,
    /// Images of one generation may run beside each other.
    pub generation: u32,
}

/// A range of versions in the notation of Cargo: `>=1.4.0, <2.0.0`, `1.4` (which is `^1.4`), `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions(semver::VersionReq);

impl Versions {
    /// Whether `version` is one of them.
    #[must_use]
    pub fn contain(&self, version: Version) -> bool {
        let (major, minor, patch) = (version.major, version.minor, version.patch);
        self.0.matches(&semver::Version::new(
            major.into(),
            minor.into(),
            patch.into(),
        ))
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Versions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LEN {
            return Err("a range of versions is too long".into());
        }
        text.parse()
            .map(Self)
            .map_err(|error: semver::Error| error.to_string())
    }
}

impl Serialize for Versions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Versions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A list of rules of one kind.
fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let list = Vec::<T>::deserialize(deserializer)?;
    match list.len() > MAX_LEN {
        true => Err(de::Error::custom("too many rules of one kind")),
        false => Ok(list),
    }
}

/// The rules of an image that the image repository offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRules {
    /// The image's identity.
    pub image_digest: ImageDigest,
    /// What it asks.
    pub rules: Rules,
}

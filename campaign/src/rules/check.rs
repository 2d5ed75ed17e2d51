//! Whether the rules hold, and in which order ECUs are activated.

use super::{ImageRules, Rules};
use crate::ids::{EcuName, HardwareId, ImageDigest, Version};
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

/// What an ECU would run after the campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its name in the vehicle's configuration.
    pub ecu: EcuName,
    /// Its hardware type.
    pub hardware_id: HardwareId,
    /// The image's identity.
    pub image: ImageDigest,
    /// The version; `None` where it runs none, or does not say.
    pub version: Option<Version>,
}

/// A rule that would not hold. Its text is one sentence that names the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// An ECU would run a version that another image does not work with.
    Requires {
        /// The ECU whose image has the rule, and its version.
        by: (EcuName, Version),
        /// What it asks, as `HARDWARE VERSIONS`.
        rule: String,
        /// The ECU that breaks it and its version; `None` where the vehicle has no such ECU.
        found: Option<(EcuName, Option<Version>)>,
    },
    /// An ECU would run a version that another image excludes.
    Conflicts {
        /// The ECU whose image has the rule, and its version.
        by: (EcuName, Version),
        /// What it excludes, as `HARDWARE VERSIONS`.
        rule: String,
        /// The ECU that breaks it and its version.
        found: (EcuName, Version),
    },
    /// Two ECUs of one group would run different generations.
    Group {
        /// The group.
        name: EcuName,
        /// One ECU and its generation.
        one: (EcuName, u32),
        /// The other.
        other: (EcuName, u32),
    },
    /// The orders of activation contradict each other.
    Cycle {
        /// ECUs that wait for one another.
        ecus: Vec<EcuName>,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |version: &Option<Version>, f: &mut fmt::Formatter<'_>| match version {
            Some(version) => write!(f, "version {version}"),
            None => f.write_str("no version that it tells"),
        };
        match self {
            Self::Requires { by, rule, found } => {
                write!(f, "{} {} requires {rule}, ", by.0, by.1)?;
                match found {
                    Some((ecu, version)) => {
                        write!(f, "but {ecu} would run ")?;
                        or_none(version, f)
                    }
                    None => f.write_str("but the vehicle has no such ECU"),
                }
            }
            Self::Conflicts { by, rule, found } => write!(
                f,
                "{} {} conflicts with {rule}, but {} would run version {}",
                by.0, by.1, found.0, found.1
            ),
            Self::Group { name, one, other } => write!(
                f,
                "group {name} changes together, but {} would be of generation {} and {} of {}",
                one.0, one.1, other.0, other.1
            ),
            Self::Cycle { ecus } => {
                f.write_str("the order of activation contradicts itself: each of ")?;
                for (index, ecu) in ecus.iter().enumerate() {
                    write!(f, "{}{ecu}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str(" waits for another")
            }
        }
    }
}

impl core::error::Error for Broken {}

/// The rules of what an ECU would run. An image that the repository does not list has none.
fn rules_of<'r>(running: &Running, known: &'r [ImageRules]) -> Option<(Version, &'r Rules)> {
    let version = running.version?;
    let image = known
        .iter()
        .find(|image| image.image_digest == running.image)?;
    Some((version, &image.rules))
}

/// Every rule that would not hold if the vehicle ran `after`; none where the set is fit to run.
#[must_use]
pub fn check(after: &[Running], known: &[ImageRules]) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut generations: BTreeMap<&EcuName, (&EcuName, u32)> = BTreeMap::new();
    for running in after {
        let Some((version, rules)) = rules_of(running, known) else {
            continue;
        };
        let by = (running.ecu.clone(), version);
        broken.extend(check_requires(&by, rules, after));
        broken.extend(check_conflicts(&by, rules, after));
        let Some(group) = &rules.group else {
            continue;
        };
        let own = (&running.ecu, group.generation);
        let first = *generations.entry(&group.name).or_insert(own);
        if first.1 != own.1 {
            broken.push(Broken::Group {
                name: group.name.clone(),
                one: (first.0.clone(), first.1),
                other: (own.0.clone(), own.1),
            });
        }
    }
    broken
}

fn check_requires(by: &(EcuName, Version), rules: &Rules, after: &[Running]) -> Vec<Broken> {
    let mut broken = Vec::new();
    for rule in &rules.requires {
        let refuse = |found| Broken::Requires {
            by: by.clone(),
            rule: alloc::format!("{} {}", rule.hardware_id, rule.versions),
            found,
        };
        let mut present = false;
        for other in of_hardware(after, rule.hardware_id) {
            present = true;
            let fits = other
                .version
                .is_some_and(|version| rule.versions.contain(version));
            if !fits {
                broken.push(refuse(Some((other.ecu.clone(), other.version))));
            }
        }
        if !present && !rule.if_present {
            broken.push(refuse(None));
        }
    }
    broken
}

fn check_conflicts(by: &(EcuName, Version), rules: &Rules, after: &[Running]) -> Vec<Broken> {
    let mut broken = Vec::new();
    for rule in &rules.conflicts {
        for other in of_hardware(after, rule.hardware_id) {
            let Some(version) = other.version else {
                continue;
            };
            if rule.versions.contain(version) && other.ecu != by.0 {
                broken.push(Broken::Conflicts {
                    by: by.clone(),
                    rule: alloc::format!("{} {}", rule.hardware_id, rule.versions),
                    found: (other.ecu.clone(), version),
                });
            }
        }
    }
    broken
}

fn of_hardware(after: &[Running], hardware: HardwareId) -> impl Iterator<Item = &Running> {
    after.iter().filter(move |ecu| ecu.hardware_id == hardware)
}

/// For each ECU of a campaign the indices of those that are activated before it.
///
/// # Errors
///
/// [`Broken::Cycle`] where there is no such order.
pub fn order(campaign: &[Running], known: &[ImageRules]) -> Result<Vec<Vec<usize>>, Broken> {
    let before: Vec<Vec<usize>> = campaign
        .iter()
        .map(|ecu| {
            let waits_for = rules_of(ecu, known).map_or(&[][..], |(_, rules)| &rules.after);
            let others = campaign.iter().enumerate();
            let first = others.filter(|(_, other)| {
                other.hardware_id != ecu.hardware_id && waits_for.contains(&other.hardware_id)
            });
            first.map(|(index, _)| index).collect()
        })
        .collect();
    let mut done = alloc::vec![false; campaign.len()];
    // Each round takes at least one, or nothing more can be taken.
    for _ in 0..campaign.len() {
        for (index, first) in before.iter().enumerate() {
            let ready = first.iter().all(|other| done.get(*other) == Some(&true));
            if let Some(done) = done.get_mut(index) {
                *done |= ready;
            }
        }
    }
    let stuck = campaign.iter().zip(&done).filter(|(_, done)| !**done);
    let ecus: Vec<EcuName> = stuck.map(|(ecu, _)| ecu.ecu.clone()).collect();
    match ecus.is_empty() {
        true => Ok(before),
        false => Err(Broken::Cycle { ecus }),
    }
}

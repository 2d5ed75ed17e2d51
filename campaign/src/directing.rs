//! What Uptane asks of a director's targets (Uptane Standard 2.1, clauses 5.4.4.2 and 5.4.4.6): the image
//! repository says the same about each image, and each ECU that is named is there, has the hardware,
//! and gets one image.

use crate::{
    error::{DocumentFault, Refusal, TargetFault, VerifyError},
    ids::{HardwareId, Serial},
    layout::Repository,
    meta::{RoleName, Target, Targets, custom},
    pair::{Offered, of},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::ToString,
    vec::Vec,
};
use serde::{Deserialize, de::DeserializeOwned};

/// One ECU that shall install an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment<'a> {
    /// The target's name.
    pub path: &'a str,
    /// The ECU.
    pub serial: Serial,
    /// What the image repository says about the target.
    pub offered: &'a Target,
    /// What the director says about it.
    pub directed: &'a Target,
}

impl Assignment<'_> {
    pub(crate) fn refuse(&self, fault: TargetFault) -> VerifyError {
        refuse(self.path, fault)
    }
}

/// The part of a director's `custom` that Uptane knows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ecus {
    #[serde(default)]
    ecu_identifiers: BTreeMap<Serial, Hardware>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hardware {
    hardware_id: HardwareId,
}

/// The part of an image repository's `custom` that Uptane knows, and does not demand.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FitsOn {
    hardware_ids: Option<Vec<HardwareId>>,
}

/// What the director asks of a vehicle whose ECUs have this `hardware`.
///
/// # Errors
///
/// [`VerifyError::Target`] with the first rule that does not hold.
pub fn assignments<'a>(
    director: &'a Targets,
    offered: &'a Offered,
    hardware: impl Fn(&Serial) -> Option<HardwareId>,
) -> Result<Vec<Assignment<'a>>, VerifyError> {
    each_ecu_once(director)?;
    let mut all = Vec::new();
    for (path, directed) in &director.targets {
        let offered = offered.get(path).and_then(Option::as_ref);
        let assigned = assigned(path, offered, directed, &hardware);
        all.extend(assigned.map_err(|fault| refuse(path, fault))?);
    }
    Ok(all)
}

/// What the director asks of one ECU, for partial verification (clause 5.4.4.1): nobody else is asked.
///
/// # Errors
///
/// The director delegates, names an ECU twice, or means other hardware.
pub fn own<'a>(
    director: &'a Targets,
    serial: &Serial,
    hardware: &HardwareId,
) -> Result<Option<(&'a str, &'a Target)>, VerifyError> {
    no_delegations(director)?;
    each_ecu_once(director)?;
    for (path, directed) in &director.targets {
        let ecus: Ecus =
            read(Repository::Director, directed).map_err(|fault| refuse(path, fault))?;
        let Some(said) = ecus.ecu_identifiers.get(serial) else {
            continue;
        };
        if said.hardware_id != *hardware {
            return Err(refuse(path, TargetFault::Hardware(*serial)));
        }
        return Ok(Some((path, directed)));
    }
    Ok(None)
}

/// A director does not delegate (clause 5.3.2).
pub(crate) fn no_delegations(director: &Targets) -> Result<(), VerifyError> {
    if director.delegations.is_none() {
        return Ok(());
    }
    let (version, fault) = (Some(director.header.version), DocumentFault::Delegates);
    let refusal = Refusal::of(RoleName::Targets, None, version, fault);
    Err(of(Repository::Director, refusal))
}

/// The hardware that a director's target is for; none where it cannot be read, which is refused later.
pub(crate) fn hardware_of(directed: &Target) -> BTreeSet<HardwareId> {
    let ecus: Option<Ecus> = read(Repository::Director, directed).ok();
    let said = ecus
        .into_iter()
        .flat_map(|ecus| ecus.ecu_identifiers.into_values());
    said.map(|said| said.hardware_id).collect()
}

fn each_ecu_once(director: &Targets) -> Result<(), VerifyError> {
    let mut seen = BTreeSet::new();
    for (path, directed) in &director.targets {
        let ecus: Ecus =
            read(Repository::Director, directed).map_err(|fault| refuse(path, fault))?;
        for serial in ecus.ecu_identifiers.into_keys() {
            if !seen.insert(serial) {
                return Err(refuse(path, TargetFault::EcuTwice(serial)));
            }
        }
    }
    Ok(())
}

fn assigned<'a>(
    path: &'a str,
    offered: Option<&'a Target>,
    directed: &'a Target,
    hardware: &impl Fn(&Serial) -> Option<HardwareId>,
) -> Result<Vec<Assignment<'a>>, TargetFault> {
    let offered = offered.ok_or(TargetFault::NotInImageRepository)?;
    if offered.length != directed.length {
        return Err(TargetFault::Disagreement { field: "length" });
    }
    if offered.hashes != directed.hashes {
        return Err(TargetFault::Disagreement { field: "hashes" });
    }
    let fits_on: FitsOn = read(Repository::Image, offered)?;
    let ecus: Ecus = read(Repository::Director, directed)?;
    if ecus.ecu_identifiers.is_empty() {
        return Err(TargetFault::NoEcu);
    }
    let mut assignments = Vec::new();
    for (serial, said) in ecus.ecu_identifiers {
        let has = hardware(&serial).ok_or(TargetFault::UnknownEcu(serial))?;
        let fits = fits_on.hardware_ids.as_ref();
        if has != said.hardware_id || fits.is_some_and(|fits| !fits.contains(&has)) {
            return Err(TargetFault::Hardware(serial));
        }
        assignments.push(Assignment {
            path,
            serial,
            offered,
            directed,
        });
    }
    Ok(assignments)
}

/// `custom` of a target as `T`.
pub(crate) fn read<T: DeserializeOwned>(
    repository: Repository,
    target: &Target,
) -> Result<T, TargetFault> {
    custom(target.custom.as_ref()).map_err(|error| TargetFault::Custom { repository, error })
}

fn refuse(path: &str, fault: TargetFault) -> VerifyError {
    VerifyError::Target {
        path: path.to_string(),
        fault,
    }
}

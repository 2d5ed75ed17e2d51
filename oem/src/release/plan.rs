//! What a release publishes: decided here, signed and published elsewhere.

use std::{collections::BTreeMap, path::Path};

use campaign::{
    UnixTime,
    ids::{HardwareId, SequenceNumber, TargetPath, Vin},
    layout::Repository,
    meta::{
        DirectorCustom, DirectorStatement, EcuAssignment, ImageCustom, ImageStatement, Target,
        Targets,
    },
    repository::{Believed, TOP_TARGETS},
    rules::Rules,
};
use ecu_image::{GRANT_LEN, GrantFlags};
use serde_json::Value;

use super::{Plan, ReleaseOptions, VehiclePlan};
use crate::{
    error::Error,
    files,
    image::Image,
    keyset, manifest,
    publish::{self, published},
    repo::{Repo, State, VehicleRecord},
    vault::{self, Ask, Granted},
};

/// Upper bound of a file of rules in bytes.
const RULES_MAX_LEN: u64 = 1 << 20;

/// Decides what a release publishes. Nothing is stored here; a vault has given the grants.
///
/// # Errors
///
/// [`Error::AmbiguousHardware`], [`Error::Downgrade`], [`Error::UnmatchedImage`],
/// [`Error::UnmatchedVehicle`], [`Error::NoVehicle`], [`Error::Disbelieved`], those of [`Image::load`].
pub fn plan(repo: &Repo, options: &ReleaseOptions, now: UnixTime) -> Result<Plan, Error> {
    let holder = vault::holder(repo)?;
    plan_granted(repo, options, now, &|vehicle, asks| {
        holder.grants(vehicle, asks)
    })
}

/// Gives a vehicle's ECUs the grants that are asked for.
type Grants<'a> = &'a dyn Fn(&mut VehicleRecord, &[Ask<'_>]) -> Result<Vec<Granted>, Error>;

/// The same for a draft, in which no grant is given: it takes no sequence.
pub(crate) fn outline(repo: &Repo, options: &ReleaseOptions, now: UnixTime) -> Result<Plan, Error> {
    let nothing = Granted {
        grant: [0; GRANT_LEN],
        sequence: SequenceNumber(0),
    };
    plan_granted(repo, options, now, &|_, asks| Ok(vec![nothing; asks.len()]))
}

fn plan_granted(
    repo: &Repo,
    options: &ReleaseOptions,
    now: UnixTime,
    grants: Grants<'_>,
) -> Result<Plan, Error> {
    let expires = now.plus_days(options.valid_days);
    let images = load_images(repo, options)?;
    let by_hardware: BTreeMap<HardwareId, &Image> = images
        .iter()
        .map(|image| (image.header.hardware_id, image))
        .collect();
    let mut state = repo.state()?;
    let downgrades = counters(&mut state, &images, options.allow_downgrade)?;

    let named = !options.vins.is_empty();
    let vins = if named {
        options.vins.clone()
    } else {
        repo.vins()?
    };
    if vins.is_empty() {
        return Err(Error::NoVehicle);
    }
    let (mut vehicles, mut left_out) = (Vec::new(), Vec::new());
    for vin in vins {
        let record = repo.vehicle(&vin)?;
        // Who names a vehicle has looked at it.
        if !named && manifest::known(repo, &vin)?.disbelieved.is_some() {
            left_out.push(vin);
            continue;
        }
        let takes = |hardware| {
            record
                .vehicle
                .ecus()
                .iter()
                .any(|ecu| ecu.hardware_id == hardware)
        };
        if by_hardware.keys().any(|hardware| takes(*hardware)) {
            vehicles.push(plan_vehicle(
                repo,
                options,
                record,
                &by_hardware,
                &downgrades,
                expires,
                grants,
            )?);
        } else if named {
            return Err(Error::UnmatchedVehicle(vin));
        }
    }
    if vehicles.is_empty() && !left_out.is_empty() {
        return Err(Error::Disbelieved(left_out));
    }
    let taken = |hardware| {
        vehicles.iter().any(|vehicle: &VehiclePlan| {
            vehicle
                .record
                .vehicle
                .ecus()
                .iter()
                .any(|ecu| ecu.hardware_id == hardware)
        })
    };
    if let Some(hardware) = by_hardware.keys().find(|hardware| !taken(**hardware)) {
        return Err(Error::UnmatchedImage(*hardware));
    }
    let Some(first) = vehicles.first() else {
        return Err(Error::NoVehicle);
    };
    let vin = first.record.vehicle.vin();
    let before = published(repo, Repository::Image, vin)?;
    Ok(Plan {
        image_targets: image_targets(repo, vin, before.as_ref(), &images, expires)?,
        before,
        vehicles,
        left_out,
        images,
        state,
    })
}

fn load_images(repo: &Repo, options: &ReleaseOptions) -> Result<Vec<Image>, Error> {
    let mut images: Vec<Image> = Vec::new();
    for path in &options.images {
        let image = Image::load(repo, path)?;
        let hardware = image.header.hardware_id;
        if images
            .iter()
            .any(|other| other.header.hardware_id == hardware)
        {
            return Err(Error::AmbiguousHardware(hardware));
        }
        images.push(image);
    }
    if let Some(path) = &options.rules {
        read_rules(path, &mut images)?;
    }
    Ok(images)
}

/// Gives each image the rules that the file has for its hardware.
fn read_rules(path: &Path, images: &mut [Image]) -> Result<(), Error> {
    let bytes = files::read(path, RULES_MAX_LEN)?;
    let rules: BTreeMap<HardwareId, Rules> =
        serde_json::from_slice(&bytes).map_err(|error| Error::input(path, error))?;
    for (hardware, rules) in rules {
        let image = images
            .iter_mut()
            .find(|image| image.header.hardware_id == hardware)
            .ok_or_else(|| Error::input(path, format!("no image is for {hardware}")))?;
        image.rules = rules;
    }
    Ok(())
}

/// Raises the released counters; returns the hardware types whose image is below.
fn counters(state: &mut State, images: &[Image], allow: bool) -> Result<Vec<HardwareId>, Error> {
    let mut downgrades = Vec::new();
    for image in images {
        let hardware = image.header.hardware_id;
        let counter = image.header.security_counter;
        let released = state.released.entry(hardware).or_insert(counter);
        if counter >= *released {
            *released = counter;
        } else if allow {
            downgrades.push(hardware);
        } else {
            let released = *released;
            return Err(Error::Downgrade {
                hardware,
                counter,
                released,
            });
        }
    }
    Ok(downgrades)
}

fn plan_vehicle(
    repo: &Repo,
    options: &ReleaseOptions,
    mut record: VehicleRecord,
    images: &BTreeMap<HardwareId, &Image>,
    downgrades: &[HardwareId],
    expires: UnixTime,
    grants: Grants<'_>,
) -> Result<VehiclePlan, Error> {
    let vin = record.vehicle.vin().clone();
    let before = published(repo, Repository::Director, &vin)?;
    let known = manifest::known(repo, &vin)?;
    let header = publish::next_header(repo, Repository::Director, &vin, before.as_ref(), expires);
    let mut targets = Targets::new(header);
    targets.custom = Some(value(&DirectorStatement {
        campaign_id: options.campaign.clone(),
        vin: vin.clone(),
        rxswins: options.rxswins.clone(),
        extra: BTreeMap::new(),
    })?);
    let ecus = record.vehicle.ecus().to_vec();
    let mut asks = Vec::new();
    for (ecu, image) in ecus
        .iter()
        .filter_map(|ecu| Some((ecu, *images.get(&ecu.hardware_id)?)))
    {
        let downgrade = downgrades.contains(&ecu.hardware_id);
        if !downgrade {
            manifest::below_floor(&known, &vin, &ecu.name, image.header.security_counter)?;
        }
        asks.push(Ask {
            ecu: &ecu.name,
            image,
            sequence: None,
            flags: GrantFlags { downgrade },
        });
    }
    let granted = grants(&mut record, &asks)?;
    let granted: BTreeMap<_, _> = asks.iter().map(|ask| ask.ecu).zip(granted).collect();
    for (hardware, image) in images {
        let of_hardware = ecus.iter().filter(|ecu| ecu.hardware_id == *hardware);
        let assigned = of_hardware.filter_map(|ecu| {
            let granted = granted.get(&ecu.name)?;
            let assignment = EcuAssignment {
                hardware_id: *hardware,
                grant_sequence: granted.sequence,
                grant: granted.grant.to_vec(),
                extra: BTreeMap::new(),
            };
            Some((ecu.serial, assignment))
        });
        let ecu_identifiers: BTreeMap<_, _> = assigned.collect();
        if ecu_identifiers.is_empty() {
            continue;
        }
        let custom = DirectorCustom {
            ecu_identifiers,
            version: image.header.version,
            security_counter: image.header.security_counter,
            image_digest: image.digest,
            extra: BTreeMap::new(),
        };
        targets
            .targets
            .insert(target_path(image)?.to_string(), target(image, &custom)?);
    }
    Ok(VehiclePlan {
        record,
        before,
        director_targets: targets,
    })
}

/// The image repository's document: what it had before and the images of this release.
fn image_targets(
    repo: &Repo,
    vin: &Vin,
    before: Option<&Believed>,
    images: &[Image],
    expires: UnixTime,
) -> Result<Targets, Error> {
    let header = publish::next_header(repo, Repository::Image, vin, before, expires);
    let old = before.and_then(|before| before.targets(TOP_TARGETS));
    let mut targets = old.cloned().unwrap_or_else(|| Targets::new(header.clone()));
    targets.header = header;
    targets.custom = Some(value(&ImageStatement {
        image_keys: keyset::active(repo)?,
        key_set: Some(keyset::current(repo)?),
        extra: BTreeMap::new(),
    })?);
    for image in images {
        let custom = ImageCustom {
            hardware_ids: vec![image.header.hardware_id],
            version: image.header.version,
            security_counter: image.header.security_counter,
            image_digest: image.digest,
            rules: image.rules.clone(),
            extra: BTreeMap::new(),
        };
        targets
            .targets
            .insert(target_path(image)?.to_string(), target(image, &custom)?);
    }
    Ok(targets)
}

/// `HARDWARE/VERSION-DIGEST.img`: never the same name for two images.
fn target_path(image: &Image) -> Result<TargetPath, Error> {
    let safe = |byte: char| {
        if byte.is_ascii_alphanumeric() || "-_".contains(byte) {
            byte
        } else {
            '_'
        }
    };
    let hardware: String = image
        .header
        .hardware_id
        .as_str()
        .chars()
        .map(safe)
        .collect();
    let digest = image.digest.to_string();
    let short = digest.get(..16).unwrap_or(&digest);
    let version = image.header.version;
    Ok(TargetPath::new(&format!(
        "{hardware}/{version}-{short}.img"
    ))?)
}

fn target(image: &Image, custom: &impl serde::Serialize) -> Result<Target, Error> {
    let length = u64::try_from(image.bytes.len()).unwrap_or(u64::MAX);
    let mut target = Target::new(length, image.sha256);
    target.custom = Some(value(custom)?);
    Ok(target)
}

fn value(statement: &impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(statement).map_err(Error::crypto("JSON encoding"))
}

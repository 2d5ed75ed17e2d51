//! `oem release`: images to vehicles. Plan, sign, check as a vehicle would, then publish.
//!
//! The steps are separate and their values open, so that tests of a receiver can spoil a [`Plan`]
//! before it is signed, or a [`Signed`] release after it; [`release`] is the whole way and leaves
//! none out.

use std::{collections::BTreeMap, path::PathBuf};

use campaign::{
    Documents, RepositoryDocuments, UnixTime,
    ids::{CampaignId, HardwareId, TargetPath, Vin},
    layout::{self, Repository},
    meta::{
        DirectorCustom, DirectorStatement, Document, EcuAssignment, Header, ImageCustom,
        ImageStatement, KeyPolicy, RoleKeys, RoleName, Target, Targets,
    },
};
use ecu_image::GrantFlags;
use serde_json::Value;

use crate::{
    error::Error,
    files::{self, Access},
    grant,
    image::Image,
    keys::SigningKey,
    repo::{KeyName, Repo, State, VehicleRecord},
    vehicle::pinned,
};

/// Our own documents are checked with our own keys, whatever length they were given by `init`;
/// vehicles have a policy of their own.
pub(crate) const OWN_KEYS: KeyPolicy = KeyPolicy { rsa_min_bits: 2048 };

/// What is to be released.
#[derive(Debug, Clone)]
pub struct ReleaseOptions {
    /// The campaign's name.
    pub campaign: CampaignId,
    /// The vehicles; all where none is named.
    pub vins: Vec<Vin>,
    /// Image files.
    pub images: Vec<PathBuf>,
    /// Whether an image may be below the counter released before; its grants then say so.
    pub allow_downgrade: bool,
    /// How long the metadata are believed, in days.
    pub valid_days: u32,
}

/// Everything that a release will publish, unsigned.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The image repository's next document.
    pub image_targets: Targets,
    /// The vehicles that get something.
    pub vehicles: Vec<VehiclePlan>,
    /// The images.
    pub images: Vec<Image>,
    /// The counters after the release.
    pub state: State,
}

/// What a release publishes for one vehicle.
#[derive(Debug, Clone)]
pub struct VehiclePlan {
    /// The vehicle after the release: its grant sequences have risen.
    pub record: VehicleRecord,
    /// The director's next document for it.
    pub director_targets: Targets,
}

/// A release whose documents are signed.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The image repository's targets document.
    pub image_targets: Vec<u8>,
    /// The director's targets document of each vehicle.
    pub director_targets: BTreeMap<Vin, Vec<u8>>,
}

/// What was released, for display.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// The campaign.
    pub campaign: CampaignId,
    /// By vehicle, the ECUs that get an image.
    pub vehicles: BTreeMap<Vin, Vec<String>>,
}

/// Plans, signs, checks and publishes a release.
///
/// # Errors
///
/// The rule that refuses it; nothing has been changed then.
pub fn release(repo: &Repo, options: &ReleaseOptions, now: UnixTime) -> Result<Summary, Error> {
    let plan = plan(repo, options, now)?;
    let signed = plan.sign(repo)?;
    signed.check(repo, &plan, now)?;
    signed.publish(repo, &plan)?;
    let vehicles = plan.vehicles.iter().map(|vehicle| {
        let ecus = ecu_names(vehicle, &plan.images);
        (vehicle.record.vehicle.vin().clone(), ecus)
    });
    Ok(Summary {
        campaign: options.campaign.clone(),
        vehicles: vehicles.collect(),
    })
}

fn ecu_names(vehicle: &VehiclePlan, images: &[Image]) -> Vec<String> {
    let ecus = vehicle.record.vehicle.ecus().iter();
    ecus.filter(|ecu| {
        images
            .iter()
            .any(|image| image.header.hardware_id == ecu.hardware_id)
    })
    .map(|ecu| ecu.name.to_string())
    .collect()
}

/// Decides what a release publishes. Nothing is stored.
///
/// # Errors
///
/// [`Error::AmbiguousHardware`], [`Error::Downgrade`], [`Error::UnmatchedImage`],
/// [`Error::UnmatchedVehicle`], [`Error::NoVehicle`], those of [`Image::load`].
pub fn plan(repo: &Repo, options: &ReleaseOptions, now: UnixTime) -> Result<Plan, Error> {
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
    let mut vehicles = Vec::new();
    for vin in vins {
        let record = repo.vehicle(&vin)?;
        let takes = |hardware| {
            record
                .vehicle
                .ecus()
                .iter()
                .any(|ecu| ecu.hardware_id == hardware)
        };
        if by_hardware.keys().any(|hardware| takes(*hardware)) {
            let campaign = &options.campaign;
            vehicles.push(plan_vehicle(
                repo,
                campaign,
                record,
                &by_hardware,
                &downgrades,
                expires,
            )?);
        } else if named {
            return Err(Error::UnmatchedVehicle(vin));
        }
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
    Ok(Plan {
        image_targets: image_targets(repo, &images, expires)?,
        vehicles,
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
    Ok(images)
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
    campaign: &CampaignId,
    mut record: VehicleRecord,
    images: &BTreeMap<HardwareId, &Image>,
    downgrades: &[HardwareId],
    expires: UnixTime,
) -> Result<VehiclePlan, Error> {
    let vin = record.vehicle.vin().clone();
    let key = repo.key(KeyName::DirectorTargets)?;
    let path = layout::targets_path(Repository::Director, &vin);
    let before = current(repo, &path, layout::DIRECTOR_TARGETS_MAX_LEN, &key)?;
    let mut targets = Targets::new(next_header(before.as_ref(), expires));
    targets.custom = Some(value(&DirectorStatement {
        campaign_id: campaign.clone(),
        vin,
        extra: BTreeMap::new(),
    })?);
    for (hardware, image) in images {
        let flags = GrantFlags {
            downgrade: downgrades.contains(hardware),
        };
        let ecus = record.vehicle.ecus().to_vec();
        let mut ecu_identifiers = BTreeMap::new();
        for ecu in ecus.iter().filter(|ecu| ecu.hardware_id == *hardware) {
            let (grant, grant_sequence) = grant::next(&mut record, &ecu.name, image, None, flags)?;
            let assignment = EcuAssignment {
                hardware_id: *hardware,
                grant_sequence,
                grant: grant.to_vec(),
                extra: BTreeMap::new(),
            };
            ecu_identifiers.insert(ecu.serial, assignment);
        }
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
            .insert(target_path(image)?, target(image, &custom)?);
    }
    Ok(VehiclePlan {
        record,
        director_targets: targets,
    })
}

/// The image repository's document: what it had before and the images of this release.
fn image_targets(repo: &Repo, images: &[Image], expires: UnixTime) -> Result<Targets, Error> {
    let key = repo.key(KeyName::ImageTargets)?;
    let before = current(repo, IMAGE_TARGETS, layout::IMAGE_TARGETS_MAX_LEN, &key)?;
    let header = next_header(before.as_ref(), expires);
    let mut targets = before.unwrap_or_else(|| Targets::new(header.clone()));
    targets.header = header;
    targets.custom = Some(value(&ImageStatement {
        image_keys: vec![repo.key(KeyName::Image)?.image_key()?],
        extra: BTreeMap::new(),
    })?);
    for image in images {
        let custom = ImageCustom {
            hardware_ids: vec![image.header.hardware_id],
            version: image.header.version,
            security_counter: image.header.security_counter,
            image_digest: image.digest,
            extra: BTreeMap::new(),
        };
        targets
            .targets
            .insert(target_path(image)?, target(image, &custom)?);
    }
    Ok(targets)
}

const IMAGE_TARGETS: &str = "metadata/targets.json";

/// The document that is published now. Its signature is checked: what is released next builds on
/// it, and the published folder may have been written by others.
fn current(
    repo: &Repo,
    path: &str,
    max: usize,
    key: &SigningKey,
) -> Result<Option<Targets>, Error> {
    let path = repo.path(path);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = files::read(&path, u64::try_from(max).unwrap_or(u64::MAX))?;
    let corrupt = |error: &dyn std::fmt::Display| Error::corrupt(&path, error);
    let document = Document::<Targets>::parse(&bytes, max).map_err(|error| corrupt(&error))?;
    let id = key.public().id();
    let role = RoleKeys::new(vec![id.clone()], 1).ok_or_else(|| corrupt(&"no key"))?;
    let keys = BTreeMap::from([(id, key.public().clone())]);
    let targets = document
        .verify(&keys, &role, OWN_KEYS)
        .map_err(|error| corrupt(&error))?;
    Ok(Some(targets.clone()))
}

fn next_header(before: Option<&Targets>, expires: UnixTime) -> Header {
    let version = before
        .map_or(0, |targets| targets.header.version)
        .saturating_add(1);
    Header::new(RoleName::Targets, version, expires)
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

impl Plan {
    /// Signs the documents with the keys of the repository.
    ///
    /// # Errors
    ///
    /// [`Error::File`] where a key cannot be read, [`Error::Crypto`].
    pub fn sign(&self, repo: &Repo) -> Result<Signed, Error> {
        let image = repo.key(KeyName::ImageTargets)?;
        let director = repo.key(KeyName::DirectorTargets)?;
        let mut director_targets = BTreeMap::new();
        for vehicle in &self.vehicles {
            let document = SigningKey::sign_document(&vehicle.director_targets, &[&director])?;
            director_targets.insert(vehicle.record.vehicle.vin().clone(), document);
        }
        Ok(Signed {
            image_targets: SigningKey::sign_document(&self.image_targets, &[&image])?,
            director_targets,
        })
    }
}

impl Signed {
    /// Verifies the release as each of its vehicles will.
    ///
    /// # Errors
    ///
    /// [`Error::SelfCheck`].
    pub fn check(&self, repo: &Repo, plan: &Plan, now: UnixTime) -> Result<(), Error> {
        for vehicle in &plan.vehicles {
            let vehicle = &vehicle.record.vehicle;
            let vin = vehicle.vin();
            let trust = pinned(repo, vin)?.with_policy(OWN_KEYS);
            let documents = Documents {
                image: RepositoryDocuments {
                    roots: &[],
                    targets: Some(&self.image_targets),
                },
                director: RepositoryDocuments {
                    roots: &[],
                    targets: self.director_targets.get(vin).map(Vec::as_slice),
                },
            };
            campaign::verify(&trust, &documents, vehicle, now).map_err(|error| {
                Error::SelfCheck {
                    vin: vin.clone(),
                    error: Box::new(error),
                }
            })?;
        }
        Ok(())
    }

    /// Stores and publishes. Sequences and counters first, then images, then the image repository's
    /// document, then the directors': whatever interrupts it, no published document names what is
    /// not there, and no sequence is given twice.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn publish(&self, repo: &Repo, plan: &Plan) -> Result<(), Error> {
        for vehicle in &plan.vehicles {
            repo.store_vehicle(&vehicle.record)?;
        }
        repo.store_state(&plan.state)?;
        for image in &plan.images {
            let path = repo.path(&layout::artifact_path(&image.sha256));
            files::write_atomic(&path, &image.bytes, Access::Public)?;
        }
        files::write_atomic(
            &repo.path(IMAGE_TARGETS),
            &self.image_targets,
            Access::Public,
        )?;
        for (vin, document) in &self.director_targets {
            let path = repo.path(&layout::targets_path(Repository::Director, vin));
            files::write_atomic(&path, document, Access::Public)?;
        }
        Ok(())
    }
}

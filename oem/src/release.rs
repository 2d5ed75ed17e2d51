//! `oem release`: images to vehicles. Plan, sign, check as a vehicle would, then publish.
//!
//! The steps are separate and their values open, so that tests of a receiver can spoil a [`Plan`]
//! before it is signed, or a [`Signed`] release after it; [`release`] is the whole way and leaves
//! none out.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use campaign::{
    UnixTime,
    ids::{CampaignId, Digest, HardwareId, TargetPath, Vin, sha256},
    layout::{self, Repository},
    meta::{
        DirectorCustom, DirectorStatement, EcuAssignment, Envelope, ImageCustom, ImageStatement,
        KeyPolicy, Target, Targets,
    },
    repository::{Believed, TOP_TARGETS},
    rules::Rules,
};
use ecu_image::GrantFlags;
use serde_json::{Value, json};

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    grant,
    image::Image,
    keyset, manifest,
    publish::{self, Edition, published},
    repo::{Repo, State, VehicleRecord},
    root,
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
    /// What the images ask of the other ECUs: a JSON object of [`Rules`] by hardware type.
    pub rules: Option<PathBuf>,
    /// Whether an image may be below the counter released before; its grants then say so.
    pub allow_downgrade: bool,
    /// How long the metadata are believed, in days.
    pub valid_days: u32,
    /// The RXSWINs (UN R156) that apply once the campaign is completed, by regulation.
    pub rxswins: BTreeMap<String, String>,
}

/// Upper bound of a file of rules in bytes.
const RULES_MAX_LEN: u64 = 1 << 20;

/// Everything that a release will publish, unsigned.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The image repository's next document.
    pub image_targets: Targets,
    /// What the image repository has published before.
    pub before: Option<Believed>,
    /// The vehicles that get something.
    pub vehicles: Vec<VehiclePlan>,
    /// The vehicles that get nothing, since their telematics unit said what is not true.
    pub left_out: Vec<Vin>,
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
    /// What the director has published for it before.
    pub before: Option<Believed>,
}

/// A release whose documents are signed.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The image repository's documents.
    pub image: Edition,
    /// The director's documents of each vehicle.
    pub directors: BTreeMap<Vin, Edition>,
}

/// What was released, for display.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// The campaign.
    pub campaign: CampaignId,
    /// By vehicle, the ECUs that get an image.
    pub vehicles: BTreeMap<Vin, Vec<String>>,
    /// Vehicles that were not named and get nothing, since their telematics unit said what is not
    /// true (`oem manifest show`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Vin>,
}

/// Plans, signs, checks and publishes a release.
///
/// # Errors
///
/// The rule that refuses it; nothing has been changed then.
pub fn release(repo: &Repo, options: &ReleaseOptions, now: UnixTime) -> Result<Summary, Error> {
    let plan = plan(repo, options, now)?;
    let signed = plan.sign(repo, now)?;
    signed.check(repo, &plan, now)?;
    signed.publish(repo, &plan)?;
    Ok(plan.summary(&options.campaign))
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
/// [`Error::UnmatchedVehicle`], [`Error::NoVehicle`], [`Error::Disbelieved`], those of [`Image::load`].
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
    for (hardware, image) in images {
        let flags = GrantFlags {
            downgrade: downgrades.contains(hardware),
        };
        let ecus = record.vehicle.ecus().to_vec();
        let mut ecu_identifiers = BTreeMap::new();
        for ecu in ecus.iter().filter(|ecu| ecu.hardware_id == *hardware) {
            if !flags.downgrade {
                manifest::below_floor(&known, &vin, &ecu.name, image.header.security_counter)?;
            }
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

impl Plan {
    /// Signs the documents with the keys of the repository.
    ///
    /// # Errors
    ///
    /// [`Error::File`] where a key cannot be read, [`Error::Crypto`].
    pub fn sign(&self, repo: &Repo, now: UnixTime) -> Result<Signed, Error> {
        self.sign_with(repo, None, now)
    }

    /// The same, where others have signed the image repository's targets.
    pub(crate) fn sign_with(
        &self,
        repo: &Repo,
        targets: Option<&Envelope>,
        now: UnixTime,
    ) -> Result<Signed, Error> {
        let edition = |repository, vin: &Vin, before: &Option<Believed>, targets: &Targets| {
            publish::edition(repo, repository, vin, before.as_ref(), targets, now)
        };
        let mut directors = BTreeMap::new();
        for vehicle in &self.vehicles {
            let vin = vehicle.record.vehicle.vin();
            let (before, targets) = (&vehicle.before, &vehicle.director_targets);
            let documents = edition(Repository::Director, vin, before, targets)?;
            directors.insert(vin.clone(), documents);
        }
        let first = self.vehicles.first().ok_or(Error::NoVehicle)?;
        let vin = first.record.vehicle.vin();
        let (before, unsigned) = (&self.before, &self.image_targets);
        let image = match targets {
            None => edition(Repository::Image, vin, before, unsigned),
            Some(signed) => {
                let (before, bytes) = (before.as_ref(), signed.to_json()?);
                publish::edition_of(repo, Repository::Image, vin, before, unsigned, bytes, now)
            }
        }?;
        Ok(Signed { image, directors })
    }

    /// Makes the plan that of a release that was signed before: its image targets get the number that
    /// they were given then, where nothing else has it. Where they are published already, vehicles that
    /// have been directed to them are left out.
    pub(crate) fn go_on(
        &mut self,
        repo: &Repo,
        signed: &Targets,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let Some(first) = self.vehicles.first() else {
            return Ok(());
        };
        let (version, before) = (signed.header.version, self.before.as_ref());
        let name = format!("{version}.targets.json");
        let path = layout::metadata_path(Repository::Image, first.record.vehicle.vin(), &name);
        let path = repo.path(&path);
        let written = path.exists()
            && files::read(&path, u64::try_from(bytes.len()).unwrap_or(u64::MAX))
                .ok()
                .as_deref()
                == Some(bytes);
        let current = before.and_then(|it| it.targets(TOP_TARGETS));
        let current = current.map_or(0, |targets| targets.header.version);
        if !written || current > version {
            return Ok(());
        }
        self.image_targets.header = signed.header.clone();
        if current == version {
            self.vehicles.retain(|vehicle| !vehicle.is_directed());
        }
        Ok(())
    }

    pub(crate) fn summary(&self, campaign: &CampaignId) -> Summary {
        let vehicles = self.vehicles.iter().map(|vehicle| {
            let ecus = ecu_names(vehicle, &self.images);
            (vehicle.record.vehicle.vin().clone(), ecus)
        });
        Summary {
            campaign: campaign.clone(),
            vehicles: vehicles.collect(),
            left_out: self.left_out.clone(),
        }
    }
}

impl VehiclePlan {
    /// Whether the director says already what it would say: the same campaign and the same images.
    fn is_directed(&self) -> bool {
        let names = |targets: &Targets| -> Vec<_> {
            let targets = targets.targets.iter();
            targets
                .map(|(path, target)| (path.clone(), target.hashes.clone()))
                .collect()
        };
        let before = self.before.as_ref().and_then(|it| it.targets(TOP_TARGETS));
        before.is_some_and(|before| {
            before.custom == self.director_targets.custom
                && names(before) == names(&self.director_targets)
        })
    }
}

impl Signed {
    /// Verifies the release as each of its vehicles will that knows the newest roots.
    ///
    /// # Errors
    ///
    /// [`Error::SelfCheck`].
    pub fn check(&self, repo: &Repo, plan: &Plan, now: UnixTime) -> Result<(), Error> {
        let trust = pinned(repo)?.with_policy(OWN_KEYS);
        for vehicle in &plan.vehicles {
            let vehicle = &vehicle.record.vehicle;
            let vin = vehicle.vin();
            let documents = [Some(&self.image), self.directors.get(vin)];
            campaign::verify(&trust, vehicle, now, |wanted| {
                let mut documents = documents.into_iter().flatten();
                documents.find_map(|edition| edition.get(&wanted.path))
            })
            .map_err(|error| Error::SelfCheck {
                vin: vin.clone(),
                error: Box::new(error),
            })?;
        }
        Ok(())
    }

    /// What the record says of a release. All that is published for vehicles is one digest: that of
    /// the list that `sha256sum` prints for the documents, in the order of their paths.
    fn audited(&self, plan: &Plan) -> Value {
        let documents = |editions: &mut dyn Iterator<Item = &Edition>| -> BTreeMap<String, Digest> {
            let documents = editions.flat_map(Edition::documents);
            documents
                .map(|(path, bytes)| (path.clone(), sha256(bytes)))
                .collect()
        };
        let directors = documents(&mut self.directors.values());
        let list: String = directors
            .iter()
            .map(|(path, digest)| format!("{digest}  {path}\n"))
            .collect();
        let image = |image: &Image| {
            let header = &image.header;
            json!({
                "image": image.digest, "hardware_id": header.hardware_id, "version": header.version,
                "security_counter": header.security_counter,
            })
        };
        let statement = plan
            .vehicles
            .first()
            .and_then(|it| it.director_targets.custom.as_ref());
        json!({
            "campaign": statement.and_then(|custom| custom.get("campaignId")),
            "images": plan.images.iter().map(image).collect::<Vec<_>>(),
            "documents": documents(&mut [&self.image].into_iter()),
            "vehicles": self.directors.len(),
            "director_documents": sha256(list.as_bytes()),
        })
    }

    /// Stores and publishes. Sequences and counters first, then images, then the image repository's
    /// documents, then the directors': whatever interrupts it, no published document names what is
    /// not there, and no sequence is given twice.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn publish(&self, repo: &Repo, plan: &Plan) -> Result<(), Error> {
        audit::record(repo, "release", &self.audited(plan))?;
        for vehicle in &plan.vehicles {
            repo.store_vehicle(&vehicle.record)?;
        }
        repo.store_state(&plan.state)?;
        for image in &plan.images {
            let path = repo.path(&layout::artifact_path(&image.sha256));
            files::write_atomic(&path, &image.bytes, Access::Public)?;
        }
        self.image.publish(repo)?;
        for (vin, documents) in &self.directors {
            root::publish_missing(repo, vin)?;
            documents.publish(repo)?;
        }
        Ok(())
    }
}

//! `oem release`: images to vehicles. Plan, sign, check as a vehicle would, then publish.
//!
//! The steps are separate and their values open, so that tests of a receiver can spoil a [`Plan`]
//! before it is signed, or a [`Signed`] release after it; [`release`] is the whole way and leaves
//! none out.

use std::{collections::BTreeMap, path::PathBuf};

use campaign::{
    UnixTime,
    ids::{CampaignId, Digest, Vin, sha256},
    layout::{self, Repository},
    meta::{Envelope, KeyPolicy, Targets},
    repository::{Believed, TOP_TARGETS},
};
use serde_json::{Value, json};

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    image::Image,
    publish::{self, Edition},
    repo::{Repo, State, VehicleRecord},
    root,
    vehicle::pinned,
};

mod plan;

pub(crate) use plan::outline;
pub use plan::plan;

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
    /// What the images ask of the other ECUs: a JSON object of [`campaign::rules::Rules`] by hardware type.
    pub rules: Option<PathBuf>,
    /// Whether an image may be below the counter released before; its grants then say so.
    pub allow_downgrade: bool,
    /// How long the metadata are believed, in days.
    pub valid_days: u32,
    /// The RXSWINs (UN R156) that apply once the campaign is completed, by regulation.
    pub rxswins: BTreeMap<String, String>,
}

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

//! From two repositories to a verified campaign (Uptane Standard 2.1, clause 5.4.4).
//!
//! ```text
//!   Director ──current──▶ Image repository ──current──▶ a search for each target ──▶ Verified
//! ```
//!
//! The director first: where it asks for nothing new, the image repository has nothing to say. Then
//! every statement of the director against the image repository, against the vehicle, and against
//! the grant that it brings. The first rule that does not hold ends it.

use crate::{
    error::{DocumentFault, GrantFault, Refusal, TargetFault, VerifyError},
    ids::{Digest, Serial, TargetPath},
    layout::{self, ARTIFACT_MAX_LEN, Repository},
    meta::{
        DirectorCustom, DirectorStatement, EcuAssignment, ImageCustom, ImageStatement, RoleName,
        Target, Targets, custom,
    },
    repository::Client,
    rules::ImageRules,
    time::UnixTime,
    trust::Trust,
    vehicle::{Ecu, Vehicle},
    verified::{EcuTarget, VerifiedCampaign},
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};
use ecu_image::{GRANT_LEN, Grant};

/// A document to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its path from the root of the repository's files, also in a bundle.
    pub path: String,
    /// The most bytes that it may have.
    pub limit: usize,
}

/// The verification of one campaign for one vehicle: asks for documents and takes them.
#[derive(Debug)]
pub struct Verification<'a> {
    vehicle: &'a Vehicle,
    trust: Trust,
    director: Client,
    image: Client,
    /// The director's targets that the image repository has not been asked about.
    left: VecDeque<String>,
    /// What the image repository says about those before.
    offered: BTreeMap<String, Option<Target>>,
}

impl<'a> Verification<'a> {
    /// Begins with what is believed.
    ///
    /// # Errors
    ///
    /// The trust holds no root that is signed by its own keys.
    pub fn new(trust: &Trust, vehicle: &'a Vehicle, now: UnixTime) -> Result<Self, VerifyError> {
        let client = |repository| {
            let stored = trust.repository(repository).clone();
            Client::new(stored, trust.policy, repository_limits(repository), now)
                .map_err(|refusal| of(repository, refusal))
        };
        Ok(Self {
            vehicle,
            trust: trust.clone(),
            director: client(Repository::Director)?,
            image: client(Repository::Image)?,
            left: VecDeque::new(),
            offered: BTreeMap::new(),
        })
    }

    /// The document that is needed next; `None` when all are there, or one was refused.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        let repository = self.turn();
        let wanted = self.client(repository).wanted()?;
        Some(Wanted {
            path: layout::metadata_path(repository, self.vehicle.vin(), &wanted.name),
            limit: usize::try_from(wanted.limit).unwrap_or(usize::MAX),
        })
    }

    /// The wanted document, or that there is none.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]: nothing more is asked for.
    pub fn on_document(&mut self, bytes: Option<&[u8]>) -> Result<(), VerifyError> {
        let repository = self.turn();
        let client = self.client_mut(repository);
        let result = match bytes {
            Some(bytes) => client.on_file(bytes),
            None => client.on_missing(),
        };
        result.map_err(|refusal| of(repository, refusal))?;
        if repository == Repository::Director && self.director.is_current() {
            self.begin_targets()?;
        }
        self.search()
    }

    /// What is verified, and the trust to store, when nothing is wanted any more.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] with the first rule that does not hold; the trust stays as it was then.
    pub fn finish(mut self) -> Result<(VerifiedCampaign, Trust), VerifyError> {
        let missing = |repository| {
            let fault = DocumentFault::Missing;
            of(
                repository,
                Refusal::of(RoleName::Targets, None, None, fault),
            )
        };
        let director = self.director.targets();
        let director = director.ok_or_else(|| missing(Repository::Director))?;
        let image = self.image.targets();
        let image = image.filter(|_| self.left.is_empty() && self.image.is_current());
        let image = image.ok_or_else(|| missing(Repository::Image))?;
        let campaign = assign(image, &self.offered, director, self.vehicle)?;
        for (repository, client) in [
            (Repository::Director, &self.director),
            (Repository::Image, &self.image),
        ] {
            *self.trust.repository_mut(repository) = client.believed().to_stored();
        }
        Ok((campaign, self.trust))
    }

    /// Whose documents are asked for now.
    fn turn(&self) -> Repository {
        match self.director.is_current() {
            false => Repository::Director,
            true => Repository::Image,
        }
    }

    const fn client(&self, repository: Repository) -> &Client {
        match repository {
            Repository::Director => &self.director,
            Repository::Image => &self.image,
        }
    }

    const fn client_mut(&mut self, repository: Repository) -> &mut Client {
        match repository {
            Repository::Director => &mut self.director,
            Repository::Image => &mut self.image,
        }
    }

    /// The director's targets are there: each is searched for in the image repository.
    fn begin_targets(&mut self) -> Result<(), VerifyError> {
        let Some(targets) = self.director.targets() else {
            return Ok(());
        };
        if targets.delegations.is_some() {
            let version = Some(targets.header.version);
            let refusal = Refusal::of(RoleName::Targets, None, version, DocumentFault::Delegates);
            return Err(of(Repository::Director, refusal));
        }
        self.left = targets.targets.keys().cloned().collect();
        Ok(())
    }

    /// Takes what was found, and goes on to the next target while no document is needed for it.
    fn search(&mut self) -> Result<(), VerifyError> {
        while self.turn() == Repository::Image && self.image.is_current() {
            let Some(path) = self.left.front() else {
                return Ok(());
            };
            if !self.image.has_searched(path) {
                let path = path.clone();
                self.image
                    .find(&path)
                    .map_err(|refusal| of(Repository::Image, refusal))?;
                continue;
            }
            let found = self.image.found().map(|(_, target)| target.clone());
            if let Some(path) = self.left.pop_front() {
                self.offered.insert(path, found);
            }
        }
        Ok(())
    }
}

fn of(repository: Repository, refusal: Refusal) -> VerifyError {
    VerifyError::Document {
        repository,
        refusal,
    }
}

fn repository_limits(repository: Repository) -> crate::repository::Limits {
    let limits = crate::repository::Limits::default();
    match repository {
        Repository::Image => limits,
        Repository::Director => crate::repository::Limits {
            targets: layout::DIRECTOR_TARGETS_MAX_LEN,
            ..limits
        },
    }
}

/// Verifies a campaign with documents that are at hand: `document` has them by their path.
///
/// # Errors
///
/// [`VerifyError`] with the first rule that does not hold; the trust stays as it was then.
pub fn verify<'d>(
    trust: &Trust,
    vehicle: &Vehicle,
    now: UnixTime,
    mut document: impl FnMut(&Wanted) -> Option<&'d [u8]>,
) -> Result<(VerifiedCampaign, Trust), VerifyError> {
    let mut verification = Verification::new(trust, vehicle, now)?;
    while let Some(wanted) = verification.wanted() {
        verification.on_document(document(&wanted))?;
    }
    verification.finish()
}

/// Checks what the director asks for, and puts it in the order of the vehicle's ECUs.
fn assign(
    image: &Targets,
    offered: &BTreeMap<String, Option<Target>>,
    director: &Targets,
    vehicle: &Vehicle,
) -> Result<VerifiedCampaign, VerifyError> {
    let statement = director_statement(director, vehicle)?;
    let offered_keys = image_statement(image)?;
    let mut by_serial: BTreeMap<Serial, EcuTarget> = BTreeMap::new();
    for (path, directed) in &director.targets {
        let refuse = |fault| VerifyError::Target {
            path: path.clone(),
            fault,
        };
        let name = TargetPath::new(path).map_err(|_| refuse(TargetFault::Path))?;
        let offered = offered.get(path).and_then(Option::as_ref);
        let offered = offered.ok_or_else(|| refuse(TargetFault::NotInImageRepository))?;
        let agreed = Agreed::new(offered, directed).map_err(refuse)?;
        if agreed.directed.ecu_identifiers.is_empty() {
            return Err(refuse(TargetFault::NoEcu));
        }
        for (serial, assignment) in &agreed.directed.ecu_identifiers {
            let target = agreed
                .for_ecu(&name, serial, assignment, vehicle)
                .map_err(refuse)?;
            if by_serial.insert(*serial, target).is_some() {
                return Err(refuse(TargetFault::EcuTwice(*serial)));
            }
        }
    }
    let ecus = vehicle
        .ecus()
        .iter()
        .filter_map(|ecu| by_serial.remove(&ecu.serial))
        .collect();
    Ok(VerifiedCampaign {
        id: statement.campaign_id,
        vin: statement.vin,
        ecus,
        image_keys: offered_keys.image_keys,
        key_set: offered_keys.key_set,
        rules: rules(image, offered),
    })
}

fn director_statement(
    director: &Targets,
    vehicle: &Vehicle,
) -> Result<DirectorStatement, VerifyError> {
    let version = Some(director.header.version);
    let refuse = |fault| {
        let refusal = Refusal::of(RoleName::Targets, None, version, fault);
        of(Repository::Director, refusal)
    };
    let statement: DirectorStatement =
        custom(director.custom.as_ref()).map_err(|error| refuse(DocumentFault::Custom(error)))?;
    if statement.vin == *vehicle.vin() {
        Ok(statement)
    } else {
        Err(refuse(DocumentFault::OtherVehicle(statement.vin)))
    }
}

/// The rules of all images that are at hand. A target that cannot be read has none: the campaign's own
/// were read before.
fn rules(image: &Targets, offered: &BTreeMap<String, Option<Target>>) -> Vec<ImageRules> {
    let offered = offered.values().flatten();
    let listed = image.targets.values().chain(offered);
    let read = listed.filter_map(|target| custom::<ImageCustom>(target.custom.as_ref()).ok());
    let ruled = read.filter(|image| !image.rules.is_empty());
    let rules = ruled.map(|image| (image.image_digest.0, image.rules));
    // By digest, since a target may be listed and offered.
    let rules: BTreeMap<_, _> = rules.collect();
    let named = |(digest, rules)| ImageRules {
        image_digest: ecu_image::ImageDigest(digest),
        rules,
    };
    rules.into_iter().map(named).collect()
}

/// What the image repository says of the keys of images.
fn image_statement(image: &Targets) -> Result<ImageStatement, VerifyError> {
    custom(image.custom.as_ref()).map_err(|error| {
        let (version, fault) = (Some(image.header.version), DocumentFault::Custom(error));
        let refusal = Refusal::of(RoleName::Targets, None, version, fault);
        of(Repository::Image, refusal)
    })
}

/// An image about which both repositories say the same.
struct Agreed {
    length: u64,
    sha256: Digest,
    offered: ImageCustom,
    directed: DirectorCustom,
}

impl Agreed {
    fn new(offered: &Target, directed: &Target) -> Result<Self, TargetFault> {
        let unreadable = |repository| move |error| TargetFault::Custom { repository, error };
        let differ = |field| TargetFault::Disagreement { field };
        let image: ImageCustom =
            custom(offered.custom.as_ref()).map_err(unreadable(Repository::Image))?;
        let director: DirectorCustom =
            custom(directed.custom.as_ref()).map_err(unreadable(Repository::Director))?;
        if offered.length != directed.length {
            return Err(differ("length"));
        }
        if offered.hashes != directed.hashes {
            return Err(differ("hashes"));
        }
        if image.version != director.version {
            return Err(differ("version"));
        }
        if image.security_counter != director.security_counter {
            return Err(differ("securityCounter"));
        }
        if image.image_digest != director.image_digest {
            return Err(differ("imageDigest"));
        }
        if offered.length > ARTIFACT_MAX_LEN {
            let length = offered.length;
            return Err(TargetFault::TooLong { length });
        }
        Ok(Self {
            length: offered.length,
            sha256: offered.hashes.sha256.ok_or(TargetFault::NoSha256)?,
            offered: image,
            directed: director,
        })
    }

    fn for_ecu(
        &self,
        path: &TargetPath,
        serial: &Serial,
        assignment: &EcuAssignment,
        vehicle: &Vehicle,
    ) -> Result<EcuTarget, TargetFault> {
        let ecu: &Ecu = vehicle
            .ecu_by_serial(serial)
            .ok_or(TargetFault::UnknownEcu(*serial))?;
        let fits = ecu.hardware_id == assignment.hardware_id
            && self.offered.hardware_ids.contains(&ecu.hardware_id);
        if !fits {
            return Err(TargetFault::Hardware(*serial));
        }
        check_grant(assignment, serial, &self.offered.image_digest).map_err(|fault| {
            TargetFault::Grant {
                serial: *serial,
                fault,
            }
        })?;
        Ok(EcuTarget {
            ecu: ecu.name.clone(),
            serial: *serial,
            hardware_id: ecu.hardware_id,
            path: path.clone(),
            length: self.length,
            sha256: self.sha256,
            image_digest: self.offered.image_digest,
            version: self.offered.version,
            security_counter: self.offered.security_counter,
            grant: assignment.grant.clone(),
            grant_sequence: assignment.grant_sequence,
        })
    }
}

/// The fields of the grant; its MAC only the ECU can check.
fn check_grant(
    assignment: &EcuAssignment,
    serial: &Serial,
    image_digest: &ecu_image::ImageDigest,
) -> Result<(), GrantFault> {
    let len = assignment.grant.len();
    let bytes: &[u8; GRANT_LEN] = assignment
        .grant
        .as_slice()
        .try_into()
        .map_err(|_| GrantFault::Length { len })?;
    let grant = Grant::parse(bytes).map_err(GrantFault::Malformed)?;
    if grant.ecu_serial != *serial {
        Err(GrantFault::Serial)
    } else if grant.image_digest != *image_digest {
        Err(GrantFault::ImageDigest)
    } else if grant.sequence != assignment.grant_sequence {
        Err(GrantFault::Sequence)
    } else {
        Ok(())
    }
}

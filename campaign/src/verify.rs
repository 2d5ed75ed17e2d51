//! From documents to a verified campaign (Uptane Standard 2.1, clause 5.4.4, without timestamp and
//! snapshot).
//!
//! Order: the chain of roots, then the targets document, of each repository; then every statement
//! of the director against the image repository, against the vehicle, and against the grant that it
//! brings. The first rule that does not hold ends it.

use crate::{
    error::{DocumentFault, GrantFault, TargetFault, VerifyError},
    ids::{Digest, Serial, TargetPath},
    layout::{
        ARTIFACT_MAX_LEN, DIRECTOR_TARGETS_MAX_LEN, IMAGE_TARGETS_MAX_LEN, ROOT_CHAIN_MAX,
        ROOT_MAX_LEN, Repository,
    },
    meta::{
        DirectorCustom, DirectorStatement, Document, EcuAssignment, Envelope, Header, ImageCustom,
        ImageStatement, KeyPolicy, Malformed, Role, RoleName, Root, Target, Targets, custom,
    },
    time::UnixTime,
    trust::{RepositoryTrust, Trust},
    vehicle::{Ecu, Vehicle},
    verified::{EcuTarget, VerifiedCampaign},
};
use alloc::{collections::BTreeMap, string::ToString, vec::Vec};
use ecu_image::{GRANT_LEN, Grant, provision::ImageKey};

/// The documents that were fetched or found in a bundle, as bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Documents<'a> {
    /// Of the image repository.
    pub image: RepositoryDocuments<'a>,
    /// Of the director for this vehicle.
    pub director: RepositoryDocuments<'a>,
}

/// The documents of one repository.
#[derive(Debug, Clone, Copy, Default)]
pub struct RepositoryDocuments<'a> {
    /// Root documents in rising order. Versions up to the believed one are passed over, so a bundle
    /// may hold the whole chain.
    pub roots: &'a [Vec<u8>],
    /// The targets document.
    pub targets: Option<&'a [u8]>,
}

/// Verifies `documents` for `vehicle`, believing `trust` and the time `now`.
///
/// # Errors
///
/// [`VerifyError`] with the first rule that does not hold.
pub fn verify(
    trust: &Trust,
    documents: &Documents<'_>,
    vehicle: &Vehicle,
    now: UnixTime,
) -> Result<VerifiedCampaign, VerifyError> {
    verify_and_advance(trust, documents, vehicle, now).map(|(campaign, _)| campaign)
}

/// As [`verify`], with the trust to store: the roots and versions that were reached.
///
/// # Errors
///
/// [`VerifyError`]; the trust stays as it was then.
pub fn verify_and_advance(
    trust: &Trust,
    documents: &Documents<'_>,
    vehicle: &Vehicle,
    now: UnixTime,
) -> Result<(VerifiedCampaign, Trust), VerifyError> {
    let mut trust = trust.clone();
    let image = refresh(&mut trust, Repository::Image, &documents.image, now)?;
    let director = refresh(&mut trust, Repository::Director, &documents.director, now)?;
    let campaign = assign(&image, &director, vehicle)?;
    Ok((campaign, trust))
}

/// Brings the trust in one repository up to its documents and returns its targets.
fn refresh(
    trust: &mut Trust,
    repository: Repository,
    documents: &RepositoryDocuments<'_>,
    now: UnixTime,
) -> Result<Targets, VerifyError> {
    let policy = trust.policy;
    let trust = trust.repository_mut(repository);
    let context = |role| Context { repository, role };
    follow_roots(trust, documents.roots, policy, context(RoleName::Root))?;
    context(RoleName::Root).check_expiry(&trust.root.header, now)?;

    let context = context(RoleName::Targets);
    let bytes = documents
        .targets
        .ok_or_else(|| context.fault(None, DocumentFault::Missing))?;
    let max = match repository {
        Repository::Image => IMAGE_TARGETS_MAX_LEN,
        Repository::Director => DIRECTOR_TARGETS_MAX_LEN,
    };
    let document = context.parse::<Targets>(bytes, max)?;
    let targets = document
        .verify(&trust.root.keys, &trust.root.roles.targets, policy)
        .map_err(|shortfall| context.of(&document, DocumentFault::Signatures(shortfall)))?;
    let expected = trust.seen.targets.max(1);
    if targets.header.version < expected {
        return Err(context.of(&document, DocumentFault::Version { expected }));
    }
    context.check_expiry(&targets.header, now)?;
    trust.seen.targets = targets.header.version;
    Ok(targets.clone())
}

/// Follows the chain of roots: each successor is the next version, signed by the keys of its
/// predecessor and by its own (Uptane Standard 2.1, clause 5.4.4.3).
fn follow_roots(
    trust: &mut RepositoryTrust,
    roots: &[Vec<u8>],
    policy: KeyPolicy,
    context: Context,
) -> Result<(), VerifyError> {
    if roots.len() > ROOT_CHAIN_MAX {
        return Err(context.fault(None, DocumentFault::ChainTooLong));
    }
    for bytes in roots {
        let document = context.parse::<Root>(bytes, ROOT_MAX_LEN)?;
        let candidate = document.unverified();
        if candidate.header.version <= trust.root.header.version {
            continue;
        }
        let expected = trust.root.header.version.saturating_add(1);
        if candidate.header.version != expected {
            return Err(context.of(&document, DocumentFault::Version { expected }));
        }
        let before = &trust.root;
        document
            .verify(&before.keys, &before.roles.root, policy)
            .map_err(|error| context.of(&document, DocumentFault::PredecessorSignatures(error)))?;
        document
            .verify(&candidate.keys, &candidate.roles.root, policy)
            .map_err(|error| context.of(&document, DocumentFault::Signatures(error)))?;
        trust.envelope = serde_json::from_slice::<Envelope>(bytes).map_err(|error| {
            let error = Malformed::Json(error.to_string());
            context.fault(None, DocumentFault::Malformed(error))
        })?;
        trust.root = candidate.clone();
    }
    Ok(())
}

/// Which document an error is about.
#[derive(Clone, Copy)]
struct Context {
    repository: Repository,
    role: RoleName,
}

impl Context {
    fn fault(self, version: Option<u64>, fault: DocumentFault) -> VerifyError {
        VerifyError::Document {
            repository: self.repository,
            role: self.role,
            version,
            fault,
        }
    }

    fn of<R: Role>(self, document: &Document<R>, fault: DocumentFault) -> VerifyError {
        self.fault(Some(document.unverified_header().version), fault)
    }

    fn parse<R: Role>(self, bytes: &[u8], max: usize) -> Result<Document<R>, VerifyError> {
        Document::parse(bytes, max)
            .map_err(|error| self.fault(None, DocumentFault::Malformed(error)))
    }

    fn check_expiry(self, header: &Header, now: UnixTime) -> Result<(), VerifyError> {
        let expires = header.expires;
        if now < expires {
            return Ok(());
        }
        let fault = DocumentFault::Expired { expires, now };
        Err(self.fault(Some(header.version), fault))
    }
}

/// Checks what the director asks for, and puts it in the order of the vehicle's ECUs.
fn assign(
    image: &Targets,
    director: &Targets,
    vehicle: &Vehicle,
) -> Result<VerifiedCampaign, VerifyError> {
    let statement = director_statement(director, vehicle)?;
    let image_keys = image_keys(image)?;
    let mut by_serial: BTreeMap<Serial, EcuTarget> = BTreeMap::new();
    for (path, directed) in &director.targets {
        let refuse = |fault| VerifyError::Target {
            path: path.clone(),
            fault,
        };
        let offered = image
            .targets
            .get(path)
            .ok_or_else(|| refuse(TargetFault::NotInImageRepository))?;
        let agreed = Agreed::new(offered, directed).map_err(refuse)?;
        if agreed.directed.ecu_identifiers.is_empty() {
            return Err(refuse(TargetFault::NoEcu));
        }
        for (serial, assignment) in &agreed.directed.ecu_identifiers {
            let target = agreed
                .for_ecu(path, serial, assignment, vehicle)
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
        image_keys,
    })
}

fn director_statement(
    director: &Targets,
    vehicle: &Vehicle,
) -> Result<DirectorStatement, VerifyError> {
    let refuse = |fault| VerifyError::Document {
        repository: Repository::Director,
        role: RoleName::Targets,
        version: Some(director.header.version),
        fault,
    };
    let statement: DirectorStatement =
        custom(director.custom.as_ref()).map_err(|error| refuse(DocumentFault::Custom(error)))?;
    if statement.vin == *vehicle.vin() {
        Ok(statement)
    } else {
        Err(refuse(DocumentFault::OtherVehicle(statement.vin)))
    }
}

/// The keys of image headers.
fn image_keys(image: &Targets) -> Result<Vec<ImageKey>, VerifyError> {
    let statement: Result<ImageStatement, _> = custom(image.custom.as_ref());
    statement
        .map(|statement| statement.image_keys)
        .map_err(|error| VerifyError::Document {
            repository: Repository::Image,
            role: RoleName::Targets,
            version: Some(image.header.version),
            fault: DocumentFault::Custom(error),
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
            sha256: offered.hashes.sha256,
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

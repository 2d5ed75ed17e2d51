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
    directing::{self, Assignment},
    error::{DocumentFault, GrantFault, Refusal, TargetFault, VerifyError},
    ids::{Digest, Serial, TargetPath},
    layout::{self, ARTIFACT_MAX_LEN, Repository},
    meta::{
        DirectorCustom, DirectorStatement, EcuAssignment, FileHashes, ImageCustom, ImageStatement,
        RoleName, Targets, custom,
    },
    pair::{Offered, Pair, of},
    repository::Client,
    rules::ImageRules,
    time::{ATTESTATION_MAX_LEN, Judged, Nonce, UnixTime},
    trust::Trust,
    vehicle::Vehicle,
    verified::{EcuTarget, VerifiedCampaign},
};
use alloc::{collections::BTreeMap, string::String, vec::Vec};
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
    pair: Pair,
    judged: Judged,
    /// The director is to be asked for the time with it.
    nonce: Option<Nonce>,
    /// The trust has changed since it was taken last.
    learned: bool,
}

impl<'a> Verification<'a> {
    /// Begins with what is believed. `clock` is the vehicle's own; it counts where it is not behind what
    /// is known, until the director attests the time.
    ///
    /// # Errors
    ///
    /// The trust holds no root that is signed by its own keys.
    pub fn new(trust: &Trust, vehicle: &'a Vehicle, clock: UnixTime) -> Result<Self, VerifyError> {
        let judged = trust.known_time().judge(clock);
        let now = judged.now;
        let client = |repository| {
            let stored = trust.repository(repository).clone();
            Client::new(stored, trust.policy, repository_limits(repository), now)
                .map_err(|refusal| of(repository, refusal))
        };
        Ok(Self {
            vehicle,
            trust: trust.clone(),
            pair: Pair::new(client(Repository::Director)?, client(Repository::Image)?),
            judged,
            nonce: None,
            learned: false,
        })
    }

    /// Asks the director for the time, too, where its root names keys for that. `nonce` is random and
    /// was never used before. A static repository has no answer; then the clock counts on.
    #[must_use]
    pub const fn asking_for_time(mut self, nonce: Nonce) -> Self {
        self.nonce = Some(nonce);
        self
    }

    /// The time by which expiry is judged, and where it is from.
    #[must_use]
    pub const fn judged(&self) -> Judged {
        self.judged
    }

    /// What was believed at first, with the time and the roots that are known now.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The same, where time or roots are news since it was asked last. It is to be stored even where the
    /// campaign is refused: a clock set back later finds the time, a key that was replaced stays so,
    /// and a chain of more roots than one refresh takes is gone on with by the next.
    pub fn take_learned(&mut self) -> Option<&Trust> {
        core::mem::take(&mut self.learned).then_some(&self.trust)
    }

    /// The nonce, when it is the time to ask: under the director's newest root, before anything that
    /// expires within days.
    fn time_wanted(&self) -> Option<Nonce> {
        let director = self.pair.client(Repository::Director);
        let keys = director.believed().root().time_keys();
        self.nonce.filter(|_| director.has_root() && keys.is_some())
    }

    fn on_time(&mut self, nonce: &Nonce, bytes: Option<&[u8]>) -> Result<(), VerifyError> {
        self.nonce = None;
        let Some(bytes) = bytes else {
            return Ok(());
        };
        let root = self.pair.client(Repository::Director).believed().root();
        let policy = self.trust.policy;
        let before = self.trust.known;
        let judged = self.trust.known.attested(root, policy, nonce, bytes);
        self.learned |= self.trust.known != before;
        self.judged = judged.map_err(VerifyError::Time)?;
        self.pair.judge_at(self.judged.now)
    }

    /// The document that is needed next; `None` when all are there, or one was refused.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        if let Some(nonce) = self.time_wanted() {
            return Some(Wanted {
                path: layout::time_path(&nonce),
                limit: ATTESTATION_MAX_LEN,
            });
        }
        let (repository, wanted) = self.pair.wanted()?;
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
        match self.time_wanted() {
            Some(nonce) => self.on_time(&nonce, bytes),
            None => {
                let result = self.pair.on_document(bytes);
                self.learn_roots();
                result
            }
        }
    }

    /// A root is believed once its checks have passed, whatever comes after it (TUF 1.0.33, 5.3.8).
    fn learn_roots(&mut self) {
        for repository in [Repository::Director, Repository::Image] {
            let believed = self.pair.client(repository).believed();
            let root = believed.bytes("root").unwrap_or_default();
            let stored = self.trust.repository_mut(repository);
            if stored.get("root") != Some(root) {
                stored.insert("root", root);
                self.learned = true;
            }
        }
    }

    /// What is verified, and the trust to store, when nothing is wanted any more.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] with the first rule that does not hold; the trust stays as it was then.
    pub fn finish(mut self) -> Result<(VerifiedCampaign, Trust), VerifyError> {
        let (director, image, offered) = self.pair.current()?;
        let campaign = assign(image, offered, director, self.vehicle)?;
        for repository in [Repository::Director, Repository::Image] {
            let believed = self.pair.client(repository).believed();
            if let Some(timestamp) = believed.timestamp() {
                self.trust.known.issued(timestamp, believed.root());
            }
            *self.trust.repository_mut(repository) = believed.to_stored();
        }
        Ok((campaign, self.trust))
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
    offered: &Offered,
    director: &Targets,
    vehicle: &Vehicle,
) -> Result<VerifiedCampaign, VerifyError> {
    let statement = director_statement(director, vehicle)?;
    let offered_keys = image_statement(image)?;
    let hardware = |serial: &Serial| vehicle.ecu_by_serial(serial).map(|ecu| ecu.hardware_id);
    let mut by_serial: BTreeMap<Serial, EcuTarget> = BTreeMap::new();
    for assignment in directing::assignments(director, offered, hardware)? {
        let target = ecu_target(&assignment, vehicle).map_err(|fault| assignment.refuse(fault))?;
        by_serial.insert(assignment.serial, target);
    }
    let ecus = vehicle
        .ecus()
        .iter()
        .filter_map(|ecu| by_serial.remove(&ecu.serial))
        .collect();
    Ok(VerifiedCampaign {
        id: statement.campaign_id,
        vin: statement.vin,
        rxswins: statement.rxswins,
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
fn rules(image: &Targets, offered: &Offered) -> Vec<ImageRules> {
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

/// What Uptane does not know: both repositories agree on the image itself, and the grant is for it.
fn ecu_target(assignment: &Assignment<'_>, vehicle: &Vehicle) -> Result<EcuTarget, TargetFault> {
    let serial = assignment.serial;
    let ecu = vehicle
        .ecu_by_serial(&serial)
        .ok_or(TargetFault::UnknownEcu(serial))?;
    let path = TargetPath::new(assignment.path).map_err(|_| TargetFault::Path)?;
    let (image, directed) = same_image(assignment)?;
    let granted = directed.ecu_identifiers.get(&serial);
    let granted = granted.ok_or(TargetFault::UnknownEcu(serial))?;
    check_grant(granted, &serial, &image.image_digest)
        .map_err(|fault| TargetFault::Grant { serial, fault })?;
    Ok(EcuTarget {
        ecu: ecu.name.clone(),
        serial,
        hardware_id: ecu.hardware_id,
        path,
        length: assignment.offered.length,
        sha256: only_sha256(&assignment.offered.hashes)?,
        image_digest: image.image_digest,
        version: image.version,
        security_counter: image.security_counter,
        grant: granted.grant.clone(),
        grant_sequence: granted.grant_sequence,
    })
}

/// The digest by which the image is verified, which must be all that are named.
fn only_sha256(hashes: &FileHashes) -> Result<Digest, TargetFault> {
    let sha256 = hashes.sha256.ok_or(TargetFault::NoSha256)?;
    if *hashes == FileHashes::sha256(sha256) {
        Ok(sha256)
    } else {
        Err(TargetFault::OtherDigest)
    }
}

/// What both repositories say about the image, where it is the same.
fn same_image(assignment: &Assignment<'_>) -> Result<(ImageCustom, DirectorCustom), TargetFault> {
    let differ = |field| Err(TargetFault::Disagreement { field });
    let image: ImageCustom = directing::read(Repository::Image, assignment.offered)?;
    let directed: DirectorCustom = directing::read(Repository::Director, assignment.directed)?;
    let length = assignment.offered.length;
    if image.version != directed.version {
        differ("version")
    } else if image.security_counter != directed.security_counter {
        differ("securityCounter")
    } else if image.image_digest != directed.image_digest {
        differ("imageDigest")
    } else if length > ARTIFACT_MAX_LEN {
        Err(TargetFault::TooLong { length })
    } else {
        Ok((image, directed))
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

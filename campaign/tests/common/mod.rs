//! A forge: a valid pair of repositories for one vehicle of two ECUs, which a test spoils before it
//! is signed. Keys are RSA-2048, once per test binary, under a policy that allows them.

use campaign::{
    Trust, UnixTime, VerifiedCampaign, VerifyError,
    ids::SequenceNumber,
    meta::{
        Envelope, Header, Key, KeyId, KeyPolicy, MetaFile, RoleKeys, RoleName, Roles, Root,
        Snapshot, Timestamp,
    },
    vehicle::Vehicle,
    verify,
};
use ecu_image::{
    EcuSerial, Grant, GrantFlags, ImageDigest, Salt,
    crypto::{ContentKey, MacKey, WrapKey},
    pack::GrantRequest,
    provision::ImageKey,
};
use rand::{SeedableRng as _, rngs::StdRng};
use rsa::{
    RsaPrivateKey,
    pkcs8::{EncodePublicKey as _, LineEnding},
    pss::SigningKey,
    signature::{RandomizedSigner as _, SignatureEncoding as _},
    traits::PublicKeyParts as _,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The time of all tests.
pub(crate) fn now() -> UnixTime {
    "2026-11-22T00:00:00Z".parse().unwrap()
}

/// The policy under which the test keys are long enough.
pub(crate) const SHORT_KEYS: KeyPolicy = KeyPolicy { rsa_min_bits: 2048 };

/// The signers of the forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signer {
    ImageRoot,
    ImageTargets,
    DirectorRoot,
    DirectorTargets,
    Stranger,
    /// Timestamp and snapshot of both repositories.
    Online,
}

fn private(signer: Signer) -> &'static RsaPrivateKey {
    static KEYS: OnceLock<Vec<RsaPrivateKey>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let key = |seed| RsaPrivateKey::new(&mut StdRng::seed_from_u64(seed), 2048).unwrap();
        (1..=6).map(key).collect()
    });
    &keys[signer as usize]
}

/// The signer's public key.
pub(crate) fn key(signer: Signer) -> Key {
    let public = private(signer).to_public_key();
    Key::rsa(&public.to_public_key_pem(LineEnding::LF).unwrap())
}

fn role(signers: &[Signer], threshold: u32) -> RoleKeys {
    let ids: Vec<KeyId> = signers.iter().map(|signer| key(*signer).id()).collect();
    RoleKeys::new(ids, threshold).unwrap()
}

/// A root statement with those keys.
pub(crate) fn root(version: u64, roots: &[Signer], targets: &[Signer]) -> Root {
    let keys = roots
        .iter()
        .chain(targets)
        .chain(&[Signer::Online])
        .map(|signer| (key(*signer).id(), key(*signer)));
    let header = Header::new(RoleName::Root, version, now().plus_days(365));
    let count = |signers: &[Signer]| u32::try_from(signers.len()).unwrap();
    let roles = Roles {
        root: role(roots, count(roots)),
        targets: role(targets, count(targets)),
        timestamp: role(&[Signer::Online], 1),
        snapshot: role(&[Signer::Online], 1),
        extra: BTreeMap::new(),
    };
    Root::new(header, keys.collect(), roles)
}

/// The statement signed by those.
pub(crate) fn sign(statement: &impl serde::Serialize, signers: &[Signer]) -> Vec<u8> {
    let mut envelope = Envelope::new(statement).unwrap();
    let message = envelope.signing_bytes().unwrap();
    for signer in signers {
        let signing = SigningKey::<sha2::Sha256>::new(private(*signer).clone());
        let signature = signing.sign_with_rng(&mut StdRng::seed_from_u64(9), &message);
        envelope.add_signature(key(*signer).id(), &signature.to_bytes());
    }
    envelope.to_json().unwrap()
}

pub(crate) const IMAGE_DIGEST: ImageDigest = ImageDigest([7; 32]);
pub(crate) const SHA256: &str = "0909090909090909090909090909090909090909090909090909090909090909";

/// A grant as the director would send it.
pub(crate) fn grant(serial: &str, image_digest: ImageDigest, sequence: u64) -> Vec<u8> {
    let request = GrantRequest {
        ecu_serial: serial.parse::<EcuSerial>().unwrap(),
        image_digest,
        sequence: SequenceNumber(sequence),
        flags: GrantFlags::default(),
        content_key: &ContentKey::Aes128([1; 16]),
        salt: Salt([2; 16]),
    };
    Grant::issue(&request, &WrapKey::new([3; 16]), &MacKey::new([4; 16]))
        .encode()
        .to_vec()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The vehicle: `door` and `seat`, both of hardware `hw-a`.
pub(crate) fn vehicle() -> Vehicle {
    let ecu = |name: &str, request: &str, response: &str| {
        json!({"name": name, "bus": "body", "serial": format!("SN-{name}"), "hardware_id": "hw-a",
               "request_id": request, "response_id": response, "functional_id": "7DF",
               "access_key": "000102030405060708090a0b0c0d0e0f"})
    };
    let vehicle = json!({"vin": "WCANPS00000000001",
        "buses": [{"name": "body", "link": "can0"}],
        "ecus": [ecu("door", "7E0", "7E8"), ecu("seat", "7E1", "7E9")]});
    Vehicle::from_json(vehicle.to_string().as_bytes()).unwrap()
}

/// What will be signed and what the vehicle believes: change any of it before [`Forge::verify`].
pub(crate) struct Forge {
    pub(crate) image_roots: Vec<Vec<u8>>,
    pub(crate) image_targets: Value,
    pub(crate) image_signers: Vec<Signer>,
    pub(crate) director_targets: Value,
    pub(crate) director_signers: Vec<Signer>,
    pub(crate) trust: Trust,
    pub(crate) now: UnixTime,
}

/// The name of the one target.
pub(crate) const PATH: &str = "hw-a/2.0.0.img";

impl Forge {
    /// Repositories that verify.
    pub(crate) fn new() -> Self {
        let image_root = sign(
            &root(1, &[Signer::ImageRoot], &[Signer::ImageTargets]),
            &[Signer::ImageRoot],
        );
        let director_root = sign(
            &root(1, &[Signer::DirectorRoot], &[Signer::DirectorTargets]),
            &[Signer::DirectorRoot],
        );
        let image_key = ImageKey::rsa(&private(Signer::Stranger).n().to_be_bytes()).unwrap();
        let image = json!({"version": "2.0.0", "securityCounter": 4, "imageDigest": IMAGE_DIGEST});
        let mut offered = image.clone();
        offered["hardwareIds"] = json!(["hw-a"]);
        let mut directed = image;
        let ecu = |serial: &str, sequence: u64| {
            json!({"hardwareId": "hw-a", "grantSequence": sequence,
                   "grant": base64(&grant(serial, IMAGE_DIGEST, sequence))})
        };
        directed["ecuIdentifiers"] =
            json!({"SN-seat": ecu("SN-seat", 5), "SN-door": ecu("SN-door", 6)});
        let document = |targets: Value, custom: Value| {
            json!({"_type": "targets", "spec_version": "1.0.33", "version": 3,
                   "expires": "2026-12-22T00:00:00Z",
                   "targets": {PATH: {"length": 9000, "hashes": {"sha256": SHA256}, "custom": targets}},
                   "custom": custom, "x-unknown": {"kept": [1, 2]}})
        };
        Self {
            trust: Trust::pin(&image_root, &director_root)
                .unwrap()
                .with_policy(SHORT_KEYS),
            image_roots: Vec::new(),
            image_targets: document(offered, json!({"imageKeys": [image_key]})),
            image_signers: vec![Signer::ImageTargets],
            director_targets: document(
                directed,
                json!({"campaignId": "spring", "vin": "WCANPS00000000001"}),
            ),
            director_signers: vec![Signer::DirectorTargets],
            now: now(),
        }
    }

    /// Sets a field of the director's document.
    pub(crate) fn direct(mut self, pointer: &str, value: Value) -> Self {
        *self.director_targets.pointer_mut(pointer).unwrap() = value;
        self
    }

    /// Sets a field of the image repository's document.
    pub(crate) fn offer(mut self, pointer: &str, value: Value) -> Self {
        *self.image_targets.pointer_mut(pointer).unwrap() = value;
        self
    }

    /// Signs everything and verifies it.
    pub(crate) fn verify(&self) -> Result<VerifiedCampaign, VerifyError> {
        self.verify_and_advance().map(|(campaign, _)| campaign)
    }

    /// The same, with the advanced trust.
    pub(crate) fn verify_and_advance(&self) -> Result<(VerifiedCampaign, Trust), VerifyError> {
        let image = sign(&self.image_targets, &self.image_signers);
        let director = sign(&self.director_targets, &self.director_signers);
        self.verify_bytes(&image, &director)
    }

    /// The same with documents as they are.
    pub(crate) fn verify_bytes(
        &self,
        image: &[u8],
        director: &[u8],
    ) -> Result<(VerifiedCampaign, Trust), VerifyError> {
        let (repository, vehicle) = (self.files(image, director), vehicle());
        verify::verify(&self.trust, &vehicle, self.now, |wanted| {
            repository.get(&wanted.path).map(Vec::as_slice)
        })
    }

    /// Every file of both repositories. Timestamp and snapshot name versions and no digests, so that
    /// whatever is wrong with a targets document is found in it.
    pub(crate) fn files(&self, image: &[u8], director: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for (root, at) in self.image_roots.iter().zip(2..) {
            files.insert(format!("metadata/{at}.root.json"), root.clone());
        }
        for (folder, statement, targets) in [
            ("metadata", &self.image_targets, image),
            (
                "director/WCANPS00000000001",
                &self.director_targets,
                director,
            ),
        ] {
            let version = statement["version"].as_u64().unwrap_or(1);
            let header = |role| Header::new(role, version, now().plus_days(60));
            let snapshot = Snapshot::new(header(RoleName::Snapshot), MetaFile::new(version));
            let timestamp = Timestamp::new(header(RoleName::Timestamp), MetaFile::new(version));
            let mut put = |name: String, bytes: &[u8]| {
                files.insert(format!("{folder}/{name}"), bytes.to_vec());
            };
            put(format!("{version}.targets.json"), targets);
            put(
                format!("{version}.snapshot.json"),
                &sign(&snapshot, &[Signer::Online]),
            );
            put(
                "timestamp.json".into(),
                &sign(&timestamp, &[Signer::Online]),
            );
        }
        files
    }
}

//! Keys, images and grants, generated when the tests run.

use std::sync::OnceLock;

use ecu_image::crypto::{ContentKey, MacKey, WrapKey};
use ecu_image::keyset::{KeySet, KeySetContent, KeyStatus, NewKey, add_signature};
use ecu_image::pack::{GrantRequest, PackRequest, build};
use ecu_image::provision::{CanIdText, EcuProvisioning, ImageKey};
use ecu_image::pss::key_id;
use ecu_image::{
    Algorithm, Grant, GrantFlags, HEADER_LEN, Header, HeaderFlags, ImageDigest, ImageVersion,
    IvSeed, KeyId, KeySetVersion, LogicalBlock, PageSize, Salt, SecurityCounter, SequenceNumber,
    SignatureLen, SlotSet,
};
use p256::ecdsa::signature::Signer as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rsa::RsaPrivateKey;
use rsa::pss::SigningKey;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;
use virtual_ecu::app::{AppConfig, Behaviour, scripted};
use virtual_ecu::hardware::Hardware;

pub(crate) const ACCESS_KEY: [u8; 16] = [4; 16];

fn key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::new(&mut StdRng::seed_from_u64(1), 2048).unwrap())
}

fn image_key() -> ImageKey {
    ImageKey::rsa(&key().n_bytes()).unwrap()
}

/// The ECU roots.
fn roots() -> &'static [RsaPrivateKey] {
    static KEYS: OnceLock<Vec<RsaPrivateKey>> = OnceLock::new();
    let key = |seed| RsaPrivateKey::new(&mut StdRng::seed_from_u64(seed), 2048).unwrap();
    KEYS.get_or_init(|| (11..13).map(key).collect())
}

fn sign(key: &RsaPrivateKey, message: &[u8]) -> Vec<u8> {
    let signer = SigningKey::<sha2::Sha256>::new(key.clone());
    let mut rng = StdRng::seed_from_u64(3);
    signer.sign_with_rng(&mut rng, message).to_vec()
}

/// Another image key, of ECDSA over P-256.
fn point_key() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[0x21; 32]).unwrap()
}

/// `x ‖ y` of its public point.
fn point() -> Vec<u8> {
    let point = point_key().verifying_key().to_sec1_point(false);
    point.as_bytes()[1..].to_vec()
}

/// The first key set: both image keys, signed by both roots.
fn key_set() -> Vec<u8> {
    let content = KeySetContent {
        hardware_id: None,
        version: KeySetVersion(1),
        keys: vec![
            NewKey {
                algorithm: Algorithm::RsaPssSha256,
                status: KeyStatus::Active,
                bytes: key().n_bytes().to_vec(),
            },
            NewKey {
                algorithm: Algorithm::EcdsaP256Sha256,
                status: KeyStatus::Active,
                bytes: point(),
            },
        ],
    };
    roots().iter().fold(content.build().unwrap(), |set, root| {
        let signature = sign(root, KeySet::parse(&set).unwrap().signed_bytes());
        add_signature(&set, key_id(&root.n_bytes()), &signature).unwrap()
    })
}

pub(crate) fn hardware(fd: bool) -> Hardware {
    let id = |raw| CanIdText::standard(raw).unwrap();
    let mut hardware = Hardware::new(EcuProvisioning {
        name: "brake".parse().unwrap(),
        vin: "WCAN0PUS000000001".parse().unwrap(),
        serial: "SN-0042".parse().unwrap(),
        hardware_id: "BRAKE-2".parse().unwrap(),
        bus: "chassis".parse().unwrap(),
        request_id: id(0x7E0),
        response_id: id(0x7E8),
        functional_id: id(0x7DF),
        heartbeat_id: id(0x510),
        fd,
        wrap_key: WrapKey::new([1; 16]),
        grant_key: MacKey::new([2; 16]),
        journal_key: MacKey::new([3; 16]),
        access_key: MacKey::new(ACCESS_KEY),
        root_keys: roots()
            .iter()
            .map(|root| ImageKey::rsa(&root.n_bytes()).unwrap())
            .collect::<Vec<_>>()
            .try_into()
            .unwrap(),
        key_set: key_set().try_into().unwrap(),
        floor: SecurityCounter(1),
    });
    hardware.allow_rsa_2048 = true;
    hardware
}

/// A packed image and its grant.
pub(crate) struct Image {
    pub(crate) packed: Vec<u8>,
    pub(crate) grant: Vec<u8>,
    pub(crate) digest: ImageDigest,
    metadata_len: usize,
}

impl Image {
    /// Grant, header and table, as they are downloaded.
    pub(crate) fn metadata(&self) -> Vec<u8> {
        [&self.grant, &self.packed[..self.metadata_len]].concat()
    }

    /// The ciphertext pages.
    pub(crate) fn pages(&self) -> &[u8] {
        &self.packed[self.metadata_len..]
    }
}

/// An application of version `number.0.0` with security counter and grant sequence `number`.
pub(crate) fn image(number: u16, behaviour: Behaviour) -> Image {
    let config = AppConfig::new(&format!("{number}.0.0"), behaviour).unwrap();
    image_of(number, &scripted(&config, 30_000).unwrap())
}

/// The image of a program.
pub(crate) fn image_of(number: u16, plaintext: &[u8]) -> Image {
    let signed_by = (image_key().id(), SignatureLen::Rsa2048);
    image_under(number, plaintext, signed_by, |message| sign(key(), message))
}

/// As [`image`], signed with ECDSA over P-256.
pub(crate) fn image_by_point(number: u16, behaviour: Behaviour) -> Image {
    let config = AppConfig::new(&format!("{number}.0.0"), behaviour).unwrap();
    let signed_by = (key_id(&point()), SignatureLen::P256);
    let plaintext = scripted(&config, 30_000).unwrap();
    image_under(number, &plaintext, signed_by, |message| {
        let signature: p256::ecdsa::Signature = point_key().sign(message);
        signature.to_bytes().to_vec()
    })
}

fn image_under(
    number: u16,
    plaintext: &[u8],
    (key_id, signature_len): (KeyId, SignatureLen),
    sign: impl Fn(&[u8]) -> Vec<u8>,
) -> Image {
    let content_key = ContentKey::Aes128([number.to_le_bytes()[0] ^ 0x5C; 16]);
    let salt = Salt([7; 16]);
    let request = PackRequest {
        hardware_id: "BRAKE-2".parse().unwrap(),
        logical_block: LogicalBlock::APPLICATION,
        slots: SlotSet::ALL,
        version: ImageVersion {
            major: number,
            minor: 0,
            patch: 0,
        },
        security_counter: SecurityCounter(number.into()),
        load_address: 0,
        page_size: PageSize::new(4096).unwrap(),
        flags: HeaderFlags { limp_home: true },
        key_id,
        signature_len,
        content_key: &content_key,
        salt,
        iv_seed: IvSeed([9; 16]),
        plaintext,
    };
    let sign = |message: &[u8]| Ok::<_, std::convert::Infallible>(sign(message));
    let packed = build(&request, sign).unwrap();
    let header = packed.first_chunk::<HEADER_LEN>().unwrap();
    let digest = Header::digest_of(header);
    let table_len = Header::parse(header).unwrap().layout().table_len() as usize;
    let request = GrantRequest {
        ecu_serial: "SN-0042".parse().unwrap(),
        image_digest: digest,
        sequence: SequenceNumber(number.into()),
        flags: GrantFlags { downgrade: false },
        content_key: &content_key,
        salt,
    };
    let grant = Grant::issue(&request, &WrapKey::new([1; 16]), &MacKey::new([2; 16]));
    Image {
        metadata_len: HEADER_LEN + table_len,
        grant: grant.encode().to_vec(),
        digest,
        packed,
    }
}

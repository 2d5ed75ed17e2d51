//! The OEM in memory: one signing key, images and grants for virtual ECUs.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use ecu_image::crypto::{ContentKey, MacKey, WrapKey};
use ecu_image::keyset::{KeySet, KeySetContent, KeyStatus, NewKey, add_signature};
use ecu_image::pack::{GrantRequest, PackRequest, build};
use ecu_image::provision::{CanIdText, EcuProvisioning, ImageKey};
use ecu_image::pss::key_id;
use ecu_image::{
    Algorithm, GRANT_LEN, Grant, GrantFlags, HEADER_LEN, Header, HeaderFlags, ImageDigest,
    ImageVersion, IvSeed, KeySetVersion, LogicalBlock, PageSize, Salt, SecurityCounter,
    SequenceNumber, SignatureLen, SlotSet,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rsa::RsaPrivateKey;
use rsa::pss::SigningKey;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;
use tcu::flash::{Packed, Target};
use virtual_ecu::app::{AppConfig, Behaviour, scripted};

/// One release: an image for the bench's only hardware type, with its keys.
#[derive(Debug, Clone)]
pub struct Release {
    /// The packed image.
    pub image: Vec<u8>,
    /// Its identity.
    pub digest: ImageDigest,
    /// `major.minor.patch`.
    pub version: String,
    content_key: ContentKey,
    salt: Salt,
}

/// Signs, packs and grants. RSA-2048, which the virtual ECUs are told to accept: key generation
/// dominates otherwise.
#[derive(Debug)]
pub struct Oem {
    rng: StdRng,
    sequences: HashMap<String, u64>,
    page_size: u32,
}

fn private_key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| {
        RsaPrivateKey::new(&mut StdRng::seed_from_u64(1), 2048).expect("a key of 2048 bits")
    })
}

fn image_key() -> ImageKey {
    ImageKey::rsa(&private_key().n_bytes()).expect("an accepted modulus")
}

/// The ECU roots.
fn roots() -> &'static [RsaPrivateKey] {
    static KEYS: OnceLock<Vec<RsaPrivateKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        (11..13)
            .map(|seed| RsaPrivateKey::new(&mut StdRng::seed_from_u64(seed), 2048))
            .collect::<Result<_, _>>()
            .expect("keys of 2048 bits")
    })
}

fn root_keys() -> Vec<ImageKey> {
    let key = |root: &RsaPrivateKey| ImageKey::rsa(&root.n_bytes()).expect("an accepted modulus");
    roots().iter().map(key).collect()
}

fn sign(rng: &mut StdRng, key: &RsaPrivateKey, message: &[u8]) -> Vec<u8> {
    let signer = SigningKey::<sha2::Sha256>::new(key.clone());
    signer.sign_with_rng(rng, message).to_vec()
}

impl Oem {
    /// An OEM whose random numbers come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            sequences: HashMap::new(),
            page_size: 4096,
        }
    }

    /// Packs images in pages of another size than 4096 bytes.
    #[must_use]
    pub fn with_pages_of(self, page_size: u32) -> Self {
        Self { page_size, ..self }
    }

    /// Identity, addresses and keys of ECU number `index` on the bus `bus`.
    ///
    /// # Panics
    /// When `index` has no identifiers.
    pub fn provisioning(&mut self, index: u16, bus: &str, fd: bool) -> EcuProvisioning {
        let id = |base: u16| CanIdText::standard(u32::from(base + index)).expect("an 11-bit id");
        EcuProvisioning {
            name: format!("ecu-{index}").parse().expect("a name"),
            vin: "WCANEPUS000000001".parse().expect("a VIN"),
            serial: format!("SN-{index}").parse().expect("a serial"),
            hardware_id: "virtual-1".parse().expect("a hardware id"),
            bus: bus.parse().expect("a name"),
            request_id: id(0x700),
            response_id: id(0x708),
            functional_id: CanIdText::standard(0x7DF).expect("an 11-bit id"),
            heartbeat_id: id(0x510),
            fd,
            wrap_key: WrapKey::new(self.random()),
            grant_key: MacKey::new(self.random()),
            journal_key: MacKey::new(self.random()),
            access_key: MacKey::new(self.random()),
            root_keys: root_keys().try_into().expect("two roots"),
            key_set: self.key_set().try_into().expect("a key set"),
            floor: SecurityCounter(1),
        }
    }

    /// The first key set: the image key, signed by both roots.
    fn key_set(&mut self) -> Vec<u8> {
        let content = KeySetContent {
            hardware_id: None,
            version: KeySetVersion(1),
            keys: vec![NewKey {
                algorithm: Algorithm::RsaPssSha256,
                status: KeyStatus::Active,
                bytes: private_key().n_bytes().to_vec(),
            }],
        };
        let unsigned = content.build().expect("a key set");
        roots().iter().fold(unsigned, |set, root| {
            let parsed = KeySet::parse(&set).expect("a key set");
            let signature = sign(&mut self.rng, root, parsed.signed_bytes());
            add_signature(&set, key_id(&root.n_bytes()), &signature).expect("a key set")
        })
    }

    /// An application of `size` bytes that behaves as told.
    ///
    /// # Panics
    /// When the version is none or the application does not fit an image.
    pub fn release(
        &mut self,
        version: (u16, u16, u32),
        counter: u32,
        behaviour: Behaviour,
        size: usize,
    ) -> Release {
        let (major, minor, patch) = version;
        let version = format!("{major}.{minor}.{patch}");
        let config = AppConfig::new(&version, behaviour).expect("a version");
        let plaintext = scripted(&config, size).expect("an application");
        let content_key = ContentKey::Aes128(self.random());
        let salt = Salt(self.random());
        let request = PackRequest {
            hardware_id: "virtual-1".parse().expect("a hardware id"),
            logical_block: LogicalBlock::APPLICATION,
            slots: SlotSet::ALL,
            version: ImageVersion {
                major,
                minor,
                patch,
            },
            security_counter: SecurityCounter(counter),
            load_address: 0,
            page_size: PageSize::new(self.page_size).expect("a page size"),
            flags: HeaderFlags { limp_home: true },
            key_id: image_key().id(),
            signature_len: SignatureLen::Rsa2048,
            content_key: &content_key,
            salt,
            iv_seed: IvSeed(self.random()),
            plaintext: &plaintext,
        };
        let image = build(&request, |signed| {
            Ok::<_, std::convert::Infallible>(sign(&mut self.rng, private_key(), signed))
        })
        .expect("an image");
        let digest = header(&image).digest();
        Release {
            image,
            digest,
            version,
            content_key,
            salt,
        }
    }

    /// A grant of `release` for an ECU, with the ECU's next sequence number.
    pub fn grant(&mut self, release: &Release, ecu: &EcuProvisioning) -> Vec<u8> {
        let sequence = self.sequences.entry(ecu.serial.to_string()).or_insert(0);
        *sequence += 1;
        let request = GrantRequest {
            ecu_serial: ecu.serial,
            image_digest: release.digest,
            sequence: SequenceNumber(*sequence),
            flags: GrantFlags::default(),
            content_key: &release.content_key,
            salt: release.salt,
        };
        let grant = Grant::issue(&request, &ecu.wrap_key, &ecu.grant_key);
        let bytes: [u8; GRANT_LEN] = grant.encode();
        bytes.to_vec()
    }

    /// What the TCU needs to bring `release` to an ECU.
    pub fn target(&mut self, release: &Release, ecu: &EcuProvisioning) -> Target {
        let header = header(&release.image);
        let layout = header.layout();
        Target {
            image: release.digest,
            grant: self.grant(release, ecu),
            key_set: None,
            packed: Ok(Packed {
                metadata_len: layout.table_len()
                    + u32::try_from(HEADER_LEN).expect("a short header"),
                page_size: layout.page_size().get(),
                page_count: layout.page_count(),
                source: Arc::new(release.image.clone()),
            }),
        }
    }

    fn random(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

fn header(image: &[u8]) -> Header {
    let bytes = image.first_chunk().expect("a header");
    Header::parse(bytes).expect("a valid header")
}

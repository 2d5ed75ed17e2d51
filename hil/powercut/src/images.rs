//! Keys, images and grants for the tests, generated when they run.

use std::sync::OnceLock;

use ecu_image::crypto::{ContentKey, MacKey, WrapKey};
use ecu_image::keyset::{KeySet, KeySetContent, KeyStatus, NewKey, add_signature};
use ecu_image::pack::{GrantRequest, PackRequest, build};
use ecu_image::pss::key_id;
use ecu_image::{
    Algorithm, Grant, GrantFlags, HEADER_LEN, Header, HeaderFlags, ImageDigest, ImageVersion,
    IvSeed, KeyId, KeySetVersion, LogicalBlock, PageSize, Salt, SecurityCounter, SequenceNumber,
    SignatureLen, SlotSet,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rsa::RsaPrivateKey;
use rsa::pss::SigningKey;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;

pub const HARDWARE: &str = "BRAKE-2";
pub const SERIAL: &str = "SN-0042";

pub fn wrap_key() -> WrapKey {
    WrapKey::new([1; 16])
}

pub fn grant_key() -> MacKey {
    MacKey::new([2; 16])
}

pub fn journal_key() -> MacKey {
    MacKey::new([3; 16])
}

pub fn access_key() -> MacKey {
    MacKey::new([4; 16])
}

fn key(seed: u64) -> RsaPrivateKey {
    RsaPrivateKey::new(&mut StdRng::seed_from_u64(seed), 2048).unwrap()
}

/// The test's keys, each generated once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The image key of the first key set.
    First,
    /// Its successor.
    Second,
    /// One that no key set has.
    Stranger,
    /// An ECU root, 0 to 2; 3 is not pinned.
    Root(usize),
}

impl Signer {
    fn private(self) -> &'static RsaPrivateKey {
        static KEYS: [OnceLock<RsaPrivateKey>; 7] = [const { OnceLock::new() }; 7];
        let index = match self {
            Self::First => 0,
            Self::Stranger => 1,
            Self::Second => 2,
            Self::Root(index) => 3 + index,
        };
        KEYS[index].get_or_init(|| key(index as u64 + 1))
    }

    pub fn modulus(self) -> Vec<u8> {
        self.private().n_bytes().to_vec()
    }

    pub fn id(self) -> KeyId {
        key_id(&self.modulus())
    }

    pub fn sign(self, message: &[u8]) -> Vec<u8> {
        let key = SigningKey::<sha2::Sha256>::new(self.private().clone());
        let mut rng = StdRng::seed_from_u64(3);
        key.sign_with_rng(&mut rng, message).to_vec()
    }
}

/// The key of a tester that authenticates itself (29).
fn tester_key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| key(8))
}

pub fn tester_modulus() -> Vec<u8> {
    tester_key().n_bytes().to_vec()
}

/// The tester's RSA-PSS-SHA-256 signature of `message`.
pub fn tester_proof(message: &[u8]) -> Vec<u8> {
    let key = SigningKey::<sha2::Sha256>::new(tester_key().clone());
    let mut rng = StdRng::seed_from_u64(4);
    key.sign_with_rng(&mut rng, message).to_vec()
}

/// The pinned roots.
pub fn roots() -> Vec<Vec<u8>> {
    (0..3).map(|index| Signer::Root(index).modulus()).collect()
}

/// A key set to be made; every field may be changed first.
#[derive(Debug, Clone)]
pub struct KeySetRecipe {
    pub version: u32,
    pub hardware: Option<&'static str>,
    pub keys: Vec<(Signer, KeyStatus)>,
    pub signers: Vec<Signer>,
}

/// The key of [`Signer::First`] alone, signed by two roots.
pub fn key_set(version: u32) -> KeySetRecipe {
    KeySetRecipe {
        version,
        hardware: Some(HARDWARE),
        keys: vec![(Signer::First, KeyStatus::Active)],
        signers: vec![Signer::Root(0), Signer::Root(2)],
    }
}

/// The key set that an ECU is provisioned with, made once.
pub fn first_key_set() -> &'static [u8] {
    static SET: OnceLock<Vec<u8>> = OnceLock::new();
    SET.get_or_init(|| key_set(1).make())
}

/// The second key signs from now on, the first is revoked.
pub fn rotation(version: u32) -> KeySetRecipe {
    KeySetRecipe {
        keys: vec![
            (Signer::First, KeyStatus::Revoked),
            (Signer::Second, KeyStatus::Active),
        ],
        ..key_set(version)
    }
}

impl KeySetRecipe {
    pub fn make(&self) -> Vec<u8> {
        let key = |(signer, status): &(Signer, KeyStatus)| NewKey {
            algorithm: Algorithm::RsaPssSha256,
            status: *status,
            bytes: signer.modulus(),
        };
        let content = KeySetContent {
            hardware_id: self.hardware.map(|id| id.parse().unwrap()),
            version: KeySetVersion(self.version),
            keys: self.keys.iter().map(key).collect(),
        };
        let unsigned = content.build().unwrap();
        self.signers.iter().fold(unsigned, |set, root| {
            let signature = root.sign(KeySet::parse(&set).unwrap().signed_bytes());
            add_signature(&set, root.id(), &signature).unwrap()
        })
    }
}

/// An image to be made; every field may be changed first.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub version: u32,
    pub counter: u32,
    pub len: usize,
    /// Bytes of the plaintext that are 0xFF.
    pub blank: std::ops::Range<usize>,
    pub page_size: u32,
    pub slots: SlotSet,
    pub hardware: &'static str,
    pub limp_home: bool,
    /// The key that the header names.
    pub signer: Signer,
    /// Signed by a key that the ECU does not know, under the key id of the signer.
    pub forged: bool,
    pub sequence: u64,
    pub serial: &'static str,
    pub downgrade: bool,
}

/// A packed image and its grant.
#[derive(Debug, Clone)]
pub struct Image {
    pub packed: Vec<u8>,
    pub grant: Vec<u8>,
    pub plaintext: Vec<u8>,
    pub digest: ImageDigest,
    pub counter: u32,
    pub page_size: usize,
    pub metadata_len: usize,
}

/// Version, counter and grant sequence `number`, three and a half pages of 4 KiB.
pub fn recipe(number: u32) -> Recipe {
    Recipe {
        version: number,
        counter: number,
        len: 14_000,
        blank: 0..0,
        page_size: 4096,
        slots: SlotSet::ALL,
        hardware: HARDWARE,
        limp_home: false,
        signer: Signer::First,
        forged: false,
        sequence: number.into(),
        serial: SERIAL,
        downgrade: false,
    }
}

impl Recipe {
    pub fn make(&self) -> Image {
        let content_key = ContentKey::Aes128([self.version as u8 ^ 0x5C; 16]);
        let salt = Salt([7; 16]);
        let mut plaintext: Vec<u8> = (0..self.len)
            .map(|at| (at as u32).wrapping_mul(2_654_435_761 ^ self.version) as u8)
            .collect();
        plaintext[self.blank.clone()].fill(0xFF);
        let request = PackRequest {
            hardware_id: self.hardware.parse().unwrap(),
            logical_block: LogicalBlock::APPLICATION,
            slots: self.slots,
            version: ImageVersion {
                major: 1,
                minor: 0,
                patch: self.version,
            },
            security_counter: SecurityCounter(self.counter),
            load_address: 0x2000_0000,
            page_size: PageSize::new(self.page_size).unwrap(),
            flags: HeaderFlags {
                limp_home: self.limp_home,
            },
            key_id: self.signer.id(),
            signature_len: SignatureLen::Rsa2048,
            content_key: &content_key,
            salt,
            iv_seed: IvSeed([9; 16]),
            plaintext: &plaintext,
        };
        let signer = if self.forged {
            Signer::Stranger
        } else {
            self.signer
        };
        let sign = |message: &[u8]| Ok::<_, std::convert::Infallible>(signer.sign(message));
        let packed = build(&request, sign).unwrap();
        let header = packed.first_chunk::<HEADER_LEN>().unwrap();
        let digest = Header::digest_of(header);
        let table_len = Header::parse(header).unwrap().layout().table_len() as usize;
        let grant = Grant::issue(
            &GrantRequest {
                ecu_serial: self.serial.parse().unwrap(),
                image_digest: digest,
                sequence: SequenceNumber(self.sequence),
                flags: GrantFlags {
                    downgrade: self.downgrade,
                },
                content_key: &content_key,
                salt,
            },
            &wrap_key(),
            &grant_key(),
        );
        Image {
            metadata_len: HEADER_LEN + table_len,
            packed,
            grant: grant.encode().to_vec(),
            plaintext,
            digest,
            counter: self.counter,
            page_size: self.page_size as usize,
        }
    }
}

impl Image {
    /// Grant, header and table, as they are downloaded.
    pub fn metadata(&self) -> Vec<u8> {
        [&self.grant, &self.packed[..self.metadata_len]].concat()
    }

    /// The ciphertext pages.
    pub fn pages(&self) -> &[u8] {
        &self.packed[self.metadata_len..]
    }
}

//! Keys, images and grants for the tests, generated when they run.

use std::sync::OnceLock;

use ecu_image::crypto::{ContentKey, MacKey, WrapKey};
use ecu_image::pack::{GrantRequest, PackRequest, build};
use ecu_image::pss::PublicKey;
use ecu_image::{
    Grant, GrantFlags, HEADER_LEN, Header, HeaderFlags, ImageDigest, ImageVersion, IvSeed,
    LogicalBlock, PageSize, Salt, SecurityCounter, SequenceNumber, SignatureLen, SlotSet,
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

fn oem_key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| key(1))
}

fn stranger_key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| key(2))
}

/// The key of a tester that authenticates itself (29).
fn tester_key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| key(3))
}

pub fn tester_public_key() -> PublicKey {
    PublicKey::from_modulus(&tester_key().n_bytes()).unwrap()
}

/// The tester's RSA-PSS-SHA-256 signature of `message`.
pub fn tester_proof(message: &[u8]) -> Vec<u8> {
    let key = SigningKey::<sha2::Sha256>::new(tester_key().clone());
    let mut rng = StdRng::seed_from_u64(4);
    key.sign_with_rng(&mut rng, message).to_vec()
}

pub fn public_key() -> PublicKey {
    PublicKey::from_modulus(&oem_key().n_bytes()).unwrap()
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
    /// Signed by a key that the ECU does not know, under the key id of the one it does.
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
            key_id: public_key().id(),
            signature_len: SignatureLen::Rsa2048,
            content_key: &content_key,
            salt,
            iv_seed: IvSeed([9; 16]),
            plaintext: &plaintext,
        };
        let signer = if self.forged {
            stranger_key()
        } else {
            oem_key()
        };
        let sign = |message: &[u8]| {
            let key = SigningKey::<sha2::Sha256>::new(signer.clone());
            let mut rng = StdRng::seed_from_u64(3);
            Ok::<_, std::convert::Infallible>(key.sign_with_rng(&mut rng, message).to_vec())
        };
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

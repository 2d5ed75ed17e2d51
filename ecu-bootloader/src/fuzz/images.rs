//! The images that the OEM of these targets has signed. Its keys exist here only, and its signature
//! is the digest itself, so that no time goes into RSA: what the targets attack is the order of
//! things, not the arithmetic.

use alloc::vec;
use alloc::vec::Vec;

use ecu_image::crypto::{ContentKey, MacKey, WrapKey};
use ecu_image::keyset::{KeySetContent, KeyStatus, NewKey, add_signature};
use ecu_image::pack::{GrantRequest, PackRequest, build};
use ecu_image::pss::{Progress, key_id};
use ecu_image::signature::{PublicKeyRef, SignatureVerifier, UnusableKey};
use ecu_image::{
    Algorithm, Grant, GrantFlags, HEADER_LEN, Header, HeaderFlags, ImageDigest, ImageVersion,
    IvSeed, KeyId, KeySetVersion, LogicalBlock, PageSize, Salt, SecurityCounter, SequenceNumber,
    SignatureLen, SlotSet,
};

pub(super) const HARDWARE: &str = "FUZZ-1";
pub(super) const SERIAL: &str = "SN-1";
const KEY: [u8; 384] = [7; 384];
const ROOTS: [KeyId; 2] = [KeyId([1; 8]), KeyId([2; 8])];
const PAGE: usize = 2048;
const METADATA: usize = HEADER_LEN + 4096;

pub(super) fn wrap_key() -> WrapKey {
    WrapKey::new([1; 16])
}

pub(super) fn mac_key(number: u8) -> MacKey {
    MacKey::new([number; 16])
}

/// Accepts a signature that begins with the digest.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    signed: Option<ImageDigest>,
    answer: Option<Progress>,
}

impl Signatures {
    fn answer(
        &mut self,
        known: bool,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        let signed = signature.first_chunk().copied();
        self.signed = signed.map(ImageDigest).filter(|_| known);
        self.answer = Some(if self.signed == Some(ImageDigest(*digest)) {
            Progress::Valid
        } else {
            Progress::Invalid
        });
        if known { Ok(()) } else { Err(UnusableKey) }
    }
}

/// The signature of these bytes.
fn sign(signed: &[u8]) -> Vec<u8> {
    let mut signature = ecu_image::crypto::sha256(&[signed]).0.to_vec();
    signature.resize(384, 0);
    signature
}

/// A key set with the only image key, signed by both roots.
pub(super) fn key_set(version: u32, status: KeyStatus) -> Vec<u8> {
    let content = KeySetContent {
        hardware_id: None,
        version: KeySetVersion(version),
        keys: vec![NewKey {
            algorithm: Algorithm::RsaPssSha256,
            status,
            bytes: KEY.to_vec(),
        }],
    };
    let unsigned = content.build().unwrap();
    // The signatures follow the signed part and its four bytes of count.
    let signature = sign(&unsigned[..unsigned.len() - 4]);
    ROOTS.iter().fold(unsigned, |set, root| {
        add_signature(&set, *root, &signature).unwrap()
    })
}

impl SignatureVerifier for Signatures {
    fn begin(
        &mut self,
        key: PublicKeyRef<'_>,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        self.answer(key.bytes == KEY, digest, signature)
    }

    fn begin_pinned(
        &mut self,
        root: KeyId,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        self.answer(ROOTS.contains(&root), digest, signature)
    }

    fn step(&mut self, _budget: u32) -> Progress {
        self.answer.unwrap_or(Progress::Invalid)
    }

    fn difference(&mut self, digest: &ImageDigest) -> u32 {
        u32::from(self.signed != Some(*digest))
    }
}

/// A packed image and its grant for this ECU.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) packed: Vec<u8>,
    pub(super) grant: Vec<u8>,
    pub(super) plaintext: Vec<u8>,
    pub(super) digest: ImageDigest,
    pub(super) counter: u32,
}

impl Image {
    /// Version and grant sequence `number`, security counter `counter`.
    fn new(number: u8, counter: u32) -> Self {
        let content_key = ContentKey::Aes128([number; 16]);
        let salt = Salt([9; 16]);
        let plaintext: Vec<u8> = (0..PAGE + 100).map(|at| at as u8 ^ number).collect();
        let request = PackRequest {
            hardware_id: HARDWARE.parse().unwrap(),
            logical_block: LogicalBlock::APPLICATION,
            slots: SlotSet::ALL,
            version: ImageVersion {
                major: 1,
                minor: 0,
                patch: number.into(),
            },
            security_counter: SecurityCounter(counter),
            load_address: 0,
            page_size: PageSize::new(PAGE as u32).unwrap(),
            flags: HeaderFlags { limp_home: true },
            key_id: key_id(&KEY),
            signature_len: SignatureLen::Rsa3072,
            content_key: &content_key,
            salt,
            iv_seed: IvSeed([number; 16]),
            plaintext: &plaintext,
        };
        let packed = build(&request, |signed| {
            Ok::<_, core::convert::Infallible>(sign(signed))
        })
        .unwrap();
        let digest = Header::digest_of(packed.first_chunk().unwrap());
        let grant = GrantRequest {
            ecu_serial: SERIAL.parse().unwrap(),
            image_digest: digest,
            sequence: SequenceNumber(number.into()),
            flags: GrantFlags { downgrade: false },
            content_key: &content_key,
            salt,
        };
        let grant = Grant::issue(&grant, &wrap_key(), &mac_key(2));
        Self {
            packed,
            grant: grant.encode().to_vec(),
            plaintext,
            digest,
            counter,
        }
    }

    /// What the OEM has released: factory, two updates, and one older than the floor.
    pub(super) fn all() -> [Self; 4] {
        [
            Self::new(1, 1),
            Self::new(2, 2),
            Self::new(3, 3),
            Self::new(4, 0),
        ]
    }

    /// Grant, header and table, as they are downloaded.
    pub(super) fn metadata(&self) -> Vec<u8> {
        [&self.grant[..], &self.packed[..METADATA]].concat()
    }

    /// The ciphertext.
    pub(super) fn pages(&self) -> &[u8] {
        &self.packed[METADATA..]
    }
}

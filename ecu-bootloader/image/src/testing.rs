//! Keys and images for unit tests, generated when they run.

use std::sync::OnceLock;
use std::vec::Vec;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rsa::RsaPrivateKey;
use rsa::pss::SigningKey;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;

use crate::crypto::ContentKey;
use crate::pack::{PackRequest, build};
use crate::pss::PublicKey;
use crate::{
    HardwareId, HeaderFlags, ImageVersion, IvSeed, LogicalBlock, PageSize, Salt, SecurityCounter,
    SignatureLen, SlotSet,
};

/// A random generator of a fixed seed, so that a failure repeats.
pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// A pair of keys that both implementations know.
pub(crate) struct Pair {
    pub(crate) private: RsaPrivateKey,
    pub(crate) public: PublicKey,
}

impl Pair {
    pub(crate) fn generate(bits: usize, seed: u64) -> Self {
        let private = RsaPrivateKey::new(&mut rng(seed), bits).unwrap();
        let public = PublicKey::from_modulus(&private.n_bytes()).unwrap();
        Self { private, public }
    }

    /// RSA-2048, generated once.
    pub(crate) fn short() -> &'static Self {
        static PAIR: OnceLock<Pair> = OnceLock::new();
        PAIR.get_or_init(|| Self::generate(2048, 1))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let key = SigningKey::<sha2::Sha256>::new(self.private.clone());
        key.sign_with_rng(&mut rng(2), message).to_vec()
    }
}

/// A request to pack `plaintext`, in which nothing is zero or default by chance.
pub(crate) fn request<'a>(
    plaintext: &'a [u8],
    page_size: u32,
    content_key: &'a ContentKey,
) -> PackRequest<'a> {
    PackRequest {
        hardware_id: "BRAKE-2".parse::<HardwareId>().unwrap(),
        logical_block: LogicalBlock::CALIBRATION,
        slots: SlotSet::ALL,
        version: ImageVersion {
            major: 2,
            minor: 3,
            patch: 40_000,
        },
        security_counter: SecurityCounter(9),
        load_address: 0x0800_0000,
        page_size: PageSize::new(page_size).unwrap(),
        flags: HeaderFlags { limp_home: true },
        key_id: Pair::short().public.id(),
        signature_len: SignatureLen::Rsa2048,
        content_key,
        salt: Salt([0x5A; 16]),
        iv_seed: IvSeed([0xA7; 16]),
        plaintext,
    }
}

/// An image signed by the short key.
pub(crate) fn image(request: &PackRequest<'_>) -> Vec<u8> {
    build(request, |signed| Ok::<_, &str>(Pair::short().sign(signed))).unwrap()
}

/// Either kind of content key.
pub(crate) fn content_key() -> impl Strategy<Value = ContentKey> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(ContentKey::Aes128),
        any::<[u8; 32]>().prop_map(ContentKey::Aes256),
    ]
}

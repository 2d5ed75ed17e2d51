//! Keys of one ECU and of its OEM, made when a test runs.

use board_shell::provision;
use ecu_bootloader::keys::SoftKeyStore;
use ecu_image::crypto::{MacKey, WrapKey};
use ecu_image::keyset::{BuildError, KeySet, KeySetContent, KeyStatus, NewKey, add_signature};
use ecu_image::pss::{PublicKey, key_id};
use ecu_image::{Algorithm, KeySetVersion};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rsa::RsaPrivateKey;
use rsa::pss::SigningKey;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;

/// How a start ends up in one of the two ways to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Runs to the boot decision, reports it and stops.
    Boot,
    /// Serves the host.
    Shell,
}

/// The keys of an ECU, the OEM's signing key and the two roots.
#[derive(Debug, Clone)]
pub struct Keys {
    signing: RsaPrivateKey,
    roots: [RsaPrivateKey; 2],
    symmetric: [[u8; 16]; 4],
}

impl Keys {
    /// Keys from a seed, with an image key of `bits`; roots have 3072.
    ///
    /// # Errors
    /// `bits` is no size of an RSA key.
    pub fn generate(seed: u64, bits: usize) -> rsa::Result<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut symmetric = [[0; 16]; 4];
        symmetric.iter_mut().for_each(|key| random.fill_bytes(key));
        Ok(Self {
            signing: RsaPrivateKey::new(&mut random, bits)?,
            roots: [
                RsaPrivateKey::new(&mut random, 3072)?,
                RsaPrivateKey::new(&mut random, 3072)?,
            ],
            symmetric,
        })
    }

    /// Unwraps content keys.
    #[must_use]
    pub const fn wrap(&self) -> WrapKey {
        WrapKey::new(self.symmetric[0])
    }

    /// Authenticates grants.
    #[must_use]
    pub const fn grant(&self) -> MacKey {
        MacKey::new(self.symmetric[1])
    }

    /// Authenticates the journal.
    #[must_use]
    pub const fn journal(&self) -> MacKey {
        MacKey::new(self.symmetric[2])
    }

    /// Answers SecurityAccess.
    #[must_use]
    pub const fn access(&self) -> MacKey {
        MacKey::new(self.symmetric[3])
    }

    /// The ECU's keys as the bootloader has them.
    #[must_use]
    pub const fn store(&self) -> SoftKeyStore {
        SoftKeyStore::new(self.wrap(), self.grant(), self.journal(), self.access())
    }

    /// The image key's modulus, big-endian.
    #[must_use]
    pub fn modulus(&self) -> Box<[u8]> {
        self.signing.n_bytes()
    }

    /// The image key.
    ///
    /// # Errors
    /// Its size is none that the ECU accepts.
    pub fn image_key(&self) -> Result<PublicKey, ecu_image::pss::KeyError> {
        PublicKey::from_modulus(&self.modulus())
    }

    /// An RSA-PSS signature over `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        sign(&self.signing, message)
    }

    /// The first key set: the image key, signed by both roots.
    ///
    /// # Errors
    /// None.
    pub fn key_set(&self) -> Result<Vec<u8>, BuildError> {
        let content = KeySetContent {
            hardware_id: None,
            version: KeySetVersion(1),
            keys: vec![NewKey {
                algorithm: Algorithm::RsaPssSha256,
                status: KeyStatus::Active,
                bytes: self.modulus().into(),
            }],
        };
        self.roots.iter().try_fold(content.build()?, |set, root| {
            let parsed = KeySet::parse(&set).map_err(BuildError::Malformed)?;
            let signature = sign(root, parsed.signed_bytes());
            add_signature(&set, key_id(&root.n_bytes()), &signature)
        })
    }

    /// The block that the board finds in its memory; see [`board_shell::provision`].
    #[must_use]
    pub fn provision(&self, mode: Mode, cause: u8, counter: u32) -> Vec<u8> {
        let mode = u32::from(mode == Mode::Shell);
        let mut block = b"CNBP".to_vec();
        for word in [mode, cause.into(), counter] {
            block.extend(word.to_le_bytes());
        }
        block.extend(self.symmetric.concat());
        block.resize(provision::LEN, 0);
        block[provision::SEEDS..][..4].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
        for root in &self.roots {
            block.extend(root.n_bytes());
        }
        block
    }
}

fn sign(key: &RsaPrivateKey, message: &[u8]) -> Vec<u8> {
    let key = SigningKey::<sha2::Sha256>::new(key.clone());
    let mut random = StdRng::seed_from_u64(message.len() as u64);
    key.sign_with_rng(&mut random, message).to_vec()
}

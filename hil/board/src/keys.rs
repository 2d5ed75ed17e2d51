//! Keys of one ECU and of its OEM, made when a test runs.

use board_shell::provision;
use ecu_bootloader::keys::SoftKeyStore;
use ecu_image::crypto::{MacKey, WrapKey};
use ecu_image::pss::PublicKey;
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

/// The keys of an ECU and the OEM's signing key.
#[derive(Debug, Clone)]
pub struct Keys {
    signing: RsaPrivateKey,
    symmetric: [[u8; 16]; 4],
}

impl Keys {
    /// Keys from a seed, with an RSA key of `bits`.
    ///
    /// # Errors
    /// `bits` is no size of an RSA key.
    pub fn generate(seed: u64, bits: usize) -> rsa::Result<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut symmetric = [[0; 16]; 4];
        symmetric.iter_mut().for_each(|key| random.fill_bytes(key));
        Ok(Self {
            signing: RsaPrivateKey::new(&mut random, bits)?,
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
        let key = SigningKey::<sha2::Sha256>::new(self.signing.clone());
        let mut random = StdRng::seed_from_u64(message.len() as u64);
        key.sign_with_rng(&mut random, message).to_vec()
    }

    /// The block that the board finds in its memory; see [`board_shell::provision`].
    #[must_use]
    pub fn provision(&self, mode: Mode, cause: u8, counter: u32) -> Vec<u8> {
        let modulus = self.modulus();
        let mode = u32::from(mode == Mode::Shell);
        let mut block = b"CNBP".to_vec();
        for word in [mode, cause.into(), counter] {
            block.extend(word.to_le_bytes());
        }
        block.extend(self.symmetric.concat());
        block.extend(u32::try_from(modulus.len()).unwrap_or(0).to_le_bytes());
        block.extend(&modulus);
        block.resize(provision::LEN, 0);
        block[provision::SEEDS..][..4].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
        block
    }
}

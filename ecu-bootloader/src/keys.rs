//! Keys as handles: the core asks for operations and never sees a key.
//!
//! A board with a secure element implements [`KeyStore`] over it; [`SoftKeyStore`] does the same in
//! software for boards without one, and for the virtual ECU.

use ecu_image::crypto::{MacKey, Unwrapped, WrapKey};
use ecu_image::{IvSeed, Salt};

/// The MAC keys of an ECU, provisioned separately (a SHE module has no key derivation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MacKeyId {
    /// Authenticates install grants.
    Grant,
    /// Authenticates the journal; never leaves the ECU.
    Journal,
    /// Answers SecurityAccess.
    Access,
}

/// The key store refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyError;

/// Operations on keys that stay where they are.
///
/// There is one content key at a time: the store's volatile key (`RAM_KEY` of SHE).
pub trait KeyStore {
    /// AES-CMAC of `message`.
    fn cmac(&mut self, key: MacKeyId, message: &[u8]) -> [u8; 16];

    /// Whether `mac` is that of `message`, in constant time.
    fn cmac_verify(&mut self, key: MacKeyId, message: &[u8], mac: &[u8; 16]) -> bool;

    /// Unwraps a content key (AES-KW; 40 bytes with a key of AES-128, 56 with one of AES-256) into the
    /// volatile key, and into `salt` the salt that came with it.
    ///
    /// # Errors
    /// The wrapping's integrity check failed; the volatile key is gone then, and nothing is said of the salt.
    fn unwrap(&mut self, wrapped: &[u8], salt: &mut Salt) -> Result<(), KeyError>;

    /// Forgets the volatile key.
    fn forget(&mut self);

    /// AES-CBC encryption in place under the volatile key; `data` is whole blocks of 16 bytes.
    ///
    /// # Errors
    /// There is no volatile key, or a partial block.
    fn cbc_encrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError>;

    /// AES-CBC decryption in place under the volatile key; `data` is whole blocks of 16 bytes.
    ///
    /// # Errors
    /// There is no volatile key, or a partial block.
    fn cbc_decrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError>;

    /// Encrypts page `page` in place: AES-CBC, whose IV is the seed xor the page's number, encrypted under
    /// the volatile key.
    ///
    /// # Errors
    /// There is no volatile key, or a partial block.
    fn encrypt_page(&mut self, seed: &IvSeed, page: u32, data: &mut [u8]) -> Result<(), KeyError> {
        let mut iv = seed.0;
        make_iv(self, &mut iv, page)?;
        self.cbc_encrypt(&iv, data)
    }

    /// Decrypts page `page` in place, with the same IV. It authenticates nothing: the page table does,
    /// before.
    ///
    /// # Errors
    /// There is no volatile key, or a partial block.
    fn decrypt_page(&mut self, seed: &IvSeed, page: u32, data: &mut [u8]) -> Result<(), KeyError> {
        let mut iv = seed.0;
        make_iv(self, &mut iv, page)?;
        self.cbc_decrypt(&iv, data)
    }
}

/// From the seed in it to the IV of page `page`.
#[inline(never)]
fn make_iv(
    keys: &mut (impl KeyStore + ?Sized),
    iv: &mut [u8; 16],
    page: u32,
) -> Result<(), KeyError> {
    for (byte, number) in iv.iter_mut().rev().zip(page.to_le_bytes()) {
        *byte ^= number;
    }
    // CBC of one block with a zero IV is the block cipher itself.
    keys.cbc_encrypt(&[0; 16], iv)
}

/// A key store in software. The keys are in RAM and flash like everything else: whoever reads the
/// ECU's memory has them, so real vehicles want a secure element.
#[derive(Debug, Clone)]
pub struct SoftKeyStore {
    wrap: WrapKey,
    grant: MacKey,
    journal: MacKey,
    access: MacKey,
    content: Unwrapped,
}

impl SoftKeyStore {
    /// A store of the ECU's provisioned keys.
    #[must_use]
    pub const fn new(wrap: WrapKey, grant: MacKey, journal: MacKey, access: MacKey) -> Self {
        Self {
            wrap,
            grant,
            journal,
            access,
            content: Unwrapped::NONE,
        }
    }

    fn mac_key(&self, key: MacKeyId) -> &MacKey {
        match key {
            MacKeyId::Grant => &self.grant,
            MacKeyId::Journal => &self.journal,
            MacKeyId::Access => &self.access,
        }
    }
}

impl KeyStore for SoftKeyStore {
    fn cmac(&mut self, key: MacKeyId, message: &[u8]) -> [u8; 16] {
        self.mac_key(key).mac(message)
    }

    #[inline(never)]
    fn cmac_verify(&mut self, key: MacKeyId, message: &[u8], mac: &[u8; 16]) -> bool {
        self.mac_key(key).verify(message, mac)
    }

    fn unwrap(&mut self, wrapped: &[u8], salt: &mut Salt) -> Result<(), KeyError> {
        let result = self.content.unwrap(&self.wrap, wrapped, salt);
        result.map_err(|_| KeyError)
    }

    fn forget(&mut self) {
        self.content.forget();
    }

    fn cbc_encrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        self.content.cbc(iv, data, true).map_err(|_| KeyError)
    }

    fn cbc_decrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        self.content.cbc(iv, data, false).map_err(|_| KeyError)
    }
}

//! Keys as handles: the core asks for operations and never sees a key.
//!
//! A board with a secure element implements [`KeyStore`] over it; [`SoftKeyStore`] does the same in
//! software for boards without one, and for the virtual ECU.

use ecu_image::crypto::{ContentKey, MacKey, WrapKey};
use ecu_image::{IvSeed, Salt, WrappedKey};

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

    /// Unwraps a content key (AES-KW) into the volatile key and returns the salt that came with it.
    ///
    /// # Errors
    /// The wrapping's integrity check failed; the volatile key is gone then.
    fn unwrap(&mut self, wrapped: &WrappedKey) -> Result<Salt, KeyError>;

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

    /// The IV of page `page`: the seed xor the page's number, encrypted under the volatile key.
    ///
    /// # Errors
    /// There is no volatile key.
    fn page_iv(&mut self, seed: &IvSeed, page: u32) -> Result<[u8; 16], KeyError> {
        let mut block = seed.0;
        for (byte, number) in block.iter_mut().zip(u128::from(page).to_be_bytes()) {
            *byte ^= number;
        }
        // CBC of one block with a zero IV is the block cipher itself.
        self.cbc_encrypt(&[0; 16], &mut block)?;
        Ok(block)
    }
}

/// A key store in software. The keys are in RAM and flash like everything else: whoever reads the
/// ECU's memory has them, so real vehicles want a secure element.
#[derive(Debug, Clone)]
pub struct SoftKeyStore {
    wrap: WrapKey,
    grant: MacKey,
    journal: MacKey,
    access: MacKey,
    content: Option<ContentKey>,
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
            content: None,
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

    #[inline(never)]
    fn unwrap(&mut self, wrapped: &WrappedKey) -> Result<Salt, KeyError> {
        self.content = None;
        let (key, salt) = self.wrap.unwrap(wrapped).map_err(|_| KeyError)?;
        self.content = Some(key);
        Ok(salt)
    }

    fn forget(&mut self) {
        self.content = None;
    }

    fn cbc_encrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        let key = self.content.as_ref().ok_or(KeyError)?;
        key.cbc_encrypt(iv, data).map_err(|_| KeyError)
    }

    fn cbc_decrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        let key = self.content.as_ref().ok_or(KeyError)?;
        key.cbc_decrypt(iv, data).map_err(|_| KeyError)
    }
}

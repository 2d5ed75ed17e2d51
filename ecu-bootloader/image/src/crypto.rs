//! The symmetric operations of the envelope in software: page encryption, key unwrapping, MACs and
//! digests, with keys as types that never print.
//!
//! An ECU whose keys live in a secure element reaches the same operations through its own key
//! handles; these functions are what a handle of software does.

use core::fmt;

#[cfg(feature = "fast-aes")]
use aes_kw::{
    KeyInit as _,
    cipher::consts::{U32, U48},
};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

#[cfg(not(feature = "fast-aes"))]
use crate::compact as aes;
#[cfg(feature = "fast-aes")]
use crate::fast as aes;
use crate::grant::{GRANT_LEN, Grant, WrappedKey};
pub use crate::hash::{Hash, sha256};
use crate::header::Cipher;
use crate::id::{IvSeed, Salt};
use crate::report::{EcuReport, REPORT_LEN};

/// Whether `a` and `b` are the same bytes, in constant time for bytes of one length.
#[inline(never)]
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

macro_rules! secret_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A key of 16 bytes.
            #[must_use]
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The key's bytes, for storing it where it is kept.
            #[must_use]
            pub const fn expose(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }

        impl ZeroizeOnDrop for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret_key! {
    /// An ECU's AES-128 key that unwraps content keys.
    WrapKey
}

secret_key! {
    /// An AES-128 key for CMAC: grant key, journal key or access key of an ECU.
    MacKey
}

impl MacKey {
    /// AES-CMAC (NIST SP 800-38B) of `message`.
    #[must_use]
    pub fn mac(&self, message: &[u8]) -> [u8; 16] {
        aes::cmac(&self.0, message)
    }

    /// Whether `mac` is that of `message`; constant time in the MAC's bytes.
    #[must_use]
    pub fn verify(&self, message: &[u8], mac: &[u8; 16]) -> bool {
        same(&self.mac(message), mac)
    }

    /// Whether the MAC in the bytes of a grant is right under this grant key.
    #[must_use]
    pub fn verify_grant(&self, bytes: &[u8; GRANT_LEN]) -> bool {
        let (_, mac) = bytes.split_last_chunk().unwrap_or((&[], &[0; 16]));
        self.verify(Grant::maced_bytes(bytes), mac)
    }

    /// Whether the MAC in the bytes of an ECU's report is right under this grant key.
    #[must_use]
    pub fn verify_report(&self, bytes: &[u8; REPORT_LEN]) -> bool {
        let (_, mac) = bytes.split_last_chunk().unwrap_or((&[], &[0; 16]));
        self.verify(EcuReport::maced_bytes(bytes), mac)
    }
}

/// Whether AES-256 is built in; else its keys are neither unwrapped nor used.
const AES_256: bool = cfg!(any(feature = "aes-256", feature = "fast-aes"));

/// The content key of an image.
#[derive(Clone, PartialEq, Eq)]
pub enum ContentKey {
    /// For AES-128-CBC.
    Aes128([u8; 16]),
    /// For AES-256-CBC.
    Aes256([u8; 32]),
}

impl Drop for ContentKey {
    fn drop(&mut self) {
        match self {
            Self::Aes128(key) => key.zeroize(),
            Self::Aes256(key) => key.zeroize(),
        }
    }
}

impl ZeroizeOnDrop for ContentKey {}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentKey({:?})", self.cipher())
    }
}

/// A page or buffer is not a whole number of AES blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialBlock;

impl fmt::Display for PartialBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("length is not a multiple of 16 bytes")
    }
}

impl core::error::Error for PartialBlock {}

impl ContentKey {
    /// The cipher this key is for.
    #[must_use]
    pub const fn cipher(&self) -> Cipher {
        match self {
            Self::Aes128(_) => Cipher::Aes128Cbc,
            Self::Aes256(_) => Cipher::Aes256Cbc,
        }
    }

    /// The key's bytes, 16 or 32.
    #[must_use]
    pub const fn expose(&self) -> &[u8] {
        match self {
            Self::Aes128(key) => key,
            Self::Aes256(key) => key,
        }
    }

    /// The IV of page `page`: the page's number into the seed, encrypted under the key.
    #[must_use]
    pub fn page_iv(&self, seed: &IvSeed, page: u32) -> [u8; 16] {
        let mut block = seed.0;
        for (byte, number) in block.iter_mut().zip(u128::from(page).to_be_bytes()) {
            *byte ^= number;
        }
        // CBC of one block with a zero IV is the block cipher itself.
        aes::cbc(self.expose(), &[0; 16], &mut block, true);
        block
    }

    /// AES-CBC encryption in place.
    ///
    /// # Errors
    /// No whole number of AES blocks; nothing is changed then.
    pub fn cbc_encrypt(&self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), PartialBlock> {
        self.cbc(iv, data, true)
    }

    /// AES-CBC decryption in place.
    ///
    /// # Errors
    /// No whole number of AES blocks; nothing is changed then.
    pub fn cbc_decrypt(&self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), PartialBlock> {
        self.cbc(iv, data, false)
    }

    fn cbc(&self, iv: &[u8; 16], data: &mut [u8], encrypt: bool) -> Result<(), PartialBlock> {
        let usable = AES_256 || matches!(self, Self::Aes128(_));
        if !usable || !data.len().is_multiple_of(16) {
            return Err(PartialBlock);
        }
        aes::cbc(self.expose(), iv, data, encrypt);
        Ok(())
    }

    /// Encrypts page `page` in place.
    ///
    /// # Errors
    /// The page is no whole number of AES blocks; nothing is changed then.
    pub fn encrypt_page(
        &self,
        seed: &IvSeed,
        page: u32,
        data: &mut [u8],
    ) -> Result<(), PartialBlock> {
        self.cbc_encrypt(&self.page_iv(seed, page), data)
    }

    /// Decrypts page `page` in place. It authenticates nothing: the page table does, before.
    ///
    /// # Errors
    /// The page is no whole number of AES blocks; nothing is changed then.
    pub fn decrypt_page(
        &self,
        seed: &IvSeed,
        page: u32,
        data: &mut [u8],
    ) -> Result<(), PartialBlock> {
        self.cbc_decrypt(&self.page_iv(seed, page), data)
    }
}

/// The wrapped key was not made under this wrap key, or was altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnwrapError;

impl fmt::Display for UnwrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the wrapped content key fails its integrity check")
    }
}

impl core::error::Error for UnwrapError {}

/// Bytes of the longest wrapped key.
const WRAPPED_MAX: usize = if AES_256 { 56 } else { 40 };

/// A content key in the place where it was unwrapped, and where it is used.
#[derive(Clone)]
pub struct Unwrapped {
    /// Integrity value, key, salt.
    bytes: [u8; WRAPPED_MAX],
    /// 0 where there is none.
    len: usize,
}

impl Unwrapped {
    /// No key.
    pub const NONE: Self = Self {
        bytes: [0; WRAPPED_MAX],
        len: 0,
    };

    /// Unwraps a content key ([`WrappedKey::as_bytes`]), and `salt` (AES-KW, RFC 3394 clause 2.2.2).
    /// The key before is gone in any case.
    ///
    /// # Errors
    /// The integrity check of the wrapping fails, or it is of a key of AES-256 where there is none.
    pub fn unwrap(
        &mut self,
        key: &WrapKey,
        wrapped: &[u8],
        salt: &mut Salt,
    ) -> Result<(), UnwrapError> {
        self.forget();
        let len = wrapped.len();
        let place = self.bytes.get_mut(..len).ok_or(UnwrapError)?;
        for (to, from) in place.iter_mut().zip(wrapped) {
            *to = *from;
        }
        let right = matches!(len, 40 | 56) && aes::unwrap(&key.0, place) == 0;
        if let Some(end) = place.last_chunk().filter(|_| right) {
            salt.0 = *end;
            self.len = len;
            return Ok(());
        }
        self.forget();
        Err(UnwrapError)
    }

    /// The key's bytes, 16 or 32.
    #[must_use]
    pub fn expose(&self) -> Option<&[u8]> {
        self.bytes.get(8..self.len.checked_sub(16)?)
    }

    /// No key.
    #[inline(never)]
    pub fn forget(&mut self) {
        self.bytes.zeroize();
        self.len = 0;
    }

    /// AES-CBC in place.
    ///
    /// # Errors
    /// There is no key, or no whole number of AES blocks; nothing is changed then.
    #[inline(never)]
    pub fn cbc(&self, iv: &[u8; 16], data: &mut [u8], encrypt: bool) -> Result<(), PartialBlock> {
        let key = self.expose().ok_or(PartialBlock)?;
        if !data.len().is_multiple_of(16) {
            return Err(PartialBlock);
        }
        aes::cbc(key, iv, data, encrypt);
        Ok(())
    }
}

impl Drop for Unwrapped {
    fn drop(&mut self) {
        self.forget();
    }
}

impl ZeroizeOnDrop for Unwrapped {}

impl fmt::Debug for Unwrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unwrapped(..)")
    }
}

impl WrapKey {
    /// Unwraps content key and salt (AES-KW, RFC 3394 clause 2.2.2).
    ///
    /// # Errors
    /// The integrity check of the wrapping fails, or it is of a key of AES-256 where there is none.
    pub fn unwrap(&self, wrapped: &WrappedKey) -> Result<(ContentKey, Salt), UnwrapError> {
        let mut unwrapped = Unwrapped::NONE;
        let mut salt = Salt([0; 16]);
        unwrapped.unwrap(self, wrapped.as_bytes(), &mut salt)?;
        let key = unwrapped.expose().ok_or(UnwrapError)?;
        let key = match wrapped {
            WrappedKey::Aes128(_) => ContentKey::Aes128(key.try_into().map_err(|_| UnwrapError)?),
            WrappedKey::Aes256(_) => ContentKey::Aes256(key.try_into().map_err(|_| UnwrapError)?),
        };
        Ok((key, salt))
    }

    /// Wraps content key and salt.
    #[cfg(feature = "fast-aes")]
    #[must_use]
    pub fn wrap(&self, key: &ContentKey, salt: &Salt) -> WrappedKey {
        let kw = aes_kw::KwAes128::new(&self.0.into());
        match key {
            ContentKey::Aes128(key) => {
                let mut plain = zeroize::Zeroizing::new([0; 32]);
                crate::wire::put(&mut *plain, 0, key);
                crate::wire::put(&mut *plain, 16, &salt.0);
                WrappedKey::Aes128(kw.wrap_fixed_key::<U32>(&(*plain).into()).into())
            }
            ContentKey::Aes256(key) => {
                let mut plain = zeroize::Zeroizing::new([0; 48]);
                crate::wire::put(&mut *plain, 0, key);
                crate::wire::put(&mut *plain, 32, &salt.0);
                WrappedKey::Aes256(kw.wrap_fixed_key::<U48>(&(*plain).into()).into())
            }
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::testing::content_key;
    use proptest::prelude::*;

    /// The example of RFC 4493, section 4: an empty message and one of 40 bytes.
    #[test]
    fn the_mac_is_aes_cmac() {
        let key = MacKey::new(0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes());
        let mac = |message: &[u8]| u128::from_be_bytes(key.mac(message));
        assert_eq!(mac(&[]), 0xbb1d_6929_e959_3728_7fa3_7d12_9b75_6746);
        let first = 0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a_u128.to_be_bytes();
        assert_eq!(mac(&first), 0x070a_16b4_6b4d_4144_f79b_dd9d_d04a_287c);
        assert!(key.verify(&first, &key.mac(&first)));
        assert!(!key.verify(&first, &key.mac(&[])));
    }

    #[test]
    fn secrets_do_not_print() {
        let shown = format!(
            "{:?} {:?} {:?}",
            ContentKey::Aes128([0xAB; 16]),
            MacKey::new([0xAB; 16]),
            WrapKey::new([0xAB; 16])
        );
        assert_eq!(shown, "ContentKey(Aes128Cbc) MacKey(..) WrapKey(..)");
    }

    #[test]
    fn a_partial_block_is_refused_untouched() {
        let key = ContentKey::Aes128([1; 16]);
        let mut page = [9; 31];
        assert_eq!(
            key.encrypt_page(&IvSeed([0; 16]), 0, &mut page),
            Err(PartialBlock)
        );
        assert_eq!(
            key.decrypt_page(&IvSeed([0; 16]), 0, &mut page),
            Err(PartialBlock)
        );
        assert_eq!(page, [9; 31]);
    }

    #[test]
    fn an_altered_wrapping_is_refused() {
        let key = WrapKey::new([4; 16]);
        let WrappedKey::Aes128(bytes) = key.wrap(&ContentKey::Aes128([1; 16]), &Salt([2; 16]))
        else {
            panic!("wrapped as another length");
        };
        for at in 0..40 {
            let mut altered = bytes;
            altered[at] ^= 1;
            let unwrapped = key.unwrap(&WrappedKey::Aes128(altered));
            assert_eq!(unwrapped, Err(UnwrapError), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn pages_decrypt_under_their_own_number_only(
            key in content_key(),
            seed: [u8; 16],
            page in 0..2048u32,
            blocks in 1..40usize,
        ) {
            let seed = IvSeed(seed);
            let plain = vec![0x3C; blocks * 16];
            let mut data = plain.clone();
            key.encrypt_page(&seed, page, &mut data).unwrap();
            let mut other = data.clone();
            key.decrypt_page(&seed, page, &mut data).unwrap();
            prop_assert_eq!(&data, &plain);
            key.decrypt_page(&seed, page ^ 1, &mut other).unwrap();
            prop_assert_ne!(&other[..16], &plain[..16]);
        }
    }
}

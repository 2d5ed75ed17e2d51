//! What [`compact`](crate::compact) does, by the RustCrypto crates: several times as fast, and as large.

use aes::cipher::consts::U16;
use aes::cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, KeyInit, KeyIvInit};
use aes::{Aes128, Aes256};
use cmac::{Cmac, Mac};

/// AES-CMAC.
pub(crate) fn cmac(key: &[u8; 16], message: &[u8]) -> [u8; 16] {
    let mut cmac = Cmac::<Aes128>::new(key.into());
    cmac.update(message);
    cmac.finalize().into_bytes().into()
}

/// AES-KW in place behind the integrity value; not zero where that is wrong.
pub(crate) fn unwrap(key: &[u8; 16], wrapped: &mut [u8]) -> u64 {
    let mut plain = zeroize::Zeroizing::new([0; 48]);
    let kw = aes_kw::KwAes128::new(key.into());
    match (kw.unwrap_key(wrapped, &mut *plain), wrapped.get_mut(8..)) {
        (Ok(plain), Some(place)) => {
            place.copy_from_slice(plain);
            0
        }
        _ => u64::MAX,
    }
}

/// AES-CBC in place, whole blocks under a key of 16 or 32 bytes.
pub(crate) fn cbc(key: &[u8], iv: &[u8; 16], data: &mut [u8], encrypt: bool) {
    let (blocks, _) = Array::slice_as_chunks_mut(data);
    let iv = iv.into();
    if let Ok(key) = key.try_into() {
        if encrypt {
            return encrypt_blocks(cbc::Encryptor::<Aes128>::new(key, iv), blocks);
        }
        return decrypt_blocks(cbc::Decryptor::<Aes128>::new(key, iv), blocks);
    }
    if let Ok(key) = key.try_into() {
        if encrypt {
            return encrypt_blocks(cbc::Encryptor::<Aes256>::new(key, iv), blocks);
        }
        decrypt_blocks(cbc::Decryptor::<Aes256>::new(key, iv), blocks);
    }
}

fn encrypt_blocks(mut mode: impl BlockModeEncrypt<BlockSize = U16>, blocks: &mut [Array<u8, U16>]) {
    mode.encrypt_blocks(blocks);
}

fn decrypt_blocks(mut mode: impl BlockModeDecrypt<BlockSize = U16>, blocks: &mut [Array<u8, U16>]) {
    mode.decrypt_blocks(blocks);
}

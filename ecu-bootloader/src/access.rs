//! SecurityAccess 27 01/02: the key is AES-CMAC of `seed ‖ 01` under the ECU's access key.
//!
//! Attempts and delay are the server's. They start anew at a reset: guessing a 128-bit MAC is
//! hopeless at any rate, and a durable delay would let anybody lock a workshop out.

use uds::service::SecurityLevel;

use crate::keys::{KeyStore, MacKeyId};

/// Bytes of a seed.
pub const SEED_LEN: usize = 16;
/// Bytes of a key.
pub const KEY_LEN: usize = 16;

/// The message whose MAC is the key: the seed, then the level's requestSeed.
#[must_use]
pub fn message(seed: &[u8; SEED_LEN], level: SecurityLevel) -> [u8; SEED_LEN + 1] {
    let mut message = [level.request_seed(); SEED_LEN + 1];
    for (to, from) in message.iter_mut().zip(seed) {
        *to = *from;
    }
    message
}

/// Whether `key` answers `seed`.
pub(crate) fn is_right(
    keys: &mut impl KeyStore,
    seed: &[u8; SEED_LEN],
    level: SecurityLevel,
    key: &[u8],
) -> bool {
    match key.try_into() {
        Ok(key) => keys.cmac_verify(MacKeyId::Access, &message(seed, level), key),
        Err(_) => false,
    }
}

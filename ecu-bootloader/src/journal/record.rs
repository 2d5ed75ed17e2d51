//! The bytes of a record.

#[cfg(feature = "deliberate-bugs")]
use crate::bugs::{self, Bug};
use crate::bytes::{field, part, put};
use crate::keys::{KeyStore, MacKeyId};
use crate::state::State;

/// Bytes of a record.
pub const RECORD_LEN: u32 = 256;
/// Bytes of a record that its CMAC covers.
pub(super) const MACED: usize = 240;
/// Where the state begins.
pub(super) const STATE_AT: usize = 16;
const MAGIC: [u8; 4] = *b"CNJR";
const VERSION: u16 = 1;

/// Makes the bytes of a record.
#[inline(never)]
pub(crate) fn encode(
    record: &mut [u8; RECORD_LEN as usize],
    sequence: u32,
    state: &State,
    keys: &mut impl KeyStore,
) {
    put(record, 0, &MAGIC);
    put(record, 4, &VERSION.to_le_bytes());
    put(record, 6, &256u16.to_le_bytes());
    put(record, 8, &u64::from(sequence).to_le_bytes());
    if let Some(bytes) = part(record, STATE_AT) {
        state.write(bytes);
    }
    let maced: &[u8; MACED] = field(record, 0);
    let mac = keys.cmac(MacKeyId::Journal, maced);
    put(record, MACED, &mac);
}

/// The sequence of an authentic record, and its state into `state`.
#[inline(never)]
pub(super) fn decode(
    record: &[u8; RECORD_LEN as usize],
    state: &mut State,
    keys: &mut impl KeyStore,
) -> Option<u32> {
    let maced: &[u8; MACED] = field(record, 0);
    if field(record, 0) != &MAGIC
        || u16::from_le_bytes(*field(record, 4)) != VERSION
        || u16::from_le_bytes(*field(record, 6)) != 256
    {
        return None;
    }
    let authentic = keys.cmac_verify(MacKeyId::Journal, maced, field(record, MACED));
    #[cfg(feature = "deliberate-bugs")]
    let authentic = authentic || bugs::has(Bug::UncheckedRecord);
    if !authentic {
        return None;
    }
    state.read(field(record, STATE_AT))?;
    // The flash wears out long before the lower half is used up.
    u32::try_from(u64::from_le_bytes(*field(record, 8))).ok()
}

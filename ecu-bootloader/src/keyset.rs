//! The key set: the image keys in use, and their update.
//!
//! ```text
//!  34 36 .. 37 ─▶ well-formed, for this ECU, newer, orphans nothing ─▶ two roots have signed
//!              ─▶ erase the other area ─▶ program, read back ─▶ journal: in use
//! ```
//!
//! Nothing is written before the signatures are verified. The journal's record is the switch: it names
//! area, version and digest, so a power cut leaves the set before or the new one. What lies in an
//! area is believed only with the digest of the record.

use ecu_image::crypto::sha256;
use ecu_image::hardened;
use ecu_image::keyset::{KeySet, KeyStatus, TrustedKeys};
use ecu_image::signature::SignatureVerifier;
use ecu_image::{HeaderStart, KeyId};

use crate::flash::FlashRead;
use crate::head::Head;
use crate::job::Core;
use crate::layout::SlotId;
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::state::KeySetRecord;
use crate::transition::{Standing, Standings};

#[cfg(feature = "key-set-update")]
mod update;
#[cfg(feature = "key-set-update")]
pub(crate) use update::{Signatures, Vouched};

/// What a signature is verified for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// To boot what is installed.
    Boot,
    /// To install: a revoked key does not do.
    Install,
}

/// Reads the key set of `record` into `scratch`, or says that it cannot be believed.
#[inline(never)]
pub(crate) fn read<'s, P: Platform>(
    platform: &mut P,
    record: Option<&KeySetRecord>,
    scratch: &'s mut [u8],
) -> Result<TrustedKeys<'s>, Failure> {
    let unreadable = Failure::new(Reason::KeySetUnreadable);
    let record = record.ok_or(unreadable)?;
    let address = platform.board().layout.key_set(record.area).address;
    let signed = read_signed(platform.flash(), address, scratch).ok_or(unreadable)?;
    TrustedKeys::of(signed, &record.digest).ok_or(unreadable)
}

/// Reads the signed part of what may be a key set.
fn read_signed<'s>(
    flash: &mut impl FlashRead,
    address: u32,
    scratch: &'s mut [u8],
) -> Option<&'s [u8]> {
    let start = scratch.first_chunk_mut()?;
    start.fill(0);
    flash.read(address, start).ok()?;
    let len = KeySet::signed_len(start)?;
    let signed = scratch.get_mut(..len)?;
    flash.read(address, signed).ok()?;
    Some(signed)
}

/// The second look before a boot: zero where the area of `record` has its digest.
#[inline(never)]
pub(crate) fn difference<P: Platform>(
    platform: &mut P,
    record: Option<&KeySetRecord>,
    scratch: &mut [u8],
) -> u32 {
    let Some(record) = record else {
        return u32::MAX;
    };
    let address = platform.board().layout.key_set(record.area).address;
    match read_signed(platform.flash(), address, scratch) {
        Some(signed) => {
            hardened::difference(sha256(&[signed]).as_bytes(), record.digest.as_bytes())
        }
        None => u32::MAX,
    }
}

/// Starts the verification of a head's signature under its key in the key set of `record`.
#[inline(never)]
pub(crate) fn begin_signature<P: Platform>(
    platform: &mut P,
    record: Option<&KeySetRecord>,
    head: &Head,
    purpose: Use,
    signature: &[u8],
    scratch: &mut [u8],
) -> Result<(), Failure> {
    let set = read(platform, record, scratch)?;
    let header = &head.header;
    let unknown = Failure::new(Reason::HeaderKey);
    let entry = set.key(header.key_id()).ok_or(unknown)?;
    if purpose == Use::Install && entry.status != KeyStatus::Active {
        return Err(Failure::new(Reason::HeaderKeyRevoked));
    }
    // The algorithm is the key's; a header that names another is refused.
    if header.algorithm() != entry.key.algorithm {
        return Err(unknown);
    }
    platform
        .signatures()
        .begin(entry.key, head.digest.as_bytes(), signature)
        .map_err(|_| unknown)
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// The key of the image in a slot, as far as its header can be read.
    fn image_key(&mut self, slot: SlotId) -> Option<KeyId> {
        let mut start = HeaderStart::NONE;
        self.peek(slot, &mut start).then(|| start.key_id())
    }

    /// How the images in A and B stand in the key set in use; nothing is known where it cannot be
    /// read.
    pub(crate) fn standings(&mut self) -> Standings {
        Standings {
            a: self.standing(SlotId::A),
            b: self.standing(SlotId::B),
        }
    }

    #[inline(never)]
    fn standing(&mut self, slot: SlotId) -> Option<Standing> {
        let id = self.image_key(slot)?;
        let record = self.state.as_ref().and_then(|state| state.key_set.as_ref());
        let scratch = self.buffers.data_mut(self.buffers.filling);
        let keys = read(&mut self.platform, record, scratch).ok()?;
        Some(standing(keys.key(id).map(|entry| entry.status)))
    }
}

/// How an image stands whose key has this status in a set, or is not in it.
fn standing(status: Option<KeyStatus>) -> Standing {
    match status {
        Some(KeyStatus::Active) => Standing::Active,
        Some(KeyStatus::Revoked) => Standing::Revoked,
        None => Standing::Absent,
    }
}

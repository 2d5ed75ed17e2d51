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
use ecu_image::keyset::{KeySet, KeyStatus};
use ecu_image::signature::SignatureVerifier;
use ecu_image::{KeyId, Offset};

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
pub(crate) fn read<'s, P: Platform>(
    platform: &mut P,
    record: Option<&KeySetRecord>,
    scratch: &'s mut [u8],
) -> Result<KeySet<'s>, Failure> {
    let unreadable = Failure::new(Reason::KeySetUnreadable);
    let record = record.ok_or(unreadable)?;
    let address = platform.board().layout.key_set(record.area).address;
    let signed = read_signed(platform.flash(), address, scratch).ok_or(unreadable)?;
    let set = KeySet::parse_signed(signed).map_err(|Offset(_)| unreadable)?;
    if set.digest() != record.digest {
        return Err(unreadable);
    }
    Ok(set)
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
    let entry = set.key(header.key_id).ok_or(unknown)?;
    if purpose == Use::Install && entry.status != KeyStatus::Active {
        return Err(Failure::new(Reason::HeaderKeyRevoked));
    }
    // The algorithm is the key's; a header that names another is refused.
    if header.signature_len.algorithm() != entry.key.algorithm {
        return Err(unknown);
    }
    platform
        .signatures()
        .begin(entry.key, head.digest.as_bytes(), signature)
        .map_err(|_| unknown)
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// The keys of the images in A and B, as far as their headers can be read.
    fn image_keys(&mut self) -> [Option<KeyId>; 2] {
        [SlotId::A, SlotId::B].map(|slot| Some(self.peek(slot)?.key_id()))
    }

    /// How the images in A and B stand in the key set in use; nothing is known where it cannot be
    /// read.
    #[inline(never)]
    pub(crate) fn standings(&mut self) -> Standings {
        let images = self.image_keys();
        let record = self.state.as_ref().and_then(|state| state.key_set.as_ref());
        let scratch = self.buffers.data_mut(self.buffers.filling);
        match read(&mut self.platform, record, scratch) {
            Ok(set) => standings(&set, images),
            Err(_) => Standings::default(),
        }
    }
}

/// How images with these keys stand in a set.
fn standings(set: &KeySet<'_>, images: [Option<KeyId>; 2]) -> Standings {
    let [a, b] = images.map(|id| {
        Some(match set.key(id?).map(|entry| entry.status) {
            Some(KeyStatus::Active) => Standing::Active,
            Some(KeyStatus::Revoked) => Standing::Revoked,
            None => Standing::Absent,
        })
    });
    Standings { a, b }
}

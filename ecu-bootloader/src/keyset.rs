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
use ecu_image::keyset::{KEY_SET_MAX, KeySet, KeyStatus, THRESHOLD};
use ecu_image::pss::Progress as SignatureProgress;
use ecu_image::signature::SignatureVerifier;
use ecu_image::{Digest, KeyId};

use crate::download::Reply;
use crate::flash::FlashRead;
use crate::head::Head;
use crate::job::{Answer, Core, Then, Work};
use crate::layout::{KeySetArea, Layout, SlotId};
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::state::{KeySetRecord, SlotState};
use crate::transition::{self, Standing, Standings};
use uds::nrc::Nrc;

/// What a signature is verified for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// To boot what is installed.
    Boot,
    /// To install: a revoked key does not do.
    Install,
}

/// Reads the key set of `record` into `scratch`, or says that it cannot be believed.
pub(crate) fn read<'s>(
    flash: &mut impl FlashRead,
    layout: &Layout,
    record: Option<KeySetRecord>,
    scratch: &'s mut [u8],
) -> Result<KeySet<'s>, Failure> {
    let unreadable = Failure::new(Reason::KeySetUnreadable);
    let record = record.ok_or(unreadable)?;
    let region = layout.key_set(record.area);
    let start = scratch.first_chunk_mut().ok_or(unreadable)?;
    let mut read = |bytes: &mut [u8]| flash.read(region.address, bytes);
    read(start).map_err(|_| unreadable)?;
    let len = KeySet::signed_len(start).ok_or(unreadable)?;
    let signed = scratch.get_mut(..len).ok_or(unreadable)?;
    read(signed).map_err(|_| unreadable)?;
    let set = KeySet::parse_signed(signed).map_err(|_| unreadable)?;
    if set.digest() != record.digest {
        return Err(unreadable);
    }
    Ok(set)
}

/// The second look before a boot: zero where the area of `record` has its digest.
pub(crate) fn difference(
    flash: &mut impl FlashRead,
    layout: &Layout,
    record: Option<KeySetRecord>,
    scratch: &mut [u8],
) -> u32 {
    let mut digest_again = || {
        let address = layout.key_set(record?.area).address;
        let start = scratch.first_chunk_mut()?;
        start.fill(0);
        flash.read(address, start).ok()?;
        let len = KeySet::signed_len(start)?;
        let signed = scratch.get_mut(..len)?;
        flash.read(address, signed).ok()?;
        Some(sha256(&[signed]))
    };
    match (digest_again(), record) {
        (Some(found), Some(record)) => {
            hardened::difference(found.as_bytes(), record.digest.as_bytes())
        }
        _ => u32::MAX,
    }
}

/// Starts the verification of a head's signature under its key in the key set of `record`.
pub(crate) fn begin_signature<P: Platform>(
    platform: &mut P,
    record: Option<KeySetRecord>,
    head: &Head,
    purpose: Use,
    scratch: &mut [u8],
) -> Result<(), Failure> {
    let layout = platform.board().layout;
    let set = read(platform.flash(), &layout, record, scratch)?;
    let header = &head.header;
    let unknown = Failure::new(Reason::HeaderKey);
    let entry = set.key(header.key_id).ok_or(unknown)?;
    if purpose == Use::Install && entry.status != KeyStatus::Active {
        return Err(Failure::new(Reason::HeaderKeyRevoked));
    }
    // The algorithm is the key's; a header that names another is refused.
    if header.signature.len().algorithm() != entry.key.algorithm {
        return Err(unknown);
    }
    let signature = header.signature.as_bytes();
    platform
        .signatures()
        .begin(entry.key, head.digest.as_bytes(), signature)
        .map_err(|_| unknown)
}

/// The signatures of a received key set, under way. The set waits in the buffer that is not filling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signatures {
    digest: Digest,
    /// The signature at hand.
    index: usize,
    /// Whether it is being verified.
    begun: bool,
    /// How many were right, each of another root.
    right: usize,
}

impl<P: Platform, const PAGE: usize> Core<P, PAGE> {
    /// The longest key set that is received, in bytes: it waits in a page buffer.
    pub(crate) fn max_key_set(&self) -> usize {
        PAGE.min(KEY_SET_MAX)
    }

    /// The last byte is in (37): examines the set, then verifies its signatures.
    pub(crate) fn key_set_complete(&mut self) -> Result<Reply, Nrc> {
        match self.examine_key_set() {
            Ok(digest) => {
                self.buffers.turn();
                self.end_transfer();
                self.work = Work::KeySet(Signatures {
                    digest,
                    index: 0,
                    begun: false,
                    right: 0,
                });
                Ok(Reply::Later)
            }
            Err(failure) => Err(self.refuse(failure)),
        }
    }

    fn examine_key_set(&mut self) -> Result<Digest, Failure> {
        let state = self.state.ok_or(Failure::new(Reason::NotProvisioned))?;
        let images = self.image_keys();
        let board = self.platform.board();
        let bytes = self.buffers.data(self.buffers.filling);
        let bytes = bytes.get(..self.buffers.fill).unwrap_or(&[]);
        let set = KeySet::parse(bytes)
            .map_err(|error| Failure::with(Reason::KeySetMalformed, error.offset))?;
        if set.hardware_id.is_some_and(|id| id != board.hardware_id) {
            return Err(Failure::new(Reason::KeySetHardware));
        }
        let version = set.version;
        if state.key_set.is_some_and(|used| version <= used.version) {
            return Err(Failure::with(Reason::KeySetVersion, version.get()));
        }
        if let Some(slot) = transition::orphan(&state, &standings(&set, images)) {
            return Err(Failure::with(Reason::KeySetOrphan, slot.number()));
        }
        Ok(set.digest())
    }

    /// The keys of the images in A and B, as far as their headers can be read.
    fn image_keys(&mut self) -> [Option<KeyId>; 2] {
        [SlotId::A, SlotId::B].map(|slot| Some(self.peek_header(slot)?.key_id))
    }

    /// How the images in A and B stand in the key set in use; nothing is known where it cannot be
    /// read.
    pub(crate) fn standings(&mut self) -> Standings {
        let images = self.image_keys();
        let record = self.state.and_then(|state| state.key_set);
        let layout = self.platform.board().layout;
        let scratch = self.buffers.data_mut(self.buffers.filling);
        match read(self.platform.flash(), &layout, record, scratch) {
            Ok(set) => standings(&set, images),
            Err(_) => Standings::default(),
        }
    }

    /// A step of the signatures of the received key set.
    pub(crate) fn step_key_set(&mut self, mut check: Signatures) {
        let then = Then::ProgramKeySet;
        let wrong = Failure::with(Reason::KeySetSignatures, check.right);
        if check.begun {
            match self.platform.signatures().step(1) {
                SignatureProgress::Pending => {}
                SignatureProgress::Invalid => return self.fail(then, wrong),
                SignatureProgress::Valid => {
                    check.begun = false;
                    check.index = check.index.saturating_add(1);
                    check.right = check.right.saturating_add(1);
                }
            }
            self.work = Work::KeySet(check);
            return;
        }
        let bytes = self.buffers.data(self.buffers.filling.other());
        let Ok(set) = KeySet::parse_prefix(bytes) else {
            return self.fail(then, wrong);
        };
        // A set names each root once: no signature counts twice.
        let Some(entry) = set.signatures().nth(check.index) else {
            if check.right < THRESHOLD {
                return self.fail(then, wrong);
            }
            return self.erase_key_set(self.free_key_set_area());
        };
        let signatures = self.platform.signatures();
        match signatures.begin_pinned(entry.root, check.digest.as_bytes(), entry.signature) {
            Ok(()) => check.begun = true,
            // Not one of this ECU's roots.
            Err(_) => check.index = check.index.saturating_add(1),
        }
        self.work = Work::KeySet(check);
    }

    fn free_key_set_area(&self) -> KeySetArea {
        let used = self.state.and_then(|state| state.key_set);
        used.map_or(KeySetArea::First, |used| used.area.other())
    }

    /// The other area is erased: programs the signed part.
    pub(crate) fn program_key_set(&mut self) {
        let then = Then::ProgramKeySet;
        let layout = self.platform.board().layout;
        let region = layout.key_set(self.free_key_set_area());
        let waiting = self.buffers.filling.other();
        let bytes = self.buffers.data_mut(waiting);
        let len = bytes.first_chunk().and_then(KeySet::signed_len);
        let unit = usize::try_from(layout.program_unit()).unwrap_or(1);
        let padded = len.and_then(|len| Some((len, len.checked_next_multiple_of(unit)?)));
        let Some((len, padded)) = padded.filter(|(_, padded)| *padded <= PAGE) else {
            return self.fail(then, Failure::new(Reason::KeySetUnreadable));
        };
        if let Some(fill) = bytes.get_mut(len..padded) {
            fill.fill(0);
        }
        self.buffers.queue_other(region.address, padded, false);
        self.drain(Then::UseKeySet);
    }

    /// The new set is programmed: reads it back, then journals that it is in use, and what that
    /// means for the images.
    pub(crate) fn use_key_set(&mut self) {
        let then = Then::UseKeySet;
        let Some(state) = self.state else { return };
        let area = self.free_key_set_area();
        let images = self.image_keys();
        let layout = self.platform.board().layout;
        let waiting = self.buffers.data(self.buffers.filling.other());
        let received = KeySet::parse_signed(waiting).map(|set| KeySetRecord {
            area,
            version: set.version,
            digest: set.digest(),
        });
        let Ok(record) = received else {
            return self.fail(then, Failure::new(Reason::KeySetUnreadable));
        };
        let scratch = self.buffers.data_mut(self.buffers.filling);
        let standings = match read(self.platform.flash(), &layout, Some(record), scratch) {
            Ok(set) => standings(&set, images),
            Err(failure) => return self.fail(then, failure),
        };
        let next = transition::use_key_set(&state, record, &standings);
        for slot in [SlotId::A, SlotId::B] {
            if next.slot(slot) != state.slot(slot) {
                self.evidence.clear(slot);
            }
            if next.slot(slot) != state.slot(slot) && state.slot(slot).state == SlotState::Receiving
            {
                self.durable = None;
                self.frontier = None;
            }
        }
        self.commit(next, Then::Answer(Answer::Exit));
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

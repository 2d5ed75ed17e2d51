//! The update of the key set: received, examined, signed by two roots, written, in use.

use core::hint::black_box;

use ecu_image::hardened::difference;
use ecu_image::keyset::{KEY_SET_MAX, KeyEntry, KeySet, THRESHOLD};
use ecu_image::pss::Progress as SignatureProgress;
use ecu_image::signature::SignatureVerifier;
use ecu_image::{Digest, ImageDigest, KeyId, Offset};
use uds::nrc::Nrc;

use super::{read, standing};
use crate::download::Reply;
use crate::gate::below;
use crate::job::{Answer, Core, Then, Work};
use crate::layout::{KeySetArea, SlotId};
use crate::machine::Storage;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::state::{KeySetRecord, SlotState};
use crate::transition::{self, Standings};

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

/// What the roots vouch for, kept apart from the count that decides first: no later start sees the
/// signatures again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Vouched {
    digest: [u8; 32],
    right: u32,
}

impl Vouched {
    /// One more signature; `wrong` is zero where it is over the digest.
    fn count(&mut self, wrong: u32) {
        let right = black_box(self.right).wrapping_add(1);
        self.right = right & !below(0, wrong);
    }

    /// Zero where enough roots vouch for this very set.
    fn difference(&self, record: &KeySetRecord) -> u32 {
        let threshold = u32::try_from(THRESHOLD).unwrap_or(u32::MAX);
        below(black_box(self.right), threshold) | difference(&self.digest, record.digest.as_bytes())
    }
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// The longest key set that is received, in bytes: it waits in a page buffer.
    pub(crate) fn max_key_set(&self) -> usize {
        self.buffers.page().min(KEY_SET_MAX)
    }

    /// The last byte is in (37): examines the set, then verifies its signatures.
    pub(crate) fn key_set_complete(&mut self) -> Result<Reply, Nrc> {
        match self.examine_key_set() {
            Ok(digest) => {
                self.buffers.turn();
                self.end_transfer();
                self.vouched = Vouched {
                    digest: *digest.as_bytes(),
                    right: 0,
                };
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

    #[inline(never)]
    fn examine_key_set(&mut self) -> Result<Digest, Failure> {
        let images = [SlotId::A, SlotId::B].map(|slot| self.image_key(slot));
        let state = self.state.as_ref();
        let state = state.ok_or(Failure::new(Reason::NotProvisioned))?;
        let board = self.platform.board();
        let bytes = self.buffers.data(self.buffers.filling);
        let bytes = bytes.get(..self.buffers.fill).unwrap_or(&[]);
        let set = KeySet::parse_as(bytes)
            .map_err(|Offset(at)| Failure::with(Reason::KeySetMalformed, at))?;
        if set.hardware_id.is_some_and(|id| id != board.hardware_id) {
            return Err(Failure::new(Reason::KeySetHardware));
        }
        let version = set.version;
        if state
            .key_set
            .as_ref()
            .is_some_and(|used| version <= used.version)
        {
            return Err(Failure::with(Reason::KeySetVersion, version.get()));
        }
        if let Some(slot) = transition::orphan(state, &standings(images, |id| set.key(id))) {
            return Err(Failure::with(Reason::KeySetOrphan, slot.number()));
        }
        Ok(set.digest())
    }

    /// A step of the signatures of the received key set.
    #[inline(never)]
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
                    let digest = ImageDigest(*check.digest.as_bytes());
                    let wrong = self.platform.signatures().difference(&digest);
                    self.vouched.count(wrong);
                }
            }
            self.work = Work::KeySet(check);
            return;
        }
        let bytes = self.buffers.data(self.buffers.filling.other());
        let Ok(set) = KeySet::parse_prefix::<Offset>(bytes) else {
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
        let used = self.state.as_ref().and_then(|state| state.key_set.as_ref());
        used.map_or(KeySetArea::First, |used| used.area.other())
    }

    /// The other area is erased: programs the signed part.
    #[inline(never)]
    pub(crate) fn program_key_set(&mut self) {
        let then = Then::ProgramKeySet;
        let layout = &self.platform.board().layout;
        let address = layout.key_set(self.free_key_set_area()).address;
        let unit = usize::try_from(layout.program_unit()).unwrap_or(1);
        let page = self.buffers.page();
        let waiting = self.buffers.filling.other();
        let bytes = self.buffers.data_mut(waiting);
        let len = bytes.first_chunk().and_then(KeySet::signed_len);
        let padded = len.and_then(|len| Some((len, len.checked_next_multiple_of(unit)?)));
        let Some((len, padded)) = padded.filter(|(_, padded)| *padded <= page) else {
            return self.fail(then, Failure::new(Reason::KeySetUnreadable));
        };
        if let Some(fill) = bytes.get_mut(len..padded) {
            fill.fill(0);
        }
        self.buffers.queue_other(address, padded, false);
        self.drain(Then::UseKeySet);
    }

    /// The new set is programmed: reads it back, then journals that it is in use, and what that
    /// means for the images.
    #[inline(never)]
    pub(crate) fn use_key_set(&mut self) {
        let then = Then::UseKeySet;
        let area = self.free_key_set_area();
        let images = [SlotId::A, SlotId::B].map(|slot| self.image_key(slot));
        let waiting = self.buffers.data(self.buffers.filling.other());
        let received = KeySet::parse_signed(waiting).map(|set| KeySetRecord {
            area,
            version: set.version,
            digest: set.digest(),
        });
        let record = received.map_err(|Offset(_)| Failure::new(Reason::KeySetUnreadable));
        let read_back = record.and_then(|record| {
            let scratch = self.buffers.data_mut(self.buffers.filling);
            let keys = read(&mut self.platform, Some(&record), scratch)?;
            Ok((record, standings(images, |id| keys.key(id))))
        });
        let (record, standings) = match read_back {
            Ok(found) => found,
            Err(failure) => return self.fail(then, failure),
        };
        if self.vouched.difference(&record) != 0 {
            return self.fail(then, Failure::new(Reason::SecondLook));
        }
        let Some(next) = self.edit() else { return };
        transition::use_key_set(next, record, &standings);
        let next = *next;
        let Some(state) = &self.state else { return };
        for slot in [SlotId::A, SlotId::B] {
            let before = state.slot(slot);
            if next.slot(slot) == before {
                continue;
            }
            if before.state == SlotState::Receiving {
                self.durable = None;
                self.frontier = None;
            }
            self.evidence.clear(slot);
        }
        self.commit(Then::Answer(Answer::Exit));
    }
}

/// How images with these keys stand in a set.
fn standings<'s>(
    images: [Option<KeyId>; 2],
    key: impl Fn(KeyId) -> Option<KeyEntry<'s>>,
) -> Standings {
    let [a, b] = images.map(|id| Some(standing(key(id?).map(|entry| entry.status))));
    Standings { a, b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ecu_image::KeySetVersion;

    #[test]
    fn only_two_roots_over_this_very_set_vouch_for_it() {
        let record = |digest: [u8; 32]| KeySetRecord {
            area: KeySetArea::First,
            version: KeySetVersion(2),
            digest: Digest(digest),
        };
        let mut vouched = Vouched {
            digest: [7; 32],
            right: 0,
        };
        assert_ne!(vouched.difference(&record([7; 32])), 0);
        vouched.count(0);
        assert_ne!(vouched.difference(&record([7; 32])), 0);
        vouched.count(5);
        vouched.count(0);
        assert_ne!(vouched.difference(&record([7; 32])), 0);
        vouched.count(0);
        assert_eq!(vouched.difference(&record([7; 32])), 0);
        assert_ne!(vouched.difference(&record([8; 32])), 0);
    }
}

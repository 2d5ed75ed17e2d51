//! The second look, just before an image boots.
//!
//! Everything that the boot decision rests on is read and compared once more: from the bytes in the
//! flash rather than from what was parsed, by other code than the first time, and into a [`Ledger`]
//! rather than by branches. So one disturbed instruction may turn the first answer or the second, and
//! nothing that is forged boots. Why: `docs/adr/0009-second-look-before-the-boot.md`.

use ecu_image::crypto::sha256;
use ecu_image::hardened::difference;
use ecu_image::signature::SignatureVerifier;
use ecu_image::{GRANT_LEN, GRANT_MACED_LEN, HEADER_LEN, ImageDigest, SIGNED_LEN};

use crate::boot::BootReason;
use crate::counter::MonotonicCounter;
use crate::flash::FlashRead;
use crate::head::{HEAD_LEN, metadata_address};
use crate::job::Core;
use crate::keys::{KeyStore, MacKeyId};
use crate::keyset;
use crate::layout::{METADATA_HEAD, SlotId};
use crate::ledger::{Ledger, Step};
use crate::machine::Storage;
use crate::platform::Platform;
use crate::state::{SEALED_CRASHES, SlotState, State};

/// Fields of grant and header by their offsets in `docs/spec/image.md`: parsing would be the code
/// that was used the first time.
mod at {
    use core::ops::Range;

    pub(super) const GRANT_SERIAL: Range<usize> = 8..40;
    pub(super) const GRANT_IMAGE: Range<usize> = 40..72;
    pub(super) const GRANT_FLAGS: usize = 80;
    pub(super) const HARDWARE: Range<usize> = 8..40;
    pub(super) const BLOCK: Range<usize> = 40..42;
    pub(super) const COUNTER: Range<usize> = 52..56;
    pub(super) const FLAGS: usize = 86;
    pub(super) const PLAINTEXT: Range<usize> = 144..176;
}

/// A field; an empty one differs from anything.
fn field(bytes: &[u8], range: core::ops::Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or(&[])
}

/// All ones where the lowest bit of the byte is clear: what a flag excuses, it masks.
fn unless_flag(bytes: &[u8], offset: usize) -> u32 {
    let flag = bytes.get(offset).copied().unwrap_or(0) & 1;
    u32::from(flag).wrapping_sub(1)
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// Looks at `slot` again; its image was the last one verified.
    pub(crate) fn look_again(&mut self, slot: SlotId, reason: BootReason) -> Ledger {
        let mut ledger = Ledger::open();
        let Some(state) = &self.state else {
            return ledger;
        };
        let (board, flash, keys) = self.platform.board_flash_keys();
        let recorded = self.journal.difference(&board.layout, state, flash, keys);
        ledger.take(Step::Journal, recorded);
        ledger.take(Step::Slot, slot_difference(state, slot, reason));
        self.look_at_image(&mut ledger, slot, reason);
        ledger
    }

    #[inline(never)]
    fn look_at_image(&mut self, ledger: &mut Ledger, slot: SlotId, reason: BootReason) {
        let Some(state) = &self.state else { return };
        let (head, scratch) = self.buffers.both_mut();
        // What lies here is what was read the first time.
        head.fill(0);
        scratch.fill(0);
        let Some(address) = metadata_address(self.platform.board(), slot, 0, METADATA_HEAD) else {
            return;
        };
        let Some(head) = head.get_mut(..HEAD_LEN) else {
            return;
        };
        let (_, flash, keys) = self.platform.board_flash_keys();
        if flash.read(address, head).is_err() {
            return;
        }
        let (grant, header) = head.split_at(GRANT_LEN.min(head.len()));
        let mac = keys.cmac(MacKeyId::Grant, field(grant, 0..GRANT_MACED_LEN));
        let found = difference(&mac, field(grant, GRANT_MACED_LEN..GRANT_LEN));
        ledger.take(Step::Grant, found);
        let board = self.platform.board();
        let found = difference(board.serial.as_field(), field(grant, at::GRANT_SERIAL));
        ledger.take(Step::Serial, found);
        let header = field(header, 0..HEADER_LEN);
        let digest = ImageDigest(sha256(&[field(header, 0..SIGNED_LEN)]).0);
        let granted = difference(digest.as_bytes(), field(grant, at::GRANT_IMAGE));
        let journaled = difference(digest.as_bytes(), state.digest(slot).as_bytes());
        ledger.take(Step::Image, granted | journaled);
        let hardware = difference(board.hardware_id.as_field(), field(header, at::HARDWARE));
        let block = board.logical_block.get().to_le_bytes();
        let block = difference(&block, field(header, at::BLOCK));
        ledger.take(Step::Hardware, hardware | block);
        // The factory image is authentic by its digest, which provisioning pinned.
        let pinned = difference(digest.as_bytes(), state.factory_digest.as_bytes());
        let pinned = pinned | u32::from(slot.number());
        let signed = self.platform.signatures().difference(&digest);
        ledger.take(Step::Signature, signed.min(pinned));
        let keys = keyset::difference(&mut self.platform, state.key_set.as_ref(), scratch);
        ledger.take(Step::KeySet, keys.min(pinned));
        let measured = self.measured.as_ref().map_or(&[][..], |it| it.as_bytes());
        let found = difference(measured, field(header, at::PLAINTEXT));
        ledger.take(Step::Payload, found);
        let counter = number(field(header, at::COUNTER));
        let mut excused = unless_flag(grant, at::GRANT_FLAGS);
        if slot == SlotId::Factory && reason == BootReason::LimpHome {
            excused &= unless_flag(header, at::FLAGS);
        }
        let floor = self.platform.counter().read();
        ledger.take(Step::Floor, below(counter, state.floor.0) & excused);
        ledger.take(Step::Counter, below(counter, floor.0) & excused);
    }
}

/// A counter in four bytes; anything else is below any.
fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

/// All ones where `counter` is below `floor`: the borrow of a subtraction.
#[inline(never)]
pub(crate) fn below(counter: u32, floor: u32) -> u32 {
    let (_, borrow) = counter.overflowing_sub(floor);
    u32::from(borrow).wrapping_neg()
}

/// Zero where the journal lets `slot` boot for `reason`.
fn slot_difference(state: &State, slot: SlotId, reason: BootReason) -> u32 {
    let found = state.slot(slot).state as u32;
    if reason == BootReason::Trial {
        return found ^ SlotState::Trial as u32;
    }
    // What boots outside a trial is what the journal calls confirmed; limp-home also beside one that
    // keeps crashing.
    let mut confirmed = u32::from(state.confirmed.number() ^ slot.number());
    if slot == SlotId::Factory && reason == BootReason::LimpHome {
        confirmed &= below(state.crashes.into(), SEALED_CRASHES.into());
    }
    let boots = match slot {
        SlotId::Factory => 0,
        SlotId::A | SlotId::B => {
            (found ^ SlotState::Healthy as u32).min(found ^ SlotState::Sealed as u32)
        }
    };
    confirmed | boots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::SlotRecord;
    use SlotState::{Empty, Healthy, Receiving, Rejected, Sealed, Staged, Trial};
    use ecu_image::SecurityCounter;

    #[test]
    fn a_counter_is_below_the_floor_or_not() {
        let found = |counter: u32, floor| below(number(&counter.to_le_bytes()), floor);
        for (counter, floor) in [(0, 0), (5, 5), (6, 5), (u32::MAX, 0), (1 << 31, 1)] {
            assert_eq!(found(counter, floor), 0, "{counter} over {floor}");
        }
        for (counter, floor) in [(0, 1), (4, 5), (0, u32::MAX), (1, 1 << 31)] {
            assert_eq!(found(counter, floor), u32::MAX, "{counter} below {floor}");
        }
        assert_eq!(below(number(&[]), 1), u32::MAX);
    }

    #[test]
    fn a_flag_excuses_only_where_it_is_set() {
        assert_eq!(unless_flag(&[0, 1], 1), 0);
        assert_eq!(unless_flag(&[0, 0xFE], 1), u32::MAX);
        assert_eq!(unless_flag(&[], 1), u32::MAX);
    }

    #[test]
    fn the_journal_lets_the_confirmed_slot_boot_or_the_one_on_trial() {
        let with = |confirmed, state| {
            let record = SlotRecord {
                state,
                ..SlotRecord::EMPTY
            };
            let mut all = State::provisioned(ImageDigest::ZERO, SecurityCounter(1));
            all.confirmed = confirmed;
            all.set_slot(SlotId::A, record);
            all
        };
        let boots = |state: &State, slot, reason| slot_difference(state, slot, reason) == 0;
        for found in [Empty, Receiving, Staged, Trial, Healthy, Sealed, Rejected] {
            let confirmed = with(SlotId::A, found);
            let may = matches!(found, Healthy | Sealed);
            assert_eq!(boots(&confirmed, SlotId::A, BootReason::Normal), may);
            let other = with(SlotId::Factory, found);
            assert!(!boots(&other, SlotId::A, BootReason::Normal), "{found:?}");
            assert!(boots(&other, SlotId::Factory, BootReason::LimpHome));
            let trial = boots(&other, SlotId::A, BootReason::Trial);
            assert_eq!(trial, found == Trial);
        }
    }
}

//! What the ECU remembers over a reset: one value, written whole with every journal record.
//!
//! ```text
//!            metadata            pages, 31 0202       31 0210           self-test        31 0212
//!   empty ───────────▶ receiving ─────────────▶ staged ───────▶ trial ───────────▶ healthy ───────▶ sealed
//!     ▲                    │ 31 0213              │               │ crash, hang,      │ 31 0213,       │
//!     └────────────────────┴──────────────────────┘               │ failed test,      │ crashes        │
//!                                                                 │ attempts, 0213    ▼                │
//!                                                                 └─────────────▶ rejected             │
//!   receiving ◀────────────────── metadata of another image, slot not confirmed ◀─────┴────────────────┘
//! ```
//!
//! `confirmed` is the slot that boots when nothing is on trial; it is never erased.

use ecu_image::{Digest, ImageDigest, KeySetVersion, SecurityCounter, SequenceNumber};

use crate::bytes::{field, part, put};
use crate::layout::{KeySetArea, SlotId};

/// Bytes of an encoded state.
pub const STATE_LEN: usize = 224;
/// Zeros at the end of an encoded state.
const STATE_FILL: usize = 8;
/// How often an activated image may be started before it must have confirmed itself.
pub const TRIAL_ATTEMPTS: u8 = 3;
/// Abnormal resets in a row, without a passed self-test between them, that reject a healthy image.
pub const HEALTHY_CRASHES: u8 = 3;
/// Abnormal resets in a row after which a sealed image gives way to another that may boot.
pub const SEALED_CRASHES: u8 = 8;
/// Abnormal resets after which not even limp-home is tried; they are counted no further.
pub const LIMP_HOME_CRASHES: u8 = 2 * SEALED_CRASHES;
/// How often one grant may erase.
pub const ERASES_PER_GRANT: u8 = 9;

/// State of an update slot; the numbers are those of FD01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlotState {
    /// Nothing that could boot.
    #[default]
    Empty = 0,
    /// An accepted grant fills it.
    Receiving = 1,
    /// Complete and checked; does not boot.
    Staged = 2,
    /// Boots until its attempts are used up.
    Trial = 3,
    /// Its self-test passed.
    Healthy = 4,
    /// The floor has risen to it.
    Sealed = 5,
    /// Failed or reverted; does not boot.
    Rejected = 6,
}

impl SlotState {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Empty,
            1 => Self::Receiving,
            2 => Self::Staged,
            3 => Self::Trial,
            4 => Self::Healthy,
            5 => Self::Sealed,
            6 => Self::Rejected,
            _ => return None,
        })
    }

    /// Whether the slot may boot outside a trial.
    #[must_use]
    pub const fn boots(self) -> bool {
        matches!(self, Self::Healthy | Self::Sealed)
    }
}

/// What is remembered of an update slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRecord {
    /// Where it is in its life.
    pub state: SlotState,
    /// The image in it, zero where there is none.
    pub digest: ImageDigest,
    /// The image's security counter.
    pub counter: SecurityCounter,
}

impl SlotRecord {
    /// A slot without an image.
    pub const EMPTY: Self = Self {
        state: SlotState::Empty,
        digest: ImageDigest::ZERO,
        counter: SecurityCounter(0),
    };
}

/// How far the download into the receiving slot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// No download.
    #[default]
    None = 0,
    /// Grant and header are accepted, metadata is being written.
    MetadataBegun = 1,
    /// Grant, header and table are stored.
    Metadata = 2,
    /// An erase of the image's pages was begun, perhaps not completed.
    EraseBegun = 3,
    /// The image's pages were erased completely and are being filled.
    Erased = 4,
}

impl Progress {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::MetadataBegun,
            2 => Self::Metadata,
            3 => Self::EraseBegun,
            4 => Self::Erased,
            _ => return None,
        })
    }
}

/// Pages of the receiving slot that are erased again before a transfer goes on after a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frontier {
    /// The first page that is not surely durable; the first of a sector.
    pub from: u16,
    /// The page after the last that may have been begun.
    pub until: u16,
}

/// How the confirmed slot came to be the one that boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// Provisioned or confirmed.
    #[default]
    Regular = 0,
    /// The slot after it failed or was reverted.
    FellBack = 1,
}

/// The key set in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySetRecord {
    /// Where it lies.
    pub area: KeySetArea,
    /// Its version; older or equal ones are refused.
    pub version: KeySetVersion,
    /// SHA-256 of its signed part: what lies there is believed only with this digest.
    pub digest: Digest,
}

/// Everything the ECU remembers over a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The slot that boots when nothing is on trial.
    pub confirmed: SlotId,
    /// The update slot to fall back to before the factory image.
    pub previous: Option<SlotId>,
    /// How `confirmed` came to be.
    pub origin: Origin,
    /// Trial boots left.
    pub attempts_left: u8,
    /// Abnormal resets of the confirmed image since its self-test last passed.
    pub crashes: u8,
    /// Erases left under the accepted grant.
    pub erases_left: u8,
    /// Download into the receiving slot.
    pub progress: Progress,
    /// The floor that sealing ordered; the monotonic counter follows it.
    pub floor: SecurityCounter,
    /// An erase within the receiving slot that was begun, perhaps not completed.
    pub frontier: Option<Frontier>,
    /// Sequence of the last accepted grant.
    pub grant_sequence: SequenceNumber,
    /// The image of the last accepted grant.
    pub grant_digest: ImageDigest,
    /// Update slot A.
    pub a: SlotRecord,
    /// Update slot B; stays empty where the ECU has none.
    pub b: SlotRecord,
    /// The factory image, pinned at provisioning.
    pub factory_digest: ImageDigest,
    /// F15A: date and tester of the last programming.
    pub fingerprint: [u8; 10],
    /// The key set in use; `None` where none was provisioned.
    pub key_set: Option<KeySetRecord>,
    /// Blocks of SecurityAccess attempts reserved since the last right key (see [`crate::access`]).
    pub access_blocks: u8,
}

impl State {
    /// What an ECU that was not provisioned would say. No constant: zeros are written, not copied
    /// from flash.
    #[inline(never)]
    pub(crate) const fn none() -> Self {
        Self::provisioned(ImageDigest::ZERO, SecurityCounter(0))
    }

    /// The state after provisioning.
    #[must_use]
    pub const fn provisioned(factory_digest: ImageDigest, floor: SecurityCounter) -> Self {
        Self {
            confirmed: SlotId::Factory,
            previous: None,
            origin: Origin::Regular,
            attempts_left: 0,
            crashes: 0,
            erases_left: 0,
            progress: Progress::None,
            floor,
            frontier: None,
            grant_sequence: SequenceNumber(0),
            grant_digest: ImageDigest::ZERO,
            a: SlotRecord::EMPTY,
            b: SlotRecord::EMPTY,
            factory_digest,
            fingerprint: [0; 10],
            key_set: None,
            access_blocks: 0,
        }
    }

    /// The record of an update slot; an empty one for the factory slot.
    #[must_use]
    #[inline(never)]
    pub const fn slot(&self, id: SlotId) -> &SlotRecord {
        match id {
            SlotId::Factory => &SlotRecord::EMPTY,
            SlotId::A => &self.a,
            SlotId::B => &self.b,
        }
    }

    /// The record of an update slot, to be changed.
    #[inline(never)]
    pub const fn slot_mut(&mut self, id: SlotId) -> Option<&mut SlotRecord> {
        match id {
            SlotId::Factory => None,
            SlotId::A => Some(&mut self.a),
            SlotId::B => Some(&mut self.b),
        }
    }

    /// Changes an update slot's state.
    #[inline(never)]
    pub(crate) const fn set_slot_state(&mut self, id: SlotId, state: SlotState) {
        if let Some(record) = self.slot_mut(id) {
            record.state = state;
        }
    }

    /// Changes an update slot's record.
    pub(crate) const fn set_slot(&mut self, id: SlotId, record: SlotRecord) {
        if let Some(place) = self.slot_mut(id) {
            *place = record;
        }
    }

    /// The update slot in this state.
    #[must_use]
    #[inline(never)]
    pub fn find(&self, state: SlotState) -> Option<SlotId> {
        SlotId::UPDATE
            .iter()
            .copied()
            .find(|id| self.slot(*id).state == state)
    }

    /// The digest of the image that a slot should hold.
    #[must_use]
    #[inline(never)]
    pub const fn digest(&self, id: SlotId) -> &ImageDigest {
        match id {
            SlotId::Factory => &self.factory_digest,
            SlotId::A => &self.a.digest,
            SlotId::B => &self.b.digest,
        }
    }

    /// The bytes of this state.
    #[must_use]
    pub fn encode(&self) -> [u8; STATE_LEN] {
        let mut bytes = [0; STATE_LEN];
        self.write(&mut bytes);
        bytes
    }

    /// Writes the bytes of this state.
    #[inline(never)]
    pub(crate) fn write(&self, bytes: &mut [u8; STATE_LEN]) {
        let (from, until) = self
            .frontier
            .map_or((0, 0), |frontier| (frontier.from, frontier.until));
        let small = [
            self.confirmed.number(),
            self.previous.map_or(0xFF, SlotId::number),
            self.origin as u8,
            self.attempts_left,
            self.crashes,
            self.erases_left,
            self.progress as u8,
            0,
        ];
        bytes.fill(0);
        put(bytes, 0, &small);
        put(bytes, 8, &self.floor.0.to_le_bytes());
        put(bytes, 12, &from.to_le_bytes());
        put(bytes, 14, &until.to_le_bytes());
        put(bytes, 16, &self.grant_sequence.0.to_le_bytes());
        put(bytes, 24, &self.grant_digest.0);
        self.a.write(part(bytes, 56));
        self.b.write(part(bytes, 96));
        put(bytes, 136, &self.factory_digest.0);
        put(bytes, 168, &self.fingerprint);
        if let Some(set) = &self.key_set {
            put(bytes, 178, &[set.area as u8]);
            put(bytes, 179, &set.version.0.to_le_bytes());
            put(bytes, 183, &set.digest.0);
        }
        put(bytes, 215, &[self.access_blocks]);
    }

    /// The state of these bytes; `None` for bytes that [`State::encode`] does not make.
    #[must_use]
    pub fn decode(bytes: &[u8; STATE_LEN]) -> Option<Self> {
        let mut state = Self::none();
        state.read(bytes).map(|()| state)
    }

    /// Becomes the state of these bytes; after `None` it means nothing.
    #[inline(never)]
    pub(crate) fn read(&mut self, bytes: &[u8; STATE_LEN]) -> Option<()> {
        let [
            confirmed,
            previous,
            origin,
            attempts,
            crashes,
            erases,
            progress,
            zero,
        ] = *field(bytes, 0);
        self.confirmed = SlotId::from_number(confirmed)?;
        self.previous = match previous {
            0xFF => None,
            number => Some(SlotId::from_number(number).filter(|id| *id != SlotId::Factory)?),
        };
        self.origin = match origin {
            0 => Origin::Regular,
            1 => Origin::FellBack,
            _ => return None,
        };
        self.attempts_left = attempts;
        self.crashes = crashes;
        self.erases_left = erases;
        self.progress = Progress::from_number(progress)?;
        self.floor.0 = u32::from_le_bytes(*field(bytes, 8));
        let from = u16::from_le_bytes(*field(bytes, 12));
        let until = u16::from_le_bytes(*field(bytes, 14));
        self.frontier = match (from, until) {
            (0, 0) => None,
            _ if from < until => Some(Frontier { from, until }),
            _ => return None,
        };
        self.grant_sequence.0 = u64::from_le_bytes(*field(bytes, 16));
        self.grant_digest.0 = *field(bytes, 24);
        self.a.read(field(bytes, 56))?;
        self.b.read(field(bytes, 96))?;
        self.factory_digest.0 = *field(bytes, 136);
        self.fingerprint = *field(bytes, 168);
        let set: &[u8; 37] = field(bytes, 178);
        self.key_set = match *field(set, 0) {
            [0] if *set == [0; 37] => None,
            [area] => Some(KeySetRecord {
                area: KeySetArea::from_number(area)?,
                version: KeySetVersion(u32::from_le_bytes(*field(set, 1))),
                digest: Digest(*field(set, 5)),
            }),
        };
        let [access_blocks] = *field(bytes, 215);
        self.access_blocks = access_blocks;
        (zero == 0 && *field(bytes, 216) == [0; STATE_FILL]).then_some(())
    }
}

impl SlotRecord {
    #[inline(never)]
    fn write(&self, bytes: Option<&mut [u8; 40]>) {
        let Some(bytes) = bytes else { return };
        put(bytes, 0, &[self.state as u8]);
        put(bytes, 4, &self.counter.0.to_le_bytes());
        put(bytes, 8, &self.digest.0);
    }

    #[inline(never)]
    fn read(&mut self, bytes: &[u8; 40]) -> Option<()> {
        let [state, zeros @ ..] = *field::<4, 40>(bytes, 0);
        self.state = SlotState::from_number(state)?;
        self.counter.0 = u32::from_le_bytes(*field(bytes, 4));
        self.digest.0 = *field(bytes, 8);
        (zeros == [0; 3]).then_some(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot_record() -> impl Strategy<Value = SlotRecord> {
        (0..=6u8, any::<[u8; 32]>(), any::<u32>()).prop_map(|(state, digest, counter)| SlotRecord {
            state: SlotState::from_number(state).unwrap(),
            digest: ImageDigest(digest),
            counter: SecurityCounter(counter),
        })
    }

    prop_compose! {
        pub(crate) fn state()(
            numbers in (0..=2u8, 0..=2u8, any::<bool>(), any::<[u8; 3]>(), 0..=4u8),
            floor: u32,
            frontier in prop::option::of((0..2047u16, 1..100u16)),
            sequence: u64,
            digests in any::<[[u8; 32]; 2]>(),
            a in slot_record(),
            b in slot_record(),
            fingerprint: [u8; 10],
            key_set in prop::option::of((any::<bool>(), any::<u32>(), any::<[u8; 32]>())),
            access_blocks: u8,
        ) -> State {
            let (confirmed, previous, fell_back, [attempts_left, crashes, erases_left], progress) = numbers;
            State {
                confirmed: SlotId::from_number(confirmed).unwrap(),
                previous: SlotId::from_number(previous).filter(|id| *id != SlotId::Factory),
                origin: if fell_back { Origin::FellBack } else { Origin::Regular },
                attempts_left,
                crashes,
                erases_left,
                progress: Progress::from_number(progress).unwrap(),
                floor: SecurityCounter(floor),
                frontier: frontier.map(|(from, len)| Frontier { from, until: from + len }),
                grant_sequence: SequenceNumber(sequence),
                grant_digest: ImageDigest(digests[0]),
                a,
                b,
                factory_digest: ImageDigest(digests[1]),
                fingerprint,
                key_set: key_set.map(|(first, version, digest)| KeySetRecord {
                    area: if first { KeySetArea::First } else { KeySetArea::Second },
                    version: KeySetVersion(version),
                    digest: Digest(digest),
                }),
                access_blocks,
            }
        }
    }

    proptest! {
        #[test]
        fn a_state_survives(state in state()) {
            prop_assert_eq!(State::decode(&state.encode()), Some(state));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(mut bytes in prop::collection::vec(0..=2u8, STATE_LEN)) {
            bytes[7] = 0;
            let bytes: [u8; STATE_LEN] = bytes.try_into().unwrap();
            if let Some(state) = State::decode(&bytes) {
                prop_assert_eq!(state.encode(), bytes);
            }
        }
    }
}

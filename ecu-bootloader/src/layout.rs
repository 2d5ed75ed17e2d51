//! Where things lie in flash: the journal and the slots, on sector boundaries, without overlap.
//!
//! A [`Layout`] can only be made by [`Layout::new`], which checks the geometry; as a `const` it is
//! checked when the board is compiled. Byte offsets are in `docs/spec/bootloader.md`.

use core::fmt;

/// Bytes of grant and header at the beginning of a slot's metadata area, rounded up.
pub const METADATA_HEAD: u32 = 2048;
/// Bytes of one page-table page.
pub const TABLE_PAGE: u32 = 4096;
/// Bytes that each key-set area has at least: the longest key set.
pub const KEY_SET_AREA: u32 = 4096;

/// A slot. The numbers are those of FD00 and FD01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotId {
    /// Written at provisioning, never by an update.
    Factory = 0,
    /// First update slot.
    A = 1,
    /// Second update slot.
    B = 2,
}

impl SlotId {
    /// The update slots.
    pub const UPDATE: &[Self] = &[Self::A, Self::B];

    /// The slot's number, as in FD00 and FD01.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The slot of this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Factory),
            1 => Some(Self::A),
            2 => Some(Self::B),
            _ => None,
        }
    }
}

/// One of the two areas of key sets. The numbers are those of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeySetArea {
    /// Written at provisioning.
    First = 1,
    /// Written by the first update.
    Second = 2,
}

impl KeySetArea {
    /// The area of this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::First),
            2 => Some(Self::Second),
            _ => None,
        }
    }

    /// The area that the next update writes.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

impl From<SlotId> for ecu_image::Slot {
    fn from(id: SlotId) -> Self {
        match id {
            SlotId::Factory => Self::Factory,
            SlotId::A => Self::A,
            SlotId::B => Self::B,
        }
    }
}

/// A run of whole, equal sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub address: u32,
    /// Length in bytes, a multiple of `sector`.
    pub len: u32,
    /// The erase unit in bytes, a power of two.
    pub sector: u32,
}

impl Region {
    /// The address one past the end.
    const fn end(self) -> u64 {
        (self.address as u64).saturating_add(self.len as u64)
    }

    const fn is_sound(self, program: u32) -> bool {
        self.sector.is_power_of_two()
            && self.sector >= program
            && self.len > 0
            && self.len.is_multiple_of(self.sector)
            && self.address.is_multiple_of(self.sector)
            && self.end() <= u32::MAX as u64
    }

    const fn overlaps(self, other: Self) -> bool {
        (self.address as u64) < other.end() && (other.address as u64) < self.end()
    }

    /// The part of `len` bytes at `offset`, or `None` where it does not lie inside.
    #[must_use]
    pub fn address_of(self, offset: u32, len: u32) -> Option<u32> {
        let end = offset.checked_add(len)?;
        if end > self.len {
            return None;
        }
        self.address.checked_add(offset)
    }
}

/// One slot: where its grant, header and table are, and where its plaintext is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Grant and header ([`METADATA_HEAD`] bytes), then the table pages.
    pub metadata: Region,
    /// The plaintext pages.
    pub payload: Region,
}

impl Slot {
    /// How many table pages fit into the metadata area.
    #[must_use]
    pub const fn table_pages(self) -> u32 {
        self.metadata.len.saturating_sub(METADATA_HEAD) / TABLE_PAGE
    }
}

/// The flash map of one ECU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    program: u32,
    journal: [Region; 2],
    key_sets: [Region; 2],
    /// By number; without B, A in its place.
    slots: [Slot; 3],
    two_update_slots: bool,
}

/// What is wrong with a flash map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutError {
    /// The program unit is not a power of two between 1 and 256.
    ProgramUnit,
    /// A region is empty, not on sector boundaries, or its sector is no power of two.
    Region,
    /// A journal half is not one sector, or holds fewer than four records.
    Journal,
    /// A key-set area does not hold [`KEY_SET_AREA`] bytes.
    KeySet,
    /// A metadata area does not hold the head and one table page.
    Metadata,
    /// Two regions overlap.
    Overlap,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProgramUnit => "the program unit is not a power of two between 1 and 256 bytes",
            Self::Region => "a region is empty or does not consist of whole sectors",
            Self::Journal => "a journal half is not one sector of at least four records",
            Self::KeySet => "a key-set area is smaller than 4096 bytes",
            Self::Metadata => "a metadata area is too small for a header and one table page",
            Self::Overlap => "two regions overlap",
        })
    }
}

impl core::error::Error for LayoutError {}

impl Layout {
    /// A checked flash map. `program` is the program unit in bytes; without `b` the ECU has the
    /// factory slot and one update slot.
    ///
    /// # Errors
    /// What [`LayoutError`] says.
    pub const fn new(
        program: u32,
        journal: [Region; 2],
        key_sets: [Region; 2],
        factory: Slot,
        a: Slot,
        b: Option<Slot>,
    ) -> Result<Self, LayoutError> {
        if !program.is_power_of_two() || program > 256 {
            return Err(LayoutError::ProgramUnit);
        }
        // Without B its place is taken by A, which is then compared with itself and skipped.
        let last = match b {
            Some(b) => b,
            None => a,
        };
        let [first, second] = journal;
        let [first_keys, second_keys] = key_sets;
        let regions = [
            first,
            second,
            first_keys,
            second_keys,
            factory.metadata,
            factory.payload,
            a.metadata,
            a.payload,
            last.metadata,
            last.payload,
        ];
        let used = if b.is_some() { 10 } else { 8 };
        if let Err(error) = check_regions(&regions, used, program) {
            return Err(error);
        }
        let stride = crate::journal::stride(program);
        if first.len != first.sector
            || second.len != second.sector
            || first.len != second.len
            || first.len < stride.saturating_mul(4)
        {
            return Err(LayoutError::Journal);
        }
        if first_keys.len < KEY_SET_AREA || second_keys.len < KEY_SET_AREA {
            return Err(LayoutError::KeySet);
        }
        if factory.table_pages() == 0 || a.table_pages() == 0 || last.table_pages() == 0 {
            return Err(LayoutError::Metadata);
        }
        Ok(Self {
            program,
            journal,
            key_sets,
            slots: [factory, a, last],
            two_update_slots: b.is_some(),
        })
    }

    /// The program unit in bytes.
    #[must_use]
    pub const fn program_unit(&self) -> u32 {
        self.program
    }

    /// The two journal sectors.
    #[must_use]
    pub const fn journal(&self) -> [Region; 2] {
        self.journal
    }

    /// An area for key sets.
    #[must_use]
    pub const fn key_set(&self, area: KeySetArea) -> Region {
        let [first, second] = self.key_sets;
        match area {
            KeySetArea::First => first,
            KeySetArea::Second => second,
        }
    }

    /// A slot; `None` for B where the ECU has one update slot.
    #[must_use]
    pub fn slot(&self, id: SlotId) -> Option<Slot> {
        let there = id != SlotId::B || self.two_update_slots;
        let slot = self.slots.get(usize::from(id.number()));
        slot.filter(|_| there).copied()
    }

    /// Whether there are two update slots.
    #[must_use]
    pub const fn has_b(&self) -> bool {
        self.two_update_slots
    }

    /// A map of equal slots from `base` on, everything packed: journal, key sets, then factory, A and B with
    /// `payload` bytes each. For boards with one uniform flash, and for tests.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub const fn uniform(
        base: u32,
        sector: u32,
        program: u32,
        table_pages: u32,
        payload: u32,
        two_update_slots: bool,
    ) -> Result<Self, LayoutError> {
        if !sector.is_power_of_two() || table_pages > 16 || payload > 1 << 28 {
            return Err(LayoutError::Region);
        }
        let head = METADATA_HEAD.saturating_add(table_pages.saturating_mul(TABLE_PAGE));
        let metadata = head.next_multiple_of(sector);
        let payload = payload.next_multiple_of(sector);
        let keys = KEY_SET_AREA.next_multiple_of(sector);
        let mut at = base;
        let [j0, j1, k0, k1, fm, fp, am, ap, bm, bp] = {
            let lens = [
                sector, sector, keys, keys, metadata, payload, metadata, payload, metadata, payload,
            ];
            let mut out = [Region {
                address: 0,
                len: sector,
                sector,
            }; 10];
            // `const` code has no iterators; the arrays have the same fixed length.
            let mut rest: &[u32] = &lens;
            let mut slots: &mut [Region] = &mut out;
            while let (Some((len, lens)), Some((region, more))) =
                (rest.split_first(), slots.split_first_mut())
            {
                *region = Region {
                    address: at,
                    len: *len,
                    sector,
                };
                at = at.saturating_add(*len);
                rest = lens;
                slots = more;
            }
            out
        };
        let b = Slot {
            metadata: bm,
            payload: bp,
        };
        Self::new(
            program,
            [j0, j1],
            [k0, k1],
            Slot {
                metadata: fm,
                payload: fp,
            },
            Slot {
                metadata: am,
                payload: ap,
            },
            if two_update_slots { Some(b) } else { None },
        )
    }
}

/// Checks the first `used` regions for soundness and overlap.
const fn check_regions(regions: &[Region], mut used: u32, program: u32) -> Result<(), LayoutError> {
    let mut rest = regions;
    while let Some((region, others)) = rest.split_first() {
        if used == 0 {
            break;
        }
        if !region.is_sound(program) {
            return Err(LayoutError::Region);
        }
        used = used.saturating_sub(1);
        let mut tail = others;
        let mut left = used;
        while let Some((other, more)) = tail.split_first() {
            if left == 0 {
                break;
            }
            if region.overlaps(*other) {
                return Err(LayoutError::Overlap);
            }
            left = left.saturating_sub(1);
            tail = more;
        }
        rest = others;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(address: u32, len: u32) -> Region {
        Region {
            address,
            len,
            sector: 4096,
        }
    }

    fn slot(address: u32) -> Slot {
        Slot {
            metadata: region(address, 8192),
            payload: region(address + 8192, 65536),
        }
    }

    fn journal() -> [Region; 2] {
        [region(0, 4096), region(4096, 4096)]
    }

    fn key_sets() -> [Region; 2] {
        [region(0x8_0000, 4096), region(0x8_1000, 4096)]
    }

    #[test]
    fn a_packed_map_is_sound_at_compile_time() {
        const MAP: Layout = match Layout::uniform(0x0800_0000, 4096, 8, 1, 65536, true) {
            Ok(map) => map,
            Err(_) => panic!(),
        };
        assert_eq!(MAP.slot(SlotId::B).unwrap().table_pages(), 1);
        assert_eq!(
            MAP.slot(SlotId::Factory).unwrap().metadata.address,
            0x0800_4000
        );
    }

    #[test]
    fn overlap_and_misalignment_are_refused() {
        let check =
            |journal, b| Layout::new(8, journal, key_sets(), slot(0x2000), slot(0x20000), b);
        assert!(check(journal(), Some(slot(0x40000))).is_ok());
        assert!(check(journal(), None).is_ok());
        assert_eq!(
            check(journal(), Some(slot(0x2_1000))),
            Err(LayoutError::Overlap)
        );
        assert_eq!(
            check([region(0, 4096), region(0, 4096)], None),
            Err(LayoutError::Overlap)
        );
        assert_eq!(
            check([region(7, 4096), region(4096, 4096)], None),
            Err(LayoutError::Region)
        );
        assert_eq!(
            check([region(0xF_0000, 8192), region(0xF_2000, 8192)], None),
            Err(LayoutError::Journal)
        );
        assert_eq!(
            Layout::new(3, journal(), key_sets(), slot(0x2000), slot(0x20000), None),
            Err(LayoutError::ProgramUnit)
        );
        let keys = |areas| Layout::new(8, journal(), areas, slot(0x2000), slot(0x20000), None);
        let [first, second] = key_sets();
        assert_eq!(keys([first, first]), Err(LayoutError::Overlap));
        let small = Region {
            len: 2048,
            sector: 2048,
            ..second
        };
        assert_eq!(keys([first, small]), Err(LayoutError::KeySet));
    }

    #[test]
    fn a_part_outside_a_region_has_no_address() {
        let region = region(4096, 4096);
        assert_eq!(region.address_of(0, 4096), Some(4096));
        assert_eq!(region.address_of(1, 4096), None);
        assert_eq!(region.address_of(u32::MAX, 2), None);
    }
}

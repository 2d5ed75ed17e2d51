//! Where entries lie, and what a piece of flash there holds.

use super::record::RECORD_LEN;
use crate::flash::FlashRead;
use crate::layout::{Layout, Region};

/// Bytes from one entry to the next: the record and its witness, in whole program units.
#[must_use]
pub const fn stride(program: u32) -> u32 {
    RECORD_LEN.saturating_add(witness_len(program))
}

/// One program unit, at least 16 bytes so that a single disturbed bit stays improbable.
pub(super) const fn witness_len(program: u32) -> u32 {
    if program < 16 { 16 } else { program }
}

/// One of the two sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    First,
    Second,
}

/// Both, in the order of their addresses.
pub(super) const HALVES: &[Half] = &[Half::First, Half::Second];

impl Half {
    /// The opposite one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// An entry of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) half: Half,
    pub(super) entry: u32,
}

/// How many entries a half holds.
pub(super) fn entries(layout: &Layout) -> u32 {
    let [first, _] = layout.journal();
    let stride = stride(layout.program_unit());
    first.len.checked_div(stride).unwrap_or(0)
}

/// The sector that is a half.
pub(super) fn region(layout: &Layout, half: Half) -> Region {
    let [first, second] = layout.journal();
    match half {
        Half::First => first,
        Half::Second => second,
    }
}

/// Where an entry lies.
#[inline(never)]
pub(super) fn address(layout: &Layout, place: Place) -> Option<u32> {
    let stride = stride(layout.program_unit());
    region(layout, place.half).address_of(place.entry.checked_mul(stride)?, stride)
}

/// The first entry of a half.
pub(super) const fn start(half: Half) -> Place {
    Place { half, entry: 0 }
}

/// Whether nothing was written at `place`, as it reads today.
pub(super) fn is_blank(layout: &Layout, place: Place, flash: &mut impl FlashRead) -> bool {
    let stride = stride(layout.program_unit());
    let address = address(layout, place);
    address.is_some_and(|at| content(flash, at, stride) == Content::Blank)
}

/// What a piece of flash holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// 0xFF alone.
    Blank,
    /// Zeros alone.
    Zero,
    /// Anything else, or what cannot be read.
    Other,
}

/// What these `len` bytes are.
#[inline(never)]
pub(super) fn content(flash: &mut impl FlashRead, address: u32, len: u32) -> Content {
    let mut bytes = [0; 16];
    let (mut any, mut all) = (0, 0xFF);
    // Entries and witnesses are multiples of 16 bytes.
    for at in (0..len).step_by(bytes.len()) {
        if flash.read(address.saturating_add(at), &mut bytes).is_err() {
            return Content::Other;
        }
        for byte in &bytes {
            any |= *byte;
            all &= *byte;
        }
    }
    match (any, all) {
        (_, 0xFF) => Content::Blank,
        (0, _) => Content::Zero,
        _ => Content::Other,
    }
}

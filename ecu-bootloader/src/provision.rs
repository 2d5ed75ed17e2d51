//! Provisioning, once, in the factory: the factory slot, the first key set and the first journal
//! record.
//!
//! Not part of the running bootloader: it takes the packed image whole and a function that performs
//! flash operations. The digests of image and key set are pinned in the journal.

use core::fmt;

use ecu_image::keyset::KeySet;
use ecu_image::{SequenceNumber, TABLE_PAGE_LEN};

use crate::flash::{FlashError, FlashOp};
use crate::head::{HEAD_LEN, Head, examine, fits, page_address, table_address};
use crate::journal;
use crate::keys::KeyStore;
use crate::layout::{KeySetArea, METADATA_HEAD, Region, SlotId};
use crate::platform::Board;
use crate::reason::{Failure, Reason};
use crate::state::{KeySetRecord, State};
use crate::verify::{TableCache, is_authentic};
use ecu_image::SecurityCounter;

/// Why an ECU was not provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisionError {
    /// Image, grant or key set are not for this ECU, or not intact.
    Image(Failure),
    /// The flash refused.
    Flash(FlashError),
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(failure) => {
                write!(f, "image, grant or key set refused: {:?}", failure.reason)
            }
            Self::Flash(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ProvisionError {}

impl From<FlashError> for ProvisionError {
    fn from(error: FlashError) -> Self {
        Self::Flash(error)
    }
}

impl From<Failure> for ProvisionError {
    fn from(failure: Failure) -> Self {
        Self::Image(failure)
    }
}

/// What the production line writes.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The packed factory image.
    pub image: &'a [u8],
    /// Its grant.
    pub grant: &'a [u8],
    /// The first key set.
    pub key_set: &'a [u8],
    /// The first floor.
    pub floor: SecurityCounter,
    /// Bytes of the ECU's page buffer, the `PAGE` of its memory: what does not fit there, page or key
    /// set, could be written, and never be read back.
    pub page_buffer: usize,
}

/// Writes factory slot and key set, then the first journal record. `scratch` holds a page, the key
/// set and at least [`METADATA_HEAD`] bytes. Signatures are the production line's to verify: what it
/// writes is pinned.
///
/// # Errors
/// The image is not for this ECU or damaged, or the flash refuses. It may be repeated.
pub fn provision(
    board: &Board,
    keys: &mut impl KeyStore,
    parts: &Parts<'_>,
    scratch: &mut [u8],
    mut perform: impl FnMut(FlashOp<'_>) -> Result<(), FlashError>,
) -> Result<(), ProvisionError> {
    let Parts { image, grant, .. } = *parts;
    let room = parts.page_buffer.min(scratch.len());
    let key_set = examine_key_set(board, parts.key_set, room)?;
    let head = stage_head(board, keys, (image, grant), room, scratch)?;
    let place = board
        .layout
        .slot(SlotId::Factory)
        .ok_or(Failure::new(Reason::HeaderSlot))?;
    let [first, second] = board.layout.journal();
    let [used, free] =
        [KeySetArea::First, KeySetArea::Second].map(|area| board.layout.key_set(area));
    for region in [first, second, used, free, place.metadata, place.payload] {
        erase(region, &mut perform)?;
    }
    let bytes = scratch
        .get(..usize_of(METADATA_HEAD))
        .ok_or(Failure::new(Reason::HeaderSize))?;
    perform(FlashOp::Program {
        address: place.metadata.address,
        bytes,
    })?;
    write_image(board, keys, &head, image, scratch, &mut perform)?;
    perform(FlashOp::Program {
        address: used.address,
        bytes: padded(key_set.signed_bytes(), board, scratch)?,
    })?;
    let mut state = State::provisioned(head.digest, parts.floor);
    state.key_set = Some(KeySetRecord {
        area: KeySetArea::First,
        version: key_set.version,
        digest: key_set.digest(),
    });
    state.grant_sequence = SequenceNumber(head.sequence.get());
    journal::initialise(&board.layout, &state, keys, &mut perform)?;
    Ok(())
}

fn examine_key_set<'a>(board: &Board, bytes: &'a [u8], room: usize) -> Result<KeySet<'a>, Failure> {
    let set = KeySet::parse(bytes)
        .map_err(|error| Failure::with(Reason::KeySetMalformed, error.offset))?;
    if set.hardware_id.is_some_and(|id| id != board.hardware_id) {
        return Err(Failure::new(Reason::KeySetHardware));
    }
    // Before anything is written.
    let unit = usize_of(board.layout.program_unit());
    match set.signed_bytes().len().checked_next_multiple_of(unit) {
        Some(len) if len <= room => Ok(set),
        _ => Err(Failure::with(Reason::KeySetMalformed, set.len())),
    }
}

/// The bytes in whole program units, in `scratch`.
fn padded<'s>(bytes: &[u8], board: &Board, scratch: &'s mut [u8]) -> Result<&'s [u8], Failure> {
    let bad = Failure::with(Reason::KeySetMalformed, bytes.len());
    let unit = usize_of(board.layout.program_unit());
    let len = bytes.len().checked_next_multiple_of(unit).ok_or(bad)?;
    let out = scratch.get_mut(..len).ok_or(bad)?;
    out.fill(0);
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    Ok(out)
}

/// Grant and header, examined, in `scratch`.
fn stage_head(
    board: &Board,
    keys: &mut impl KeyStore,
    (image, grant): (&[u8], &[u8]),
    room: usize,
    scratch: &mut [u8],
) -> Result<Head, Failure> {
    let short = Failure::new(Reason::MetadataLength);
    let header = image.get(..ecu_image::HEADER_LEN).ok_or(short)?;
    let out = scratch.get_mut(..usize_of(METADATA_HEAD)).ok_or(short)?;
    out.fill(0);
    if grant.len() != ecu_image::GRANT_LEN {
        return Err(short);
    }
    for (to, from) in out.iter_mut().zip(grant.iter().chain(header)) {
        *to = *from;
    }
    let bytes = out.get(..HEAD_LEN).unwrap_or(&[]);
    let mut head = Head::NONE;
    examine(&mut head, bytes, SlotId::Factory, room, (board, keys))?;
    fits(&head.header, SlotId::Factory, board)?;
    Ok(head)
}

/// Table pages, then every page: authenticated, decrypted, programmed.
fn write_image(
    board: &Board,
    keys: &mut impl KeyStore,
    head: &Head,
    image: &[u8],
    scratch: &mut [u8],
    perform: &mut impl FnMut(FlashOp<'_>) -> Result<(), FlashError>,
) -> Result<(), ProvisionError> {
    let layout = head.header.layout();
    let short = Failure::new(Reason::MetadataLength);
    let (_, rest) = image.split_at_checked(ecu_image::HEADER_LEN).ok_or(short)?;
    let (table, pages) = rest
        .split_at_checked(usize_of(layout.table_len()))
        .ok_or(short)?;
    if pages.len() != usize_of(layout.ciphertext_len()) {
        return Err(short.into());
    }
    let mut digests = TableCache::new();
    digests.begin(scratch);
    let (tables, _) = table.as_chunks::<TABLE_PAGE_LEN>();
    for (index, bytes) in (0..).zip(tables) {
        let bad = Failure::with(Reason::TablePage, index);
        if !digests.has_table(index, bytes) {
            return Err(bad.into());
        }
        let address = table_address(board, head.slot, index).ok_or(bad)?;
        perform(FlashOp::Program { address, bytes })?;
    }
    let (entries, _) = tables.as_flattened().as_chunks::<32>();
    for ((page, bytes), digest) in (0..).zip(pages.chunks(head.page_size())).zip(entries) {
        let bad = Failure::with(Reason::Page, page);
        if !is_authentic(bytes, digest) {
            return Err(bad.into());
        }
        let out = scratch.get_mut(..bytes.len()).ok_or(bad)?;
        out.copy_from_slice(bytes);
        keys.decrypt_page(&head.header.iv_seed(), page, out)
            .map_err(|_| Failure::new(Reason::GrantKey))?;
        let address = page_address(board, head, page).ok_or(bad)?;
        perform(FlashOp::Program {
            address,
            bytes: out,
        })?;
    }
    Ok(())
}

fn erase(
    region: Region,
    perform: &mut impl FnMut(FlashOp<'_>) -> Result<(), FlashError>,
) -> Result<(), FlashError> {
    let mut offset = 0;
    while let Some(address) = region.address_of(offset, region.sector) {
        perform(FlashOp::Erase {
            address,
            len: region.sector,
        })?;
        offset = offset.saturating_add(region.sector);
    }
    Ok(())
}

fn usize_of(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

//! Grant and header of an image, together: parsed, authenticated except for the signature, and
//! compared with what the ECU is.

use ecu_image::{
    GRANT_LEN, Grant, GrantView, HEADER_LEN, Header, HeaderView, ImageDigest, Offset, SIGNED_LEN,
    Salt, SequenceNumber, Summary,
};

use crate::flash::FlashRead;
use crate::keys::{KeyStore, MacKeyId};
use crate::layout::{METADATA_HEAD, SlotId, TABLE_PAGE};
use crate::platform::{Board, Platform};
use crate::reason::{Failure, Reason};

/// Bytes of grant and header, one after the other.
pub const HEAD_LEN: usize = GRANT_LEN + HEADER_LEN;

/// An image's grant and header. The grant is authentic and the content key is in the key store;
/// the signature is still to be verified, or the digest to be compared with the journal's.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) slot: SlotId,
    pub(crate) header: Summary,
    pub(crate) digest: ImageDigest,
    pub(crate) sequence: SequenceNumber,
    pub(crate) downgrade: bool,
    pub(crate) salt: Salt,
}

impl Head {
    /// Of no image.
    pub(crate) const NONE: Self = Self {
        slot: SlotId::Factory,
        header: Summary::NONE,
        digest: ImageDigest::ZERO,
        sequence: SequenceNumber(0),
        downgrade: false,
        salt: Salt([0; 16]),
    };

    /// Bytes of one page.
    pub(crate) fn page_size(&self) -> usize {
        self.header.layout().page_size().bytes()
    }

    pub(crate) fn page_count(&self) -> u32 {
        self.header.layout().page_count()
    }

    /// How many bytes of page `page` are plaintext rather than fill.
    pub(crate) fn plaintext_in(&self, page: u32) -> usize {
        let layout = self.header.layout();
        let rest = layout.payload_len().saturating_sub(layout.offset_of(page));
        usize::try_from(rest)
            .unwrap_or(usize::MAX)
            .min(self.page_size())
    }
}

/// What examining needs of an ECU.
pub(crate) trait Own {
    type Keys: KeyStore;
    fn board(&self) -> &Board;
    fn keys(&mut self) -> &mut Self::Keys;
}

impl<P: Platform> Own for &mut P {
    type Keys = P::Keys;

    fn board(&self) -> &Board {
        Platform::board(*self)
    }

    fn keys(&mut self) -> &mut P::Keys {
        Platform::keys(*self)
    }
}

impl<K: KeyStore> Own for (&Board, &mut K) {
    type Keys = K;

    fn board(&self) -> &Board {
        self.0
    }

    fn keys(&mut self) -> &mut K {
        self.1
    }
}

/// Examines grant and header, and makes `head` that of them. The grant comes first, then the header
/// that it names, then whether the image is for this ECU; the content key is unwrapped last.
pub(crate) fn examine(
    head: &mut Head,
    bytes: &[u8],
    slot: SlotId,
    page_limit: usize,
    mut own: impl Own,
) -> Result<(), Failure> {
    let short = Failure::new(Reason::MetadataLength);
    let (grant, rest) = bytes.split_first_chunk::<GRANT_LEN>().ok_or(short)?;
    let (header, _) = rest.split_first_chunk::<HEADER_LEN>().ok_or(short)?;
    let granted = examine_grant(grant, &mut own)?;
    let view = HeaderView::parse(header)
        .map_err(|Offset(at)| Failure::with(Reason::HeaderMalformed, at))?;
    head.digest = Header::digest_of(header);
    if *granted.image_digest() != head.digest.0 {
        return Err(Failure::new(Reason::GrantImage));
    }
    head.slot = slot;
    head.header.read(view);
    head.sequence = granted.sequence();
    head.downgrade = granted.downgrade();
    suits(head, view, page_limit, own.board())?;
    let wrapped = granted.wrapped_bytes();
    // Integrity value and salt are 24 bytes more than the key.
    let right_key = wrapped.len() == view.cipher().key_len().saturating_add(24);
    if !right_key || own.keys().unwrap(wrapped, &mut head.salt).is_err() {
        return Err(Failure::new(Reason::GrantKey));
    }
    Ok(())
}

#[inline(never)]
fn examine_grant<'g>(
    bytes: &'g [u8; GRANT_LEN],
    own: &mut impl Own,
) -> Result<GrantView<'g>, Failure> {
    let grant =
        GrantView::parse(bytes).map_err(|Offset(at)| Failure::with(Reason::GrantMalformed, at))?;
    let maced = Grant::maced_bytes(bytes);
    if !own.keys().cmac_verify(MacKeyId::Grant, maced, grant.mac()) {
        return Err(Failure::new(Reason::GrantMac));
    }
    if grant.ecu_serial() != own.board().serial.as_field() {
        return Err(Failure::new(Reason::GrantSerial));
    }
    Ok(grant)
}

/// Whether the image is for this kind of ECU.
fn suits(
    head: &Head,
    view: HeaderView<'_>,
    page_limit: usize,
    board: &Board,
) -> Result<(), Failure> {
    if view.hardware_id() != board.hardware_id.as_field() {
        return Err(Failure::new(Reason::HeaderHardware));
    }
    if view.logical_block() != board.logical_block {
        let block = view.logical_block().get();
        return Err(Failure::with(Reason::HeaderBlock, block));
    }
    if head.header.signature_len() == 256 && !board.allow_rsa_2048 {
        return Err(Failure::new(Reason::HeaderKey));
    }
    let page = head.header.layout().page_size();
    if page.bytes() > page_limit || page.get() < board.layout.program_unit() {
        return Err(Failure::with(Reason::HeaderSize, page.get()));
    }
    Ok(())
}

/// Whether the image is linked for the slot and fits into it.
#[inline(never)]
pub(crate) fn fits(header: &Summary, slot: SlotId, board: &Board) -> Result<(), Failure> {
    if !header.slots().contains(slot.into()) {
        return Err(Failure::with(Reason::HeaderSlot, header.slots().bits()));
    }
    let too_large = |bytes| Err(Failure::with(Reason::HeaderSize, bytes));
    let Some(place) = board.layout.slot(slot) else {
        return too_large(0);
    };
    if header.layout().ciphertext_len() > place.payload.len {
        return too_large(header.layout().ciphertext_len());
    }
    if u32::from(header.layout().table_page_count()) > place.table_pages() {
        return too_large(header.layout().table_len());
    }
    Ok(())
}

/// Reads and examines the stored head of a slot, and compares it with the journal's digest.
/// `scratch` holds at least [`HEAD_LEN`] bytes, and the head's afterwards.
#[inline(never)]
pub(crate) fn load<P: Platform>(
    head: &mut Head,
    platform: &mut P,
    slot: SlotId,
    expected: &ImageDigest,
    page_limit: usize,
    scratch: &mut [u8],
) -> Result<(), Failure> {
    let other = Failure::new(Reason::OtherImage);
    let address = metadata_address(platform.board(), slot, 0, METADATA_HEAD).ok_or(other)?;
    let bytes = scratch.get_mut(..HEAD_LEN).ok_or(other)?;
    platform
        .flash()
        .read(address, bytes)
        .map_err(|_| Failure::with(Reason::Flash, address))?;
    examine(head, bytes, slot, page_limit, &mut *platform)?;
    if head.digest != *expected {
        return Err(other);
    }
    fits(&head.header, slot, platform.board())
}

/// Reads the stored signature of a head into `out`, which is its length of that then.
#[inline(never)]
pub(crate) fn read_signature<'o, P: Platform>(
    platform: &mut P,
    head: &Head,
    out: &'o mut [u8],
) -> Result<&'o [u8], Failure> {
    let other = Failure::new(Reason::OtherImage);
    let len = head.header.signature_len();
    let out = out.get_mut(..len).ok_or(other)?;
    let address = metadata_address(platform.board(), head.slot, SIGNATURE_AT, 512).ok_or(other)?;
    platform
        .flash()
        .read(address, out)
        .map_err(|_| Failure::with(Reason::Flash, address))?;
    Ok(out)
}

/// Where the signature is in a slot's metadata area.
const SIGNATURE_AT: u32 = 1280;
const _: () = assert!(SIGNATURE_AT as usize == GRANT_LEN + SIGNED_LEN);

/// The address of `len` bytes at `offset` of a slot's metadata area.
#[inline(never)]
pub(crate) fn metadata_address(board: &Board, slot: SlotId, offset: u32, len: u32) -> Option<u32> {
    board.layout.slot(slot)?.metadata.address_of(offset, len)
}

/// The address of table page `index` of a slot.
#[inline(never)]
pub(crate) fn table_address(board: &Board, slot: SlotId, index: u16) -> Option<u32> {
    let offset = u32::from(index).wrapping_mul(TABLE_PAGE);
    metadata_address(board, slot, offset.wrapping_add(METADATA_HEAD), TABLE_PAGE)
}

/// The address of page `page` of a slot's payload.
#[inline(never)]
pub(crate) fn page_address(board: &Board, head: &Head, page: u32) -> Option<u32> {
    let layout = head.header.layout();
    if page >= layout.page_count() {
        return None;
    }
    let place = board.layout.slot(head.slot)?.payload;
    place.address_of(layout.offset_of(page), layout.page_size().get())
}

//! A header's bytes, checked and read where they lie.

use super::{
    Algorithm, Cipher, FORMAT_VERSION, HEADER_LEN, LIMP_HOME, Layout, MAGIC, SIGNED_LEN,
    SignatureLen, Summary,
};
use crate::error::{FieldError, Problem};
use crate::id::{Digest, LogicalBlock, PageSize, SlotSet, check_field};
use crate::table::TableDigests;
use crate::wire::{Fixed, Reader, check, some};

/// The bytes of a well-formed header, of which nothing is copied.
#[derive(Clone, Copy)]
pub struct HeaderView<'a>(Fixed<'a, HEADER_LEN>);

impl core::fmt::Debug for HeaderView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HeaderView(..)")
    }
}

impl<'a> HeaderView<'a> {
    /// Parses a header. Total, as [`Header::parse`](super::Header::parse).
    ///
    /// # Errors
    /// The first field that the specification does not allow.
    pub fn parse<E: FieldError>(bytes: &'a [u8; HEADER_LEN]) -> Result<Self, E> {
        let r = Fixed(bytes);
        parse_frame(r)?;
        let layout = parse_layout(r)?;
        let load_address = r.u64(56);
        let end = load_address.checked_add(u64::from(layout.ciphertext_len()));
        some(end, "load_address", 56, Problem::Range(load_address))?;
        let flags = r.u16(86);
        let unknown = |value: u16| Problem::Unknown(value.into());
        check(flags & !LIMP_HOME == 0, "flags", 86, unknown(flags))?;
        let text = |error| E::of("hardware_id", 8, Problem::Text(error));
        check_field(r.field(8)).map_err(text)?;
        let slots = SlotSet::from_bits(r.u16(42));
        some(slots, "slot_set", 42, unknown(r.u16(42)))?;
        let cipher = Cipher::from_code(r.u16(82));
        some(cipher, "cipher", 82, unknown(r.u16(82)))?;
        let algorithm = some(
            Algorithm::from_code(r.u16(84)),
            "signature_algorithm",
            84,
            unknown(r.u16(84)),
        )?;
        let signature_len = some(
            SignatureLen::new(algorithm, r.u16(210).into()),
            "signature_len",
            210,
            unknown(r.u16(210)),
        )?;
        parse_fill(bytes, layout, signature_len)?;
        Ok(Self(r))
    }

    /// The zero-filled field of [`Header::hardware_id`](super::Header::hardware_id).
    #[must_use]
    pub fn hardware_id(&self) -> &'a [u8; 32] {
        self.0.field(8)
    }

    /// As [`Header::logical_block`](super::Header::logical_block).
    #[must_use]
    pub fn logical_block(&self) -> LogicalBlock {
        LogicalBlock(self.0.u16(40))
    }

    /// As [`Header::cipher`](super::Header::cipher).
    #[must_use]
    pub fn cipher(&self) -> Cipher {
        Cipher::from_code(self.0.u16(82)).unwrap_or(Cipher::Aes128Cbc)
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &'a [u8] {
        Reader(self.0.0).slice(SIGNED_LEN, self.0.u16(210).into())
    }

    /// As many bytes of its beginning as are asked for, no more than a header has.
    pub(super) fn beginning<const N: usize>(&self) -> &'a [u8; N] {
        self.0.field(0)
    }

    /// What an ECU keeps.
    #[must_use]
    pub fn summary(self) -> Summary {
        let mut summary = Summary::NONE;
        summary.read(self);
        summary
    }
}

/// Magic, versions, lengths and reserved bytes.
fn parse_frame<E: FieldError>(r: Fixed<'_, HEADER_LEN>) -> Result<(), E> {
    let unknown = |field, offset, value: u16, expected: u16| {
        check(
            value == expected,
            field,
            offset,
            Problem::Unknown(value.into()),
        )
    };
    check(r.array(0) == MAGIC, "magic", 0, Problem::Magic)?;
    unknown("format_version", 4, r.u16(4), FORMAT_VERSION)?;
    unknown("header_len", 6, r.u16(6), 1536)?;
    unknown("payload_kind", 80, r.u16(80), 0)?;
    Reader(r.0).zero("base_digest", 112, 32)?;
    Reader(r.0).zero("reserved", 212, 300)
}

fn parse_layout<E: FieldError>(r: Fixed<'_, HEADER_LEN>) -> Result<Layout, E> {
    let page_size = some(
        PageSize::new(r.u32(72)),
        "page_size",
        72,
        Problem::Range(r.u32(72).into()),
    )?;
    let payload_len = r.u64(64);
    let layout = some(
        Layout::new(payload_len, page_size),
        "payload_len",
        64,
        Problem::Range(payload_len),
    )?;
    implied("page_count", 76, layout.page_count, r.u32(76))?;
    implied(
        "table_page_count",
        208,
        layout.table_page_count().into(),
        r.u16(208).into(),
    )?;
    Ok(layout)
}

fn implied<E: FieldError>(
    field: &'static str,
    offset: usize,
    expected: u32,
    found: u32,
) -> Result<(), E> {
    let problem = Problem::Contradiction {
        expected: expected.into(),
        found: found.into(),
    };
    check(expected == found, field, offset, problem)
}

/// The digests of the table pages; `None` where there are more than a header has.
pub(super) fn table_digests(bytes: &[u8; HEADER_LEN], layout: Layout) -> Option<TableDigests> {
    let mut digests = TableDigests::EMPTY;
    let (entries, _) = Reader(bytes).slice(512, 512).as_chunks::<32>();
    for entry in entries.iter().take(layout.table_page_count().into()) {
        digests = digests.push(Digest(*entry))?;
    }
    Some(digests)
}

/// What table digests and signature leave of their places is zero.
fn parse_fill<E: FieldError>(
    bytes: &[u8; HEADER_LEN],
    layout: Layout,
    signature: SignatureLen,
) -> Result<(), E> {
    let r = Reader(bytes);
    let used = usize::from(layout.table_page_count()).saturating_mul(32);
    let unused = 512usize.saturating_sub(used);
    r.zero("table_digests", used.saturating_add(512), unused)?;
    let len = signature.bytes();
    let unused = 512usize.saturating_sub(len);
    r.zero("signature", SIGNED_LEN.saturating_add(len), unused)
}

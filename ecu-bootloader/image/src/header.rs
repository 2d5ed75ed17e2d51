//! The image header (`docs/spec/image.md`, "Header"): 1536 bytes, of which the first 1024 are
//! signed. A [`Header`] holds only what the specification allows, so each can be encoded, and each
//! that parses encodes to the same bytes.

mod algorithm;

use crate::crypto::sha256;
use crate::error::{FieldError, ParseError, Problem};
use crate::id::{
    Digest, HardwareId, ImageDigest, ImageVersion, IvSeed, KeyId, LogicalBlock, PageSize,
    SecurityCounter, SlotSet, check_field,
};
use crate::table::{ENTRIES_PER_TABLE_PAGE, MAX_PAGES, TableDigests};
use crate::wire::{Fixed, Reader, check, put, some};

pub use algorithm::{Algorithm, Signature, SignatureLen};

/// Bytes of a header.
pub const HEADER_LEN: usize = 1536;
/// Bytes of a header that are signed, and whose SHA-256 is the image digest.
pub const SIGNED_LEN: usize = 1024;

const MAGIC: [u8; 4] = *b"CNPI";
const FORMAT_VERSION: u16 = 1;
const LIMP_HOME: u16 = 1;

/// How long an image is and how it is cut into pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    payload_len: u32,
    page_size: PageSize,
    page_count: u32,
}

impl Layout {
    /// A payload of `payload_len` bytes in pages of `page_size`, or `None` where it is empty or
    /// needs more than 2048 pages.
    #[must_use]
    pub fn new(payload_len: u64, page_size: PageSize) -> Option<Self> {
        // More than 32 bits hold is more than 2048 pages of any size.
        let payload_len = u32::try_from(payload_len).ok()?;
        let page_count = payload_len.div_ceil(page_size.get());
        if page_count == 0 || page_count > MAX_PAGES {
            return None;
        }
        Some(Self {
            payload_len,
            page_size,
            page_count,
        })
    }

    /// True length of the plaintext in bytes. At most 2048 pages of 64 KiB, so 32 bits hold it.
    #[must_use]
    pub const fn payload_len(&self) -> u32 {
        self.payload_len
    }

    /// The size of every page; the last is filled with zeros.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Number of pages, 1 to 2048.
    #[must_use]
    pub const fn page_count(&self) -> u32 {
        self.page_count
    }

    /// Length of all ciphertext pages in bytes.
    #[must_use]
    pub const fn ciphertext_len(&self) -> u32 {
        self.page_count.saturating_mul(self.page_size.get())
    }

    /// Number of table pages, 1 to 16.
    #[must_use]
    pub fn table_page_count(&self) -> u16 {
        u16::try_from(self.page_count.div_ceil(ENTRIES_PER_TABLE_PAGE)).unwrap_or(u16::MAX)
    }

    /// Length of all table pages in bytes.
    #[must_use]
    pub fn table_len(&self) -> u32 {
        u32::from(self.table_page_count()).saturating_mul(4096)
    }
}

/// What the payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadKind {
    /// The whole image.
    Full,
}

/// How pages are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// AES-128 in CBC mode.
    Aes128Cbc,
    /// AES-256 in CBC mode.
    Aes256Cbc,
}

impl Cipher {
    const fn code(self) -> u16 {
        match self {
            Self::Aes128Cbc => 1,
            Self::Aes256Cbc => 2,
        }
    }

    const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Aes128Cbc),
            2 => Some(Self::Aes256Cbc),
            _ => None,
        }
    }

    /// Length of the content key in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Cbc => 16,
            Self::Aes256Cbc => 32,
        }
    }
}

/// What the OEM permits for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeaderFlags {
    /// The image may run in limp-home although its counter is below the floor.
    pub limp_home: bool,
}

/// A well-formed header. Well-formed is not authentic: check [`Self::signature`] over
/// [`signed_bytes`](Self::signed_bytes) before anything is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The hardware the image is for.
    pub hardware_id: HardwareId,
    /// The block it fills.
    pub logical_block: LogicalBlock,
    /// The slots it is linked for.
    pub slots: SlotSet,
    /// Its version.
    pub version: ImageVersion,
    /// Compared with the ECU's floor.
    pub security_counter: SecurityCounter,
    pub(crate) load_address: u64,
    pub(crate) layout: Layout,
    /// What the payload is. Full only, so the base digest is zero.
    pub payload_kind: PayloadKind,
    /// How pages are encrypted.
    pub cipher: Cipher,
    /// What the OEM permits.
    pub flags: HeaderFlags,
    /// The key that signed.
    pub key_id: KeyId,
    /// Start of all page IVs.
    pub iv_seed: IvSeed,
    /// SHA-256 of salt and plaintext.
    pub plaintext_digest: Digest,
    /// SHA-256 of all ciphertext pages.
    pub ciphertext_digest: Digest,
    pub(crate) table_digests: TableDigests,
    /// Over the signed bytes.
    pub signature: Signature,
}

impl Header {
    /// Parses a header. Total: every 1536 bytes are a header or an error that says where.
    ///
    /// # Errors
    /// The first field that the specification does not allow.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, ParseError> {
        let view = HeaderView::parse(bytes)?;
        let summary = view.summary();
        let text = |error| ParseError::of("hardware_id", 8, Problem::Text(error));
        let digests = table_digests(bytes, summary.layout);
        let signature = Signature::new(view.signature());
        Ok(Self {
            hardware_id: HardwareId::from_field(view.hardware_id()).map_err(text)?,
            logical_block: view.logical_block(),
            slots: summary.slots,
            version: summary.version,
            security_counter: summary.security_counter,
            load_address: summary.load_address,
            layout: summary.layout,
            payload_kind: PayloadKind::Full,
            cipher: view.cipher(),
            flags: HeaderFlags {
                limp_home: summary.limp_home,
            },
            key_id: summary.key_id,
            iv_seed: summary.iv_seed,
            plaintext_digest: summary.plaintext_digest,
            ciphertext_digest: summary.ciphertext_digest,
            table_digests: some(digests, "table_digests", 512, Problem::Range(16))?,
            signature: some(signature, "signature_len", 210, Problem::Range(0))?,
        })
    }

    /// The bytes of this header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let b = &mut bytes;
        put(b, 0, &MAGIC);
        put(b, 4, &FORMAT_VERSION.to_le_bytes());
        put(b, 6, &1536u16.to_le_bytes());
        put(b, 8, self.hardware_id.as_field());
        put(b, 40, &self.logical_block.get().to_le_bytes());
        put(b, 42, &self.slots.bits().to_le_bytes());
        put(b, 44, &self.version.major.to_le_bytes());
        put(b, 46, &self.version.minor.to_le_bytes());
        put(b, 48, &self.version.patch.to_le_bytes());
        put(b, 52, &self.security_counter.get().to_le_bytes());
        put(b, 56, &self.load_address.to_le_bytes());
        put(b, 64, &u64::from(self.layout.payload_len).to_le_bytes());
        put(b, 72, &self.layout.page_size.get().to_le_bytes());
        put(b, 76, &self.layout.page_count.to_le_bytes());
        put(b, 82, &self.cipher.code().to_le_bytes());
        put(
            b,
            84,
            &self.signature.len().algorithm().code().to_le_bytes(),
        );
        put(b, 86, &u16::from(self.flags.limp_home).to_le_bytes());
        put(b, 88, self.key_id.as_bytes());
        put(b, 96, self.iv_seed.as_bytes());
        put(b, 144, self.plaintext_digest.as_bytes());
        put(b, 176, self.ciphertext_digest.as_bytes());
        put(b, 208, &self.layout.table_page_count().to_le_bytes());
        put(b, 210, &self.signature.len().field().to_le_bytes());
        for (index, digest) in self.table_digests.iter().enumerate() {
            put(b, index.saturating_mul(32).saturating_add(512), &digest.0);
        }
        put(b, SIGNED_LEN, self.signature.as_bytes());
        bytes
    }

    /// The signed part of a header's bytes.
    #[must_use]
    pub fn signed_bytes(bytes: &[u8; HEADER_LEN]) -> &[u8] {
        bytes.get(..SIGNED_LEN).unwrap_or(&[])
    }

    /// The identity of the image with these header bytes. It is also the message digest that the
    /// signature is made over.
    #[must_use]
    pub fn digest_of(bytes: &[u8; HEADER_LEN]) -> ImageDigest {
        ImageDigest(sha256(&[Self::signed_bytes(bytes)]).0)
    }

    /// The identity of this image.
    #[must_use]
    pub fn digest(&self) -> ImageDigest {
        Self::digest_of(&self.encode())
    }

    /// Where the plaintext is linked to run. Load address and pages fit the address space.
    #[must_use]
    pub const fn load_address(&self) -> u64 {
        self.load_address
    }

    /// Lengths and pages.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The digests of the table pages, as many as the layout has.
    #[must_use]
    pub const fn table_digests(&self) -> &TableDigests {
        &self.table_digests
    }

    /// This header with other table digests, or `None` where their number is not the layout's.
    #[must_use]
    pub fn with_table_digests(mut self, digests: TableDigests) -> Option<Self> {
        if digests.count() != self.layout.table_page_count() {
            return None;
        }
        self.table_digests = digests;
        Some(self)
    }
}

/// What an ECU keeps of a header, beside the digests of the table pages. The fields are those of a
/// [`Header`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The slots the image is linked for.
    pub slots: SlotSet,
    /// Its version.
    pub version: ImageVersion,
    /// Compared with the ECU's floor.
    pub security_counter: SecurityCounter,
    /// Where the plaintext is linked to run.
    pub load_address: u64,
    /// Lengths and pages.
    pub layout: Layout,
    /// The image may run in limp-home although its counter is below the floor.
    pub limp_home: bool,
    /// The key that signed.
    pub key_id: KeyId,
    /// Start of all page IVs.
    pub iv_seed: IvSeed,
    /// SHA-256 of salt and plaintext.
    pub plaintext_digest: Digest,
    /// SHA-256 of all ciphertext pages.
    pub ciphertext_digest: Digest,
    /// Length of the signature, which says what made it.
    pub signature_len: SignatureLen,
}

impl Summary {
    /// Of no image.
    pub const NONE: Self = Self {
        slots: SlotSet(0),
        version: ImageVersion {
            major: 0,
            minor: 0,
            patch: 0,
        },
        security_counter: SecurityCounter(0),
        load_address: 0,
        layout: Layout {
            payload_len: 0,
            page_size: PageSize(0),
            page_count: 0,
        },
        limp_home: false,
        key_id: KeyId([0; 8]),
        iv_seed: IvSeed([0; 16]),
        plaintext_digest: Digest::ZERO,
        ciphertext_digest: Digest::ZERO,
        signature_len: SignatureLen::Rsa2048,
    };

    /// Becomes that of a header.
    pub fn read(&mut self, view: HeaderView<'_>) {
        let r = view.0;
        self.slots = SlotSet(r.u16(42));
        self.version = view.start().version();
        self.security_counter = SecurityCounter(r.u32(52));
        self.load_address = r.u64(56);
        self.layout = Layout {
            payload_len: r.u32(64),
            page_size: PageSize(r.u32(72)),
            page_count: r.u32(76),
        };
        self.limp_home = r.u16(86) & LIMP_HOME != 0;
        self.key_id.0 = *r.field(88);
        self.iv_seed.0 = *r.field(96);
        self.plaintext_digest.0 = *r.field(144);
        self.ciphertext_digest.0 = *r.field(176);
        let len = SignatureLen::of_signature(r.u16(210).into());
        self.signature_len = len.unwrap_or(SignatureLen::Rsa2048);
    }
}

/// The bytes of a well-formed header, of which nothing is copied.
#[derive(Clone, Copy)]
pub struct HeaderView<'a>(Fixed<'a, HEADER_LEN>);

impl core::fmt::Debug for HeaderView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HeaderView(..)")
    }
}

impl<'a> HeaderView<'a> {
    /// Parses a header. Total, as [`Header::parse`].
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

    /// The zero-filled field of [`Header::hardware_id`].
    #[must_use]
    pub fn hardware_id(&self) -> &'a [u8; 32] {
        self.0.field(8)
    }

    /// As [`Header::logical_block`].
    #[must_use]
    pub fn logical_block(&self) -> LogicalBlock {
        LogicalBlock(self.0.u16(40))
    }

    /// As [`Header::cipher`].
    #[must_use]
    pub fn cipher(&self) -> Cipher {
        Cipher::from_code(self.0.u16(82)).unwrap_or(Cipher::Aes128Cbc)
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &'a [u8] {
        Reader(self.0.0).slice(SIGNED_LEN, self.0.u16(210).into())
    }

    /// What an ECU keeps.
    #[must_use]
    pub fn summary(self) -> Summary {
        let mut summary = Summary::NONE;
        summary.read(self);
        summary
    }

    fn start(self) -> HeaderStart {
        HeaderStart(*self.0.field(0))
    }
}

/// The beginning of a header that was parsed before, or whose digest is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderStart(pub [u8; Self::LEN]);

impl HeaderStart {
    /// Its bytes.
    pub const LEN: usize = 128;

    /// As [`Header::version`].
    #[must_use]
    pub fn version(&self) -> ImageVersion {
        let r = Fixed(&self.0);
        ImageVersion {
            major: r.u16(44),
            minor: r.u16(46),
            patch: r.u32(48),
        }
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        Fixed(&self.0).u32(72)
    }

    /// Number of pages.
    #[must_use]
    pub fn page_count(&self) -> u32 {
        Fixed(&self.0).u32(76)
    }

    /// As [`Header::key_id`].
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId(Fixed(&self.0).array(88))
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

fn table_digests(bytes: &[u8; HEADER_LEN], layout: Layout) -> Option<TableDigests> {
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

#[cfg(all(test, feature = "alloc"))]
mod tests;

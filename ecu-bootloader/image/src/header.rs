//! The image header (`docs/spec/image.md`, "Header"): 1536 bytes, of which the first 1024 are
//! signed. A [`Header`] holds only what the specification allows, so each can be encoded, and each
//! that parses encodes to the same bytes.

mod algorithm;
mod summary;
mod view;

use crate::crypto::sha256;
use crate::error::{FieldError as _, ParseError, Problem};
use crate::id::{
    Digest, HardwareId, ImageDigest, ImageVersion, IvSeed, KeyId, LogicalBlock, PageSize,
    SecurityCounter, SlotSet,
};
use crate::table::{ENTRIES_PER_TABLE_PAGE, MAX_PAGES, TableDigests};
use crate::wire::{put, some};

pub use algorithm::{Algorithm, Signature, SignatureLen};
pub use summary::{HeaderStart, Summary};
pub use view::HeaderView;
use view::table_digests;

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
    pub fn ciphertext_len(&self) -> u32 {
        self.offset_of(self.page_count)
    }

    /// Where page `page` begins, in bytes from the first; behind the last one for any that there is
    /// not.
    #[must_use]
    pub fn offset_of(&self, page: u32) -> u32 {
        // At most 2048 pages of 64 KiB.
        page.min(self.page_count).wrapping_mul(self.page_size.get())
    }

    /// Number of table pages, 1 to 16.
    #[must_use]
    pub fn table_page_count(&self) -> u16 {
        let [low, high, ..] = self
            .page_count
            .div_ceil(ENTRIES_PER_TABLE_PAGE)
            .to_le_bytes();
        u16::from_le_bytes([low, high])
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
        let digests = table_digests(bytes, summary.layout());
        let signature = Signature::new(view.signature());
        Ok(Self {
            hardware_id: HardwareId::from_field(view.hardware_id()).map_err(text)?,
            logical_block: view.logical_block(),
            slots: summary.slots(),
            version: summary.version(),
            security_counter: summary.security_counter(),
            load_address: summary.load_address(),
            layout: summary.layout(),
            payload_kind: PayloadKind::Full,
            cipher: view.cipher(),
            flags: HeaderFlags {
                limp_home: summary.limp_home(),
            },
            key_id: summary.key_id(),
            iv_seed: summary.iv_seed(),
            plaintext_digest: Digest(*summary.plaintext_digest()),
            ciphertext_digest: Digest(*summary.ciphertext_digest()),
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

#[cfg(all(test, feature = "alloc"))]
mod tests;

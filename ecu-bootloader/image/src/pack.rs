//! Building images and install grants: the OEM's side of `docs/spec/image.md`.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::crypto::{ContentKey, Hash, MacKey, WrapKey, sha256};
use crate::grant::{Grant, GrantFlags};
use crate::header::{
    HEADER_LEN, Header, HeaderFlags, Layout, PayloadKind, Signature, SignatureLen,
};
use crate::id::{
    EcuSerial, HardwareId, ImageDigest, ImageVersion, IvSeed, KeyId, LogicalBlock, PageSize, Salt,
    SecurityCounter, SequenceNumber, SlotSet,
};
use crate::table::{TABLE_PAGE_LEN, TableDigests};
use crate::wire::put;

/// What is packed, for whom and under which keys.
#[derive(Debug, Clone)]
pub struct PackRequest<'a> {
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
    /// Where the plaintext is linked to run.
    pub load_address: u64,
    /// How the image is cut; the ECU's flash decides.
    pub page_size: PageSize,
    /// What the OEM permits.
    pub flags: HeaderFlags,
    /// The key that will sign.
    pub key_id: KeyId,
    /// The length of its signatures.
    pub signature_len: SignatureLen,
    /// Random, of this image alone.
    pub content_key: &'a ContentKey,
    /// Random, of this image alone.
    pub salt: Salt,
    /// Random, of this image alone.
    pub iv_seed: IvSeed,
    /// The bytes that the ECU shall run.
    pub plaintext: &'a [u8],
}

/// Why an image cannot be packed; `E` is the signer's own error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackError<E> {
    /// Nothing to pack, or more than 2048 pages.
    Payload {
        /// Length of the plaintext in bytes.
        len: usize,
        /// The page size.
        page_size: u32,
    },
    /// The image does not fit between its load address and the end of the address space.
    LoadAddress(u64),
    /// The signer failed.
    Signer(E),
    /// The signature has another length than the key's, in bytes.
    SignatureLength {
        /// That of the key.
        expected: usize,
        /// That of the signature.
        found: usize,
    },
}

impl<E: fmt::Display> fmt::Display for PackError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload { len: 0, .. } => f.write_str("the payload is empty"),
            Self::Payload { len, page_size } => write!(
                f,
                "a payload of {len} bytes needs more than 2048 pages of {page_size} bytes; \
                 choose larger pages"
            ),
            Self::LoadAddress(address) => {
                write!(
                    f,
                    "the payload does not fit above load address {address:#x}"
                )
            }
            Self::Signer(error) => write!(f, "the image could not be signed: {error}"),
            Self::SignatureLength { expected, found } => {
                write!(
                    f,
                    "the signature has {found} bytes, the key's have {expected}"
                )
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for PackError<E> {}

/// Packs an image: header, page table, ciphertext pages. `sign` gets the 1024 signed bytes and
/// returns the signature over them.
///
/// # Errors
/// The payload does not fit the format, or the signer fails.
pub fn build<E>(
    request: &PackRequest<'_>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, PackError<E>> {
    let layout = layout_of(request)?;
    let ciphertext = encrypt(request, &layout);
    let table = table_of(&ciphertext, &layout);
    let unsigned = unsigned_header(request, layout, &ciphertext, &table);
    let wrong_length = |found| PackError::SignatureLength {
        expected: request.signature_len.bytes(),
        found,
    };
    let unsigned = unsigned.ok_or_else(|| wrong_length(0))?;
    let signature = sign(Header::signed_bytes(&unsigned.encode())).map_err(PackError::Signer)?;
    let header = Header {
        signature: Signature::new(&signature)
            .filter(|signature| signature.len() == request.signature_len)
            .ok_or_else(|| wrong_length(signature.len()))?,
        ..unsigned
    };
    let mut image = Vec::with_capacity(
        HEADER_LEN
            .saturating_add(table.len())
            .saturating_add(ciphertext.len()),
    );
    image.extend_from_slice(&header.encode());
    image.extend_from_slice(&table);
    image.extend_from_slice(&ciphertext);
    Ok(image)
}

fn layout_of<E>(request: &PackRequest<'_>) -> Result<Layout, PackError<E>> {
    let len = request.plaintext.len();
    let layout = u64::try_from(len)
        .ok()
        .and_then(|len| Layout::new(len, request.page_size))
        .ok_or(PackError::Payload {
            len,
            page_size: request.page_size.get(),
        })?;
    request
        .load_address
        .checked_add(u64::from(layout.ciphertext_len()))
        .ok_or(PackError::LoadAddress(request.load_address))?;
    Ok(layout)
}

/// The plaintext, filled to whole pages and encrypted page by page.
fn encrypt(request: &PackRequest<'_>, layout: &Layout) -> Vec<u8> {
    let mut pages = request.plaintext.to_vec();
    let len = usize::try_from(layout.ciphertext_len()).unwrap_or(usize::MAX);
    pages.resize(len, 0);
    let key = request.content_key;
    for (index, page) in (0..).zip(pages.chunks_mut(request.page_size.bytes())) {
        // Page sizes are powers of two from 256, so there is never a partial block.
        let whole = key.encrypt_page(&request.iv_seed, index, page);
        debug_assert_eq!(whole, Ok(()));
    }
    pages
}

fn table_of(ciphertext: &[u8], layout: &Layout) -> Vec<u8> {
    let mut table = vec![0; usize::try_from(layout.table_len()).unwrap_or(0)];
    let pages = ciphertext.chunks(layout.page_size().bytes());
    for (entry, page) in table.chunks_mut(32).zip(pages) {
        put(entry, 0, sha256(&[page]).as_bytes());
    }
    table
}

/// The header with a signature of zeros; `None` is unreachable with a table of this layout.
fn unsigned_header(
    request: &PackRequest<'_>,
    layout: Layout,
    ciphertext: &[u8],
    table: &[u8],
) -> Option<Header> {
    let digests = table
        .chunks(TABLE_PAGE_LEN)
        .try_fold(TableDigests::EMPTY, |digests, page| {
            digests.push(sha256(&[page]))
        })?;
    let zeros = [0; 512];
    let mut salted = Hash::salted(&request.salt);
    salted.update(request.plaintext);
    Header {
        hardware_id: request.hardware_id,
        logical_block: request.logical_block,
        slots: request.slots,
        version: request.version,
        security_counter: request.security_counter,
        load_address: request.load_address,
        layout,
        payload_kind: PayloadKind::Full,
        cipher: request.content_key.cipher(),
        flags: request.flags,
        key_id: request.key_id,
        iv_seed: request.iv_seed,
        plaintext_digest: salted.finish(),
        ciphertext_digest: sha256(&[ciphertext]),
        table_digests: TableDigests::EMPTY,
        signature: Signature::new(zeros.get(..request.signature_len.bytes())?)?,
    }
    .with_table_digests(digests)
}

/// What an install grant permits.
#[derive(Debug, Clone)]
pub struct GrantRequest<'a> {
    /// The ECU it is for.
    pub ecu_serial: EcuSerial,
    /// The image that it permits.
    pub image_digest: ImageDigest,
    /// Above every sequence that this ECU was ever given.
    pub sequence: SequenceNumber,
    /// What it permits beyond the usual.
    pub flags: GrantFlags,
    /// The image's content key.
    pub content_key: &'a ContentKey,
    /// The image's salt.
    pub salt: Salt,
}

impl Grant {
    /// Issues a grant: wraps the content key under the ECU's wrap key and authenticates the grant
    /// under its grant key.
    #[must_use]
    pub fn issue(request: &GrantRequest<'_>, wrap_key: &WrapKey, grant_key: &MacKey) -> Self {
        let mut grant = Self {
            ecu_serial: request.ecu_serial,
            image_digest: request.image_digest,
            sequence: request.sequence,
            flags: request.flags,
            wrapped: wrap_key.wrap(request.content_key, &request.salt),
            mac: [0; 16],
        };
        grant.mac = grant_key.mac(Self::maced_bytes(&grant.encode()));
        grant
    }
}

//! Verification of a whole packed image, and its decryption: for the OEM tool and the TCU, which
//! hold the file. The ECU sees the same things in the same order, but page by page.

use alloc::vec::Vec;
use core::fmt;

use crate::crypto::{ContentKey, SaltedHash, sha256};
use crate::error::ParseError;
use crate::header::{HEADER_LEN, Header, Signature, SignatureLen};
use crate::id::{Digest, ImageDigest, KeyId, Salt};
use crate::table::TABLE_PAGE_LEN;

/// Which signatures are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The shortest signature; RSA-3072 by default.
    pub shortest_signature: SignatureLen,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            shortest_signature: SignatureLen::Rsa3072,
        }
    }
}

/// Why bytes are not an authentic image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyError {
    /// Shorter than a header; the length in bytes.
    Truncated(usize),
    /// The header is malformed.
    Header(ParseError),
    /// Not as long as the header says, in bytes.
    Length {
        /// As the header says.
        expected: usize,
        /// As it is.
        found: usize,
    },
    /// The signature is shorter than the policy accepts.
    WeakSignature(SignatureLen),
    /// The signature is wrong, or its key is not trusted.
    Signature(KeyId),
    /// A table page has not the digest in the header, or unused entries are not zero.
    TablePage(u16),
    /// A page has not the digest in the table.
    Page(u32),
    /// The ciphertext has not the digest in the header.
    Ciphertext,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(len) => {
                write!(f, "{len} bytes are too few for a header of {HEADER_LEN}")
            }
            Self::Header(error) => write!(f, "header: {error}"),
            Self::Length { expected, found } => {
                write!(f, "image has {found} bytes, its header says {expected}")
            }
            Self::WeakSignature(len) => write!(
                f,
                "signature of {} bits is shorter than the policy accepts",
                len.bytes().saturating_mul(8)
            ),
            Self::Signature(key_id) => write!(
                f,
                "signature by key {key_id} is wrong or the key is not trusted"
            ),
            Self::TablePage(index) => write!(f, "table page {index} was altered"),
            Self::Page(index) => write!(f, "page {index} was altered"),
            Self::Ciphertext => f.write_str("ciphertext digest is wrong"),
        }
    }
}

impl core::error::Error for VerifyError {}

/// An authentic image, borrowed from its bytes.
#[derive(Debug, Clone)]
pub struct VerifiedImage<'a> {
    /// The header.
    pub header: Header,
    /// The image's identity.
    pub digest: ImageDigest,
    /// Header and table pages, as the ECU's metadata transfer carries them after the grant.
    pub metadata: &'a [u8],
    /// The ciphertext pages, as the ECU's payload transfer carries them.
    pub ciphertext: &'a [u8],
}

/// Verifies a packed image. `check` gets the key id of the header, the 1024 signed bytes and the
/// signature, and says whether a trusted key of this id made it: RSA-PSS-SHA-256, MGF1-SHA-256, a
/// salt of 32 bytes.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_image<'a>(
    bytes: &'a [u8],
    policy: &Policy,
    check: impl FnOnce(KeyId, &[u8], &Signature) -> bool,
) -> Result<VerifiedImage<'a>, VerifyError> {
    let (header_bytes, body) = bytes
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(VerifyError::Truncated(bytes.len()))?;
    let header = Header::parse(header_bytes).map_err(VerifyError::Header)?;
    if header.signature.len() < policy.shortest_signature {
        return Err(VerifyError::WeakSignature(header.signature.len()));
    }
    let signed = Header::signed_bytes(header_bytes);
    if !check(header.key_id, signed, &header.signature) {
        return Err(VerifyError::Signature(header.key_id));
    }
    let (table, ciphertext) = split_body(&header, body)?;
    verify_table(&header, table)?;
    verify_pages(&header, table, ciphertext)?;
    let metadata_len = HEADER_LEN.saturating_add(table.len());
    Ok(VerifiedImage {
        digest: Header::digest_of(header_bytes),
        header,
        metadata: bytes.get(..metadata_len).unwrap_or(&[]),
        ciphertext,
    })
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn split_body<'a>(header: &Header, body: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), VerifyError> {
    let table_len = size(header.layout.table_len());
    let expected = table_len.saturating_add(size(header.layout.ciphertext_len()));
    match body.split_at_checked(table_len) {
        Some(parts) if body.len() == expected => Ok(parts),
        _ => Err(VerifyError::Length {
            expected: expected.saturating_add(HEADER_LEN),
            found: body.len().saturating_add(HEADER_LEN),
        }),
    }
}

fn verify_table(header: &Header, table: &[u8]) -> Result<(), VerifyError> {
    let pages = (0..).zip(table.chunks(TABLE_PAGE_LEN));
    for ((index, page), digest) in pages.zip(header.table_digests().iter()) {
        if sha256(&[page]) != *digest {
            return Err(VerifyError::TablePage(index));
        }
    }
    let used = size(header.layout.page_count()).saturating_mul(32);
    let unused = table.get(used..).unwrap_or(&[]);
    if unused.iter().any(|byte| *byte != 0) {
        let last = header.layout.table_page_count().saturating_sub(1);
        return Err(VerifyError::TablePage(last));
    }
    Ok(())
}

fn verify_pages(header: &Header, table: &[u8], ciphertext: &[u8]) -> Result<(), VerifyError> {
    let pages = (0..).zip(ciphertext.chunks(header.layout.page_size().bytes()));
    for ((index, page), digest) in pages.zip(table.chunks(32)) {
        if sha256(&[page]).as_bytes() != digest {
            return Err(VerifyError::Page(index));
        }
    }
    if sha256(&[ciphertext]) != header.ciphertext_digest {
        return Err(VerifyError::Ciphertext);
    }
    Ok(())
}

/// Why an authentic image does not decrypt: key or salt are not this image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecryptError {
    /// The key is for another cipher than the header names.
    Cipher,
    /// The plaintext has not the digest in the header.
    Digest {
        /// As the header says.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
}

impl fmt::Display for DecryptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cipher => f.write_str("the content key is for another cipher"),
            Self::Digest { expected, found } => {
                write!(f, "plaintext digest is {found}, the header says {expected}")
            }
        }
    }
}

impl core::error::Error for DecryptError {}

impl VerifiedImage<'_> {
    /// The plaintext, without the fill of the last page.
    ///
    /// # Errors
    /// Key or salt are not this image's.
    pub fn decrypt(&self, key: &ContentKey, salt: &Salt) -> Result<Vec<u8>, DecryptError> {
        if key.cipher() != self.header.cipher {
            return Err(DecryptError::Cipher);
        }
        let mut plain = self.ciphertext.to_vec();
        let page_size = self.header.layout.page_size().bytes();
        for (index, page) in (0..).zip(plain.chunks_mut(page_size)) {
            key.decrypt_page(&self.header.iv_seed, index, page)
                .map_err(|_| DecryptError::Cipher)?;
        }
        plain.truncate(size(self.header.layout.payload_len()));
        let mut salted = SaltedHash::new(salt);
        salted.update(&plain);
        let (expected, found) = (self.header.plaintext_digest, salted.finish());
        if found != expected {
            return Err(DecryptError::Digest { expected, found });
        }
        Ok(plain)
    }
}

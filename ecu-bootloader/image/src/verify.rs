//! Verification of a whole packed image, and its decryption: for the OEM tool and the TCU, which
//! hold the file. The ECU sees the same things in the same order, but page by page.

use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::crypto::{ContentKey, Hash, sha256};
use crate::error::ParseError;
use crate::header::{HEADER_LEN, Header, Signature, SignatureLen};
use crate::id::{Digest, ImageDigest, KeyId, Salt};
use crate::table::{MAX_TABLE_PAGES, TABLE_PAGE_LEN};

/// Which signatures are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The weakest signature; that of RSA-3072 by default.
    pub weakest_signature: SignatureLen,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            weakest_signature: SignatureLen::Rsa3072,
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
    /// The signature is of weaker keys than the policy accepts.
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
                "a signature of {} bits is weaker than the policy accepts",
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
/// signature, and says whether a trusted key of this id made it, by the key's algorithm: RSA-PSS-SHA-256
/// (MGF1-SHA-256, a salt of 32 bytes) or ECDSA-P256-SHA-256 (`r ‖ s`).
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_image<'a>(
    bytes: &'a [u8],
    policy: &Policy,
    check: impl FnOnce(KeyId, &[u8], &Signature) -> bool,
) -> Result<VerifiedImage<'a>, VerifyError> {
    let verified = verify_metadata(bytes, bytes.len(), policy, check)?;
    let VerifiedMetadata { header, digest, .. } = verified.clone();
    let metadata_len = HEADER_LEN.saturating_add(verified.table.len());
    let (metadata, ciphertext) = bytes
        .split_at_checked(metadata_len)
        .ok_or(VerifyError::Truncated(bytes.len()))?;
    let mut pages = PageVerifier::new(verified);
    for page in ciphertext.chunks(header.layout.page_size().bytes()) {
        pages.update(page)?;
    }
    pages.finish()?;
    Ok(VerifiedImage {
        header,
        digest,
        metadata,
        ciphertext,
    })
}

/// The longest header with its table pages, in bytes.
pub const METADATA_MAX_LEN: usize = HEADER_LEN + MAX_TABLE_PAGES as usize * TABLE_PAGE_LEN;

/// Header and table of an image, authentic: each page can be verified by itself.
#[derive(Debug, Clone)]
pub struct VerifiedMetadata<'a> {
    /// The header.
    pub header: Header,
    /// The image's identity.
    pub digest: ImageDigest,
    table: &'a [u8],
}

/// Verifies header and table of a packed image of `len` bytes, of which `start` are the first: at
/// least [`METADATA_MAX_LEN`], or all. `check` as for [`verify_image`].
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_metadata<'a>(
    start: &'a [u8],
    len: usize,
    policy: &Policy,
    check: impl FnOnce(KeyId, &[u8], &Signature) -> bool,
) -> Result<VerifiedMetadata<'a>, VerifyError> {
    let (header_bytes, body) = start
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(VerifyError::Truncated(start.len()))?;
    let header = Header::parse(header_bytes).map_err(VerifyError::Header)?;
    if header.signature.len().strength() < policy.weakest_signature.strength() {
        return Err(VerifyError::WeakSignature(header.signature.len()));
    }
    let signed = Header::signed_bytes(header_bytes);
    if !check(header.key_id, signed, &header.signature) {
        return Err(VerifyError::Signature(header.key_id));
    }
    let table_len = size(header.layout.table_len());
    let metadata_len = HEADER_LEN.saturating_add(table_len);
    let expected = metadata_len.saturating_add(size(header.layout.ciphertext_len()));
    let table = match body.get(..table_len) {
        Some(table) if len == expected => table,
        _ => {
            return Err(VerifyError::Length {
                expected,
                found: len,
            });
        }
    };
    verify_table(&header, table)?;
    Ok(VerifiedMetadata {
        digest: Header::digest_of(header_bytes),
        header,
        table,
    })
}

/// Verifies the pages of an image in their order, so that no more than one is in memory.
#[derive(Debug, Clone)]
pub struct PageVerifier<'a> {
    metadata: VerifiedMetadata<'a>,
    index: u32,
    ciphertext: Sha256,
}

impl<'a> PageVerifier<'a> {
    /// Before the first page.
    #[must_use]
    pub fn new(metadata: VerifiedMetadata<'a>) -> Self {
        Self {
            metadata,
            index: 0,
            ciphertext: Sha256::new(),
        }
    }

    /// The next page, whole.
    ///
    /// # Errors
    /// [`VerifyError::Page`], also behind the last one.
    pub fn update(&mut self, page: &[u8]) -> Result<(), VerifyError> {
        let digests = self.metadata.table.chunks_exact(32);
        let used = size(self.metadata.header.layout.page_count());
        let expected = digests.take(used).nth(size(self.index));
        let found = sha256(&[page]);
        if expected.is_none_or(|expected| expected != found.as_bytes()) {
            return Err(VerifyError::Page(self.index));
        }
        self.ciphertext.update(page);
        self.index = self.index.saturating_add(1);
        Ok(())
    }

    /// All pages were given.
    ///
    /// # Errors
    /// [`VerifyError::Page`] names the first that was not; [`VerifyError::Ciphertext`].
    pub fn finish(self) -> Result<(), VerifyError> {
        if self.index < self.metadata.header.layout.page_count() {
            return Err(VerifyError::Page(self.index));
        }
        let found: [u8; 32] = self.ciphertext.finalize().into();
        match Digest(found) == self.metadata.header.ciphertext_digest {
            true => Ok(()),
            false => Err(VerifyError::Ciphertext),
        }
    }
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
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
        let mut salted = Hash::salted(salt);
        salted.update(&plain);
        let (expected, found) = (self.header.plaintext_digest, salted.finish());
        if found != expected {
            return Err(DecryptError::Digest { expected, found });
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pss::{Progress, Verifier};
    use crate::testing::{Pair, content_key, image, request};
    use crate::wire::put;
    use proptest::prelude::*;
    use std::string::ToString as _;
    use std::sync::OnceLock;

    const SHORT: Policy = Policy {
        weakest_signature: SignatureLen::Rsa2048,
    };
    static KEY: ContentKey = ContentKey::Aes128([6; 16]);

    /// 300 bytes in two pages of 256.
    fn packed() -> &'static [u8] {
        static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
        IMAGE.get_or_init(|| image(&request(&[8; 300], 256, &KEY)))
    }

    /// The signature check by this crate's own verification.
    fn check(key_id: KeyId, signed: &[u8], signature: &Signature) -> bool {
        let key = &Pair::short().public;
        let digest = ImageDigest(sha256(&[signed]).0);
        key_id == key.id()
            && Verifier::new(key, &digest, signature).step(u32::MAX) == Progress::Valid
    }

    fn verify(bytes: &[u8]) -> Result<VerifiedImage<'_>, VerifyError> {
        verify_image(bytes, &SHORT, check)
    }

    #[test]
    fn by_default_a_signature_is_as_strong_as_that_of_rsa_3072() {
        use SignatureLen::{P256, Rsa2048, Rsa3072, Rsa4096};
        let weakest = Policy::default().weakest_signature.strength();
        assert!(
            [P256, Rsa3072, Rsa4096]
                .iter()
                .all(|len| len.strength() >= weakest)
        );
        assert!(Rsa2048.strength() < weakest);
    }

    /// The error of the image with one bit altered at `offset`.
    fn refused(offset: usize) -> VerifyError {
        let mut bytes = packed().to_vec();
        bytes[offset] ^= 1;
        verify(&bytes).expect_err("the image verifies")
    }

    #[test]
    fn a_packed_image_verifies_and_decrypts() {
        let image = verify(packed()).unwrap();
        assert_eq!(image.header.version.to_string(), "2.3.40000");
        assert_eq!(image.metadata.len(), 1536 + 4096);
        assert_eq!(image.ciphertext.len(), 512);
        assert_eq!(image.decrypt(&KEY, &Salt([0x5A; 16])).unwrap(), [8; 300]);
    }

    #[test]
    fn an_altered_image_is_refused_where_it_was_altered() {
        let key_id = Pair::short().public.id();
        assert!(matches!(refused(0), VerifyError::Header(_)));
        assert_eq!(refused(44), VerifyError::Signature(key_id));
        assert_eq!(refused(1024), VerifyError::Signature(key_id));
        assert_eq!(refused(1536), VerifyError::TablePage(0));
        assert_eq!(refused(1536 + 4095), VerifyError::TablePage(0));
        assert_eq!(refused(1536 + 4096), VerifyError::Page(0));
        assert_eq!(refused(1536 + 4096 + 511), VerifyError::Page(1));
    }

    #[test]
    fn an_image_has_exactly_its_length() {
        let longer = [packed(), &[0]].concat();
        let (expected, len) = (packed().len(), longer.len());
        let error = verify(&longer).unwrap_err();
        assert_eq!(
            error,
            VerifyError::Length {
                expected,
                found: len
            }
        );
        for len in [1536, 1537, expected - 1] {
            let error = verify(&packed()[..len]).unwrap_err();
            assert_eq!(
                error,
                VerifyError::Length {
                    expected,
                    found: len
                }
            );
        }
        assert_eq!(verify(&[]).unwrap_err(), VerifyError::Truncated(0));
        let error = verify(&packed()[..1535]).unwrap_err();
        assert_eq!(error, VerifyError::Truncated(1535));
    }

    #[test]
    fn short_signatures_need_a_policy() {
        let error = verify_image(packed(), &Policy::default(), check).unwrap_err();
        assert_eq!(error, VerifyError::WeakSignature(SignatureLen::Rsa2048));
    }

    /// What the signer wrote is checked too, not only what happened to the file afterwards.
    #[test]
    fn a_signed_contradiction_is_refused() {
        let trusting = |bytes: &[u8]| verify_image(bytes, &SHORT, |_, _, _| true).map(|_| ());
        let mut bytes = packed().to_vec();
        put(&mut bytes, 176, &[0; 32]);
        assert_eq!(trusting(&bytes), Err(VerifyError::Ciphertext));
        let mut bytes = packed().to_vec();
        put(&mut bytes, 1536 + 64, &[1]);
        let table = sha256(&[&bytes[1536..1536 + 4096]]);
        put(&mut bytes, 512, table.as_bytes());
        assert_eq!(trusting(&bytes), Err(VerifyError::TablePage(0)));
    }

    #[test]
    fn another_key_or_salt_does_not_decrypt() {
        let image = verify(packed()).unwrap();
        let salt = Salt([0x5A; 16]);
        let error = image.decrypt(&ContentKey::Aes256([6; 32]), &salt);
        assert_eq!(error, Err(DecryptError::Cipher));
        let digest = |key: &ContentKey, salt| {
            matches!(image.decrypt(key, salt), Err(DecryptError::Digest { .. }))
        };
        assert!(digest(&ContentKey::Aes128([7; 16]), &salt));
        assert!(digest(&KEY, &Salt([0; 16])));
    }

    #[test]
    fn a_signature_that_is_not_the_keys_is_an_error_of_packing() {
        use crate::pack::{PackError, build};
        let request = request(&[8; 300], 256, &KEY);
        let error = build(&request, |_| Ok::<_, &str>(vec![0; 384])).unwrap_err();
        let lengths = PackError::SignatureLength {
            expected: 256,
            found: 384,
        };
        assert_eq!(error, lengths);
        let error = build(&request, |_| Err("token is locked")).unwrap_err();
        assert_eq!(
            format!("{error}"),
            "the image could not be signed: token is locked"
        );
    }

    #[test]
    fn payloads_that_do_not_fit_are_errors_of_packing() {
        use crate::pack::{PackError, build};
        let error = |len, address| {
            let plaintext = vec![1; len];
            let mut request = request(&plaintext, 256, &KEY);
            request.load_address = address;
            build(&request, |_| Err(())).unwrap_err()
        };
        let payload = |len| PackError::Payload {
            len,
            page_size: 256,
        };
        assert_eq!(error(0, 0), payload(0));
        assert_eq!(error(2048 * 256 + 1, 0), payload(2048 * 256 + 1));
        assert_eq!(error(2048 * 256, 0), PackError::Signer(()));
        assert_eq!(
            error(1, u64::MAX - 255),
            PackError::LoadAddress(u64::MAX - 255)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_payload_survives(
            plaintext in prop::collection::vec(any::<u8>(), 1..70_000),
            page_size in prop::sample::select(vec![256u32, 512, 4096, 65536]),
            key in content_key(),
        ) {
            let bytes = image(&request(&plaintext, page_size, &key));
            let image = verify(&bytes).unwrap();
            prop_assert_eq!(image.decrypt(&key, &Salt([0x5A; 16])).unwrap(), plaintext);
        }

        #[test]
        fn any_altered_bit_is_seen(offset in 0..packed().len(), bit in 0..8u8) {
            let mut bytes = packed().to_vec();
            bytes[offset] ^= 1 << bit;
            prop_assert!(verify(&bytes).is_err());
        }
    }
}

//! Verification of a whole stored image, a slice at a time.
//!
//! At every boot: grant, header, signature, the journal's digest, and the salted digest of the
//! plaintext. At 31 0202 also every page against the table, encrypted again, and the digest of the
//! ciphertext: so what is staged is exactly what was signed, fill of the last page included.

use ecu_image::crypto::SaltedHash;
use ecu_image::pss::Progress;
use ecu_image::signature::SignatureVerifier;
use ecu_image::{Digest, ENTRIES_PER_TABLE_PAGE, Salt, TABLE_PAGE_LEN, TablePage};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::boot::Verdict;
use crate::flash::FlashRead;
use crate::head::{Head, page_address, table_address};
use crate::keys::KeyStore;
use crate::keyset::{Use, begin_signature};
use crate::layout::SlotId;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::state::KeySetRecord;

/// One authenticated table page of the image at hand.
#[derive(Debug)]
pub(crate) struct TableCache {
    bytes: [u8; TABLE_PAGE_LEN],
    index: Option<u16>,
}

impl TableCache {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; TABLE_PAGE_LEN],
            index: None,
        }
    }

    /// The bytes for another use; the cached page is forgotten.
    pub(crate) fn scratch(&mut self) -> &mut [u8; TABLE_PAGE_LEN] {
        self.index = None;
        &mut self.bytes
    }

    /// The digest that the table has for page `page`. A table page is authenticated when it is
    /// read from flash and kept in RAM from then on.
    pub(crate) fn digest_of<P: Platform>(
        &mut self,
        platform: &mut P,
        head: &Head,
        page: u32,
    ) -> Result<[u8; 32], Failure> {
        let number = page.checked_div(ENTRIES_PER_TABLE_PAGE).unwrap_or(0);
        let bad = Failure::with(Reason::TablePage, number);
        let index = u16::try_from(number).map_err(|_| bad)?;
        if self.index != Some(index) {
            self.index = None;
            let address = table_address(platform.board(), head.slot, index).ok_or(bad)?;
            platform
                .flash()
                .read(address, &mut self.bytes)
                .map_err(|_| Failure::with(Reason::Flash, address))?;
            let digests = head.header.table_digests();
            TablePage::authenticate(&self.bytes, index, digests).ok_or(bad)?;
            self.index = Some(index);
        }
        let (entries, _) = self.bytes.as_chunks::<32>();
        let entry = page.checked_rem(ENTRIES_PER_TABLE_PAGE).unwrap_or(0);
        let entry = usize::try_from(entry).ok().and_then(|at| entries.get(at));
        entry.copied().ok_or(bad)
    }
}

/// Whether `ciphertext` has this digest.
pub(crate) fn is_authentic(ciphertext: &[u8], digest: &[u8; 32]) -> bool {
    let found: [u8; 32] = Sha256::digest(ciphertext).into();
    found.ct_eq(digest).into()
}

/// Reads page `page` and encrypts it again, in place in `buffer`; whether it is what the table
/// says. `plain` sees the plaintext in between.
pub(crate) fn recheck_page<P: Platform>(
    platform: &mut P,
    table: &mut TableCache,
    head: &Head,
    page: u32,
    buffer: &mut [u8],
    plain: impl FnOnce(&[u8]),
) -> Result<bool, Failure> {
    read_page(platform, head, page, buffer)?;
    plain(buffer);
    let iv = platform.keys().page_iv(&head.header.iv_seed, page);
    let key = Failure::new(Reason::GrantKey);
    let iv = iv.map_err(|_| key)?;
    platform.keys().cbc_encrypt(&iv, buffer).map_err(|_| key)?;
    let digest = table.digest_of(platform, head, page)?;
    Ok(is_authentic(buffer, &digest))
}

fn read_page<P: Platform>(
    platform: &mut P,
    head: &Head,
    page: u32,
    buffer: &mut [u8],
) -> Result<(), Failure> {
    let address = page_address(platform.board(), head, page)
        .ok_or(Failure::with(Reason::HeaderSize, page))?;
    platform
        .flash()
        .read(address, buffer)
        .map_err(|_| Failure::with(Reason::Flash, address))
}

/// What a page buffer holds before it is read into at boot.
const POISON: u8 = 0xA5;

/// A verification under way.
#[derive(Debug)]
pub(crate) struct Verification {
    full: bool,
    purpose: Use,
    key_set: Option<KeySetRecord>,
    stage: Stage,
    plaintext: SaltedHash,
    ciphertext: Sha256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Signature,
    Page(u32),
}

impl Verification {
    /// Starts, with the key set in use; `full` compares every page with the table too.
    pub(crate) fn new(full: bool, purpose: Use, key_set: Option<KeySetRecord>) -> Self {
        Self {
            full,
            purpose,
            key_set,
            stage: Stage::Start,
            plaintext: SaltedHash::new(&Salt([0; 16])),
            ciphertext: Sha256::new(),
        }
    }

    /// One slice: a step of the signature, or one page. `None` until the verdict. `head` was loaded
    /// from the slot and has the journal's digest; `buffer` holds a page.
    pub(crate) fn step<P: Platform>(
        &mut self,
        platform: &mut P,
        table: &mut TableCache,
        head: &Head,
        buffer: &mut [u8],
    ) -> Result<Option<Verdict>, Failure> {
        match self.stage {
            Stage::Start => {
                self.plaintext = SaltedHash::new(&head.salt);
                // The factory image is authentic by its digest, which provisioning pinned and which
                // the head was compared with: it boots whatever happened to its key.
                self.stage = Stage::Page(0);
                if head.slot != SlotId::Factory {
                    begin_signature(platform, self.key_set, head, self.purpose, buffer)?;
                    self.stage = Stage::Signature;
                }
                Ok(None)
            }
            Stage::Signature => {
                match platform.signatures().step(1) {
                    Progress::Pending => {}
                    Progress::Valid => self.stage = Stage::Page(0),
                    Progress::Invalid => return Err(Failure::new(Reason::HeaderSignature)),
                }
                Ok(None)
            }
            Stage::Page(page) if page < head.page_count() => {
                self.page(platform, table, head, page, buffer)?;
                self.stage = Stage::Page(page.saturating_add(1));
                Ok(None)
            }
            Stage::Page(_) => self.finish(head).map(Some),
        }
    }

    fn page<P: Platform>(
        &mut self,
        platform: &mut P,
        table: &mut TableCache,
        head: &Head,
        page: u32,
        buffer: &mut [u8],
    ) -> Result<(), Failure> {
        let bad = Failure::with(Reason::Page, page);
        let buffer = buffer.get_mut(..head.page_size()).ok_or(bad)?;
        let used = head.plaintext_in(page);
        let plaintext = &mut self.plaintext;
        let mut plain = |bytes: &[u8]| plaintext.update(bytes.get(..used).unwrap_or(&[]));
        if !self.full {
            // A page that could not be read must not pass for one like it that was read before.
            buffer.fill(POISON);
            read_page(platform, head, page, buffer)?;
            plain(buffer);
            return Ok(());
        }
        if !recheck_page(platform, table, head, page, buffer, plain)? {
            return Err(bad);
        }
        self.ciphertext.update(buffer);
        Ok(())
    }

    /// The digest of the plaintext that was read.
    #[inline(never)]
    pub(crate) fn measured(&self) -> Digest {
        self.plaintext.clone().finish()
    }

    fn finish(&self, head: &Head) -> Result<Verdict, Failure> {
        let header = &head.header;
        let plaintext = self.plaintext.clone().finish();
        if !bool::from(plaintext.0.ct_eq(&header.plaintext_digest.0)) {
            return Err(Failure::new(Reason::PlaintextDigest));
        }
        let ciphertext: [u8; 32] = self.ciphertext.clone().finalize().into();
        if self.full && !bool::from(ciphertext.ct_eq(&header.ciphertext_digest.0)) {
            return Err(Failure::new(Reason::CiphertextDigest));
        }
        Ok(Verdict::Good {
            counter: header.security_counter,
            exception: head.downgrade,
            limp_home: header.flags.limp_home,
        })
    }
}

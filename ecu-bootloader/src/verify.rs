//! Verification of a whole stored image, a slice at a time.
//!
//! At every boot: grant, header, signature, the journal's digest, and the salted digest of the
//! plaintext. At 31 0202 also every page against the table, encrypted again, and the digest of the
//! ciphertext: so what is staged is exactly what was signed, fill of the last page included.

use ecu_image::crypto::{Hash, same, sha256};
use ecu_image::pss::Progress;
use ecu_image::signature::SignatureVerifier;
use ecu_image::{Digest, ENTRIES_PER_TABLE_PAGE, TABLE_PAGE_LEN};

use crate::boot::Verdict;
use crate::bytes::copy;
use crate::flash::FlashRead;
use crate::head::{HEAD_LEN, Head, page_address, read_signature, table_address};
use crate::keys::KeyStore;
use crate::keyset::{Use, begin_signature};
use crate::layout::SlotId;
use crate::platform::Platform;
use crate::reason::{Failure, Reason};
use crate::state::KeySetRecord;

/// Page digests that are kept of an authenticated table page.
const WINDOW: usize = 16;
/// The same, for numbers of pages.
const WINDOW_PAGES: u32 = 16;

/// Digests of the image at hand: those of its table pages, as its header has them, and a window of
/// those of its pages. The window is filled while a whole table page is read and authenticated; so
/// the table needs 512 bytes of RAM, and is read once for 16 pages.
#[derive(Debug)]
pub struct TableCache {
    tables: [[u8; 32]; 16],
    window: [[u8; 32]; WINDOW],
    /// The page of the first digest in the window.
    first: Option<u32>,
    /// How many bytes wait in the window: the rest of a block of metadata.
    waiting: usize,
}

/// The most bytes of a block of metadata that can wait.
pub(crate) const MAX_WAITING: usize = WINDOW * 32;

impl TableCache {
    pub(crate) const fn new() -> Self {
        Self {
            tables: [[0; 32]; 16],
            window: [[0; 32]; WINDOW],
            first: None,
            waiting: 0,
        }
    }

    /// Takes the digests of the table pages from the bytes of a head.
    pub(crate) fn begin(&mut self, head: &[u8]) {
        self.first = None;
        let at = HEAD_LEN.saturating_sub(1024);
        let digests = head.get(at..).and_then(|rest| rest.first_chunk::<512>());
        let tables = self.tables.as_flattened_mut();
        match digests {
            Some(digests) => tables.copy_from_slice(digests),
            None => tables.fill(0),
        }
    }

    /// Keeps the rest of a block until the buffers are free.
    pub(crate) fn set_waiting(&mut self, rest: &[u8]) {
        self.first = None;
        self.waiting = 0;
        if let Some(place) = self.window.as_flattened_mut().get_mut(..rest.len()) {
            copy(place, rest);
            self.waiting = rest.len();
        }
    }

    /// The rest of the block before, once.
    pub(crate) fn take_waiting(&mut self) -> &[u8] {
        let len = core::mem::take(&mut self.waiting);
        self.window.as_flattened().get(..len).unwrap_or(&[])
    }

    /// Whether `bytes` are table page `index` of the image at hand.
    pub(crate) fn has_table(&self, index: u16, bytes: &[u8]) -> bool {
        let digest = self.tables.get(usize::from(index));
        digest.is_some_and(|digest| is_authentic(bytes, digest))
    }

    /// The digest that the table has for page `page`.
    pub(crate) fn digest_of<P: Platform>(
        &mut self,
        platform: &mut P,
        head: &Head,
        page: u32,
    ) -> Result<&[u8; 32], Failure> {
        let entry = page % WINDOW_PAGES;
        let first = page.saturating_sub(entry);
        if self.first != Some(first) {
            self.fill(platform, head, first)?;
        }
        let bad = Failure::with(Reason::Page, page);
        let entry = usize::try_from(entry).ok();
        entry.and_then(|entry| self.window.get(entry)).ok_or(bad)
    }

    /// Fills the window from page `first` on; the whole table page is authentic.
    #[inline(never)]
    fn fill<P: Platform>(
        &mut self,
        platform: &mut P,
        head: &Head,
        first: u32,
    ) -> Result<(), Failure> {
        self.first = None;
        let number = first / ENTRIES_PER_TABLE_PAGE;
        let bad = Failure::with(Reason::TablePage, number);
        let index = u16::try_from(number).map_err(|_| bad)?;
        let start = table_address(platform.board(), head.slot, index).ok_or(bad)?;
        let wanted = usize::try_from(first % ENTRIES_PER_TABLE_PAGE).unwrap_or(usize::MAX);
        let mut hash = Hash::new();
        let mut digest = [0; 32];
        for at in 0..TABLE_PAGE_LEN / 32 {
            // Where the page is has an address, and so has all of it.
            let address = start.wrapping_add(u32::try_from(at).unwrap_or(0).wrapping_mul(32));
            platform
                .flash()
                .read(address, &mut digest)
                .map_err(|_| Failure::with(Reason::Flash, start))?;
            hash.update(&digest);
            if let Some(place) = self.window.get_mut(at.wrapping_sub(wanted)) {
                *place = digest;
            }
        }
        let digest = self.tables.get(usize::from(index)).ok_or(bad)?;
        if !same(hash.finish().as_bytes(), digest) {
            return Err(bad);
        }
        self.first = Some(first);
        Ok(())
    }
}

/// Whether `ciphertext` has this digest.
pub(crate) fn is_authentic(ciphertext: &[u8], digest: &[u8; 32]) -> bool {
    same(sha256(&[ciphertext]).as_bytes(), digest)
}

/// Reads page `page` and encrypts it again, in place in `buffer`; whether it is what the table
/// says. `plain` sees the plaintext in between.
#[inline(never)]
pub(crate) fn recheck_page<P: Platform>(
    platform: &mut P,
    table: &mut TableCache,
    head: &Head,
    page: u32,
    buffer: &mut [u8],
    plain: &mut dyn FnMut(&[u8]),
) -> Result<bool, Failure> {
    read_page(platform, head, page, buffer)?;
    plain(buffer);
    let encrypted = platform
        .keys()
        .encrypt_page(&head.header.iv_seed(), page, buffer);
    encrypted.map_err(|_| Failure::new(Reason::GrantKey))?;
    let digest = table.digest_of(platform, head, page)?;
    Ok(is_authentic(buffer, digest))
}

#[inline(never)]
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
    stage: Stage,
    plaintext: Hash,
    ciphertext: Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Signature,
    Page(u32),
}

impl Verification {
    /// None begun.
    pub(crate) fn new() -> Self {
        Self {
            full: true,
            purpose: Use::Install,
            stage: Stage::Start,
            plaintext: Hash::UNSET,
            ciphertext: Hash::UNSET,
        }
    }

    /// Starts; `full` compares every page with the table too.
    pub(crate) fn start(&mut self, full: bool, purpose: Use) {
        self.full = full;
        self.purpose = purpose;
        self.stage = Stage::Start;
    }

    /// One slice: a step of the signature, or one page. `None` until the verdict. `head` was loaded
    /// from the slot and has the journal's digest; `key_set` is the one in use; each buffer holds a
    /// page.
    pub(crate) fn step<P: Platform>(
        &mut self,
        platform: &mut P,
        table: &mut TableCache,
        head: &Head,
        key_set: Option<&KeySetRecord>,
        (buffer, scratch): (&mut [u8], &mut [u8]),
    ) -> Result<Option<Verdict>, Failure> {
        match self.stage {
            Stage::Start => {
                self.plaintext.reset();
                self.plaintext.update(head.salt.as_bytes());
                self.ciphertext.reset();
                // The factory image is authentic by its digest, which provisioning pinned and which
                // the head was compared with: it boots whatever happened to its key.
                self.stage = Stage::Page(0);
                if head.slot != SlotId::Factory {
                    let signature = read_signature(platform, head, buffer)?;
                    begin_signature(platform, key_set, head, self.purpose, signature, scratch)?;
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

    #[inline(never)]
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
        if !recheck_page(platform, table, head, page, buffer, &mut plain)? {
            return Err(bad);
        }
        self.ciphertext.update(buffer);
        Ok(())
    }

    /// The digest of the plaintext that was read.
    #[inline(never)]
    pub(crate) fn measured(&self) -> Digest {
        self.plaintext.finish()
    }

    #[inline(never)]
    fn finish(&self, head: &Head) -> Result<Verdict, Failure> {
        let header = &head.header;
        let (plaintext, ciphertext) = (self.plaintext.finish(), self.ciphertext.finish());
        if !same(&plaintext.0, header.plaintext_digest()) {
            return Err(Failure::new(Reason::PlaintextDigest));
        }
        if self.full && !same(&ciphertext.0, header.ciphertext_digest()) {
            return Err(Failure::new(Reason::CiphertextDigest));
        }
        Ok(Verdict::Good {
            counter: header.security_counter(),
            exception: head.downgrade,
            limp_home: header.limp_home(),
        })
    }
}

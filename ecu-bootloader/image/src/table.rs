//! The two-level page table: the header holds a digest of each table page, a table page the digests
//! of 128 ciphertext pages. So each page is authenticated alone, in any order, before it is
//! decrypted.

use subtle::ConstantTimeEq;

use crate::crypto::sha256;
use crate::id::Digest;

/// Bytes of a table page.
pub const TABLE_PAGE_LEN: usize = 4096;
/// Page digests in one table page.
pub const ENTRIES_PER_TABLE_PAGE: u32 = 128;
/// Table pages of one image, at most.
pub const MAX_TABLE_PAGES: u16 = 16;
/// Pages of one image, at most.
pub const MAX_PAGES: u32 = 2048;

/// The digests of an image's table pages, in the order of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableDigests {
    digests: [Digest; 16],
    count: u16,
}

impl TableDigests {
    /// No digest yet.
    pub const EMPTY: Self = Self {
        digests: [Digest::ZERO; 16],
        count: 0,
    };

    /// Adds the digest of the next table page; `None` after 16.
    #[must_use]
    pub fn push(mut self, digest: Digest) -> Option<Self> {
        *self.digests.get_mut(usize::from(self.count))? = digest;
        self.count = self.count.checked_add(1)?;
        Some(self)
    }

    /// How many table pages there are.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// The digest of table page `index`, or `None` beyond the last.
    #[must_use]
    pub fn get(&self, index: u16) -> Option<&Digest> {
        if index >= self.count {
            return None;
        }
        self.digests.get(usize::from(index))
    }

    /// All digests.
    pub fn iter(&self) -> impl Iterator<Item = &Digest> {
        self.digests.iter().take(usize::from(self.count))
    }
}

/// An authenticated table page: its bytes have the digest that the header names.
#[derive(Debug, Clone, Copy)]
pub struct TablePage<'a> {
    bytes: &'a [u8; TABLE_PAGE_LEN],
    first_page: u32,
}

impl<'a> TablePage<'a> {
    /// Table page `index` of an image, or `None` where its digest is not the header's.
    #[must_use]
    pub fn authenticate(
        bytes: &'a [u8; TABLE_PAGE_LEN],
        index: u16,
        digests: &TableDigests,
    ) -> Option<Self> {
        let right = sha256(&[bytes]).0.ct_eq(&digests.get(index)?.0);
        if !bool::from(right) {
            return None;
        }
        Some(Self {
            bytes,
            first_page: u32::from(index).saturating_mul(ENTRIES_PER_TABLE_PAGE),
        })
    }

    /// The digest of page `page` of the image, or `None` where another table page has it.
    #[must_use]
    pub fn digest_of(&self, page: u32) -> Option<Digest> {
        let entry = page.checked_sub(self.first_page)?;
        digest_at(self.bytes, entry)
    }

    /// Whether `ciphertext` is page `page` of the image.
    #[must_use]
    pub fn authentic(&self, page: u32, ciphertext: &[u8]) -> bool {
        let right = self.digest_of(page);
        right.is_some_and(|right| sha256(&[ciphertext]).0.ct_eq(&right.0).into())
    }
}

/// Entry `entry` of a table page.
fn digest_at(bytes: &[u8; TABLE_PAGE_LEN], entry: u32) -> Option<Digest> {
    let (entries, _) = bytes.as_chunks::<32>();
    entries
        .get(usize::try_from(entry).ok()?)
        .copied()
        .map(Digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_with(entry: usize, byte: u8) -> [u8; TABLE_PAGE_LEN] {
        let mut page = [0; TABLE_PAGE_LEN];
        page[entry * 32..][..32].fill(byte);
        page
    }

    #[test]
    fn a_table_page_is_readable_only_when_the_header_names_its_digest() {
        let bytes = page_with(5, 7);
        let digests = TableDigests::EMPTY
            .push(Digest::ZERO)
            .and_then(|digests| digests.push(sha256(&[&bytes])))
            .unwrap();
        assert!(TablePage::authenticate(&bytes, 0, &digests).is_none());
        assert!(TablePage::authenticate(&bytes, 2, &digests).is_none());
        let table = TablePage::authenticate(&bytes, 1, &digests).unwrap();
        assert_eq!(table.digest_of(133), Some(Digest([7; 32])));
        assert_eq!(table.digest_of(127), None);
        assert_eq!(table.digest_of(256), None);
    }

    #[test]
    fn a_page_is_authentic_by_its_entry_alone() {
        let mut bytes = [0; TABLE_PAGE_LEN];
        bytes[32..64].copy_from_slice(sha256(&[b"page one"]).as_bytes());
        let digests = TableDigests::EMPTY.push(sha256(&[&bytes])).unwrap();
        let table = TablePage::authenticate(&bytes, 0, &digests).unwrap();
        assert!(table.authentic(1, b"page one"));
        assert!(!table.authentic(1, b"page 0ne"));
        assert!(!table.authentic(0, b"page one"));
        assert!(!table.authentic(128, b"page one"));
    }

    #[test]
    fn there_are_at_most_sixteen_table_pages() {
        let mut digests = TableDigests::EMPTY;
        for _ in 0..16 {
            digests = digests.push(Digest::ZERO).unwrap();
        }
        assert!(digests.push(Digest::ZERO).is_none());
    }
}

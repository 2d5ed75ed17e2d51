//! The arithmetic of TransferData: which bytes go into which block.

/// A download under way: `34` has been answered, `37` is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transfer {
    /// First byte that has not been accepted.
    offset: u32,
    /// End of the download.
    end: u32,
    /// Bytes of a full block.
    block_len: u32,
    /// A block never crosses a multiple of this; 0 where it may.
    page_size: u32,
    /// Block sequence counter of the next block.
    counter: u8,
}

impl Transfer {
    /// A download of `offset..end` in blocks of at most `max_block` bytes, none of which holds parts
    /// of two pages; each page is divided evenly. `None` where a block holds nothing.
    pub(super) fn new(offset: u32, end: u32, max_block: u32, page_size: u32) -> Option<Self> {
        let block_len = match page_size {
            _ if max_block == 0 => return None,
            0 => max_block,
            page => page.div_ceil(page.div_ceil(max_block)),
        };
        Some(Self {
            offset,
            end,
            block_len,
            page_size,
            counter: 1,
        })
    }

    /// Counter, offset and length of the next block; `None` when all are accepted.
    pub(super) fn block(&self) -> Option<(u8, u32, u32)> {
        let left = self.end.saturating_sub(self.offset);
        let page_left = match self.page_size {
            0 => left,
            page => page - self.offset % page,
        };
        let len = left.min(page_left).min(self.block_len);
        (len > 0).then_some((self.counter, self.offset, len))
    }

    /// The block was accepted; returns the bytes accepted so far, counted from 0.
    pub(super) fn advance(&mut self) -> u32 {
        if let Some((_, offset, len)) = self.block() {
            self.offset = offset + len;
            self.counter = self.counter.wrapping_add(1);
        }
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blocks(mut transfer: Transfer) -> Vec<(u8, u32, u32)> {
        std::iter::from_fn(|| {
            let block = transfer.block()?;
            transfer.advance();
            Some(block)
        })
        .collect()
    }

    #[test]
    fn a_page_goes_in_even_blocks() {
        let transfer = Transfer::new(4096, 3 * 4096, 4093, 4096).unwrap();
        assert_eq!(
            blocks(transfer),
            [
                (1, 4096, 2048),
                (2, 6144, 2048),
                (3, 8192, 2048),
                (4, 10240, 2048)
            ]
        );
    }

    #[test]
    fn metadata_goes_in_full_blocks() {
        let transfer = Transfer::new(0, 5888, 4093, 0).unwrap();
        assert_eq!(blocks(transfer), [(1, 0, 4093), (2, 4093, 1795)]);
    }

    #[test]
    fn the_counter_wraps_to_zero() {
        let transfer = Transfer::new(0, 257, 1, 0).unwrap();
        let counters: Vec<u8> = blocks(transfer).iter().map(|block| block.0).collect();
        assert_eq!(counters[254..], [255, 0, 1]);
    }

    proptest! {
        #[test]
        fn every_byte_goes_once_and_no_block_crosses_a_page(
            page_log in 8u32..=13, pages in 1u32..20, skip in 0u32..20, max_block in 1u32..9000
        ) {
            let page = 1 << page_log;
            let (start, end) = (page * skip.min(pages), page * pages);
            let mut next = start;
            for (_, offset, len) in blocks(Transfer::new(start, end, max_block, page).unwrap()) {
                prop_assert_eq!(offset, next);
                prop_assert!(len <= max_block);
                prop_assert_eq!(offset / page, (offset + len - 1) / page);
                next = offset + len;
            }
            prop_assert_eq!(next, end);
        }
    }
}

//! What the bytes alone do not say: which bits are marginal, and what an error-correcting code knows
//! of its words.

use crate::cut::Rng;
use std::collections::BTreeMap;
use std::ops::Range;

/// A word that a cut left between two values: as it was, and as it should be.
#[derive(Debug, Clone)]
struct TornWord {
    old: Vec<u8>,
    new: Vec<u8>,
}

/// The marks of one chip.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// Bits that did not settle, by byte: what they read is decided at each read.
    masks: BTreeMap<u32, u8>,
    /// One bit for each word that was programmed since its erase; empty without ECC.
    programmed: Vec<u64>,
    /// With ECC only, by address.
    torn: BTreeMap<u32, TornWord>,
    pub(crate) rng: Rng,
}

impl Marks {
    /// For a chip of `words` words; `ecc` remembers which are programmed.
    pub(crate) fn new(words: u32, ecc: bool) -> Self {
        Self {
            masks: BTreeMap::new(),
            programmed: vec![0; if ecc { words.div_ceil(64) as usize } else { 0 }],
            torn: BTreeMap::new(),
            rng: Rng(0x6E6F_7200),
        }
    }

    /// Lets the marginal bits of what was read at `addr` read as they like this time.
    pub(crate) fn disturb(&mut self, addr: u32, bytes: &mut [u8]) {
        if self.masks.is_empty() {
            return;
        }
        for (at, byte) in (addr..).zip(bytes) {
            if let Some(mask) = self.masks.get(&at) {
                *byte ^= mask & self.rng.byte();
            }
        }
    }

    /// Whether a word in this range may read as an error.
    pub(crate) fn has_torn(&self, range: Range<u32>) -> bool {
        !self.torn.is_empty() && self.torn.range(range).next().is_some()
    }

    /// The first word of what was read at `addr`, aligned, that is neither as it was before a cut
    /// nor as it should have become.
    pub(crate) fn uncorrectable(&self, addr: u32, bytes: &[u8]) -> Option<u32> {
        let end = addr.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let mut torn = self.torn.range(addr..end);
        torn.find(|(at, word)| {
            let from = (*at - addr) as usize;
            let read = &bytes[from..from + word.old.len()];
            read != word.old && read != word.new
        })
        .map(|(at, _)| *at)
    }

    /// Whether nothing of the range is marginal or torn.
    pub(crate) fn is_settled(&self, range: Range<u32>) -> bool {
        !self.has_torn(range.clone()) && self.masks.range(range).next().is_none()
    }

    /// The first address in the range at which a program is a violation, whatever it reads.
    pub(crate) fn first_used(&self, range: Range<u32>, word: u32) -> Option<u32> {
        let marginal = self.masks.range(range.clone()).next().map(|(at, _)| *at);
        let mut words = range.step_by(word as usize);
        let programmed = words.find(|at| self.is_programmed(at / word));
        marginal.into_iter().chain(programmed).min()
    }

    fn is_programmed(&self, index: u32) -> bool {
        let bits = self.programmed.get((index / 64) as usize);
        bits.is_some_and(|bits| bits >> (index % 64) & 1 == 1)
    }

    /// Words from `index` on were programmed, or erased.
    pub(crate) fn note(&mut self, index: u32, count: u32, programmed: bool) {
        for index in index..index + count {
            if let Some(bits) = self.programmed.get_mut((index / 64) as usize) {
                let bit = 1 << (index % 64);
                *bits = if programmed {
                    *bits | bit
                } else {
                    *bits & !bit
                };
            }
        }
    }

    /// The bytes of the range are new: nothing of before counts.
    pub(crate) fn settle(&mut self, range: Range<u32>) {
        forget(&mut self.masks, range.clone());
        forget(&mut self.torn, range);
    }

    /// Some bits of the byte at `addr` are marginal.
    pub(crate) fn unsettle(&mut self, addr: u32, mask: u8) {
        self.masks.insert(addr, mask);
    }

    /// A cut left the word at `addr` between `old` and `new`.
    pub(crate) fn tear(&mut self, addr: u32, old: &[u8], new: &[u8]) {
        let (old, new) = (old.to_vec(), new.to_vec());
        self.torn.insert(addr, TornWord { old, new });
    }
}

fn forget<T>(marks: &mut BTreeMap<u32, T>, range: Range<u32>) {
    let within: Vec<u32> = marks.range(range).map(|(at, _)| *at).collect();
    for at in within {
        marks.remove(&at);
    }
}

//! Power cuts: where they fall and what a torn operation leaves behind.

/// Loss of power at one operation.
///
/// Operations (erases and programs, not reads) are counted from 0 over the life of the [`Nor`];
/// see [`Nor::operations`].
///
/// [`Nor`]: crate::Nor
/// [`Nor::operations`]: crate::Nor::operations
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The number of the operation.
    pub operation: u64,
    /// Before, inside or after it.
    pub when: When,
}

/// The place of a cut relative to its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum When {
    /// Nothing of the operation happened.
    Before,
    /// A part of the operation happened.
    Inside {
        /// Which part.
        tear: Tear,
        /// Which of the bits that did not reach their new value are marginal.
        marginal: Marginal,
    },
    /// All of it happened, but the caller did not learn so.
    After,
}

/// Which of the bits that an operation changes have changed when power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tear {
    /// Those of the first words, all; of the others, none.
    Prefix {
        /// How many words.
        words: u32,
    },
    /// All but one.
    MissingBit {
        /// Which one, counted over the changing bits and taken modulo their number.
        bit: u32,
    },
    /// Those in the first half of the range.
    FirstHalf,
    /// Those in the second half of the range.
    SecondHalf,
    /// Those in even bit positions.
    EvenBits,
    /// Those in odd bit positions.
    OddBits,
    /// A subset chosen by this seed, half of them on average.
    Seeded(u64),
}

/// Which of the bits left behind are marginal: they read differently from read to read, also after
/// a reset, until their sector is erased. Programming such a word is a violation although it may
/// read blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Marginal {
    /// None: every bit reads as it was left.
    None,
    /// One, the first: the rest of the operation shows no sign of it.
    One,
    /// A seeded half of them, the first one in any case.
    Half,
}

impl Marginal {
    /// All three.
    pub const ALL: [Self; 3] = [Self::None, Self::One, Self::Half];
}

/// How many seeded subsets [`Extent::tears`] has.
pub const SEEDED_TEARS: u64 = 64;

/// How much an operation changes; from [`Nor::extent_of_erase`] and [`Nor::extent_of_program`].
///
/// [`Nor::extent_of_erase`]: crate::Nor::extent_of_erase
/// [`Nor::extent_of_program`]: crate::Nor::extent_of_program
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Words in its range.
    pub words: u32,
    /// Bits that it changes.
    pub bits: u32,
}

impl Extent {
    /// Every way to tear the operation: each prefix of words, each single missing bit, each half,
    /// the even and the odd bits, and [`SEEDED_TEARS`] seeded subsets.
    pub fn tears(self) -> impl Iterator<Item = Tear> {
        self.tears_within(u32::MAX, u32::MAX, 0)
    }

    /// The same with at most so many prefixes and missing bits: spread over the whole range, the
    /// first ones shifted by `seed`.
    pub fn tears_within(self, prefixes: u32, bits: u32, seed: u64) -> impl Iterator<Item = Tear> {
        let prefix = spread(self.words, prefixes, seed).map(|words| Tear::Prefix { words });
        let missing = spread(self.bits, bits, seed).map(|bit| Tear::MissingBit { bit });
        let whole = [
            Tear::FirstHalf,
            Tear::SecondHalf,
            Tear::EvenBits,
            Tear::OddBits,
        ];
        prefix
            .chain(missing)
            .chain(whole)
            .chain((0..SEEDED_TEARS).map(Tear::Seeded))
    }
}

/// At most `limit` of the numbers below `count`: all, or 0 and then one of each equal stretch.
fn spread(count: u32, limit: u32, seed: u64) -> impl Iterator<Item = u32> {
    let step = count.div_ceil(limit.max(1)).max(1);
    let shift = u32::try_from(seed % u64::from(step)).unwrap_or(0);
    (0..count).step_by(step as usize).map(move |at| {
        if at == 0 {
            0
        } else {
            (at + shift).min(count - 1)
        }
    })
}

/// What a torn change of `old` into `new` leaves: the bytes and a mask of the bits left behind.
pub(crate) fn torn(old: &[u8], new: &[u8], word: usize, tear: Tear) -> (Vec<u8>, Vec<u8>) {
    let changing: u64 = old
        .iter()
        .zip(new)
        .map(|(old, new)| u64::from((old ^ new).count_ones()))
        .sum();
    let mut rng = Rng(match tear {
        Tear::Seeded(seed) => seed,
        _ => 0,
    });
    let half = new.len() / 2;
    let mut seen = 0;
    let missing = old.iter().zip(new).enumerate().map(|(at, (old, new))| {
        let mut left = 0;
        for bit in (0..8u8).filter(|bit| (old ^ new) >> bit & 1 == 1) {
            let moved = match tear {
                Tear::Prefix { words } => at < (words as usize).saturating_mul(word),
                Tear::MissingBit { bit } => seen != u64::from(bit) % changing,
                Tear::FirstHalf => at < half,
                Tear::SecondHalf => at >= half,
                Tear::EvenBits => bit % 2 == 0,
                Tear::OddBits => bit % 2 == 1,
                Tear::Seeded(_) => rng.next() & 1 == 1,
            };
            seen += 1;
            left |= u8::from(!moved) << bit;
        }
        left
    });
    let missing: Vec<u8> = missing.collect();
    let bytes = new
        .iter()
        .zip(&missing)
        .map(|(new, left)| new ^ left)
        .collect();
    (bytes, missing)
}

/// The marginal ones of the `missing` bits: position of the byte and mask.
pub(crate) fn marginal_bits(missing: &[u8], marginal: Marginal, rng: &mut Rng) -> Vec<(usize, u8)> {
    let mut masks = Vec::new();
    for (at, missing) in missing.iter().enumerate().filter(|(_, left)| **left != 0) {
        let first = masks.is_empty();
        let lowest = missing & missing.wrapping_neg();
        let mask = match marginal {
            Marginal::None => 0,
            Marginal::One if first => lowest,
            Marginal::One => 0,
            Marginal::Half if first => (missing & rng.byte()) | lowest,
            Marginal::Half => missing & rng.byte(),
        };
        if mask != 0 {
            masks.push((at, mask));
        }
        if marginal != Marginal::Half {
            break;
        }
    }
    masks
}

/// SplitMix64: small, seeded, good enough for faults.
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One random byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn program(tear: Tear) -> Vec<u8> {
        torn(&[0xFF; 8], &[0x00; 8], 4, tear).0
    }

    #[test]
    fn each_tear_leaves_what_it_says() {
        assert_eq!(program(Tear::Prefix { words: 0 }), [0xFF; 8]);
        assert_eq!(
            program(Tear::Prefix { words: 1 }),
            [0, 0, 0, 0, 255, 255, 255, 255]
        );
        assert_eq!(program(Tear::Prefix { words: u32::MAX }), [0; 8]);
        assert_eq!(
            program(Tear::MissingBit { bit: 64 + 9 }),
            [0, 2, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(program(Tear::FirstHalf), [0, 0, 0, 0, 255, 255, 255, 255]);
        assert_eq!(program(Tear::SecondHalf), [255, 255, 255, 255, 0, 0, 0, 0]);
        assert_eq!(program(Tear::EvenBits), [0xAA; 8]);
        assert_eq!(program(Tear::OddBits), [0x55; 8]);
        assert_ne!(program(Tear::Seeded(1)), program(Tear::Seeded(2)));
    }

    #[test]
    fn an_erase_tears_too() {
        let (bytes, missing) = torn(&[0x00; 2], &[0xFF; 2], 1, Tear::MissingBit { bit: 0 });
        assert_eq!((bytes, missing), (vec![0xFE, 0xFF], vec![1, 0]));
    }

    #[test]
    fn every_prefix_and_every_missing_bit_is_listed() {
        let tears: Vec<Tear> = Extent { words: 3, bits: 5 }.tears().collect();
        assert_eq!(tears.len(), 3 + 5 + 2 + 2 + 64);
        assert!((0..3).all(|words| tears.contains(&Tear::Prefix { words })));
        assert!((0..5).all(|bit| tears.contains(&Tear::MissingBit { bit })));
    }

    #[test]
    fn a_limited_list_is_spread_over_the_whole() {
        assert_eq!(spread(10, 3, 0).collect::<Vec<_>>(), [0, 4, 8]);
        assert_eq!(spread(10, 3, 3).collect::<Vec<_>>(), [0, 7, 9]);
        assert_eq!(spread(3, 10, 7).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(0, 10, 7).count(), 0);
    }

    #[test]
    fn marginal_bits_are_some_of_those_left_behind() {
        let of = |marginal| marginal_bits(&[0, 6, 1], marginal, &mut Rng(1));
        assert_eq!(of(Marginal::None), []);
        assert_eq!(of(Marginal::One), [(1, 2)]);
        let half = of(Marginal::Half);
        assert!(half[0].0 == 1 && half[0].1 & 2 == 2, "{half:?}");
    }

    fn any_tear() -> impl Strategy<Value = Tear> {
        prop_oneof![
            (0..6u32).prop_map(|words| Tear::Prefix { words }),
            any::<u32>().prop_map(|bit| Tear::MissingBit { bit }),
            Just(Tear::FirstHalf),
            Just(Tear::SecondHalf),
            Just(Tear::EvenBits),
            Just(Tear::OddBits),
            any::<u64>().prop_map(Tear::Seeded),
        ]
    }

    proptest! {
        #[test]
        fn a_tear_never_invents_bits(old: [u8; 16], new: [u8; 16], tear in any_tear()) {
            let (bytes, missing) = torn(&old, &new, 4, tear);
            for at in 0..16 {
                prop_assert_eq!((bytes[at] ^ old[at]) & !(old[at] ^ new[at]), 0);
                prop_assert_eq!(bytes[at] ^ new[at], missing[at]);
            }
            if let Tear::MissingBit { .. } = tear {
                let left: u32 = missing.iter().map(|byte| byte.count_ones()).sum();
                prop_assert_eq!(left, u32::from(old != new));
            }
        }
    }
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Nothing of the operation happened.
    Before,
    /// A part of the operation happened.
    Inside {
        /// Which part.
        tear: Tear,
        /// Whether bits that did not reach their new value are marginal: a seeded half of them,
        /// at least one, read differently from read to read, also after a reset, until their
        /// sector is erased. Programming such a word is a violation although it may read blank.
        unstable: bool,
    },
    /// All of it happened, but the caller did not learn so.
    After,
}

/// Which of the bits that an operation changes have changed when power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    Half,
    /// Those in even bit positions.
    Alternating,
    /// A subset chosen by this seed, half of them on average.
    Seeded(u64),
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
                Tear::Half => at < half,
                Tear::Alternating => bit % 2 == 0,
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
        assert_eq!(program(Tear::Half), [0, 0, 0, 0, 255, 255, 255, 255]);
        assert_eq!(program(Tear::Alternating), [0xAA; 8]);
        assert_ne!(program(Tear::Seeded(1)), program(Tear::Seeded(2)));
    }

    #[test]
    fn an_erase_tears_too() {
        let (bytes, missing) = torn(&[0x00; 2], &[0xFF; 2], 1, Tear::MissingBit { bit: 0 });
        assert_eq!((bytes, missing), (vec![0xFE, 0xFF], vec![1, 0]));
    }

    fn any_tear() -> impl Strategy<Value = Tear> {
        prop_oneof![
            (0..6u32).prop_map(|words| Tear::Prefix { words }),
            any::<u32>().prop_map(|bit| Tear::MissingBit { bit }),
            Just(Tear::Half),
            Just(Tear::Alternating),
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

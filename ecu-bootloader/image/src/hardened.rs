//! Comparison for decisions that one disturbed instruction must not turn.
//!
//! A decision that matters is made twice, by different code: first as anywhere, by a comparison and
//! a branch; then from a [`difference`], a word that is zero only where everything compared is the
//! same. Why: `docs/adr/0009-second-look-before-the-boot.md`.

use core::hint::black_box;

/// Zero where `a` and `b` are the same bytes. Otherwise, and where the comparison did not run to its
/// end, not zero. It takes the same time wherever they differ.
#[must_use]
#[inline(never)]
pub fn difference(a: &[u8], b: &[u8]) -> u32 {
    let mut left = a.len();
    let mut found = left ^ b.len();
    // From the end and by addition: not the instructions of the first comparison.
    for (a, b) in a.iter().rev().zip(b.iter().rev()) {
        found = black_box(found).wrapping_add(usize::from(*a ^ *b));
        left = black_box(left).wrapping_sub(1);
    }
    // Less than 2^24 bytes are compared: the sum cannot come back to zero.
    u32::try_from(black_box(found | left)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_of_another_length_differ() {
        assert_eq!(difference(&[], &[]), 0);
        for (a, b) in [(&[0; 4][..], &[0; 3][..]), (&[0; 3], &[0; 4]), (&[], &[0])] {
            assert_ne!(difference(a, b), 0);
        }
    }

    proptest! {
        #[test]
        fn only_the_same_bytes_do_not_differ(
            bytes in prop::collection::vec(any::<u8>(), 1..600),
            at: prop::sample::Index,
            flip in 1..=255u8,
        ) {
            let mut other = bytes.clone();
            prop_assert_eq!(difference(&bytes, &other), 0);
            other[at.index(bytes.len())] ^= flip;
            prop_assert_ne!(difference(&bytes, &other), 0);
        }
    }
}

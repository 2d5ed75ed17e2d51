//! SHA-256 (FIPS 180-4) of bytes that arrive in parts. The crate's compression function with a buffer of
//! our own: that of the crate is for every hash there is, and takes twice the flash.

use core::fmt;
use core::slice;

use sha2::block_api::compress256;

use crate::id::{Digest, Salt};

const BLOCK: usize = 64;
/// Where the length is in the last block.
const LENGTH_AT: usize = 56;

/// Clause 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// SHA-256 over the concatenation of `parts`.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hash = Hash::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finish()
}

/// SHA-256 of what arrives in parts.
#[derive(Clone)]
pub struct Hash {
    state: [u32; 8],
    block: [u8; BLOCK],
    /// Bytes so far; less than 2^61.
    len: u64,
}

impl Hash {
    /// All zeros: not of anything before a [`Hash::reset`].
    pub const UNSET: Self = Self {
        state: [0; 8],
        block: [0; BLOCK],
        len: 0,
    };

    /// Of nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        let mut new = Self::UNSET;
        new.reset();
        new
    }

    /// Of nothing again.
    #[inline(never)]
    pub const fn reset(&mut self) {
        self.state = INITIAL;
        self.len = 0;
    }

    /// The salted digest of a plaintext: starts with the salt.
    #[must_use]
    pub fn salted(salt: &Salt) -> Self {
        let mut new = Self::new();
        new.update(salt.as_bytes());
        new
    }

    /// How many bytes of the block are filled.
    const fn filled(&self) -> usize {
        let [low, ..] = self.len.to_le_bytes();
        (low as usize) % BLOCK
    }

    /// Adds bytes.
    #[inline(never)]
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let filled = self.filled();
            let room = self.block.get_mut(filled..).unwrap_or(&mut []);
            let (now, rest) = bytes.split_at(room.len().min(bytes.len()));
            for (to, from) in room.iter_mut().zip(now) {
                *to = *from;
            }
            self.len = self.len.wrapping_add(u64::try_from(now.len()).unwrap_or(0));
            bytes = rest;
            if self.filled() == 0 {
                compress256(&mut self.state, slice::from_ref(&self.block));
            }
        }
    }

    /// The digest.
    #[inline(never)]
    #[must_use]
    pub fn finish(&self) -> Digest {
        let mut last = self.clone();
        // One bit, then zeros until the length ends a block.
        last.update(&[0x80]);
        while last.filled() != LENGTH_AT {
            last.update(&[0]);
        }
        last.update(&self.len.wrapping_mul(8).to_be_bytes());
        let mut digest = Digest::ZERO;
        let (words, _) = digest.0.as_chunks_mut();
        for (bytes, word) in words.iter_mut().zip(&last.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    fn is_right(parts: &[&[u8]]) -> bool {
        let whole = parts.concat();
        sha256(parts).0 == <[u8; 32]>::from(Sha256::digest(whole))
    }

    /// FIPS 180-4, example of one block: "abc".
    #[test]
    fn the_example_of_the_standard() {
        let start = [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea];
        assert!(sha256(&[b"abc"]).0.starts_with(&start));
    }

    #[test]
    fn every_length_to_the_third_block_is_padded_rightly() {
        let bytes = [0x5A; 3 * BLOCK];
        for len in 0..=bytes.len() {
            assert!(is_right(&[&bytes[..len]]), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn parts_of_any_length_make_the_digest_of_the_whole(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
        ) {
            let parts: std::vec::Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
            prop_assert!(is_right(&parts));
        }
    }
}

//! AES and what the envelope does with it, as small as it gets: for an ECU whose flash counts for
//! more than its time.
//!
//! Nothing depends on a secret but data: no address, no branch. The S-box is computed from its
//! definition (FIPS 197 clause 5.1.1) in four bytes of a word at once: the inverse in GF(2^8) by four
//! products and three powers of two, which are linear, then the affine map. With the feature
//! `fast-aes` the RustCrypto crates take its place; the tests compare the two.

use zeroize::Zeroize;

/// The lowest bit of each of the four bytes.
const ONES: u32 = 0x0101_0101;
/// Of AES-128; of AES-256 where it is supported.
const MAX_ROUNDS: usize = if cfg!(feature = "aes-256") { 14 } else { 10 };

/// Four columns of four bytes.
type Block = [u8; 16];

/// A linear map of bits to bytes: what each bit of a byte becomes.
type Map = [u8; 8];

/// Each byte times x, modulo the polynomial of clause 4.2.
#[inline(always)]
const fn times_x(bytes: u32) -> u32 {
    let carry = (bytes >> 7) & ONES;
    ((bytes & !(ONES << 7)) << 1) ^ carry.wrapping_mul(0x1B)
}

/// The same, where it is not the innermost loop.
#[inline(never)]
fn double(bytes: u32) -> u32 {
    times_x(bytes)
}

/// The product of each pair of bytes, from the highest bit on.
#[inline(never)]
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for _ in 0..8 {
        let bit = (b >> 7) & ONES;
        product = times_x(product) ^ (a & (bit << 8).wrapping_sub(bit));
        b <<= 1;
    }
    product
}

/// The image of each byte.
#[inline(never)]
fn map(mut bytes: u32, map: &Map) -> u32 {
    let mut image = 0;
    for column in map {
        image ^= (bytes & ONES).wrapping_mul(u32::from(*column));
        bytes >>= 1;
    }
    image
}

/// The map that multiplies each bit's power of x by itself, `times` times.
const fn power(times: u32) -> Map {
    let mut map = [0; 8];
    let mut rest: &mut [u8] = &mut map;
    let mut column = 1u32;
    while let [first, others @ ..] = rest {
        let [low, ..] = column.to_le_bytes();
        *first = low;
        let mut step = 0;
        while step < 1 << times {
            column = times_x(column);
            step = u32::wrapping_add(step, 1);
        }
        rest = others;
    }
    map
}

/// The map that adds up rotations of a byte.
const fn rotations(byte: u8) -> Map {
    let mut map = [0; 8];
    let mut rest: &mut [u8] = &mut map;
    let mut column = byte;
    while let [first, others @ ..] = rest {
        *first = column;
        column = column.rotate_left(1);
        rest = others;
    }
    map
}

static SQUARE: Map = power(1);
static FOURTH: Map = power(2);
static SIXTEENTH: Map = power(4);
/// The linear part of the S-box, and back.
static AFFINE: Map = rotations(0x1F);
static AFFINE_BACK: Map = rotations(0x4A);
/// The constant part of it.
const CONSTANT: u32 = 0x63 * ONES;

/// The inverse of each byte, 0 of 0: its power 254 = 240 + 12 + 2.
#[inline(never)]
fn invert(x: u32) -> u32 {
    let x2 = map(x, &SQUARE);
    let x3 = multiply(x, x2);
    let x12 = map(x3, &FOURTH);
    let x240 = map(multiply(x12, x3), &SIXTEENTH);
    multiply(x240, multiply(x12, x2))
}

/// The S-box of each byte.
#[inline(never)]
fn substitute(bytes: u32) -> u32 {
    map(invert(bytes), &AFFINE) ^ CONSTANT
}

fn substitute_back(bytes: u32) -> u32 {
    invert(map(bytes ^ CONSTANT, &AFFINE_BACK))
}

/// MixColumns of a column.
fn mix(column: u32) -> u32 {
    let twice = double(column);
    let thrice = twice ^ column;
    twice ^ thrice.rotate_right(8) ^ column.rotate_right(16) ^ column.rotate_right(24)
}

/// What makes MixColumns its inverse: the quotient of the two matrices.
fn before_mix(column: u32) -> u32 {
    column ^ double(double(column ^ column.rotate_right(16)))
}

/// ShiftRows and its inverse: bytes that lie `step` apart, around the block.
fn shift_rows(block: &mut Block, step: usize) {
    let before = *block;
    let mut at = 0;
    for byte in block {
        *byte = before.get(at % 16).copied().unwrap_or(0);
        at = at.wrapping_add(step);
    }
}

fn each(block: &mut Block, change: impl Fn(u32) -> u32) {
    for column in block.as_chunks_mut().0 {
        *column = change(u32::from_le_bytes(*column)).to_le_bytes();
    }
}

/// Which way a block is turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// An expanded key.
struct Aes {
    keys: [Block; MAX_ROUNDS + 1],
    rounds: usize,
}

impl Drop for Aes {
    #[inline(never)]
    fn drop(&mut self) {
        self.keys.as_flattened_mut().zeroize();
    }
}

impl Aes {
    /// Expands a key of 16 or, where supported, 32 bytes (clause 5.2).
    #[inline(never)]
    fn new(key: &[u8]) -> Self {
        let mut keys = [[0; 16]; MAX_ROUNDS + 1];
        let wide = cfg!(feature = "aes-256") && key.len() > 16;
        let (first, second) = key.split_first_chunk().unwrap_or((&[0; 16], &[]));
        let mut current = *first;
        let mut next = *second.first_chunk().unwrap_or(first);
        let mut constant = 1;
        let mut odd = false;
        for place in &mut keys {
            *place = current;
            let [.., a, b, c, d] = next;
            let last = u32::from_le_bytes([a, b, c, d]);
            let mut add = if wide && odd {
                substitute(last)
            } else {
                let word = substitute(last.rotate_right(8)) ^ constant;
                constant = double(constant);
                word
            };
            for column in current.as_chunks_mut().0 {
                add ^= u32::from_le_bytes(*column);
                *column = add.to_le_bytes();
            }
            if wide {
                core::mem::swap(&mut current, &mut next);
                odd = !odd;
            } else {
                next = current;
            }
        }
        let rounds = if wide { MAX_ROUNDS } else { 10 };
        Self { keys, rounds }
    }

    fn encrypt(&self, block: &mut Block) {
        self.turn(block, Way::There);
    }

    fn decrypt(&self, block: &mut Block) {
        self.turn(block, Way::Back);
    }

    /// Cipher with ShiftRows before SubBytes, which can change places, and InvCipher (clauses 5.1 and
    /// 5.3): so both begin alike.
    #[inline(never)]
    fn turn(&self, block: &mut Block, way: Way) {
        let mut left = self.rounds;
        self.add_key(block, left, way);
        while left > 0 {
            left = left.wrapping_sub(1);
            shift_rows(block, if way == Way::There { 5 } else { 13 });
            each(block, |column| match way {
                Way::There => substitute(column),
                Way::Back => substitute_back(column),
            });
            if way == Way::Back {
                self.add_key(block, left, way);
            }
            if left > 0 {
                each(block, |column| match way {
                    Way::There => mix(column),
                    Way::Back => mix(before_mix(column)),
                });
            }
            if way == Way::There {
                self.add_key(block, left, way);
            }
        }
    }

    /// Adds the key before the last `left` rounds.
    #[inline(never)]
    fn add_key(&self, block: &mut Block, left: usize, way: Way) {
        let at = match way {
            Way::There => self.rounds.wrapping_sub(left),
            Way::Back => left,
        };
        xor(block, self.keys.get(at).unwrap_or(&[0; 16]));
    }
}

#[inline(never)]
fn xor(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= *from;
    }
}

/// AES-CMAC (NIST SP 800-38B) under a key of 16 bytes.
#[inline(never)]
#[must_use]
pub fn cmac(key: &[u8; 16], message: &[u8]) -> [u8; 16] {
    let aes = Aes::new(key);
    let mut mac = [0; 16];
    let mut rest = message;
    while let Some((block, behind)) = rest
        .split_first_chunk::<16>()
        .filter(|(_, behind)| !behind.is_empty())
    {
        xor(&mut mac, block);
        aes.encrypt(&mut mac);
        rest = behind;
    }
    let mut subkey = [0; 16];
    aes.encrypt(&mut subkey);
    double_block(&mut subkey);
    xor(&mut mac, rest);
    if let Some(end) = mac.get_mut(rest.len()) {
        *end ^= 0x80;
        double_block(&mut subkey);
    }
    xor(&mut mac, &subkey);
    aes.encrypt(&mut mac);
    mac
}

/// Times x in GF(2^128).
#[inline(never)]
fn double_block(block: &mut [u8; 16]) {
    let mut carry = 0;
    for byte in block.iter_mut().rev() {
        let high = *byte >> 7;
        *byte = (*byte << 1) | carry;
        carry = high;
    }
    let [.., last] = block;
    *last ^= carry.wrapping_mul(0x87);
}

/// AES-KW (RFC 3394 clause 2.2.2): `key` and salt in place behind the integrity value, which is
/// returned xor what it should be: zero where the wrapping is right.
#[inline(never)]
#[must_use]
pub fn unwrap(key: &[u8; 16], wrapped: &mut [u8]) -> u64 {
    let aes = Aes::new(key);
    let (chunks, _) = wrapped.as_chunks_mut::<8>();
    let Some((integrity, registers)) = chunks.split_first_mut() else {
        return u64::MAX;
    };
    let mut step = registers.len().wrapping_mul(6);
    for _ in 0..6 {
        for register in registers.iter_mut().rev() {
            let [.., low] = integrity;
            // At most 36.
            *low ^= u8::try_from(step).unwrap_or(0);
            step = step.wrapping_sub(1);
            let mut block = [*integrity, *register];
            if let Some(block) = block.as_flattened_mut().first_chunk_mut() {
                aes.decrypt(block);
            }
            [*integrity, *register] = block;
        }
    }
    u64::from_ne_bytes(*integrity) ^ 0xA6A6_A6A6_A6A6_A6A6
}

/// AES-CBC decryption in place, or encryption; `data` is whole blocks, `key` 16 bytes, or 32 with the
/// feature `aes-256`.
#[inline(never)]
pub fn cbc(key: &[u8], iv: &[u8; 16], data: &mut [u8], encrypt: bool) {
    let aes = Aes::new(key);
    let mut before = *iv;
    for block in data.as_chunks_mut::<16>().0 {
        if encrypt {
            xor(block, &before);
            aes.encrypt(block);
            before = *block;
        } else {
            let stored = core::mem::replace(&mut before, *block);
            aes.decrypt(block);
            xor(block, &stored);
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::fast;
    use proptest::prelude::*;

    /// The cipher example of FIPS 197 appendix B, and the first bytes of the S-box and its inverse.
    #[test]
    fn it_is_the_cipher_of_the_standard() {
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let plain = 0x3243_f6a8_885a_308d_3131_98a2_e037_0734_u128.to_be_bytes();
        let mut block = plain;
        Aes::new(&key).encrypt(&mut block);
        assert_eq!(
            u128::from_be_bytes(block),
            0x3925_841d_02dc_09fb_dc11_8597_196a_0b32
        );
        Aes::new(&key).decrypt(&mut block);
        assert_eq!(block, plain);
        assert_eq!(substitute(0x0302_0100), 0x7b77_7c63);
        for byte in 0..=u8::MAX {
            let byte = u32::from(byte);
            assert_eq!(substitute_back(substitute(byte)) & 0xFF, byte);
        }
    }

    proptest! {
        #[test]
        fn both_implementations_do_the_same(
            key: [u8; 32],
            iv: [u8; 16],
            blocks in 0..5usize,
            fill: u8,
            encrypt: bool,
        ) {
            for key in [&key[..], &key[..16]] {
                let mut ours = vec![fill; 16 * blocks];
                let mut theirs = ours.clone();
                cbc(key, &iv, &mut ours, encrypt);
                fast::cbc(key, &iv, &mut theirs, encrypt);
                prop_assert_eq!(ours, theirs);
            }
        }

        #[test]
        fn macs_are_the_same(key: [u8; 16], message in prop::collection::vec(any::<u8>(), 0..70)) {
            prop_assert_eq!(cmac(&key, &message), fast::cmac(&key, &message));
        }

        #[test]
        fn what_unwraps_is_the_same(key: [u8; 16], content: [u8; 16], salt: [u8; 16], altered in 0..60usize) {
            let wrapped = crate::crypto::WrapKey::new(key)
                .wrap(&crate::crypto::ContentKey::Aes128(content), &crate::Salt(salt));
            let mut ours = wrapped.as_bytes().to_vec();
            if let Some(byte) = ours.get_mut(altered) {
                *byte ^= 4;
            }
            let mut theirs = ours.clone();
            let wrong = altered < ours.len();
            prop_assert_eq!(unwrap(&key, &mut ours) != 0, wrong);
            prop_assert_eq!(fast::unwrap(&key, &mut theirs) != 0, wrong);
            if !wrong {
                prop_assert_eq!(&ours[8..], &theirs[8..]);
                prop_assert_eq!(&ours[8..], &[content, salt].concat()[..]);
            }
        }
    }
}

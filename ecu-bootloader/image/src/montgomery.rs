//! Montgomery arithmetic modulo an RSA modulus, on 32-bit limbs, without allocation.
//!
//! Everything here is public (keys, signatures), yet the work depends on the length of the modulus
//! alone, so that the time of a verification tells nothing about where it failed.

/// Limbs of the largest modulus: 4096 bits, or 3072 where no larger key is built in.
pub(crate) const MAX_LIMBS: usize = if cfg!(feature = "rsa-4096") { 128 } else { 96 };

/// Bytes of the largest number.
pub(crate) const MAX_BYTES: usize = MAX_LIMBS * 4;

/// A number of at most the bits of the largest modulus, least significant limb first.
pub(crate) type Number = [u32; MAX_LIMBS];

/// Low and high half of a 64-bit value.
const fn split(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

/// `sum + a * b + carry` as digit and carry; it cannot exceed 64 bits.
fn multiply_add(sum: u32, a: u32, b: u32, carry: u32) -> (u32, u32) {
    let product = u64::from(a).wrapping_mul(u64::from(b));
    split(
        product
            .wrapping_add(u64::from(sum))
            .wrapping_add(u64::from(carry)),
    )
}

/// `a - b - borrow` and the new borrow.
const fn subtract(a: u32, b: u32, borrow: bool) -> (u32, bool) {
    let (difference, first) = a.overflowing_sub(b);
    let (difference, second) = difference.overflowing_sub(borrow as u32);
    (difference, first | second)
}

/// An odd modulus whose top bit is set, so it fills its limbs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Modulus {
    limbs: Number,
    len: usize,
    /// `-n^-1` modulo 2^32.
    inverse: u32,
}

impl Modulus {
    /// No modulus. No constant: zeros are written, not copied from flash.
    #[inline]
    pub(crate) const fn none() -> Self {
        Self {
            limbs: [0; MAX_LIMBS],
            len: 0,
            inverse: 0,
        }
    }

    /// Takes the modulus of big-endian bytes, or none where it is even, has its top bit clear, has no
    /// whole number of limbs or too many bits. Whether it is one.
    pub(crate) fn set(&mut self, bytes: &[u8]) -> bool {
        self.len = 0;
        let odd = bytes.last().is_some_and(|byte| byte & 1 == 1);
        let full = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
        let whole = bytes.len().is_multiple_of(4);
        if !(odd && full && whole && read_be(&mut self.limbs, bytes)) {
            return false;
        }
        self.len = bytes.len() / 4;
        self.inverse = negative_inverse(self.limbs.first().copied().unwrap_or(0));
        true
    }

    /// Forgets the modulus.
    pub(crate) const fn clear(&mut self) {
        self.len = 0;
    }

    /// Limbs of the modulus.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    fn digits(&self) -> &[u32] {
        self.limbs.get(..self.len).unwrap_or(&[])
    }

    /// Whether `number` is below the modulus.
    pub(crate) fn exceeds(&self, number: &Number) -> bool {
        self.digits()
            .iter()
            .zip(number)
            .fold(false, |borrow, (n, x)| {
                let (_, borrow) = subtract(*x, *n, borrow);
                borrow
            })
    }

    /// R modulo n, where R is 2^(32 len): the number one in Montgomery form. The top bit of n is
    /// set, so it is R - n.
    pub(crate) fn one(&self, one: &mut Number) {
        one.fill(0);
        let mut borrow = false;
        for (digit, n) in one.iter_mut().zip(self.digits()) {
            (*digit, borrow) = subtract(0, *n, borrow);
        }
    }

    /// Makes of `a`, which is below n, `2^32 a` modulo n.
    pub(crate) fn shift(&self, a: &mut Number) {
        for _ in 0..32 {
            let mut carry = 0;
            for (digit, _) in a.iter_mut().zip(self.digits()) {
                let top = *digit >> 31;
                *digit = (*digit << 1) | carry;
                carry = top;
            }
            self.reduce_once(a, carry);
        }
    }

    /// `a b / R` modulo n, for `a` and `b` below n. Coarsely integrated operand scanning.
    pub(crate) fn multiply(&self, a: &Number, b: &Number) -> Number {
        let mut sum = [0; MAX_LIMBS];
        let mut high = 0;
        for b in b.iter().take(self.len) {
            let mut carry = 0;
            for ((digit, a), _) in sum.iter_mut().zip(a).zip(self.digits()) {
                (*digit, carry) = multiply_add(*digit, *a, *b, carry);
            }
            let (top, over) = split(u64::from(high).wrapping_add(u64::from(carry)));
            let (last, carry) = self.cancel_lowest(&mut sum);
            let (digit, carry) = split(u64::from(top).wrapping_add(u64::from(carry)));
            if let Some(last) = last {
                *last = digit;
            }
            high = over.wrapping_add(carry);
        }
        self.reduce_once(&mut sum, high);
        sum
    }

    /// Adds the multiple of n that clears the lowest digit, and shifts down by one digit. Returns
    /// the place of the digit that has become free, and the carry into it.
    fn cancel_lowest<'s>(&self, sum: &'s mut Number) -> (Option<&'s mut u32>, u32) {
        let lowest = sum.first().copied().unwrap_or(0);
        let factor = lowest.wrapping_mul(self.inverse);
        let mut carry = 0;
        let mut place: Option<&mut u32> = None;
        for (digit, n) in sum.iter_mut().zip(self.digits()) {
            let (value, next) = multiply_add(*digit, *n, factor, carry);
            carry = next;
            if let Some(place) = place {
                *place = value;
            }
            place = Some(digit);
        }
        (place, carry)
    }

    /// Takes n from `high R + number` where that is not below n.
    fn reduce_once(&self, number: &mut Number, high: u32) {
        let below = self.exceeds(number) & (high == 0);
        let taken = u32::from(below).wrapping_sub(1);
        let mut borrow = false;
        for (digit, n) in number.iter_mut().zip(self.digits()) {
            (*digit, borrow) = subtract(*digit, n & taken, borrow);
        }
    }
}

/// `-n^-1` modulo 2^32 for odd `n`: each Newton step doubles the number of right bits, and `n`
/// itself has three.
fn negative_inverse(n: u32) -> u32 {
    let mut inverse = n;
    for _ in 0..4 {
        let error = 2u32.wrapping_sub(n.wrapping_mul(inverse));
        inverse = inverse.wrapping_mul(error);
    }
    inverse.wrapping_neg()
}

/// Reads a number from big-endian bytes; `false` where there are too many, or no whole limbs.
pub(crate) fn read_be(number: &mut Number, bytes: &[u8]) -> bool {
    number.fill(0);
    let (limbs, rest) = bytes.as_chunks();
    for (digit, limb) in number.iter_mut().zip(limbs.iter().rev()) {
        *digit = u32::from_be_bytes(*limb);
    }
    rest.is_empty() & (bytes.len() <= MAX_BYTES)
}

/// The number one.
pub(crate) fn unit() -> Number {
    let mut number = [0; MAX_LIMBS];
    if let Some(lowest) = number.first_mut() {
        *lowest = 1;
    }
    number
}

/// The lowest limbs of `number`, as many as there is place for, big-endian.
pub(crate) fn number_to_be(number: &Number, bytes: &mut [u8]) {
    let (limbs, _) = bytes.as_chunks_mut();
    for (limb, digit) in limbs.iter_mut().rev().zip(number) {
        *limb = digit.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_inverse_cancels_any_odd_digit() {
        for n in (1..100_000u32).step_by(2).chain([u32::MAX, 0x8000_0001]) {
            assert_eq!(n.wrapping_mul(negative_inverse(n)), u32::MAX);
        }
    }

    #[test]
    fn even_small_and_odd_sized_moduli_are_refused() {
        let modulus = |len, first, last| {
            let mut bytes = vec![0xA5; len];
            bytes[0] = first;
            bytes[len - 1] = last;
            let mut modulus = Modulus::none();
            modulus.set(&bytes)
        };
        assert!(modulus(256, 0x80, 1));
        assert!(!modulus(256, 0x7F, 1));
        assert!(!modulus(256, 0x80, 2));
        assert!(!modulus(255, 0x80, 1));
        assert!(!modulus(MAX_BYTES + 4, 0x80, 1));
        let mut none = Modulus::none();
        assert!(!none.set(&[]));
    }

    proptest! {
        #[test]
        fn whole_limbs_survive_and_others_are_refused(bytes in prop::collection::vec(any::<u8>(), 1..=128usize)) {
            let mut number = [0; MAX_LIMBS];
            let whole = bytes.len().is_multiple_of(4);
            prop_assert_eq!(read_be(&mut number, &bytes), whole);
            let mut back = vec![0; bytes.len()];
            number_to_be(&number, &mut back);
            prop_assert!(!whole || back == bytes);
        }

        // R = 2^64: compared with 128-bit arithmetic of the compiler.
        #[test]
        fn two_limbs_agree_with_native_arithmetic(n in 1u64 << 63.., a: u64, b: u64) {
            let n = n | 1;
            let (a, b) = (a % n, b % n);
            let mut modulus = Modulus::none();
            prop_assert!(modulus.set(&n.to_be_bytes()));
            let number = |value: u64| {
                let mut number = [0; MAX_LIMBS];
                read_be(&mut number, &value.to_be_bytes());
                number
            };
            let value = |number: &Number| u64::from(number[0]) | u64::from(number[1]) << 32;
            let times = |a: u64, b: u64| u64::try_from(u128::from(a) * u128::from(b) % u128::from(n)).unwrap();
            let r = u64::try_from((1u128 << 64) % u128::from(n)).unwrap();
            let mut one = number(a);
            modulus.one(&mut one);
            prop_assert_eq!(value(&one), r);
            let mut shifted = number(a);
            modulus.shift(&mut shifted);
            prop_assert_eq!(value(&shifted), times(a, 1 << 32));
            prop_assert!(modulus.exceeds(&number(a)) && !modulus.exceeds(&number(n)));
            let product = value(&modulus.multiply(&number(a), &number(b)));
            prop_assert!(product < n);
            prop_assert_eq!(times(product, r), times(a, b));
        }
    }
}

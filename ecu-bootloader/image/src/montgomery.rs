//! Montgomery arithmetic modulo an RSA modulus, on 32-bit limbs, without allocation.
//!
//! Everything here is public (keys, signatures), yet the work depends on the length of the modulus
//! alone, so that the time of a verification tells nothing about where it failed.

/// Limbs of the largest modulus, 4096 bits.
pub(crate) const MAX_LIMBS: usize = 128;

/// A number below 2^4096, least significant limb first.
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
    /// The modulus of big-endian bytes, or `None` where it is even, has its top bit clear, has no
    /// whole number of limbs or more than 4096 bits.
    pub(crate) fn from_be_bytes(bytes: &[u8]) -> Option<Self> {
        let odd = bytes.last()? & 1 == 1;
        let full = bytes.first()? & 0x80 != 0;
        if !odd || !full || !bytes.len().is_multiple_of(4) {
            return None;
        }
        let limbs = number_from_be(bytes)?;
        Some(Self {
            limbs,
            len: bytes.len() / 4,
            inverse: negative_inverse(*limbs.first()?),
        })
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
        self.limbs.iter().zip(number).fold(false, |borrow, (n, x)| {
            let (_, borrow) = subtract(*x, *n, borrow);
            borrow
        })
    }

    /// R modulo n, where R is 2^(32 len): the number one in Montgomery form. The top bit of n is
    /// set, so it is R - n.
    pub(crate) fn one(&self) -> Number {
        let mut one = [0; MAX_LIMBS];
        let mut borrow = false;
        for (digit, n) in one.iter_mut().zip(self.digits()) {
            (*digit, borrow) = subtract(0, *n, borrow);
        }
        one
    }

    /// `2 a` modulo n, for `a` below n.
    pub(crate) fn double(&self, a: &Number) -> Number {
        let mut doubled = [0; MAX_LIMBS];
        let mut carry = 0;
        for ((digit, a), _) in doubled.iter_mut().zip(a).zip(self.digits()) {
            *digit = (a << 1) | carry;
            carry = a >> 31;
        }
        self.reduce_once(&doubled, carry)
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
        self.reduce_once(&sum, high)
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

    /// `high R + number`, less n where it is not below n.
    fn reduce_once(&self, number: &Number, high: u32) -> Number {
        let mut reduced = [0; MAX_LIMBS];
        let mut borrow = false;
        for ((digit, x), n) in reduced.iter_mut().zip(number).zip(self.digits()) {
            (*digit, borrow) = subtract(*x, *n, borrow);
        }
        let keep = u32::from(borrow & (high == 0)).wrapping_neg();
        for (digit, x) in reduced.iter_mut().zip(number) {
            *digit = (*digit & !keep) | (x & keep);
        }
        reduced
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

/// The number of big-endian bytes, or `None` above 4096 bits.
pub(crate) fn number_from_be(bytes: &[u8]) -> Option<Number> {
    let mut number = [0; MAX_LIMBS];
    let limbs = bytes.rchunks(4);
    if limbs.len() > MAX_LIMBS {
        return None;
    }
    for (digit, limb) in number.iter_mut().zip(limbs) {
        *digit = limb
            .iter()
            .fold(0, |value, byte| (value << 8) | u32::from(*byte));
    }
    Some(number)
}

/// The number one.
pub(crate) fn unit() -> Number {
    let mut number = [0; MAX_LIMBS];
    if let Some(lowest) = number.first_mut() {
        *lowest = 1;
    }
    number
}

/// The lowest bytes of `number`, as many as there is place for, big-endian.
pub(crate) fn number_to_be(number: &Number, bytes: &mut [u8]) {
    for (limb, digit) in bytes.rchunks_mut(4).zip(number) {
        for (byte, value) in limb.iter_mut().rev().zip(digit.to_le_bytes()) {
            *byte = value;
        }
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
            Modulus::from_be_bytes(&bytes)
        };
        assert!(modulus(256, 0x80, 1).is_some());
        assert!(modulus(256, 0x7F, 1).is_none());
        assert!(modulus(256, 0x80, 2).is_none());
        assert!(modulus(255, 0x80, 1).is_none());
        assert!(modulus(516, 0x80, 1).is_none());
        assert!(Modulus::from_be_bytes(&[]).is_none());
    }

    proptest! {
        #[test]
        fn bytes_survive(bytes in prop::collection::vec(any::<u8>(), 1..=128usize)) {
            let number = number_from_be(&bytes).unwrap();
            let mut back = vec![0; bytes.len()];
            number_to_be(&number, &mut back);
            prop_assert_eq!(back, bytes);
        }

        // R = 2^64: compared with 128-bit arithmetic of the compiler.
        #[test]
        fn two_limbs_agree_with_native_arithmetic(n in 1u64 << 63.., a: u64, b: u64) {
            let n = n | 1;
            let (a, b) = (a % n, b % n);
            let modulus = Modulus::from_be_bytes(&n.to_be_bytes()).unwrap();
            let number = |value: u64| number_from_be(&value.to_be_bytes()).unwrap();
            let value = |number: &Number| u64::from(number[0]) | u64::from(number[1]) << 32;
            let times = |a: u64, b: u64| u64::try_from(u128::from(a) * u128::from(b) % u128::from(n)).unwrap();
            let r = u64::try_from((1u128 << 64) % u128::from(n)).unwrap();
            prop_assert_eq!(value(&modulus.one()), r);
            prop_assert_eq!(value(&modulus.double(&number(a))), times(a, 2));
            prop_assert!(modulus.exceeds(&number(a)) && !modulus.exceeds(&number(n)));
            let product = value(&modulus.multiply(&number(a), &number(b)));
            prop_assert!(product < n);
            prop_assert_eq!(times(product, r), times(a, b));
        }
    }
}

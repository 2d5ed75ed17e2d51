//! The account of a boot: a word that comes out right only where every step was taken and found
//! nothing.
//!
//! There is no branch in it that could be skipped. A step that is left out, taken twice, or that
//! found a difference changes the sum; the address of what boots is masked with it.

use core::hint::black_box;

/// The steps of the second look, in their order. The words differ from each other in at least ten
/// bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Step {
    /// The journal's record is authentic and holds the state that is acted upon.
    Journal = 0x6A09_E667,
    /// The journal lets this slot boot.
    Slot = 0xBB67_AE85,
    /// The grant's MAC is right.
    Grant = 0x3C6E_F372,
    /// The grant is for this ECU.
    Serial = 0xA54F_F53A,
    /// Grant, journal and header name the same image.
    Image = 0x510E_527F,
    /// The image is for this hardware and block.
    Hardware = 0x9B05_688C,
    /// The signature is over this header.
    Signature = 0x1F83_D9AB,
    /// The key set that the signature was verified with is the journal's.
    KeySet = 0xE9B5_DBA5,
    /// The plaintext in the slot has the digest in the header.
    Payload = 0x5BE0_CD19,
    /// The security counter is not below the journal's floor, or the image is excepted.
    Floor = 0xCBBB_9D5D,
    /// Nor below the monotonic counter.
    Counter = 0x629A_292A,
}

const STEPS: [Step; 11] = [
    Step::Journal,
    Step::Slot,
    Step::Grant,
    Step::Serial,
    Step::Image,
    Step::Hardware,
    Step::Signature,
    Step::KeySet,
    Step::Payload,
    Step::Floor,
    Step::Counter,
];

/// The account: a sum and its complement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ledger {
    sum: u32,
    complement: u32,
}

impl Ledger {
    const START: u32 = 0x9159_015A;
    const OPEN: Self = Self {
        sum: Self::START,
        complement: !Self::START,
    };
    /// Every step taken, no difference found.
    pub(crate) const COMPLETE: Self = Self::complete();

    /// No step taken.
    pub(crate) const fn open() -> Self {
        Self::OPEN
    }

    const fn complete() -> Self {
        let mut ledger = Self::OPEN;
        let mut steps: &[Step] = &STEPS;
        while let [step, rest @ ..] = steps {
            ledger = ledger.with(*step as u32);
            steps = rest;
        }
        ledger
    }

    /// With `!sum` beside a sum it stays so: `!(a + b) = !a - b`.
    const fn with(self, word: u32) -> Self {
        Self {
            sum: self.sum.rotate_left(5).wrapping_add(word),
            complement: self.complement.rotate_left(5).wrapping_sub(word),
        }
    }

    /// Takes a step, which found `difference`: zero where nothing is wrong.
    #[inline(never)]
    pub(crate) fn take(&mut self, step: Step, difference: u32) {
        *self = black_box(*self).with(step as u32 ^ black_box(difference));
    }

    /// Whether every step was taken and found nothing.
    #[inline(never)]
    pub(crate) fn is_complete(&self) -> bool {
        let found = black_box(*self);
        let sum = found.sum ^ Self::COMPLETE.sum;
        let complement = !found.complement ^ Self::COMPLETE.sum;
        sum == 0 && black_box(complement) == 0
    }

    /// `value`, so that [`Ledger::unmask`] of a complete account gives it back.
    pub(crate) const fn mask(value: u32) -> u32 {
        value ^ Self::COMPLETE.sum
    }

    /// What was masked where the account is complete; anything else where it is not.
    pub(crate) const fn unmask(&self, masked: u32) -> u32 {
        masked ^ self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(differences: [u32; STEPS.len()]) -> Ledger {
        let mut ledger = Ledger::open();
        for (step, difference) in STEPS.into_iter().zip(differences) {
            ledger.take(step, difference);
        }
        ledger
    }

    #[test]
    fn only_all_steps_without_a_difference_make_it_complete() {
        let ledger = taken([0; STEPS.len()]);
        assert_eq!(ledger, Ledger::COMPLETE);
        assert!(ledger.is_complete());
        assert_eq!(ledger.unmask(Ledger::mask(0x0001_2340)), 0x0001_2340);
        assert!(!Ledger::open().is_complete());
        for at in 0..STEPS.len() {
            for difference in [1, 0x80, u32::MAX] {
                let mut differences = [0; STEPS.len()];
                differences[at] = difference;
                let ledger = taken(differences);
                assert!(!ledger.is_complete(), "step {at}, difference {difference}");
                assert_ne!(ledger.unmask(Ledger::mask(0x0001_2340)), 0x0001_2340);
            }
            let mut without = Ledger::open();
            let mut twice = Ledger::open();
            for (index, step) in STEPS.into_iter().enumerate() {
                twice.take(step, 0);
                if index == at {
                    twice.take(step, 0);
                } else {
                    without.take(step, 0);
                }
            }
            assert!(!without.is_complete() && !twice.is_complete(), "step {at}");
        }
    }

    #[test]
    fn a_sum_without_its_complement_is_not_complete() {
        for bit in 0..32 {
            let mut ledger = Ledger::COMPLETE;
            ledger.sum ^= 1 << bit;
            assert!(!ledger.is_complete());
            let mut ledger = Ledger::COMPLETE;
            ledger.complement ^= 1 << bit;
            assert!(!ledger.is_complete());
        }
    }

    #[test]
    fn the_words_are_far_apart() {
        for (at, step) in STEPS.into_iter().enumerate() {
            for other in &STEPS[at + 1..] {
                let distance = (step as u32 ^ *other as u32).count_ones();
                assert!(distance >= 10, "{step:?} and {other:?}: {distance}");
            }
        }
    }
}

//! ECDSA over P-256 with SHA-256 (FIPS 186-5 clause 6.4.2), verified in slices: the scalars and the point
//! arithmetic are RustCrypto's, the ladder is here, so that an ECU can answer its bus between two steps.
//!
//! It verifies only: nothing is secret. The number of steps is the same whatever is wrong with a
//! signature.

use core::fmt;

use p256::elliptic_curve::group::Group as _;
use p256::elliptic_curve::ops::Reduce as _;
use p256::elliptic_curve::point::AffineCoordinates;
use p256::elliptic_curve::{Field as _, PrimeField as _};
use p256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar};

use crate::hardened::difference;
use crate::pss::Progress;

/// Bits of the scalars that a step takes.
const BITS: u8 = 16;

/// The key is no point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPoint;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is begun: the answer is no.
    Idle,
    /// 1 / s, and the two scalars.
    Scalars,
    /// The next two bytes of both scalars, and all behind them.
    Sum {
        at: u8,
    },
    /// The sum's x is compared with r.
    Compare,
    Done(Progress),
}

/// One verification.
#[derive(Clone)]
pub struct Verifier {
    key: ProjectivePoint,
    /// Key and generator.
    both: ProjectivePoint,
    sum: ProjectivePoint,
    r: Scalar,
    s: Scalar,
    digest: [u8; 32],
    /// Big-endian factors of generator and key.
    factors: [[u8; 32]; 2],
    /// Length and values of the signature are possible.
    fits: bool,
    stage: Stage,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?})", self.stage)
    }
}

impl Verifier {
    /// Nothing is verified: the answer is no.
    #[inline]
    #[must_use]
    pub const fn idle() -> Self {
        Self {
            key: ProjectivePoint::IDENTITY,
            both: ProjectivePoint::IDENTITY,
            sum: ProjectivePoint::IDENTITY,
            r: Scalar::ZERO,
            s: Scalar::ZERO,
            digest: [0; 32],
            factors: [[0; 32]; 2],
            fits: false,
            stage: Stage::Idle,
        }
    }

    /// Forgets the verification: nothing is proved any more.
    pub const fn forget(&mut self) {
        self.stage = Stage::Idle;
        self.sum = ProjectivePoint::IDENTITY;
    }

    /// Starts to verify `r ‖ s` under the key `x ‖ y` over the bytes whose SHA-256 is `digest`.
    ///
    /// # Errors
    /// The key is no point of the curve; the answer is no then.
    pub fn begin(
        &mut self,
        key: &[u8],
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), NoPoint> {
        self.forget();
        let (x, y) = halves(key).ok_or(NoPoint)?;
        let point = AffinePoint::from_coordinates(&x.into(), &y.into());
        self.key = Option::<AffinePoint>::from(point).ok_or(NoPoint)?.into();
        self.both = self.key.add(&ProjectivePoint::GENERATOR);
        self.digest = *digest;
        let numbers = halves(signature).and_then(|(r, s)| Some((scalar(r)?, scalar(s)?)));
        self.fits = numbers.is_some();
        // Any numbers where they are impossible: the answer is no in any case.
        (self.r, self.s) = numbers.unwrap_or((Scalar::ONE, Scalar::ONE));
        self.stage = Stage::Scalars;
        Ok(())
    }

    /// Works for at most `budget` steps. After the answer it stays the answer.
    pub fn step(&mut self, budget: u32) -> Progress {
        for _ in 0..budget {
            if let Stage::Idle | Stage::Done(_) = self.stage {
                break;
            }
            self.stage = self.advance();
        }
        match self.stage {
            Stage::Idle => Progress::Invalid,
            Stage::Done(answer) => answer,
            _ => Progress::Pending,
        }
    }

    fn advance(&mut self) -> Stage {
        match self.stage {
            Stage::Scalars => {
                let inverse = Option::from(self.s.invert()).unwrap_or(Scalar::ZERO);
                let digest = reduced(self.digest);
                let factors = [digest, self.r].map(|number| number.multiply(&inverse));
                self.factors = factors.map(|factor| factor.to_repr().into());
                self.sum = ProjectivePoint::IDENTITY;
                Stage::Sum { at: 0 }
            }
            Stage::Sum { at } => {
                self.add_bits(at);
                match at.checked_add(BITS) {
                    Some(next) => Stage::Sum { at: next },
                    None => Stage::Compare,
                }
            }
            Stage::Compare => Stage::Done(if self.fits && self.x() == self.r {
                Progress::Valid
            } else {
                Progress::Invalid
            }),
            stage @ (Stage::Idle | Stage::Done(_)) => stage,
        }
    }

    /// Doubles the sum for each of the bits from `at` on, and adds what they ask for.
    #[inline(never)]
    fn add_bits(&mut self, at: u8) {
        for at in at..=at.saturating_add(BITS.saturating_sub(1)) {
            self.sum = self.sum.double();
            let [first, second] = self.factors.map(|factor| bit(&factor, at));
            let point = match (first, second) {
                (false, false) => continue,
                (true, false) => &ProjectivePoint::GENERATOR,
                (false, true) => &self.key,
                (true, true) => &self.both,
            };
            self.sum = self.sum.add(point);
        }
    }

    /// x of the sum, modulo the order; zero of the point at infinity.
    #[inline(never)]
    fn x(&self) -> Scalar {
        Scalar::reduce(&self.sum.to_affine().x())
    }

    /// A second look: zero where the verification proved a signature over the bytes whose SHA-256 is
    /// `digest`. The factors must be those of digest and signature, shown by a product where the
    /// first look divides, and the sum's x is compared once more, as bytes.
    #[must_use]
    pub fn difference(&self, digest: &[u8; 32]) -> u32 {
        let [first, second] = self.factors;
        let times_s =
            |factor: [u8; 32]| -> [u8; 32] { reduced(factor).multiply(&self.s).to_repr().into() };
        let r: [u8; 32] = self.r.to_repr().into();
        let signed: [u8; 32] = reduced(*digest).to_repr().into();
        let x: [u8; 32] = self.x().to_repr().into();
        let fits = u32::from(self.fits).wrapping_sub(1);
        difference(&times_s(first), &signed)
            | difference(&times_s(second), &r)
            | difference(&x, &r)
            | fits
    }
}

/// Bit `at` of a big-endian number, from the highest on.
fn bit(number: &[u8; 32], at: u8) -> bool {
    let byte = number.get(usize::from(at >> 3)).copied().unwrap_or(0);
    byte.wrapping_shl(u32::from(at & 7)) & 0x80 != 0
}

/// A number of 32 bytes modulo the order.
fn reduced(bytes: [u8; 32]) -> Scalar {
    Scalar::reduce(&FieldBytes::from(bytes))
}

/// A number from 1 to below the order.
fn scalar(bytes: [u8; 32]) -> Option<Scalar> {
    let scalar: Option<Scalar> = Scalar::from_repr(bytes.into()).into();
    scalar.filter(|scalar| !bool::from(scalar.is_zero()))
}

fn halves(bytes: &[u8]) -> Option<([u8; 32], [u8; 32])> {
    let (first, second) = bytes.split_first_chunk()?;
    Some((*first, second.try_into().ok()?))
}

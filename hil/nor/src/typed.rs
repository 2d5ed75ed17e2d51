//! The flash as an `embedded-storage` one, for code written against those traits.

use crate::{FlashError, Geometry, Nor};
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use std::fmt;

/// A [`Nor`] with the constants that [`NorFlash`] wants at compile time.
///
/// `ERASE` may be larger than a sector: of a chip with mixed sectors, the size of which every
/// multiple is a sector boundary.
pub struct Typed<const WRITE: usize, const ERASE: usize>(Nor);

impl<const WRITE: usize, const ERASE: usize> Typed<WRITE, ERASE> {
    /// Wraps `nor`.
    ///
    /// # Errors
    /// [`TypedMismatch`], where the chip cannot be driven with these constants.
    pub fn new(nor: Nor) -> Result<Self, TypedMismatch> {
        let geometry = nor.geometry();
        let word = geometry.word() as usize;
        if WRITE == 0 || !WRITE.is_multiple_of(word) {
            return Err(TypedMismatch::Write {
                constant: WRITE,
                word,
            });
        }
        let boundaries = ERASE != 0
            && ERASE.is_multiple_of(WRITE)
            && (geometry.capacity() as usize).is_multiple_of(ERASE)
            && boundary_at_every(ERASE, geometry);
        if !boundaries {
            return Err(TypedMismatch::Erase { constant: ERASE });
        }
        Ok(Self(nor))
    }

    /// The chip itself, to arm cuts and read counters.
    pub fn get_mut(&mut self) -> &mut Nor {
        &mut self.0
    }

    /// Unwraps the chip.
    #[must_use]
    pub fn into_inner(self) -> Nor {
        self.0
    }
}

fn boundary_at_every(step: usize, geometry: &Geometry) -> bool {
    (0..geometry.capacity()).step_by(step).all(|addr| {
        geometry
            .sector_of(addr)
            .is_some_and(|sector| sector.start == addr)
    })
}

/// Why a chip cannot be driven with the constants of a [`Typed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypedMismatch {
    /// `WRITE` is no multiple of the chip's word.
    Write {
        /// The constant.
        constant: usize,
        /// The chip's word.
        word: usize,
    },
    /// Some multiple of `ERASE` is no sector boundary.
    Erase {
        /// The constant.
        constant: usize,
    },
}

impl fmt::Display for TypedMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { constant, word } => {
                write!(
                    f,
                    "write size {constant} is no multiple of the word size {word}"
                )
            }
            Self::Erase { constant } => {
                write!(
                    f,
                    "not every multiple of erase size {constant} is a sector boundary"
                )
            }
        }
    }
}

impl std::error::Error for TypedMismatch {}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::OutOfBounds { .. } => NorFlashErrorKind::OutOfBounds,
            Self::NotAligned { .. } => NorFlashErrorKind::NotAligned,
            Self::NotErased { .. }
            | Self::Protected { .. }
            | Self::Busy { .. }
            | Self::Uncorrectable { .. }
            | Self::PowerLost
            | Self::Io(_) => NorFlashErrorKind::Other,
        }
    }
}

impl<const WRITE: usize, const ERASE: usize> ErrorType for Typed<WRITE, ERASE> {
    type Error = FlashError;
}

impl<const WRITE: usize, const ERASE: usize> ReadNorFlash for Typed<WRITE, ERASE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.geometry().capacity() as usize
    }
}

impl<const WRITE: usize, const ERASE: usize> NorFlash for Typed<WRITE, ERASE> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        let len = to.saturating_sub(from) as usize;
        if from > to || to > self.0.geometry().capacity() {
            return Err(FlashError::OutOfBounds { addr: from, len });
        }
        let granule = ERASE;
        if !(from as usize).is_multiple_of(granule) || !len.is_multiple_of(granule) {
            return Err(FlashError::NotAligned {
                addr: from,
                len,
                granule,
            });
        }
        let mut next = from;
        while next < to {
            let sector = self.0.geometry().sector_of(next);
            let sector = sector.ok_or(FlashError::OutOfBounds { addr: next, len })?;
            self.0.erase(sector.start)?;
            next = sector.end();
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let granule = WRITE;
        let len = bytes.len();
        if !(offset as usize).is_multiple_of(granule) || !len.is_multiple_of(granule) {
            return Err(FlashError::NotAligned {
                addr: offset,
                len,
                granule,
            });
        }
        self.0.program(offset, bytes).map(|_duration| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_must_fit_the_chip() {
        let nor = || Nor::in_memory(Geometry::mixed(512 << 10));
        assert!(Typed::<4, 0x20000>::new(nor()).is_ok());
        assert!(Typed::<8, 0x20000>::new(nor()).is_ok());
        assert_eq!(
            Typed::<4, 0x4000>::new(nor()).err(),
            Some(TypedMismatch::Erase { constant: 0x4000 })
        );
        assert_eq!(
            Typed::<2, 0x20000>::new(nor()).err(),
            Some(TypedMismatch::Write {
                constant: 2,
                word: 4
            })
        );
    }

    #[test]
    fn the_traits_erase_sector_by_sector() {
        let mut flash =
            Typed::<4, 0x20000>::new(Nor::in_memory(Geometry::mixed(256 << 10))).unwrap();
        flash.write(0x1FFFC, &[1, 2, 3, 4]).unwrap();
        NorFlash::erase(&mut flash, 0, 0x20000).unwrap();
        let mut bytes = [0; 4];
        ReadNorFlash::read(&mut flash, 0x1FFFC, &mut bytes).unwrap();
        assert_eq!(bytes, [0xFF; 4]);
        assert_eq!(flash.get_mut().operations(), 1 + 5);
        let kind = |result: Result<(), FlashError>| result.unwrap_err().kind();
        assert_eq!(
            kind(NorFlash::erase(&mut flash, 0, 0x4000)),
            NorFlashErrorKind::NotAligned
        );
        assert_eq!(
            kind(NorFlash::erase(&mut flash, 0, 0x60000)),
            NorFlashErrorKind::OutOfBounds
        );
        assert_eq!(kind(flash.write(2, &[0; 4])), NorFlashErrorKind::NotAligned);
        assert_eq!(
            kind(flash.write(0x40000, &[0; 4])),
            NorFlashErrorKind::OutOfBounds
        );
        flash.write(0, &[0; 4]).unwrap();
        assert_eq!(kind(flash.write(0, &[0; 4])), NorFlashErrorKind::Other);
    }
}

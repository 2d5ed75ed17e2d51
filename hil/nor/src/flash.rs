//! The chip: reads, erases and programs, its rules, counters and power.

use crate::cut::{Rng, torn};
use crate::{Cut, FileStore, Geometry, MemoryStore, Store, When};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use std::{fmt, io};

/// Why the chip did not do as told.
#[derive(Debug)]
pub enum FlashError {
    /// The range does not lie within the chip.
    OutOfBounds {
        /// Its first byte.
        addr: u32,
        /// Its length.
        len: usize,
    },
    /// An address or length is no multiple of the granule: the word of a program, the sector of an
    /// erase.
    NotAligned {
        /// The first byte.
        addr: u32,
        /// The length.
        len: usize,
        /// The granule.
        granule: usize,
    },
    /// A violation: the word at `addr` has been programmed, or its erase was interrupted.
    NotErased {
        /// The word.
        addr: u32,
    },
    /// A violation: the range touches write-protected bytes.
    Protected {
        /// The first byte of the operation.
        addr: u32,
    },
    /// Power failed during this operation, or is still off.
    PowerLost,
    /// The file behind the chip failed.
    Io(io::Error),
}

impl fmt::Display for FlashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { addr, len } => {
                write!(f, "{len} bytes at {addr:#X} do not lie within the flash")
            }
            Self::NotAligned { addr, len, granule } => {
                write!(f, "{len} bytes at {addr:#X} are not aligned to {granule}")
            }
            Self::NotErased { addr } => write!(f, "the word at {addr:#X} is not erased"),
            Self::Protected { addr } => write!(f, "{addr:#X} is write-protected"),
            Self::PowerLost => write!(f, "power lost"),
            Self::Io(error) => write!(f, "flash file: {error}"),
        }
    }
}

impl std::error::Error for FlashError {}

impl From<io::Error> for FlashError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Bits that did not settle: what they read is decided at each read.
#[derive(Debug, Clone, Default)]
struct Unstable {
    masks: BTreeMap<u32, u8>,
    rng: Option<Rng>,
}

/// A NOR flash chip.
///
/// Reads take no time here; [`erase`](Self::erase) and [`program`](Self::program) return how long
/// the chip is busy, and it is the caller's business to let that time pass.
pub struct Nor {
    geometry: Geometry,
    store: Box<dyn Store>,
    operations: u64,
    violations: u64,
    erases: Vec<u32>,
    protected: Vec<Range<u32>>,
    cut: Option<Cut>,
    powered: bool,
    unstable: RefCell<Unstable>,
}

impl fmt::Debug for Nor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nor")
            .field("geometry", &self.geometry)
            .field("operations", &self.operations)
            .field("violations", &self.violations)
            .field("cut", &self.cut)
            .field("powered", &self.powered)
            .finish_non_exhaustive()
    }
}

impl Nor {
    /// A blank chip in memory.
    #[must_use]
    pub fn in_memory(geometry: Geometry) -> Self {
        let store = MemoryStore::blank(&geometry);
        Self::with_store(geometry, Box::new(store))
    }

    /// The chip whose bytes are the file at `path`; made blank where there is none.
    ///
    /// # Errors
    /// Those of the file, and `InvalidData` where its size is not the capacity.
    pub fn open(path: &Path, geometry: Geometry) -> io::Result<Self> {
        let store = FileStore::open(path, &geometry)?;
        Ok(Self::with_store(geometry, Box::new(store)))
    }

    /// The chip over a store of the geometry's capacity.
    #[must_use]
    pub fn with_store(geometry: Geometry, store: Box<dyn Store>) -> Self {
        Self {
            erases: vec![0; geometry.sectors().count()],
            geometry,
            store,
            operations: 0,
            violations: 0,
            protected: Vec::new(),
            cut: None,
            powered: true,
            unstable: RefCell::default(),
        }
    }

    /// The chip's geometry.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Erases and programs so far, interrupted ones included, refused ones not.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Operations refused because a driver broke a rule of the chip: words not erased, protected
    /// or misaligned ranges, ranges out of bounds.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.violations
    }

    /// How often each sector has been erased since this model was made.
    #[must_use]
    pub fn erases(&self) -> &[u32] {
        &self.erases
    }

    /// Protects `range` against erase and program from now on.
    pub fn protect(&mut self, range: Range<u32>) {
        self.protected.push(range);
    }

    /// Arms `cut`; it replaces one that has not fallen.
    pub fn arm(&mut self, cut: Cut) {
        self.cut = Some(cut);
    }

    /// Whether the chip has power; it loses it at a cut.
    #[must_use]
    pub fn is_powered(&self) -> bool {
        self.powered
    }

    /// Gives power back after a cut. Marginal bits stay marginal.
    pub fn power_on(&mut self) {
        self.powered = true;
    }

    /// A copy in memory of the bytes, the marginal bits and the protection; counters start at zero.
    ///
    /// # Errors
    /// [`FlashError::Io`].
    pub fn fork(&self) -> Result<Self, FlashError> {
        let mut bytes = vec![0; self.geometry.capacity() as usize];
        self.store.read(0, &mut bytes)?;
        let store = MemoryStore::of(&self.geometry, &bytes);
        let mut copy = Self::with_store(self.geometry.clone(), Box::new(store));
        copy.unstable = self.unstable.clone();
        copy.protected.clone_from(&self.protected);
        Ok(copy)
    }

    /// Reads `bytes.len()` bytes from `addr`, any of both.
    ///
    /// # Errors
    /// [`FlashError::OutOfBounds`], [`FlashError::PowerLost`], [`FlashError::Io`].
    pub fn read(&self, addr: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        if !self.powered {
            return Err(FlashError::PowerLost);
        }
        let end = self.end_of(addr, bytes.len())?;
        self.store.read(addr, bytes)?;
        let unstable = &mut *self.unstable.borrow_mut();
        for (at, mask) in unstable.masks.range(addr..end) {
            let noise = unstable.rng.as_mut().map_or(0, Rng::byte);
            bytes[(at - addr) as usize] ^= mask & noise;
        }
        Ok(())
    }

    /// Erases the sector that begins at `addr`; returns how long the chip is busy.
    ///
    /// # Errors
    /// [`FlashError::NotAligned`] where no sector begins there, and all others but `NotErased`.
    pub fn erase(&mut self, addr: u32) -> Result<Duration, FlashError> {
        let checked = self.check_erase(addr);
        let sector = self.count_violation(checked)?;
        let blank = vec![Geometry::ERASED; sector.size as usize];
        self.change(addr, &blank)?;
        self.erases[sector.index] += 1;
        Ok(Duration::from_micros(sector.erase_micros.into()))
    }

    /// Programs `bytes` at `addr`, both multiples of the word, into erased words; returns how long
    /// the chip is busy. Nothing is programmed where it fails, but for a cut.
    ///
    /// # Errors
    /// All of [`FlashError`].
    pub fn program(&mut self, addr: u32, bytes: &[u8]) -> Result<Duration, FlashError> {
        let checked = self.check_program(addr, bytes.len());
        let len = self.count_violation(checked)?;
        self.change(addr, bytes)?;
        Ok(self.geometry.program_time(addr, len))
    }

    fn check_erase(&self, addr: u32) -> Result<crate::Sector, FlashError> {
        let sector = self.geometry.sector_of(addr);
        let sector = sector.ok_or(FlashError::OutOfBounds { addr, len: 1 })?;
        let len = sector.size as usize;
        if sector.start != addr {
            return Err(FlashError::NotAligned {
                addr,
                len,
                granule: len,
            });
        }
        self.check_protection(addr, sector.end())?;
        Ok(sector)
    }

    fn check_program(&self, addr: u32, len: usize) -> Result<u32, FlashError> {
        let end = self.end_of(addr, len)?;
        let word = self.geometry.word();
        if !addr.is_multiple_of(word) || !end.is_multiple_of(word) {
            return Err(FlashError::NotAligned {
                addr,
                len,
                granule: word as usize,
            });
        }
        self.check_protection(addr, end)?;
        let mut old = vec![0; len];
        self.store.read(addr, &mut old)?;
        let programmed = old
            .iter()
            .zip(addr..)
            .find(|(byte, _)| **byte != Geometry::ERASED);
        let marginal = self
            .unstable
            .borrow()
            .masks
            .range(addr..end)
            .map(|(at, _)| *at)
            .next();
        match programmed.map(|(_, at)| at).or(marginal) {
            Some(at) => Err(FlashError::NotErased {
                addr: at - at % word,
            }),
            None => Ok(end - addr),
        }
    }

    fn check_protection(&self, start: u32, end: u32) -> Result<(), FlashError> {
        let touched = |range: &Range<u32>| start < range.end && range.start < end;
        if self.protected.iter().any(touched) {
            return Err(FlashError::Protected { addr: start });
        }
        Ok(())
    }

    fn end_of(&self, addr: u32, len: usize) -> Result<u32, FlashError> {
        u32::try_from(len)
            .ok()
            .and_then(|len| addr.checked_add(len))
            .filter(|end| *end <= self.geometry.capacity())
            .ok_or(FlashError::OutOfBounds { addr, len })
    }

    /// A driver without power is not to blame; the file neither.
    fn count_violation<T>(&mut self, checked: Result<T, FlashError>) -> Result<T, FlashError> {
        if !self.powered {
            return Err(FlashError::PowerLost);
        }
        if !matches!(checked, Ok(_) | Err(FlashError::Io(_))) {
            self.violations += 1;
        }
        checked
    }

    /// Turns the bytes at `addr` into `new`, or what a cut leaves of that.
    fn change(&mut self, addr: u32, new: &[u8]) -> Result<(), FlashError> {
        let operation = self.operations;
        self.operations += 1;
        let Some(cut) = self.cut.take_if(|cut| cut.operation == operation) else {
            return self.settle(addr, new);
        };
        match cut.when {
            When::Before => {}
            When::After => self.settle(addr, new)?,
            When::Inside { tear, unstable } => {
                let mut old = vec![0; new.len()];
                self.store.read(addr, &mut old)?;
                let (bytes, missing) = torn(&old, new, self.geometry.word() as usize, tear);
                self.settle(addr, &bytes)?;
                if unstable {
                    self.unsettle(addr, &missing, operation);
                }
            }
        }
        self.powered = false;
        Err(FlashError::PowerLost)
    }

    fn settle(&mut self, addr: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.store.write(addr, bytes)?;
        let masks = &mut self.unstable.borrow_mut().masks;
        if !masks.is_empty() {
            for at in (addr..).take(bytes.len()) {
                masks.remove(&at);
            }
        }
        Ok(())
    }

    /// Makes half of the `missing` bits marginal, and the first one in any case.
    fn unsettle(&mut self, addr: u32, missing: &[u8], seed: u64) {
        let unstable = &mut *self.unstable.borrow_mut();
        let rng = unstable.rng.get_or_insert(Rng(seed ^ 0x6E6F_7200));
        let mut first = true;
        for (at, missing) in (addr..).zip(missing).filter(|(_, missing)| **missing != 0) {
            let lowest = if first {
                *missing & missing.wrapping_neg()
            } else {
                0
            };
            let mask = (missing & rng.byte()) | lowest;
            first = false;
            if mask != 0 {
                unstable.masks.insert(at, mask);
            }
        }
    }
}

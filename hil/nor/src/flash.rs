//! The chip: reads, erases and programs, its rules, counters and power.

use crate::cut::{marginal_bits, torn};
use crate::marks::Marks;
use crate::{Cut, Extent, FileStore, Geometry, Marginal, MemoryStore, Store, Tear, When};
use std::cell::{Cell, RefCell};
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
    /// A violation: the bank is being erased or programmed.
    Busy {
        /// The first byte of the operation.
        addr: u32,
    },
    /// A word that a cut left torn, on a chip with an error-correcting code.
    Uncorrectable {
        /// The word.
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
            Self::Busy { addr } => write!(f, "the bank at {addr:#X} is busy"),
            Self::Uncorrectable { addr } => write!(f, "the word at {addr:#X} cannot be read"),
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

/// What became of bytes that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Some were read.
    Read,
    /// None was read; not all have been erased.
    Left,
    /// All were erased before any was read: what they held made no difference.
    Gone,
}

#[derive(Debug, Default)]
struct Watch {
    left: Vec<Range<u32>>,
    read: bool,
}

impl Watch {
    fn note_read(&mut self, range: &Range<u32>) {
        let touched = |left: &Range<u32>| left.start < range.end && range.start < left.end;
        self.read |= self.left.iter().any(touched);
    }

    fn note_erase(&mut self, range: &Range<u32>) {
        let split = |left: Range<u32>| {
            let below = left.start..left.end.min(range.start);
            let above = left.start.max(range.end)..left.end;
            [below, above].into_iter().filter(|part| !part.is_empty())
        };
        self.left = self.left.drain(..).flat_map(split).collect();
    }
}

/// A NOR flash chip.
///
/// Reads take no time here; [`erase`](Self::erase) and [`program`](Self::program) return how long
/// the chip is busy, and it is the caller's business to let that time pass.
pub struct Nor {
    geometry: Geometry,
    store: Box<dyn Store>,
    operations: u64,
    violations: Cell<u64>,
    /// The bank of the operation under way, where the geometry has banks.
    busy: Option<u32>,
    erases: Vec<u32>,
    protected: Vec<Range<u32>>,
    cut: Option<Cut>,
    powered: bool,
    marks: RefCell<Marks>,
    watch: RefCell<Watch>,
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
        let words = geometry.capacity() / geometry.word();
        Self {
            erases: vec![0; geometry.sectors().count()],
            marks: RefCell::new(Marks::new(words, geometry.has_ecc())),
            watch: RefCell::default(),
            geometry,
            store,
            operations: 0,
            violations: Cell::new(0),
            busy: None,
            protected: Vec::new(),
            cut: None,
            powered: true,
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
    /// or misaligned ranges, ranges out of bounds, busy banks.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.violations.get()
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

    /// Takes back a cut that was armed and has not happened.
    pub fn disarm(&mut self) {
        self.cut = None;
    }

    /// Whether the chip has power; it loses it at a cut.
    #[must_use]
    pub fn is_powered(&self) -> bool {
        self.powered
    }

    /// Gives power back after a cut. Marginal bits stay marginal.
    pub fn power_on(&mut self) {
        self.powered = true;
        self.busy = None;
    }

    /// The time of the last operation has passed. Only where the geometry has banks; without, a
    /// chip is never busy for its driver.
    pub fn complete(&mut self) {
        self.busy = None;
    }

    /// Chooses the luck of marginal bits from here on.
    pub fn seed(&mut self, seed: u64) {
        self.marks.get_mut().rng.0 = seed;
    }

    /// How much the erase of the sector at `addr` would change.
    ///
    /// # Errors
    /// Those of [`erase`](Self::erase).
    pub fn extent_of_erase(&self, addr: u32) -> Result<Extent, FlashError> {
        let sector = self.check_erase(addr)?;
        self.extent(addr, &vec![self.geometry.erased(); sector.size as usize])
    }

    /// How much programming `bytes` at `addr` would change.
    ///
    /// # Errors
    /// Those of [`program`](Self::program).
    pub fn extent_of_program(&self, addr: u32, bytes: &[u8]) -> Result<Extent, FlashError> {
        self.check_program(addr, bytes.len())?;
        self.extent(addr, bytes)
    }

    fn extent(&self, addr: u32, new: &[u8]) -> Result<Extent, FlashError> {
        let mut old = vec![0; new.len()];
        self.store.read(addr, &mut old)?;
        let bits = old
            .iter()
            .zip(new)
            .map(|(old, new)| (old ^ new).count_ones());
        Ok(Extent {
            words: u32::try_from(new.len()).unwrap_or(u32::MAX) / self.geometry.word(),
            bits: bits.sum(),
        })
    }

    /// Reads what the cells hold, past marginal bits, power and banks: for the eye of a test, not
    /// for a driver.
    ///
    /// # Errors
    /// [`FlashError::OutOfBounds`], [`FlashError::Io`].
    pub fn peek(&self, addr: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.end_of(addr, bytes.len())?;
        Ok(self.store.read(addr, bytes)?)
    }

    /// Whether no bit of the range is marginal and no word torn.
    #[must_use]
    pub fn is_settled(&self, range: Range<u32>) -> bool {
        self.marks.borrow().is_settled(range)
    }

    /// Watches whether these bytes are read before they are erased; see [`watched`](Self::watched).
    pub fn watch(&mut self, range: Range<u32>) {
        *self.watch.get_mut() = Watch {
            left: vec![range],
            read: false,
        };
    }

    /// What has become of the bytes given to [`watch`](Self::watch).
    #[must_use]
    pub fn watched(&self) -> Watched {
        let watch = self.watch.borrow();
        match (watch.read, watch.left.is_empty()) {
            (true, _) => Watched::Read,
            (false, true) => Watched::Gone,
            (false, false) => Watched::Left,
        }
    }

    /// A copy in memory of the bytes, the marginal bits and the protection; counters start at zero.
    ///
    /// # Errors
    /// [`FlashError::Io`].
    pub fn fork(&self) -> Result<Self, FlashError> {
        let store = match self.store.copy() {
            Some(store) => store,
            None => {
                let mut bytes = vec![0; self.geometry.capacity() as usize];
                self.store.read(0, &mut bytes)?;
                MemoryStore::of(&self.geometry, &bytes)
            }
        };
        let mut copy = Self::with_store(self.geometry.clone(), Box::new(store));
        copy.marks = self.marks.clone();
        copy.protected.clone_from(&self.protected);
        Ok(copy)
    }

    /// Reads `bytes.len()` bytes from `addr`, any of both.
    ///
    /// # Errors
    /// [`FlashError::OutOfBounds`], [`FlashError::Busy`], [`FlashError::Uncorrectable`],
    /// [`FlashError::PowerLost`], [`FlashError::Io`].
    pub fn read(&self, addr: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        if !self.powered {
            return Err(FlashError::PowerLost);
        }
        let end = self.end_of(addr, bytes.len())?;
        self.check_busy(addr, end)
            .inspect_err(|_| self.violated())?;
        self.watch.borrow_mut().note_read(&(addr..end));
        let word = self.geometry.word();
        let (from, to) = (addr - addr % word, end.next_multiple_of(word));
        let marks = &mut *self.marks.borrow_mut();
        if !marks.has_torn(from..to) {
            self.store.read(addr, bytes)?;
            marks.disturb(addr, bytes);
            return Ok(());
        }
        let mut words = vec![0; (to - from) as usize];
        self.store.read(from, &mut words)?;
        marks.disturb(from, &mut words);
        if let Some(addr) = marks.uncorrectable(from, &words) {
            return Err(FlashError::Uncorrectable { addr });
        }
        let skip = (addr - from) as usize;
        bytes.copy_from_slice(&words[skip..skip + bytes.len()]);
        Ok(())
    }

    /// Erases the sector that begins at `addr`; returns how long the chip is busy.
    ///
    /// # Errors
    /// [`FlashError::NotAligned`] where no sector begins there, and all others but `NotErased`.
    pub fn erase(&mut self, addr: u32) -> Result<Duration, FlashError> {
        let checked = self.check_erase(addr);
        let sector = self.count_violation(checked)?;
        let blank = vec![self.geometry.erased(); sector.size as usize];
        self.change(addr, &blank, true)?;
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
        self.change(addr, bytes, false)?;
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
        self.check_idle(addr)?;
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
        self.check_idle(addr)?;
        let mut old = vec![0; len];
        self.store.read(addr, &mut old)?;
        let programmed = old
            .iter()
            .zip(addr..)
            .find(|(byte, _)| **byte != self.geometry.erased());
        let used = self.marks.borrow().first_used(addr..end, word);
        match programmed.map(|(_, at)| at).or(used) {
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

    fn check_idle(&self, addr: u32) -> Result<(), FlashError> {
        match self.busy {
            Some(_) => Err(FlashError::Busy { addr }),
            None => Ok(()),
        }
    }

    /// Whether a read may be made beside the operation under way.
    fn check_busy(&self, addr: u32, end: u32) -> Result<(), FlashError> {
        let last = end.saturating_sub(1).max(addr);
        let banks = self.geometry.bank_of(addr).zip(self.geometry.bank_of(last));
        match (self.busy, banks) {
            (Some(busy), Some((first, last))) if (first..=last).contains(&busy) => {
                Err(FlashError::Busy { addr })
            }
            _ => Ok(()),
        }
    }

    fn violated(&self) {
        self.violations.set(self.violations.get() + 1);
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
            self.violated();
        }
        checked
    }

    /// Turns the bytes at `addr` into `new`, or what a cut leaves of that.
    fn change(&mut self, addr: u32, new: &[u8], erases: bool) -> Result<(), FlashError> {
        let operation = self.operations;
        self.operations += 1;
        let Some(cut) = self.cut.take_if(|cut| cut.operation == operation) else {
            self.settle(addr, new, erases)?;
            self.busy = self.geometry.bank_of(addr);
            return Ok(());
        };
        match cut.when {
            When::Before => {}
            When::After => self.settle(addr, new, erases)?,
            When::Inside { tear, marginal } => self.tear(addr, new, erases, tear, marginal)?,
        }
        self.powered = false;
        Err(FlashError::PowerLost)
    }

    fn settle(&mut self, addr: u32, bytes: &[u8], erases: bool) -> Result<(), FlashError> {
        self.store.write(addr, bytes)?;
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let word = self.geometry.word();
        if erases {
            self.watch.get_mut().note_erase(&(addr..addr + len));
        }
        let marks = self.marks.get_mut();
        marks.settle(addr..addr + len);
        marks.note(addr / word, len / word, !erases);
        Ok(())
    }

    fn tear(
        &mut self,
        addr: u32,
        new: &[u8],
        erases: bool,
        tear: Tear,
        marginal: Marginal,
    ) -> Result<(), FlashError> {
        let mut old = vec![0; new.len()];
        self.store.read(addr, &mut old)?;
        let word = self.geometry.word() as usize;
        let (bytes, missing) = torn(&old, new, word, tear);
        self.store.write(addr, &bytes)?;
        let marks = self.marks.get_mut();
        let masks = marginal_bits(&missing, marginal, &mut marks.rng);
        let mut is_marginal = vec![false; new.len() / word];
        for (at, _) in &masks {
            is_marginal[at / word] = true;
        }
        let granule = self.geometry.word();
        for (index, start) in (0..new.len() / word).zip((addr..).step_by(word)) {
            let range = index * word..(index + 1) * word;
            let left = missing[range.clone()].iter().any(|bits| *bits != 0);
            let moved = bytes[range.clone()] != old[range.clone()];
            // A word in which nothing was to change: what a prefix reaches is done with, the rest of
            // it is not; of any other tear the worse is assumed.
            let done = match tear {
                Tear::Prefix { words } => index < words as usize,
                _ => moved || !erases,
            };
            if left && (moved || is_marginal[index]) {
                if self.geometry.has_ecc() {
                    marks.tear(start, &old[range.clone()], &new[range]);
                }
                if !erases {
                    marks.note(start / granule, 1, true);
                }
            } else if !left && done {
                marks.settle(start..start + granule);
                marks.note(start / granule, 1, !erases);
            }
        }
        for (at, mask) in masks {
            marks.unsettle(addr + u32::try_from(at).unwrap_or(u32::MAX), mask);
        }
        Ok(())
    }
}

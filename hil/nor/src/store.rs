//! Where the bytes live: in memory for machines in virtual time, in a file for processes.

use crate::Geometry;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The bytes of a chip. Offsets are in range; the flash has checked them.
pub trait Store: Send {
    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// Those of the file.
    fn read(&self, offset: u32, bytes: &mut [u8]) -> io::Result<()>;

    /// Puts `bytes` at `offset`.
    ///
    /// # Errors
    /// Those of the file.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()>;

    /// A copy in memory, where it costs less than reading everything.
    fn copy(&self) -> Option<MemoryStore> {
        None
    }
}

/// Bytes in one piece of a [`MemoryStore`].
const PIECE: usize = 1024;

/// Bytes in memory, in pieces that copies share until one of them is written.
#[derive(Debug, Clone)]
pub struct MemoryStore(Vec<Arc<[u8; PIECE]>>);

impl MemoryStore {
    /// A blank chip.
    #[must_use]
    pub fn blank(geometry: &Geometry) -> Self {
        Self::of(geometry, &[])
    }

    /// A chip of these bytes, blank behind them; bytes beyond the capacity are left out.
    #[must_use]
    pub fn of(geometry: &Geometry, bytes: &[u8]) -> Self {
        let blank = Arc::new([geometry.erased(); PIECE]);
        let pieces = (geometry.capacity() as usize).div_ceil(PIECE);
        let mut bytes = bytes.chunks(PIECE);
        let piece = |_| match bytes.next() {
            None => Arc::clone(&blank),
            Some(bytes) => {
                let mut piece = *blank;
                piece[..bytes.len()].copy_from_slice(bytes);
                Arc::new(piece)
            }
        };
        Self((0..pieces).map(piece).collect())
    }
}

/// The parts of `len` bytes at `offset`, each within one piece: its number and its place there.
fn parts(offset: u32, len: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let start = offset as usize;
    let end = start + len;
    (start / PIECE..end.div_ceil(PIECE)).map(move |piece| {
        let base = piece * PIECE;
        (piece, start.max(base) - base..end.min(base + PIECE) - base)
    })
}

impl Store for MemoryStore {
    fn read(&self, offset: u32, mut bytes: &mut [u8]) -> io::Result<()> {
        for (piece, range) in parts(offset, bytes.len()) {
            let (now, rest) = bytes.split_at_mut(range.len());
            now.copy_from_slice(&self.0[piece][range]);
            bytes = rest;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, mut bytes: &[u8]) -> io::Result<()> {
        for (piece, range) in parts(offset, bytes.len()) {
            let (now, rest) = bytes.split_at(range.len());
            Arc::make_mut(&mut self.0[piece])[range].copy_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    fn copy(&self) -> Option<MemoryStore> {
        Some(self.clone())
    }
}

/// Bytes in a file of exactly the chip's size, written through with `pwrite`.
///
/// What an operation wrote is in the page cache when it returns, so it survives `kill -9` of the
/// process. It is not synchronised to disk: a power cut of the chip is a [`Cut`], one of the
/// machine that simulates it is not modelled. Marginal bits and what an error-correcting code knows
/// of its words live as long as the process.
///
/// [`Cut`]: crate::Cut
#[derive(Debug)]
pub struct FileStore(File);

impl FileStore {
    /// Opens the chip at `path`; where there is none, makes a blank one.
    ///
    /// # Errors
    /// Those of the file, and `InvalidData` where its size is not the chip's capacity.
    pub fn open(path: &Path, geometry: &Geometry) -> io::Result<Self> {
        let size = u64::from(geometry.capacity());
        if !path.exists() {
            // Under another name first: a file that exists is complete.
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".new-{}", std::process::id()));
            std::fs::write(&name, vec![geometry.erased(); geometry.capacity() as usize])?;
            std::fs::rename(&name, path)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let found = file.metadata()?.len();
        if found != size {
            let what = format!(
                "{}: the flash image has {found} bytes, the geometry {size}",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Self(file))
    }
}

impl Store for FileStore {
    fn read(&self, offset: u32, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset.into())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset.into())
    }
}

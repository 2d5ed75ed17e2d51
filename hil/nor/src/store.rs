//! Where the bytes live: in memory for machines in virtual time, in a file for processes.

use crate::Geometry;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

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
}

/// Bytes in memory.
#[derive(Debug, Clone)]
pub struct MemoryStore(Vec<u8>);

impl MemoryStore {
    /// A blank chip.
    #[must_use]
    pub fn blank(geometry: &Geometry) -> Self {
        Self(vec![Geometry::ERASED; geometry.capacity() as usize])
    }

    /// A chip of these bytes, blank behind them; bytes beyond the capacity are left out.
    #[must_use]
    pub fn of(geometry: &Geometry, bytes: &[u8]) -> Self {
        let mut bytes = bytes.to_vec();
        bytes.resize(geometry.capacity() as usize, Geometry::ERASED);
        Self(bytes)
    }
}

impl Store for MemoryStore {
    fn read(&self, offset: u32, bytes: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        bytes.copy_from_slice(&self.0[start..start + bytes.len()]);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        let start = offset as usize;
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// Bytes in a file of exactly the chip's size, written through with `pwrite`.
///
/// What an operation wrote is in the page cache when it returns, so it survives `kill -9` of the
/// process. It is not synchronised to disk: a power cut of the chip is a [`Cut`], one of the
/// machine that simulates it is not modelled.
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
            std::fs::write(&name, vec![Geometry::ERASED; geometry.capacity() as usize])?;
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

//! Flash as the core sees it: synchronous reads, and operations that the board performs and reports.

use core::fmt;

/// An operation on flash. The machine yields one at a time and yields the next after
/// `on_flash_done`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlashOp<'a> {
    /// Erase `len` bytes from `address`, whole sectors.
    Erase {
        /// First byte.
        address: u32,
        /// A multiple of the sector size.
        len: u32,
    },
    /// Program `bytes` at `address`, whole program units, erased before.
    Program {
        /// First byte.
        address: u32,
        /// What to program.
        bytes: &'a [u8],
    },
}

/// The flash could not do it: controller error, protection, uncorrectable bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlashError;

impl fmt::Display for FlashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flash operation failed")
    }
}

impl core::error::Error for FlashError {}

/// Synchronous reads. Erased flash reads as 0xFF.
pub trait FlashRead {
    /// Fills `buffer` from `address`.
    ///
    /// # Errors
    /// Outside the flash, or bits that the controller cannot correct: a torn operation may leave
    /// such a place, and the core treats it as not written.
    fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), FlashError>;
}

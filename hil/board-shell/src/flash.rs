//! The flash of an emulated board: sectors are erased to 0xFF, only erased bytes are programmed.

use ecu_bootloader::flash::{FlashError, FlashOp, FlashRead};

/// Bytes of a sector.
pub const SECTOR: u32 = 4096;
/// Bytes of a program unit.
pub const PROGRAM: u32 = 8;

/// A flash in memory. The machine reads it and the board performs operations on it, each through
/// its own copy of the handle.
pub trait MemoryFlash: FlashRead + Copy {
    /// Its first address.
    const BASE: u32;

    /// Performs an operation.
    ///
    /// # Errors
    /// Outside the flash, not whole sectors or program units, or bytes that are not erased.
    fn perform(&mut self, op: FlashOp<'_>) -> Result<(), FlashError>;

    /// Writes what no flash could, for a host that forges the memory.
    fn forge(&mut self, address: u32, bytes: &[u8]);
}

//! The flash: memory at a fixed address, with the rules of NOR.

use core::ptr;

use board_shell::flash::{MemoryFlash, PROGRAM, SECTOR};
use board_shell::machine::FLASH_LEN;
use ecu_bootloader::flash::{FlashError, FlashOp, FlashRead};

/// The flash at address `BASE`. A copy is another view of the same memory: one that the machine
/// reads, and one that the board performs operations on.
#[derive(Debug, Clone, Copy)]
pub struct RamFlash<const BASE: u32>(());

impl<const BASE: u32> RamFlash<BASE> {
    /// The flash.
    ///
    /// # Safety
    /// The memory of [`FLASH_LEN`] bytes is there, is used through copies of this flash alone, and by one
    /// thread.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }

    /// The memory of `len` bytes at `address`, if it is all in the flash.
    fn place(self, address: u32, len: usize) -> Option<*mut u8> {
        let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
        if start.checked_add(len)? > FLASH_LEN {
            return None;
        }
        Some(ptr::with_exposed_provenance_mut(
            usize::try_from(address).ok()?,
        ))
    }

    fn erase(self, address: u32, len: u32) -> Option<()> {
        if !address.is_multiple_of(SECTOR) || !len.is_multiple_of(SECTOR) {
            return None;
        }
        let len = usize::try_from(len).ok()?;
        let place = self.place(address, len)?;
        // SAFETY: `place` says that these bytes are in the flash, which nobody else uses now.
        unsafe { ptr::write_bytes(place, 0xFF, len) };
        Some(())
    }

    fn program(self, address: u32, bytes: &[u8]) -> Option<()> {
        let unit = usize::try_from(PROGRAM).ok()?;
        if !address.is_multiple_of(PROGRAM) || !bytes.len().is_multiple_of(unit) {
            return None;
        }
        let place = self.place(address, bytes.len())?;
        for at in 0..bytes.len() {
            // SAFETY: `place` says that these bytes are in the flash.
            if unsafe { place.add(at).read() } != 0xFF {
                return None;
            }
        }
        // SAFETY: as above, and `bytes` is the machine's own memory, not the flash.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        Some(())
    }
}

impl<const BASE: u32> FlashRead for RamFlash<BASE> {
    fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), FlashError> {
        let place = self.place(address, buffer.len()).ok_or(FlashError)?;
        // SAFETY: `place` says that these bytes are in the flash; `buffer` is not.
        unsafe { ptr::copy_nonoverlapping(place, buffer.as_mut_ptr(), buffer.len()) };
        Ok(())
    }
}

impl<const BASE: u32> MemoryFlash for RamFlash<BASE> {
    const BASE: u32 = BASE;

    fn perform(&mut self, op: FlashOp<'_>) -> Result<(), FlashError> {
        let done = match op {
            FlashOp::Erase { address, len } => self.erase(address, len),
            FlashOp::Program { address, bytes } => self.program(address, bytes),
        };
        done.ok_or(FlashError)
    }

    fn forge(&mut self, address: u32, bytes: &[u8]) {
        if let Some(place) = self.place(address, bytes.len()) {
            // SAFETY: `place` says that these bytes are in the flash; `bytes` is the host's message.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        }
    }
}

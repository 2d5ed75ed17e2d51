//! A flash in RAM that panics when it is misused, and can be cut in the middle of an operation.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::flash::{FlashError, FlashOp, FlashRead};
use crate::layout::{Layout, Region, SlotId};

pub(super) const PROGRAM_UNIT: u32 = 8;
const SECTOR: u32 = 2048;

/// Two journal sectors, two key-set areas and three slots of two pages of 2 KiB, from address 0.
pub(super) const LAYOUT: Layout = match Layout::uniform(0, SECTOR, PROGRAM_UNIT, 1, 4096, true) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    /// The controller reports an error; nothing has changed.
    Refused,
    /// Power fails when this share of the units, in 256ths, is through.
    Cut(u8),
}

#[derive(Debug, Clone)]
pub(super) struct Ram {
    bytes: Rc<RefCell<Vec<u8>>>,
    /// Whether somebody else than the machine has written.
    damaged: Rc<Cell<bool>>,
}

impl Ram {
    pub(super) fn blank() -> Self {
        let last = LAYOUT.slot(SlotId::B).unwrap().payload;
        let len = (last.address + last.len) as usize;
        Self::new(vec![0xFF; len])
    }

    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Rc::new(RefCell::new(bytes)),
            damaged: Rc::default(),
        }
    }

    /// The bytes, to damage them or to look at them.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        look(&mut self.bytes.borrow_mut())
    }

    /// Changes a byte. Whether the machine programs only what is erased is not known any more.
    pub(super) fn damage(&self, address: usize, xor: u8) {
        self.damaged.set(true);
        self.with(|bytes| bytes[address] ^= xor);
    }

    /// Performs `op`. Whoever programs what is not erased, or erases what is no sector, is wrong.
    pub(super) fn perform(&self, op: FlashOp<'_>, end: End) -> Result<(), FlashError> {
        if end == End::Refused {
            return Err(FlashError);
        }
        let mut bytes = self.bytes.borrow_mut();
        match op {
            FlashOp::Erase { address, len } => {
                assert!(len == SECTOR && address.is_multiple_of(SECTOR), "{op:?}");
                let done = share(len as usize, end);
                bytes[address as usize..][..done].fill(0xFF);
            }
            FlashOp::Program {
                address,
                bytes: new,
            } => {
                let aligned = address.is_multiple_of(PROGRAM_UNIT);
                let whole = new.len().is_multiple_of(PROGRAM_UNIT as usize);
                assert!(aligned && whole, "a part of a program unit: {address:#x}");
                let old = &mut bytes[address as usize..][..new.len()];
                let erased = old.iter().all(|byte| *byte == 0xFF);
                assert!(
                    erased || self.damaged.get(),
                    "programs {address:#x} without erasing it"
                );
                let done = share(new.len(), end);
                old[..done].copy_from_slice(&new[..done]);
            }
        }
        Ok(())
    }
}

/// How many bytes of `len` are through.
fn share(len: usize, end: End) -> usize {
    match end {
        End::Cut(share) => len * usize::from(share) / 256 / 8 * 8,
        _ => len,
    }
}

impl FlashRead for Ram {
    fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), FlashError> {
        let bytes = self.bytes.borrow();
        let held = bytes.get(address as usize..).ok_or(FlashError)?;
        buffer.copy_from_slice(held.get(..buffer.len()).ok_or(FlashError)?);
        Ok(())
    }
}

/// Whether the operation touches the region.
pub(super) fn touches(op: FlashOp<'_>, region: Region) -> bool {
    let (address, len) = match op {
        FlashOp::Erase { address, len } => (address, len),
        FlashOp::Program { address, bytes } => (address, bytes.len() as u32),
    };
    address < region.address + region.len && region.address < address + len
}

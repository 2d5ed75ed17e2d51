//! The memory of a provisioned ECU.

use anyhow::Result;
use board_shell::machine::{FLASH_LEN, board, layout};
use ecu_bootloader::flash::{FlashError, FlashOp};
use ecu_bootloader::layout::Layout;
use ecu_bootloader::provision::Parts;
use ecu_image::SecurityCounter;

use crate::images::Image;
use crate::keys::Keys;

/// Where the emulated board has its flash.
pub const BASE: u32 = 0x2100_0000;

/// The flash map of the emulated board.
///
/// # Errors
/// None.
pub fn map() -> Result<Layout> {
    Ok(layout(BASE)?)
}

/// The flash with a factory image, a key set and a first journal record.
///
/// # Errors
/// The image is not for this board.
pub fn provisioned(keys: &Keys, factory: &Image, floor: u32) -> Result<Vec<u8>> {
    let board = board(BASE);
    let mut flash = vec![0xFF; FLASH_LEN];
    ecu_bootloader::provision::provision(
        &board,
        &mut keys.store(),
        &Parts {
            image: &factory.packed,
            grant: &factory.grant,
            key_set: &keys.key_set()?,
            floor: SecurityCounter(floor),
            page_buffer: board_shell::machine::PAGE_SIZE as usize,
        },
        &mut [0; 4096],
        |op| perform(&mut flash, op).ok_or(FlashError),
    )?;
    Ok(flash)
}

fn perform(flash: &mut [u8], op: FlashOp<'_>) -> Option<()> {
    let at = |address: u32| address.checked_sub(BASE).map(|at| at as usize);
    match op {
        FlashOp::Erase { address, len } => {
            flash
                .get_mut(at(address)?..)?
                .get_mut(..len as usize)?
                .fill(0xFF);
        }
        FlashOp::Program { address, bytes } => {
            let place = flash.get_mut(at(address)?..)?.get_mut(..bytes.len())?;
            place.copy_from_slice(bytes);
        }
    }
    Some(())
}

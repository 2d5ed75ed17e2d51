//! How a start ended, as words in memory that a debugger or an emulator reads.

use ecu_bootloader::{BootTarget, Event};

/// Still running, or the board hangs.
pub const RUNNING: u32 = 0;
/// An image boots; the low byte is the slot, the next one the boot reason.
pub const BOOTS: u32 = 0xB007_0000;
/// The bootloader stays and answers its bus.
pub const STAYS: u32 = 0x57A9_0000;
/// The bootloader asked for a reset.
pub const RESETS: u32 = 0x2E5E_0000;
/// The board was not provisioned.
pub const UNPROVISIONED: u32 = 0x0BAD_0000;
/// A panic.
pub const PANIC: u32 = 0xDEAD_0001;
/// A fault exception.
pub const FAULT: u32 = 0xDEAD_0002;

/// The word for an event.
#[must_use]
pub fn of_event(event: &Event) -> u32 {
    match event {
        Event::Boot(target) => of_target(target),
        Event::Reset { .. } => RESETS,
    }
}

fn of_target(target: &BootTarget) -> u32 {
    let [reason, slot] = [target.reason as u8, target.slot.number()];
    BOOTS | u32::from(u16::from_be_bytes([reason, slot]))
}

//! The loop of a board.

use board_shell::flash::MemoryFlash as _;
use board_shell::machine::Machine;
use ecu_bootloader::Event;
use uds::time::Instant;

use crate::can::Controller;
use crate::flash::RamFlash;

/// Runs to the boot decision; the event, or `None` where the bootloader stays. And how often the
/// flash was asked for what it cannot do.
pub fn decide<const BASE: u32>(
    ecu: &mut Machine<RamFlash<BASE>>,
    mut flash: RamFlash<BASE>,
    now: Instant,
) -> (Option<Event>, u32) {
    let mut misused = 0u32;
    loop {
        let moved = work(ecu, &mut flash, now, &mut misused);
        let event = ecu.poll_event();
        if event.is_some() || !moved {
            return (event, misused);
        }
    }
}

/// A slice of computation, and an operation of the flash; whether anything moved.
#[inline(never)]
fn work<const BASE: u32>(
    ecu: &mut Machine<RamFlash<BASE>>,
    flash: &mut RamFlash<BASE>,
    now: Instant,
    misused: &mut u32,
) -> bool {
    let more = ecu.poll(now, 1);
    let Some(result) = ecu.poll_flash().map(|op| flash.perform(op)) else {
        return more;
    };
    *misused = misused.saturating_add(u32::from(result.is_err()));
    ecu.on_flash_done(now, result);
    true
}

/// Serves the bus until an image is to be started, or the board reset.
pub fn serve<const BASE: u32>(
    ecu: &mut Machine<RamFlash<BASE>>,
    mut flash: RamFlash<BASE>,
    mut can: Controller,
    mut clock: impl FnMut() -> Instant,
) -> Event {
    loop {
        let now = clock();
        if let Some(frame) = can.receive() {
            ecu.handle_frame(now, &frame);
        }
        // It never sleeps, so it need not know when.
        ecu.handle_timeout(now);
        work(ecu, &mut flash, now, &mut 0);
        if can.is_free()
            && let Some(frame) = ecu.poll_transmit(now)
        {
            can.send(&frame);
        }
        if let Some(event) = ecu.poll_event() {
            return event;
        }
    }
}

//! Adapters for the traits of the embedded ecosystem: a blocking `embedded-storage` NOR flash and an
//! `embedded-can` controller.
//!
//! A blocking flash driver keeps the ECU from answering while it erases; the frames then wait in
//! the controller. A board with an interrupt-driven driver performs [`FlashOp`] itself instead.

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use uds::can;
use uds::time::Instant;

use crate::flash::{FlashError, FlashOp, FlashRead};
use crate::machine::{Bootloader, Storage};
use crate::platform::Platform;

/// A blocking NOR flash whose first byte has the address `base`.
#[derive(Debug)]
pub struct Blocking<F> {
    flash: F,
    base: u32,
}

impl<F> Blocking<F> {
    /// Over `flash`, which begins at address `base`.
    pub const fn new(flash: F, base: u32) -> Self {
        Self { flash, base }
    }
}

impl<F: ReadNorFlash> FlashRead for Blocking<F> {
    fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), FlashError> {
        let offset = address.checked_sub(self.base).ok_or(FlashError)?;
        self.flash.read(offset, buffer).map_err(|_| FlashError)
    }
}

impl<F: NorFlash> Blocking<F> {
    /// Performs one operation.
    ///
    /// # Errors
    /// The driver's, or an address below the flash.
    pub fn perform(&mut self, op: FlashOp<'_>) -> Result<(), FlashError> {
        let offset = |address: u32| address.checked_sub(self.base).ok_or(FlashError);
        match op {
            FlashOp::Erase { address, len } => {
                let from = offset(address)?;
                let to = from.checked_add(len).ok_or(FlashError)?;
                self.flash.erase(from, to).map_err(|_| FlashError)
            }
            FlashOp::Program { address, bytes } => {
                let from = offset(address)?;
                self.flash.write(from, bytes).map_err(|_| FlashError)
            }
        }
    }
}

/// Performs the flash operation that is due, if there is one; whether there was.
pub fn run_flash<P: Platform, F: NorFlash, M: Storage>(
    bootloader: &mut Bootloader<P, M>,
    now: Instant,
    flash: &mut Blocking<F>,
) -> bool {
    let Some(result) = bootloader.poll_flash().map(|op| flash.perform(op)) else {
        return false;
    };
    bootloader.on_flash_done(now, result);
    true
}

/// Receives and sends what a controller has and takes; whether anything moved. Classical frames
/// only: `embedded-can` has no FD frame.
///
/// # Errors
/// The controller's, other than that it would block.
pub fn run_can<P: Platform, C: embedded_can::nb::Can, M: Storage>(
    bootloader: &mut Bootloader<P, M>,
    now: Instant,
    can: &mut C,
    waiting: &mut Option<C::Frame>,
) -> Result<bool, C::Error> {
    let mut moved = false;
    loop {
        match can.receive() {
            Ok(frame) => {
                moved = true;
                if let Some(frame) = can::from_embedded(&frame) {
                    bootloader.handle_frame(now, &frame);
                }
            }
            Err(nb) => match error_of(nb) {
                None => break,
                Some(error) => return Err(error),
            },
        }
    }
    loop {
        if waiting.is_none() {
            *waiting = bootloader
                .poll_transmit(now)
                .and_then(|frame| can::to_embedded(&frame));
        }
        let Some(frame) = waiting.as_ref() else {
            return Ok(moved);
        };
        match can.transmit(frame) {
            Ok(_) => {
                *waiting = None;
                moved = true;
            }
            Err(nb) => return error_of(nb).map_or(Ok(moved), Err),
        }
    }
}

fn error_of<E>(error: nb::Error<E>) -> Option<E> {
    match error {
        nb::Error::WouldBlock => None,
        nb::Error::Other(error) => Some(error),
    }
}

//! The virtual ECU's parts as its bootloader sees them.

use ecu_bootloader::keys::SoftKeyStore;
use ecu_bootloader::platform::{Board, Platform};
use ecu_image::provision::RootKeys;
use ecu_image::signature::SoftwareVerifier;

use crate::chip::{Chip, Otp, SharedFlash};
use crate::hardware::{BadLayout, Hardware};

/// Bit 0 of checkProgrammingPreconditions: not at standstill.
const NOT_AT_STANDSTILL: u8 = 1;

/// [`Platform`] over the model of the chip.
#[derive(Debug)]
pub struct VirtualBoard {
    board: Board,
    flash: SharedFlash,
    keys: SoftKeyStore,
    counter: Otp,
    signatures: SoftwareVerifier<RootKeys>,
    pub(crate) standstill: bool,
}

impl VirtualBoard {
    pub(crate) fn new(
        hardware: &Hardware,
        chip: &Chip,
        counter: Otp,
        standstill: bool,
    ) -> Result<Self, BadLayout> {
        Ok(Self {
            board: hardware.board()?,
            flash: chip.shared(),
            keys: hardware.keys(),
            counter,
            signatures: hardware.signatures(),
            standstill,
        })
    }
}

impl Platform for VirtualBoard {
    type Flash = SharedFlash;
    type Keys = SoftKeyStore;
    type Counter = Otp;
    type Signatures = SoftwareVerifier<RootKeys>;

    fn board(&self) -> &Board {
        &self.board
    }

    fn flash(&mut self) -> &mut SharedFlash {
        &mut self.flash
    }

    fn keys(&mut self) -> &mut SoftKeyStore {
        &mut self.keys
    }

    fn counter(&mut self) -> &mut Otp {
        &mut self.counter
    }

    fn signatures(&mut self) -> &mut SoftwareVerifier<RootKeys> {
        &mut self.signatures
    }

    fn flash_and_keys(&mut self) -> (&mut SharedFlash, &mut SoftKeyStore) {
        (&mut self.flash, &mut self.keys)
    }

    fn random(&mut self, seed: &mut [u8]) {
        // Without randomness there is no access: a constant seed would be a replayable one.
        if let Err(error) = getrandom::fill(seed) {
            panic!("no randomness: {error}");
        }
    }

    fn preconditions(&mut self) -> u8 {
        if self.standstill {
            0
        } else {
            NOT_AT_STANDSTILL
        }
    }
}

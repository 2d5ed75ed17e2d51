//! The virtual ECU's parts as its bootloader sees them.

use ecu_bootloader::keys::SoftKeyStore;
use ecu_bootloader::platform::{Board, Platform};

use crate::chip::{Chip, Otp, SharedFlash};
use crate::hardware::{BadLayout, Hardware, Signatures};

/// Bit 0 of checkProgrammingPreconditions: not at standstill.
const NOT_AT_STANDSTILL: u8 = 1;

/// [`Platform`] over the model of the chip.
#[derive(Debug)]
pub struct VirtualBoard {
    board: Board,
    flash: SharedFlash,
    keys: SoftKeyStore,
    counter: Otp,
    signatures: Signatures,
    pub(crate) standstill: bool,
    /// Where randomness follows from a seed.
    random: Option<u64>,
}

/// SplitMix64: enough for a proof, where nobody guesses seeds.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl VirtualBoard {
    pub(crate) fn new(
        hardware: &Hardware,
        chip: &Chip,
        counter: Otp,
        standstill: bool,
        start: u64,
    ) -> Result<Self, BadLayout> {
        Ok(Self {
            board: hardware.board()?,
            flash: chip.shared(),
            keys: hardware.keys(),
            counter,
            signatures: hardware.signatures(),
            standstill,
            random: hardware.proof_seed.map(|seed| seed ^ start << 32),
        })
    }
}

impl Platform for VirtualBoard {
    type Flash = SharedFlash;
    type Keys = SoftKeyStore;
    type Counter = Otp;
    type Signatures = Signatures;
    type Connection = uds::isotp::Config;

    fn connection(&self) -> uds::isotp::Config {
        self.board().connection
    }

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

    fn signatures(&mut self) -> &mut Signatures {
        &mut self.signatures
    }

    fn board_flash_keys(&mut self) -> (&Board, &mut SharedFlash, &mut SoftKeyStore) {
        (&self.board, &mut self.flash, &mut self.keys)
    }

    fn random(&mut self, seed: &mut [u8]) {
        if let Some(state) = &mut self.random {
            seed.fill_with(|| split_mix(state).to_le_bytes()[7]);
            return;
        }
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

//! What a board brings: flash, keys, counter, signatures, randomness, and what it is.

use core::borrow::Borrow;

use ecu_image::signature::SignatureVerifier;
use ecu_image::{EcuSerial, HardwareId, LogicalBlock};

use crate::counter::MonotonicCounter;
use crate::flash::FlashRead;
use crate::keys::KeyStore;
use crate::layout::Layout;

/// The usual [`Board::max_counter_jump`].
pub const COUNTER_JUMP: u32 = 256;

/// What a board is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Board {
    /// The flash map.
    pub layout: Layout,
    /// F191; images for other hardware are refused.
    pub hardware_id: HardwareId,
    /// F18C; grants for other ECUs are refused.
    pub serial: EcuSerial,
    /// F190.
    pub vin: [u8; 17],
    /// F18A.
    pub supplier: &'static str,
    /// F180, the bootloader's own identification.
    pub boot_software: &'static str,
    /// The logical block that the update slots hold.
    pub logical_block: LogicalBlock,
    /// maxNumberOfBlockLength in bytes, service identifier and counter included. The machine lowers
    /// it to what its receive buffer and pages hold.
    pub max_block_length: u16,
    /// Whether RSA-2048 signatures are accepted. Only where a policy says so, as in tests.
    pub allow_rsa_2048: bool,
    /// How far above the floor an image's security counter may be, usually [`COUNTER_JUMP`]. A
    /// counter raised to its end would refuse every later image, so whoever has stolen an image
    /// key must not get there by one image.
    pub max_counter_jump: u32,
    /// The CAN connection to the tester, seen from this ECU.
    pub connection: uds::isotp::Config,
}

/// The parts of a board that the machine uses.
pub trait Platform {
    /// Reads of the flash.
    type Flash: FlashRead;
    /// The ECU's keys.
    type Keys: KeyStore;
    /// The counter behind the floor.
    type Counter: MonotonicCounter;
    /// Verification under image keys and under the pinned roots.
    type Signatures: SignatureVerifier;
    /// The connection to the tester: [`isotp::Config`](uds::isotp::Config), or a type of a board that
    /// borrows a constant one, so that no code is linked for what this does not need.
    type Connection: Borrow<uds::isotp::Config>;

    /// What the board is. Where it is a constant, much of what is asked of it is answered when the
    /// board is compiled.
    fn board(&self) -> &Board;
    /// The CAN connection to the tester, seen from this ECU.
    fn connection(&self) -> Self::Connection;
    /// The flash.
    fn flash(&mut self) -> &mut Self::Flash;
    /// The keys.
    fn keys(&mut self) -> &mut Self::Keys;
    /// The counter.
    fn counter(&mut self) -> &mut Self::Counter;
    /// The signature verifier.
    fn signatures(&mut self) -> &mut Self::Signatures;
    /// What the board is, flash and keys at once.
    fn board_flash_keys(&mut self) -> (&Board, &mut Self::Flash, &mut Self::Keys);
    /// Fills `seed` with bytes as unpredictable as the board has them: they go into the seeds of
    /// SecurityAccess, which do not repeat even if these do.
    fn random(&mut self, seed: &mut [u8]);
    /// Verification under the pinned keys of testers that Authentication (29) accepts; `None` where the
    /// ECU does not offer it.
    #[cfg(feature = "authentication")]
    fn testers(&mut self) -> Option<&mut dyn SignatureVerifier> {
        None
    }
    /// Unmet programming preconditions, as the status of routine 0203 has them; 0 is none.
    fn preconditions(&mut self) -> u8 {
        0
    }
}

/// A [`Platform`] of separate parts.
#[derive(Debug)]
pub struct Parts<F, K, C, S, R> {
    /// What the board is.
    pub board: Board,
    /// The flash.
    pub flash: F,
    /// The keys.
    pub keys: K,
    /// The counter.
    pub counter: C,
    /// The signature verifier.
    pub signatures: S,
    /// Fills its argument with unpredictable bytes.
    pub random: R,
}

impl<F, K, C, S, R> Platform for Parts<F, K, C, S, R>
where
    F: FlashRead,
    K: KeyStore,
    C: MonotonicCounter,
    S: SignatureVerifier,
    R: FnMut(&mut [u8]),
{
    type Flash = F;
    type Keys = K;
    type Counter = C;
    type Signatures = S;
    type Connection = uds::isotp::Config;

    fn board(&self) -> &Board {
        &self.board
    }

    fn connection(&self) -> uds::isotp::Config {
        self.board.connection
    }

    fn flash(&mut self) -> &mut F {
        &mut self.flash
    }

    fn keys(&mut self) -> &mut K {
        &mut self.keys
    }

    fn counter(&mut self) -> &mut C {
        &mut self.counter
    }

    fn signatures(&mut self) -> &mut S {
        &mut self.signatures
    }

    fn board_flash_keys(&mut self) -> (&Board, &mut F, &mut K) {
        (&self.board, &mut self.flash, &mut self.keys)
    }

    fn random(&mut self, seed: &mut [u8]) {
        (self.random)(seed);
    }
}

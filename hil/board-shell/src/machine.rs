//! The bootloader of these boards: what each of them is, and its parts.

use core::borrow::Borrow;

use ecu_bootloader::Bootloader;
use ecu_bootloader::counter::{CounterError, MonotonicCounter};
use ecu_bootloader::keys::SoftKeyStore;
use ecu_bootloader::layout::{Layout, LayoutError};
use ecu_bootloader::platform::{Board, COUNTER_JUMP, Platform};
pub use ecu_image::pss::Verifier;
use ecu_image::signature::SoftwareVerifier;
use ecu_image::{EcuSerial, HardwareId, LogicalBlock, SecurityCounter};
use uds::can::CanId;
use uds::isotp;

use crate::flash::{MemoryFlash, PROGRAM, SECTOR};
use crate::provision::{COUNTER, Provision, Roots, SEEDS};

/// Bytes of a payload area.
pub const PAYLOAD: u32 = 256 * 1024;
/// Bytes of a page in the images of these boards.
pub const PAGE_SIZE: u32 = 2048;
/// Bytes of the longest block: a page, the service identifier and the counter.
pub const BLOCK: usize = 2050;
/// F191.
pub const HARDWARE: &str = "BOARD-1";
/// F18C.
pub const SERIAL: &str = "SN-0001";
/// Identifier of requests.
pub const REQUEST: u16 = 0x7E0;
/// Identifier of responses.
pub const RESPONSE: u16 = 0x7E8;
/// Identifier of functional requests.
pub const FUNCTIONAL: u16 = 0x7DF;

/// The buffers of these boards: pages of 2 KiB, each of which is one block.
pub type Memory = ecu_bootloader::Memory<BLOCK, { PAGE_SIZE as usize }>;

/// The bootloader in its default profile, its buffers in a static of the board.
pub type Machine<F> = Bootloader<Parts<F>, &'static mut Memory>;

/// The flash map from `base` on: journal, key sets, factory, A and B, one table page each.
///
/// # Errors
/// None for a `base` on a sector.
pub const fn layout(base: u32) -> Result<Layout, LayoutError> {
    Layout::uniform(base, SECTOR, PROGRAM, 1, PAYLOAD, true)
}

/// Bytes of the flash.
pub const FLASH_LEN: usize = 4 * 4096 + 3 * (8192 + 256 * 1024);

/// What the board is, whose flash begins at `base`. A constant: most of what the machine asks of it is
/// answered when it is compiled.
#[must_use]
pub const fn board(base: u32) -> Board {
    let (Ok(layout), Ok(hardware_id), Ok(serial)) = (
        layout(base),
        HardwareId::new(HARDWARE),
        EcuSerial::new(SERIAL),
    ) else {
        panic!("the constants above are not of their kinds");
    };
    Board {
        layout,
        hardware_id,
        serial,
        vin: *b"00000000000000000",
        supplier: "canopus",
        boot_software: "boot 0.1.0",
        logical_block: LogicalBlock::APPLICATION,
        max_block_length: 2050,
        allow_rsa_2048: false,
        max_counter_jump: COUNTER_JUMP,
        connection: CONNECTION,
    }
}

/// Classical frames, normal addressing, 11-bit identifiers.
static CONNECTED: isotp::Config = CONNECTION;
const CONNECTION: isotp::Config = {
    let id = (
        CanId::standard(RESPONSE),
        CanId::standard(REQUEST),
        CanId::standard(FUNCTIONAL),
    );
    let (Some(response), Some(request), functional) = id else {
        panic!("the constants above are no identifiers");
    };
    let mut connection = isotp::Config::new(response, request);
    connection.functional_id = functional;
    connection
};

/// The connection of these boards.
#[derive(Debug, Clone, Copy)]
pub struct Connection;

impl Borrow<isotp::Config> for Connection {
    fn borrow(&self) -> &isotp::Config {
        &CONNECTED
    }
}

/// A word that stands for one-time-programmable memory.
#[derive(Debug)]
pub struct Counter(u32);

impl MonotonicCounter for Counter {
    fn read(&mut self) -> SecurityCounter {
        SecurityCounter(self.0)
    }

    fn raise_to(&mut self, to: SecurityCounter) -> Result<(), CounterError> {
        self.0 = self.0.max(to.get());
        Ok(())
    }
}

/// The verification of signatures, in a static of the board.
type Signatures = SoftwareVerifier<&'static Roots, &'static mut Verifier>;

/// What these boards bring.
#[derive(Debug)]
pub struct Parts<F> {
    flash: F,
    keys: SoftKeyStore,
    counter: Counter,
    signatures: Signatures,
    seeds: u32,
}

impl<F> Parts<F> {
    /// The parts as provisioned.
    #[inline]
    pub fn new(
        flash: F,
        provision: &Provision<'_>,
        roots: &'static Roots,
        verifier: &'static mut Verifier,
    ) -> Self {
        Self {
            flash,
            keys: provision.keys(),
            counter: Counter(provision.word(COUNTER)),
            signatures: SoftwareVerifier::over(roots, verifier),
            seeds: provision.word(SEEDS) | 1,
        }
    }

    /// Leaves in `provision` what survives a reset.
    pub fn retain(&self, provision: &mut Provision<'_>) {
        provision.set_word(COUNTER, self.counter.0);
        provision.set_word(SEEDS, self.seeds);
    }
}

impl<F: MemoryFlash> Parts<F> {
    /// What the board is.
    const BOARD: &'static Board = &board(F::BASE);
}

impl<F: MemoryFlash> Platform for Parts<F> {
    type Flash = F;
    type Keys = SoftKeyStore;
    type Counter = Counter;
    type Signatures = Signatures;
    type Connection = Connection;

    fn board(&self) -> &Board {
        Self::BOARD
    }

    fn connection(&self) -> Connection {
        Connection
    }

    fn flash(&mut self) -> &mut Self::Flash {
        &mut self.flash
    }

    fn keys(&mut self) -> &mut Self::Keys {
        &mut self.keys
    }

    fn counter(&mut self) -> &mut Self::Counter {
        &mut self.counter
    }

    fn signatures(&mut self) -> &mut Self::Signatures {
        &mut self.signatures
    }

    fn board_flash_keys(&mut self) -> (&Board, &mut Self::Flash, &mut Self::Keys) {
        (Self::BOARD, &mut self.flash, &mut self.keys)
    }

    /// Xorshift from a provisioned state: repeatable, and for tests alone.
    fn random(&mut self, seed: &mut [u8]) {
        for byte in seed {
            self.seeds ^= self.seeds << 13;
            self.seeds ^= self.seeds >> 17;
            self.seeds ^= self.seeds << 5;
            let [_, _, _, high] = self.seeds.to_le_bytes();
            *byte = high;
        }
    }
}

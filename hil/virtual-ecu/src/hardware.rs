//! What a virtual ECU is made of: its provisioning file turned into a board.

use std::fmt;

use ecu_bootloader::keys::SoftKeyStore;
use ecu_bootloader::layout::{KEY_SET_AREA, Layout};
use ecu_bootloader::platform::{Board, COUNTER_JUMP};
use ecu_image::LogicalBlock;
use ecu_image::provision::{CanIdText, EcuProvisioning, RootKeys};
use ecu_image::signature::SoftwareVerifier;
use nor::Geometry;
use uds::can::CanId;
use uds::isotp;

use powercut::verifier::Remembering;

use crate::link::BootInfo;

/// How a virtual ECU verifies signatures.
pub type Signatures = Remembering<SoftwareVerifier<RootKeys>>;

/// Bytes of the payload area of each slot.
const PAYLOAD: u32 = 512 * 1024;
/// Table pages that a slot has room for: images of up to 512 pages.
const TABLE_PAGES: u32 = 4;

/// Which flash chip the ECU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChipModel {
    /// Serial NOR: sectors of 4 KiB, pages of 256 bytes.
    #[default]
    Serial4k,
    /// Microcontroller flash: pages of 2 KiB, words of 8 bytes with ECC.
    Pages2k8,
    /// Larger microcontroller flash: pages of 2 KiB, words of 32 bytes with ECC.
    Pages2k32,
}

impl ChipModel {
    /// Every model.
    pub const ALL: [Self; 3] = [Self::Serial4k, Self::Pages2k8, Self::Pages2k32];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serial4k => "serial-4k",
            Self::Pages2k8 => "pages-2k-8",
            Self::Pages2k32 => "pages-2k-32",
        }
    }

    const fn sector(self) -> u32 {
        match self {
            Self::Serial4k => 4096,
            Self::Pages2k8 | Self::Pages2k32 => 2048,
        }
    }

    const fn word(self) -> u32 {
        match self {
            Self::Serial4k => 4,
            Self::Pages2k8 => 8,
            Self::Pages2k32 => 32,
        }
    }
}

/// An ECU as it leaves the factory, before its flash is written.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Identity, addresses and keys.
    pub provisioning: EcuProvisioning,
    /// Its flash chip.
    pub chip: ChipModel,
    /// Whether it has two update slots rather than one.
    pub two_update_slots: bool,
    /// Whether it accepts RSA-2048 signatures. For tests that cannot wait for longer keys.
    pub allow_rsa_2048: bool,
    /// In a proof its randomness follows from this seed, and it remembers what the verification of a
    /// signature said: so a run repeats, and costs little.
    pub proof_seed: Option<u64>,
}

/// The flash map does not hold together. Only a mistake in this module's constants makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLayout(ecu_bootloader::layout::LayoutError);

impl fmt::Display for BadLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flash map: {}", self.0)
    }
}

impl std::error::Error for BadLayout {}

impl Hardware {
    /// The usual hardware for a provisioning file: serial NOR, two update slots.
    #[must_use]
    pub fn new(provisioning: EcuProvisioning) -> Self {
        Self {
            provisioning,
            chip: ChipModel::default(),
            two_update_slots: true,
            allow_rsa_2048: false,
            proof_seed: None,
        }
    }

    /// The flash map.
    ///
    /// # Errors
    /// [`BadLayout`].
    pub fn layout(&self) -> Result<Layout, BadLayout> {
        let (sector, word) = (self.chip.sector(), self.chip.word());
        Layout::uniform(0, sector, word, TABLE_PAGES, PAYLOAD, self.two_update_slots)
            .map_err(BadLayout)
    }

    /// The chip's geometry, as large as the flash map with two update slots needs.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        let sector = self.chip.sector();
        let metadata = (2048 + TABLE_PAGES * 4096).next_multiple_of(sector);
        let keys = KEY_SET_AREA.next_multiple_of(sector);
        let capacity = 2 * sector + 2 * keys + 3 * (metadata + PAYLOAD);
        match self.chip {
            ChipModel::Serial4k => Geometry::uniform_4k(capacity),
            ChipModel::Pages2k8 => Geometry::pages_2k_8(capacity),
            ChipModel::Pages2k32 => Geometry::pages_2k_32(capacity),
        }
    }

    /// The board as the bootloader sees it.
    ///
    /// # Errors
    /// [`BadLayout`].
    pub fn board(&self) -> Result<Board, BadLayout> {
        let provisioning = &self.provisioning;
        let mut vin = [b'0'; 17];
        for (to, from) in vin.iter_mut().zip(provisioning.vin.as_str().bytes()) {
            *to = from;
        }
        Ok(Board {
            layout: self.layout()?,
            hardware_id: provisioning.hardware_id,
            serial: provisioning.serial,
            vin,
            supplier: "Canopus",
            boot_software: concat!("canopus-boot ", env!("CARGO_PKG_VERSION")),
            logical_block: LogicalBlock::APPLICATION,
            max_block_length: 4095,
            allow_rsa_2048: self.allow_rsa_2048,
            max_counter_jump: COUNTER_JUMP,
            connection: self.connection(),
        })
    }

    /// The connection to the tester, seen from the ECU.
    #[must_use]
    pub fn connection(&self) -> isotp::Config {
        let provisioning = &self.provisioning;
        let make = if provisioning.fd {
            isotp::Config::fd
        } else {
            isotp::Config::new
        };
        let mut config = make(
            can_id(provisioning.response_id),
            can_id(provisioning.request_id),
        );
        config.functional_id = Some(can_id(provisioning.functional_id));
        config
    }

    /// The first message to an application; `reason` is that of FD01.
    #[must_use]
    pub fn boot_info(&self, reason: u8) -> BootInfo {
        let provisioning = &self.provisioning;
        BootInfo {
            request_id: can_id(provisioning.request_id),
            response_id: can_id(provisioning.response_id),
            functional_id: can_id(provisioning.functional_id),
            heartbeat_id: can_id(provisioning.heartbeat_id),
            fd: provisioning.fd,
            reason,
        }
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> SoftKeyStore {
        let provisioning = &self.provisioning;
        SoftKeyStore::new(
            provisioning.wrap_key.clone(),
            provisioning.grant_key.clone(),
            provisioning.journal_key.clone(),
            provisioning.access_key.clone(),
        )
    }

    /// Verification under image keys and the pinned roots.
    #[must_use]
    pub fn signatures(&self) -> Signatures {
        let inner = SoftwareVerifier::new(self.provisioning.root_keys.clone());
        Remembering::new(inner, self.proof_seed.is_some())
    }
}

/// The identifier, checked already when it was parsed.
fn can_id(text: CanIdText) -> CanId {
    let extended = CanId::extended(text.raw());
    let standard = u16::try_from(text.raw()).ok().and_then(CanId::standard);
    let id = if text.is_extended() {
        extended
    } else {
        standard
    };
    id.unwrap_or_else(|| unreachable!("a CanIdText is in range"))
}

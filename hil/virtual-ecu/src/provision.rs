//! The production line: writes the factory image, its metadata and the first journal record.

use std::fmt;

use ecu_bootloader::flash::FlashOp;
use ecu_bootloader::journal::{Journal, Written};
use ecu_bootloader::layout::{METADATA_HEAD, SlotId};
use ecu_bootloader::state::State;
use ecu_image::pss::{Progress, SignatureVerifier};
use ecu_image::verify::{Policy, VerifiedImage, VerifyError, verify_image};
use ecu_image::{GRANT_LEN, Grant, ImageDigest, SignatureLen, Slot};

use crate::chip::Chip;
use crate::hardware::{BadLayout, Hardware};

/// Why an ECU cannot be provisioned.
#[derive(Debug)]
pub enum ProvisionError {
    /// The factory image is not authentic under the ECU's image keys.
    Image(VerifyError),
    /// The factory image is for other hardware.
    Hardware {
        /// What the image is for.
        image: String,
        /// What the ECU is.
        ecu: String,
    },
    /// The factory image is not linked for the factory slot.
    NotForFactorySlot,
    /// The factory image does not fit its slot.
    TooLarge {
        /// Bytes of the image.
        len: u32,
        /// Bytes of the slot.
        room: u32,
    },
    /// The grant is not for this ECU and this image, or not under its grant key.
    Grant(&'static str),
    /// Content key or salt of the grant are not those of the image.
    Key,
    /// The flash refused.
    Flash(nor::FlashError),
    /// The journal could not be written.
    Journal,
    /// The flash map is wrong.
    Layout(BadLayout),
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => write!(f, "factory image: {error}"),
            Self::Hardware { image, ecu } => {
                write!(f, "the factory image is for {image}, the ECU is {ecu}")
            }
            Self::NotForFactorySlot => {
                f.write_str("the factory image is not linked for the factory slot")
            }
            Self::TooLarge { len, room } => {
                write!(
                    f,
                    "the factory image has {len} bytes, its slot {room}, or its table is too long"
                )
            }
            Self::Grant(what) => write!(f, "grant: {what}"),
            Self::Key => f.write_str("grant: its content key is not that of the image"),
            Self::Flash(error) => write!(f, "flash: {error}"),
            Self::Journal => f.write_str("the journal could not be written"),
            Self::Layout(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProvisionError {}

impl From<nor::FlashError> for ProvisionError {
    fn from(error: nor::FlashError) -> Self {
        Self::Flash(error)
    }
}

impl From<BadLayout> for ProvisionError {
    fn from(error: BadLayout) -> Self {
        Self::Layout(error)
    }
}

/// Writes a blank or used chip: factory image, journal; update slots are left as they are.
///
/// # Errors
/// [`ProvisionError`]; nothing is written unless image and grant are right.
pub fn provision(
    hardware: &Hardware,
    chip: &Chip,
    image: &[u8],
    grant: &[u8],
) -> Result<ImageDigest, ProvisionError> {
    let verified = verified(hardware, image)?;
    let grant_bytes: &[u8; GRANT_LEN] = grant
        .try_into()
        .map_err(|_| ProvisionError::Grant("not 256 bytes"))?;
    let plaintext = decrypted(hardware, &verified, grant_bytes)?;
    write_slot(hardware, chip, grant_bytes, &verified, plaintext)?;
    write_journal(hardware, chip, verified.digest)?;
    Ok(verified.digest)
}

fn verified<'a>(hardware: &Hardware, image: &'a [u8]) -> Result<VerifiedImage<'a>, ProvisionError> {
    let shortest_signature = if hardware.allow_rsa_2048 {
        SignatureLen::Rsa2048
    } else {
        SignatureLen::Rsa3072
    };
    let mut verifier = hardware.signatures();
    let verified = verify_image(
        image,
        &Policy { shortest_signature },
        |key, signed, signature| {
            let digest = ImageDigest(ecu_image::crypto::sha256(&[signed]).0);
            verifier.begin(key, &digest, signature).is_ok()
                && verifier.step(u32::MAX) == Progress::Valid
        },
    )
    .map_err(ProvisionError::Image)?;
    let header = &verified.header;
    let ecu = hardware.provisioning.hardware_id;
    if header.hardware_id != ecu {
        return Err(ProvisionError::Hardware {
            image: header.hardware_id.to_string(),
            ecu: ecu.to_string(),
        });
    }
    if !header.slots.contains(Slot::Factory) {
        return Err(ProvisionError::NotForFactorySlot);
    }
    let slot = factory(hardware)?;
    let (len, room) = (header.layout().ciphertext_len(), slot.payload.len);
    if len > room || u32::from(header.layout().table_page_count()) > slot.table_pages() {
        return Err(ProvisionError::TooLarge { len, room });
    }
    Ok(verified)
}

fn factory(hardware: &Hardware) -> Result<ecu_bootloader::layout::Slot, ProvisionError> {
    let slot = hardware.layout()?.slot(SlotId::Factory);
    slot.ok_or(ProvisionError::NotForFactorySlot)
}

/// The plaintext in whole pages.
fn decrypted(
    hardware: &Hardware,
    image: &VerifiedImage<'_>,
    grant_bytes: &[u8; GRANT_LEN],
) -> Result<Vec<u8>, ProvisionError> {
    let provisioning = &hardware.provisioning;
    let grant = Grant::parse(grant_bytes).map_err(|_| ProvisionError::Grant("malformed"))?;
    if !provisioning.grant_key.verify_grant(grant_bytes) {
        return Err(ProvisionError::Grant("not under the ECU's grant key"));
    }
    if grant.ecu_serial != provisioning.serial {
        return Err(ProvisionError::Grant("for another ECU"));
    }
    if grant.image_digest != image.digest {
        return Err(ProvisionError::Grant("for another image"));
    }
    let unwrapped = provisioning.wrap_key.unwrap(&grant.wrapped);
    let (key, salt) = unwrapped.map_err(|_| ProvisionError::Key)?;
    let mut plaintext = image
        .decrypt(&key, &salt)
        .map_err(|_| ProvisionError::Key)?;
    plaintext.resize(image.ciphertext.len(), 0);
    Ok(plaintext)
}

fn write_slot(
    hardware: &Hardware,
    chip: &Chip,
    grant: &[u8; GRANT_LEN],
    image: &VerifiedImage<'_>,
    plaintext: Vec<u8>,
) -> Result<(), ProvisionError> {
    let slot = factory(hardware)?;
    let word = hardware.layout()?.program_unit() as usize;
    let (header, table) = image.metadata.split_at(ecu_image::HEADER_LEN);
    let head = [&grant[..], header].concat();
    let table_at = slot.metadata.address + METADATA_HEAD;
    chip.with(|nor| {
        for region in [slot.metadata, slot.payload] {
            for sector in 0..region.len / region.sector {
                nor.erase(region.address + sector * region.sector)?;
            }
        }
        for (address, mut bytes) in [
            (slot.metadata.address, head),
            (table_at, table.to_vec()),
            (slot.payload.address, plaintext),
        ] {
            bytes.resize(bytes.len().next_multiple_of(word), 0xFF);
            nor.program(address, &bytes)?;
        }
        Ok(())
    })
}

/// Writes the first record by the bootloader's own journal, which checks what it writes.
fn write_journal(
    hardware: &Hardware,
    chip: &Chip,
    factory: ImageDigest,
) -> Result<(), ProvisionError> {
    let layout = hardware.layout()?;
    let mut keys = hardware.keys();
    for half in layout.journal() {
        chip.with(|nor| nor.erase(half.address))?;
    }
    let (mut journal, _) = Journal::open(&layout, &mut chip.shared(), &mut keys);
    let state = State::provisioned(factory, hardware.provisioning.floor);
    journal.write(&state, &mut keys);
    loop {
        let result = match journal.op() {
            Some(FlashOp::Erase { address, .. }) => chip.with(|nor| nor.erase(address)),
            Some(FlashOp::Program { address, bytes }) => {
                chip.with(|nor| nor.program(address, bytes))
            }
            None => return Err(ProvisionError::Journal),
        };
        let result = result.map(|_| ());
        match journal.on_done(result.map_err(|_| ecu_bootloader::flash::FlashError)) {
            Written::NotYet => {}
            Written::Durable => return Ok(()),
            Written::Failed => return Err(ProvisionError::Journal),
        }
    }
}

//! The production line: writes the factory image, its metadata, the first key set and the first
//! journal record.

use std::fmt;

use ecu_bootloader::flash::{FlashError, FlashOp};
use ecu_bootloader::provision as boot;
use ecu_image::keyset::{KeySet, KeyStatus, NotAuthentic};
use ecu_image::verify::{Policy, VerifyError, verify_image};
use ecu_image::{ImageDigest, ParseError, SignatureLen};

use crate::chip::Chip;
use crate::hardware::{BadLayout, Hardware};

/// Bytes of the largest page.
const LARGEST_PAGE: usize = 4096;

/// Why an ECU cannot be provisioned.
#[derive(Debug)]
pub enum ProvisionError {
    /// The key set is none.
    MalformedKeySet(ParseError),
    /// The roots have not signed the key set.
    KeySet(NotAuthentic),
    /// The factory image is not authentic under an active key of the key set.
    Image(VerifyError),
    /// Image or grant are not for this ECU, or the flash refused.
    Refused(boot::ProvisionError),
    /// The flash map is wrong.
    Layout(BadLayout),
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MalformedKeySet(error) => write!(f, "key set: {error}"),
            Self::KeySet(error) => write!(f, "key set: {error}"),
            Self::Image(error) => write!(f, "factory image: {error}"),
            Self::Refused(error) => error.fmt(f),
            Self::Layout(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProvisionError {}

impl From<BadLayout> for ProvisionError {
    fn from(error: BadLayout) -> Self {
        Self::Layout(error)
    }
}

/// Writes a blank or used chip: factory slot, key set and journal. Update slots are left as they are; the new
/// journal does not know them.
///
/// # Errors
/// [`ProvisionError`]; nothing is written unless image and grant are for this ECU.
pub fn provision(
    hardware: &Hardware,
    chip: &Chip,
    image: &[u8],
    grant: &[u8],
) -> Result<ImageDigest, ProvisionError> {
    let provisioning = &hardware.provisioning;
    let key_set = provisioning.key_set.parsed();
    let key_set = key_set.map_err(ProvisionError::MalformedKeySet)?;
    key_set
        .authenticate(&provisioning.root_keys)
        .map_err(ProvisionError::KeySet)?;
    let digest = authentic(hardware, &key_set, image)?;
    let board = hardware.board()?;
    boot::provision(
        &board,
        &mut hardware.keys(),
        &boot::Parts {
            image,
            grant,
            key_set: provisioning.key_set.as_bytes(),
            floor: provisioning.floor,
            page_buffer: LARGEST_PAGE,
        },
        &mut [0; LARGEST_PAGE],
        |op| perform(chip, &op),
    )
    .map_err(ProvisionError::Refused)?;
    Ok(digest)
}

fn authentic(
    hardware: &Hardware,
    key_set: &KeySet<'_>,
    image: &[u8],
) -> Result<ImageDigest, ProvisionError> {
    let weakest_signature = if hardware.allow_rsa_2048 {
        SignatureLen::Rsa2048
    } else {
        SignatureLen::Rsa3072
    };
    let policy = Policy { weakest_signature };
    let verified = verify_image(image, &policy, |key, signed, signature| {
        let digest = ecu_image::crypto::sha256(&[signed]);
        let active = |status| status == KeyStatus::Active;
        let entry = key_set.key(key).filter(|entry| active(entry.status));
        entry.is_some_and(|entry| entry.key.verifies(&digest.0, signature.as_bytes()))
    });
    verified
        .map(|image| image.digest)
        .map_err(ProvisionError::Image)
}

/// An operation without its time: the production line is not in a hurry.
fn perform(chip: &Chip, op: &FlashOp<'_>) -> Result<(), FlashError> {
    chip.with(|nor| match *op {
        FlashOp::Program { address, bytes } => nor.program(address, bytes).map(drop),
        FlashOp::Erase { address, len } => {
            let end = address.saturating_add(len);
            let mut next = address;
            while next < end {
                let size = nor.geometry().sector_of(next).map_or(len, |s| s.size);
                nor.erase(next)?;
                next = next.saturating_add(size);
            }
            Ok(())
        }
    })
    .map_err(|_| FlashError)
}

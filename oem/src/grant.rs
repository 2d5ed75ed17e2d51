//! Install grants: permission for one ECU to install one image.

use std::path::Path;

use campaign::ids::{EcuName, HardwareId, ImageDigest, SequenceNumber, Vin};
use ecu_image::{GRANT_LEN, Grant, GrantFlags, pack::GrantRequest, provision::EcuProvisioning};

use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    image::Image,
    repo::{ImageSecrets, Repo, VehicleRecord},
    vault::{self, Ask, Granted},
};

/// A grant with any content, under the keys of an ECU. It keeps no rule: sequence and hardware are
/// the caller's business, so that tests of a receiver can issue grants that it must refuse.
#[must_use]
pub fn issue(
    ecu: &EcuProvisioning,
    image_digest: ImageDigest,
    secrets: &ImageSecrets,
    sequence: SequenceNumber,
    flags: GrantFlags,
) -> [u8; GRANT_LEN] {
    let request = GrantRequest {
        ecu_serial: ecu.serial,
        image_digest,
        sequence,
        flags,
        content_key: &secrets.content_key,
        salt: secrets.salt,
    };
    Grant::issue(&request, &ecu.wrap_key, &ecu.grant_key).encode()
}

/// An image that is granted, as far as a grant speaks of it.
#[derive(Debug)]
pub(crate) struct Subject {
    /// The hardware that it is for.
    pub hardware: HardwareId,
    /// Its identity.
    pub digest: ImageDigest,
    /// Its secrets.
    pub secrets: ImageSecrets,
}

/// The next grant for an ECU of `vehicle`; its sequence is recorded there, not yet stored.
///
/// # Errors
///
/// [`Error::UnknownEcu`], [`Error::Hardware`], [`Error::Sequence`] where `sequence` is not above
/// the last one.
pub(crate) fn next(
    vehicle: &mut VehicleRecord,
    ecu: &EcuName,
    image: &Subject,
    sequence: Option<SequenceNumber>,
    flags: GrantFlags,
) -> Result<Granted, Error> {
    let vin = vehicle.vehicle.vin().clone();
    let unknown = || Error::UnknownEcu {
        vin,
        ecu: ecu.clone(),
    };
    let record = vehicle.ecus.get_mut(ecu).ok_or_else(unknown)?;
    let hardware = record.provisioning.hardware_id;
    if hardware != image.hardware {
        return Err(Error::Hardware {
            ecu: ecu.clone(),
            hardware,
            image: image.hardware,
        });
    }
    let last = record.last_sequence;
    let asked = sequence.unwrap_or(SequenceNumber(last.get().saturating_add(1)));
    if asked <= last {
        let ecu = ecu.clone();
        return Err(Error::Sequence { ecu, asked, last });
    }
    record.last_sequence = asked;
    let (ecu, secrets) = (&record.provisioning, &image.secrets);
    Ok(Granted {
        grant: issue(ecu, image.digest, secrets, asked, flags),
        sequence: asked,
    })
}

/// What `oem grant` is asked for.
#[derive(Debug, Clone)]
pub struct GrantOptions {
    /// The vehicle.
    pub vin: Vin,
    /// The ECU in it.
    pub ecu: EcuName,
    /// The sequence; the next one by default.
    pub sequence: Option<SequenceNumber>,
    /// Whether the image may be installed below the ECU's floor.
    pub allow_downgrade: bool,
}

/// Issues a grant for the image file `image` into the file `out`. The sequence is stored first: an
/// interrupted run wastes a number and never gives one twice.
///
/// # Errors
///
/// As [`Image::load`] and [`vault::KeyHolder::grants`]; [`Error::File`].
pub fn grant_file(
    repo: &Repo,
    image: &Path,
    options: &GrantOptions,
    out: &Path,
) -> Result<SequenceNumber, Error> {
    let image = Image::load(repo, image)?;
    let mut vehicle = repo.vehicle(&options.vin)?;
    let flags = GrantFlags {
        downgrade: options.allow_downgrade,
    };
    let ask = Ask {
        ecu: &options.ecu,
        image: &image,
        sequence: options.sequence,
        flags,
    };
    let granted = vault::holder(repo)?.grants(&mut vehicle, &[ask])?;
    let Some(Granted { grant, sequence }) = granted.into_iter().next() else {
        return Err(Error::Vault("it gave no grant".into()));
    };
    let details = json!({
        "vin": options.vin, "ecu": options.ecu, "sequence": sequence, "image": image.digest,
        "downgrade": options.allow_downgrade,
    });
    audit::record(repo, "grant", &details)?;
    repo.store_vehicle(&vehicle)?;
    files::write_atomic(out, &grant, Access::Public)?;
    Ok(sequence)
}

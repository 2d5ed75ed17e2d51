//! Who holds the keys of ECUs and images: this desk itself, or a vault, which is another host.
//!
//! A desk that directs vehicles is reached from outside. With a vault ([`part()`]) it has neither the keys
//! of ECUs nor the content keys; it asks for grants ([`remote`]), and the vault ([`service`]) decides by
//! rules of its own.

use campaign::ids::{EcuName, SequenceNumber, Serial};
use ecu_image::{GRANT_LEN, GrantFlags, HEADER_LEN, Header, REPORT_LEN};

use crate::{
    error::Error,
    grant,
    image::Image,
    repo::{ImageSecrets, Repo, VehicleRecord},
    vehicle::{self, VehicleSpec},
};

mod part;
mod protocol;
pub mod remote;
mod rules;
pub mod service;

pub(crate) use part::is_vault;
pub use part::{PartOptions, Parted, part};
pub use rules::permit;

/// A grant that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The ECU.
    pub ecu: &'a EcuName,
    /// The image.
    pub image: &'a Image,
    /// The sequence; the next one by default.
    pub sequence: Option<SequenceNumber>,
    /// What else the grant allows.
    pub flags: GrantFlags,
}

/// A grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Its bytes.
    pub grant: [u8; GRANT_LEN],
    /// Its sequence, above all that the ECU was given before.
    pub sequence: SequenceNumber,
}

/// Whoever has the keys of ECUs and images.
pub trait KeyHolder {
    /// A grant for each of `asks`, all of one vehicle. Sequences that rise in `vehicle` are the caller's to
    /// store before a grant is published.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownEcu`], [`Error::UnknownImage`], [`Error::Hardware`], [`Error::Sequence`];
    /// [`Error::VaultRefuses`], [`Error::VaultAway`].
    fn grants(&self, vehicle: &mut VehicleRecord, asks: &[Ask<'_>]) -> Result<Vec<Granted>, Error>;

    /// Whether the ECU of that serial made this report.
    ///
    /// # Errors
    ///
    /// [`Error::VaultRefuses`], [`Error::VaultAway`]: nothing is known then.
    fn vouches(
        &self,
        vehicle: &VehicleRecord,
        serial: &Serial,
        report: &[u8; REPORT_LEN],
    ) -> Result<bool, Error>;

    /// Keeps the secrets of the image with this header.
    ///
    /// # Errors
    ///
    /// [`Error::File`]; [`Error::VaultRefuses`], [`Error::VaultAway`].
    fn keep(&self, header: &[u8; HEADER_LEN], secrets: &ImageSecrets) -> Result<(), Error>;

    /// Makes the keys of a vehicle. What is returned is stored by the caller.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] for a description that breaks a rule; [`Error::VaultRefuses`],
    /// [`Error::VaultAway`].
    fn vehicle(&self, spec: &VehicleSpec) -> Result<VehicleRecord, Error>;
}

/// Who holds the keys of this repository's ECUs and images.
///
/// # Errors
///
/// [`Error::Corrupt`], [`Error::File`] where the vault's address or certificates are unusable.
pub fn holder(repo: &Repo) -> Result<Box<dyn KeyHolder + '_>, Error> {
    Ok(match part::address(repo)? {
        Some(address) => Box::new(remote::Remote::new(repo, &address)?),
        None => Box::new(Here(repo)),
    })
}

/// The repository itself holds them.
struct Here<'a>(&'a Repo);

impl KeyHolder for Here<'_> {
    fn grants(&self, vehicle: &mut VehicleRecord, asks: &[Ask<'_>]) -> Result<Vec<Granted>, Error> {
        let mut grants = Vec::new();
        for ask in asks {
            let subject = grant::Subject {
                hardware: ask.image.header.hardware_id,
                digest: ask.image.digest,
                secrets: self.0.image_secrets(&ask.image.digest)?,
            };
            let granted = grant::next(vehicle, ask.ecu, &subject, ask.sequence, ask.flags)?;
            grants.push(granted);
        }
        Ok(grants)
    }

    fn vouches(
        &self,
        vehicle: &VehicleRecord,
        serial: &Serial,
        report: &[u8; REPORT_LEN],
    ) -> Result<bool, Error> {
        Ok(made_by(vehicle, serial, report))
    }

    fn keep(&self, header: &[u8; HEADER_LEN], secrets: &ImageSecrets) -> Result<(), Error> {
        self.0
            .store_image_secrets(&Header::digest_of(header), secrets)
    }

    fn vehicle(&self, spec: &VehicleSpec) -> Result<VehicleRecord, Error> {
        vehicle::record(self.0, spec)
    }
}

/// Whether the report bears the code of an ECU of this vehicle.
fn made_by(vehicle: &VehicleRecord, serial: &Serial, report: &[u8; REPORT_LEN]) -> bool {
    let mut ecus = vehicle.ecus.values().map(|ecu| &ecu.provisioning);
    ecus.find(|ecu| ecu.serial == *serial)
        .is_some_and(|ecu| ecu.grant_key.verify_report(report))
}

/// The header of a loaded image.
fn header_of(image: &Image) -> Result<&[u8; HEADER_LEN], Error> {
    let header = image.bytes.first_chunk();
    header.ok_or_else(|| Error::input(&image.path, "it has no header"))
}

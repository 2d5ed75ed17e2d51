//! What a desk asks a vault, as JSON over HTTPS with certificates on both sides. Byte strings are
//! hexadecimal.
//!
//! ```text
//! POST /grants    GrantsAsk  -> GrantsAnswer
//! POST /reports   ReportAsk  -> ReportAnswer
//! POST /images    ImageKeys  -> 204
//! POST /vehicles  the description of a vehicle -> its record without the keys of its ECUs
//! ```
//!
//! A refusal has a status from 400 on and its reason as text.

use campaign::ids::{EcuName, SequenceNumber, Serial, Vin};
use ecu_image::{GRANT_LEN, HEADER_LEN, REPORT_LEN, Salt};
use serde::{Deserialize, Serialize};

/// Upper bound of a message in bytes: grants for all the ECUs that a vehicle may have, with the header of
/// each image.
pub(super) const MESSAGE_MAX: usize = 8 << 20;

/// Asks for grants for ECUs of one vehicle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantsAsk {
    pub vin: Vin,
    pub asks: Vec<GrantAsk>,
}

/// Asks for one grant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantAsk {
    pub ecu: EcuName,
    /// The image's header, from which the vault reads whose it is.
    #[serde(with = "fixed")]
    pub header: [u8; HEADER_LEN],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<SequenceNumber>,
    pub downgrade: bool,
}

/// The grants, in the order in which they were asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantsAnswer {
    pub grants: Vec<GrantAnswer>,
}

/// One grant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantAnswer {
    #[serde(with = "fixed")]
    pub grant: [u8; GRANT_LEN],
    pub sequence: SequenceNumber,
}

/// Asks whether an ECU made a report.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportAsk {
    pub vin: Vin,
    pub serial: Serial,
    #[serde(with = "fixed")]
    pub report: [u8; REPORT_LEN],
}

/// Whether it did.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportAnswer {
    pub authentic: bool,
}

/// The secrets of an image that was packed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageKeys {
    #[serde(with = "fixed")]
    pub header: [u8; HEADER_LEN],
    #[serde(with = "hex::serde")]
    pub content_key: Vec<u8>,
    pub salt: Salt,
}

/// Byte strings of a length that `hex::serde` does not know.
mod fixed {
    use serde::{Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        hex::serde::serialize(bytes, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let bytes: Vec<u8> = hex::serde::deserialize(deserializer)?;
        let wrong = |bytes: Vec<u8>| D::Error::invalid_length(bytes.len(), &"another length");
        bytes.try_into().map_err(wrong)
    }
}

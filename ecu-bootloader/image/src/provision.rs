//! The provisioning file of one ECU: identity, addresses and keys as JSON. The OEM tool writes it
//! when a vehicle is added; the virtual ECU and a board's programmer read it.
//!
//! Byte strings are hexadecimal. CAN identifiers are written as candump writes them: three digits
//! for 11 bits, eight for 29.

mod keys;
mod names;
mod secret;

use serde::{Deserialize, Serialize};

use crate::crypto::{MacKey, WrapKey};
use crate::id::{EcuSerial, HardwareId, SecurityCounter};

pub use keys::{BadRoots, ImageKey, ImageKeyError, KeySetBytes, RootKeys};
pub use names::{CanIdText, Name, Vin};

/// What one ECU is given before its first update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EcuProvisioning {
    /// Name in the vehicle, for example `brake-front`.
    pub name: Name,
    /// The vehicle it belongs to.
    pub vin: Vin,
    /// Serial of this ECU.
    pub serial: EcuSerial,
    /// Its type of hardware.
    pub hardware_id: HardwareId,
    /// The bus that it sits on, by name.
    pub bus: Name,
    /// Physical requests to it.
    pub request_id: CanIdText,
    /// Its responses.
    pub response_id: CanIdText,
    /// Functional requests.
    pub functional_id: CanIdText,
    /// The application's heartbeat.
    pub heartbeat_id: CanIdText,
    /// Whether it speaks CAN FD.
    pub fd: bool,
    /// Unwraps content keys.
    #[serde(with = "secret")]
    pub wrap_key: WrapKey,
    /// Authenticates install grants.
    #[serde(with = "secret")]
    pub grant_key: MacKey,
    /// Authenticates the ECU's own journal.
    #[serde(with = "secret")]
    pub journal_key: MacKey,
    /// SecurityAccess.
    #[serde(with = "secret")]
    pub access_key: MacKey,
    /// The offline roots that are pinned in it.
    pub root_keys: RootKeys,
    /// Its first key set, signed by at least two of the roots.
    pub key_set: KeySetBytes,
    /// Its first floor.
    pub floor: SecurityCounter,
}

#[cfg(test)]
mod tests;

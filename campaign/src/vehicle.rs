//! The vehicle as the telematics unit knows it (`vehicle.json`): buses, ECUs and their identifiers.

use crate::ids::{BusName, CanId, EcuName, HardwareId, Serial, Vin};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Upper bound of a `vehicle.json` in bytes.
pub const VEHICLE_MAX_LEN: usize = 1 << 20;

/// A vehicle whose configuration has been checked. See [`Vehicle::new`] for what holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vehicle {
    vin: Vin,
    buses: Vec<Bus>,
    ecus: Vec<Ecu>,
}

/// A CAN bus that the telematics unit is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// The name that ECUs refer to.
    pub name: BusName,
    /// How to reach it: a kernel interface (`can0`) or a user-space bus (`bus:PATH`).
    pub link: Link,
    /// Whether the ECUs use CAN FD frames.
    #[serde(default)]
    pub fd: bool,
    /// Nominal bit rate in bit/s.
    #[serde(default = "default_bitrate")]
    pub bitrate: u32,
    /// Bit rate of the data phase in bit/s; equal to the nominal one on a classical bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_bitrate: Option<u32>,
}

const fn default_bitrate() -> u32 {
    500_000
}

/// Where a bus is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// A kernel network interface, by name.
    Interface(String),
    /// A user-space bus, by the path of its socket.
    UserBus(String),
}

impl Link {
    /// `can0` or `bus:PATH`.
    ///
    /// # Errors
    ///
    /// [`VehicleError::Link`] for an interface name that Linux could not have, or an empty path.
    pub fn new(text: &str) -> Result<Self, VehicleError> {
        let error = || VehicleError::Link(text.chars().take(64).collect());
        match text.strip_prefix("bus:") {
            Some(path) if !path.is_empty() && !path.contains('\0') => {
                Ok(Self::UserBus(path.to_string()))
            }
            Some(_) => Err(error()),
            None => {
                let valid = (1..=15).contains(&text.len())
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_graphic() && !b"/:".contains(&byte));
                valid
                    .then(|| Self::Interface(text.to_string()))
                    .ok_or_else(error)
            }
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => f.write_str(name),
            Self::UserBus(path) => write!(f, "bus:{path}"),
        }
    }
}

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

/// An ECU and how to talk to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ecu {
    /// Its name within the vehicle.
    pub name: EcuName,
    /// The bus that it is on.
    pub bus: BusName,
    /// Serial number (DID F18C).
    pub serial: Serial,
    /// Hardware type (DID F191).
    pub hardware_id: HardwareId,
    /// Identifier of physical requests to the ECU.
    pub request_id: CanId,
    /// Identifier of its responses.
    pub response_id: CanId,
    /// Identifier of functional requests, shared by the ECUs of a bus.
    pub functional_id: CanId,
    /// ISO-TP addressing.
    #[serde(default)]
    pub addressing: Addressing,
    /// Key of SecurityAccess (27 01/02).
    pub access_key: AccessKey,
}

/// ISO-TP addressing (ISO 15765-2 clause 10.3): what precedes the PCI byte in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Addressing {
    /// Nothing: the CAN identifier says all.
    #[default]
    Normal,
    /// The target address.
    Extended {
        /// First byte of frames to the ECU.
        ecu_address: u8,
        /// First byte of frames to the tester.
        tester_address: u8,
    },
    /// The address extension, the same in both directions.
    Mixed {
        /// First byte of frames in both directions.
        address_extension: u8,
    },
}

impl Addressing {
    /// First byte of a frame to the ECU and of one from it, where there is one.
    const fn prefixes(self) -> (Option<u8>, Option<u8>) {
        match self {
            Self::Normal => (None, None),
            Self::Extended {
                ecu_address,
                tester_address,
            } => (Some(ecu_address), Some(tester_address)),
            Self::Mixed { address_extension } => (Some(address_extension), Some(address_extension)),
        }
    }
}

/// The AES-128 key of SecurityAccess: 32 hexadecimal digits in JSON, hidden in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey(pub [u8; 16]);

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKey(..)")
    }
}

impl Serialize for AccessKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for AccessKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut key = [0; 16];
        hex::decode_to_slice(&text, &mut key)
            .map_err(|_| de::Error::custom("access_key: 32 hexadecimal digits expected"))?;
        Ok(Self(key))
    }
}

/// Why a vehicle configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VehicleError {
    /// Longer than [`VEHICLE_MAX_LEN`].
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Not the JSON of a vehicle; the text says what and where.
    Json(String),
    /// A bus link that is neither an interface name nor `bus:PATH`.
    Link(String),
    /// No bus, or no ECU.
    Empty {
        /// `buses` or `ecus`.
        what: &'static str,
    },
    /// A value that must be unique appears twice.
    Duplicate {
        /// Which value.
        what: &'static str,
        /// It.
        value: String,
    },
    /// A data bit rate without FD, or bit rates of zero, or a data phase slower than the nominal.
    Bitrate {
        /// The bus.
        bus: BusName,
    },
    /// An ECU on a bus that the vehicle does not have.
    UnknownBus {
        /// The ECU.
        ecu: EcuName,
        /// The bus it names.
        bus: BusName,
    },
    /// Two uses of one CAN identifier (and address byte) on one bus.
    IdConflict {
        /// The ECU that conflicts with an earlier one.
        ecu: EcuName,
        /// The identifier.
        id: CanId,
    },
}

impl fmt::Display for VehicleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len } => {
                write!(f, "vehicle: {len} bytes, at most {VEHICLE_MAX_LEN}")
            }
            Self::Json(error) => write!(f, "vehicle: {error}"),
            Self::Link(link) => write!(f, "link {link:?}: neither an interface nor bus:PATH"),
            Self::Empty { what } => write!(f, "vehicle: {what} is empty"),
            Self::Duplicate { what, value } => write!(f, "vehicle: {what} {value} appears twice"),
            Self::Bitrate { bus } => write!(
                f,
                "bus {bus}: bit rates must be above zero, data_bitrate needs fd and is at least bitrate"
            ),
            Self::UnknownBus { ecu, bus } => write!(f, "ECU {ecu}: no bus is called {bus}"),
            Self::IdConflict { ecu, id } => {
                write!(
                    f,
                    "ECU {ecu}: CAN identifier {id} is already used on its bus"
                )
            }
        }
    }
}

impl core::error::Error for VehicleError {}

/// The fields before they are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVehicle {
    vin: Vin,
    buses: Vec<Bus>,
    ecus: Vec<Ecu>,
}

impl Vehicle {
    /// A vehicle with at least one bus and one ECU, where names and serials are unique, every ECU
    /// is on a bus of the vehicle, and no two ECUs of a bus share a request or response identifier
    /// (with its address byte), nor use a functional one for either.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub fn new(vin: Vin, buses: Vec<Bus>, ecus: Vec<Ecu>) -> Result<Self, VehicleError> {
        if buses.is_empty() {
            return Err(VehicleError::Empty { what: "buses" });
        }
        if ecus.is_empty() {
            return Err(VehicleError::Empty { what: "ecus" });
        }
        unique("bus", buses.iter().map(|bus| &bus.name))?;
        unique("link", buses.iter().map(|bus| bus.link.to_string()))?;
        unique("ECU", ecus.iter().map(|ecu| &ecu.name))?;
        unique("serial", ecus.iter().map(|ecu| &ecu.serial))?;
        buses.iter().try_for_each(Bus::check)?;
        let vehicle = Self { vin, buses, ecus };
        vehicle.check_ids()?;
        Ok(vehicle)
    }

    /// Parses a `vehicle.json`.
    ///
    /// # Errors
    ///
    /// [`VehicleError::TooLong`] before anything is parsed, [`VehicleError::Json`], or the rule of
    /// [`Vehicle::new`] that does not hold.
    pub fn from_json(bytes: &[u8]) -> Result<Self, VehicleError> {
        if bytes.len() > VEHICLE_MAX_LEN {
            return Err(VehicleError::TooLong { len: bytes.len() });
        }
        let raw: RawVehicle =
            serde_json::from_slice(bytes).map_err(|error| VehicleError::Json(error.to_string()))?;
        Self::new(raw.vin, raw.buses, raw.ecus)
    }

    /// The vehicle identification number.
    #[must_use]
    pub const fn vin(&self) -> &Vin {
        &self.vin
    }

    /// The buses, in the order of the file.
    #[must_use]
    pub fn buses(&self) -> &[Bus] {
        &self.buses
    }

    /// The ECUs, in the order of the file.
    #[must_use]
    pub fn ecus(&self) -> &[Ecu] {
        &self.ecus
    }

    /// The bus of that name.
    #[must_use]
    pub fn bus(&self, name: &BusName) -> Option<&Bus> {
        self.buses.iter().find(|bus| bus.name == *name)
    }

    /// The ECU of that name.
    #[must_use]
    pub fn ecu(&self, name: &EcuName) -> Option<&Ecu> {
        self.ecus.iter().find(|ecu| ecu.name == *name)
    }

    /// The ECU with that serial number.
    #[must_use]
    pub fn ecu_by_serial(&self, serial: &Serial) -> Option<&Ecu> {
        self.ecus.iter().find(|ecu| ecu.serial == *serial)
    }

    fn check_ids(&self) -> Result<(), VehicleError> {
        let mut used: BTreeMap<(&BusName, CanId), BTreeSet<Option<u8>>> = BTreeMap::new();
        let mut functional: BTreeMap<&BusName, BTreeSet<CanId>> = BTreeMap::new();
        for ecu in &self.ecus {
            if self.bus(&ecu.bus).is_none() {
                return Err(VehicleError::UnknownBus {
                    ecu: ecu.name.clone(),
                    bus: ecu.bus.clone(),
                });
            }
            let (request, response) = ecu.addressing.prefixes();
            for (id, prefix) in [(ecu.request_id, request), (ecu.response_id, response)] {
                // Without an address byte the identifier says all, so nobody else may have it.
                let others = used.entry((&ecu.bus, id)).or_default();
                let bare = prefix.is_none() || others.contains(&None);
                if (bare && !others.is_empty()) || !others.insert(prefix) {
                    return Err(ecu.conflict(id));
                }
            }
            functional
                .entry(&ecu.bus)
                .or_default()
                .insert(ecu.functional_id);
        }
        for ecu in &self.ecus {
            let taken = |id| functional.get(&ecu.bus).is_some_and(|ids| ids.contains(id));
            if let Some(id) = [ecu.request_id, ecu.response_id]
                .iter()
                .find(|id| taken(id))
            {
                return Err(ecu.conflict(*id));
            }
        }
        Ok(())
    }
}

impl Ecu {
    fn conflict(&self, id: CanId) -> VehicleError {
        let ecu = self.name.clone();
        VehicleError::IdConflict { ecu, id }
    }
}

impl Bus {
    fn check(&self) -> Result<(), VehicleError> {
        let data_fits = self
            .data_bitrate
            .is_none_or(|rate| self.fd && rate >= self.bitrate);
        if self.bitrate > 0 && data_fits {
            Ok(())
        } else {
            Err(VehicleError::Bitrate {
                bus: self.name.clone(),
            })
        }
    }
}

impl<'de> Deserialize<'de> for Vehicle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawVehicle::deserialize(deserializer)?;
        Self::new(raw.vin, raw.buses, raw.ecus).map_err(de::Error::custom)
    }
}

fn unique<T: Ord + fmt::Display>(
    what: &'static str,
    values: impl Iterator<Item = T>,
) -> Result<(), VehicleError> {
    let mut seen = BTreeSet::new();
    for value in values {
        let text = format!("{value}");
        if !seen.insert(value) {
            return Err(VehicleError::Duplicate { what, value: text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn two_ecus() -> Value {
        let ecu = |name: &str, request: &str, response: &str| {
            json!({"name": name, "bus": "body", "serial": format!("SN-{name}"), "hardware_id": "hw-a",
                   "request_id": request, "response_id": response, "functional_id": "7DF",
                   "access_key": "000102030405060708090a0b0c0d0e0f"})
        };
        json!({"vin": "WCANPS00000000001",
               "buses": [{"name": "body", "link": "bus:/tmp/x", "bitrate": 500_000}],
               "ecus": [ecu("door", "7E0", "7E8"), ecu("seat", "7E1", "7E9")]})
    }

    fn parse(value: &Value) -> Result<Vehicle, VehicleError> {
        Vehicle::from_json(value.to_string().as_bytes())
    }

    fn changed(pointer: &str, value: Value) -> Result<Vehicle, VehicleError> {
        let mut json = two_ecus();
        *json.pointer_mut(pointer).unwrap() = value;
        parse(&json)
    }

    #[test]
    fn a_valid_vehicle_survives_json() {
        let vehicle = parse(&two_ecus()).unwrap();
        let text = serde_json::to_vec(&vehicle).unwrap();
        assert_eq!(Vehicle::from_json(&text), Ok(vehicle));
    }

    #[test]
    fn every_identifier_is_used_once() {
        let conflict = |result| matches!(result, Err(VehicleError::IdConflict { .. }));
        assert!(conflict(changed("/ecus/1/request_id", json!("7E0"))));
        assert!(conflict(changed("/ecus/1/response_id", json!("7E0"))));
        assert!(conflict(changed("/ecus/1/response_id", json!("7DF"))));
        let duplicate = |result| matches!(result, Err(VehicleError::Duplicate { .. }));
        assert!(duplicate(changed("/ecus/1/name", json!("door"))));
        assert!(duplicate(changed("/ecus/1/serial", json!("SN-door"))));
    }

    #[test]
    fn extended_addressing_may_share_identifiers() {
        let mut json = two_ecus();
        for (index, address) in [(0, 0x10), (1, 0x11)] {
            json["ecus"][index]["request_id"] = json!("600");
            json["ecus"][index]["response_id"] = json!("601");
            json["ecus"][index]["addressing"] =
                json!({"extended": {"ecu_address": address, "tester_address": address}});
        }
        assert!(parse(&json).is_ok());
        json["ecus"][1]["addressing"] = json!("normal");
        assert!(
            parse(&json).is_err(),
            "without an address byte nothing tells them apart"
        );
    }

    #[test]
    fn structure_is_checked() {
        assert!(matches!(
            changed("/ecus/0/bus", json!("x")),
            Err(VehicleError::UnknownBus { .. })
        ));
        assert!(matches!(
            changed("/buses", json!([])),
            Err(VehicleError::Empty { what: "buses" })
        ));
        assert!(matches!(
            changed("/ecus", json!([])),
            Err(VehicleError::Empty { what: "ecus" })
        ));
        assert!(matches!(
            changed("/buses/0/bitrate", json!(0)),
            Err(VehicleError::Bitrate { .. })
        ));
        assert!(matches!(
            changed("/buses/0/link", json!("bus:")),
            Err(VehicleError::Json(_))
        ));
        assert!(matches!(
            changed("/ecus/0/access_key", json!("00")),
            Err(VehicleError::Json(_))
        ));
    }

    #[test]
    fn size_is_bounded_before_parsing() {
        let bytes = vec![b' '; VEHICLE_MAX_LEN + 1];
        assert!(matches!(
            Vehicle::from_json(&bytes),
            Err(VehicleError::TooLong { .. })
        ));
    }

    #[test]
    fn keys_do_not_reach_debug_output() {
        let vehicle = parse(&two_ecus()).unwrap();
        assert!(!format!("{vehicle:?}").contains("000102"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Vehicle::from_json(&bytes);
        }
    }
}

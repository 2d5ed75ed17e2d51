//! The vehicle version manifest (Uptane Standard 2.1, clause 5.4.2.1): what every ECU says that it runs,
//! each under its own key, and all of it signed by the telematics unit.
//!
//! ```json
//! {"signatures": [{"keyid": "…", "sig": "…"}],
//!  "signed": {"_type": "manifest", "vin": "…", "nonce": "00112233445566778899aabbccddeeff",
//!             "ecus": {"SERIAL": "434e5041…"}, "silent": ["SERIAL"]}}
//! ```
//!
//! `silent` names the ECUs that did not answer, and is left out where all did. The nonce is the backend's, fresh for this manifest, and stands in each ECU's report too: a
//! telematics unit that lies can withhold a report, and neither change one nor show an old one.

use crate::{
    ids::{Serial, Vin},
    meta::{Envelope, Key, KeyPolicy, Malformed, RoleKeys, SignatureShortfall},
    time::Nonce,
    vehicle::Vehicle,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::fmt;
use ecu_image::{EcuReport, ParseError, REPORT_LEN};
use serde::{Deserialize, Serialize};

/// Upper bound of a manifest in bytes: thousands of ECUs.
pub const MANIFEST_MAX_LEN: usize = 1 << 20;
/// The `_type` of the statement.
const TYPE: &str = "manifest";

#[derive(Serialize, Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    vin: Vin,
    nonce: String,
    ecus: BTreeMap<Serial, String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    silent: BTreeSet<Serial>,
}

/// The envelope of a manifest, to be signed by the telematics unit. `reports` are as the ECUs gave
/// them; the ECUs of `silent` gave none.
///
/// # Errors
///
/// [`Malformed`]; not for any reports.
pub fn statement(
    vin: &Vin,
    nonce: &Nonce,
    reports: &BTreeMap<Serial, Vec<u8>>,
    silent: BTreeSet<Serial>,
) -> Result<Envelope, Malformed> {
    let hex = |(serial, report): (&Serial, &Vec<u8>)| (*serial, hex::encode(report));
    Envelope::new(&Statement {
        kind: TYPE.to_string(),
        vin: vin.clone(),
        nonce: format!("{nonce}"),
        ecus: reports.iter().map(hex).collect(),
        silent,
    })
}

/// What a manifest proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// What the ECUs that answered say, in the order of the vehicle's ECUs.
    pub reports: Vec<EcuReport>,
    /// The ECUs that did not answer, as their telematics unit says: of these nothing is proven.
    pub silent: Vec<Serial>,
}

/// Why a manifest is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestFault {
    /// Not a manifest.
    Malformed(Malformed),
    /// The vehicle's telematics unit did not sign it.
    Signature(SignatureShortfall),
    /// It is of another vehicle.
    OtherVehicle(Vin),
    /// It answers another question: it was replayed.
    Nonce,
    /// Nothing is said about an ECU of the vehicle.
    Missing(Serial),
    /// An ECU is said not to have answered, and its answer is there.
    SilentAndHeard(Serial),
    /// The vehicle has no such ECU.
    UnknownEcu(Serial),
    /// What is said about an ECU is not what the ECU said.
    Report {
        /// The ECU.
        serial: Serial,
        /// What does not fit.
        fault: ReportFault,
    },
}

/// Why an ECU's report is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFault {
    /// Not the length of a report.
    Length,
    /// Not a report.
    Malformed(ParseError),
    /// Another ECU's.
    OtherEcu,
    /// In answer to another question: an old one.
    Nonce,
    /// The ECU did not make it.
    Mac,
}

impl ManifestFault {
    /// Whether the vehicle's own telematics unit said so, in answer to this question: it lies, or the
    /// vehicle has another ECU than the backend knows. Everything else anybody can send.
    #[must_use]
    pub const fn is_the_units_own(&self) -> bool {
        match self {
            Self::Malformed(_) | Self::Signature(_) | Self::OtherVehicle(_) | Self::Nonce => false,
            Self::Missing(_)
            | Self::SilentAndHeard(_)
            | Self::UnknownEcu(_)
            | Self::Report { .. } => true,
        }
    }
}

impl fmt::Display for ManifestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Signature(shortfall) => shortfall.fmt(f),
            Self::OtherVehicle(vin) => write!(f, "is of vehicle {vin}"),
            Self::Nonce => f.write_str("answers another request"),
            Self::Missing(serial) => write!(f, "ECU {serial} is missing"),
            Self::SilentAndHeard(serial) => {
                write!(f, "ECU {serial} is silent, and its report is there")
            }
            Self::UnknownEcu(serial) => write!(f, "the vehicle has no ECU {serial}"),
            Self::Report { serial, fault } => write!(f, "report of ECU {serial}: {fault}"),
        }
    }
}

impl fmt::Display for ReportFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("not of the length of a report"),
            Self::Malformed(error) => error.fmt(f),
            Self::OtherEcu => f.write_str("is another ECU's"),
            Self::Nonce => f.write_str("answers another request"),
            Self::Mac => f.write_str("was not made by this ECU"),
        }
    }
}

impl core::error::Error for ManifestFault {}
impl core::error::Error for ReportFault {}

/// What each ECU of `vehicle` says. `tcu` is the key of its telematics unit; `authentic` says whether an
/// ECU made a report: whoever has its grant key knows (`MacKey::verify_report`).
///
/// # Errors
///
/// [`ManifestFault`] with the first rule that does not hold.
pub fn verify(
    bytes: &[u8],
    vehicle: &Vehicle,
    nonce: &Nonce,
    tcu: &Key,
    mut authentic: impl FnMut(&Serial, &[u8; REPORT_LEN]) -> bool,
) -> Result<Proven, ManifestFault> {
    let statement = signed_statement(bytes, tcu)?;
    if statement.vin != *vehicle.vin() {
        return Err(ManifestFault::OtherVehicle(statement.vin));
    }
    if statement.nonce != format!("{nonce}") {
        return Err(ManifestFault::Nonce);
    }
    let known = |serial: &&Serial| vehicle.ecu_by_serial(serial).is_none();
    let mut named = statement.ecus.keys().chain(&statement.silent);
    if let Some(serial) = named.find(known) {
        return Err(ManifestFault::UnknownEcu(*serial));
    }
    let mut proven = Proven {
        reports: Vec::new(),
        silent: Vec::new(),
    };
    for serial in vehicle.ecus().iter().map(|ecu| ecu.serial) {
        match (
            statement.ecus.get(&serial),
            statement.silent.contains(&serial),
        ) {
            (None, false) => return Err(ManifestFault::Missing(serial)),
            (Some(_), true) => return Err(ManifestFault::SilentAndHeard(serial)),
            (None, true) => proven.silent.push(serial),
            (Some(text), false) => {
                let report = ecu_report(text, &serial, nonce, &mut authentic);
                let fault = |fault| ManifestFault::Report { serial, fault };
                proven.reports.push(report.map_err(fault)?);
            }
        }
    }
    Ok(proven)
}

fn signed_statement(bytes: &[u8], tcu: &Key) -> Result<Statement, ManifestFault> {
    let malformed = ManifestFault::Malformed;
    if bytes.len() > MANIFEST_MAX_LEN {
        let (len, max) = (bytes.len(), MANIFEST_MAX_LEN);
        return Err(malformed(Malformed::TooLong { len, max }));
    }
    let json = |error: serde_json::Error| malformed(Malformed::Json(error.to_string()));
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(json)?;
    let role = RoleKeys::new(vec![tcu.id()], 1);
    let role = role.ok_or_else(|| malformed(Malformed::Rule("no key")))?;
    let keys = [(tcu.id(), tcu.clone())].into();
    envelope
        .verify(&keys, &role, KeyPolicy::default())
        .map_err(ManifestFault::Signature)?;
    let statement: Statement = serde_json::from_value(envelope.signed).map_err(json)?;
    match statement.kind == TYPE {
        true => Ok(statement),
        false => Err(malformed(Malformed::Rule("_type is not manifest"))),
    }
}

fn ecu_report(
    text: &str,
    serial: &Serial,
    nonce: &Nonce,
    authentic: &mut impl FnMut(&Serial, &[u8; REPORT_LEN]) -> bool,
) -> Result<EcuReport, ReportFault> {
    let mut bytes = [0; REPORT_LEN];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| ReportFault::Length)?;
    // Which rule broke is told from fields that are not authentic yet; none of them is used further.
    let report = EcuReport::parse(&bytes).map_err(ReportFault::Malformed)?;
    if report.ecu_serial != *serial {
        Err(ReportFault::OtherEcu)
    } else if !authentic(serial, &bytes) {
        Err(ReportFault::Mac)
    } else if report.nonce != nonce.0 {
        Err(ReportFault::Nonce)
    } else {
        Ok(report)
    }
}

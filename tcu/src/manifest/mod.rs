//! The vehicle version manifest: what every ECU says that it runs, signed by this telematics unit and
//! brought to the backend (`docs/spec/campaign.md`, "Vehicle version manifest").
//!
//! Nothing is stored: a manifest says what is so now, in answer to a nonce that is good for an hour. One
//! that was not delivered is owed ([`Schedule`]), and a fresh one takes its place; every start, every
//! poll and the end of every installation owe one too, so a killed program forgets nothing. It comes
//! after the trial, never before, and nothing of it makes an installation fail.

mod backend;
mod courier;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use campaign::ids::{EcuName, Serial, Vin};
use campaign::manifest::statement;
use campaign::meta::{Key, Malformed};
use campaign::time::Nonce;
use ecu_image::REPORT_LEN;
use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;

pub use backend::{Backend, Verdict};
pub use courier::{Courier, beside, tell};
pub use schedule::{Schedule, Sent};

use crate::error::Error;

/// The telematics unit's own key (`tcu.pem`).
#[derive(Debug)]
pub struct TcuKey(ed25519_dalek::SigningKey);

impl TcuKey {
    /// Reads PKCS #8 in PEM.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`], [`Error::Usage`] where it is no Ed25519 key.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::configuration(path))?;
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&text);
        key.map(Self).map_err(|error| {
            let path = path.display();
            Error::Usage(format!("{path}: not an Ed25519 key in PEM: {error}"))
        })
    }

    /// The key of this secret (RFC 8032).
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The public key, as the backend knows it.
    #[must_use]
    pub fn public(&self) -> Key {
        Key::ed25519(self.0.verifying_key().as_bytes())
    }
}

/// What came of asking an ECU for its report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The ECU.
    pub name: EcuName,
    /// Its serial, by which the manifest names it.
    pub serial: Serial,
    /// What it said, or why it said nothing.
    pub said: Result<[u8; REPORT_LEN], String>,
}

/// The ECUs that said nothing.
pub fn silent(asked: &[Asked]) -> impl Iterator<Item = &Asked> {
    asked.iter().filter(|ecu| ecu.said.is_err())
}

/// The signed manifest.
///
/// # Errors
///
/// [`Malformed`]; not for any reports.
pub fn sign(key: &TcuKey, vin: &Vin, nonce: &Nonce, asked: &[Asked]) -> Result<Vec<u8>, Malformed> {
    let said = |ecu: &Asked| Some((ecu.serial, ecu.said.as_ref().ok()?.to_vec()));
    let reports: BTreeMap<Serial, Vec<u8>> = asked.iter().filter_map(said).collect();
    let silent: BTreeSet<Serial> = silent(asked).map(|ecu| ecu.serial).collect();
    let mut envelope = statement(vin, nonce, &reports, silent)?;
    let signature = key.0.sign(&envelope.signing_bytes()?);
    envelope.add_signature(key.public().id(), &signature.to_bytes());
    envelope.to_json()
}

//! The targets role of both repositories.
//!
//! The image repository says what an image is (`custom`: hardware ids, version, security counter,
//! image digest); the director says which ECU of one vehicle installs it, with that ECU's grant.

use super::{Delegations, FileHashes, Header, Role, RoleName};
use crate::ids::{
    CampaignId, Digest, HardwareId, ImageDigest, SecurityCounter, SequenceNumber, Serial, Version,
    Vin,
};
use crate::rules::Rules;
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use base64::Engine as _;
use ecu_image::provision::{ImageKey, KeySetBytes};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use serde_json::Value;

/// The statement of a targets document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Role, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// The images by name.
    pub targets: BTreeMap<String, Target>,
    /// Who else speaks for which targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// What the repository says about the document as a whole: [`ImageStatement`] or
    /// [`DirectorStatement`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Length in bytes.
    pub length: u64,
    /// Digests by algorithm.
    pub hashes: FileHashes,
    /// [`ImageCustom`] or [`DirectorCustom`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Targets {
    /// A statement without targets.
    #[must_use]
    pub const fn new(header: Header) -> Self {
        Self {
            header,
            targets: BTreeMap::new(),
            delegations: None,
            custom: None,
            extra: BTreeMap::new(),
        }
    }
}

impl Role for Targets {
    const NAME: RoleName = RoleName::Targets;

    fn header(&self) -> &Header {
        &self.header
    }
}

impl Target {
    /// An image of that length and SHA-256 digest.
    #[must_use]
    pub const fn new(length: u64, sha256: Digest) -> Self {
        Self {
            length,
            hashes: FileHashes::sha256(sha256),
            custom: None,
            extra: BTreeMap::new(),
        }
    }
}

/// Reads `custom` as `T`; a missing one is an empty object.
///
/// # Errors
///
/// The text says which field is missing or outside its type.
pub(crate) fn custom<T: DeserializeOwned>(custom: Option<&Value>) -> Result<T, String> {
    let value = custom
        .cloned()
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    serde_json::from_value(value).map_err(|error| alloc::format!("custom: {error}"))
}

/// `custom` of a target in the image repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageCustom {
    /// Hardware types that the image is for.
    pub hardware_ids: Vec<HardwareId>,
    /// The image's version.
    pub version: Version,
    /// The image's security counter.
    pub security_counter: SecurityCounter,
    /// SHA-256 of the image's signed header.
    pub image_digest: ImageDigest,
    /// What the image asks of the other ECUs of a vehicle.
    #[serde(default, skip_serializing_if = "Rules::is_empty")]
    pub rules: Rules,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// `custom` of a target in a director's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectorCustom {
    /// The ECUs that install the image, by serial number.
    pub ecu_identifiers: BTreeMap<Serial, EcuAssignment>,
    /// The image's version.
    pub version: Version,
    /// The image's security counter.
    pub security_counter: SecurityCounter,
    /// SHA-256 of the image's signed header.
    pub image_digest: ImageDigest,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// One ECU that installs an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcuAssignment {
    /// The ECU's hardware type.
    pub hardware_id: HardwareId,
    /// The grant's sequence number.
    pub grant_sequence: SequenceNumber,
    /// The install grant; base64 in JSON.
    #[serde(with = "base64_bytes")]
    pub grant: Vec<u8>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// `custom` of the image repository's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatement {
    /// Keys that image headers may be signed with.
    pub image_keys: Vec<ImageKey>,
    /// The key set that ECUs are to hold, signed by their own roots; hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_set: Option<KeySetBytes>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// `custom` of a director's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectorStatement {
    /// The campaign that the vehicle takes part in.
    pub campaign_id: CampaignId,
    /// The vehicle.
    pub vin: Vin,
    /// The software identification numbers of the vehicle type (UN R156, RXSWIN) that apply once the
    /// campaign is completed, by regulation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rxswins: BTreeMap<String, String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Bytes as standard base64 with padding.
mod base64_bytes {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map_err(|_| de::Error::custom("base64 expected"))
    }
}

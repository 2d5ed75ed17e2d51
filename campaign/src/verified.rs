//! What a verified campaign asks of this vehicle.
//!
//! Only the verifier makes one in a product; the fields are public because nothing in
//! it is secret and tests of other crates build their own.

use crate::ids::{
    CampaignId, Digest, EcuName, HardwareId, ImageDigest, SecurityCounter, SequenceNumber, Serial,
    TargetPath, Version, Vin,
};
use crate::rules::ImageRules;
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use ecu_image::provision::{ImageKey, KeySetBytes};

/// A campaign of which every statement has been verified for one vehicle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCampaign {
    /// The campaign.
    pub id: CampaignId,
    /// The vehicle that it is for.
    pub vin: Vin,
    /// The software identification numbers of the vehicle type (UN R156, RXSWIN) that apply once the
    /// campaign is completed, by regulation; none where the campaign changes none.
    pub rxswins: BTreeMap<String, String>,
    /// What to install, one entry per ECU, in the order of the vehicle's configuration.
    pub ecus: Vec<EcuTarget>,
    /// Public keys that image headers may be signed with, named by the image repository.
    pub image_keys: Vec<ImageKey>,
    /// The key set that ECUs are to hold before they are given an image. Only they know the roots
    /// that decide whether it is right.
    pub key_set: Option<KeySetBytes>,
    /// What the images that the image repository offers ask of the vehicle, those that the campaign
    /// does not bring included: an ECU may run one already.
    pub rules: Vec<ImageRules>,
}

/// What to install on one ECU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcuTarget {
    /// The ECU's name in the vehicle's configuration.
    pub ecu: EcuName,
    /// Its serial number.
    pub serial: Serial,
    /// Its hardware type, which is also the image's.
    pub hardware_id: HardwareId,
    /// The target's name in the metadata of both repositories.
    pub path: TargetPath,
    /// Length of the packed image in bytes.
    pub length: u64,
    /// SHA-256 of the whole packed image.
    pub sha256: Digest,
    /// The image's identity: SHA-256 of its signed header (FD00, FD01, grant).
    pub image_digest: ImageDigest,
    /// The image's version.
    pub version: Version,
    /// The image's security counter.
    pub security_counter: SecurityCounter,
    /// The install grant for this ECU, 256 bytes, as it is sent to it.
    pub grant: Vec<u8>,
    /// The grant's sequence number.
    pub grant_sequence: SequenceNumber,
}

impl EcuTarget {
    /// Where the packed image lies, relative to the repository's root and in a bundle:
    /// `targets/SHA256.img`.
    #[must_use]
    pub fn artifact_path(&self) -> String {
        crate::layout::artifact_path(&self.sha256)
    }
}

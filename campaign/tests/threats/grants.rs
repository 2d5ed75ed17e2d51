//! Install grants of the world's ECUs.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use campaign::ids::SequenceNumber;
use ecu_image::crypto::{ContentKey, MacKey, WrapKey};
use ecu_image::pack::GrantRequest;
use ecu_image::{Grant, GrantFlags, Salt};
use serde_json::{Value, json};

/// What the grants carry, wrapped.
pub(crate) const CONTENT_KEY: [u8; 16] = *b"the content key!";

/// The grant `{serial, imageDigest, sequence}` in base64.
pub(crate) fn issue(description: &Value) -> Value {
    let text = |name: &str| description[name].as_str().unwrap();
    let request = GrantRequest {
        ecu_serial: text("serial").parse().unwrap(),
        image_digest: serde_json::from_value(description["imageDigest"].clone()).unwrap(),
        sequence: SequenceNumber(description["sequence"].as_u64().unwrap()),
        flags: GrantFlags::default(),
        content_key: &ContentKey::Aes128(CONTENT_KEY),
        salt: Salt([2; 16]),
    };
    let grant = Grant::issue(&request, &WrapKey::new([3; 16]), &MacKey::new([4; 16]));
    json!(STANDARD.encode(grant.encode()))
}

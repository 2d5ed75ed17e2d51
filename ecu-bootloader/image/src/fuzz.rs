//! The logic of the fuzz targets, so that unit tests can replay the corpus.

use crate::provision::EcuProvisioning;
use crate::verify::{Policy, verify_image};
use crate::{GRANT_LEN, Grant, HEADER_LEN, Header, SignatureLen};

/// Any bytes are a header that encodes to the same bytes, or an error.
pub fn image_header(data: &[u8]) {
    let Some(bytes) = data.first_chunk::<HEADER_LEN>() else {
        return;
    };
    if let Ok(header) = Header::parse(bytes) {
        assert_eq!(header.encode(), *bytes);
    }
}

/// Any bytes are a grant that encodes to the same bytes, or an error.
pub fn install_grant(data: &[u8]) {
    let Some(bytes) = data.first_chunk::<GRANT_LEN>() else {
        return;
    };
    if let Ok(grant) = Grant::parse(bytes) {
        assert_eq!(grant.encode(), *bytes);
    }
}

/// Any bytes are an image that decrypts to its length, or an error. Signatures are taken for right:
/// what lies behind them is to be total too.
pub fn packed_image(data: &[u8]) {
    let policy = Policy {
        shortest_signature: SignatureLen::Rsa2048,
    };
    if let Ok(image) = verify_image(data, &policy, |_, _, _| true) {
        assert_eq!(
            image.metadata.len().saturating_add(image.ciphertext.len()),
            data.len()
        );
    }
}

/// Any bytes are a provisioning file that survives being written and read, or an error.
pub fn provisioning(data: &[u8]) {
    if let Ok(ecu) = serde_json::from_slice::<EcuProvisioning>(data) {
        let text = serde_json::to_string(&ecu).unwrap_or_default();
        assert_eq!(serde_json::from_str(&text).ok(), Some(ecu));
    }
}

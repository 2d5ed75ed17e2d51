//! The logic of the fuzz targets, so that unit tests can replay the corpus.

use crate::crypto::sha256;
use crate::keyset::{KeySet, MAX_KEYS, MAX_ROOTS, TrustedKeys};
use crate::provision::EcuProvisioning;
use crate::verify::{Policy, verify_image};
use crate::{
    EcuReport, GRANT_LEN, Grant, HEADER_LEN, Header, KeyId, ParseError, REPORT_LEN, SignatureLen,
};

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

/// Any bytes are an ECU's report that encodes to the same bytes, or an error.
pub fn ecu_report(data: &[u8]) {
    let Some(bytes) = data.first_chunk::<REPORT_LEN>() else {
        return;
    };
    if let Ok(report) = EcuReport::parse(bytes) {
        assert_eq!(report.encode(), *bytes);
    }
}

/// Any bytes are a key set whose parts make up its length and which is found again in larger
/// storage, or an error. Of those with a digest that is trusted each key is found, or none.
pub fn key_set(data: &[u8]) {
    let trusted = TrustedKeys::of(data, &sha256(&[data])).expect("it has its own digest");
    let id = data.get(48..).and_then(|keys| keys.first_chunk());
    let id = KeyId(id.copied().unwrap_or([0; 8]));
    assert!(trusted.key(id).is_none_or(|entry| entry.id == id));
    let Ok(set) = KeySet::parse(data) else {
        return;
    };
    assert_eq!(set.len(), data.len());
    assert!(data.starts_with(set.signed_bytes()));
    assert!((1..=MAX_KEYS).contains(&set.keys().count()));
    assert!(set.signatures().count() <= MAX_ROOTS);
    assert!(set.keys().all(|entry| set.key(entry.id) == Some(entry)));
    let stored = [data, &[0xFF; 16]].concat();
    assert_eq!(KeySet::parse_prefix::<ParseError>(&stored), Ok(set));
    let signed = KeySet::parse_signed::<ParseError>(&stored).map(|stored| stored.signed_bytes());
    assert_eq!(signed, Ok(set.signed_bytes()));
}

/// Any bytes are an image that decrypts to its length, or an error. Signatures are taken for right:
/// what lies behind them is to be total too.
pub fn packed_image(data: &[u8]) {
    let policy = Policy {
        weakest_signature: SignatureLen::Rsa2048,
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs `target` over its corpus, which may not be empty.
    fn replay(name: &str, target: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(name);
        let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}"));
        let inputs = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        assert_ne!(inputs.map(|input| target(&input)).count(), 0, "{corpus:?}");
    }

    #[test]
    fn the_corpus_of_headers_is_harmless() {
        replay("image_header", super::image_header);
    }

    #[test]
    fn the_corpus_of_grants_is_harmless() {
        replay("install_grant", super::install_grant);
    }

    #[test]
    fn the_corpus_of_reports_is_harmless() {
        replay("ecu_report", super::ecu_report);
    }

    #[test]
    fn the_corpus_of_key_sets_is_harmless() {
        replay("key_set", super::key_set);
    }

    #[test]
    fn the_corpus_of_images_is_harmless() {
        replay("packed_image", super::packed_image);
    }

    #[test]
    fn the_corpus_of_provisioning_files_is_harmless() {
        replay("provisioning", super::provisioning);
    }
}

//! The logic of the fuzz targets, so that unit tests can replay the corpus.

use core::fmt::Debug;

use crate::meta::{Document, Envelope, Role, Root, Targets};
use crate::vehicle::Vehicle;

const MAX_LEN: usize = 1 << 20;

/// Any bytes are a vehicle configuration that survives being written and read, or an error.
///
/// # Panics
/// When it does not survive.
pub fn vehicle(data: &[u8]) {
    if let Ok(vehicle) = Vehicle::from_json(data) {
        let text = serde_json::to_vec(&vehicle).unwrap_or_default();
        assert_eq!(Vehicle::from_json(&text), Ok(vehicle));
    }
}

/// Any bytes are root or targets metadata that survives being written and read, or an error.
///
/// # Panics
/// When it does not survive.
pub fn metadata(data: &[u8]) {
    survives::<Root>(data);
    survives::<Targets>(data);
}

fn survives<R: Role + Debug + PartialEq>(data: &[u8]) {
    let Ok(document) = Document::<R>::parse(data, MAX_LEN) else {
        return;
    };
    let envelope = serde_json::from_slice::<Envelope>(data);
    let text = envelope.map(|envelope| envelope.to_json().unwrap_or_default());
    let again = Document::<R>::parse(&text.unwrap_or_default(), usize::MAX);
    assert_eq!(again, Ok(document));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs `target` over its corpus, which may not be empty.
    fn replay(name: &str, target: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(name);
        let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}"));
        let inputs = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        assert_ne!(inputs.map(|input| target(&input)).count(), 0, "{corpus:?}");
    }

    #[test]
    fn the_corpus_of_vehicles_is_harmless() {
        replay("vehicle", super::vehicle);
    }

    #[test]
    fn the_corpus_of_metadata_is_harmless() {
        replay("metadata", super::metadata);
    }
}

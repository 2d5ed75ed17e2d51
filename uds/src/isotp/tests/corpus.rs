//! Replays the fuzzing corpus, and random scripts where there is none yet.

use crate::isotp::fuzz::{isotp_endpoint, isotp_pdu};
use proptest::prelude::*;
use std::path::PathBuf;

fn replay(target: &str, run: fn(&[u8])) -> usize {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus", target]
        .iter()
        .collect();
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    files
        .map(|entry| run(&std::fs::read(entry.unwrap().path()).unwrap()))
        .count()
}

#[test]
fn the_corpus_passes() {
    assert!(replay("isotp_pdu", isotp_pdu) > 0);
    assert!(replay("isotp_endpoint", isotp_endpoint) > 0);
}

proptest! {
    #[test]
    fn random_scripts_pass(script in prop::collection::vec(any::<u8>(), 0..600)) {
        isotp_pdu(&script);
        isotp_endpoint(&script);
    }
}

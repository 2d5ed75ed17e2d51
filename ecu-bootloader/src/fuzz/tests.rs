use proptest::prelude::*;
use std::path::Path;
use std::sync::LazyLock;

use super::Factory;

fn factory() -> &'static Factory {
    static FACTORY: LazyLock<Factory> = LazyLock::new(Factory::new);
    &FACTORY
}

/// Runs `target` over its corpus.
fn replay(name: &str, target: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let mut replayed = 0;
    for file in std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}")) {
        target(&std::fs::read(file.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 3, "{corpus:?}");
}

#[test]
fn the_corpus_of_requests_is_harmless() {
    replay("bootloader_uds", |data| super::uds(factory(), data));
}

#[test]
fn the_corpus_of_messages_is_harmless() {
    replay("bootloader_mailbox", |data| super::mailbox(factory(), data));
}

#[test]
fn the_corpus_of_journals_is_harmless() {
    replay("bootloader_journal", super::journal);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_script_is_harmless(data in prop::collection::vec(any::<u8>(), 0..300)) {
        super::uds(factory(), &data);
        super::mailbox(factory(), &data);
    }

    #[test]
    fn stored_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..5000)) {
        super::journal(&data);
    }

    #[test]
    fn nearly_a_record_neither(
        mut data in prop::collection::vec(0..3u8, 300),
        at in 0..300usize,
        byte: u8,
    ) {
        data[..8].copy_from_slice(b"CNJR\x01\0\0\x01");
        data[at] = byte;
        super::journal(&data);
    }
}

/// A script reaches what it is for: an update is installed, runs on trial, is confirmed and sealed.
#[test]
fn a_script_reaches_the_seal() {
    let mut ecu = super::ecu::Ecu::new(factory());
    super::script::run(&mut ecu, &[0x4F, 0x0D, 0, 0x0D, 0b1001]);
    assert_eq!(ecu.floor().0, 2);
}

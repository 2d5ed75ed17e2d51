//! Fuzz targets' logic: hostile bytes into every parser that they reach first. A panic is a bug.

use crate::flash::{FlashError, FlashRead};
use crate::journal::Journal;
use crate::keys::SoftKeyStore;
use crate::layout::Layout;
use crate::mailbox::{Handover, Reply, Request};
use crate::state::{STATE_LEN, State};
use ecu_image::crypto::{MacKey, WrapKey};

/// Flash that holds what the fuzzer says, and 0xFF behind it.
struct Bytes<'a>(&'a [u8]);

impl FlashRead for Bytes<'_> {
    fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), FlashError> {
        let from = usize::try_from(address).map_err(|_| FlashError)?;
        let held = self.0.get(from..).unwrap_or(&[]);
        for (index, byte) in buffer.iter_mut().enumerate() {
            *byte = held.get(index).copied().unwrap_or(0xFF);
        }
        Ok(())
    }
}

/// A state, a mailbox message, a handover, a journal of these bytes.
pub fn stored(data: &[u8]) {
    let bytes = data.first_chunk::<STATE_LEN>();
    if let Some((bytes, state)) = bytes.and_then(|bytes| Some((bytes, State::decode(bytes)?))) {
        assert_eq!(&state.encode(), bytes, "one encoding for a state");
    }
    let _ = (
        Request::parse(data),
        Reply::parse(data),
        Handover::parse(data),
    );
    let key = |byte| MacKey::new([byte; 16]);
    let mut keys = SoftKeyStore::new(WrapKey::new([0; 16]), key(1), key(2), key(3));
    if let Ok(layout) = Layout::uniform(0, 2048, 8, 1, 4096, true) {
        let (_, found) = Journal::open(&layout, &mut Bytes(data), &mut keys);
        assert!(found.is_none(), "nobody has the journal key");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn the_corpus_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/bootloader_stored");
        let mut replayed = 0;
        for file in std::fs::read_dir(corpus).unwrap() {
            super::stored(&std::fs::read(file.unwrap().path()).unwrap());
            replayed += 1;
        }
        assert!(replayed >= 3);
    }

    proptest! {
        #[test]
        fn stored_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..5000)) {
            super::stored(&data);
        }

        #[test]
        fn nearly_a_record_neither(mut data in prop::collection::vec(0..3u8, 300), at in 0..300usize, byte: u8) {
            data[..8].copy_from_slice(b"CNJR\x01\0\0\x01");
            data[at] = byte;
            super::stored(&data);
        }
    }
}

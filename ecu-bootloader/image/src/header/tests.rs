//! Every field at its place and within its limits.

use super::*;
use crate::testing::{image, request};
use proptest::prelude::*;
use std::sync::OnceLock;

/// A header of 130 pages in two table pages.
fn bytes() -> [u8; HEADER_LEN] {
    static BYTES: OnceLock<[u8; HEADER_LEN]> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let key = crate::crypto::ContentKey::Aes256([3; 32]);
        let packed = image(&request(&[7; 129 * 256 + 1], 256, &key));
        *packed.first_chunk().unwrap()
    })
}

/// The field and problem of the header with `value` at `offset`.
fn refused(offset: usize, value: &[u8]) -> (&'static str, Problem) {
    let mut bytes = bytes();
    put(&mut bytes, offset, value);
    let error = Header::parse(&bytes).expect_err("the header parses");
    assert!(error.offset <= offset, "{error} named for {offset}");
    (error.field, error.problem)
}

#[test]
fn fields_are_where_the_specification_has_them() {
    let bytes = bytes();
    let header = Header::parse(&bytes).unwrap();
    assert_eq!(bytes[..8], *b"CNPI\x01\0\0\x06");
    assert_eq!(
        bytes[40..56],
        [1, 0, 7, 0, 2, 0, 3, 0, 0x40, 0x9C, 0, 0, 9, 0, 0, 0]
    );
    assert_eq!(bytes[56..64], header.load_address().to_le_bytes());
    assert_eq!(
        bytes[64..80],
        [1, 0x81, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 130, 0, 0, 0]
    );
    assert_eq!(bytes[80..88], [0, 0, 2, 0, 1, 0, 1, 0]);
    assert_eq!(bytes[88..96], header.key_id.0);
    assert_eq!(bytes[144..176], header.plaintext_digest.0);
    assert_eq!(bytes[176..208], header.ciphertext_digest.0);
    assert_eq!(bytes[208..212], [2, 0, 0, 1]);
    assert_eq!(bytes[544..576], header.table_digests().get(1).unwrap().0);
    assert_eq!(bytes[1024..1280], *header.signature.as_bytes());
    assert_eq!(header.digest(), Header::digest_of(&bytes));
}

#[test]
fn every_field_has_its_limits() {
    let contradiction = |expected, found| Problem::Contradiction { expected, found };
    let cases = [
        (0, &b"CNPG"[..], "magic", Problem::Magic),
        (4, &[2], "format_version", Problem::Unknown(2)),
        (6, &[1], "header_len", Problem::Unknown(0x601)),
        (42, &[0], "slot_set", Problem::Unknown(0)),
        (42, &[8], "slot_set", Problem::Unknown(8)),
        (56, &[0xFF; 8], "load_address", Problem::Range(u64::MAX)),
        (64, &[0; 8], "payload_len", Problem::Range(0)),
        (64, &[1, 0, 8], "payload_len", Problem::Range(0x8_0001)),
        (64, &[0xFF; 8], "payload_len", Problem::Range(u64::MAX)),
        (72, &[0; 4], "page_size", Problem::Range(0)),
        (72, &[1, 1], "page_size", Problem::Range(257)),
        (76, &[131], "page_count", contradiction(130, 131)),
        (80, &[1], "payload_kind", Problem::Unknown(1)),
        (82, &[0], "cipher", Problem::Unknown(0)),
        (82, &[3], "cipher", Problem::Unknown(3)),
        (84, &[3], "signature_algorithm", Problem::Unknown(3)),
        (84, &[0], "signature_algorithm", Problem::Unknown(0)),
        (86, &[3], "flags", Problem::Unknown(3)),
        (120, &[1], "base_digest", Problem::NotZero),
        (208, &[1], "table_page_count", contradiction(2, 1)),
        (210, &[0, 0], "signature_len", Problem::Unknown(0)),
        (210, &[1, 1], "signature_len", Problem::Unknown(257)),
        (210, &[64, 0], "signature_len", Problem::Unknown(64)),
        (511, &[1], "reserved", Problem::NotZero),
        (576, &[1], "table_digests", Problem::NotZero),
        (1023, &[1], "table_digests", Problem::NotZero),
        (1280, &[1], "signature", Problem::NotZero),
        (1535, &[1], "signature", Problem::NotZero),
    ];
    for (offset, value, field, problem) in cases {
        assert_eq!(refused(offset, value), (field, problem), "{value:x?}");
    }
    let text = |error| ("hardware_id", Problem::Text(error));
    assert_eq!(refused(8, &[0; 32]), text(crate::TextError::Empty));
    assert_eq!(refused(39, b"x"), text(crate::TextError::Character(b'x')));
}

#[test]
fn an_error_says_what_and_where() {
    let mut bytes = bytes();
    bytes[76] = 3;
    let error = Header::parse(&bytes).unwrap_err();
    assert_eq!(
        format!("{error}"),
        "field page_count at offset 76: value is 3, other fields imply 130"
    );
}

#[test]
fn the_largest_image_has_2048_pages_of_64_kib() {
    let layout = |len| Layout::new(len, PageSize::MAX);
    let largest = layout(128 << 20).unwrap();
    assert_eq!(largest.page_count(), 2048);
    assert_eq!(largest.table_page_count(), 16);
    assert_eq!(largest.ciphertext_len(), 128 << 20);
    assert_eq!(layout((128 << 20) + 1), None);
    assert_eq!(layout(0), None);
    assert_eq!(layout(u64::MAX), None);
}

proptest! {
    // Whatever bits are altered: an error, or a header that encodes to these bytes.
    #[test]
    fn what_parses_encodes_to_the_same_bytes(
        alterations in prop::collection::vec((0..HEADER_LEN, any::<u8>()), 0..4),
    ) {
        let mut bytes = bytes();
        for (offset, value) in alterations {
            bytes[offset] = value;
        }
        if let Ok(header) = Header::parse(&bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn noise_is_never_a_header(noise in prop::collection::vec(any::<u8>(), HEADER_LEN)) {
        let bytes = noise.first_chunk().unwrap();
        prop_assert!(Header::parse(bytes).is_err());
    }
}

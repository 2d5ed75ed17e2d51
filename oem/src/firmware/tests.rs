//! Formats, gaps and hostile bytes.

use super::*;
use proptest::prelude::*;

fn piece(address: u64, bytes: &[u8]) -> Piece {
    let bytes = bytes.to_vec();
    Piece { address, bytes }
}

/// An ELF file for a 32-bit little-endian machine with those loadable segments, each with its
/// physical address, and one segment that is not loadable.
fn elf(segments: &[(u32, &[u8])]) -> Vec<u8> {
    let count = segments.len() + 1;
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, value: usize| {
        file.extend_from_slice(&u16::try_from(value).unwrap().to_le_bytes());
    };
    let word = |file: &mut Vec<u8>, value: u32| file.extend_from_slice(&value.to_le_bytes());
    half(&mut file, 2);
    half(&mut file, 40);
    for value in [1, 0x0800_0000, 52, 0, 0] {
        word(&mut file, value);
    }
    for value in [52, 32, count, 40, 0, 0] {
        half(&mut file, value);
    }
    let mut offset = u32::try_from(52 + 32 * count).unwrap();
    for (address, bytes) in segments {
        let len = u32::try_from(bytes.len()).unwrap();
        // The virtual address is another one: only the physical address counts.
        for value in [
            1,
            offset,
            address ^ 0x2000_0000,
            *address,
            len,
            len + 64,
            5,
            4,
        ] {
            word(&mut file, value);
        }
        offset += len;
    }
    for value in [4, 0, 0, 0, 16, 16, 4, 4] {
        word(&mut file, value);
    }
    for (_, bytes) in segments {
        file.extend_from_slice(bytes);
    }
    file
}

/// The bytes as Intel HEX at a 32-bit address, in records of 16 bytes.
fn hex_file(address: u32, bytes: &[u8]) -> String {
    let record = |kind: u8, offset: u32, data: &[u8]| {
        let mut line = vec![u8::try_from(data.len()).unwrap()];
        line.extend_from_slice(&u16::try_from(offset & 0xFFFF).unwrap().to_be_bytes());
        line.push(kind);
        line.extend_from_slice(data);
        let sum = line.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        line.push(sum.wrapping_neg());
        format!(":{}\r\n", hex::encode_upper(line))
    };
    let mut text = String::new();
    for (index, chunk) in bytes.chunks(16).enumerate() {
        let at = address + 16 * u32::try_from(index).unwrap();
        text += &record(4, 0, &(at >> 16).to_be_bytes()[2..]);
        text += &record(0, at, chunk);
    }
    text + ":00000001FF\n"
}

/// The bytes as S3 records.
fn srec_file(address: u32, bytes: &[u8]) -> String {
    let record = |kind: char, head: &[u8], data: &[u8]| {
        let mut line = vec![u8::try_from(head.len() + data.len() + 1).unwrap()];
        line.extend_from_slice(head);
        line.extend_from_slice(data);
        let sum = line.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        line.push(!sum);
        format!("S{kind}{}\n", hex::encode_upper(line))
    };
    let mut text = record('0', &[0, 0], b"fw");
    for (index, chunk) in bytes.chunks(16).enumerate() {
        let at = address + 16 * u32::try_from(index).unwrap();
        text += &record('3', &at.to_be_bytes(), chunk);
    }
    text + &record('7', &address.to_be_bytes(), &[])
}

fn parse(bytes: &[u8]) -> Result<Firmware, FirmwareError> {
    Firmware::parse(bytes, Format::Auto)
}

#[test]
fn gaps_are_filled_as_erased_flash_reads() {
    let pieces = vec![piece(0x104, &[3]), piece(0x100, &[1, 2])];
    let firmware = Firmware::from_pieces(pieces).unwrap();
    assert_eq!(firmware.load_address, 0x100);
    assert_eq!(firmware.bytes, [1, 2, 0xFF, 0xFF, 3]);
}

#[test]
fn pieces_that_do_not_make_an_image_are_refused() {
    let refused = |pieces| Firmware::from_pieces(pieces).unwrap_err();
    assert_eq!(refused(vec![]), FirmwareError::Empty);
    assert_eq!(refused(vec![piece(5, &[])]), FirmwareError::Empty);
    let overlap = vec![piece(0, &[0; 4]), piece(3, &[0])];
    assert_eq!(refused(overlap), FirmwareError::Overlap { address: 3 });
    let far = vec![piece(0, &[0]), piece(GAP_MAX + 2, &[0])];
    assert!(matches!(refused(far), FirmwareError::Gap { .. }));
    let end = vec![piece(u64::MAX, &[0, 0])];
    assert!(matches!(refused(end), FirmwareError::AddressSpace { .. }));
}

#[test]
fn an_elf_is_its_loadable_segments_at_physical_addresses() {
    let file = elf(&[(0x0800_0010, &[4, 5]), (0x0800_0000, &[1; 8])]);
    let firmware = parse(&file).unwrap();
    assert_eq!(firmware.load_address, 0x0800_0000);
    let mut expected = vec![1; 8];
    expected.extend([0xFF; 8]);
    expected.extend([4, 5]);
    assert_eq!(firmware.bytes, expected);
}

#[test]
fn a_cut_elf_is_refused() {
    let file = elf(&[(0, &[1; 8])]);
    assert!(matches!(
        parse(&file[..file.len() - 1]),
        Err(FirmwareError::Elf(_))
    ));
    assert!(matches!(parse(&file[..60]), Err(FirmwareError::Elf(_))));
    assert_eq!(parse(&elf(&[])), Err(FirmwareError::Empty));
}

#[test]
fn text_formats_name_the_line_that_is_wrong() {
    let good = hex_file(0x0801_FFF8, &[7; 40]);
    assert_eq!(parse(good.as_bytes()).unwrap().load_address, 0x0801_FFF8);
    let wrong = good.replacen("07", "08", 1);
    assert!(matches!(
        parse(wrong.as_bytes()),
        Err(FirmwareError::Line { line: 2, .. })
    ));
    let cut = good.replace(":00000001FF\n", "");
    assert_eq!(parse(cut.as_bytes()), Err(FirmwareError::NoEnd));

    let good = srec_file(0x0801_FFF8, &[7; 40]);
    let wrong = good.replacen("07", "08", 1);
    assert!(matches!(
        parse(wrong.as_bytes()),
        Err(FirmwareError::Line { line: 2, .. })
    ));
    let more = format!("{good}S10500000102F7\n");
    assert!(matches!(
        parse(more.as_bytes()),
        Err(FirmwareError::Line { .. })
    ));
}

#[test]
fn s_records_of_every_address_length_are_read() {
    let firmware = parse(b"S0030000FC\nS104000001FA\nS20500000102F7\nS306000000020 3F4\n");
    assert!(
        matches!(firmware, Err(FirmwareError::Line { line: 4, .. })),
        "{firmware:?}"
    );
    let text =
        b"S0030000FC\nS104000001FA\nS20500000102F7\nS3060000000203F4\nS5030003F9\nS9030000FC\n";
    assert_eq!(parse(text).unwrap().bytes, [1, 2, 3]);
    let miscounted = b"S0030000FC\nS104000001FA\nS5030003F9\nS9030000FC\n";
    assert!(matches!(
        parse(miscounted),
        Err(FirmwareError::Line { line: 3, .. })
    ));
}

#[test]
fn what_no_format_fits_is_raw_unless_it_is_text() {
    let raw = parse(b"S0\0is not always a record").unwrap();
    assert_eq!((raw.load_address, raw.bytes.len()), (0, 25));
    assert_eq!(parse(b""), Err(FirmwareError::Empty));
    for text in [
        &b"S0 is not always a record"[..],
        b":0000000\n",
        b"{}",
        "ECU — front".as_bytes(),
    ] {
        assert_eq!(parse(text), Err(FirmwareError::Text));
        let raw = Firmware::parse(text, Format::Raw).unwrap();
        assert_eq!(raw.bytes, text);
    }
}

#[test]
fn s_records_need_no_header() {
    let text = b"S104000001FA\nS9030000FC\n";
    assert_eq!(parse(text).unwrap().bytes, [1]);
}

proptest! {
    #[test]
    fn every_format_gives_back_the_bytes(
        address in 0u32..0xFFF0_0000,
        bytes in prop::collection::vec(any::<u8>(), 1..400),
    ) {
        let expected = Firmware { load_address: address.into(), bytes: bytes.clone() };
        prop_assert_eq!(parse(hex_file(address, &bytes).as_bytes()).unwrap(), expected.clone());
        prop_assert_eq!(parse(srec_file(address, &bytes).as_bytes()).unwrap(), expected.clone());
        prop_assert_eq!(parse(&elf(&[(address, &bytes)])).unwrap(), expected);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        for format in [Format::Auto, Format::Elf, Format::Hex, Format::Srec] {
            let _ = Firmware::parse(&bytes, format);
        }
    }

    #[test]
    fn no_damage_to_an_elf_panics(at: prop::sample::Index, value: u8) {
        let mut file = elf(&[(0x0800_0000, &[1; 40])]);
        let index = at.index(file.len());
        file[index] = value;
        let _ = Firmware::parse(&file, Format::Elf);
    }
}

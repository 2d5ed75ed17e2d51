//! The chip's rules seen from outside: erase before write, power cuts, marginal bits, files.

use nor::{Cut, FlashError, Geometry, Marginal, Nor, Tear, Watched, When};
use proptest::prelude::*;

fn chip() -> Nor {
    Nor::in_memory(Geometry::pages_2k_8(8 << 10))
}

fn bytes(nor: &Nor, addr: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    nor.read(addr, &mut bytes).unwrap();
    bytes
}

fn cut(nor: &mut Nor, tear: Tear, marginal: Marginal) {
    let when = When::Inside { tear, marginal };
    nor.arm(Cut {
        operation: nor.operations(),
        when,
    });
}

#[test]
fn a_word_is_programmed_once_per_erase() {
    let mut nor = chip();
    assert_eq!(nor.program(8, &[7; 16]).unwrap().as_micros(), 2 * 82);
    assert!(matches!(
        nor.program(16, &[7; 8]),
        Err(FlashError::NotErased { addr: 16 })
    ));
    assert!(matches!(
        nor.program(0, &[7; 16]),
        Err(FlashError::NotErased { addr: 8 })
    ));
    assert_eq!((nor.operations(), nor.violations()), (1, 2));
    assert_eq!(
        bytes(&nor, 0, 8),
        [0xFF; 8],
        "a refused program changes nothing"
    );
    assert_eq!(nor.erase(0).unwrap().as_millis(), 22);
    nor.program(16, &[7; 8]).unwrap();
    assert_eq!(nor.erases(), [1, 0, 0, 0]);
}

#[test]
fn misaligned_protected_and_outlying_ranges_are_violations() {
    let mut nor = chip();
    nor.protect(0..2048);
    assert!(matches!(
        nor.program(2052, &[0; 8]),
        Err(FlashError::NotAligned { granule: 8, .. })
    ));
    assert!(matches!(
        nor.program(2048, &[0; 4]),
        Err(FlashError::NotAligned { granule: 8, .. })
    ));
    assert!(matches!(
        nor.erase(2056),
        Err(FlashError::NotAligned { granule: 2048, .. })
    ));
    assert!(matches!(
        nor.program(2040, &[0; 16]),
        Err(FlashError::Protected { addr: 2040 })
    ));
    assert!(matches!(
        nor.erase(0),
        Err(FlashError::Protected { addr: 0 })
    ));
    assert!(matches!(
        nor.program(8184, &[0; 16]),
        Err(FlashError::OutOfBounds { .. })
    ));
    assert!(matches!(
        nor.erase(8192),
        Err(FlashError::OutOfBounds { .. })
    ));
    assert!(matches!(
        nor.program(u32::MAX - 7, &[0; 8]),
        Err(FlashError::OutOfBounds { .. })
    ));
    assert_eq!((nor.operations(), nor.violations()), (0, 8));
    assert!(matches!(
        nor.read(8190, &mut [0; 3]),
        Err(FlashError::OutOfBounds { .. })
    ));
}

#[test]
fn a_cut_chip_is_silent_until_power_returns() {
    for (when, left) in [(When::Before, 0xFF), (When::After, 0)] {
        let mut nor = chip();
        nor.program(8, &[1; 8]).unwrap();
        nor.arm(Cut { operation: 1, when });
        assert!(matches!(
            nor.program(0, &[0; 8]),
            Err(FlashError::PowerLost)
        ));
        assert!(matches!(nor.read(0, &mut [0]), Err(FlashError::PowerLost)));
        assert!(matches!(
            nor.program(0, &[0; 8]),
            Err(FlashError::PowerLost)
        ));
        assert!(matches!(nor.erase(0), Err(FlashError::PowerLost)));
        assert!(!nor.is_powered());
        nor.power_on();
        assert_eq!(bytes(&nor, 0, 8), [left; 8]);
        assert_eq!((nor.operations(), nor.violations()), (2, 0));
    }
}

#[test]
fn a_cut_falls_at_its_operation_only() {
    let mut nor = chip();
    nor.arm(Cut {
        operation: 2,
        when: When::Before,
    });
    nor.program(0, &[0; 8]).unwrap();
    nor.program(8, &[0; 8]).unwrap();
    assert!(nor.program(16, &[0; 8]).is_err());
    nor.power_on();
    nor.program(16, &[0; 8]).unwrap();
}

#[test]
fn a_torn_erase_must_be_erased_again() {
    let mut nor = chip();
    nor.program(0, &[0; 2048]).unwrap();
    cut(&mut nor, Tear::MissingBit { bit: 3 }, Marginal::None);
    assert!(nor.erase(0).is_err());
    nor.power_on();
    assert_eq!(bytes(&nor, 0, 2), [0xF7, 0xFF]);
    assert!(matches!(
        nor.program(0, &[0; 8]),
        Err(FlashError::NotErased { addr: 0 })
    ));
    nor.erase(0).unwrap();
    nor.program(0, &[0; 8]).unwrap();
}

#[test]
fn a_marginal_bit_reads_both_ways_and_is_never_blank() {
    let mut nor = chip();
    nor.program(0, &[0; 8]).unwrap();
    cut(&mut nor, Tear::MissingBit { bit: 3 }, Marginal::One);
    assert!(nor.erase(0).is_err());
    for _reset in 0..2 {
        nor.power_on();
        let reads: Vec<u8> = (0..64).map(|_| bytes(&nor, 0, 1)[0]).collect();
        assert!(reads.contains(&0xF7) && reads.contains(&0xFF), "{reads:?}");
        assert!(matches!(
            nor.program(0, &[0; 8]),
            Err(FlashError::NotErased { addr: 0 })
        ));
    }
    nor.erase(0).unwrap();
    assert_eq!(bytes(&nor, 0, 8), [0xFF; 8]);
    nor.program(0, &[0; 8]).unwrap();
}

#[test]
fn with_ecc_a_word_is_programmed_once_whatever_its_value() {
    let mut nor = Nor::in_memory(Geometry::pages_2k_8(8 << 10).with_ecc());
    nor.program(0, &[0xFF; 8]).unwrap();
    assert_eq!(bytes(&nor, 0, 8), [0xFF; 8]);
    for value in [0xFF, 0] {
        assert!(matches!(
            nor.program(0, &[value; 8]),
            Err(FlashError::NotErased { addr: 0 })
        ));
    }
    assert_eq!(nor.violations(), 2);
    nor.erase(0).unwrap();
    nor.program(0, &[0; 8]).unwrap();
}

#[test]
fn with_ecc_a_torn_word_cannot_be_read() {
    let mut nor = Nor::in_memory(Geometry::pages_2k_8(8 << 10).with_ecc());
    cut(&mut nor, Tear::Prefix { words: 1 }, Marginal::None);
    assert!(nor.program(0, &[1; 16]).is_err());
    nor.power_on();
    assert_eq!(bytes(&nor, 0, 16), [[1; 8], [0xFF; 8]].concat());
    nor.program(8, &[2; 8]).unwrap();
    nor.erase(0).unwrap();

    cut(&mut nor, Tear::MissingBit { bit: 70 }, Marginal::None);
    assert!(nor.program(0, &[0; 16]).is_err());
    nor.power_on();
    assert_eq!(bytes(&nor, 0, 8), [0; 8]);
    for len in [1, 8] {
        assert!(matches!(
            nor.read(8, &mut vec![0; len]),
            Err(FlashError::Uncorrectable { addr: 8 })
        ));
    }
    // A torn erase too, until it is repeated.
    cut(&mut nor, Tear::EvenBits, Marginal::None);
    assert!(nor.erase(0).is_err());
    nor.power_on();
    assert!(matches!(
        nor.read(0, &mut [0; 4]),
        Err(FlashError::Uncorrectable { addr: 0 })
    ));
    nor.erase(0).unwrap();
    assert_eq!(bytes(&nor, 0, 16), [0xFF; 16]);
    assert_eq!(nor.violations(), 0);
}

#[test]
fn with_ecc_a_marginal_word_is_readable_now_and_not_then() {
    let mut nor = Nor::in_memory(Geometry::pages_2k_8(8 << 10).with_ecc());
    cut(&mut nor, Tear::Prefix { words: 0 }, Marginal::One);
    assert!(nor.program(0, &[0; 8]).is_err());
    nor.power_on();
    let mut readable = 0;
    for _ in 0..64 {
        let mut word = [0; 8];
        if nor.read(0, &mut word).is_ok() {
            assert_eq!(word, [0xFF; 8]);
            readable += 1;
        }
    }
    assert!((1..64).contains(&readable), "{readable}");
    assert!(
        nor.program(0, &[0; 8]).is_err(),
        "it may look erased, it is not"
    );
}

#[test]
fn an_erased_byte_may_be_zero() {
    let mut nor = Nor::in_memory(Geometry::pages_2k_8(8 << 10).with_erased(0));
    assert_eq!(bytes(&nor, 0, 8), [0; 8]);
    nor.program(0, &[7; 8]).unwrap();
    assert!(nor.program(0, &[0xFF; 8]).is_err());
    cut(&mut nor, Tear::FirstHalf, Marginal::None);
    assert!(nor.erase(0).is_err());
    nor.power_on();
    nor.erase(0).unwrap();
    assert_eq!(bytes(&nor, 0, 8), [0; 8]);
}

#[test]
fn a_busy_bank_is_not_read() {
    let mut nor = Nor::in_memory(Geometry::pages_2k_8(8 << 10).with_banks(4 << 10));
    nor.erase(0).unwrap();
    assert!(matches!(
        nor.read(4095, &mut [0; 1]),
        Err(FlashError::Busy { addr: 4095 })
    ));
    assert!(nor.read(4095, &mut [0; 2]).is_err());
    nor.read(4096, &mut [0; 2]).unwrap();
    assert!(matches!(
        nor.program(4096, &[0; 8]),
        Err(FlashError::Busy { .. })
    ));
    assert_eq!(nor.violations(), 3);
    nor.complete();
    nor.read(0, &mut [0; 1]).unwrap();
    nor.program(4096, &[0; 8]).unwrap();
}

#[test]
fn the_extent_of_an_operation_is_what_it_changes() {
    let mut nor = chip();
    let extent = nor.extent_of_program(8, &[0xFE; 16]).unwrap();
    assert_eq!((extent.words, extent.bits), (2, 16));
    nor.program(8, &[0xFE; 16]).unwrap();
    let extent = nor.extent_of_erase(0).unwrap();
    assert_eq!((extent.words, extent.bits), (256, 16));
    assert!(nor.extent_of_program(8, &[0; 8]).is_err());
    assert_eq!(nor.violations(), 0);
}

#[test]
fn it_is_seen_whether_bytes_are_read_before_they_are_erased() {
    let mut nor = chip();
    nor.watch(2040..2056);
    bytes(&nor, 0, 2040);
    nor.erase(0).unwrap();
    assert_eq!(nor.watched(), Watched::Left);
    let mut gone = nor.fork().unwrap();
    bytes(&nor, 2048, 1);
    nor.erase(2048).unwrap();
    assert_eq!(nor.watched(), Watched::Read);
    gone.watch(2040..2056);
    gone.erase(2048).unwrap();
    gone.erase(0).unwrap();
    bytes(&gone, 0, 4096);
    assert_eq!(gone.watched(), Watched::Gone);
}

#[test]
fn what_is_not_settled_can_be_told() {
    for geometry in [
        Geometry::pages_2k_8(8 << 10),
        Geometry::pages_2k_8(8 << 10).with_ecc(),
    ] {
        let mut nor = Nor::in_memory(geometry);
        cut(&mut nor, Tear::Prefix { words: 1 }, Marginal::One);
        assert!(nor.program(0, &[0; 16]).is_err());
        assert!(nor.is_settled(0..8) && !nor.is_settled(8..16));
        let mut word = [0; 8];
        nor.peek(8, &mut word).unwrap();
        assert_eq!(word, [0xFF; 8]);
    }
}

#[test]
fn a_fork_goes_its_own_way() {
    let mut nor = chip();
    nor.program(0, &[1; 8]).unwrap();
    let fork = nor.fork().unwrap();
    nor.erase(0).unwrap();
    assert_eq!(bytes(&fork, 0, 8), [1; 8]);
    assert_eq!(fork.operations(), 0);
}

fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("nor-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn a_file_keeps_what_was_programmed() {
    let dir = scratch("file");
    let path = dir.join("flash.bin");
    let open = |geometry| Nor::open(&path, geometry);
    let mut nor = open(Geometry::pages_2k_32(8 << 10)).unwrap();
    nor.program(64, &[5; 32]).unwrap();
    // Not dropped: a killed process drops nothing either.
    std::mem::forget(nor);
    let nor = open(Geometry::pages_2k_32(8 << 10)).unwrap();
    assert_eq!(bytes(&nor, 64, 33)[31..], [5, 0xFF]);
    let error = open(Geometry::pages_2k_32(16 << 10)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    std::fs::remove_dir_all(dir).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Erase(u32),
    Program(u32, u32, u8),
    Cut(When),
}

fn any_step() -> impl Strategy<Value = Step> {
    let tear = prop_oneof![
        (0..5u32).prop_map(|words| Tear::Prefix { words }),
        any::<u32>().prop_map(|bit| Tear::MissingBit { bit }),
        Just(Tear::FirstHalf),
        Just(Tear::SecondHalf),
        Just(Tear::EvenBits),
        Just(Tear::OddBits),
        any::<u64>().prop_map(Tear::Seeded),
    ];
    let when = prop_oneof![
        Just(When::Before),
        Just(When::After),
        (tear, prop::sample::select(&Marginal::ALL[..]))
            .prop_map(|(tear, marginal)| When::Inside { tear, marginal }),
    ];
    prop_oneof![
        2 => (0..4u32).prop_map(|sector| Step::Erase(sector * 2048)),
        6 => (0..1024u32, 1..5u32, any::<u8>()).prop_map(|(word, words, fill)| Step::Program(word * 8, words, fill)),
        1 => when.prop_map(Step::Cut),
    ]
}

proptest! {
    /// The chip agrees with a plain array; only ranges touched by a cut are left out.
    #[test]
    fn the_chip_is_an_array_with_rules(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut nor = chip();
        let mut model = vec![Some(0xFFu8); 8 << 10];
        for step in steps {
            let (range, fill, result) = match step {
                Step::Cut(when) => {
                    nor.arm(Cut { operation: nor.operations(), when });
                    continue;
                }
                Step::Erase(addr) => (addr as usize..addr as usize + 2048, 0xFF, nor.erase(addr)),
                Step::Program(word, words, fill) => {
                    let data = vec![fill; words as usize * 8];
                    (word as usize..word as usize + data.len(), fill, nor.program(word, &data))
                }
            };
            match result {
                Ok(_) => model[range].fill(Some(fill)),
                Err(FlashError::PowerLost) => {
                    model[range].fill(None);
                    nor.power_on();
                }
                Err(FlashError::NotErased { addr }) => {
                    let word = &model[addr as usize..addr as usize + 8];
                    prop_assert!(word.iter().any(|byte| *byte != Some(0xFF)));
                }
                Err(FlashError::OutOfBounds { .. }) => prop_assert!(range.end > 8 << 10),
                Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
            }
            let now = bytes(&nor, 0, 8 << 10);
            for (at, byte) in model.iter().enumerate() {
                prop_assert!(byte.is_none_or(|byte| byte == now[at]), "byte {at:#x}");
            }
        }
    }
}

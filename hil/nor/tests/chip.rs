//! The chip's rules seen from outside: erase before write, power cuts, marginal bits, files.

use nor::{Cut, FlashError, Geometry, Nor, Tear, When};
use proptest::prelude::*;

fn chip() -> Nor {
    Nor::in_memory(Geometry::pages_2k_8(8 << 10))
}

fn bytes(nor: &Nor, addr: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    nor.read(addr, &mut bytes).unwrap();
    bytes
}

fn cut(nor: &mut Nor, tear: Tear, unstable: bool) {
    let when = When::Inside { tear, unstable };
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
    cut(&mut nor, Tear::MissingBit { bit: 3 }, false);
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
    cut(&mut nor, Tear::MissingBit { bit: 3 }, true);
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
        Just(Tear::Half),
        Just(Tear::Alternating),
        any::<u64>().prop_map(Tear::Seeded),
    ];
    let when = prop_oneof![
        Just(When::Before),
        Just(When::After),
        (tear, any::<bool>()).prop_map(|(tear, unstable)| When::Inside { tear, unstable }),
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

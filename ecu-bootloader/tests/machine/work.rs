//! Who refuses early tells where it was wrong: each stage of the authentication works the same
//! whatever is wrong in it. Counted in MACs, unwrappings, steps of the signature and slices.

use powercut::work::{self, Work};

use crate::bench::{Bench, Setup, key_of};
use crate::images::{Image, Recipe, recipe};

const SIGNATURE: usize = 1024;
const MAC: usize = 240;

fn ready() -> Bench {
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    bench
}

/// The work from the last byte of grant and header to the answer, and whether it was refused.
fn head(image: &Image) -> (Work, bool) {
    let mut bench = ready();
    let metadata = image.metadata();
    bench
        .request_download(0, 0xF000_0000, metadata.len())
        .unwrap();
    for (counter, data) in (1..).zip(metadata[..1791].chunks(512)) {
        bench.block(counter, data).unwrap();
    }
    work::take();
    // What follows an acceptance, the journal's record, is not the stage's.
    let refused = bench.block(5, &metadata[1791..1792]).is_err();
    (work::take(), refused)
}

fn changed(mut change: impl FnMut(&mut Image)) -> Image {
    let mut image = recipe(2).make();
    change(&mut image);
    image
}

#[test]
fn a_signature_takes_the_same_steps_whatever_is_wrong() {
    let (right, refused) = head(&recipe(2).make());
    assert!(!refused);
    let flipped = |at: usize| changed(move |image| image.packed[SIGNATURE + at] ^= 1);
    let filled =
        |byte: u8| changed(move |image| image.packed[SIGNATURE..SIGNATURE + 256].fill(byte));
    let stranger = Recipe {
        forged: true,
        ..recipe(2)
    };
    let wrong = [
        flipped(0),
        flipped(100),
        flipped(255),
        filled(0),
        filled(1),
        // Not below the modulus.
        filled(0xFF),
        stranger.make(),
    ];
    for (number, image) in wrong.iter().enumerate() {
        let (work, refused) = head(image);
        assert!(refused, "{number}");
        assert_eq!(work.signatures, right.signatures, "{number}");
        assert_eq!(work.unwraps, right.unwraps, "{number}");
        assert_eq!(work.cipher_bytes, right.cipher_bytes, "{number}");
        // The accepted grant is journaled: one MAC and the erases more.
        assert_eq!(work.macs.0 + 1, right.macs.0, "{number}");
        let (first, _) = head(&wrong[0]);
        assert_eq!(work, first, "{number}: all refusals are one");
    }
    assert_eq!(right.signatures.0, 1);
    assert!(right.signatures.1 > 20, "{right:?}");
}

#[test]
fn a_grant_takes_one_mac_whatever_is_wrong() {
    let grants = [
        changed(|image| image.grant[MAC] ^= 1),
        changed(|image| image.grant[MAC + 15] ^= 0x80),
        changed(|image| image.grant[MAC..].fill(0)),
        // What it says is believed no earlier than its MAC.
        changed(|image| image.grant[8] ^= 1),
        changed(|image| image.grant[40] ^= 1),
        changed(|image| image.grant[72] ^= 1),
        changed(|image| image.grant[90] ^= 1),
    ];
    let work = grants.map(|image| {
        let (work, refused) = head(&image);
        assert!(refused);
        work
    });
    let expected = Work {
        macs: (1, 240),
        ..Work::default()
    };
    let expected = Work {
        slices: work[0].slices,
        ..expected
    };
    assert_eq!(work, [expected; 7]);
}

#[test]
fn a_key_takes_one_mac_whatever_is_wrong() {
    let keys: [fn(&mut [u8; 16]); 4] = [
        |_| {},
        |key| key[0] ^= 1,
        |key| key[15] ^= 1,
        |key| *key = [0; 16],
    ];
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    bench.enter_programming().unwrap();
    for change in &keys[1..] {
        bench.ask(&[0x10, 1]).unwrap();
        bench.ask(&[0x10, 2]).unwrap();
        bench.unlock().unwrap();
        bench.ask(&[0x10, 2]).unwrap();
        let seed = bench.ask(&[0x27, 1]).unwrap();
        let mut key = key_of(&seed[2..]);
        change(&mut key);
        work::take();
        assert!(bench.ask(&[&[0x27, 2], &key[..]].concat()).is_err());
        assert_eq!(work::take().macs, (1, 17));
    }
}

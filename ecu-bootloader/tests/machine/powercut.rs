//! Power fails at every flash operation of an update: before it, inside it and after it.
//!
//! What must hold after each cut: an authentic image boots, and it is the confirmed one unless the
//! new one is on trial or confirmed itself; the confirmed slot's bytes are untouched; the floor did
//! not fall; and the same update, with the same grant, goes on to its end.

use std::rc::Rc;

use ecu_bootloader::layout::SlotId;
use nor::{Cut, Geometry, Marginal, Nor, Tear, When};

use crate::bench::{Bench, PowerLost, Setup, board};
use crate::images::{Image, Recipe, recipe};
use crate::tester::{Done, Failed};

/// Nine pages of 1 KiB on sectors of 2 KiB: two pages a sector, the last half a page.
fn image(number: u32) -> Image {
    Recipe {
        len: 8_700,
        page_size: 1024,
        ..recipe(number)
    }
    .make()
}

struct Scene {
    setup: Setup,
    old: Image,
    new: Image,
    /// The flash with `old` sealed in A.
    before: Nor,
}

fn scene() -> Scene {
    let setup = Setup::with(Geometry::pages_2k_8(1 << 19), 2048, 8, true);
    let (old, new) = (image(2), image(3));
    let mut bench = Bench::new(&setup, &image(1), 1);
    bench.update(&old).unwrap();
    let before = bench.nor.borrow().fork().unwrap();
    Scene {
        setup,
        old,
        new,
        before,
    }
}

/// From any state: on to the sealed new image.
fn finish(bench: &mut Bench, new: &Image) -> Done {
    for _ in 0..3 {
        match bench.booted {
            Some(target) if target.digest == new.digest => return bench.confirm_and_seal(),
            _ => {
                bench.stage(new)?;
                bench.activate()?;
            }
        }
    }
    panic!("the new image does not boot");
}

fn start(scene: &Scene, cut: Option<Cut>) -> (Bench, Result<(), PowerLost>) {
    let mut nor = scene.before.fork().unwrap();
    if let Some(cut) = cut {
        nor.arm(cut);
    }
    let mut bench = Bench::on(board(scene.setup.layout), nor);
    let started = bench.power_cycle();
    (bench, started)
}

fn check_after_cut(bench: &mut Bench, scene: &Scene, what: &dyn std::fmt::Debug) {
    let target = bench
        .booted
        .unwrap_or_else(|| panic!("{what:?}: nothing boots"));
    let (image, slot) = if target.digest == scene.new.digest {
        (&scene.new, SlotId::B)
    } else {
        (&scene.old, SlotId::A)
    };
    assert_eq!(
        (target.digest, target.slot),
        (image.digest, slot),
        "{what:?}"
    );
    let bytes = bench.slot_bytes(slot, image.plaintext.len());
    assert!(bytes == image.plaintext, "{what:?}: other bytes boot");
    let kept = bench.slot_bytes(SlotId::A, scene.old.plaintext.len());
    assert!(
        kept == scene.old.plaintext,
        "{what:?}: the confirmed slot was touched"
    );
    let state = bench.ecu.state().unwrap();
    assert!(state.floor.get() >= 2, "{what:?}: the floor fell");
    assert_eq!(bench.nor.borrow().violations(), 0, "{what:?}");
}

fn run(scene: &Scene, cut: Cut) {
    let (mut bench, started) = start(scene, Some(cut));
    let result = match started {
        Ok(()) => finish(&mut bench, &scene.new),
        Err(lost) => Err(lost.into()),
    };
    if let Err(failed) = result {
        assert_eq!(failed, Failed::PowerLost, "{cut:?}");
        bench.power_cycle().unwrap();
        check_after_cut(&mut bench, scene, &cut);
        finish(&mut bench, &scene.new).unwrap_or_else(|failed| panic!("{cut:?}: {failed:?}"));
    }
    let state = bench.ecu.state().unwrap();
    assert_eq!(
        (state.confirmed, state.floor.get()),
        (SlotId::B, 3),
        "{cut:?}"
    );
    bench.power_cycle().unwrap();
    assert_eq!(bench.booted.unwrap().digest, scene.new.digest, "{cut:?}");
    assert_eq!(Rc::strong_count(&bench.nor), 2);
}

/// Two cuts: one in the update, one in what follows it.
fn run_pair(scene: &Scene, first: Cut, second: u64, when: When) -> bool {
    let (mut bench, started) = start(scene, Some(first));
    if started.is_ok() && finish(&mut bench, &scene.new).is_ok() {
        return false;
    }
    let operation = bench.nor.borrow().operations() + second;
    bench.nor.borrow_mut().power_on();
    bench.nor.borrow_mut().arm(Cut { operation, when });
    let started = bench.power_cycle().map_err(Failed::from);
    let what = (first, operation);
    let again = started.and_then(|()| finish(&mut bench, &scene.new));
    let Err(failed) = again else {
        return false;
    };
    assert_eq!(failed, Failed::PowerLost, "{what:?}");
    bench.power_cycle().unwrap();
    check_after_cut(&mut bench, scene, &what);
    finish(&mut bench, &scene.new).unwrap_or_else(|failed| panic!("{what:?}: {failed:?}"));
    true
}

/// The operations that an undisturbed update performs.
fn operations(scene: &Scene) -> std::ops::Range<u64> {
    let (mut bench, started) = start(scene, None);
    started.unwrap();
    finish(&mut bench, &scene.new).unwrap();
    let end = bench.nor.borrow().operations();
    scene.before.operations()..end
}

fn cut_everywhere(when: &[When]) {
    let scene = scene();
    let operations = operations(&scene);
    let count = operations.end - operations.start;
    assert!(count > 35, "{count} operations are no whole update");
    for operation in operations {
        for when in when {
            run(
                &scene,
                Cut {
                    operation,
                    when: *when,
                },
            );
        }
    }
}

#[test]
fn before_and_after_every_operation() {
    cut_everywhere(&[When::Before, When::After]);
}

#[test]
fn inside_every_operation_with_marginal_bits() {
    let inside = |tear| When::Inside {
        tear,
        marginal: Marginal::Half,
    };
    cut_everywhere(&[
        inside(Tear::MissingBit { bit: 5 }),
        inside(Tear::FirstHalf),
        inside(Tear::EvenBits),
    ]);
}

#[test]
fn inside_every_operation_with_settled_bits() {
    let inside = |tear| When::Inside {
        tear,
        marginal: Marginal::None,
    };
    cut_everywhere(&[
        inside(Tear::Prefix { words: 1 }),
        inside(Tear::Seeded(0x5EED)),
    ]);
}

#[test]
fn twice_in_one_update() {
    let scene = scene();
    let torn = When::Inside {
        tear: Tear::FirstHalf,
        marginal: Marginal::Half,
    };
    // Every first cut; the second ones spread so that all distances occur over the run.
    for (turn, operation) in (0..).zip(operations(&scene)) {
        let mut second = turn % 3;
        let first = Cut {
            operation,
            when: torn,
        };
        while run_pair(&scene, first, second, torn) {
            second += 3;
        }
    }
}

#[test]
fn a_record_without_witness_is_written_again_before_anything_boots() {
    let setup = Setup::new(true);
    let mut bench = Bench::new(&setup, &recipe(1).make(), 1);
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    // Record, and then no witness; the unlocking erased the sector.
    let operation = bench.nor.borrow().operations() + 1;
    bench.nor.borrow_mut().arm(Cut {
        operation,
        when: When::Before,
    });
    let fingerprint = [&[0x2E, 0xF1, 0x5A], &[0x26; 10][..]].concat();
    assert_eq!(bench.ask(&fingerprint), Err(Failed::PowerLost));
    let mut operations = Vec::new();
    for _ in 0..2 {
        let before = bench.nor.borrow().operations();
        bench.power_cycle().unwrap();
        assert_eq!(bench.ecu.state().unwrap().fingerprint, [0x26; 10]);
        operations.push(bench.nor.borrow().operations() - before);
    }
    assert_eq!(
        operations,
        [3, 0],
        "settled once, and an ordinary boot writes nothing"
    );
}

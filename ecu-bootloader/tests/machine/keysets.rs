//! Key sets: rotation and revocation, and what must not come into use.

use ecu_bootloader::boot::{BootReason, ResetCause};
use ecu_bootloader::layout::{KeySetArea, SlotId};
use ecu_bootloader::reason::Reason;
use ecu_image::keyset::{KeySet, KeyStatus};

use crate::bench::{Bench, Setup};
use crate::images::{Image, KeySetRecipe, Recipe, Signer, key_set, recipe, rotation};
use crate::tester::Failed;

fn fresh() -> Bench {
    Bench::new(&Setup::new(true), &recipe(1).make(), 1)
}

/// In the programming session, unlocked.
fn enter(bench: &mut Bench) {
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
}

/// Image `number`, signed by `signer`.
fn signed(number: u32, signer: Signer) -> Image {
    let recipe = Recipe {
        signer,
        ..recipe(number)
    };
    recipe.make()
}

/// 0x72, this reason, and not one flash operation.
fn check_refused(bench: &mut Bench, set: &[u8], reason: Reason) {
    let before = bench.nor.borrow().operations();
    let in_use = bench.key_set();
    match bench.send_key_set(set) {
        Err(Failed::Negative { request, nrc }) => assert_eq!((request, nrc), (vec![0x37], 0x72)),
        other => panic!("{reason:?}: {other:?}"),
    }
    assert_eq!(bench.last_failure(), reason.code(), "{reason:?}");
    assert_eq!(bench.nor.borrow().operations(), before, "{reason:?}");
    assert_eq!(bench.key_set(), in_use);
}

fn booted(bench: &Bench) -> (SlotId, BootReason) {
    bench.slot_and_reason().expect("something boots")
}

#[test]
fn a_newer_key_set_comes_into_use_in_the_other_area() {
    let mut bench = fresh();
    enter(&mut bench);
    assert_eq!(bench.key_set().0, 1);
    for (version, area) in [(2, KeySetArea::Second), (9, KeySetArea::First)] {
        let set = rotation(version).make();
        bench.send_key_set(&set).unwrap();
        let digest = KeySet::parse(&set).unwrap().digest();
        assert_eq!(bench.key_set(), (version, digest.0));
        assert_eq!(bench.ecu.state().unwrap().key_set.unwrap().area, area);
    }
    bench.update(&signed(2, Signer::Second)).unwrap();
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::Normal));
}

#[test]
fn two_of_the_pinned_roots_must_have_signed() {
    let mut bench = fresh();
    enter(&mut bench);
    let by = |signers: &[Signer]| KeySetRecipe {
        signers: signers.to_vec(),
        ..rotation(2)
    };
    let roots = [0, 1, 2, 3].map(Signer::Root);
    let too_few: [&[Signer]; 4] = [
        &[],
        &roots[1..2],
        // The fourth root is not pinned here, and an image key is no root.
        &[roots[0], roots[3]],
        &[roots[0], Signer::First],
    ];
    for signers in too_few {
        let set = by(signers).make();
        check_refused(&mut bench, &set, Reason::KeySetSignatures);
    }
    bench
        .send_key_set(&by(&[roots[1], roots[2], roots[3]]).make())
        .unwrap();
}

#[test]
fn one_wrong_signature_of_a_root_is_enough_to_refuse() {
    let mut bench = fresh();
    enter(&mut bench);
    let all = KeySetRecipe {
        signers: [0, 1, 2].map(Signer::Root).to_vec(),
        ..rotation(2)
    };
    let set = all.make();
    let signed_len = KeySet::parse(&set).unwrap().signed_bytes().len();
    for index in 0..3 {
        let mut set = set.clone();
        set[signed_len + 4 + 268 * index + 12 + 100] ^= 1;
        check_refused(&mut bench, &set, Reason::KeySetSignatures);
    }
    // Nor does it help to change what was signed.
    let mut changed = set;
    changed[40] = 3;
    check_refused(&mut bench, &changed, Reason::KeySetSignatures);
}

#[test]
fn the_same_root_does_not_count_twice() {
    let mut bench = fresh();
    enter(&mut bench);
    let once = KeySetRecipe {
        signers: vec![Signer::Root(0)],
        ..rotation(2)
    };
    let mut set = once.make();
    let signed_len = KeySet::parse(&set).unwrap().signed_bytes().len();
    set[signed_len] = 2;
    let again = set[signed_len + 4..].to_vec();
    set.extend(again);
    check_refused(&mut bench, &set, Reason::KeySetMalformed);
}

#[test]
fn an_old_foreign_or_malformed_set_is_refused() {
    let mut bench = fresh();
    enter(&mut bench);
    check_refused(&mut bench, &key_set(1).make(), Reason::KeySetVersion);
    bench.send_key_set(&key_set(5).make()).unwrap();
    check_refused(&mut bench, &rotation(4).make(), Reason::KeySetVersion);
    check_refused(&mut bench, &rotation(5).make(), Reason::KeySetVersion);
    let foreign = KeySetRecipe {
        hardware: Some("DOOR-1"),
        ..rotation(6)
    };
    check_refused(&mut bench, &foreign.make(), Reason::KeySetHardware);
    let mut malformed = rotation(6).make();
    malformed[47] = 1;
    check_refused(&mut bench, &malformed, Reason::KeySetMalformed);
    let everywhere = KeySetRecipe {
        hardware: None,
        ..rotation(6)
    };
    bench.send_key_set(&everywhere.make()).unwrap();
}

#[test]
fn a_set_that_would_orphan_the_confirmed_image_is_refused() {
    let mut bench = fresh();
    bench.update(&recipe(2).make()).unwrap();
    enter(&mut bench);
    let without = KeySetRecipe {
        keys: vec![(Signer::Second, KeyStatus::Active)],
        ..key_set(2)
    };
    check_refused(&mut bench, &without.make(), Reason::KeySetOrphan);
    // Before its seal a new image may be reverted: the one before must stay bootable too.
    bench.send_key_set(&rotation(2).make()).unwrap();
    bench.stage_unlocked(&signed(3, Signer::Second)).unwrap();
    bench.activate().unwrap();
    assert!(bench.self_test_passed().unwrap());
    enter(&mut bench);
    let without = KeySetRecipe {
        version: 3,
        ..without
    };
    check_refused(&mut bench, &without.make(), Reason::KeySetOrphan);
    bench.routine(0x0212).unwrap();
    bench.send_key_set(&without.make()).unwrap();
    bench.reset_ecu().unwrap();
    assert_eq!(booted(&bench), (SlotId::B, BootReason::Normal));
}

#[test]
fn the_factory_image_boots_whatever_happened_to_its_key() {
    let mut bench = fresh();
    enter(&mut bench);
    let without = KeySetRecipe {
        keys: vec![(Signer::Second, KeyStatus::Active)],
        ..key_set(2)
    };
    bench.send_key_set(&without.make()).unwrap();
    bench.reset_ecu().unwrap();
    assert_eq!(booted(&bench), (SlotId::Factory, BootReason::Normal));
    // And nothing under its old key is installed any more.
    enter(&mut bench);
    let old = bench.send_metadata(&recipe(2).make());
    assert!(matches!(old, Err(Failed::Negative { nrc: 0x72, .. })));
    assert_eq!(bench.last_failure(), Reason::HeaderKey.code());
    bench.stage_unlocked(&signed(2, Signer::Second)).unwrap();
}

#[test]
fn revocation_stops_installs_at_once() {
    let mut bench = fresh();
    bench.update(&recipe(2).make()).unwrap();
    enter(&mut bench);
    bench.send_key_set(&rotation(2).make()).unwrap();
    let before = bench.nor.borrow().operations();
    let refused = bench.send_metadata(&recipe(3).make());
    assert!(matches!(refused, Err(Failed::Negative { nrc: 0x72, .. })));
    assert_eq!(bench.last_failure(), Reason::HeaderKeyRevoked.code());
    assert_eq!(bench.nor.borrow().operations(), before);
}

#[test]
fn what_was_being_installed_under_a_revoked_key_is_dropped() {
    // Receiving, with half of its pages; and staged.
    for complete in [false, true] {
        let mut bench = fresh();
        let image = recipe(2).make();
        enter(&mut bench);
        if complete {
            bench.stage_unlocked(&image).unwrap();
        } else {
            bench.send_metadata(&image).unwrap();
            bench.routine(0xFF00).unwrap();
        }
        bench.send_key_set(&rotation(2).make()).unwrap();
        assert_eq!(bench.progress().unwrap().state, 0, "complete: {complete}");
        assert!(bench.routine(0x0210).is_err());
        assert!(bench.send_metadata(&image).is_err());
        assert_eq!(bench.last_failure(), Reason::HeaderKeyRevoked.code());
    }
}

#[test]
fn what_is_being_installed_under_a_key_that_stays_goes_on() {
    let mut bench = fresh();
    let image = recipe(2).make();
    enter(&mut bench);
    bench.send_metadata(&image).unwrap();
    bench.routine(0xFF00).unwrap();
    let both = KeySetRecipe {
        keys: vec![
            (Signer::First, KeyStatus::Active),
            (Signer::Second, KeyStatus::Active),
        ],
        ..key_set(2)
    };
    bench.send_key_set(&both.make()).unwrap();
    assert_eq!(bench.progress().unwrap().state, 2);
    bench.send_pages(&image, 0).unwrap();
    bench.routine(0x0202).unwrap();
}

#[test]
fn a_trial_under_a_revoked_key_ends() {
    let mut bench = fresh();
    bench.stage(&recipe(2).make()).unwrap();
    bench.activate().unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::Trial));
    enter(&mut bench);
    bench.send_key_set(&rotation(2).make()).unwrap();
    bench.reset_ecu().unwrap();
    assert_eq!(
        booted(&bench),
        (SlotId::Factory, BootReason::FellBackToFactory)
    );
}

/// Image 2 under the first key is sealed in A, then that key is revoked.
fn revoked_but_sealed() -> Bench {
    let mut bench = fresh();
    bench.update(&recipe(2).make()).unwrap();
    enter(&mut bench);
    bench.send_key_set(&rotation(2).make()).unwrap();
    bench.reset_ecu().unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::Normal));
    bench
}

/// The new image of counter 2, so that the floor alone would let the one before boot.
fn successor() -> Image {
    let recipe = Recipe {
        signer: Signer::Second,
        counter: 2,
        ..recipe(3)
    };
    recipe.make()
}

#[test]
fn an_image_under_a_revoked_key_boots_until_a_successor_is_sealed() {
    let mut bench = revoked_but_sealed();
    bench.stage(&successor()).unwrap();
    bench.activate().unwrap();
    // In trial and before the seal it is what the ECU returns to.
    bench.start(ResetCause::Crash, None).unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::FellBackToPrevious));

    let mut bench = revoked_but_sealed();
    bench.stage(&successor()).unwrap();
    bench.activate().unwrap();
    assert!(bench.self_test_passed().unwrap());
    for _ in 0..3 {
        assert_eq!(booted(&bench).0, SlotId::B);
        bench.start(ResetCause::Crash, None).unwrap();
    }
    assert_eq!(booted(&bench), (SlotId::A, BootReason::FellBackToPrevious));
}

#[test]
fn after_the_seal_of_a_successor_it_does_not_boot_as_a_fallback_either() {
    let mut bench = revoked_but_sealed();
    bench.update(&successor()).unwrap();
    assert_eq!(bench.app_status().other_state, 6);
    // Were it allowed, eight crashes in a row would bring it back, or the loss of the successor.
    for _ in 0..9 {
        bench.start(ResetCause::Crash, None).unwrap();
        assert_ne!(
            bench.slot_and_reason().map(|(slot, _)| slot),
            Some(SlotId::A)
        );
    }
    let address = Setup::new(true)
        .layout
        .slot(SlotId::B)
        .unwrap()
        .payload
        .address;
    bench.nor.borrow_mut().erase(address).unwrap();
    bench.power_cycle().unwrap();
    assert_eq!(bench.booted, None, "below the floor: factory neither");
}

#[test]
fn a_key_revoked_after_its_successor_was_sealed_ends_its_images_at_once() {
    let mut bench = fresh();
    bench.update(&recipe(2).make()).unwrap();
    enter(&mut bench);
    let both = KeySetRecipe {
        keys: vec![
            (Signer::First, KeyStatus::Active),
            (Signer::Second, KeyStatus::Active),
        ],
        ..key_set(2)
    };
    bench.send_key_set(&both.make()).unwrap();
    bench.reset_ecu().unwrap();
    bench.update(&successor()).unwrap();
    assert_eq!(
        bench.app_status().other_state,
        5,
        "the fallback of the seal"
    );
    enter(&mut bench);
    bench.send_key_set(&rotation(3).make()).unwrap();
    let state = bench.ecu.state().unwrap();
    assert_eq!(state.previous, None);
    assert!(!state.a.state.boots());
}

#[test]
fn without_a_readable_key_set_only_what_is_pinned_boots() {
    let mut bench = fresh();
    let same = Recipe {
        counter: 1,
        ..recipe(2)
    };
    bench.update(&same.make()).unwrap();
    let area = Setup::new(true).layout.key_set(KeySetArea::First);
    bench.nor.borrow_mut().erase(area.address).unwrap();
    bench.power_cycle().unwrap();
    assert_eq!(
        booted(&bench),
        (SlotId::Factory, BootReason::FellBackToFactory)
    );
    // Nothing is installed without keys, and a new key set brings them.
    enter(&mut bench);
    assert!(bench.send_metadata(&recipe(3).make()).is_err());
    assert_eq!(bench.last_failure(), Reason::KeySetUnreadable.code());
    check_refused(&mut bench, &key_set(1).make(), Reason::KeySetVersion);
    bench.send_key_set(&key_set(2).make()).unwrap();
    bench.stage_unlocked(&recipe(3).make()).unwrap();
}

#[test]
fn a_key_set_needs_access_a_session_and_a_length() {
    let mut bench = fresh();
    let download = |bench: &mut Bench, len: u16| {
        let [high, low] = len.to_be_bytes();
        let request = [0x34, 0, 0x44, 0xF1, 0, 0, 0, 0, 0, high, low];
        bench.request(&request).unwrap().unwrap()
    };
    bench.enter_programming().unwrap();
    assert_eq!(download(&mut bench, 600), [0x7F, 0x34, 0x33]);
    bench.unlock().unwrap();
    assert_eq!(download(&mut bench, 0), [0x7F, 0x34, 0x70]);
    assert_eq!(download(&mut bench, 4097), [0x7F, 0x34, 0x70]);
    assert_eq!(download(&mut bench, 600)[0], 0x74);
    assert_eq!(bench.request(&[0x37]).unwrap().unwrap(), [0x7F, 0x37, 0x24]);
}

//! Trial, healthy, sealed, and every way back.

use ecu_bootloader::boot::{BootReason, ResetCause};
use ecu_bootloader::layout::SlotId;
use uds::time::Duration;

use crate::bench::{Bench, Setup};
use crate::images::{Recipe, recipe};

/// On trial with image 2 in A, over the factory image 1.
fn on_trial() -> Bench {
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    bench.stage(&recipe(2).make()).unwrap();
    bench.activate().unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::Trial));
    bench
}

/// Image 3 runs healthy in B, image 2 is sealed in A; counters as given.
fn healthy_over_sealed(old: Recipe, new: Recipe) -> Bench {
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    bench.update(&old.make()).unwrap();
    bench.stage(&new.make()).unwrap();
    bench.activate().unwrap();
    assert!(bench.self_test_passed().unwrap());
    bench
}

fn booted(bench: &Bench) -> (SlotId, BootReason) {
    bench.slot_and_reason().expect("something boots")
}

#[test]
fn a_crash_or_hang_in_trial_reverts_at_once() {
    for cause in [ResetCause::Crash, ResetCause::Watchdog] {
        let mut bench = on_trial();
        bench.start(cause, None).unwrap();
        assert_eq!(
            booted(&bench),
            (SlotId::Factory, BootReason::FellBackToFactory)
        );
        assert_eq!(bench.app_status().other_state, 6);
    }
}

#[test]
fn a_trial_has_three_attempts_counted_before_they_begin() {
    let mut bench = on_trial();
    for left in [1, 0] {
        bench.power_cycle().unwrap();
        assert_eq!(booted(&bench), (SlotId::A, BootReason::Trial));
        assert_eq!(bench.app_status().attempts, left);
    }
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench).0, SlotId::Factory);
}

#[test]
fn confirm_healthy_needs_the_self_test() {
    let mut bench = on_trial();
    bench.app_unlock().unwrap();
    let healthy = [0x31, 1, 2, 0x11];
    assert_eq!(bench.app(&healthy).unwrap(), [0x7F, 0x31, 0x22]);
    assert_eq!(bench.app(&[0x31, 1, 2, 0x12]).unwrap(), [0x7F, 0x31, 0x22]);
    assert!(bench.self_test_passed().unwrap());
    assert_eq!(bench.app(&healthy).unwrap(), [0x71, 1, 2, 0x11, 0]);
    assert_eq!(bench.app_status().running_state, 4);
}

#[test]
fn only_boot_services_come_through_the_mailbox() {
    let mut bench = on_trial();
    bench.app_unlock().unwrap();
    for sid in 0..=u8::MAX {
        if ![0x10, 0x22, 0x27, 0x31].contains(&sid) {
            // Nobody responds to a response.
            let is_request = sid & 0x40 == 0;
            let expected = if is_request {
                &[0x7F, sid, 0x11][..]
            } else {
                &[]
            };
            assert_eq!(bench.app(&[sid, 1, 0, 0]).unwrap(), expected);
        }
    }
    assert_eq!(bench.app(&[0x22, 0xF1, 0x8C]).unwrap()[0], 0x62);
}

#[test]
fn healthy_boots_without_limit_and_keeps_the_floor() {
    let mut bench = on_trial();
    assert!(bench.self_test_passed().unwrap());
    for _ in 0..5 {
        bench.power_cycle().unwrap();
        assert_eq!(booted(&bench), (SlotId::A, BootReason::Normal));
    }
    assert_eq!(bench.app_status().floor, 1);
}

#[test]
fn three_crashes_in_a_row_reject_a_healthy_image() {
    let mut bench = healthy_over_sealed(recipe(2), recipe(3));
    for _ in 0..2 {
        bench.start(ResetCause::Crash, None).unwrap();
        assert_eq!(booted(&bench).0, SlotId::B);
    }
    // A passed self-test between them starts the count anew.
    assert!(bench.self_test_passed().unwrap());
    for _ in 0..2 {
        bench.start(ResetCause::Watchdog, None).unwrap();
        assert_eq!(booted(&bench).0, SlotId::B);
    }
    bench.start(ResetCause::Crash, None).unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::FellBackToPrevious));
    let status = bench.app_status();
    assert_eq!((status.running_state, status.other_state), (5, 6));
}

#[test]
fn revert_returns_to_the_previous_image() {
    let mut bench = healthy_over_sealed(recipe(2), recipe(3));
    bench.app_unlock().unwrap();
    let revert = [0x31, 1, 2, 0x13];
    for _ in 0..2 {
        assert_eq!(bench.app(&revert).unwrap(), [0x71, 1, 2, 0x13, 0]);
    }
    bench.start(ResetCause::Software, None).unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::FellBackToPrevious));
}

#[test]
fn a_sealed_image_stays_sealed() {
    let mut bench = healthy_over_sealed(recipe(2), recipe(3));
    bench.app_unlock().unwrap();
    for _ in 0..2 {
        assert_eq!(bench.app(&[0x31, 1, 2, 0x12]).unwrap()[0], 0x71);
    }
    assert_eq!(bench.app(&[0x31, 1, 2, 0x13]).unwrap()[0], 0x71);
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench), (SlotId::B, BootReason::Normal));
    assert_eq!(bench.app_status().floor, 3);
}

/// Loses the first sector of a slot's payload.
fn damage(bench: &Bench, slot: SlotId) {
    let setup = Setup::new(true);
    let address = setup.layout.slot(slot).unwrap().payload.address;
    bench.nor.borrow_mut().erase(address).unwrap();
}

#[test]
fn a_damaged_image_never_boots_and_the_floor_decides_what_does() {
    // The previous image is at the floor: it boots.
    let same = Recipe {
        counter: 2,
        ..recipe(3)
    };
    let mut bench = healthy_over_sealed(recipe(2), same);
    bench.app_unlock().unwrap();
    bench.app(&[0x31, 1, 2, 0x12]).unwrap();
    damage(&bench, SlotId::B);
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::FellBackToPrevious));

    // The previous image is below the floor, the factory image too: recovery, which answers.
    let mut bench = healthy_over_sealed(recipe(2), recipe(3));
    bench.app_unlock().unwrap();
    bench.app(&[0x31, 1, 2, 0x12]).unwrap();
    damage(&bench, SlotId::B);
    bench.power_cycle().unwrap();
    assert_eq!(bench.booted, None);
    let status = bench.status().unwrap();
    assert_eq!((status.phase, status.running, status.reason), (0, 0xFF, 6));
    bench.update(&recipe(4).make()).unwrap();
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench).1, BootReason::Normal);
}

#[test]
fn a_factory_image_below_the_floor_starts_in_limp_home_only_where_its_header_allows() {
    let factory = Recipe {
        limp_home: true,
        ..recipe(1)
    };
    let mut bench = Bench::new(&Setup::new(true), &factory.make(), 1);
    bench.update(&recipe(2).make()).unwrap();
    damage(&bench, SlotId::A);
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench), (SlotId::Factory, BootReason::LimpHome));
    bench.app_unlock().unwrap();
    assert_eq!(bench.app(&[0x31, 1, 2, 0x12]).unwrap(), [0x7F, 0x31, 0x22]);
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench), (SlotId::Factory, BootReason::LimpHome));
}

#[test]
fn with_one_update_slot_the_factory_image_bridges_the_gap() {
    let mut bench = Bench::new(&Setup::new(false), &recipe(1).make(), 1);
    // The counter stays, so that the factory image remains bootable.
    let same = |number| Recipe {
        counter: 1,
        ..recipe(number)
    };
    bench.update(&same(2).make()).unwrap();
    bench.stage(&same(3).make()).unwrap();
    bench.power_cycle().unwrap();
    assert_eq!(
        booted(&bench),
        (SlotId::Factory, BootReason::FellBackToFactory)
    );
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    bench.activate().unwrap();
    bench.confirm_and_seal().unwrap();
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::Normal));
}

#[test]
fn with_one_update_slot_and_no_bootable_factory_image_nothing_is_given_up() {
    let mut bench = Bench::new(&Setup::new(false), &recipe(1).make(), 1);
    bench.update(&recipe(2).make()).unwrap();
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    bench.send_metadata(&recipe(3).make()).unwrap_err();
    assert_eq!(bench.last_failure(), 0x0403);
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::Normal));
}

/// Two sealed images of one floor that both crash do not take turns for ever.
#[test]
fn an_ecu_all_of_whose_images_crash_stays_for_a_tester() {
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    for number in [2, 3] {
        let image = Recipe {
            counter: 1,
            ..recipe(number)
        };
        bench.update(&image.make()).unwrap();
        bench.power_cycle().unwrap();
    }
    let mut booted_slots = Vec::new();
    for _ in 0..40 {
        bench.start(ResetCause::Crash, None).unwrap();
        let Some(target) = bench.booted else { break };
        booted_slots.push(target.slot);
    }
    assert_eq!(bench.booted, None, "{booted_slots:?}");
    booted_slots.dedup();
    assert_eq!(booted_slots, [SlotId::B, SlotId::A, SlotId::Factory]);
    bench.enter_programming().unwrap();
}

/// A counter that cannot be read for a while costs a start, and neither the floor nor the images.
#[test]
fn a_counter_that_cannot_be_read_changes_nothing_that_lasts() {
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    bench.stage(&recipe(2).make()).unwrap();
    bench.activate().unwrap();
    assert!(bench.self_test_passed().unwrap());
    bench.app_unlock().unwrap();
    bench.counter.fail(true);
    let answer = bench.app(&[0x31, 1, 0x02, 0x12]).unwrap();
    assert_eq!(answer[..4], [0x71, 1, 0x02, 0x12]);
    bench.power_cycle().unwrap();
    assert_eq!(bench.booted, None);
    bench.counter.fail(false);
    assert_eq!(bench.counter.get(), 2);
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench), (SlotId::A, BootReason::Normal));
}

/// The same where there would be something to keep: a trial, and a factory image for limp-home.
#[test]
fn a_start_without_a_counter_neither_ends_a_trial_nor_falls_back() {
    let factory = Recipe {
        limp_home: true,
        ..recipe(1)
    };
    let mut bench = Bench::new(&Setup::new(true), &factory.make(), 1);
    bench.update(&recipe(2).make()).unwrap();
    bench.stage(&recipe(3).make()).unwrap();
    bench.activate().unwrap();
    let attempts = bench.ecu.state().unwrap().attempts_left;
    for cause in [ResetCause::PowerOn, ResetCause::Crash] {
        bench.counter.fail(true);
        bench.start(cause, None).unwrap();
        assert_eq!(bench.booted, None);
        assert_eq!(bench.ecu.state().unwrap().attempts_left, attempts);
    }
    bench.counter.fail(false);
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench), (SlotId::B, BootReason::Trial));
    bench.start(ResetCause::Crash, None).unwrap();
    assert_eq!(booted(&bench).0, SlotId::A);
    bench.counter.fail(true);
    bench.power_cycle().unwrap();
    assert_eq!(bench.booted, None);
    bench.counter.fail(false);
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench).0, SlotId::A);
}

/// A factory image that is not enough for the floor bridges eight crashes, each counted once.
#[test]
fn limp_home_bridges_as_many_crashes_as_are_counted() {
    let factory = Recipe {
        limp_home: true,
        ..recipe(1)
    };
    let mut bench = Bench::new(&Setup::new(true), &factory.make(), 1);
    bench.update(&recipe(2).make()).unwrap();
    bench.power_cycle().unwrap();
    let mut limped = 0;
    for crashes in 1..16 {
        bench.start(ResetCause::Crash, None).unwrap();
        assert_eq!(bench.ecu.state().unwrap().crashes, crashes);
        let expected = match crashes < 8 {
            true => SlotId::A,
            false => SlotId::Factory,
        };
        assert_eq!(booted(&bench).0, expected, "{crashes}");
        limped += u32::from(booted(&bench).1 == BootReason::LimpHome);
    }
    assert_eq!(limped, 8);
    bench.start(ResetCause::Crash, None).unwrap();
    assert_eq!(bench.booted, None);
}

#[test]
fn an_ecu_whose_only_image_crashes_at_start_can_still_be_programmed() {
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    for _ in 0..7 {
        bench.start(ResetCause::Crash, None).unwrap();
        assert_eq!(booted(&bench).0, SlotId::Factory);
    }
    // From the eighth on a tester gets time; unused, it ends in a reset which boots.
    for _ in 0..2 {
        bench.start(ResetCause::Watchdog, None).unwrap();
        assert_eq!(bench.booted, None);
        bench.pass(Duration::from_secs(6)).unwrap();
        bench.follow_reset().unwrap();
        assert_eq!(booted(&bench).0, SlotId::Factory);
    }
    bench.start(ResetCause::Crash, None).unwrap();
    bench.update(&recipe(2).make()).unwrap();
    bench.power_cycle().unwrap();
    assert_eq!(booted(&bench).0, SlotId::A);
}

//! What must not be installed: each is 0x72 on the wire, the reason is in FD02, and nothing of the
//! slot was erased.

use ecu_bootloader::layout::SlotId;
use ecu_bootloader::platform::COUNTER_JUMP;
use ecu_bootloader::provision::{Parts, ProvisionError, provision};
use ecu_bootloader::reason::Reason;
use ecu_image::{Slot, SlotSet};

use crate::bench::{Bench, Setup, board, keys, parts};
use crate::images::{Image, Recipe, recipe};
use crate::tester::Failed;

const REFUSED: u8 = 0x72;

fn fresh() -> Bench {
    Bench::new(&Setup::new(true), &recipe(1).make(), 1)
}

/// In the programming session, unlocked.
fn ready() -> Bench {
    let mut bench = fresh();
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    bench
}

fn refused(result: Result<(), Failed>) -> u8 {
    match result {
        Err(Failed::Negative { nrc, .. }) => nrc,
        other => panic!("{other:?}"),
    }
}

/// The metadata is refused for this reason, before any erase.
fn check_metadata(bench: &mut Bench, image: &Image, reason: Reason) {
    let before = bench.nor.borrow().operations();
    assert_eq!(refused(bench.send_metadata(image)), REFUSED);
    assert_eq!(bench.last_failure(), reason.code(), "{reason:?}");
    assert_eq!(bench.nor.borrow().operations(), before, "{reason:?}");
    assert_eq!(bench.progress().unwrap().state, 0);
}

/// The factory's page and key set must fit the buffer from which the ECU will read them.
#[test]
fn what_an_ecu_could_not_read_back_is_not_provisioned() {
    let setup = Setup::new(true);
    let factory = recipe(1).make();
    let write = |page_buffer| {
        let mut operations = 0;
        let parts = Parts {
            page_buffer,
            ..parts(&factory, 1)
        };
        let mut scratch = [0; 4096];
        let board = board(setup.layout);
        let result = provision(&board, &mut keys(), &parts, &mut scratch, |_| {
            operations += 1;
            Ok(())
        });
        (result, operations)
    };
    let reason = |(result, operations): (Result<(), ProvisionError>, u32)| match result {
        Err(ProvisionError::Image(failure)) if operations == 0 => failure.reason,
        other => panic!("{other:?} after {operations} operations"),
    };
    let page = factory.page_size;
    assert!(matches!(write(page), (Ok(()), 1..)));
    assert_eq!(reason(write(page - 1)), Reason::HeaderSize);
    assert_eq!(reason(write(100)), Reason::KeySetMalformed);
}

#[test]
fn a_forged_signature() {
    let image = Recipe {
        forged: true,
        ..recipe(2)
    };
    check_metadata(&mut ready(), &image.make(), Reason::HeaderSignature);
}

/// So that one image of a stolen key cannot use up the counter for all that follow.
#[test]
fn a_counter_may_rise_only_so_far() {
    let with = |counter| {
        let image = Recipe {
            counter,
            ..recipe(2)
        };
        image.make()
    };
    let mut bench = ready();
    let highest = 1 + COUNTER_JUMP;
    check_metadata(&mut bench, &with(highest + 1), Reason::HeaderJump);
    check_metadata(&mut bench, &with(u32::MAX), Reason::HeaderJump);
    bench.send_metadata(&with(highest)).unwrap();
}

#[test]
fn another_hardware() {
    let image = Recipe {
        hardware: "DOOR-1",
        ..recipe(2)
    };
    check_metadata(&mut ready(), &image.make(), Reason::HeaderHardware);
}

#[test]
fn a_grant_for_another_ecu_or_a_changed_one() {
    let image = Recipe {
        serial: "SN-0043",
        ..recipe(2)
    };
    check_metadata(&mut ready(), &image.make(), Reason::GrantSerial);
    let mut image = recipe(2).make();
    image.grant[72] ^= 1;
    check_metadata(&mut ready(), &image, Reason::GrantMac);
    let mut image = recipe(2).make();
    image.grant[0] ^= 1;
    check_metadata(&mut ready(), &image, Reason::GrantMalformed);
    let mut image = recipe(2).make();
    image.grant = recipe(3).make().grant;
    check_metadata(&mut ready(), &image, Reason::GrantImage);
}

#[test]
fn a_malformed_header() {
    let mut image = recipe(2).make();
    image.packed[4] = 9;
    check_metadata(&mut ready(), &image, Reason::HeaderMalformed);
}

#[test]
fn an_image_for_another_slot() {
    let image = Recipe {
        slots: SlotSet::only(Slot::Factory),
        ..recipe(2)
    };
    check_metadata(&mut ready(), &image.make(), Reason::HeaderSlot);
}

#[test]
fn an_image_that_is_too_large() {
    let image = Recipe {
        len: 64 * 1024 + 1,
        ..recipe(2)
    };
    check_metadata(&mut ready(), &image.make(), Reason::HeaderSize);
}

#[test]
fn metadata_of_another_length() {
    let mut bench = ready();
    let image = recipe(2).make();
    let mut metadata = image.metadata();
    metadata.extend([0; 4096]);
    let block = bench
        .request_download(0, 0xF000_0000, metadata.len())
        .unwrap();
    let mut blocks = (1..).zip(metadata.chunks(block - 2));
    let end = blocks.find_map(|(counter, data)| bench.block(counter, data).err());
    assert_eq!(end.map_or(0, |failed| refused(Err(failed))), REFUSED);
    assert_eq!(bench.last_failure(), Reason::MetadataLength.code());
}

#[test]
fn a_downgrade_unless_the_grant_excepts_it() {
    let setup = Setup::new(true);
    let mut bench = Bench::new(&setup, &recipe(5).make(), 5);
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    let old = Recipe {
        sequence: 6,
        ..recipe(4)
    };
    check_metadata(&mut bench, &old.make(), Reason::HeaderCounter);
    let excepted = Recipe {
        downgrade: true,
        ..old
    }
    .make();
    bench.stage_unlocked(&excepted).unwrap();
    bench.activate().unwrap();
    bench.confirm_and_seal().unwrap();
    assert_eq!(bench.app_status().floor, 5, "the floor itself never falls");
    bench.power_cycle().unwrap();
    assert_eq!(bench.booted.unwrap().digest, excepted.digest);
}

/// A counter that cannot be read stands above every image, and its room to jump is the largest: a grant
/// that excepts a downgrade must not let an image in that raises the floor to its end.
#[test]
fn what_a_grant_excepts_while_the_counter_cannot_be_read() {
    let mut bench = fresh();
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    let highest = Recipe {
        counter: u32::MAX - 1,
        downgrade: true,
        ..recipe(2)
    }
    .make();
    bench.counter.fail(true);
    check_metadata(&mut bench, &highest, Reason::HeaderCounter);
    bench.counter.fail(false);
    check_metadata(&mut bench, &highest, Reason::HeaderJump);
}

#[test]
fn a_replayed_grant() {
    let mut bench = fresh();
    bench.update(&recipe(3).make()).unwrap();
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    // An older sequence, the same sequence for another image, and the used grant itself.
    check_metadata(&mut bench, &recipe(2).make(), Reason::GrantReplayed);
    let other = Recipe {
        sequence: 3,
        ..recipe(4)
    };
    check_metadata(&mut bench, &other.make(), Reason::GrantReplayed);
    check_metadata(&mut bench, &recipe(3).make(), Reason::GrantReplayed);
}

#[test]
fn a_tampered_table_page() {
    let mut bench = ready();
    let mut image = recipe(2).make();
    image.packed[1536 + 40] ^= 1;
    assert_eq!(refused(bench.send_metadata(&image)), REFUSED);
    assert_eq!(bench.last_failure(), Reason::TablePage.code());
    assert_eq!(bench.progress().unwrap().state, 0);
    // The right table finishes under the same grant.
    bench.stage_unlocked(&recipe(2).make()).unwrap();
}

#[test]
fn a_tampered_page_is_never_programmed() {
    let mut bench = ready();
    let image = recipe(2).make();
    bench.send_metadata(&image).unwrap();
    bench.routine(0xFF00).unwrap();
    let mut tampered = image.clone();
    tampered.packed[image.metadata_len + 4096 + 17] ^= 1;
    assert_eq!(refused(bench.send_pages(&tampered, 0)), REFUSED);
    assert_eq!(bench.last_failure(), Reason::Page.code());
    let progress = bench.progress().unwrap();
    assert_eq!((progress.state, progress.durable), (2, 1));
    let slot = SlotId::A;
    assert!(
        bench.slot_bytes(slot, 8192)[4096..]
            .iter()
            .all(|byte| *byte == 0xFF)
    );
    // The rest goes on where the durable pages end.
    bench.send_pages(&image, 4096).unwrap();
    bench.routine(0x0202).unwrap();
}

#[test]
fn erases_are_bounded() {
    let mut bench = ready();
    bench.send_metadata(&recipe(2).make()).unwrap();
    for _ in 0..8 {
        bench.routine(0xFF00).unwrap();
    }
    assert_eq!(refused(bench.routine(0xFF00)), REFUSED);
    assert_eq!(bench.last_failure(), Reason::ErasesUsedUp.code());
    // The same grant again does not renew them; a new one does.
    bench.send_metadata(&recipe(2).make()).unwrap();
    assert_eq!(refused(bench.routine(0xFF00)), REFUSED);
    let again = Recipe {
        sequence: 3,
        ..recipe(2)
    };
    bench.send_metadata(&again.make()).unwrap();
    bench.routine(0xFF00).unwrap();
}

/// Resets, other sessions and the same grant again do not renew the erases of a grant.
#[test]
fn erases_are_bounded_over_resets() {
    let mut bench = ready();
    let image = recipe(2).make();
    bench.send_metadata(&image).unwrap();
    for left in (0..8).rev() {
        bench.routine(0xFF00).unwrap();
        assert_eq!(bench.progress().unwrap().erases_left, left);
        bench.power_cycle().unwrap();
        bench.enter_programming().unwrap();
        bench.unlock().unwrap();
        if left % 2 == 0 {
            bench.send_metadata(&image).unwrap();
        }
    }
    let before = bench.nor.borrow().erases().to_vec();
    assert_eq!(refused(bench.routine(0xFF00)), REFUSED);
    assert_eq!(bench.last_failure(), Reason::ErasesUsedUp.code());
    // A dropped image does not either: not even its metadata area is erased again.
    bench.routine(0x0213).unwrap();
    check_metadata(&mut bench, &image, Reason::ErasesUsedUp);
    let after = bench.nor.borrow().erases().to_vec();
    let slot = slot_sectors();
    assert_eq!(before[slot.clone()], after[slot]);
}

/// The sectors of slot A.
fn slot_sectors() -> std::ops::Range<usize> {
    let (slot, sector) = (Setup::new(true).layout.slot(SlotId::A).unwrap(), 4096);
    let end = slot.payload.address + slot.payload.len;
    (slot.metadata.address / sector) as usize..(end / sector) as usize
}

/// A grant that is sent again and again, each time up to a table page that is wrong.
#[test]
fn the_metadata_area_is_not_worn_out() {
    let mut bench = ready();
    let mut image = recipe(2).make();
    image.packed[1536] ^= 1;
    let before: u32 = bench.nor.borrow().erases()[slot_sectors()].iter().sum();
    let mut reasons = Vec::new();
    for _ in 0..40 {
        assert_eq!(refused(bench.send_metadata(&image)), REFUSED);
        reasons.push(bench.last_failure());
    }
    let used_up = Reason::ErasesUsedUp.code();
    assert_eq!(reasons[0], Reason::TablePage.code());
    assert_eq!(reasons.last(), Some(&used_up));
    let after: u32 = bench.nor.borrow().erases()[slot_sectors()].iter().sum();
    let sectors = Setup::new(true)
        .layout
        .slot(SlotId::A)
        .unwrap()
        .metadata
        .len
        / 4096;
    assert!(after - before <= 9 * sectors, "{} erases", after - before);
}

#[test]
fn a_download_while_an_image_waits_for_its_seal() {
    let mut bench = fresh();
    bench.stage(&recipe(2).make()).unwrap();
    bench.activate().unwrap();
    assert!(bench.self_test_passed().unwrap());
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    check_metadata(&mut bench, &recipe(3).make(), Reason::Pending);
    // The tester may seal in its place.
    bench.routine(0x0212).unwrap();
    bench.stage_unlocked(&recipe(3).make()).unwrap();
}

#[test]
fn what_rots_in_flash_is_not_staged() {
    let mut bench = ready();
    let image = recipe(2).make();
    bench.send_metadata(&image).unwrap();
    bench.routine(0xFF00).unwrap();
    bench.send_pages(&image, 0).unwrap();
    let setup = Setup::new(true);
    let slot = SlotId::A;
    let place = setup.layout.slot(slot).unwrap().payload.address;
    // A whole sector is lost: the chip's own rules allow no smaller change.
    bench.nor.borrow_mut().erase(place).unwrap();
    assert_eq!(refused(bench.routine(0x0202)), REFUSED);
    assert_eq!(bench.last_failure(), Reason::Page.code());
    assert_ne!(bench.progress().unwrap().state, 4);
}

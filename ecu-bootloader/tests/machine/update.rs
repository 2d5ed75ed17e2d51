//! What should go well.

use ecu_bootloader::boot::BootReason;
use ecu_bootloader::layout::SlotId;

use crate::bench::{Bench, Setup};
use crate::images::recipe;

fn fresh() -> Bench {
    Bench::new(&Setup::new(true), &recipe(1).make(), 1)
}

#[test]
fn a_provisioned_ecu_boots_its_factory_image() {
    let bench = fresh();
    assert_eq!(
        bench.slot_and_reason(),
        Some((SlotId::Factory, BootReason::Normal))
    );
    let target = bench.booted.unwrap();
    let image = recipe(1).make();
    assert_eq!(target.payload_len, 14_000);
    assert_eq!(bench.slot_bytes(SlotId::Factory, 14_000), image.plaintext);
}

#[test]
fn an_update_is_staged_tried_confirmed_and_sealed() {
    let mut bench = fresh();
    let image = recipe(2).make();
    bench.stage(&image).unwrap();
    assert_eq!(bench.progress().unwrap().state, 4);
    bench.activate().unwrap();
    assert_eq!(
        bench.slot_and_reason(),
        Some((SlotId::A, BootReason::Trial))
    );
    assert_eq!(bench.app_status().running_state, 3);
    bench.confirm_and_seal().unwrap();
    let status = bench.app_status();
    assert_eq!((status.running_state, status.floor), (5, 2));
    assert_eq!(bench.slot_bytes(SlotId::A, 14_000), image.plaintext);
    bench.power_cycle().unwrap();
    assert_eq!(
        bench.slot_and_reason(),
        Some((SlotId::A, BootReason::Normal))
    );
}

//! The new image of one ECU fails in trial: every ECU returns to the image before.

use chaos::vehicle::{Oem, World, good};
use tcu::engine::CampaignState;
use virtual_ecu::app::Behaviour;

fn check(behaviour: Behaviour) {
    let mut oem = Oem::new(3);
    let factory = good(&mut oem, (1, 0, 0), 1);
    let mut world = World::new(&mut oem, &factory, 2, 1, 3);
    let release = good(&mut oem, (2, 0, 0), 2);
    let bad = oem.release((2, 0, 0), 2, behaviour, 36_000);
    let campaign = world.plan(&mut oem, &release, &[(1, bad)]);
    world.start_tcu(&campaign, Vec::new());
    assert_eq!(world.run_campaign(), CampaignState::Reverted);
    assert_eq!(world.versions(), vec![Some("1.0.0".to_owned()); 3]);
}

#[test]
fn a_crash_at_start() {
    check(Behaviour::Crash);
}

#[test]
fn a_hang() {
    check(Behaviour::Hang);
}

#[test]
fn a_failed_self_test() {
    check(Behaviour::FailSelfTest);
}

//! Power fails inside flash operations of one ECU in the middle of a campaign.

use chaos::vehicle::{Oem, World, good};
use tcu::engine::CampaignState;

/// Cuts power inside the `operation`-th flash operation of the campaign. Whatever the TCU makes of
/// it, the vehicle is whole: all new or all old.
fn check(operation: u64) -> bool {
    let mut oem = Oem::new(5);
    let factory = good(&mut oem, (1, 0, 0), 1);
    let mut world = World::new(&mut oem, &factory, 1, 1, 5);
    let release = good(&mut oem, (2, 0, 0), 2);
    let campaign = world.plan(&mut oem, &release, &[]);
    world.cut_power(0, operation, operation);
    world.start_tcu(&campaign, Vec::new());
    let state = world.run_campaign();
    let version = match state {
        CampaignState::Completed => "2.0.0",
        CampaignState::Reverted => "1.0.0",
        other => panic!("operation {operation}: {other:?}"),
    };
    let states = world.states();
    for ecu in &states {
        assert_eq!(
            ecu.version.as_deref(),
            Some(version),
            "operation {operation}: {states:?}"
        );
    }
    states[0].cuts > 0
}

#[test]
fn inside_every_flash_operation_of_an_update() {
    let mut operation = 0;
    while check(operation) {
        operation += 1;
        assert!(operation < 300, "an update never ends");
    }
    println!("{operation} flash operations cut");
    assert!(
        operation > 30,
        "only {operation} flash operations in an update of 9 pages"
    );
}

//! The TCU is killed after each record of its journal and started again.

use chaos::vehicle::{Oem, World, good};
use tcu::engine::CampaignState;

/// Kills the TCU when its journal has grown by one record, at every record, and lets the last one
/// finish.
fn check(kill_every: usize) {
    let mut oem = Oem::new(4);
    let factory = good(&mut oem, (1, 0, 0), 1);
    let mut world = World::new(&mut oem, &factory, 1, 1, 4);
    let release = good(&mut oem, (2, 0, 0), 2);
    let campaign = world.plan(&mut oem, &release, &[]);
    world.start_tcu(&campaign, Vec::new());
    let mut kills = 0;
    loop {
        let until = world.journaled() + kill_every;
        world.run_until("another record", |world| {
            world.journaled() >= until || world.tcu_is_finished()
        });
        if world.tcu_is_finished() {
            break;
        }
        let journal = world.kill_tcu();
        kills += 1;
        assert!(kills < 200, "the journal grows without end");
        world.start_tcu(&campaign, journal);
    }
    println!("{kills} kills");
    assert!(kills > 0);
    assert_eq!(world.run_campaign(), CampaignState::Completed);
    assert_eq!(world.versions(), vec![Some("2.0.0".to_owned()); 2]);
}

#[test]
fn at_every_record() {
    check(1);
}

#[test]
fn at_every_third_record() {
    check(3);
}

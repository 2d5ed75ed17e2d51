//! Nothing fails.

use chaos::vehicle::{Oem, World, good};
use tcu::engine::CampaignState;

#[test]
fn one_ecu_on_one_bus_is_updated_and_updated_again() {
    let mut oem = Oem::new(1);
    let factory = good(&mut oem, (1, 0, 0), 1);
    let mut world = World::new(&mut oem, &factory, 1, 0, 1);
    for (version, counter) in [((2, 0, 0), 2), ((3, 0, 0), 3)] {
        let release = good(&mut oem, version, counter);
        let campaign = world.plan(&mut oem, &release, &[]);
        world.start_tcu(&campaign, Vec::new());
        assert_eq!(world.run_campaign(), CampaignState::Completed);
        assert_eq!(world.versions(), [Some(release.version)]);
    }
}

#[test]
fn six_ecus_on_two_buses_are_updated_together() {
    let mut oem = Oem::new(2);
    let factory = good(&mut oem, (1, 0, 0), 1);
    let mut world = World::new(&mut oem, &factory, 3, 3, 2);
    let release = good(&mut oem, (2, 0, 0), 2);
    let campaign = world.plan(&mut oem, &release, &[]);
    world.start_tcu(&campaign, Vec::new());
    assert_eq!(world.run_campaign(), CampaignState::Completed);
    assert_eq!(world.versions(), vec![Some("2.0.0".to_owned()); 6]);
}

//! Rollback. The attacker holds the network and all that was ever published. He serves any old file in the
//! place of any newer one, as many as he likes. The vehicle never goes back behind what it has believed.

use crate::world::{REPOSITORIES, World, installs};

const ROLES: [&str; 3] = ["timestamp", "snapshot", "targets"];

#[test]
fn no_choice_of_old_files_brings_an_old_image_back() {
    let mut world = World::released();
    let first = world.files.clone();
    world.release(2, &[]);
    world.verify().unwrap();
    let mut refused = 0;
    // Each bit says whether one of the six files is the old one.
    for old in 0..1 << (ROLES.len() * REPOSITORIES.len()) {
        let mut vehicle = world.clone();
        for (bit, (repository, role)) in REPOSITORIES
            .iter()
            .flat_map(|repository| ROLES.map(|role| (repository, role)))
            .enumerate()
        {
            if old & (1 << bit) != 0 {
                let file = |number: u8| match role {
                    "timestamp" => format!("{repository}/timestamp.json"),
                    role => format!("{repository}/{number}.{role}.json"),
                };
                vehicle.files.insert(file(2), first[&file(1)].clone());
            }
        }
        match vehicle.verify() {
            Ok(campaign) => assert_eq!(installs(&campaign)["SN-door"], "hw-a/2.0.0.img"),
            Err(_) => refused += 1,
        }
        assert!(world.trust == vehicle.trust, "{old:06b}");
    }
    // What is stored is not asked for again, so only an old timestamp is seen at all.
    assert_eq!(refused, 48);
}

//! Freeze. The attacker holds the network and shows the state of one day for ever. The vehicle believes
//! it until the timestamp expires, seven days, and refuses it from then on.

use crate::vectors::words;
use crate::world::{REPOSITORIES, World};

#[test]
fn the_same_state_is_believed_until_its_timestamp_expires() {
    let mut world = World::released();
    let released = world.now;
    for day in 0..7 {
        world.now = released.plus_days(day);
        world.verify().unwrap();
    }
    for day in [7, 8, 400] {
        world.now = released.plus_days(day);
        let (of, rule) = words(&world.verify().unwrap_err());
        assert!(of.starts_with("director/"), "{of}");
        assert_eq!(rule, "expired", "{day}");
    }
}

#[test]
fn one_frozen_repository_beside_a_live_one_is_seen() {
    for frozen in REPOSITORIES {
        let mut world = World::released();
        world.now = world.now.plus_days(8);
        for live in REPOSITORIES.into_iter().filter(|it| *it != frozen) {
            world.publish(live, 2, &[]);
        }
        let refusal = words(&world.verify().unwrap_err());
        assert_eq!(refusal, (format!("{frozen}/timestamp"), "expired"));
    }
}

//! Drop requests. The attacker holds the network and lets any of the vehicle's requests end with nothing.
//! The vehicle keeps what it has, and goes on as soon as it is answered.

use crate::world::{World, installs};

#[test]
fn whatever_is_dropped_the_vehicle_keeps_what_it_has_and_goes_on_later() {
    let mut world = World::released();
    world.release(2, &[]);
    let news = |name: &str| name.contains("timestamp") || name.contains("/2.");
    let names = world.files.keys().filter(|name| news(name)).cloned();
    let names: Vec<String> = names.collect();
    assert_eq!(names.len(), 6);
    for dropped in names {
        let mut vehicle = world.clone();
        let stored = vehicle.trust.clone();
        vehicle.files.remove(&dropped).unwrap();
        let refusal = vehicle.verify().unwrap_err();
        assert!(refusal.to_string().ends_with("missing"), "{refusal}");
        assert_eq!(vehicle.trust, stored);
        vehicle.files = world.files.clone();
        let campaign = vehicle.verify().unwrap();
        assert_eq!(installs(&campaign)["SN-door"], "hw-a/2.0.0.img");
    }
}

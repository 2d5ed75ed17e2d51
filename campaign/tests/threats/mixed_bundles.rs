//! Mixed bundles. The attacker shows different ECUs of the vehicle different updates, or brings statements
//! of several vehicles together. The vehicle has one director whose one statement is for its VIN, names each
//! ECU once, and is believed whole.

use serde_json::json;

use crate::vectors::words;
use crate::world::{Edit, World, installs};

fn refusal(set: serde_json::Value) -> (String, &'static str) {
    let mut world = World::released();
    world.release(2, &[Edit::new("director/targets", set)]);
    words(&world.verify().unwrap_err())
}

#[test]
fn a_statement_is_for_one_vehicle() {
    let other = refusal(json!({"/custom/vin": "WCANPS00000000002"}));
    assert_eq!(other, ("director/targets".into(), "other-vehicle"));
    let nobody = refusal(json!({"/custom": null}));
    assert_eq!(nobody, ("director/targets".into(), "custom"));
}

#[test]
fn an_ecu_gets_one_image_and_it_is_that_of_its_hardware() {
    let lamp = "/targets/hw-b~12.0.0.img/custom/ecuIdentifiers/SN-door";
    let twice = refusal(json!({lamp: {"hardwareId": "hw-b"}}));
    assert_eq!(twice, ("hw-b/2.0.0.img".into(), "ecu-twice"));
    let door = "/targets/hw-a~12.0.0.img/custom/ecuIdentifiers/SN-door/hardwareId";
    let other = refusal(json!({door: "hw-b"}));
    assert_eq!(other, ("hw-a/2.0.0.img".into(), "hardware"));
}

#[test]
fn all_ecus_of_one_hardware_get_what_the_director_says_of_each() {
    let mut world = World::released();
    world.release(2, &[]);
    let campaign = world.verify().unwrap();
    let all: Vec<_> = installs(&campaign).into_values().collect();
    assert_eq!(all, ["hw-a/2.0.0.img", "hw-b/2.0.0.img", "hw-a/2.0.0.img"]);
}

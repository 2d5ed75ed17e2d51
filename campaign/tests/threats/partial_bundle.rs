//! Partial bundle. The attacker holds the network and delivers a part of an update: some documents, or a
//! part of one, or what names a part of the ECUs. The vehicle believes a campaign whole or not at all.

use serde_json::json;

use crate::world::{Edit, World, installs};

#[test]
fn a_document_cut_anywhere_is_refused() {
    let mut world = World::released();
    world.release(2, &[]);
    let names: Vec<String> = world.files.keys().cloned().collect();
    for name in names
        .iter()
        .filter(|name| name.contains("/2.") || name.contains("timestamp"))
    {
        let whole = world.files[name].clone();
        let cuts = (0..whole.len() - 1).step_by(97).chain([whole.len() - 2]);
        for cut in cuts {
            world.files.insert(name.clone(), whole[..cut].to_vec());
            let before = world.trust.clone();
            assert!(world.verify().is_err(), "{name} of {cut} bytes");
            assert_eq!(world.trust, before);
        }
        world.files.insert(name.clone(), whole);
    }
    world.verify().unwrap();
}

/// The targets that one ECU would install are taken out of the director's statement.
#[test]
fn an_ecu_cannot_be_taken_out_of_a_statement() {
    let mut world = World::released();
    let without = Edit::new(
        "director/targets",
        json!({"/targets/hw-b~12.0.0.img": null}),
    );
    world.release(2, &[without.signed_by(&[])]);
    assert!(world.verify().is_err());
    // The director itself may.
    let without = Edit::new(
        "director/targets",
        json!({"/targets/hw-b~12.0.0.img": null}),
    );
    world.release(2, &[without]);
    let campaign = world.verify().unwrap();
    assert_eq!(installs(&campaign).len(), 2);
}

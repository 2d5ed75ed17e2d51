//! Eavesdrop. The attacker holds the network and reads all that is published for the vehicle. The vehicle
//! gives nothing away: it only asks for names. Images are encrypted page by page (`ecu-image`), and what is
//! published of a content key is wrapped for one ECU.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::grants::CONTENT_KEY;
use crate::world::World;

#[test]
fn no_content_key_is_published() {
    let world = World::released();
    let director: Value = serde_json::from_slice(&world.files["director/1.targets.json"]).unwrap();
    let mut grants = 0;
    for target in director["signed"]["targets"].as_object().unwrap().values() {
        let ecus = target["custom"]["ecuIdentifiers"].as_object().unwrap();
        for ecu in ecus.values() {
            let grant = STANDARD.decode(ecu["grant"].as_str().unwrap()).unwrap();
            assert!(!contains(&grant, &CONTENT_KEY));
            grants += 1;
        }
    }
    assert_eq!(grants, 3);
    for bytes in world.files.values() {
        for key in [CONTENT_KEY.to_vec(), hex::encode(CONTENT_KEY).into_bytes()] {
            assert!(!contains(bytes, &key));
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

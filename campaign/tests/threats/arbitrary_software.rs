//! Arbitrary software. The attacker holds the network, and keys of his own but none of the vehicle's. He
//! changes any document, signs it himself, or sends anything. The vehicle installs nothing of his.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::vectors::words;
use crate::world::{Edit, REPOSITORIES, World, installs, sign};

#[test]
fn documents_by_other_keys_are_refused_in_every_role() {
    for repository in REPOSITORIES {
        for role in ["root", "timestamp", "snapshot", "targets"] {
            let document = format!("{repository}/{role}");
            let mut world = World::released();
            let edit = Edit::new(&document, json!({})).signed_by(&["stranger"]);
            world.release(2, &[edit]);
            let (of, rule) = words(&world.verify().unwrap_err());
            assert_eq!(of, document);
            assert!(rule.ends_with("signatures"), "{rule}");
        }
    }
}

/// Signed by everybody but those who speak for the role.
#[test]
fn keys_of_other_roles_do_not_help() {
    for repository in REPOSITORIES {
        for role in ["timestamp", "snapshot", "targets"] {
            let mut signers = Vec::new();
            for (of, by) in REPOSITORIES
                .iter()
                .flat_map(|of| ["root", "timestamp", "snapshot", "targets"].map(|by| (of, by)))
                .filter(|it| *it != (&repository, role))
            {
                signers.push(format!("{of}-{by}"));
            }
            let signers: Vec<&str> = signers.iter().map(String::as_str).collect();
            let mut world = World::released();
            let edit = Edit::new(&format!("{repository}/{role}"), json!({}));
            world.release(2, &[edit.signed_by(&signers)]);
            let refusal = words(&world.verify().unwrap_err());
            assert_eq!(refusal, (format!("{repository}/{role}"), "signatures"));
        }
    }
}

#[test]
fn a_root_of_his_own_is_no_successor() {
    for repository in REPOSITORIES {
        let mut world = World::released();
        let own = sign(
            &json!({"_type": "root", "spec_version": "1.0.33", "version": 2,
            "expires": world.now.plus_days(30), "keys": {}, "roles": roles("stranger")}),
            &["stranger".into()],
        );
        world.files.insert(format!("{repository}/2.root.json"), own);
        let refusal = words(&world.verify().unwrap_err());
        assert_eq!(
            refusal,
            (format!("{repository}/root"), "predecessor-signatures")
        );
    }
}

fn roles(name: &str) -> Value {
    let role = json!({"keyids": [name], "threshold": 1});
    json!({"root": role, "timestamp": role, "snapshot": role, "targets": role})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_changed_byte_changes_nothing_or_is_refused(
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        value: u8,
    ) {
        let mut world = World::released();
        world.release(2, &[]);
        let names: Vec<String> = world.files.keys().cloned().collect();
        let bytes = world.files.get_mut(&names[file.index(names.len())]).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(campaign) = world.verify() {
            prop_assert_eq!(&installs(&campaign)["SN-door"], "hw-a/2.0.0.img");
        }
    }
}

//! Mix and match. The attacker holds the network and combines files of several releases that were never
//! published together. The vehicle takes one state of each repository or none, and an image only where both
//! agree on it.

use crate::world::{REPOSITORIES, World, installs};

const ROLES: [&str; 3] = ["timestamp", "snapshot", "targets"];

#[test]
fn files_of_two_releases_are_one_release_or_nothing() {
    let mut first = World::new();
    first.release(1, &[]);
    let mut second = first.clone();
    second.release(2, &[]);
    let mut found = Vec::new();
    for choice in 0..1 << (ROLES.len() * REPOSITORIES.len()) {
        let served = |name: &str| {
            let (repository, file) = name.split_once('/').unwrap();
            let side = REPOSITORIES
                .iter()
                .position(|it| *it == repository)
                .unwrap();
            let role = ROLES.iter().position(|role| file.contains(role))?;
            // Under whatever name it is asked for.
            let number = 1 + (choice >> (side * ROLES.len() + role) & 1);
            match ROLES[role] {
                "timestamp" if number == 1 => first.files.get(name),
                "timestamp" => second.files.get(name),
                role => second
                    .files
                    .get(&format!("{repository}/{number}.{role}.json")),
            }
        };
        if let Ok((campaign, _)) = first.verify_served(served) {
            found.push((choice, installs(&campaign)["SN-door"].clone()));
        }
    }
    let (old, new) = ("hw-a/1.0.0.img".to_string(), "hw-a/2.0.0.img".to_string());
    // Both releases whole, and the old statement of the director beside the images of today, which
    // still have what it names; never images of yesterday beside a newer statement.
    assert_eq!(
        found,
        [(0b000_000, old.clone()), (0b000_111, old), (0b111_111, new)]
    );
}

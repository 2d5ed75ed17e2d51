//! One stolen key. The attacker holds the network and one key of a repository. The vehicle installs nothing
//! that was not published, whichever key it is. A director's timestamp key alone keeps it from news until
//! the snapshot expires; a director's root key alone directs it to what is still published, old or new,
//! where the ECUs have the last word: no grant twice, no counter below the floor.

use std::collections::BTreeSet;

use crate::stolen::{Goal, all_keys, reached};

#[test]
fn one_key_installs_nothing_of_the_thiefs() {
    assert_eq!(reached(&[]), BTreeSet::new());
    for key in all_keys() {
        let expected: &[Goal] = match key.as_str() {
            "director-root" => &[Goal::OldImage, Goal::Freeze],
            "director-timestamp" => &[Goal::Freeze],
            _ => &[],
        };
        let expected = expected.iter().copied().collect();
        assert_eq!(reached(&[&key]), expected, "{key}");
    }
}

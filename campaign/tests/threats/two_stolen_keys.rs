//! Two stolen keys. The attacker holds the network and any two keys of the repositories. Only both roots
//! together make the verifier believe an image that was never published; then the ECUs still ask for the
//! image key's signature and for a grant. Any other pair does what its single keys do.

use std::collections::BTreeSet;

use crate::stolen::{Goal, all_keys, reached};

#[test]
fn only_both_roots_together_publish_and_direct_an_image() {
    let keys = all_keys();
    let mut pairs = 0;
    for (at, one) in keys.iter().enumerate() {
        for other in &keys[at + 1..] {
            let mut expected = BTreeSet::new();
            let pair = [one.as_str(), other.as_str()];
            for key in pair {
                match key {
                    "director-root" => expected.extend([Goal::OldImage, Goal::Freeze]),
                    "director-timestamp" => expected.extend([Goal::Freeze]),
                    _ => {}
                }
            }
            if pair == ["image-root", "director-root"] {
                expected.insert(Goal::ArbitrarySoftware);
            }
            assert_eq!(reached(&pair), expected, "{pair:?}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 28);
}

/// All that is online: the director's keys but its root, and the image repository's timestamp.
#[test]
fn all_online_keys_together_install_nothing_that_was_not_published() {
    let online = [
        "image-timestamp",
        "director-timestamp",
        "director-snapshot",
        "director-targets",
    ];
    assert_eq!(
        reached(&online),
        BTreeSet::from([Goal::OldImage, Goal::Freeze])
    );
}

/// Everything but a root of the image repository and its targets key.
#[test]
fn without_the_image_repositorys_targets_key_there_is_no_image() {
    let most: Vec<String> = all_keys();
    let most: Vec<&str> = most
        .iter()
        .map(String::as_str)
        .filter(|key| !["image-root", "image-targets"].contains(key))
        .collect();
    assert!(!reached(&most).contains(&Goal::ArbitrarySoftware));
    let mut with: Vec<&str> = most;
    with.push("image-targets");
    assert!(
        reached(&with).contains(&Goal::ArbitrarySoftware),
        "the thief is not as able as he should be"
    );
}

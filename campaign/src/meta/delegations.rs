//! Delegations of a targets role: who else speaks for which targets.

use super::{Key, KeyId, RoleKeys};
use crate::ids::HardwareId;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The delegations of one targets document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delegations {
    /// Keys of the delegated roles.
    pub keys: BTreeMap<KeyId, Key>,
    /// The delegated roles, the first one asked first.
    #[serde(default)]
    pub roles: Vec<DelegatedRole>,
    /// Fields that this version does not know; succinct roles (TAP 15) among them.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// One delegated role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// Its name, which is also that of its document.
    pub name: String,
    /// Its keys.
    pub keyids: Vec<KeyId>,
    /// How many of them must sign.
    pub threshold: u32,
    /// Whether the search ends here, found or not, for the targets that it is trusted for.
    pub terminating: bool,
    /// Patterns of the target names that it is trusted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Instead of patterns: beginnings of SHA-256 of the target name, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
    /// Hardware types that it is trusted for; all where it does not say (Uptane Standard 2.1, clause
    /// 5.2.3.2).
    #[serde(
        default,
        rename = "hardwareIds",
        skip_serializing_if = "Option::is_none"
    )]
    pub hardware_ids: Option<Vec<HardwareId>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl DelegatedRole {
    /// Its keys and threshold; `None` where a key is named twice or the threshold is 0.
    #[must_use]
    pub fn keys(&self) -> Option<RoleKeys> {
        RoleKeys::new(self.keyids.clone(), self.threshold)
    }

    /// Whether the role is trusted for the target called `path` on all of this hardware.
    #[must_use]
    pub fn covers(&self, path: &str, hardware: &BTreeSet<HardwareId>) -> bool {
        let trusted = self.hardware_ids.as_ref();
        self.covers_path(path)
            && trusted.is_none_or(|trusted| hardware.iter().all(|it| trusted.contains(it)))
    }

    fn covers_path(&self, path: &str) -> bool {
        match (&self.paths, &self.path_hash_prefixes) {
            (Some(patterns), None) => patterns.iter().any(|pattern| matches(pattern, path)),
            (None, Some(prefixes)) => {
                let digest = alloc::format!("{}", crate::ids::sha256(path.as_bytes()));
                prefixes.iter().any(|prefix| digest.starts_with(prefix))
            }
            // Both or neither: not what TUF knows, so trusted for nothing.
            _ => false,
        }
    }
}

/// `*` stands for any characters of one path part, `?` for one of them.
fn matches(pattern: &str, path: &str) -> bool {
    let mut patterns = pattern.split('/');
    let mut parts = path.split('/');
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if part_matches(pattern, part) => {}
            _ => return false,
        }
    }
}

/// Greedy, going back to the last `*` only: linear in practice, quadratic at worst.
fn part_matches(pattern: &str, part: &str) -> bool {
    let mut pattern = pattern.chars();
    let mut part = part.chars();
    let mut back = None;
    loop {
        let here = (pattern.clone(), part.clone());
        match (pattern.next(), part.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                part = here.1;
                back = Some((pattern.clone(), part.clone()));
                continue;
            }
            (Some('?'), Some(_)) => continue,
            (Some(want), Some(have)) if want == have => continue,
            _ => {}
        }
        let Some((after_star, mut from)) = back else {
            return false;
        };
        // The star takes one character more.
        if from.next().is_none() {
            return false;
        }
        pattern = after_star.clone();
        part = from.clone();
        back = Some((after_star, from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stays_within_its_part() {
        for (pattern, path, covered) in [
            ("*", "a.img", true),
            ("*", "a/b.img", false),
            ("brake/*", "brake/1.0.img", true),
            ("brake/*.img", "brake/1.0.img", true),
            ("brake/*.img", "brake/1.0.bin", false),
            ("*/a?c", "x/abc", true),
            ("*/a?c", "x/ac", false),
            ("*a*b*", "xaybz", true),
            ("*a*b*", "xbya", false),
            ("", "", true),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern, path), covered, "{pattern} {path}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_hangs_or_panics(pattern in "[a*?/]{0,24}", path in "[ab/]{0,24}") {
            matches(&pattern, &path);
        }

        #[test]
        fn a_name_matches_itself(path in "[a-z./]{0,24}") {
            prop_assert!(matches(&path, &path));
        }
    }
}

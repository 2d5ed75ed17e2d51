//! Identifiers as types that hold only valid values, in deserialisation too.
//!
//! Names that end up in paths, in UDS records or in the fixed fields of the image header are
//! bounded here once, so nothing behind this module checks them again. What the image header and the
//! grant also hold has its types there.

use alloc::{borrow::ToOwned, string::String};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, de};

pub use ecu_image::{
    Digest, EcuSerial as Serial, HardwareId, ImageDigest, ImageVersion as Version, SecurityCounter,
    SequenceNumber,
    provision::{CanIdText as CanId, Vin},
};

/// Text that is not a valid value of an identifier type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    /// Which kind of identifier was expected.
    pub what: &'static str,
    /// The text, shortened to 64 characters.
    pub found: String,
    /// What is allowed.
    pub rule: &'static str,
}

impl InvalidId {
    pub(crate) fn new(what: &'static str, found: &str, rule: &'static str) -> Self {
        let found = found.chars().take(64).collect();
        Self { what, found, rule }
    }
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a {}: {}", self.found, self.what, self.rule)
    }
}

impl core::error::Error for InvalidId {}

/// Declares a text newtype: name, what it is called, its rule in words, and the rule.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("A ", $what, " from text: ", $rule, ".")]
            ///
            /// # Errors
            ///
            /// [`InvalidId`] with the rule.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId::new($what, text, $rule))
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }
    };
}

/// Letters, digits, `-`, `_` and `.`, not starting with a dot: safe as a file name everywhere.
fn is_file_name(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

text_id!(
    /// The name of an ECU within its vehicle.
    EcuName,
    "ECU name",
    "1 to 32 letters, digits, '-', '_' or '.', not starting with '.'",
    |text| is_file_name(text, 32)
);

text_id!(
    /// The name of a bus within its vehicle.
    BusName,
    "bus name",
    "1 to 32 letters, digits, '-', '_' or '.', not starting with '.'",
    |text| is_file_name(text, 32)
);

text_id!(
    /// The name of a campaign.
    CampaignId,
    "campaign id",
    "1 to 64 letters, digits, '-', '_' or '.', not starting with '.'",
    |text| is_file_name(text, 64)
);

text_id!(
    /// The name of a target in the metadata: a relative path without `.`, `..` or empty parts.
    TargetPath,
    "target path",
    "1 to 200 characters, parts of letters, digits, '-', '_' and '.' between single slashes",
    |text| text.len() <= 200 && text.split('/').all(|part| is_file_name(part, 200))
);

/// The digest of a file: SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    ecu_image::crypto::sha256(&[bytes])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn names_refuse_what_could_leave_a_directory() {
        for bad in ["", ".", "..", ".x", "a/b", "a b", "ä", "a\0"] {
            assert!(EcuName::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a\\b", "a/.b"] {
            assert!(TargetPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(TargetPath::new("brake-mcu/1.2.3.img").is_ok());
    }

    #[test]
    fn the_error_says_what_and_why() {
        let error = CampaignId::new("a b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"a b\" is not a campaign id: 1 to 64 letters, digits, '-', '_' or '.', not starting with '.'"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = (EcuName::new(&text), TargetPath::new(&text));
        }
    }
}

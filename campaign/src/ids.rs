//! Identifiers as types that hold only valid values, in deserialisation too.
//!
//! Names that end up in paths, in UDS records or in the fixed fields of the image header are
//! bounded here once, so nothing behind this module checks them again.

use alloc::{borrow::ToOwned, format, string::String};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

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
    fn new(what: &'static str, found: &str, rule: &'static str) -> Self {
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

fn is_graphic(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

text_id!(
    /// A vehicle identification number (ISO 3779), as in DID F190.
    Vin,
    "VIN",
    "17 capital letters and digits without I, O and Q",
    |text| text.len() == 17
        && text.bytes().all(|byte| {
            (byte.is_ascii_uppercase() || byte.is_ascii_digit()) && !b"IOQ".contains(&byte)
        })
);

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
    /// An ECU's serial number, as in DID F18C and in the install grant.
    Serial,
    "serial number",
    "1 to 32 printable ASCII characters without space",
    |text| is_graphic(text, 32)
);

text_id!(
    /// A hardware type, as in DID F191 and in the image header.
    HardwareId,
    "hardware id",
    "1 to 32 printable ASCII characters without space",
    |text| is_graphic(text, 32)
);

text_id!(
    /// The name of a target in the metadata: a relative path without `.`, `..` or empty parts.
    TargetPath,
    "target path",
    "1 to 200 characters, parts of letters, digits, '-', '_' and '.' between single slashes",
    |text| text.len() <= 200 && text.split('/').all(|part| is_file_name(part, 200))
);

/// A version `major.minor.patch`, as in the image header and DID F195.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Incompatible changes.
    pub major: u16,
    /// Additions.
    pub minor: u16,
    /// Corrections.
    pub patch: u32,
}

impl FromStr for Version {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let number = |part: &str| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            let shortest = part.len() == 1 || !part.starts_with('0');
            (digits && shortest).then(|| part.parse::<u32>().ok())?
        };
        let parse = || {
            let mut parts = text.split('.').map(number);
            let mut next = || parts.next().flatten();
            let version = Self {
                major: next()?.try_into().ok()?,
                minor: next()?.try_into().ok()?,
                patch: next()?,
            };
            parts.next().is_none().then_some(version)
        };
        let rule = "major.minor.patch, at most 65535.65535.4294967295";
        parse().ok_or_else(|| InvalidId::new("version", text, rule))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}.{}", self.major, self.minor, self.patch))
    }
}

/// A number that only rises with corrections of security; an ECU refuses images below its floor.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SecurityCounter(pub u32);

impl fmt::Display for SecurityCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A SHA-256 digest; 64 lower-case hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let error = || InvalidId::new("SHA-256 digest", text, "64 lower-case hexadecimal digits");
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| error())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Serialises through `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

/// A CAN identifier as configuration text: three hexadecimal digits for 11 bits, eight for 29, as
/// candump writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CanId {
    /// 11 bits.
    Standard(u16),
    /// 29 bits.
    Extended(u32),
}

impl CanId {
    /// The identifier's value without its width.
    #[must_use]
    pub fn raw(self) -> u32 {
        match self {
            Self::Standard(id) => u32::from(id),
            Self::Extended(id) => id,
        }
    }

    /// Whether the identifier has 29 bits.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        matches!(self, Self::Extended(_))
    }
}

impl FromStr for CanId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let rule = "3 hexadecimal digits up to 7FF, or 8 up to 1FFFFFFF";
        let error = || InvalidId::new("CAN identifier", text, rule);
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error());
        }
        let raw = u32::from_str_radix(text, 16).map_err(|_| error())?;
        match (text.len(), u16::try_from(raw)) {
            (3, Ok(raw @ 0..=0x7FF)) => Ok(Self::Standard(raw)),
            (8, _) if raw <= 0x1FFF_FFFF => Ok(Self::Extended(raw)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for CanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(id) => write!(f, "{id:03X}"),
            Self::Extended(id) => write!(f, "{id:08X}"),
        }
    }
}

serde_as_text!(Version, Digest, CanId);

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
        assert!(HardwareId::new(&"x".repeat(33)).is_err());
    }

    #[test]
    fn a_vin_has_17_unambiguous_characters() {
        assert!(Vin::new("WCANPS00000000001").is_ok());
        assert!(Vin::new("WCANOPUS000000001").is_err());
        assert!(Vin::new("WCAN").is_err());
    }

    #[test]
    fn the_error_says_what_and_why() {
        assert_eq!(
            Vin::new("x").unwrap_err().to_string(),
            "\"x\" is not a VIN: 17 capital letters and digits without I, O and Q"
        );
    }

    #[test]
    fn can_identifiers_are_candump_text() {
        assert_eq!("7E0".parse(), Ok(CanId::Standard(0x7E0)));
        assert_eq!("18DA10F1".parse(), Ok(CanId::Extended(0x18DA_10F1)));
        for bad in ["800", "7e", "+7E", "2FFFFFFF", "0x7E0", "", "G00"] {
            assert!(bad.parse::<CanId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn versions_are_three_plain_numbers() {
        for bad in [
            "1.2",
            "1.2.3.4",
            "01.2.3",
            "1.2.x",
            "1..3",
            "65536.0.0",
            "+1.2.3",
        ] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn versions_survive_text(major: u16, minor: u16, patch: u32) {
            let version = Version { major, minor, patch };
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }

        #[test]
        fn digests_survive_text(bytes: [u8; 32]) {
            prop_assert_eq!(Digest(bytes).to_string().parse(), Ok(Digest(bytes)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (text.parse::<Version>(), text.parse::<CanId>(), text.parse::<Digest>());
            let _ = (Vin::new(&text), TargetPath::new(&text));
        }
    }
}

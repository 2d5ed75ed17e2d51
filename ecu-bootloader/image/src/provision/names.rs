//! Names, the VIN and CAN identifiers, as text.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::TextError;
use crate::serde_text::as_text;

/// A name: 1 to 64 letters, digits, `-`, `_` or `.`, not starting with a dot. Safe as a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        match text.bytes().find(|byte| !allowed(byte)) {
            Some(byte) => Err(TextError::Character(byte)),
            None if text.is_empty() => Err(TextError::Empty),
            None if text.len() > 64 => Err(TextError::TooLong(text.len())),
            None if text.starts_with('.') => Err(TextError::Character(b'.')),
            None => Ok(Self(text.into())),
        }
    }
}

/// A vehicle identification number (ISO 3779): 17 digits or capital letters other than I, O and Q.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vin(String);

impl Vin {
    /// The 17 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Vin {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let allowed = |byte: u8| {
            byte.is_ascii_digit() || (byte.is_ascii_uppercase() && !b"IOQ".contains(&byte))
        };
        if text.len() == 17 && text.bytes().all(allowed) {
            return Ok(Self(text.into()));
        }
        Err(TextError::Notation(
            "a VIN of 17 digits or capital letters without I, O, Q",
        ))
    }
}

macro_rules! shown_as_text {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )+};
}

shown_as_text!(Name, Vin);

/// A CAN identifier as candump writes it. This crate knows no CAN; `uds` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CanIdText {
    raw: u32,
    extended: bool,
}

impl CanIdText {
    /// An 11-bit identifier, or `None` above `0x7FF`.
    #[must_use]
    pub const fn standard(raw: u32) -> Option<Self> {
        if raw > 0x7FF {
            return None;
        }
        Some(Self {
            raw,
            extended: false,
        })
    }

    /// A 29-bit identifier, or `None` above `0x1FFF_FFFF`.
    #[must_use]
    pub const fn extended(raw: u32) -> Option<Self> {
        if raw > 0x1FFF_FFFF {
            return None;
        }
        Some(Self {
            raw,
            extended: true,
        })
    }

    /// The value without its width.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.raw
    }

    /// Whether it has 29 bits.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        self.extended
    }
}

impl fmt::Display for CanIdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.extended {
            write!(f, "{:08X}", self.raw)
        } else {
            write!(f, "{:03X}", self.raw)
        }
    }
}

impl FromStr for CanIdText {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let expected = TextError::Notation(
            "a CAN identifier of 3 (11 bits) or 8 (29 bits) hexadecimal digits",
        );
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let raw = u32::from_str_radix(text, 16)
            .ok()
            .filter(|_| digits)
            .ok_or(expected)?;
        let id = match text.len() {
            3 => Self::standard(raw),
            8 => Self::extended(raw),
            _ => None,
        };
        id.ok_or(expected)
    }
}

as_text!(Name, Vin, CanIdText);

//! The identifiers and quantities of an image: each type holds only what the specification allows.

use core::fmt;
use core::str::FromStr;

/// Why a text is not an identifier, version or digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextError {
    /// Nothing there.
    Empty,
    /// Longer than its field, in bytes.
    TooLong(usize),
    /// A byte that is not printable ASCII, or a space.
    Character(u8),
    /// Not the notation that is expected, which is named.
    Notation(&'static str),
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong(len) => write!(f, "is too long ({len} bytes)"),
            Self::Character(byte) => {
                write!(f, "contains byte {byte:#04x}, not printable ASCII")
            }
            Self::Notation(expected) => write!(f, "is not {expected}"),
        }
    }
}

impl core::error::Error for TextError {}

/// 1 to 32 characters of printable ASCII without space, zero-filled.
const fn ascii_field(text: &str) -> Result<[u8; 32], TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    let mut field = [0; 32];
    // `const` code has no iterators.
    let mut bytes = text.as_bytes();
    let mut places: &mut [u8] = &mut field;
    while let [byte, rest @ ..] = bytes {
        if !byte.is_ascii_graphic() {
            return Err(TextError::Character(*byte));
        }
        let [place, more @ ..] = places else {
            return Err(TextError::TooLong(text.len()));
        };
        *place = *byte;
        (bytes, places) = (rest, more);
    }
    Ok(field)
}

/// The text of a zero-filled field, without the fill.
fn ascii_bytes(field: &[u8; 32]) -> &[u8] {
    let len = field.iter().position(|byte| *byte == 0).unwrap_or(32);
    field.get(..len).unwrap_or(&[])
}

/// Whether a field is one that [`ascii_field`] makes.
#[inline(never)]
pub(crate) fn check_field(field: &[u8; 32]) -> Result<(), TextError> {
    let text = ascii_bytes(field);
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    let (_, fill) = field.split_at_checked(text.len()).unwrap_or((&[], &[]));
    let bad = text.iter().find(|byte| !byte.is_ascii_graphic());
    match bad.or(fill.iter().find(|byte| **byte != 0)) {
        Some(byte) => Err(TextError::Character(*byte)),
        None => Ok(()),
    }
}

macro_rules! ascii_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The identifier of a text, as a constant too.
            ///
            /// # Errors
            /// Empty, longer than 32 characters, or not printable ASCII.
            pub const fn new(text: &str) -> Result<Self, TextError> {
                match ascii_field(text) {
                    Ok(field) => Ok(Self(field)),
                    Err(error) => Err(error),
                }
            }

            /// The identifier of a zero-filled field of 32 bytes.
            ///
            /// # Errors
            /// Empty, not printable ASCII, or bytes after the first zero.
            pub fn from_field(field: &[u8; 32]) -> Result<Self, TextError> {
                check_field(field).map(|()| Self(*field))
            }

            /// The zero-filled field.
            #[must_use]
            pub const fn as_field(&self) -> &[u8; 32] {
                &self.0
            }

            /// The text without the fill.
            #[must_use]
            pub fn as_str(&self) -> &str {
                core::str::from_utf8(self.as_bytes()).unwrap_or("")
            }

            /// The characters without the fill.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                ascii_bytes(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.as_str())
            }
        }
    };
}

ascii_id! {
    /// The type of hardware an image is for: 1 to 32 characters of printable ASCII without space.
    HardwareId
}

ascii_id! {
    /// The serial of one ECU: 1 to 32 characters of printable ASCII without space.
    EcuSerial
}

/// Fills `bytes` from hexadecimal digits of exactly twice its length.
fn from_hex(text: &str, bytes: &mut [u8], expected: &'static str) -> Result<(), TextError> {
    let error = TextError::Notation(expected);
    let digits = text.as_bytes();
    if digits.len() != bytes.len().saturating_mul(2) {
        return Err(error);
    }
    let nibble = |digit: &u8| {
        let value = char::from(*digit).to_digit(16).ok_or(error)?;
        u8::try_from(value).map_err(|_| error)
    };
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return Err(error) };
        *byte = (nibble(high)? << 4) | nibble(low)?;
    }
    Ok(())
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $notation:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                let mut bytes = [0; $len];
                from_hex(text, &mut bytes, $notation)?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            /// Lower-case hexadecimal.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

byte_id! {
    /// SHA-256 of something: a page, a table page, the ciphertext, the salted plaintext.
    Digest, 32, "64 hexadecimal digits"
}

byte_id! {
    /// The identity of an image: SHA-256 of the signed bytes of its header.
    ImageDigest, 32, "64 hexadecimal digits"
}

byte_id! {
    /// The identity of a public key: the first 8 bytes of SHA-256 of its big-endian modulus, or of
    /// the two coordinates of its point.
    KeyId, 8, "16 hexadecimal digits"
}

byte_id! {
    /// The random start of all page IVs of an image.
    IvSeed, 16, "32 hexadecimal digits"
}

byte_id! {
    /// The salt of the plaintext digest. It travels with the wrapped content key, so the digest
    /// tells nothing about a guessable plaintext to whoever has only the image.
    Salt, 16, "32 hexadecimal digits"
}

impl Digest {
    /// A field of zeros: no digest.
    pub const ZERO: Self = Self([0; 32]);
}

impl ImageDigest {
    /// A field of zeros: no image.
    pub const ZERO: Self = Self([0; 32]);
}

/// Version of an image, ordered as semantic versions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageVersion {
    /// Incompatible change.
    pub major: u16,
    /// Compatible extension.
    pub minor: u16,
    /// Correction.
    pub patch: u32,
}

impl fmt::Display for ImageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A number in its only notation: digits, without sign or leading zero.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| plain && canonical)
}

impl FromStr for ImageVersion {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let parse = || {
            let mut parts = text.split('.');
            let version = Self {
                major: number(parts.next()?)?,
                minor: number(parts.next()?)?,
                patch: number(parts.next()?)?,
            };
            parts.next().is_none().then_some(version)
        };
        parse().ok_or(TextError::Notation("a version `major.minor.patch`"))
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl $name {
            /// The number.
            #[must_use]
            pub const fn get(self) -> $int {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Security counter of an image, and the floor of an ECU. It rises only where an older image
    /// must not return; the version may rise without it.
    SecurityCounter, u32
}

counter! {
    /// Sequence of the install grants of one ECU, strictly increasing.
    SequenceNumber, u64
}

counter! {
    /// Version of the key sets of one ECU, strictly increasing from 1.
    KeySetVersion, u32
}

counter! {
    /// The logical block an image fills: 0 application, 1 calibration, others by the OEM.
    LogicalBlock, u16
}

impl LogicalBlock {
    /// The application.
    pub const APPLICATION: Self = Self(0);
    /// The calibration data.
    pub const CALIBRATION: Self = Self(1);
}

/// One slot of an ECU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Written once, at provisioning.
    Factory,
    /// The first update slot.
    A,
    /// The second update slot.
    B,
}

impl Slot {
    const fn bit(self) -> u16 {
        match self {
            Self::Factory => 1,
            Self::A => 2,
            Self::B => 4,
        }
    }
}

/// The slots an image is linked for, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotSet(pub(crate) u16);

impl SlotSet {
    /// Every slot: bank swap, copy to RAM or position-independent code.
    pub const ALL: Self = Self(7);

    /// The set of a header field, or `None` where it is empty or has unknown bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits == 0 || bits > Self::ALL.0 {
            return None;
        }
        Some(Self(bits))
    }

    /// The set of one slot.
    #[must_use]
    pub const fn only(slot: Slot) -> Self {
        Self(slot.bit())
    }

    /// This set and `slot`.
    #[must_use]
    pub const fn with(self, slot: Slot) -> Self {
        Self(self.0 | slot.bit())
    }

    /// Whether the image may run from `slot`.
    #[must_use]
    pub const fn contains(self, slot: Slot) -> bool {
        self.0 & slot.bit() != 0
    }

    /// The header field.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }
}

/// Size of a page in bytes: a power of two from 256 to 65536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(pub(crate) u32);

impl PageSize {
    /// 4 KiB, the usual size: an image of up to 8 MiB.
    pub const DEFAULT: Self = Self(4096);
    /// The largest page of this specification, in bytes.
    pub const MAX: Self = Self(65536);

    /// A page size, or `None` where it is not a power of two from 256 to 65536.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes < 256 || bytes > Self::MAX.0 || !bytes.is_power_of_two() {
            return None;
        }
        Some(Self(bytes))
    }

    /// In bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// In bytes, for indices.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString as _;

    #[test]
    fn identifiers_are_graphic_ascii_of_1_to_32_characters() {
        let parse = |text: &str| text.parse::<HardwareId>();
        assert_eq!(parse("").unwrap_err(), TextError::Empty);
        assert_eq!(parse("a b").unwrap_err(), TextError::Character(b' '));
        assert_eq!(parse("ä").unwrap_err(), TextError::Character(0xC3));
        assert_eq!(parse(&"x".repeat(33)).unwrap_err(), TextError::TooLong(33));
        assert_eq!(parse(&"x".repeat(32)).unwrap().as_str().len(), 32);
    }

    #[test]
    fn a_field_has_nothing_after_its_first_zero() {
        let mut field = *"BRAKE-2".parse::<HardwareId>().unwrap().as_field();
        assert_eq!(
            HardwareId::from_field(&field).unwrap().to_string(),
            "BRAKE-2"
        );
        field[20] = b'x';
        assert_eq!(
            HardwareId::from_field(&field),
            Err(TextError::Character(b'x'))
        );
        assert_eq!(HardwareId::from_field(&[0; 32]), Err(TextError::Empty));
    }

    #[test]
    fn versions_have_one_notation() {
        let version = |text: &str| text.parse::<ImageVersion>().ok();
        assert!(version("1.10.200000") > version("1.9.300000"));
        for wrong in [
            "1.2",
            "1.2.3.4",
            "01.2.3",
            "+1.2.3",
            "1.2.",
            "65536.0.0",
            "a.b.c",
        ] {
            assert_eq!(version(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn slot_sets_are_never_empty_and_have_no_unknown_slot() {
        assert_eq!(SlotSet::from_bits(0), None);
        assert_eq!(SlotSet::from_bits(8), None);
        let set = SlotSet::only(Slot::A).with(Slot::B);
        assert!(set.contains(Slot::A) && set.contains(Slot::B) && !set.contains(Slot::Factory));
    }

    #[test]
    fn page_sizes_are_powers_of_two_from_256_to_65536() {
        let sizes: std::vec::Vec<u32> = (0..=200_000)
            .filter(|bytes| PageSize::new(*bytes).is_some())
            .collect();
        assert_eq!(
            sizes,
            [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
        );
    }

    proptest! {
        #[test]
        fn texts_survive(bytes: [u8; 32], major: u16, minor: u16, patch: u32) {
            let digest = ImageDigest(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            let version = ImageVersion { major, minor, patch };
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }
    }
}

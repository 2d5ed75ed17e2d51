//! The provisioning file of one ECU: identity, addresses and keys as JSON. The OEM tool writes it
//! when a vehicle is added; the virtual ECU and a board's programmer read it.
//!
//! Byte strings are hexadecimal. CAN identifiers are written as candump writes them: three digits
//! for 11 bits, eight for 29.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::crypto::{MacKey, WrapKey};
use crate::error::ParseError;
use crate::id::{EcuSerial, HardwareId, KeyId, SecurityCounter, TextError};
use crate::keyset::{KeySet, MAX_ROOTS, THRESHOLD};
use crate::pss::{PUBLIC_EXPONENT, PublicKey};
use crate::serde_text::as_text;
use crate::signature::Pinned;

/// What one ECU is given before its first update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EcuProvisioning {
    /// Name in the vehicle, for example `brake-front`.
    pub name: Name,
    /// The vehicle it belongs to.
    pub vin: Vin,
    /// Serial of this ECU.
    pub serial: EcuSerial,
    /// Its type of hardware.
    pub hardware_id: HardwareId,
    /// The bus that it sits on, by name.
    pub bus: Name,
    /// Physical requests to it.
    pub request_id: CanIdText,
    /// Its responses.
    pub response_id: CanIdText,
    /// Functional requests.
    pub functional_id: CanIdText,
    /// The application's heartbeat.
    pub heartbeat_id: CanIdText,
    /// Whether it speaks CAN FD.
    pub fd: bool,
    /// Unwraps content keys.
    #[serde(with = "secret")]
    pub wrap_key: WrapKey,
    /// Authenticates install grants.
    #[serde(with = "secret")]
    pub grant_key: MacKey,
    /// Authenticates the ECU's own journal.
    #[serde(with = "secret")]
    pub journal_key: MacKey,
    /// SecurityAccess.
    #[serde(with = "secret")]
    pub access_key: MacKey,
    /// The offline roots that are pinned in it.
    pub root_keys: RootKeys,
    /// Its first key set, signed by at least two of the roots.
    pub key_set: KeySetBytes,
    /// Its first floor.
    pub floor: SecurityCounter,
}

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

/// The roots of an ECU: two to four different keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ImageKey>", into = "Vec<ImageKey>")]
pub struct RootKeys(Vec<ImageKey>);

/// Not two to four different roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRoots;

impl fmt::Display for BadRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an ECU has {THRESHOLD} to {MAX_ROOTS} different roots")
    }
}

impl core::error::Error for BadRoots {}

impl TryFrom<Vec<ImageKey>> for RootKeys {
    type Error = BadRoots;

    fn try_from(keys: Vec<ImageKey>) -> Result<Self, BadRoots> {
        let mut ids: Vec<_> = keys.iter().map(|key| key.key.id()).collect();
        ids.sort();
        ids.dedup();
        if ids.len() != keys.len() || !(THRESHOLD..=MAX_ROOTS).contains(&keys.len()) {
            return Err(BadRoots);
        }
        Ok(Self(keys))
    }
}

impl From<RootKeys> for Vec<ImageKey> {
    fn from(roots: RootKeys) -> Self {
        roots.0
    }
}

impl RootKeys {
    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[ImageKey] {
        &self.0
    }
}

impl Pinned for RootKeys {
    fn modulus(&self, root: KeyId) -> Option<&[u8]> {
        let key = self.0.iter().find(|key| key.key.id() == root)?;
        Some(key.modulus())
    }
}

/// The bytes of a well-formed key set, as hexadecimal digits. Who signed it is not checked here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "KeySetText", into = "KeySetText")]
pub struct KeySetBytes(Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct KeySetText(#[serde(with = "hex::serde")] Vec<u8>);

impl TryFrom<Vec<u8>> for KeySetBytes {
    type Error = ParseError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, ParseError> {
        KeySet::parse(&bytes)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<KeySetText> for KeySetBytes {
    type Error = ParseError;

    fn try_from(text: KeySetText) -> Result<Self, ParseError> {
        text.0.try_into()
    }
}

impl From<KeySetBytes> for KeySetText {
    fn from(set: KeySetBytes) -> Self {
        Self(set.0)
    }
}

impl KeySetBytes {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What they say.
    ///
    /// # Errors
    /// None: they were parsed before.
    pub fn parsed(&self) -> Result<KeySet<'_>, ParseError> {
        KeySet::parse(&self.0)
    }
}

/// An RSA public key: of images, or a root. Its id, size and exponent have been checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ImageKeyText", into = "ImageKeyText")]
pub struct ImageKey {
    modulus: Vec<u8>,
    key: PublicKey,
}

impl ImageKey {
    /// The key of a big-endian modulus of 256, 384 or 512 bytes; its exponent is 65537.
    ///
    /// # Errors
    /// The modulus is no modulus of an accepted size.
    pub fn new(modulus: &[u8]) -> Result<Self, crate::pss::KeyError> {
        Ok(Self {
            modulus: modulus.to_vec(),
            key: PublicKey::from_modulus(modulus)?,
        })
    }

    /// The key as the in-house verification takes it.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The big-endian modulus, for other implementations of RSA.
    #[must_use]
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageKeyText {
    key_id: KeyId,
    #[serde(with = "hex::serde")]
    modulus: Vec<u8>,
    exponent: u32,
}

/// Why a key in a provisioning file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKeyError {
    /// The modulus is no modulus of an accepted size.
    Key(crate::pss::KeyError),
    /// The exponent is not 65537.
    Exponent(u32),
    /// The identity is not that of the modulus, which is given.
    Id(KeyId),
}

impl fmt::Display for ImageKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => error.fmt(f),
            Self::Exponent(exponent) => write!(f, "exponent is {exponent}, not 65537"),
            Self::Id(id) => write!(f, "key_id is not that of the modulus, {id}"),
        }
    }
}

impl core::error::Error for ImageKeyError {}

impl TryFrom<ImageKeyText> for ImageKey {
    type Error = ImageKeyError;

    fn try_from(text: ImageKeyText) -> Result<Self, ImageKeyError> {
        let key = Self::new(&text.modulus).map_err(ImageKeyError::Key)?;
        if text.exponent != PUBLIC_EXPONENT {
            return Err(ImageKeyError::Exponent(text.exponent));
        }
        if text.key_id != key.key.id() {
            return Err(ImageKeyError::Id(key.key.id()));
        }
        Ok(key)
    }
}

impl From<ImageKey> for ImageKeyText {
    fn from(key: ImageKey) -> Self {
        Self {
            key_id: key.key.id(),
            modulus: key.modulus,
            exponent: PUBLIC_EXPONENT,
        }
    }
}

/// A secret key of 16 bytes as 32 hexadecimal digits. Errors do not repeat what was read.
mod secret {
    use super::{
        Deserialize, Deserializer, MacKey, Serialize, Serializer, String, WrapKey, Zeroizing,
    };
    use serde::de::Error;

    pub(super) trait Key {
        fn from_bytes(bytes: [u8; 16]) -> Self;
        fn bytes(&self) -> &[u8; 16];
    }

    impl Key for WrapKey {
        fn from_bytes(bytes: [u8; 16]) -> Self {
            Self::new(bytes)
        }

        fn bytes(&self) -> &[u8; 16] {
            self.expose()
        }
    }

    impl Key for MacKey {
        fn from_bytes(bytes: [u8; 16]) -> Self {
            Self::new(bytes)
        }

        fn bytes(&self) -> &[u8; 16] {
            self.expose()
        }
    }

    pub(super) fn serialize<K: Key, S: Serializer>(
        key: &K,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Zeroizing::new(hex::encode(key.bytes()))
            .as_str()
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, K: Key, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<K, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let mut bytes = Zeroizing::new([0; 16]);
        hex::decode_to_slice(text.as_bytes(), bytes.as_mut())
            .map_err(|_| D::Error::custom("a secret key is not 32 hexadecimal digits"))?;
        Ok(K::from_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Algorithm;
    use crate::id::KeySetVersion;
    use crate::keyset::{KeySetContent, KeyStatus, NewKey};
    use crate::testing::Pair;
    use rsa::traits::PublicKeyParts as _;
    use serde_json::{Value, json};

    fn key(modulus: &[u8]) -> Value {
        json!({
            "key_id": crate::pss::key_id(modulus),
            "modulus": hex::encode(modulus),
            "exponent": 65537,
        })
    }

    fn key_set() -> Vec<u8> {
        let content = KeySetContent {
            hardware_id: None,
            version: KeySetVersion(1),
            keys: vec![NewKey {
                algorithm: Algorithm::RsaPssSha256,
                status: KeyStatus::Active,
                bytes: vec![0xE1; 256],
            }],
        };
        content.build().unwrap()
    }

    fn ecu() -> Value {
        let modulus = Pair::short().private.n_bytes();
        json!({
            "name": "brake-front",
            "vin": "WVWZZZ1JZXW000001",
            "serial": "ECU-0001",
            "hardware_id": "BRAKE-2",
            "bus": "can0",
            "request_id": "7E0",
            "response_id": "7E8",
            "functional_id": "18DB33F1",
            "heartbeat_id": "500",
            "fd": true,
            "wrap_key": "000102030405060708090a0b0c0d0e0f",
            "grant_key": "101112131415161718191a1b1c1d1e1f",
            "journal_key": "202122232425262728292a2b2c2d2e2f",
            "access_key": "303132333435363738393a3b3c3d3e3f",
            "root_keys": [key(&modulus), key(&[0xFF; 256])],
            "key_set": hex::encode(key_set()),
            "floor": 4,
        })
    }

    /// The error of a file whose value at `pointer` is another.
    fn refused(pointer: &str, value: Value) -> String {
        let mut file = ecu();
        *file.pointer_mut(pointer).unwrap() = value;
        let error = serde_json::from_value::<EcuProvisioning>(file);
        format!("{}", error.expect_err("the file is accepted"))
    }

    #[test]
    fn a_file_survives_reading_and_writing() {
        let parsed: EcuProvisioning = serde_json::from_value(ecu()).unwrap();
        assert!(!parsed.request_id.is_extended() && parsed.functional_id.is_extended());
        assert_eq!(parsed.functional_id.raw(), 0x18DB_33F1);
        let roots = parsed.root_keys.keys();
        assert_eq!(roots[0].public_key(), &Pair::short().public);
        assert_eq!(
            parsed.root_keys.modulus(roots[1].public_key().id()),
            Some(&[0xFF; 256][..])
        );
        assert_eq!(parsed.key_set.as_bytes(), key_set());
        assert_eq!(serde_json::to_value(&parsed).unwrap(), ecu());
    }

    #[test]
    fn debug_text_has_no_secret() {
        let parsed: EcuProvisioning = serde_json::from_value(ecu()).unwrap();
        let shown = format!("{parsed:?}");
        assert!(
            shown.contains("wrap_key: WrapKey(..)") && shown.contains("access_key: MacKey(..)")
        );
        let decimal = "1, 2, 3, 4, 5";
        assert!(
            !shown.contains("0102030405") && !shown.contains(decimal),
            "{shown}"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            ("/name", json!("../x"), "`../x` contains byte 0x2f"),
            ("/name", json!(".x"), "`.x` contains byte 0x2e"),
            ("/bus", json!(""), "`` is empty"),
            (
                "/vin",
                json!("WVWZZZ1JZXW00000O"),
                "is not a VIN of 17 digits",
            ),
            ("/serial", json!("a b"), "`a b` contains byte 0x20"),
            ("/request_id", json!("800"), "is not a CAN identifier of 3"),
            (
                "/request_id",
                json!("20000000"),
                "is not a CAN identifier of 3",
            ),
            ("/request_id", json!("+7E"), "is not a CAN identifier of 3"),
            ("/request_id", json!(2016), "expected a string"),
            ("/floor", json!(-1), "expected u32"),
            (
                "/root_keys/0/exponent",
                json!(3),
                "exponent is 3, not 65537",
            ),
            (
                "/root_keys/0/key_id",
                json!("0000000000000000"),
                "key_id is not that of the modulus",
            ),
            ("/root_keys/0/modulus", json!("00ff"), "modulus has 2 bytes"),
            (
                "/root_keys",
                json!([key(&[0xFF; 256])]),
                "2 to 4 different roots",
            ),
            ("/root_keys/0", key(&[0xFF; 256]), "2 to 4 different roots"),
            ("/key_set", json!("00"), "value 1 is out of range"),
            ("/key_set", json!("0"), "Odd number of digits"),
        ];
        for (pointer, value, expected) in cases {
            let error = refused(pointer, value);
            assert!(error.contains(expected), "{pointer}: {error}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_a_secret() {
        let error = refused("/wrap_key", json!("deadbeef"));
        assert_eq!(error, "a secret key is not 32 hexadecimal digits");
    }

    #[test]
    fn unknown_fields_are_refused() {
        let mut file = ecu();
        file["wrap-key"] = json!("x");
        let error = serde_json::from_value::<EcuProvisioning>(file).unwrap_err();
        assert!(format!("{error}").contains("unknown field `wrap-key`"));
    }
}

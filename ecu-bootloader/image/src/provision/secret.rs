//! A secret key of 16 bytes as 32 hexadecimal digits. Errors do not repeat what was read.

use alloc::string::String;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::crypto::{MacKey, WrapKey};

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

pub(super) fn serialize<K: Key, S: Serializer>(key: &K, serializer: S) -> Result<S::Ok, S::Error> {
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

//! The install grant (`docs/spec/image.md`, "Install grant"): permission for one ECU to install one
//! image, with the image's content key wrapped for that ECU.

use crate::error::{ParseError, Problem};
use crate::id::{EcuSerial, ImageDigest, SequenceNumber};
use crate::wire::{Reader, check, put, some};

/// Bytes of a grant.
pub const GRANT_LEN: usize = 256;
/// Bytes of a grant that its MAC covers.
pub const GRANT_MACED_LEN: usize = 240;

const MAGIC: [u8; 4] = *b"CNPG";
const VERSION: u16 = 1;
const DOWNGRADE: u16 = 1;

/// What a grant permits beyond the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GrantFlags {
    /// This image may be installed although its counter is below the floor. The floor stays.
    pub downgrade: bool,
}

/// Content key and salt, wrapped with AES-KW (RFC 3394) under the ECU's wrap key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrappedKey {
    /// AES-128 key and salt.
    Aes128([u8; 40]),
    /// AES-256 key and salt.
    Aes256([u8; 56]),
}

impl WrappedKey {
    /// The wrapped bytes, 40 or 56.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Aes128(bytes) => bytes,
            Self::Aes256(bytes) => bytes,
        }
    }

    const fn field(&self) -> u16 {
        match self {
            Self::Aes128(_) => 40,
            Self::Aes256(_) => 56,
        }
    }
}

/// A well-formed grant. Well-formed is not authentic: check [`Self::mac`] over
/// [`maced_bytes`](Self::maced_bytes) first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The ECU it is for.
    pub ecu_serial: EcuSerial,
    /// The image that it permits.
    pub image_digest: ImageDigest,
    /// Strictly increasing for this ECU.
    pub sequence: SequenceNumber,
    /// What it permits beyond the usual.
    pub flags: GrantFlags,
    /// The content key and the salt.
    pub wrapped: WrappedKey,
    /// AES-CMAC under the ECU's grant key.
    pub mac: [u8; 16],
}

impl Grant {
    /// Parses a grant. Total: every 256 bytes are a grant or an error that says where.
    ///
    /// # Errors
    /// The first field that the specification does not allow.
    pub fn parse(bytes: &[u8; GRANT_LEN]) -> Result<Self, ParseError> {
        let r = Reader(bytes);
        check(r.array(0) == MAGIC, "magic", 0, Problem::Magic)?;
        let unknown = |offset| Problem::Unknown(r.u16(offset).into());
        check(r.u16(4) == VERSION, "version", 4, unknown(4))?;
        check(r.u16(6) == 256, "length", 6, unknown(6))?;
        check(r.u16(80) & !DOWNGRADE == 0, "flags", 80, unknown(80))?;
        r.zero("reserved", 140, 100)?;
        let wrapped = match r.u16(82) {
            40 => Some(WrappedKey::Aes128(r.array(84))),
            56 => Some(WrappedKey::Aes256(r.array(84))),
            _ => None,
        };
        let wrapped = some(wrapped, "wrapped_len", 82, unknown(82))?;
        if matches!(wrapped, WrappedKey::Aes128(_)) {
            r.zero("wrapped", 124, 16)?;
        }
        let text = |error| ParseError {
            field: "ecu_serial",
            offset: 8,
            problem: Problem::Text(error),
        };
        Ok(Self {
            ecu_serial: EcuSerial::from_field(&r.array(8)).map_err(text)?,
            image_digest: ImageDigest(r.array(40)),
            sequence: SequenceNumber(r.u64(72)),
            flags: GrantFlags {
                downgrade: r.u16(80) & DOWNGRADE != 0,
            },
            wrapped,
            mac: r.array(GRANT_MACED_LEN),
        })
    }

    /// The bytes of this grant.
    #[must_use]
    pub fn encode(&self) -> [u8; GRANT_LEN] {
        let mut bytes = [0; GRANT_LEN];
        let b = &mut bytes;
        put(b, 0, &MAGIC);
        put(b, 4, &VERSION.to_le_bytes());
        put(b, 6, &256u16.to_le_bytes());
        put(b, 8, self.ecu_serial.as_field());
        put(b, 40, self.image_digest.as_bytes());
        put(b, 72, &self.sequence.get().to_le_bytes());
        put(b, 80, &u16::from(self.flags.downgrade).to_le_bytes());
        put(b, 82, &self.wrapped.field().to_le_bytes());
        put(b, 84, self.wrapped.as_bytes());
        put(b, GRANT_MACED_LEN, &self.mac);
        bytes
    }

    /// The bytes that the MAC covers.
    #[must_use]
    pub fn maced_bytes(bytes: &[u8; GRANT_LEN]) -> &[u8] {
        bytes.get(..GRANT_MACED_LEN).unwrap_or(&[])
    }
}

//! The install grant (`docs/spec/image.md`, "Install grant"): permission for one ECU to install one
//! image, with the image's content key wrapped for that ECU.

use crate::error::{FieldError, ParseError, Problem};
use crate::id::{EcuSerial, ImageDigest, SequenceNumber, check_field};
use crate::wire::{Fixed, Reader, check, put};

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
        let view = GrantView::parse(bytes)?;
        let text = |error| ParseError::of("ecu_serial", 8, Problem::Text(error));
        Ok(Self {
            ecu_serial: EcuSerial::from_field(view.ecu_serial()).map_err(text)?,
            image_digest: ImageDigest(*view.image_digest()),
            sequence: view.sequence(),
            flags: GrantFlags {
                downgrade: view.downgrade(),
            },
            wrapped: view.wrapped(),
            mac: *view.mac(),
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

/// The bytes of a well-formed grant, of which nothing is copied.
#[derive(Clone, Copy)]
pub struct GrantView<'a>(Fixed<'a, GRANT_LEN>);

impl core::fmt::Debug for GrantView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("GrantView(..)")
    }
}

impl<'a> GrantView<'a> {
    /// Parses a grant. Total, as [`Grant::parse`].
    ///
    /// # Errors
    /// The first field that the specification does not allow.
    pub fn parse<E: FieldError>(bytes: &'a [u8; GRANT_LEN]) -> Result<Self, E> {
        let r = Fixed(bytes);
        let unknown = |offset| Problem::Unknown(r.u16(offset).into());
        check(r.array(0) == MAGIC, "magic", 0, Problem::Magic)?;
        check(r.u16(4) == VERSION, "version", 4, unknown(4))?;
        check(r.u16(6) == 256, "length", 6, unknown(6))?;
        check(r.u16(80) & !DOWNGRADE == 0, "flags", 80, unknown(80))?;
        Reader(bytes).zero("reserved", 140, 100)?;
        let len = r.u16(82);
        check(len == 40 || len == 56, "wrapped_len", 82, unknown(82))?;
        if len == 40 {
            Reader(bytes).zero("wrapped", 124, 16)?;
        }
        let text = |error| E::of("ecu_serial", 8, Problem::Text(error));
        check_field(r.field(8)).map_err(text)?;
        Ok(Self(r))
    }

    /// The zero-filled field of [`Grant::ecu_serial`].
    #[must_use]
    pub fn ecu_serial(&self) -> &'a [u8; 32] {
        self.0.field(8)
    }

    /// As [`Grant::image_digest`].
    #[must_use]
    pub fn image_digest(&self) -> &'a [u8; 32] {
        self.0.field(40)
    }

    /// As [`Grant::sequence`].
    #[must_use]
    pub fn sequence(&self) -> SequenceNumber {
        SequenceNumber(self.0.u64(72))
    }

    /// As [`GrantFlags::downgrade`].
    #[must_use]
    pub fn downgrade(&self) -> bool {
        self.0.u16(80) & DOWNGRADE != 0
    }

    /// As [`Grant::wrapped`].
    #[must_use]
    pub fn wrapped(&self) -> WrappedKey {
        match self.0.u16(82) {
            40 => WrappedKey::Aes128(self.0.array(84)),
            _ => WrappedKey::Aes256(self.0.array(84)),
        }
    }

    /// Its bytes, 40 or 56.
    #[must_use]
    pub fn wrapped_bytes(&self) -> &'a [u8] {
        self.0
            .field::<56>(84)
            .get(..self.0.u16(82).into())
            .unwrap_or(&[])
    }

    /// As [`Grant::mac`].
    #[must_use]
    pub fn mac(&self) -> &'a [u8; 16] {
        self.0.field(GRANT_MACED_LEN)
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::Salt;
    use crate::crypto::{ContentKey, MacKey, WrapKey};
    use crate::pack::GrantRequest;
    use crate::testing::content_key;
    use proptest::prelude::*;

    const GRANT_KEY: [u8; 16] = [0x11; 16];
    const WRAP_KEY: [u8; 16] = [0x22; 16];

    fn issue(content_key: &ContentKey, sequence: u64, downgrade: bool) -> Grant {
        let request = GrantRequest {
            ecu_serial: "ECU-0001".parse().unwrap(),
            image_digest: ImageDigest([0xD1; 32]),
            sequence: SequenceNumber(sequence),
            flags: GrantFlags { downgrade },
            content_key,
            salt: Salt([0x5A; 16]),
        };
        Grant::issue(&request, &WrapKey::new(WRAP_KEY), &MacKey::new(GRANT_KEY))
    }

    fn refused(offset: usize, value: &[u8]) -> (&'static str, Problem) {
        let mut bytes = issue(&ContentKey::Aes128([1; 16]), 7, false).encode();
        put(&mut bytes, offset, value);
        let error = Grant::parse(&bytes).expect_err("the grant parses");
        (error.field, error.problem)
    }

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let grant = issue(&ContentKey::Aes128([1; 16]), 0x0102, true);
        let bytes = grant.encode();
        assert_eq!(bytes[..8], *b"CNPG\x01\0\0\x01");
        assert_eq!(bytes[8..17], *b"ECU-0001\0");
        assert_eq!(bytes[40..72], [0xD1; 32]);
        assert_eq!(bytes[72..84], [2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 40, 0]);
        assert_eq!(bytes[84..124], *grant.wrapped.as_bytes());
        assert_eq!(bytes[240..], grant.mac);
    }

    #[test]
    fn every_field_has_its_limits() {
        let cases = [
            (0, &b"CNPI"[..], "magic", Problem::Magic),
            (4, &[0], "version", Problem::Unknown(0)),
            (6, &[0, 2], "length", Problem::Unknown(0x200)),
            (80, &[2], "flags", Problem::Unknown(2)),
            (82, &[48], "wrapped_len", Problem::Unknown(48)),
            (139, &[1], "wrapped", Problem::NotZero),
            (140, &[1], "reserved", Problem::NotZero),
            (239, &[1], "reserved", Problem::NotZero),
        ];
        for (offset, value, field, problem) in cases {
            assert_eq!(refused(offset, value), (field, problem), "{value:x?}");
        }
        let space = Problem::Text(crate::TextError::Character(b' '));
        assert_eq!(refused(8, b" "), ("ecu_serial", space));
    }

    #[test]
    fn only_the_grant_key_over_every_byte_makes_the_mac() {
        let bytes = issue(&ContentKey::Aes256([1; 32]), 7, false).encode();
        assert!(MacKey::new(GRANT_KEY).verify_grant(&bytes));
        assert!(!MacKey::new(WRAP_KEY).verify_grant(&bytes));
        for at in 0..GRANT_LEN {
            let mut altered = bytes;
            altered[at] ^= 0x10;
            assert!(!MacKey::new(GRANT_KEY).verify_grant(&altered), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn a_grant_carries_its_key_to_its_ecu(key in content_key(), sequence: u64, downgrade: bool) {
            let grant = issue(&key, sequence, downgrade);
            prop_assert_eq!(Grant::parse(&grant.encode()), Ok(grant));
            let unwrapped = WrapKey::new(WRAP_KEY).unwrap(&grant.wrapped);
            prop_assert_eq!(unwrapped, Ok((key, Salt([0x5A; 16]))));
            prop_assert!(WrapKey::new(GRANT_KEY).unwrap(&grant.wrapped).is_err());
        }

        #[test]
        fn what_parses_encodes_to_the_same_bytes(
            alterations in prop::collection::vec((0..GRANT_LEN, any::<u8>()), 0..4),
        ) {
            let mut bytes = issue(&ContentKey::Aes128([1; 16]), 7, false).encode();
            for (offset, value) in alterations {
                bytes[offset] = value;
            }
            if let Ok(grant) = Grant::parse(&bytes) {
                prop_assert_eq!(grant.encode(), bytes);
            }
        }
    }
}

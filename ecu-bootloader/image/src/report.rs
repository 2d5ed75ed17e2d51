//! What an ECU says that it runs, in answer to a nonce, under a key of its own (`docs/spec/image.md`,
//! "ECU report").

use crate::error::{FieldError, ParseError, Problem};
use crate::id::{EcuSerial, ImageDigest, SecurityCounter, SequenceNumber};
use crate::wire::{Fixed, Reader, check, put, some};

/// Bytes of a report.
pub const REPORT_LEN: usize = 144;
/// Bytes of a report that its MAC covers.
pub const REPORT_MACED_LEN: usize = 128;
/// Bytes of the nonce.
pub const NONCE_LEN: usize = 16;

const MAGIC: [u8; 4] = *b"CNPA";
const VERSION: u16 = 1;

/// Where the running image stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Nothing runs: the bootloader answers.
    Recovery,
    /// It is being tried.
    Trial,
    /// It passed its self-test; the floor has not risen.
    Healthy,
    /// It is confirmed for good, and the floor has risen to it; or the factory image, not below the
    /// floor.
    Sealed,
    /// The factory image, below the floor, with reduced function.
    LimpHome,
    /// It was reverted, and runs until the next reset.
    Rejected,
}

impl RunState {
    const ALL: [(u16, Self); 6] = [
        (0, Self::Recovery),
        (1, Self::Trial),
        (2, Self::Healthy),
        (3, Self::Sealed),
        (4, Self::LimpHome),
        (5, Self::Rejected),
    ];

    /// Its name for people and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::Trial => "trial",
            Self::Healthy => "healthy",
            Self::Sealed => "sealed",
            Self::LimpHome => "limp-home",
            Self::Rejected => "rejected",
        }
    }

    const fn field(self) -> u16 {
        match self {
            Self::Recovery => 0,
            Self::Trial => 1,
            Self::Healthy => 2,
            Self::Sealed => 3,
            Self::LimpHome => 4,
            Self::Rejected => 5,
        }
    }
}

/// A well-formed report. Well-formed is not authentic: check [`Self::mac`] over
/// [`maced_bytes`](Self::maced_bytes) under the ECU's grant key first. Grants, which the same key
/// authenticates, are of another length and begin otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcuReport {
    /// Who says so.
    pub ecu_serial: EcuSerial,
    /// To whose question.
    pub nonce: [u8; NONCE_LEN],
    /// The image that runs; zeros where none does.
    pub image_digest: ImageDigest,
    /// Its security counter.
    pub security_counter: SecurityCounter,
    /// The floor.
    pub floor: SecurityCounter,
    /// The last grant that the ECU accepted.
    pub sequence: SequenceNumber,
    /// Where the image stands.
    pub state: RunState,
    /// AES-CMAC under the ECU's grant key.
    pub mac: [u8; 16],
}

impl EcuReport {
    /// Parses a report. Total: every 144 bytes are a report or an error that says where.
    ///
    /// # Errors
    /// The first field that the specification does not allow.
    pub fn parse(bytes: &[u8; REPORT_LEN]) -> Result<Self, ParseError> {
        let r = Fixed(bytes);
        let unknown = |offset| Problem::Unknown(r.u16(offset).into());
        check::<ParseError>(r.array(0) == MAGIC, "magic", 0, Problem::Magic)?;
        check::<ParseError>(r.u16(4) == VERSION, "version", 4, unknown(4))?;
        let state = RunState::ALL.iter().find(|(field, _)| *field == r.u16(6));
        let (_, state) = some::<_, ParseError>(state, "state", 6, unknown(6))?;
        Reader(bytes).zero::<ParseError>("reserved", 104, 24)?;
        let text = |error| ParseError::of("ecu_serial", 8, Problem::Text(error));
        Ok(Self {
            ecu_serial: EcuSerial::from_field(&r.array(8)).map_err(text)?,
            nonce: r.array(40),
            image_digest: ImageDigest(r.array(56)),
            security_counter: SecurityCounter(r.u32(88)),
            floor: SecurityCounter(r.u32(92)),
            sequence: SequenceNumber(r.u64(96)),
            state: *state,
            mac: r.array(REPORT_MACED_LEN),
        })
    }

    /// The bytes of this report.
    #[must_use]
    pub fn encode(&self) -> [u8; REPORT_LEN] {
        let mut bytes = [0; REPORT_LEN];
        let b = &mut bytes;
        put(b, 0, &MAGIC);
        put(b, 4, &VERSION.to_le_bytes());
        put(b, 6, &self.state.field().to_le_bytes());
        put(b, 8, self.ecu_serial.as_field());
        put(b, 40, &self.nonce);
        put(b, 56, self.image_digest.as_bytes());
        put(b, 88, &self.security_counter.get().to_le_bytes());
        put(b, 92, &self.floor.get().to_le_bytes());
        put(b, 96, &self.sequence.get().to_le_bytes());
        put(b, REPORT_MACED_LEN, &self.mac);
        bytes
    }

    /// The bytes that the MAC covers.
    #[must_use]
    pub fn maced_bytes(bytes: &[u8; REPORT_LEN]) -> &[u8] {
        bytes.get(..REPORT_MACED_LEN).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::MacKey;
    use proptest::prelude::*;

    fn report() -> EcuReport {
        EcuReport {
            ecu_serial: "ECU-0001".parse().unwrap(),
            nonce: [0x17; NONCE_LEN],
            image_digest: ImageDigest([0xD1; 32]),
            security_counter: SecurityCounter(0x0102),
            floor: SecurityCounter(3),
            sequence: SequenceNumber(4),
            state: RunState::Sealed,
            mac: [0xAA; 16],
        }
    }

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let bytes = report().encode();
        assert_eq!(bytes[..8], *b"CNPA\x01\0\x03\0");
        assert_eq!(bytes[8..17], *b"ECU-0001\0");
        assert_eq!(bytes[40..56], [0x17; 16]);
        assert_eq!(bytes[56..88], [0xD1; 32]);
        assert_eq!(
            bytes[88..104],
            [2, 1, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(bytes[104..128], [0; 24]);
        assert_eq!(bytes[128..], [0xAA; 16]);
        assert_eq!(EcuReport::parse(&bytes), Ok(report()));
    }

    #[test]
    fn every_bit_is_under_the_mac() {
        let key = MacKey::new([0x11; 16]);
        let mut bytes = report().encode();
        let mac = key.mac(EcuReport::maced_bytes(&bytes));
        put(&mut bytes, REPORT_MACED_LEN, &mac);
        assert!(key.verify_report(&bytes));
        for at in 0..REPORT_LEN {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert!(!key.verify_report(&changed), "byte {at}");
        }
    }

    #[test]
    fn what_the_specification_does_not_know_is_refused() {
        for (at, field) in [
            (0, "magic"),
            (4, "version"),
            (7, "state"),
            (8, "ecu_serial"),
            (104, "reserved"),
        ] {
            let mut bytes = report().encode();
            bytes[at] = 0xEE;
            assert_eq!(EcuReport::parse(&bytes).unwrap_err().field, field);
        }
    }

    proptest! {
        #[test]
        fn what_parses_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), REPORT_LEN)) {
            let mut bytes: [u8; REPORT_LEN] = bytes.try_into().unwrap();
            put(&mut bytes, 0, b"CNPA\x01\0\x02\0ECU\0");
            bytes[12..40].fill(0);
            bytes[104..128].fill(0);
            let report = EcuReport::parse(&bytes).unwrap();
            prop_assert_eq!(report.encode(), bytes);
        }
    }
}

//! What an application and the boot services say to each other while the application runs.
//!
//! On a microcontroller a message lies in a RAM buffer whose address the boot-services table names;
//! in the virtual ECU it is a packet. Either way each side treats it as hostile: a message is parsed
//! whole or refused. One request is answered by one [`Reply`], except [`Request::EnterProgramming`]
//! and [`Request::Reset`], after which the ECU resets. Every change of the application's session, a
//! timeout too, is passed as the DiagnosticSessionControl request that it equals, so that the boot
//! services lock; the reply to it is not sent on.
//!
//! | first byte | message | rest |
//! |---|---|---|
//! | 01 | `Request::Uds` | session, then the PDU |
//! | 02 | `Request::SelfTestPassed` | |
//! | 03 | `Request::EnterProgramming` | handover, [`HANDOVER_LEN`] bytes |
//! | 04 | `Request::Reset` | |
//! | 81 | `Reply::Uds` | the PDU |
//! | 82 | `Reply::Done` | |
//! | 83 | `Reply::Refused` | |

use uds::can::CanId;

use crate::bytes::copy;

/// Bytes of the longest message: one PDU of a service that goes through the mailbox, and its head.
pub const MAX_LEN: usize = 256;

/// Bytes of an encoded [`Handover`].
pub const HANDOVER_LEN: usize = 16;

const HANDOVER_MAGIC: [u8; 4] = *b"CNPH";
const EXTENDED: u32 = 0x8000_0000;

/// From the application to the boot services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// A UDS request that the ECU profile marks *mailbox*, received in `session` of the
    /// application's server. The reply is the response, positive or negative.
    Uds {
        /// diagnosticSessionType of the active session.
        session: u8,
        /// The request from its service identifier on.
        pdu: &'a [u8],
    },
    /// The application has tested itself: a trial becomes healthy.
    SelfTestPassed,
    /// `10 02` was answered with 0x78: reset into the programming session.
    EnterProgramming(Handover),
    /// ECUReset was answered: reset.
    Reset,
}

/// From the boot services to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The response to a [`Request::Uds`]; an empty one means that none is sent.
    Uds(&'a [u8]),
    /// Done, durably.
    Done,
    /// Not possible in the present state, or not a request.
    Refused,
}

/// What the application leaves in retained RAM for the bootloader: who waits for `50 02`.
///
/// Little-endian: magic `CNPH`, request id u32 and response id u32 (bit 31: 29-bit id), CRC-32 of
/// the 12 bytes before. The checksum finds accidents, not attacks: a forged handover opens nothing
/// but a locked programming session. A bootloader compares what lies before it with the one handover
/// that it can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handover {
    /// The CAN id on which the tester's request came.
    pub request_id: CanId,
    /// The CAN id on which it waits for the response.
    pub response_id: CanId,
}

impl Handover {
    /// Everything but the checksum.
    fn content(&self) -> [[u8; 4]; 3] {
        [
            HANDOVER_MAGIC,
            id_word(self.request_id).to_le_bytes(),
            id_word(self.response_id).to_le_bytes(),
        ]
    }

    /// The bytes for retained RAM.
    #[must_use]
    pub fn encode(&self) -> [u8; HANDOVER_LEN] {
        let [magic, request, response] = self.content();
        let checksum = crc32([magic, request, response].as_flattened()).to_le_bytes();
        let mut bytes = [0; HANDOVER_LEN];
        copy(
            &mut bytes,
            [magic, request, response, checksum].as_flattened(),
        );
        bytes
    }

    /// Whether this very handover was left at the beginning of `retained`. Every bit before the checksum
    /// is compared, so that says nothing more.
    #[must_use]
    pub fn is_left_in(&self, retained: &[u8]) -> bool {
        retained.starts_with(self.content().as_flattened())
    }

    /// The handover in `bytes`; `None` where there is none, as after power-on.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (content, rest) = bytes.split_first_chunk::<12>()?;
        let checksum = <[u8; 4]>::try_from(rest).ok()?;
        let (magic, ids) = content.split_first_chunk::<4>()?;
        let (request_id, response_id) = ids.split_first_chunk::<4>()?;
        let response_id = <[u8; 4]>::try_from(response_id).ok()?;
        if *magic != HANDOVER_MAGIC || crc32(content).to_le_bytes() != checksum {
            return None;
        }
        Some(Self {
            request_id: id_of(*request_id)?,
            response_id: id_of(response_id)?,
        })
    }
}

impl<'a> Request<'a> {
    /// Writes the message into `out`; its length, or `None` where it does not fit.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Uds { session, pdu } => write(out, &[0x01, *session], pdu),
            Self::SelfTestPassed => write(out, &[0x02], &[]),
            Self::EnterProgramming(handover) => write(out, &[0x03], &handover.encode()),
            Self::Reset => write(out, &[0x04], &[]),
        }
    }

    /// The request that `message` is; `None` for anything else.
    #[must_use]
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        match message {
            [0x01, session, pdu @ ..] if !pdu.is_empty() && message.len() <= MAX_LEN => {
                Some(Self::Uds {
                    session: *session,
                    pdu,
                })
            }
            [0x02] => Some(Self::SelfTestPassed),
            [0x03, handover @ ..] => Handover::parse(handover).map(Self::EnterProgramming),
            [0x04] => Some(Self::Reset),
            _ => None,
        }
    }
}

impl<'a> Reply<'a> {
    /// Writes the message into `out`; its length, or `None` where it does not fit.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let (first, pdu) = match *self {
            Self::Uds(pdu) => (0x81, pdu),
            Self::Done => (0x82, &[][..]),
            Self::Refused => (0x83, &[][..]),
        };
        write(out, &[first], pdu)
    }

    /// The reply that `message` is; `None` for anything else.
    #[must_use]
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        match message {
            [0x81, pdu @ ..] if message.len() <= MAX_LEN => Some(Self::Uds(pdu)),
            [0x82] => Some(Self::Done),
            [0x83] => Some(Self::Refused),
            _ => None,
        }
    }
}

fn id_word(id: CanId) -> u32 {
    if id.is_extended() {
        id.raw() | EXTENDED
    } else {
        id.raw()
    }
}

fn id_of(bytes: [u8; 4]) -> Option<CanId> {
    let word = u32::from_le_bytes(bytes);
    if word & EXTENDED == 0 {
        CanId::standard(u16::try_from(word).ok()?)
    } else {
        CanId::extended(word & !EXTENDED)
    }
}

/// Writes `head` and `rest`; `None` where they do not fit into `out` or [`MAX_LEN`].
fn write(out: &mut [u8], head: &[u8], rest: &[u8]) -> Option<usize> {
    let len = rest.len().checked_add(head.len())?;
    let out = out.get_mut(..len).filter(|_| len <= MAX_LEN)?;
    let (first, behind) = out.split_at_mut_checked(head.len())?;
    copy(first, head);
    copy(behind, rest);
    Some(len)
}

/// CRC-32 as in IEEE 802.3, bit by bit: it runs once per reset.
fn crc32(bytes: &[u8]) -> u32 {
    let register = bytes.iter().fold(u32::MAX, |register, byte| {
        (0..8).fold(register ^ u32::from(*byte), |register, _| {
            (register >> 1) ^ if register & 1 == 1 { 0xEDB8_8320 } else { 0 }
        })
    });
    !register
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn handover() -> Handover {
        Handover {
            request_id: CanId::standard(0x7E0).unwrap(),
            response_id: CanId::extended(0x18DA_F110).unwrap(),
        }
    }

    #[test]
    fn crc32_has_its_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn every_request_and_reply_survives_a_round_trip() {
        let mut buffer = [0; MAX_LEN];
        for request in [
            Request::Uds {
                session: 3,
                pdu: &[0x27, 1],
            },
            Request::SelfTestPassed,
            Request::EnterProgramming(handover()),
            Request::Reset,
        ] {
            let len = request.encode(&mut buffer).unwrap();
            assert_eq!(Request::parse(&buffer[..len]), Some(request));
        }
        for reply in [
            Reply::Uds(&[0x67, 1]),
            Reply::Uds(&[]),
            Reply::Done,
            Reply::Refused,
        ] {
            let len = reply.encode(&mut buffer).unwrap();
            assert_eq!(Reply::parse(&buffer[..len]), Some(reply));
        }
    }

    #[test]
    fn a_message_that_does_not_fit_is_not_written() {
        let mut buffer = [0; 2 * MAX_LEN];
        assert_eq!(Reply::Uds(&[0; MAX_LEN]).encode(&mut buffer), None);
        assert_eq!(Request::SelfTestPassed.encode(&mut []), None);
    }

    #[test]
    fn a_damaged_handover_is_no_handover() {
        let bytes = handover().encode();
        assert_eq!(Handover::parse(&bytes), Some(handover()));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Handover::parse(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn only_this_very_handover_was_left() {
        let bytes = [&handover().encode()[..], &[0xA5; 48]].concat();
        assert!(handover().is_left_in(&bytes) && handover().is_left_in(&bytes[..HANDOVER_LEN]));
        for bit in 0..12 * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!handover().is_left_in(&other), "bit {bit}");
        }
        assert!((0..12).all(|len| !handover().is_left_in(&bytes[..len])));
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_what_parses_is_written_back(message in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = [0; MAX_LEN];
            if let Some(request) = Request::parse(&message) {
                let len = request.encode(&mut buffer).unwrap();
                prop_assert_eq!(&buffer[..len], &message[..]);
            }
            if let Some(reply) = Reply::parse(&message) {
                let len = reply.encode(&mut buffer).unwrap();
                prop_assert_eq!(&buffer[..len], &message[..]);
            }
        }
    }
}

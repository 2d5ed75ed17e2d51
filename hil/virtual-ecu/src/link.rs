//! What a virtual ECU and the application that it executes say to each other, one message a packet
//! of the socket pair that the application inherits as [`APP_FD`].
//!
//! The application owns no bus and no flash: frames, boot services and the watchdog are all here.
//! `ecu-app` includes this file; it needs neither `std` nor an allocator.
//!
//! | first byte | message | rest |
//! |---|---|---|
//! | 01 | frame, both ways | id u32 (bit 31: 29-bit id), format (0 classical, 1 FD, 2 FD with BRS), data |
//! | 02 | mailbox reply, to the application | as `ecu_bootloader::mailbox` |
//! | 03 | boot info, to the application | four ids u32, FD flag, boot reason |
//! | 04 | standstill, to the application | 0 or 1 |
//! | 11 | mailbox request, from the application | as `ecu_bootloader::mailbox` |
//! | 12 | watchdog kick, from the application | |

use uds::can::{CanId, Format, Frame};

/// The file descriptor of the application's end.
pub const APP_FD: i32 = 3;
/// Bytes of the longest message.
pub const MAX_LEN: usize = 300;

const EXTENDED: u32 = 0x8000_0000;

/// What the application is told at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootInfo {
    /// Physical requests to this ECU.
    pub request_id: CanId,
    /// Its responses.
    pub response_id: CanId,
    /// Functional requests.
    pub functional_id: CanId,
    /// Its heartbeat frame.
    pub heartbeat_id: CanId,
    /// Whether its bus is a CAN FD bus.
    pub fd: bool,
    /// Why it was started: the boot reason of FD01.
    pub reason: u8,
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A frame from or to the bus.
    Frame(Frame),
    /// A reply of the boot services.
    MailboxReply(&'a [u8]),
    /// The first message to the application.
    BootInfo(BootInfo),
    /// Whether the vehicle stands still.
    Standstill(bool),
    /// A request to the boot services.
    MailboxRequest(&'a [u8]),
    /// The application is alive.
    Kick,
}

impl<'a> Message<'a> {
    /// Writes the message into `out`; its length, or `None` where it does not fit.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Frame(frame) => {
                let format = match frame.format() {
                    Format::Classical => 0,
                    Format::Fd { brs: false } => 1,
                    Format::Fd { brs: true } => 2,
                };
                write(out, &[&[0x01], &word(frame.id()), &[format], frame.data()])
            }
            Self::MailboxReply(message) => write(out, &[&[0x02], message]),
            Self::BootInfo(info) => {
                let ids = [
                    info.request_id,
                    info.response_id,
                    info.functional_id,
                    info.heartbeat_id,
                ];
                let ids = ids.map(word);
                write(
                    out,
                    &[
                        &[0x03],
                        ids.as_flattened(),
                        &[u8::from(info.fd), info.reason],
                    ],
                )
            }
            Self::Standstill(still) => write(out, &[&[0x04, u8::from(*still)]]),
            Self::MailboxRequest(message) => write(out, &[&[0x11], message]),
            Self::Kick => write(out, &[&[0x12]]),
        }
    }

    /// The message in `packet`; `None` where it is none.
    #[must_use]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (kind, rest) = packet.split_first()?;
        match (kind, rest) {
            (0x01, rest) => {
                let (id, rest) = id(rest)?;
                let (format, data) = rest.split_first()?;
                let format = match format {
                    0 => Format::Classical,
                    1 => Format::Fd { brs: false },
                    2 => Format::Fd { brs: true },
                    _ => return None,
                };
                Frame::new(id, format, data).map(Self::Frame)
            }
            (0x02, message) => Some(Self::MailboxReply(message)),
            (0x03, rest) => boot_info(rest).map(Self::BootInfo),
            (0x04, [still @ (0 | 1)]) => Some(Self::Standstill(*still == 1)),
            (0x11, message) => Some(Self::MailboxRequest(message)),
            (0x12, []) => Some(Self::Kick),
            _ => None,
        }
    }
}

fn boot_info(rest: &[u8]) -> Option<BootInfo> {
    let (request_id, rest) = id(rest)?;
    let (response_id, rest) = id(rest)?;
    let (functional_id, rest) = id(rest)?;
    let (heartbeat_id, rest) = id(rest)?;
    let [fd @ (0 | 1), reason] = *rest else {
        return None;
    };
    Some(BootInfo {
        request_id,
        response_id,
        functional_id,
        heartbeat_id,
        fd: fd == 1,
        reason,
    })
}

fn word(id: CanId) -> [u8; 4] {
    let flag = if id.is_extended() { EXTENDED } else { 0 };
    (id.raw() | flag).to_le_bytes()
}

fn id(bytes: &[u8]) -> Option<(CanId, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<4>()?;
    let word = u32::from_le_bytes(*word);
    let id = if word & EXTENDED == 0 {
        CanId::standard(u16::try_from(word).ok()?)
    } else {
        CanId::extended(word & !EXTENDED)
    };
    Some((id?, rest))
}

fn write(out: &mut [u8], parts: &[&[u8]]) -> Option<usize> {
    let len = parts.iter().map(|part| part.len()).sum();
    let out = out.get_mut(..len)?;
    for (to, from) in out
        .iter_mut()
        .zip(parts.iter().flat_map(|part| part.iter()))
    {
        *to = *from;
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard(raw: u16) -> CanId {
        CanId::standard(raw).unwrap()
    }

    #[test]
    fn every_message_survives_a_round_trip() {
        let info = BootInfo {
            request_id: standard(0x7E0),
            response_id: standard(0x7E8),
            functional_id: standard(0x7DF),
            heartbeat_id: CanId::extended(0x1234_5678).unwrap(),
            fd: true,
            reason: 1,
        };
        let frame = Frame::new(standard(0x123), Format::Fd { brs: true }, &[7; 12]).unwrap();
        for message in [
            Message::Frame(frame),
            Message::MailboxReply(&[1, 2]),
            Message::BootInfo(info),
            Message::Standstill(false),
            Message::MailboxRequest(&[]),
            Message::Kick,
        ] {
            let mut buffer = [0; MAX_LEN];
            let len = message.encode(&mut buffer).unwrap();
            assert_eq!(Message::parse(&buffer[..len]), Some(message));
            for shorter in 0..len {
                // Cutting may give another message, never a panic.
                let _ = Message::parse(&buffer[..shorter]);
            }
        }
    }

    #[test]
    fn an_impossible_frame_is_no_message() {
        assert_eq!(
            Message::parse(&[0x01, 0, 8, 0, 0, 0]),
            None,
            "an 11-bit id beyond 7FF"
        );
        assert_eq!(
            Message::parse(&[0x01, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            None
        );
        assert_eq!(
            Message::parse(&[0x01, 0, 0, 0, 0, 9]),
            None,
            "an unknown format"
        );
        assert_eq!(Message::parse(&[]), None);
    }
}

//! Frames as the Linux kernel lays them out in memory: `struct can_frame` (16 bytes) and
//! `struct canfd_frame` (72 bytes) of `linux/can.h`. The user-space bus carries the same bytes, one
//! frame a message; the length tells the two apart.

use uds::can::{CanId, Format, Frame};

/// Length of a `can_frame`.
pub const CAN_MTU: usize = 16;
/// Length of a `canfd_frame`.
pub const CANFD_MTU: usize = 72;

const EFF_FLAG: u32 = 0x8000_0000;
const RTR_FLAG: u32 = 0x4000_0000;
const ERR_FLAG: u32 = 0x2000_0000;
const BRS: u8 = 0x01;
const FDF: u8 = 0x04;

/// First bytes of a message by which a node tells the hub its filters; no frame has its length.
const FILTER_MAGIC: [u8; 4] = *b"CFLT";

/// A frame in the kernel's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw {
    bytes: [u8; CANFD_MTU],
    len: usize,
}

impl Raw {
    /// The message: 16 or 72 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Why a message is no data frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Neither 16 nor 72 bytes.
    #[error("{0} bytes are neither a can_frame (16) nor a canfd_frame (72)")]
    Size(usize),
    /// A remote or error frame, which ISO-TP has no use for.
    #[error("a remote or error frame")]
    NotData,
    /// The length byte is one that no DLC of the format expresses, or the identifier is too wide.
    #[error("length {len} or identifier {id:#X} that no frame has")]
    Invalid {
        /// The length byte.
        len: u8,
        /// The identifier word.
        id: u32,
    },
}

/// The frame in the kernel's layout.
#[must_use]
pub fn encode(frame: &Frame) -> Raw {
    let mut raw = Raw {
        bytes: [0; CANFD_MTU],
        len: CAN_MTU,
    };
    raw.bytes[..4].copy_from_slice(&id_word(frame.id()).to_ne_bytes());
    // A frame has at most 64 bytes.
    raw.bytes[4] = u8::try_from(frame.data().len()).unwrap_or(64);
    if let Format::Fd { brs } = frame.format() {
        raw.bytes[5] = FDF | if brs { BRS } else { 0 };
        raw.len = CANFD_MTU;
    }
    raw.bytes[8..8 + frame.data().len()].copy_from_slice(frame.data());
    raw
}

/// The frame in a message of the kernel's layout.
///
/// # Errors
/// [`LayoutError`], for whatever is no data frame.
pub fn decode(message: &[u8]) -> Result<Frame, LayoutError> {
    let format = match message.len() {
        CAN_MTU => Format::Classical,
        CANFD_MTU => Format::Fd {
            brs: message[5] & BRS != 0,
        },
        size => return Err(LayoutError::Size(size)),
    };
    let word = u32::from_ne_bytes([message[0], message[1], message[2], message[3]]);
    if word & (RTR_FLAG | ERR_FLAG) != 0 {
        return Err(LayoutError::NotData);
    }
    let len = message[4];
    let id = id_of(word);
    let data = message.get(8..8 + usize::from(len));
    id.zip(data)
        .and_then(|(id, data)| Frame::new(id, format, data))
        .ok_or(LayoutError::Invalid { len, id: word })
}

fn id_word(id: CanId) -> u32 {
    id.raw() | if id.is_extended() { EFF_FLAG } else { 0 }
}

fn id_of(word: u32) -> Option<CanId> {
    match word & EFF_FLAG {
        0 => u16::try_from(word).ok().and_then(CanId::standard),
        _ => CanId::extended(word & !EFF_FLAG),
    }
}

/// Identifier and mask of a `can_filter` that lets exactly `id` through.
#[must_use]
pub fn exact_filter(id: CanId) -> (u32, u32) {
    let mask = if id.is_extended() { 0x1FFF_FFFF } else { 0x7FF };
    (id_word(id), mask | EFF_FLAG | RTR_FLAG)
}

/// The message by which a node of a user-space bus tells the hub which identifiers it wants to
/// receive from now on; `None` for all, which is also what a node without such a message gets.
///
/// `CFLT`, then the 4-byte identifier words of `can_frame`, at most 255 of them.
#[must_use]
pub fn encode_filter(ids: Option<&[CanId]>) -> Vec<u8> {
    let mut message = FILTER_MAGIC.to_vec();
    match ids {
        // A word that no identifier has: all.
        None => message.extend(ERR_FLAG.to_ne_bytes()),
        Some(ids) => message.extend(
            ids.iter()
                .take(255)
                .flat_map(|id| id_word(*id).to_ne_bytes()),
        ),
    }
    if matches!(message.len(), CAN_MTU | CANFD_MTU) {
        // The last one again: no filter has the length of a frame.
        message.extend_from_within(message.len() - 4..);
    }
    message
}

/// What a filter message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Every frame.
    All,
    /// These identifiers.
    Ids(Vec<CanId>),
}

impl Filter {
    /// Whether frames of `id` pass.
    #[must_use]
    pub fn passes(&self, id: CanId) -> bool {
        match self {
            Self::All => true,
            Self::Ids(ids) => ids.contains(&id),
        }
    }
}

/// The filter in a message, or `None` where it is no well-formed filter message.
#[must_use]
pub fn decode_filter(message: &[u8]) -> Option<Filter> {
    let words = message.strip_prefix(&FILTER_MAGIC)?;
    if matches!(message.len(), CAN_MTU | CANFD_MTU) || !words.len().is_multiple_of(4) {
        return None;
    }
    let mut ids = Vec::new();
    for word in words.chunks_exact(4) {
        let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        if word == ERR_FLAG {
            return Some(Filter::All);
        }
        ids.push(id_of(word)?);
    }
    Some(Filter::Ids(ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use socketcan::{CanAnyFrame, EmbeddedFrame, Frame as _, id::FdFlags};

    fn any_id() -> impl Strategy<Value = CanId> {
        prop_oneof![
            (0..=0x7FFu16).prop_map(|raw| CanId::standard(raw).unwrap()),
            (0..=0x1FFF_FFFFu32).prop_map(|raw| CanId::extended(raw).unwrap()),
        ]
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let data = prop::collection::vec(any::<u8>(), 0..=64);
        (any_id(), any::<Option<bool>>(), data).prop_map(|(id, fd, mut data)| {
            let format = match fd {
                Some(brs) => Format::Fd { brs },
                None => Format::Classical,
            };
            if fd.is_none() {
                data.truncate(8);
            }
            data.resize(uds::can::fd_length(data.len()), 0);
            Frame::new(id, format, &data).unwrap()
        })
    }

    /// The same frame as the socketcan crate makes it.
    fn theirs(frame: &Frame) -> CanAnyFrame {
        let id = embedded_can::Id::from(frame.id());
        match frame.format() {
            Format::Classical => socketcan::CanFrame::new(id, frame.data()).unwrap().into(),
            Format::Fd { brs } => {
                let flags = if brs {
                    FdFlags::BRS | FdFlags::FDF
                } else {
                    FdFlags::FDF
                };
                let frame = socketcan::CanFdFrame::with_flags(id, frame.data(), flags);
                frame.unwrap().into()
            }
        }
    }

    proptest! {
        #[test]
        fn frames_survive(frame in any_frame()) {
            prop_assert_eq!(decode(encode(&frame).as_bytes()), Ok(frame));
        }

        #[test]
        fn the_layout_is_the_one_of_socketcan(frame in any_frame()) {
            let raw = encode(&frame);
            let theirs = theirs(&frame);
            prop_assert_eq!(&theirs.id_word().to_ne_bytes()[..], &raw.as_bytes()[..4]);
            prop_assert_eq!(theirs.data(), &raw.as_bytes()[8..8 + frame.data().len()]);
            // Their whole structure, byte by byte, by way of a socket pair: they expose no bytes.
            let (ours, peer) = std::os::unix::net::UnixDatagram::pair().unwrap();
            let socket = socketcan::CanFdSocket::from(std::os::fd::OwnedFd::from(peer));
            socketcan::Socket::write_frame(&socket, &theirs).unwrap();
            let mut bytes = [0; 80];
            let len = ours.recv(&mut bytes).unwrap();
            prop_assert_eq!(&bytes[..len], raw.as_bytes());
            ours.send(raw.as_bytes()).unwrap();
            let back = socketcan::Socket::read_frame(&socket).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{theirs:?}"));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..=80), size in 0..3) {
            match size {
                0 => bytes.resize(CAN_MTU, 0),
                1 => bytes.resize(CANFD_MTU, 0),
                _ => {}
            }
            let _ = decode(&bytes);
            let _ = decode_filter(&bytes);
        }

        #[test]
        fn filters_survive(ids in prop::collection::vec(any_id(), 0..40), other in any_id()) {
            let message = encode_filter(Some(&ids));
            prop_assert!(decode(&message).is_err());
            let filter = decode_filter(&message).unwrap();
            prop_assert!(ids.iter().all(|id| filter.passes(*id)));
            prop_assert_eq!(filter.passes(other), ids.contains(&other));
        }
    }

    #[test]
    fn no_filter_passes_everything() {
        assert_eq!(decode_filter(&encode_filter(None)), Some(Filter::All));
        assert_eq!(
            decode_filter(&encode_filter(Some(&[]))),
            Some(Filter::Ids(Vec::new()))
        );
    }

    #[test]
    fn remote_and_error_frames_are_no_data_frames() {
        let frame = Frame::new(CanId::standard(1).unwrap(), Format::Classical, &[1]).unwrap();
        for flag in [RTR_FLAG, ERR_FLAG] {
            let mut bytes = encode(&frame).as_bytes().to_vec();
            bytes[..4].copy_from_slice(&(1 | flag).to_ne_bytes());
            assert_eq!(decode(&bytes), Err(LayoutError::NotData));
        }
        assert_eq!(decode(&[0; 17]), Err(LayoutError::Size(17)));
        let mut bytes = encode(&frame).as_bytes().to_vec();
        bytes[4] = 9;
        assert_eq!(decode(&bytes), Err(LayoutError::Invalid { len: 9, id: 1 }));
    }
}

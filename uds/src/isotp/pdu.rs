//! The wire format: protocol control information (ISO 15765-2 clause 9.6).

use super::StMin;
use core::fmt;

/// What the receiver of a segmented message tells its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowStatus {
    /// CTS: send the next block.
    ContinueToSend,
    /// WAIT: another FlowControl follows.
    Wait,
    /// OVFLW: there is no room; the message ends here.
    Overflow,
}

/// A FlowControl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowControl {
    /// Go on, wait or stop.
    pub status: FlowStatus,
    /// ConsecutiveFrames until the next FlowControl; 0 for no limit.
    pub block_size: u8,
    /// The least gap between ConsecutiveFrames.
    pub st_min: StMin,
}

/// The content of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pdu<'a> {
    /// A whole message: 1 to 62 bytes.
    Single(&'a [u8]),
    /// The beginning of a message.
    First {
        /// FF_DL: bytes of the whole message, more than a single frame holds.
        len: u32,
        /// The first bytes of it; all that fit the frame.
        data: &'a [u8],
    },
    /// The continuation of a message.
    Consecutive {
        /// SN, 0 to 15.
        sequence_number: u8,
        /// The rest of the frame, with whatever fills it.
        data: &'a [u8],
    },
    /// An answer of the receiver.
    FlowControl(FlowControl),
}

/// A frame that is no PDU. The standard ignores all of them but a reserved flow status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Too short for the control information of its type.
    Truncated,
    /// A reserved type (upper nibble).
    UnknownType(u8),
    /// SF_DL is zero, reserved, or more than the frame holds.
    SingleLength,
    /// FF_DL would fit a single frame, uses the escape without need, or the frame is not full.
    FirstLength,
    /// A reserved flow status.
    FlowStatus(u8),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("frame too short for its control information"),
            Self::UnknownType(raw) => write!(f, "reserved PDU type {raw}"),
            Self::SingleLength => f.write_str("length of a SingleFrame is not possible"),
            Self::FirstLength => f.write_str("length of a FirstFrame is not possible"),
            Self::FlowStatus(raw) => write!(f, "reserved flow status {raw}"),
        }
    }
}

impl core::error::Error for Malformed {}

impl<'a> Pdu<'a> {
    /// Parses the data of a frame; `overhead` is the number of address bytes before the control
    /// information (0 or 1), which belong to the frame's length and are skipped.
    ///
    /// # Errors
    /// [`Malformed`] for every frame that clause 9.6 tells a receiver to ignore. A frame that is
    /// filled further than needed is accepted.
    pub fn parse(frame: &'a [u8], overhead: usize) -> Result<Self, Malformed> {
        let body = frame.get(overhead..).ok_or(Malformed::Truncated)?;
        let (&pci, rest) = body.split_first().ok_or(Malformed::Truncated)?;
        match pci >> 4 {
            0 => parse_single(pci & 0xF, rest, frame.len(), overhead),
            1 => parse_first(pci & 0xF, rest, frame.len(), overhead),
            2 => Ok(Self::Consecutive {
                sequence_number: pci & 0xF,
                data: rest,
            }),
            3 => parse_flow_control(pci & 0xF, rest),
            other => Err(Malformed::UnknownType(other)),
        }
    }

    /// Writes the PDU behind the address, without filling the frame.
    // Each caller has one kind of PDU, and of this function no more than that needs.
    #[inline(always)]
    pub(super) fn emit(&self, bytes: &mut Bytes) {
        match *self {
            Self::Single(data) => {
                let short = bytes.len().saturating_add(data.len()) < 8;
                let len = u8::try_from(data.len()).unwrap_or(u8::MAX);
                bytes.extend(if short { &[] } else { &[0] });
                bytes.extend(&[len]);
                bytes.extend(data);
            }
            Self::First { len, data } => {
                match u16::try_from(len) {
                    Ok(len @ 0..=0xFFF) => bytes.extend(&(0x1000 | len).to_be_bytes()),
                    _ => {
                        bytes.extend(&[0x10, 0]);
                        bytes.extend(&len.to_be_bytes());
                    }
                }
                bytes.extend(data);
            }
            Self::Consecutive {
                sequence_number,
                data,
            } => {
                bytes.extend(&[0x20 | (sequence_number & 0xF)]);
                bytes.extend(data);
            }
            Self::FlowControl(fc) => {
                let status = match fc.status {
                    FlowStatus::ContinueToSend => 0,
                    FlowStatus::Wait => 1,
                    FlowStatus::Overflow => 2,
                };
                bytes.extend(&[0x30 | status, fc.block_size, fc.st_min.to_wire()]);
            }
        }
    }
}

/// Clause 9.6.2. Up to 8 bytes of frame the length is in the nibble, above it is in the next byte.
fn parse_single(
    nibble: u8,
    rest: &[u8],
    frame_len: usize,
    overhead: usize,
) -> Result<Pdu<'_>, Malformed> {
    let short_max = 7usize.saturating_sub(overhead);
    let (len, data) = if frame_len <= 8 {
        (usize::from(nibble), rest)
    } else {
        let (&escaped, data) = rest.split_first().ok_or(Malformed::Truncated)?;
        if nibble != 0 || usize::from(escaped) <= short_max {
            return Err(Malformed::SingleLength);
        }
        (usize::from(escaped), data)
    };
    match data.get(..len) {
        Some(data) if len > 0 => Ok(Pdu::Single(data)),
        _ => Err(Malformed::SingleLength),
    }
}

/// Clause 9.6.3. The frame's length is the RX_DL of the whole message.
fn parse_first(
    nibble: u8,
    rest: &[u8],
    frame_len: usize,
    overhead: usize,
) -> Result<Pdu<'_>, Malformed> {
    if frame_len < 8 {
        return Err(Malformed::Truncated);
    }
    let (&low, data) = rest.split_first().ok_or(Malformed::Truncated)?;
    let short = u16::from_be_bytes([nibble, low]);
    let (len, data) = if short == 0 {
        let (len, data) = data.split_first_chunk().ok_or(Malformed::Truncated)?;
        let len = u32::from_be_bytes(*len);
        if len <= 0xFFF {
            return Err(Malformed::FirstLength);
        }
        (len, data)
    } else {
        (u32::from(short), data)
    };
    let pci_of_single = if frame_len > 8 { 2 } else { 1 };
    let fits_single = frame_len
        .saturating_sub(pci_of_single)
        .saturating_sub(overhead);
    if usize::try_from(len).is_ok_and(|len| len <= fits_single) {
        return Err(Malformed::FirstLength);
    }
    Ok(Pdu::First { len, data })
}

/// Clause 9.6.5.
fn parse_flow_control(nibble: u8, rest: &[u8]) -> Result<Pdu<'_>, Malformed> {
    let &[block_size, st_min, ..] = rest else {
        return Err(Malformed::Truncated);
    };
    let status = match nibble {
        0 => FlowStatus::ContinueToSend,
        1 => FlowStatus::Wait,
        2 => FlowStatus::Overflow,
        reserved => return Err(Malformed::FlowStatus(reserved)),
    };
    Ok(Pdu::FlowControl(FlowControl {
        status,
        block_size,
        st_min: StMin::from_wire(st_min),
    }))
}

/// Up to 64 bytes of a frame being written. What does not fit is left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    bytes: [u8; 64],
    len: usize,
}

impl Bytes {
    /// None but the address.
    pub(super) fn new(address: Option<u8>) -> Self {
        let mut new = Self {
            bytes: [0; 64],
            len: 0,
        };
        if let Some(address) = address {
            new.extend(&[address]);
        }
        new
    }

    fn extend(&mut self, data: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or(&mut []);
        if let Some(room) = room.get_mut(..data.len()) {
            room.copy_from_slice(data);
            self.len = self.len.saturating_add(data.len());
        }
    }

    /// Appends `byte` until there are `len` bytes.
    pub(super) fn fill_to(&mut self, len: usize, byte: u8) {
        if let Some(room) = self.bytes.get_mut(self.len..len) {
            room.fill(byte);
            self.len = len;
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(frame: &[u8]) -> Result<Pdu<'_>, Malformed> {
        Pdu::parse(frame, 0)
    }

    #[test]
    fn single_frames_that_the_standard_ignores() {
        use Malformed::SingleLength;
        assert_eq!(parse(&[0x00, 1, 2]), Err(SingleLength));
        assert_eq!(parse(&[0x03, 1, 2]), Err(SingleLength));
        assert_eq!(parse(&[0x08, 1, 2, 3, 4, 5, 6, 7]), Err(SingleLength));
        // CAN FD: no nibble, no length that fits 8 bytes, no more than the frame.
        let fd = |first: u8, second: u8| {
            let mut frame = [0; 12];
            frame[..2].copy_from_slice(&[first, second]);
            Pdu::parse(&frame, 0).map(|_| ())
        };
        assert_eq!(fd(0x05, 0), Err(SingleLength));
        assert_eq!(fd(0x00, 7), Err(SingleLength));
        assert_eq!(fd(0x00, 11), Err(SingleLength));
        assert_eq!(fd(0x00, 10), Ok(()));
    }

    #[test]
    fn first_frames_that_the_standard_ignores() {
        use Malformed::{FirstLength, Truncated};
        assert_eq!(parse(&[0x10, 9, 1, 2, 3, 4, 5]), Err(Truncated));
        assert_eq!(parse(&[0x10, 7, 1, 2, 3, 4, 5, 6]), Err(FirstLength));
        assert!(parse(&[0x10, 8, 1, 2, 3, 4, 5, 6]).is_ok());
        assert!(Pdu::parse(&[0xA0, 0x10, 7, 1, 2, 3, 4, 5], 1).is_ok());
        assert_eq!(parse(&[0x10, 0, 0, 0, 0x0F, 0xFF, 1, 2]), Err(FirstLength));
        assert!(parse(&[0x10, 0, 0, 0, 0x10, 0x00, 1, 2]).is_ok());
        let mut fd = [0; 64];
        fd[..2].copy_from_slice(&[0x10, 62]);
        assert_eq!(parse(&fd), Err(FirstLength));
        fd[1] = 63;
        assert!(parse(&fd).is_ok());
    }

    #[test]
    fn flow_controls() {
        assert_eq!(parse(&[0x33, 0, 0]), Err(Malformed::FlowStatus(3)));
        assert_eq!(parse(&[0x30, 0]), Err(Malformed::Truncated));
        assert_eq!(parse(&[0x50, 0]), Err(Malformed::UnknownType(5)));
        assert_eq!(parse(&[]), Err(Malformed::Truncated));
    }

    fn any_flow_control() -> impl Strategy<Value = FlowControl> {
        let status = prop_oneof![
            Just(FlowStatus::ContinueToSend),
            Just(FlowStatus::Wait),
            Just(FlowStatus::Overflow)
        ];
        (status, any::<u8>(), any::<u8>()).prop_map(|(status, block_size, st_min)| FlowControl {
            status,
            block_size,
            st_min: StMin::from_wire(st_min),
        })
    }

    fn check(pdu: Pdu<'_>, address: Option<u8>) {
        let mut bytes = Bytes::new(address);
        pdu.emit(&mut bytes);
        let overhead = usize::from(address.is_some());
        let mut filled = bytes;
        filled.fill_to(crate::can::fd_length(bytes.len()), 0xCC);
        let parsed = Pdu::parse(filled.as_slice(), overhead).unwrap();
        match (parsed, pdu) {
            (Pdu::Consecutive { data: a, .. }, Pdu::Consecutive { data: b, .. }) => {
                assert_eq!(&a[..b.len()], b);
            }
            _ => assert_eq!(parsed, pdu),
        }
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(
            address in any::<Option<u8>>(),
            data in prop::collection::vec(any::<u8>(), 1..=61),
            sequence_number in 0..16u8,
            len in 64..=u32::MAX,
            fc in any_flow_control(),
        ) {
            check(Pdu::Single(&data), address);
            check(Pdu::Consecutive { sequence_number, data: &data }, address);
            check(Pdu::FlowControl(fc), address);
            let room = 64 - usize::from(address.is_some()) - if len > 0xFFF { 6 } else { 2 };
            let full = [0x5A; 64];
            check(Pdu::First { len, data: &full[..room] }, address);
        }

        #[test]
        fn parsing_is_total_and_stays_in_the_frame(frame in prop::collection::vec(any::<u8>(), 0..=64), overhead in 0..=1usize) {
            match Pdu::parse(&frame, overhead) {
                Ok(Pdu::Single(data)) => prop_assert!(data.len() < frame.len()),
                Ok(Pdu::First { len, data }) => prop_assert!(len as usize > data.len()),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

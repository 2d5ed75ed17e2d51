//! CAN frames (ISO 11898-1): classical and FD, 11-bit and 29-bit identifiers.
//!
//! A [`Frame`] can only hold what a controller can send: its length is one that a DLC expresses.
//! Classical frames convert from and to any [`embedded_can::Frame`]; `embedded-can` has no trait
//! for FD frames.

use core::fmt;

/// A CAN identifier, 11 or 29 bits wide.
///
/// ```
/// use uds::can::CanId;
/// assert_eq!(CanId::standard(0x7E0).unwrap().raw(), 0x7E0);
/// assert!(CanId::standard(0x800).is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CanId {
    /// 11 bits.
    Standard(embedded_can::StandardId),
    /// 29 bits.
    Extended(embedded_can::ExtendedId),
}

impl CanId {
    /// An 11-bit identifier, or `None` above `0x7FF`.
    #[must_use]
    pub const fn standard(raw: u16) -> Option<Self> {
        match embedded_can::StandardId::new(raw) {
            Some(id) => Some(Self::Standard(id)),
            None => None,
        }
    }

    /// A 29-bit identifier, or `None` above `0x1FFF_FFFF`.
    #[must_use]
    pub const fn extended(raw: u32) -> Option<Self> {
        match embedded_can::ExtendedId::new(raw) {
            Some(id) => Some(Self::Extended(id)),
            None => None,
        }
    }

    /// The identifier's value without its width.
    #[must_use]
    pub fn raw(self) -> u32 {
        match self {
            Self::Standard(id) => u32::from(id.as_raw()),
            Self::Extended(id) => id.as_raw(),
        }
    }

    /// Whether the identifier has 29 bits.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        matches!(self, Self::Extended(_))
    }
}

impl fmt::Display for CanId {
    /// Hexadecimal, three digits for 11 bits and eight for 29, as candump writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(id) => write!(f, "{:03X}", id.as_raw()),
            Self::Extended(id) => write!(f, "{:08X}", id.as_raw()),
        }
    }
}

impl From<embedded_can::Id> for CanId {
    fn from(id: embedded_can::Id) -> Self {
        match id {
            embedded_can::Id::Standard(id) => Self::Standard(id),
            embedded_can::Id::Extended(id) => Self::Extended(id),
        }
    }
}

impl From<CanId> for embedded_can::Id {
    fn from(id: CanId) -> Self {
        match id {
            CanId::Standard(id) => Self::Standard(id),
            CanId::Extended(id) => Self::Extended(id),
        }
    }
}

/// The format of a data frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// CBFF/CEFF: up to 8 bytes.
    Classical,
    /// FBFF/FEFF: up to 64 bytes.
    Fd {
        /// Bit-rate switch: the data phase runs at the data bit rate.
        brs: bool,
    },
}

/// A data frame. Remote frames have no use in ISO-TP and no representation here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    id: CanId,
    format: Format,
    len: u8,
    data: [u8; 64],
}

impl Frame {
    /// A frame of `data`, or `None` where no DLC of `format` expresses its length.
    #[must_use]
    pub fn new(id: CanId, format: Format, data: &[u8]) -> Option<Self> {
        let fits = match format {
            Format::Classical => data.len() <= 8,
            Format::Fd { .. } => fd_length(data.len()) == data.len(),
        };
        if !fits {
            return None;
        }
        let mut bytes = [0; 64];
        bytes.get_mut(..data.len())?.copy_from_slice(data);
        Some(Self {
            id,
            format,
            len: u8::try_from(data.len()).ok()?,
            data: bytes,
        })
    }

    /// The identifier.
    #[must_use]
    pub const fn id(&self) -> CanId {
        self.id
    }

    /// Classical or FD.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The payload, 0 to 8 or 0 to 64 bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.data.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl fmt::Debug for Frame {
    /// `7E0#0210` classical, `7E0##10210` FD (flags digit first), as candump writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.format {
            Format::Classical => write!(f, "{}#", self.id)?,
            Format::Fd { brs } => write!(f, "{}##{}", self.id, u8::from(brs))?,
        }
        self.data()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// The shortest length of at least `len` bytes that a CAN FD DLC expresses (ISO 11898-1 table 5);
/// 64 for anything longer.
#[must_use]
pub const fn fd_length(len: usize) -> usize {
    match len {
        0..=8 => len,
        9..=12 => 12,
        13..=16 => 16,
        17..=20 => 20,
        21..=24 => 24,
        25..=32 => 32,
        33..=48 => 48,
        _ => 64,
    }
}

impl embedded_can::Frame for Frame {
    /// A classical frame.
    fn new(id: impl Into<embedded_can::Id>, data: &[u8]) -> Option<Self> {
        Self::new(id.into().into(), Format::Classical, data)
    }

    /// Always `None`: remote frames are not represented.
    fn new_remote(_id: impl Into<embedded_can::Id>, _dlc: usize) -> Option<Self> {
        None
    }

    fn is_extended(&self) -> bool {
        self.id.is_extended()
    }

    fn is_remote_frame(&self) -> bool {
        false
    }

    fn id(&self) -> embedded_can::Id {
        self.id.into()
    }

    fn dlc(&self) -> usize {
        usize::from(self.len)
    }

    fn data(&self) -> &[u8] {
        self.data()
    }
}

/// A classical data frame of any `embedded-can` implementation; `None` for a remote frame.
pub fn from_embedded(frame: &impl embedded_can::Frame) -> Option<Frame> {
    if frame.is_remote_frame() {
        return None;
    }
    Frame::new(frame.id().into(), Format::Classical, frame.data())
}

/// The frame as another `embedded-can` implementation; `None` for an FD frame.
pub fn to_embedded<F: embedded_can::Frame>(frame: &Frame) -> Option<F> {
    match frame.format {
        Format::Classical => F::new(embedded_can::Id::from(frame.id), frame.data()),
        Format::Fd { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FD: Format = Format::Fd { brs: true };

    fn id() -> CanId {
        CanId::standard(0x123).unwrap()
    }

    #[test]
    fn a_frame_holds_only_lengths_that_a_dlc_expresses() {
        let holds = |format, len: usize| Frame::new(id(), format, &[0; 70][..len]).is_some();
        assert!(holds(Format::Classical, 8) && !holds(Format::Classical, 12));
        assert!(holds(FD, 12) && !holds(FD, 9));
        assert!(holds(FD, 64) && !holds(FD, 65));
    }

    #[test]
    fn identifiers_are_bounded() {
        assert!(CanId::standard(0x7FF).is_some() && CanId::standard(0x800).is_none());
        assert!(CanId::extended(0x1FFF_FFFF).is_some() && CanId::extended(0x2000_0000).is_none());
    }

    #[test]
    fn debug_text_is_candump_notation() {
        let frame = Frame::new(id(), Format::Classical, &[2, 0x10]).unwrap();
        assert_eq!(format!("{frame:?}"), "123#0210");
        let frame = Frame::new(CanId::extended(0x18DA_10F1).unwrap(), FD, &[1]).unwrap();
        assert_eq!(format!("{frame:?}"), "18DA10F1##101");
    }

    proptest! {
        #[test]
        fn classical_frames_survive_embedded_can(raw in 0..=0x7FFu16, data in prop::collection::vec(any::<u8>(), 0..=8)) {
            let frame = Frame::new(CanId::standard(raw).unwrap(), Format::Classical, &data).unwrap();
            let there: Frame = to_embedded(&frame).unwrap();
            prop_assert_eq!(from_embedded(&there), Some(frame));
        }

        #[test]
        fn fd_length_is_the_next_dlc_and_idempotent(len in 0usize..=64) {
            let rounded = fd_length(len);
            prop_assert!(rounded >= len && rounded <= 64);
            prop_assert_eq!(fd_length(rounded), rounded);
        }
    }
}

//! What one end of a connection is told beforehand.

use super::{Addressing, StMin, pdu::Bytes};
use crate::can::{CanId, Format, Frame, fd_length};
use crate::time::Duration;

/// TX_DL: the longest frame that this end sends, in bytes (ISO 15765-2 clause 9.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TxDl(u8);

impl TxDl {
    /// 8 bytes, the only value for classical frames.
    pub const CLASSICAL: Self = Self(8);
    /// 64 bytes, the most that CAN FD has.
    pub const MAX: Self = Self(64);

    /// 8, 12, 16, 20, 24, 32, 48 or 64; `None` for anything else.
    #[must_use]
    pub fn new(bytes: usize) -> Option<Self> {
        let valid = (8..=64).contains(&bytes) && fd_length(bytes) == bytes;
        u8::try_from(bytes).ok().filter(|_| valid).map(Self)
    }

    /// The length in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::from(self.0)
    }
}

/// Timeouts of clause 9.8.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// N_As and N_Ar: how long a frame may wait for the bus. With a value the driver must confirm
    /// every frame by `on_transmitted`, and STmin and N_Bs count from the confirmation. Without
    /// one a frame counts as sent when it is handed out.
    pub n_a: Option<Duration>,
    /// N_Bs: from a FirstFrame or the end of a block to the FlowControl.
    pub n_bs: Duration,
    /// N_Br: from a FlowControl.WAIT to the next FlowControl.
    pub n_br: Duration,
    /// N_Cr: from a FlowControl or ConsecutiveFrame to the next ConsecutiveFrame.
    pub n_cr: Duration,
}

impl Timeouts {
    /// 1 s each as in table 21, no confirmation, and a WAIT every 500 ms. N_Cs needs no timer: a
    /// ConsecutiveFrame is offered as soon as STmin allows.
    pub const USUAL: Self = Self {
        n_a: None,
        n_bs: Duration::from_secs(1),
        n_br: Duration::from_millis(500),
        n_cr: Duration::from_secs(1),
    };
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::USUAL
    }
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Identifier of the frames that this end sends.
    pub tx_id: CanId,
    /// Identifier of the frames that the peer sends.
    pub rx_id: CanId,
    /// Identifier of functionally addressed frames: a server receives them, a client sends them.
    /// Frames of this identifier are received by either; a client drops what it did not ask for.
    pub functional_id: Option<CanId>,
    /// Where the address information is.
    pub addressing: Addressing,
    /// Format of the frames that this end sends; it receives both.
    pub format: Format,
    /// Longest frame that this end sends; taken as 8 where `format` is classical.
    pub tx_dl: TxDl,
    /// Fill frames to 8 bytes with this byte. Longer frames are always filled to the next length
    /// of a DLC, with this byte or 0xCC.
    pub padding: Option<u8>,
    /// BS: ConsecutiveFrames between two FlowControls that this end asks for; 0 for no limit.
    pub block_size: u8,
    /// The gap that this end asks for.
    pub st_min: StMin,
    /// N_WFTmax: FlowControl.WAIT in a row that this end sends, and that it puts up with.
    pub wft_max: u8,
    /// Timeouts.
    pub timeouts: Timeouts,
}

impl Config {
    /// Classical frames, normal addressing, filled with 0xCC, no limit of block or gap.
    #[must_use]
    pub const fn new(tx_id: CanId, rx_id: CanId) -> Self {
        Self {
            tx_id,
            rx_id,
            functional_id: None,
            addressing: Addressing::Normal,
            format: Format::Classical,
            tx_dl: TxDl::CLASSICAL,
            padding: Some(0xCC),
            block_size: 0,
            st_min: StMin::ZERO,
            wft_max: 16,
            timeouts: Timeouts::USUAL,
        }
    }

    /// As [`Config::new`], with CAN FD frames of up to 64 bytes and bit-rate switch.
    #[must_use]
    pub fn fd(tx_id: CanId, rx_id: CanId) -> Self {
        Self {
            format: Format::Fd { brs: true },
            tx_dl: TxDl::MAX,
            ..Self::new(tx_id, rx_id)
        }
    }

    /// Bytes of the longest frame that this end sends.
    pub(super) fn frame_len(&self) -> usize {
        match self.format {
            Format::Classical => 8,
            Format::Fd { .. } => self.tx_dl.bytes(),
        }
    }

    /// Bytes of the longest message that fits a single frame.
    #[must_use]
    pub fn single_frame_len(&self) -> usize {
        let pci = if self.frame_len() > 8 { 2 } else { 1 };
        self.frame_len()
            .saturating_sub(pci)
            .saturating_sub(self.addressing.overhead())
    }

    /// The frame of these bytes, filled as configured.
    pub(super) fn frame(&self, id: CanId, bytes: &mut Bytes) -> Option<Frame> {
        let least = if self.padding.is_some() { 8 } else { 0 };
        let len = bytes.len().max(least);
        let len = match self.format {
            Format::Classical => len,
            Format::Fd { .. } => fd_length(len),
        };
        bytes.fill_to(len, self.padding.unwrap_or(0xCC));
        Frame::new(id, self.format, bytes.as_slice())
    }
}

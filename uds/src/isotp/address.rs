//! Addressing formats (ISO 15765-2 clause 10.3).

use crate::can::CanId;

/// Where the address information of a frame is (N_AI).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// Normal and normal fixed: in the CAN identifier alone.
    Normal,
    /// Extended: the first data byte is the target address N_TA.
    Extended {
        /// N_TA of the peer, in frames that this end sends.
        tx: u8,
        /// N_TA of this end, in frames that it receives.
        rx: u8,
        /// N_TA of the functional group.
        functional: u8,
    },
    /// Mixed: the first data byte is the address extension N_AE, the same both ways.
    Mixed {
        /// N_AE.
        extension: u8,
    },
}

impl Addressing {
    /// The address byte of frames to the peer.
    pub(super) const fn tx(self) -> Option<u8> {
        match self {
            Self::Normal => None,
            Self::Extended { tx, .. } => Some(tx),
            Self::Mixed { extension } => Some(extension),
        }
    }

    /// The address byte of frames from the peer.
    pub(super) const fn rx(self) -> Option<u8> {
        match self {
            Self::Normal => None,
            Self::Extended { rx, .. } => Some(rx),
            Self::Mixed { extension } => Some(extension),
        }
    }

    /// The address byte of functionally addressed frames.
    pub(super) const fn functional(self) -> Option<u8> {
        match self {
            Self::Normal => None,
            Self::Extended { functional, .. } => Some(functional),
            Self::Mixed { extension } => Some(extension),
        }
    }

    /// Bytes that the address takes in every frame.
    pub(super) const fn overhead(self) -> usize {
        match self {
            Self::Normal => 0,
            Self::Extended { .. } | Self::Mixed { .. } => 1,
        }
    }
}

const fn joined(base: u32, target: u8, source: u8) -> u32 {
    base | ((target as u32) << 8) | source as u32
}

/// The 29-bit identifier of normal fixed addressing, physical: `18DA` target source.
#[must_use]
pub fn normal_fixed(target: u8, source: u8) -> Option<CanId> {
    CanId::extended(joined(0x18DA_0000, target, source))
}

/// The 29-bit identifier of normal fixed addressing, functional: `18DB` target source.
#[must_use]
pub fn normal_fixed_functional(target: u8, source: u8) -> Option<CanId> {
    CanId::extended(joined(0x18DB_0000, target, source))
}

/// The 29-bit identifier of mixed addressing, physical: `18CE` target source.
#[must_use]
pub fn mixed_29(target: u8, source: u8) -> Option<CanId> {
    CanId::extended(joined(0x18CE_0000, target, source))
}

/// The 29-bit identifier of mixed addressing, functional: `18CD` target source.
#[must_use]
pub fn mixed_29_functional(target: u8, source: u8) -> Option<CanId> {
    CanId::extended(joined(0x18CD_0000, target, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_identifiers_carry_target_then_source() {
        assert_eq!(normal_fixed(0x10, 0xF1).unwrap().raw(), 0x18DA_10F1);
        assert_eq!(
            normal_fixed_functional(0x33, 0xF1).unwrap().raw(),
            0x18DB_33F1
        );
        assert_eq!(mixed_29(0x10, 0xF1).unwrap().raw(), 0x18CE_10F1);
        assert_eq!(mixed_29_functional(0x33, 0xF1).unwrap().raw(), 0x18CD_33F1);
    }
}

//! What the bus itself allows: payload rates without stuffing and without any latency.
//!
//! Frames are padded to 8 bytes, on CAN FD consecutive frames to 64; every frame includes its
//! intermission. A measured rate divided by one of these is the share of the bus that was reached.

use crate::{BusConfig, FrameBits, bits};
use uds::can::{CanId, Format, Frame};

/// The width of the identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdKind {
    /// 11 bits.
    Standard,
    /// 29 bits.
    Extended,
}

impl From<CanId> for IdKind {
    fn from(id: CanId) -> Self {
        match id {
            CanId::Standard(_) => Self::Standard,
            CanId::Extended(_) => Self::Extended,
        }
    }
}

/// Payload of endless ISO-TP consecutive frames, in bytes per second.
#[must_use]
pub fn isotp(config: &BusConfig, ids: IdKind) -> f64 {
    let len = tx_dl(config);
    per_second(u64::from(len - 1), frame_nanos(config, ids, len))
}

/// TransferData payload in bytes per second where every block has `block_length` bytes
/// (maxNumberOfBlockLength, service and counter included): first frame, one flow control,
/// consecutive frames, response, and at once the next block.
#[must_use]
pub fn transfer_data(config: &BusConfig, ids: IdKind, block_length: u32) -> f64 {
    let len = tx_dl(config);
    let long = frame_nanos(config, ids, len);
    let short = frame_nanos(config, ids, 8);
    let response = short;
    let single = if len > 8 { len - 2 } else { len - 1 };
    let request = if block_length <= single {
        long
    } else {
        let first = if block_length > 4095 {
            len - 6
        } else {
            len - 2
        };
        let consecutive = (block_length - first).div_ceil(len - 1);
        long * (1 + u64::from(consecutive)) + short
    };
    per_second(block_length.saturating_sub(2).into(), request + response)
}

/// Data bytes of the longest frame.
fn tx_dl(config: &BusConfig) -> u32 {
    if config.data_bps.is_some() { 64 } else { 8 }
}

/// Time of a frame of `len` bytes with its intermission and no stuff bits, in ns.
fn frame_nanos(config: &BusConfig, ids: IdKind, len: u32) -> u64 {
    let id = match ids {
        IdKind::Standard => CanId::standard(0),
        IdKind::Extended => CanId::extended(0),
    };
    let format = match config.data_bps {
        Some(_) => Format::Fd { brs: true },
        None => Format::Classical,
    };
    let frame = id.and_then(|id| Frame::new(id, format, &[0; 64][..len as usize]));
    let Some(frame) = frame else { return 0 };
    let FrameBits { nominal, data, .. } = bits::without_stuffing(&frame);
    config.nominal_nanos(nominal + bits::INTERMISSION) + config.data_nanos(data)
}

#[allow(clippy::cast_precision_loss)] // Bytes and ns of one block are far below 2^53.
fn per_second(bytes: u64, nanos: u64) -> f64 {
    bytes as f64 * 1e9 / nanos as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSICAL: BusConfig = BusConfig::classical(500_000);
    const FD2: BusConfig = BusConfig::fd(500_000, 2_000_000);
    const FD5: BusConfig = BusConfig::fd(500_000, 5_000_000);

    /// Rounded to whole bytes per second.
    fn check(rate: f64, expected: u32) {
        assert!(
            (rate - f64::from(expected)).abs() <= 0.51,
            "{rate} is not {expected}"
        );
    }

    #[test]
    fn isotp_payload_rates() {
        check(isotp(&CLASSICAL, IdKind::Standard), 31_532);
        check(isotp(&CLASSICAL, IdKind::Extended), 26_718);
        check(isotp(&FD2, IdKind::Standard), 188_341);
        check(isotp(&FD5, IdKind::Standard), 371_025);
    }

    #[test]
    fn transfer_data_rates() {
        let expected = [
            (258, [29_568, 135_557, 254_120]),
            (4095, [31_355, 183_600, 360_134]),
            (65535, [31_521, 188_081, 370_410]),
        ];
        for (block_length, rates) in expected {
            for (config, rate) in [CLASSICAL, FD2, FD5].iter().zip(rates) {
                check(transfer_data(config, IdKind::Standard, block_length), rate);
            }
        }
    }

    #[test]
    fn tiny_blocks_are_single_frames() {
        // One frame of 111 bits each way.
        check(transfer_data(&CLASSICAL, IdKind::Standard, 7), 11_261);
        check(transfer_data(&CLASSICAL, IdKind::Standard, 0), 0);
    }
}

//! The length of a frame in bits, with the stuff bits that its content really needs
//! (ISO 11898-1, 10.4 frame formats and 10.5 bit stuffing).

use crate::BusConfig;
use uds::can::{CanId, Format, Frame};

/// CRC delimiter, acknowledgement with delimiter, end of frame.
const TRAILER: u32 = 10;
/// Bits between a frame and the next.
pub(crate) const INTERMISSION: u32 = 3;
/// Error flag, superposed flags of the others, error delimiter.
pub(crate) const ERROR_FRAME: u32 = 6 + 6 + 8;

/// Bits of one frame on the wire, intermission not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameBits {
    /// At the nominal bit rate.
    pub nominal: u32,
    /// At the data bit rate: from ESI to the end of the CRC of an FD frame that switches rates.
    pub data: u32,
    /// How many of all these are dynamic stuff bits.
    pub stuff: u32,
}

impl FrameBits {
    /// Counts the bits of `frame`.
    #[must_use]
    pub fn of(frame: &Frame) -> Self {
        match frame.format() {
            Format::Classical => classical(frame),
            Format::Fd { brs } => fd(frame, brs),
        }
    }

    /// Time on the bus in ns, intermission not included.
    #[must_use]
    pub fn nanos(&self, config: &BusConfig) -> u64 {
        config.nominal_nanos(self.nominal) + config.data_nanos(self.data)
    }
}

/// Everything from start of frame to the CRC is stuffed, the CRC included, so its value counts.
fn classical(frame: &Frame) -> FrameBits {
    let mut stuffer = Stuffer::new();
    arbitration(&mut stuffer, frame.id());
    stuffer.push(0, 2); // IDE and r0, or r1 and r0
    stuffer.push(dlc(frame), 4);
    frame
        .data()
        .iter()
        .for_each(|byte| stuffer.push((*byte).into(), 8));
    stuffer.push(stuffer.crc.into(), 15);
    FrameBits {
        nominal: stuffer.bits + stuffer.stuff + TRAILER,
        data: 0,
        stuff: stuffer.stuff,
    }
}

/// Only up to the data field is stuffed by content; the CRC has stuff bits in fixed places, so its
/// value does not matter to the length and is not computed.
fn fd(frame: &Frame, brs: bool) -> FrameBits {
    let mut stuffer = Stuffer::new();
    arbitration(&mut stuffer, frame.id());
    if !frame.id().is_extended() {
        stuffer.push(0, 1); // IDE
    }
    stuffer.push(0b10, 2); // FDF, res
    let before_brs = stuffer.stuff;
    stuffer.push(brs.into(), 1);
    let (head, head_stuff) = (stuffer.bits, before_brs);
    stuffer.push(0, 1); // ESI: error active
    stuffer.push(dlc(frame), 4);
    frame
        .data()
        .iter()
        .for_each(|byte| stuffer.push((*byte).into(), 8));
    // The first fixed stuff bit takes the place of a dynamic one after the last data bit.
    let stuff = stuffer.stuff - u32::from(stuffer.run == 1 && stuffer.just_stuffed);
    let crc = if frame.data().len() > 16 { 21 } else { 17 };
    let count_and_crc = 4 + crc;
    let fixed = u32::div_ceil(count_and_crc, 4);
    let data = stuffer.bits - head + (stuff - head_stuff) + count_and_crc + fixed;
    let nominal = head + head_stuff + TRAILER;
    match brs {
        true => FrameBits {
            nominal,
            data,
            stuff,
        },
        false => FrameBits {
            nominal: nominal + data,
            data: 0,
            stuff,
        },
    }
}

/// The bits of `frame` as if its content needed no stuff bit.
pub(crate) fn without_stuffing(frame: &Frame) -> FrameBits {
    let dynamic = FrameBits::of(frame);
    let head = if frame.id().is_extended() { 36 } else { 17 };
    let total = dynamic.nominal + dynamic.data - dynamic.stuff;
    let nominal = if dynamic.data == 0 {
        total
    } else {
        head + TRAILER
    };
    FrameBits {
        nominal,
        data: total - nominal,
        stuff: 0,
    }
}

/// Start of frame and the arbitration field, up to RTR or RRS.
fn arbitration(stuffer: &mut Stuffer, id: CanId) {
    stuffer.push(0, 1);
    match id {
        CanId::Standard(id) => {
            stuffer.push(id.as_raw().into(), 11);
        }
        CanId::Extended(id) => {
            stuffer.push(id.as_raw() >> 18, 11);
            stuffer.push(0b11, 2); // SRR, IDE
            stuffer.push(id.as_raw(), 18);
        }
    }
    stuffer.push(0, 1); // RTR or RRS
}

fn dlc(frame: &Frame) -> u32 {
    match frame.data().len() {
        len @ 0..=8 => u32::try_from(len).unwrap_or(8),
        9..=12 => 9,
        13..=16 => 10,
        17..=20 => 11,
        21..=24 => 12,
        25..=32 => 13,
        33..=48 => 14,
        _ => 15,
    }
}

/// Counts bits and dynamic stuff bits: after five equal bits comes one of the other value, which
/// itself counts for what follows. Carries the CRC-15 along.
struct Stuffer {
    bits: u32,
    stuff: u32,
    last: u32,
    run: u32,
    just_stuffed: bool,
    crc: u16,
}

impl Stuffer {
    const fn new() -> Self {
        Self {
            bits: 0,
            stuff: 0,
            last: 2,
            run: 0,
            just_stuffed: false,
            crc: 0,
        }
    }

    /// Adds the lowest `count` bits of `value`, highest first.
    fn push(&mut self, value: u32, count: u32) {
        for shift in (0..count).rev() {
            self.push_bit(value >> shift & 1);
        }
    }

    fn push_bit(&mut self, bit: u32) {
        self.bits += 1;
        let feedback = (self.crc >> 14 & 1 == 1) != (bit == 1);
        self.crc = (self.crc << 1 & 0x7FFF) ^ if feedback { 0x4599 } else { 0 };
        self.run = if bit == self.last { self.run + 1 } else { 1 };
        self.last = bit;
        self.just_stuffed = self.run == 5;
        if self.just_stuffed {
            self.stuff += 1;
            self.last = 1 - bit;
            self.run = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FD: Format = Format::Fd { brs: true };

    fn frame(id: CanId, format: Format, data: &[u8]) -> Frame {
        Frame::new(id, format, data).unwrap()
    }

    fn standard(raw: u16) -> CanId {
        CanId::standard(raw).unwrap()
    }

    /// Bits without stuffing and the most stuff bits there can be, by formula.
    fn by_formula(frame: &Frame) -> (u32, u32) {
        let n = u32::try_from(frame.data().len()).unwrap();
        let extended = frame.id().is_extended();
        match frame.format() {
            Format::Classical => {
                let g = if extended { 54 } else { 34 } + 8 * n;
                (g + 10, (g - 1) / 4)
            }
            Format::Fd { .. } => {
                let head = if extended { 36 } else { 17 };
                let crc = if n > 16 { 21 + 7 } else { 17 + 6 };
                (head + 10 + 5 + 8 * n + 4 + crc, (head + 5 + 8 * n - 1) / 4)
            }
        }
    }

    #[test]
    fn crc_15_of_a_known_frame() {
        // An independent bit-by-bit division of 0x123#DEADBEEF's 51 bits by the polynomial.
        let mut stuffer = Stuffer::new();
        let mut message: u128 = 0;
        for (value, count) in [(0u32, 1), (0x123, 11), (0, 3), (4, 4), (0xDEAD_BEEF, 32)] {
            stuffer.push(value, count);
            message = message << count | u128::from(value);
        }
        let mut rest = message << 15;
        for shift in (0..51).rev() {
            if rest >> (shift + 15) & 1 == 1 {
                rest ^= 0xC599 << shift;
            }
        }
        assert_eq!(u128::from(stuffer.crc), rest);
    }

    #[test]
    fn stuff_bits_count_for_the_next_run() {
        let mut stuffer = Stuffer::new();
        stuffer.push(0b0_0000_1111_0000, 13);
        assert_eq!(stuffer.stuff, 3);
        let mut stuffer = Stuffer::new();
        stuffer.push(0b0101_0101, 8);
        assert_eq!(stuffer.stuff, 0);
    }

    #[test]
    fn a_full_fd_frame_has_the_documented_phases() {
        // Alternating content but for the control bits: few stuff bits, all of them counted apart.
        let bits = FrameBits::of(&frame(standard(0x2AA), FD, &[0x55; 64]));
        assert_eq!(bits.nominal + bits.data - bits.stuff, 17 + 10 + 549);
        let still = FrameBits::of(&frame(
            standard(0x2AA),
            Format::Fd { brs: false },
            &[0x55; 64],
        ));
        assert_eq!(still.data, 0);
    }

    #[test]
    fn equal_bits_are_stuffed_every_fifth_bit() {
        let bits = FrameBits::of(&frame(standard(0), Format::Classical, &[0; 8]));
        // 15 zeros, the one of DLC 8, 67 zeros; then a CRC of 15 bits.
        assert!((16..=19).contains(&bits.stuff), "{bits:?}");
    }

    #[test]
    fn no_dynamic_stuff_bit_before_the_fixed_one() {
        // The last five data bits are equal, the bits before them are not.
        let with = FrameBits::of(&frame(standard(0x2AA), FD, &[0x55, 0x5F]));
        let without = FrameBits::of(&frame(standard(0x2AA), FD, &[0x55, 0x55]));
        assert_eq!(with.stuff, without.stuff);
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let id = prop_oneof![
            (0..=0x7FFu16).prop_map(standard),
            (0..=0x1FFF_FFFFu32).prop_map(|raw| CanId::extended(raw).unwrap()),
        ];
        let byte = prop_oneof![Just(0u8), Just(0xFF), any::<u8>()];
        (id, 0..3, prop::collection::vec(byte, 0..=64)).prop_map(|(id, format, mut data)| {
            let format = match format {
                0 => Format::Classical,
                1 => Format::Fd { brs: false },
                _ => FD,
            };
            if format == Format::Classical {
                data.truncate(8);
            }
            data.resize(uds::can::fd_length(data.len()), 0xCC);
            frame(id, format, &data)
        })
    }

    proptest! {
        #[test]
        fn lengths_agree_with_the_formulas(frame in any_frame()) {
            let bits = FrameBits::of(&frame);
            let (unstuffed, worst) = by_formula(&frame);
            prop_assert_eq!(bits.nominal + bits.data - bits.stuff, unstuffed);
            prop_assert!(bits.stuff <= worst, "{bits:?} {worst}");
        }
    }
}

//! SeparationTime minimum (ISO 15765-2 clause 9.6.5.4).

use crate::time::Duration;

/// STmin: the least gap between two ConsecutiveFrames, as its receiver asks for it.
///
/// Holds only values that the standard defines: 0 to 127 ms, and 100 to 900 µs.
///
/// ```
/// use uds::isotp::StMin;
/// use uds::time::Duration;
/// assert_eq!(StMin::from_wire(0xF3).duration(), Duration::from_micros(300));
/// assert_eq!(StMin::at_least(Duration::from_micros(950)).to_wire(), 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StMin(u8);

impl StMin {
    /// No gap.
    pub const ZERO: Self = Self(0);
    /// 127 ms, the longest.
    pub const MAX: Self = Self(0x7F);

    /// The value of an STmin byte. Reserved values mean the longest gap (clause 9.6.5.5).
    #[must_use]
    pub const fn from_wire(raw: u8) -> Self {
        match raw {
            0..=0x7F | 0xF1..=0xF9 => Self(raw),
            _ => Self::MAX,
        }
    }

    /// The byte that a FlowControl carries.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        self.0
    }

    /// The shortest STmin of at least `gap`; [`StMin::MAX`] for anything longer.
    #[must_use]
    pub fn at_least(gap: Duration) -> Self {
        let micros = gap.as_micros();
        let raw = match micros {
            0 => 0,
            1..=900 => micros.div_ceil(100).saturating_add(0xF0),
            _ => micros.div_ceil(1000).min(0x7F),
        };
        Self(u8::try_from(raw).unwrap_or(0x7F))
    }

    /// The gap.
    #[must_use]
    pub const fn duration(self) -> Duration {
        match self.0 {
            0xF1..=0xF9 => {
                let steps = (self.0 as u64).saturating_sub(0xF0);
                Duration::from_micros(steps.saturating_mul(100))
            }
            millis => Duration::from_millis(millis as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_means_what_table_20_says() {
        for raw in 0..=u8::MAX {
            let micros = match raw {
                0..=0x7F => u64::from(raw) * 1000,
                0xF1..=0xF9 => u64::from(raw - 0xF0) * 100,
                _ => 127_000,
            };
            let st_min = StMin::from_wire(raw);
            assert_eq!(st_min.duration(), Duration::from_micros(micros), "{raw:#x}");
            assert_eq!(StMin::from_wire(st_min.to_wire()), st_min);
        }
    }

    #[test]
    fn a_gap_is_rounded_up_never_down() {
        for micros in (0..130_000).step_by(37) {
            let gap = Duration::from_micros(micros);
            let st_min = StMin::at_least(gap);
            assert!(st_min.duration() >= gap || st_min == StMin::MAX, "{micros}");
        }
        assert_eq!(StMin::at_least(Duration::from_micros(1)).to_wire(), 0xF1);
        assert_eq!(StMin::at_least(Duration::MAX), StMin::MAX);
    }
}

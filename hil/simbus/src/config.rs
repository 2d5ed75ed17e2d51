//! What a bus is: bit rates, queue depth, faults.

use core::time::Duration;

/// The bus and the seed of its faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusConfig {
    /// Nominal bit rate in bit/s, not zero.
    pub nominal_bps: u32,
    /// Data bit rate of CAN FD in bit/s, not zero; `None` for a classical bus.
    pub data_bps: Option<u32>,
    /// Frames that a node's transmit queue holds, the one on the bus included.
    pub queue: usize,
    /// Seed of the faults.
    pub seed: u64,
    /// Faults.
    pub faults: Faults,
}

impl BusConfig {
    /// A classical bus without faults; 16 frames a queue.
    #[must_use]
    pub const fn classical(nominal_bps: u32) -> Self {
        Self {
            nominal_bps,
            data_bps: None,
            queue: 16,
            seed: 0,
            faults: Faults::NONE,
        }
    }

    /// A CAN FD bus without faults; 16 frames a queue.
    #[must_use]
    pub const fn fd(nominal_bps: u32, data_bps: u32) -> Self {
        Self {
            data_bps: Some(data_bps),
            ..Self::classical(nominal_bps)
        }
    }

    /// Time of so many bits at the nominal bit rate, in ns.
    pub(crate) fn nominal_nanos(&self, bits: u32) -> u64 {
        nanos(bits, self.nominal_bps)
    }

    /// Time of so many bits at the data bit rate, in ns.
    pub(crate) fn data_nanos(&self, bits: u32) -> u64 {
        nanos(bits, self.data_bps.unwrap_or(self.nominal_bps))
    }
}

fn nanos(bits: u32, bps: u32) -> u64 {
    (u64::from(bits) * 1_000_000_000).div_ceil(u64::from(bps.max(1)))
}

/// Faults, as parts of a million transmissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Frames that nobody receives although the sender believes so, as after a receiver's overrun.
    pub drop_ppm: u32,
    /// Frames destroyed on the wire: an error frame follows, and the controller sends again.
    pub corrupt_ppm: u32,
}

impl Faults {
    /// A perfect bus.
    pub const NONE: Self = Self {
        drop_ppm: 0,
        corrupt_ppm: 0,
    };
}

/// Nanoseconds as a duration.
pub(crate) const fn duration(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

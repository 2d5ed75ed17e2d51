//! How long a campaign will take, and what it draws from the battery.
//!
//! ```text
//! staging     buses side by side, the ECUs of a bus share its rate
//! activation  all ECUs side by side: reset, boot, self-test
//! sealing     all ECUs side by side
//! ```
//!
//! The rate is the computed limit of ISO-TP on the bus without stuff bits, times the share of it that
//! transfers reach; the rest are allowances. An estimate, not a bound.

use std::time::Duration;

use campaign::vehicle::Bus;
use serde::Serialize;

/// Share of the computed limit in percent: what the demo measures on classical buses, and on FD buses,
/// where the pauses between blocks weigh more.
const SHARE: [u64; 2] = [90, 80];
/// Sessions, access, header verification, erase and the check of one ECU.
const STAGING: Duration = Duration::from_secs(6);
/// From activation to a healthy report.
const TRIAL: Duration = Duration::from_secs(8);
/// Sealing.
const SEALING: Duration = Duration::from_secs(2);

/// What one ECU is sent.
#[derive(Debug, Clone, Copy)]
pub struct Load<'v> {
    /// Its bus.
    pub bus: &'v Bus,
    /// Whether its identifiers have 29 bits.
    pub extended_ids: bool,
    /// Bytes of grant, header, table and pages.
    pub bytes: u64,
}

/// The battery's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Battery {
    /// Energy that an update may take, in Wh.
    pub budget_wh: u32,
    /// What the vehicle draws while it is updated, in W.
    pub draw_w: u32,
}

impl Battery {
    /// The energy that the vehicle draws in this time, in mWh, rounded up.
    #[must_use]
    pub fn energy_mwh(&self, time: Duration) -> u64 {
        let watt_milliseconds = u128::from(self.draw_w) * time.as_millis();
        u64::try_from(watt_milliseconds.div_ceil(3600)).unwrap_or(u64::MAX)
    }

    /// Whether the budget covers that time.
    #[must_use]
    pub fn covers(&self, time: Duration) -> bool {
        self.energy_mwh(time) <= u64::from(self.budget_wh) * 1000
    }
}

/// Bytes per second of ISO-TP payload that the bus carries at the most, without stuff bits: seven of
/// eight bytes of a classical frame, 63 of 64 of an FD frame (ISO 11898-1, ISO 15765-2).
#[must_use]
pub fn isotp_limit(bus: &Bus, extended_ids: bool) -> u64 {
    let nominal = u64::from(bus.bitrate.max(1));
    let data = u64::from(bus.data_bitrate.unwrap_or(bus.bitrate).max(1));
    // Frame with 3 bits of intermission: SOF to BRS, and CRC delimiter to the end.
    let (payload, nominal_bits, data_bits) = match (bus.fd, extended_ids) {
        (false, false) => (7, 111, 0),
        (false, true) => (7, 131, 0),
        (true, false) => (63, 30, 549),
        (true, true) => (63, 49, 549),
    };
    // Bits at two rates, on the common denominator.
    let time = nominal_bits * data + data_bits * nominal;
    let limit = u128::from(payload * nominal) * u128::from(data) / u128::from(time.max(1));
    u64::try_from(limit).unwrap_or(u64::MAX)
}

impl Load<'_> {
    /// The time to stage this ECU.
    #[must_use]
    pub fn staging(&self) -> Duration {
        let share = SHARE[usize::from(self.bus.fd)];
        let rate = (isotp_limit(self.bus, self.extended_ids) * share / 100).max(1);
        let millis = self.bytes.saturating_mul(1000).div_ceil(rate);
        STAGING + Duration::from_millis(millis)
    }
}

/// The time of a campaign that brings `loads`; nothing takes no time. `one_at_a_time`: no two buses work
/// side by side, and each ECU has its trial alone.
#[must_use]
pub fn total(loads: &[Load<'_>], one_at_a_time: bool) -> Duration {
    if loads.is_empty() {
        return Duration::ZERO;
    }
    if one_at_a_time {
        let alone = |load: &Load<'_>| load.staging() + TRIAL + SEALING;
        return loads.iter().map(alone).sum();
    }
    let on_bus = |bus: &Bus| {
        let of_bus = loads.iter().filter(|load| load.bus.name == bus.name);
        of_bus.map(Load::staging).sum::<Duration>()
    };
    let slowest = loads.iter().map(|load| on_bus(load.bus)).max();
    slowest.unwrap_or_default() + TRIAL + SEALING
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(name: &str, data_bitrate: Option<u32>) -> Bus {
        Bus {
            name: name.parse().unwrap(),
            link: campaign::vehicle::Link::new(name).unwrap(),
            fd: data_bitrate.is_some(),
            bitrate: 500_000,
            data_bitrate,
        }
    }

    #[test]
    fn the_limit_is_that_of_the_frame_formats() {
        assert_eq!(isotp_limit(&bus("a", None), false), 31_531);
        assert_eq!(isotp_limit(&bus("a", None), true), 26_717);
        assert_eq!(isotp_limit(&bus("a", Some(2_000_000)), false), 188_340);
        assert_eq!(isotp_limit(&bus("a", Some(5_000_000)), false), 371_024);
    }

    #[test]
    fn buses_work_side_by_side_and_ecus_of_a_bus_one_after_another() {
        let (slow, fast) = (bus("slow", None), bus("fast", Some(2_000_000)));
        let load = |bus| Load {
            bus,
            extended_ids: false,
            bytes: 400 << 10,
        };
        let one = load(&slow).staging();
        let side_by_side = |loads: &[Load<'_>]| total(loads, false);
        assert_eq!(side_by_side(&[load(&slow)]), one + TRIAL + SEALING);
        let two = side_by_side(&[load(&slow), load(&slow)]);
        assert_eq!(two, one * 2 + TRIAL + SEALING);
        let both = side_by_side(&[load(&slow), load(&fast)]);
        assert_eq!(both, one + TRIAL + SEALING);
        let in_turn = total(&[load(&slow), load(&fast)], true);
        assert_eq!(in_turn, one + load(&fast).staging() + (TRIAL + SEALING) * 2);
        assert_eq!(side_by_side(&[]), Duration::ZERO);
    }

    #[test]
    fn a_budget_is_kept_to_the_milliwatt_hour() {
        let battery = Battery {
            budget_wh: 1,
            draw_w: 60,
        };
        assert!(battery.covers(Duration::from_secs(60)));
        assert!(!battery.covers(Duration::from_millis(60_001)));
        assert_eq!(battery.energy_mwh(Duration::from_secs(90)), 1500);
    }
}

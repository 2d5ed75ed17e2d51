//! Points in time as metadata write them: whole seconds, UTC, `2026-11-22T00:00:00Z`; and which of them
//! a vehicle believes.

mod attestation;

pub use attestation::{
    ATTESTATION_MAX_LEN, Judged, KnownTime, Nonce, TOLERANCE_SECS, TimeFault, TimeSource, statement,
};

use crate::ids::InvalidId;
use ::time::{OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros};
use alloc::{format, string::String};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const FORMAT: &[BorrowedFormatItem<'static>] =
    macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// Seconds since 1970-01-01T00:00:00Z, at most the end of the year 9999.
///
/// The caller passes the current time in; nothing here reads a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    const MAX: u64 = 253_402_300_799;

    /// `seconds` after the epoch; later than the year 9999 is its end.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(if seconds > Self::MAX {
            Self::MAX
        } else {
            seconds
        })
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// This time and `days` more.
    #[must_use]
    pub const fn plus_days(self, days: u32) -> Self {
        let seconds = (days as u64).saturating_mul(86_400);
        Self::from_secs(self.0.saturating_add(seconds))
    }
}

impl FromStr for UnixTime {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        PrimitiveDateTime::parse(text, FORMAT)
            .ok()
            .and_then(|time| u64::try_from(time.assume_utc().unix_timestamp()).ok())
            .filter(|seconds| text.len() == 20 && *seconds <= Self::MAX)
            .map(Self)
            .ok_or_else(|| InvalidId::new("time", text, "UTC as 2026-11-22T00:00:00Z, from 1970"))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = i64::try_from(self.0)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .map_or_else(|| format!("{} s", self.0), written);
        f.pad(&text)
    }
}

/// The text of [`FORMAT`]; the crate's own formatting needs std.
fn written(time: OffsetDateTime) -> String {
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

impl Serialize for UnixTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn text_is_utc_with_seconds() {
        let time: UnixTime = "2026-11-22T01:02:03Z".parse().unwrap();
        assert_eq!(time.as_secs(), 1_795_309_323);
        assert_eq!(
            UnixTime::from_secs(u64::MAX).to_string(),
            "9999-12-31T23:59:59Z"
        );
        for bad in [
            "2026-11-22",
            "1969-12-31T23:59:59Z",
            "2026-13-01T00:00:00Z",
            "2026-11-22T00:00:00+01:00",
            "",
        ] {
            assert!(bad.parse::<UnixTime>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn times_survive_text(seconds in 0..=UnixTime::MAX) {
            let time = UnixTime::from_secs(seconds);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}

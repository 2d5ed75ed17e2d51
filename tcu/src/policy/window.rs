//! Maintenance windows: `22:00-05:00` each day, `Mon-Fri 22:00-05:00`, `Sat,Sun 00:00-24:00`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_S: i64 = 86_400;
/// 1970-01-01 was a Thursday.
const FIRST_DAY: i64 = 3;

/// A window, by the days on which it begins. One that ends no later than it begins lasts until the
/// next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes of the day.
    from: u16,
    /// Minutes after `from`, up to a day.
    length: u16,
}

/// Not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no window: write `22:00-05:00` or `Mon-Fri,Sun 22:00-05:00`")]
pub struct BadWindow(String);

impl Window {
    /// Seconds until it is open; 0 where it is. `local` is in seconds since 1970, local time.
    #[must_use]
    pub fn opens_in(&self, local: i64) -> u64 {
        let today = local.div_euclid(DAY_S);
        let opens = (-1..=7).filter_map(|ahead| {
            let day = today.saturating_add(ahead);
            let weekday = day.saturating_add(FIRST_DAY).rem_euclid(7);
            if self.days & (1 << weekday) == 0 {
                return None;
            }
            let start = day
                .saturating_mul(DAY_S)
                .saturating_add(i64::from(self.from) * 60);
            let end = start.saturating_add(i64::from(self.length) * 60);
            (local < end).then(|| u64::try_from(start.saturating_sub(local)).unwrap_or(0))
        });
        opens.min().unwrap_or(u64::MAX)
    }
}

impl FromStr for Window {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Self, BadWindow> {
        parse(text).ok_or_else(|| BadWindow(text.chars().take(64).collect()))
    }
}

fn parse(text: &str) -> Option<Window> {
    let text = text.trim();
    let (days, times) = match text.rsplit_once(' ') {
        Some((days, times)) => (parse_days(days.trim())?, times),
        None => (0x7F, text),
    };
    let (from, to) = times.split_once('-')?;
    let (from, to) = (minutes(from)?, minutes(to)?);
    if from >= 1440 {
        return None;
    }
    let length = match to > from {
        true => to.checked_sub(from)?,
        false => to.checked_add(1440)?.checked_sub(from)?,
    };
    Some(Window { days, from, length })
}

fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name.trim());
    text.split(',').try_fold(0, |days, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // `Fri-Mon` goes over the end of the week.
        let count = (last + 7 - first) % 7;
        Some((0..=count).fold(days, |days, ahead| days | 1 << ((first + ahead) % 7)))
    })
}

/// `HH:MM`, up to 24:00.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    if hours.len() > 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let sum = hours.checked_mul(60)?.checked_add(minutes)?;
    (minutes < 60 && sum <= 1440).then_some(sum)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != 0x7F {
            let days = DAYS.iter().enumerate();
            let days = days.filter(|(day, _)| self.days & (1 << day) != 0);
            let days: Vec<&str> = days.map(|(_, name)| *name).collect();
            write!(f, "{} ", days.join(","))?;
        }
        let end = self.from + self.length;
        let to = if end > 1440 { end - 1440 } else { end };
        let (from, to) = ((self.from / 60, self.from % 60), (to / 60, to % 60));
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.0, from.1, to.0, to.1)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-23 was a Monday.
    const MONDAY: i64 = 1_795_392_000;
    const HOUR: i64 = 3600;

    fn opens_in(window: &str, local: i64) -> u64 {
        window.parse::<Window>().unwrap().opens_in(local)
    }

    #[test]
    fn windows_open_when_they_say() {
        let night = "Mon-Fri 22:00-05:00";
        for (window, local, expected) in [
            ("22:00-05:00", MONDAY + 23 * HOUR, 0),
            ("22:00-05:00", MONDAY + 4 * HOUR, 0),
            ("22:00-05:00", MONDAY + 5 * HOUR, 17 * 3600),
            (night, MONDAY + 4 * HOUR, 18 * 3600),
            (night, MONDAY + 24 * HOUR + 4 * HOUR, 0),
            (night, MONDAY + 5 * 24 * HOUR + 4 * HOUR, 0),
            (night, MONDAY + 6 * 24 * HOUR, 46 * 3600),
            ("Sun 00:00-24:00", MONDAY, 6 * 86_400),
            ("Fri-Mon 01:00-02:00", MONDAY + HOUR, 0),
            ("12:00-12:00", MONDAY, 0),
        ] {
            assert_eq!(opens_in(window, local), expected, "{window} at {local}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "22:00",
            "22-05",
            "Mon",
            "Monday 22:00-05:00",
            "25:00-05:00",
            "24:00-05:00",
            "22:60-05:00",
            "22:00-05:00-06:00",
            "Mon- 22:00-05:00",
            "022:00-05:00",
            "-1:00-05:00",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_window_survives_its_text(days in 1u8..0x80, from in 0u16..1440, length in 1u16..=1440) {
            let window = Window { days, from, length };
            prop_assert_eq!(window.to_string().parse::<Window>(), Ok(window));
        }

        #[test]
        fn it_is_open_when_it_said_it_would_be(
            days in 1u8..0x80, from in 0u16..1440, length in 1u16..=1440, local in 0i64..4_000_000_000,
        ) {
            let window = Window { days, from, length };
            let rest = window.opens_in(local);
            prop_assert!(rest <= 7 * 86_400);
            prop_assert_eq!(window.opens_in(local + i64::try_from(rest).unwrap()), 0);
            if rest > 0 {
                prop_assert!(window.opens_in(local + i64::try_from(rest).unwrap() - 1) > 0);
            }
        }

        #[test]
        fn any_text_is_survived(text in ".{0,40}") {
            let _ = text.parse::<Window>();
        }
    }
}

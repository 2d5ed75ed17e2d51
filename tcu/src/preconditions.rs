//! Whether the vehicle's situation permits to bring images into ECUs, and to let them run.
//!
//! A pure machine: frames, ECUs' answers and the time go in, questions and a [`Permit`] come out. A value that was never seen, is
//! older than allowed, or outside of what its description says it can be, counts as not fulfilled. A
//! permit is lost at once and comes back only after all has been well for a while.

mod dbc;
mod watch;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};
use uds::can::CanId;
use uds::time::{Duration, Instant, earliest};

pub use dbc::{DbcError, Layout, layouts};
pub use watch::start;

use crate::engine::Permit;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A signal in frames that are heard.
    Signal {
        /// The bus that it is heard on, by its name in `vehicle.json`.
        bus: String,
        /// The frames that it is in.
        id: CanId,
        /// Where in them.
        layout: Layout,
    },
    /// A data identifier that an ECU is asked for.
    Did {
        /// The ECU, by its name in `vehicle.json`.
        ecu: String,
        /// The identifier.
        did: u16,
        /// Where in its record.
        layout: Layout,
        /// How often it is asked.
        interval: Duration,
        /// A reading that is older counts as none.
        stale: Duration,
    },
}

/// An ECU is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The condition, for the answer.
    pub index: usize,
    /// The ECU.
    pub ecu: String,
    /// The identifier.
    pub did: u16,
}

/// What must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Its name, for people and evidence.
    pub name: String,
    /// Where its value comes from.
    pub source: Source,
    /// Its unit, for people.
    pub unit: String,
    /// The lowest value that is good.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// Whether it must hold while images are brought into ECUs.
    pub stage: bool,
}

/// Bounds of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A signal that was heard longer ago counts as none.
    pub stale: Duration,
    /// How long all must have been well before a permit comes back.
    pub settle: Duration,
}

/// What was heard of a condition.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reading {
    /// `None`: a value that the signal cannot have.
    value: Option<f64>,
    at: Instant,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Preconditions {
    conditions: Vec<Condition>,
    readings: Vec<Option<Reading>>,
    /// When an ECU was asked last, and whether its answer is awaited.
    asked: Vec<Option<(Instant, bool)>>,
    limits: Limits,
    /// Since when staging, and activation, have been well.
    well: [Option<Instant>; 2],
}

impl Preconditions {
    /// Nothing has been heard.
    #[must_use]
    pub fn new(conditions: Vec<Condition>, limits: Limits) -> Self {
        Self {
            readings: vec![None; conditions.len()],
            asked: vec![None; conditions.len()],
            conditions,
            limits,
            well: [None; 2],
        }
    }

    /// The conditions.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// A frame was heard on a bus.
    pub fn handle_frame(&mut self, now: Instant, bus: &str, id: CanId, data: &[u8]) {
        let readings = self.conditions.iter().zip(&mut self.readings);
        for (condition, reading) in readings {
            let Source::Signal {
                bus: on,
                id: in_frame,
                layout,
            } = &condition.source
            else {
                continue;
            };
            if on == bus && *in_frame == id {
                let value = layout.decode(data);
                *reading = Some(Reading { value, at: now });
            }
        }
        self.handle_timeout(now);
    }

    /// The next ECU that is to be asked. It is not asked again before [`Preconditions::handle_answer`].
    pub fn poll_question(&mut self, now: Instant) -> Option<Question> {
        let mut asked = self.conditions.iter().zip(&mut self.asked).enumerate();
        asked.find_map(|(index, (condition, asked))| {
            let Source::Did {
                ecu, did, interval, ..
            } = &condition.source
            else {
                return None;
            };
            let due = asked.is_none_or(|(at, awaited)| !awaited && now >= at + *interval);
            due.then(|| {
                *asked = Some((now, true));
                Question {
                    index,
                    ecu: ecu.clone(),
                    did: *did,
                }
            })
        })
    }

    /// What came of a question: the record, or nothing where the ECU was busy, silent or refused. Then
    /// what it said before ages.
    pub fn handle_answer(&mut self, now: Instant, index: usize, record: Option<&[u8]>) {
        if let Some((_, awaited)) = self.asked.get_mut(index).and_then(Option::as_mut) {
            *awaited = false;
        }
        let condition = self.conditions.get(index);
        if let (Some(Source::Did { layout, .. }), Some(record)) =
            (condition.map(|condition| &condition.source), record)
            && let Some(reading) = self.readings.get_mut(index)
        {
            let value = layout.decode(record);
            *reading = Some(Reading { value, at: now });
        }
        self.handle_timeout(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (well, staging) in self.well.clone().iter().zip([true, false]) {
            let met = (0..self.conditions.len())
                .filter(|index| !staging || self.conditions.get(*index).is_some_and(|c| c.stage))
                .all(|index| self.is_met(index, now));
            let since = if met { well.or(Some(now)) } else { None };
            if let Some(well) = self.well.get_mut(usize::from(!staging)) {
                *well = since;
            }
        }
    }

    /// What is permitted, as of the last input.
    #[must_use]
    pub fn permit(&self, now: Instant) -> Permit {
        let [stage, activate] = self.well.map(|since| {
            since.is_some_and(|since| now.saturating_since(since) >= self.limits.settle)
        });
        Permit { stage, activate }
    }

    /// When [`Preconditions::handle_timeout`] is due: something goes stale, or has settled.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        // A reading counts up to its age; past it is one tick later.
        let tick = Duration::from_millis(1);
        let readings = self.readings.iter().enumerate();
        let ages = readings
            .filter_map(|(index, reading)| Some((*reading)?.at + self.stale(index) + tick))
            .filter(|at| *at > now);
        let asked = self.conditions.iter().zip(&self.asked);
        let questions = asked.filter_map(|(condition, asked)| match &condition.source {
            Source::Did { interval, .. } => match asked {
                None => Some(now),
                Some((at, awaited)) => (!awaited).then(|| *at + *interval),
            },
            Source::Signal { .. } => None,
        });
        let settled = self
            .well
            .iter()
            .flatten()
            .map(|since| *since + self.limits.settle);
        ages.chain(settled.filter(|at| *at > now))
            .chain(questions)
            .map(Some)
            .fold(None, earliest)
    }

    /// Those that do not hold, in words.
    #[must_use]
    pub fn unmet(&self, now: Instant) -> String {
        let unmet = self.conditions.iter().enumerate();
        let unmet = unmet.filter(|(index, _)| !self.is_met(*index, now));
        let words: Vec<String> = unmet
            .map(|(index, condition)| match self.reading(index) {
                None => format!("{} was never heard", condition.name),
                Some(reading) if self.is_stale(index, reading, now) => {
                    format!("{} is not heard any more", condition.name)
                }
                Some(Reading { value: None, .. }) => format!("{} is not valid", condition.name),
                Some(Reading {
                    value: Some(value), ..
                }) => {
                    let text = format!("{} is {value} {}", condition.name, condition.unit);
                    text.trim_end().to_owned()
                }
            })
            .collect();
        words.join(", ")
    }

    /// All of them, for status and evidence.
    #[must_use]
    pub fn told(&self, now: Instant) -> Value {
        let conditions = self.conditions.iter().enumerate();
        let told = conditions.map(|(index, condition)| {
            let reading = self
                .reading(index)
                .filter(|reading| !self.is_stale(index, *reading, now));
            let mut one = json!({
                "value": reading.and_then(|reading| reading.value),
                "min": condition.min,
                "max": condition.max,
                "met": self.is_met(index, now),
            });
            if let Some(one) = one.as_object_mut().filter(|_| !condition.unit.is_empty()) {
                one.insert("unit".into(), condition.unit.as_str().into());
            }
            (condition.name.clone(), one)
        });
        Value::Object(told.collect())
    }

    fn reading(&self, index: usize) -> Option<Reading> {
        self.readings.get(index).copied().flatten()
    }

    fn stale(&self, index: usize) -> Duration {
        match self.conditions.get(index).map(|it| &it.source) {
            Some(Source::Did { stale, .. }) => *stale,
            _ => self.limits.stale,
        }
    }

    fn is_stale(&self, index: usize, reading: Reading, now: Instant) -> bool {
        now.saturating_since(reading.at) > self.stale(index)
    }

    fn is_met(&self, index: usize, now: Instant) -> bool {
        let (Some(condition), Some(reading)) = (self.conditions.get(index), self.reading(index))
        else {
            return false;
        };
        let good = |value: f64| condition.min <= value && value <= condition.max;
        !self.is_stale(index, reading, now) && reading.value.is_some_and(good)
    }
}

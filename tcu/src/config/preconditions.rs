//! In which situation of the vehicle a campaign may go on.

use std::path::PathBuf;

use campaign::vehicle::Vehicle;
use serde::{Deserialize, Serialize};
use uds::time::Duration;

use super::{Bounded, read};
use crate::error::Error;
use crate::preconditions::{self, Layout};

/// In which situation of the vehicle a campaign may go on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Preconditions {
    /// The file that describes the signals.
    pub dbc: Option<PathBuf>,
    /// Milliseconds after which a signal that is not heard any more counts as not fulfilled.
    pub stale_ms: Option<Bounded<10, 60_000>>,
    /// Milliseconds for which all must have been well before a campaign goes on.
    pub settle_ms: Option<Bounded<0, 600_000>>,
    /// Percent of a bus's time that staging may take while activation is not permitted.
    pub staging_share: Option<Bounded<1, 100>>,
    /// The signals.
    pub signal: Vec<Signal>,
    /// What ECUs are asked for.
    pub did: Vec<DataRecord>,
}

/// A signal that must be in a range.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signal {
    /// Its name for people.
    pub name: String,
    /// The bus that it is on, as `vehicle.json` names it.
    pub bus: String,
    /// The message and the signal in the DBC file.
    pub message: String,
    /// See `message`.
    pub signal: String,
    /// The lowest value that is good.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// What it must hold for.
    #[serde(default)]
    pub needed_for: NeededFor,
}

/// A number in a data record of an ECU that must be in a range; the ECU is asked again and again.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataRecord {
    /// Its name for people.
    pub name: String,
    /// The ECU, as `vehicle.json` names it.
    pub ecu: String,
    /// The data identifier.
    pub did: Bounded<0, 0xFFFF>,
    /// The number's first byte in the record.
    pub byte: Bounded<0, 240>,
    /// Its bytes, the most significant first.
    pub length: Bounded<1, 8>,
    /// Whether it has a sign.
    #[serde(default)]
    pub signed: bool,
    /// What it is multiplied by.
    pub scale: Option<f64>,
    /// What is added then.
    #[serde(default)]
    pub offset: f64,
    /// The unit, for people.
    #[serde(default)]
    pub unit: String,
    /// Milliseconds between two questions.
    pub interval_ms: Option<Bounded<100, 60_000>>,
    /// It is not fulfilled any more once it was not answered for so many intervals.
    pub missed: Option<Bounded<1, 100>>,
    /// The lowest value that is good.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// What it must hold for.
    #[serde(default)]
    pub needed_for: NeededFor,
}

/// What a precondition must hold for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeededFor {
    /// Bringing images into ECUs, and letting them run.
    #[default]
    All,
    /// Letting them run only: images may be brought while it does not hold.
    Activation,
}

impl Preconditions {
    /// The machine that follows them; `None` where there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`], [`Error::Usage`]: the DBC file cannot be read, or has not what is
    /// asked for.
    pub fn machine(
        &self,
        vehicle: &Vehicle,
    ) -> Result<Option<preconditions::Preconditions>, Error> {
        if self.signal.is_empty() && self.did.is_empty() {
            return Ok(None);
        }
        let mut conditions = self.signals(vehicle)?;
        for record in &self.did {
            conditions.push(record.condition(vehicle)?);
        }
        let limits = preconditions::Limits {
            stale: Duration::from_millis(self.stale_ms.map_or(2000, |millis| millis.get())),
            settle: Duration::from_millis(self.settle_ms.map_or(3000, |millis| millis.get())),
        };
        let machine = preconditions::Preconditions::new(conditions, limits);
        Ok(Some(machine))
    }

    fn signals(&self, vehicle: &Vehicle) -> Result<Vec<preconditions::Condition>, Error> {
        if self.signal.is_empty() {
            return Ok(Vec::new());
        }
        let missing = || Error::Usage("`preconditions.dbc` is missing in the settings".into());
        let path = self.dbc.as_ref().ok_or_else(missing)?;
        let text = read(path).map_err(Error::configuration(path))?;
        let asked = |signal: &Signal| (signal.message.clone(), signal.signal.clone());
        let asked: Vec<(String, String)> = self.signal.iter().map(asked).collect();
        let layouts = preconditions::layouts(&text, &asked);
        let wrong = |what: String| Error::Usage(format!("{}: {what}", path.display()));
        let layouts = layouts.map_err(|error| wrong(error.to_string()))?;
        let known = |bus: &str| {
            vehicle
                .buses()
                .iter()
                .any(|known| known.name.as_str() == bus)
        };
        if let Some(signal) = self.signal.iter().find(|signal| !known(&signal.bus)) {
            let (name, bus) = (&signal.name, &signal.bus);
            return Err(Error::Usage(format!(
                "precondition {name}: the vehicle has no bus {bus}"
            )));
        }
        let conditions = self.signal.iter().zip(layouts);
        let conditions = conditions.map(|(signal, (id, layout))| preconditions::Condition {
            name: signal.name.clone(),
            source: preconditions::Source::Signal {
                bus: signal.bus.clone(),
                id,
                layout,
            },
            unit: String::new(),
            min: signal.min,
            max: signal.max,
            stage: signal.needed_for == NeededFor::All,
        });
        Ok(conditions.collect())
    }
}

impl DataRecord {
    fn condition(&self, vehicle: &Vehicle) -> Result<preconditions::Condition, Error> {
        let wrong = |what: &str| Err(Error::Usage(format!("precondition {}: {what}", self.name)));
        let mut known = vehicle.ecus().iter();
        if !known.any(|known| known.name.as_str() == self.ecu) {
            return wrong(&format!("the vehicle has no ECU {}", self.ecu));
        }
        let small = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
        let (byte, length) = (small(self.byte.get()), small(self.length.get()));
        let scale = self.scale.unwrap_or(1.0);
        let layout = Layout::bytes(byte, length, self.signed, scale, self.offset);
        let Some(layout) = layout else {
            return wrong("no such bytes");
        };
        let interval = self.interval_ms.map_or(1000, |millis| millis.get());
        let missed = self.missed.map_or(3, |missed| missed.get());
        Ok(preconditions::Condition {
            name: self.name.clone(),
            source: preconditions::Source::Did {
                ecu: self.ecu.clone(),
                did: u16::try_from(self.did.get()).unwrap_or(u16::MAX),
                layout,
                interval: Duration::from_millis(interval),
                stale: Duration::from_millis(interval.saturating_mul(missed)),
            },
            unit: self.unit.clone(),
            min: self.min,
            max: self.max,
            stage: self.needed_for == NeededFor::All,
        })
    }
}

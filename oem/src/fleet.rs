//! `oem fleet`: what vehicles said, and their tokens.

use std::path::Path;

use campaign::{ids::Vin, time::UnixTime};
use serde::Serialize;

use crate::{
    ddi::{
        auth::Tokens,
        store::{Seen, Store},
    },
    error::Error,
};

/// All vehicles that were ever seen.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Sorted by their numbers.
    pub vehicles: Vec<Seen>,
}

impl Status {
    /// That of the repository in `dir`. It takes no lock: a server may run.
    ///
    /// # Errors
    ///
    /// [`Error::NoRepository`], [`Error::Corrupt`].
    pub fn of(dir: &Path) -> Result<Self, Error> {
        let vehicles = store(dir)?.seen()?;
        Ok(Self { vehicles })
    }

    /// One line for each vehicle, or one that there is none.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        if self.vehicles.is_empty() {
            return vec!["no vehicle has been seen".to_owned()];
        }
        let line = |seen: &Seen| {
            let action = seen.action.as_ref().map_or_else(
                || "nothing released".to_owned(),
                |action| {
                    let (campaign, state) = (&action.campaign, action.state.name());
                    let detail = match action.detail.as_str() {
                        "" => String::new(),
                        detail => format!(" ({detail})"),
                    };
                    format!("action {} {campaign}: {state}{detail}", action.id)
                },
            );
            let seen_at = UnixTime::from_secs(u64::try_from(seen.seen_at).unwrap_or_default());
            format!(
                "{} seen at {seen_at}: {action}, {} reports",
                seen.vin, seen.reports
            )
        };
        self.vehicles.iter().map(line).collect()
    }
}

/// Takes back what a vehicle was last offered; its number, or `None` where nothing is open.
///
/// # Errors
///
/// [`Error::NoRepository`], [`Error::Corrupt`].
pub fn cancel(dir: &Path, vin: &Vin) -> Result<Option<i64>, Error> {
    store(dir)?.cancel(&vin.to_string())
}

/// The token of a vehicle, or of a gateway.
///
/// # Errors
///
/// [`Error::NoRepository`], [`Error::File`], [`Error::Corrupt`], [`Error::Crypto`].
pub fn token(dir: &Path, vin: Option<&Vin>) -> Result<String, Error> {
    repository(dir)?;
    let tokens = Tokens::of(dir)?;
    Ok(vin.map_or_else(|| tokens.gateway().to_owned(), |vin| tokens.target(vin)))
}

fn store(dir: &Path) -> Result<Store, Error> {
    repository(dir)?;
    Store::open(dir)
}

fn repository(dir: &Path) -> Result<(), Error> {
    match dir.join("keys/state.json").exists() {
        true => Ok(()),
        false => Err(Error::NoRepository(dir.to_owned())),
    }
}

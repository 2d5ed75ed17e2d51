//! What vehicles said, in SQLite: answered only once it is on the disk.

use std::{
    fs::{self, OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Deployment;
use crate::error::Error;

/// The layout of the tables; a file of another is refused.
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE vehicle (
        vin TEXT PRIMARY KEY,
        seen_at INTEGER NOT NULL,
        attributes TEXT
    );
    CREATE TABLE action (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        vin TEXT NOT NULL,
        digest TEXT NOT NULL,
        campaign TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        state TEXT NOT NULL,
        detail TEXT NOT NULL DEFAULT '',
        UNIQUE (vin, digest)
    );
    CREATE TABLE feedback (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        action INTEGER NOT NULL REFERENCES action(id),
        at INTEGER NOT NULL,
        cancels INTEGER NOT NULL,
        execution TEXT NOT NULL,
        finished TEXT NOT NULL,
        detail TEXT NOT NULL
    );
    CREATE TABLE report (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        vin TEXT NOT NULL,
        received_at INTEGER NOT NULL,
        campaign TEXT NOT NULL,
        state TEXT NOT NULL,
        body TEXT NOT NULL
    );
    PRAGMA user_version = 1;
";

/// Feedbacks that are kept of one action; only its end is noted after that.
const FEEDBACKS_MAX: i64 = 1000;
/// Reports of one vehicle that are kept whole; later ones are counted only.
const REPORTS_MAX: i64 = 1000;
/// Longest text that is kept of a feedback, in characters.
const DETAIL_MAX: usize = 2000;

/// How an action stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Offered, and the vehicle has said nothing yet.
    Open,
    /// The vehicle works on it.
    Running,
    /// The vehicle is to give it up.
    Canceling,
    /// The vehicle gave it up.
    Canceled,
    /// The vehicle has all of it, sealed.
    Success,
    /// The vehicle refused it or went back.
    Failure,
    /// Another one came before it ended.
    Superseded,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Open,
        Self::Running,
        Self::Canceling,
        Self::Canceled,
        Self::Success,
        Self::Failure,
        Self::Superseded,
    ];

    /// As it is stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Canceled => "canceled",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Superseded => "superseded",
        }
    }

    /// Whether the vehicle is still to do something.
    #[must_use]
    pub const fn is_offered(self) -> bool {
        matches!(self, Self::Open | Self::Running | Self::Canceling)
    }
}

/// A deployment as it was offered to a vehicle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Action {
    /// Its number.
    pub id: i64,
    /// The campaign.
    pub campaign: String,
    /// How it stands.
    pub state: State,
    /// What the vehicle said last, for people.
    pub detail: String,
}

/// A vehicle as the backend knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The vehicle.
    pub vin: String,
    /// When it polled last, in seconds since 1970.
    pub seen_at: i64,
    /// Its last action.
    pub action: Option<Action>,
    /// Its reports, each counted once.
    pub reports: i64,
    /// How the last of them says that the campaign stands.
    pub last_report: Option<String>,
}

/// What a vehicle says about an action.
#[derive(Debug, Clone, Deserialize)]
pub struct Feedback {
    /// How it stands.
    pub status: Status,
}

/// How an action stands. What this version does not know is kept as it was said.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// How far it is.
    pub execution: String,
    /// How it ended.
    pub result: Outcome,
    /// For people.
    #[serde(default)]
    pub details: Vec<String>,
}

/// How an action ended.
#[derive(Debug, Clone, Deserialize)]
pub struct Outcome {
    /// `success`, `failure` or `none`.
    pub finished: String,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

/// Brings the file from where it was once, beside what is published, and makes it the owner's alone;
/// the files that SQLite puts beside it get its mode.
fn own(dir: &Path, path: &Path) -> Result<(), Error> {
    if !path.exists() {
        for end in ["-wal", "-shm", ""] {
            let old = dir.join(format!("fleet.sqlite{end}"));
            let new = dir.join(format!("keys/fleet.sqlite{end}"));
            match fs::rename(&old, new) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file(&old)(error));
                }
                _ => {}
            }
        }
    }
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(path);
    let owned = file.and_then(|file| file.set_permissions(Permissions::from_mode(0o600)));
    owned.map_err(Error::file(path))
}

impl Store {
    /// Opens or creates `keys/fleet.sqlite` in the repository: who drives which vehicle, and what it
    /// said, is nobody else's.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`]: not a store, of another version, or not accessible; [`Error::File`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("keys/fleet.sqlite");
        own(dir, &path)?;
        let open = || -> rusqlite::Result<(Connection, i64)> {
            let connection = Connection::open(&path)?;
            connection.busy_timeout(std::time::Duration::from_secs(10))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            let version = |row: &rusqlite::Row<'_>| row.get(0);
            if connection.pragma_query_value(None, "user_version", version)? == 0_i64 {
                let fresh = format!("BEGIN EXCLUSIVE; {SCHEMA} COMMIT;");
                connection.execute_batch(&fresh)?;
            }
            let version = connection.pragma_query_value(None, "user_version", version)?;
            Ok((connection, version))
        };
        match open().map_err(|error| Error::corrupt(&path, error))? {
            (connection, SCHEMA_VERSION) => Ok(Self { connection }),
            (_, other) => Err(Error::corrupt(
                &path,
                format!("it has version {other}, this program needs {SCHEMA_VERSION}"),
            )),
        }
    }

    /// A vehicle polls at `now`: the action that it is to look at, made of what is released.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn polled(
        &mut self,
        vin: &str,
        released: Option<&Deployment>,
        now: i64,
    ) -> Result<Option<Action>, Error> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO vehicle (vin, seen_at) VALUES (?1, ?2)
                 ON CONFLICT (vin) DO UPDATE SET seen_at = max(seen_at, excluded.seen_at)",
                params![vin, now],
            )?;
            let Some(released) = released else {
                return Ok(None);
            };
            let digest = released.digest.to_string();
            let made = transaction.execute(
                "INSERT OR IGNORE INTO action (vin, digest, campaign, created_at, state)
                 VALUES (?1, ?2, ?3, ?4, 'open')",
                params![vin, digest, released.campaign, now],
            )?;
            if made > 0 {
                transaction.execute(
                    "UPDATE action SET state = 'superseded'
                     WHERE vin = ?1 AND digest <> ?2 AND state IN ('open', 'running', 'canceling')",
                    params![vin, digest],
                )?;
            }
            let action = "SELECT id, campaign, state, detail FROM action
                          WHERE vin = ?1 AND digest = ?2";
            transaction
                .query_row(action, params![vin, digest], action_of)
                .optional()
        })
    }

    /// What a vehicle says about itself.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn attributes(&mut self, vin: &str, data: &Value) -> Result<(), Error> {
        self.write(|transaction| {
            let update = "UPDATE vehicle SET attributes = ?2 WHERE vin = ?1";
            transaction
                .execute(update, params![vin, data.to_string()])
                .map(drop)
        })
    }

    /// Whether a vehicle has never said anything about itself.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn is_unknown(&mut self, vin: &str) -> Result<bool, Error> {
        self.write(|transaction| {
            let known = "SELECT attributes IS NULL FROM vehicle WHERE vin = ?1";
            let known = transaction.query_row(known, [vin], |row| row.get(0));
            Ok(known.optional()?.unwrap_or(true))
        })
    }

    /// A vehicle says how one of its actions stands; `false` where it has no such action. What has
    /// ended stays ended.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn feedback(
        &mut self,
        vin: &str,
        action: i64,
        cancels: bool,
        feedback: &Feedback,
        now: i64,
    ) -> Result<bool, Error> {
        let status = &feedback.status;
        let bounded = |text: &str, max| text.chars().take(max).collect::<String>();
        let detail = bounded(&status.details.join("; "), DETAIL_MAX);
        let execution = bounded(&status.execution, 32);
        let finished = bounded(&status.result.finished, 32);
        self.write(|transaction| {
            let state = "SELECT state FROM action WHERE id = ?1 AND vin = ?2";
            let state = transaction
                .query_row(state, params![action, vin], |row| state_of(row, 0))
                .optional()?;
            let Some(before) = state else {
                return Ok(false);
            };
            let after = next_state(before, cancels, status);
            let count = "SELECT count(*) FROM feedback WHERE action = ?1";
            let count: i64 = transaction.query_row(count, [action], |row| row.get(0))?;
            if count < FEEDBACKS_MAX {
                transaction.execute(
                    "INSERT INTO feedback (action, at, cancels, execution, finished, detail)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![action, now, cancels, execution, finished, detail],
                )?;
            }
            transaction.execute(
                "UPDATE action SET state = ?2,
                        detail = CASE WHEN ?3 = '' THEN detail ELSE ?3 END WHERE id = ?1",
                params![action, after.name(), detail],
            )?;
            Ok(true)
        })
    }

    /// Takes the last action of a vehicle back, where it has not ended; `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn cancel(&mut self, vin: &str) -> Result<Option<i64>, Error> {
        self.write(|transaction| {
            let id = "SELECT id FROM action WHERE vin = ?1 AND state IN ('open', 'running')
                      ORDER BY id DESC LIMIT 1";
            let id: Option<i64> = transaction
                .query_row(id, [vin], |row| row.get(0))
                .optional()?;
            if let Some(id) = id {
                let cancel = "UPDATE action SET state = 'canceling' WHERE id = ?1";
                transaction.execute(cancel, [id])?;
            }
            Ok(id)
        })
    }

    /// A vehicle's action, if it has one of this number.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn action(&mut self, vin: &str, id: i64) -> Result<Option<Action>, Error> {
        self.write(|transaction| {
            let action =
                "SELECT id, campaign, state, detail FROM action WHERE id = ?1 AND vin = ?2";
            transaction
                .query_row(action, params![id, vin], action_of)
                .optional()
        })
    }

    /// Stores a report under its id; `false` where it was there already.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn report(&mut self, vin: &str, report: &Report, now: i64) -> Result<bool, Error> {
        self.write(|transaction| {
            let count = "SELECT count(*) FROM report WHERE vin = ?1";
            let count: i64 = transaction.query_row(count, [vin], |row| row.get(0))?;
            let body = match count {
                ..REPORTS_MAX => report.body.to_string(),
                _ => String::new(),
            };
            let stored = transaction.execute(
                "INSERT OR IGNORE INTO report (id, vin, received_at, campaign, state, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![report.id, vin, now, report.campaign, report.state, body],
            )?;
            Ok(stored > 0)
        })
    }

    /// All vehicles that were ever seen.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn seen(&mut self) -> Result<Vec<Seen>, Error> {
        self.write(|transaction| {
            let vehicles = "SELECT vin, seen_at,
                    (SELECT count(*) FROM report WHERE report.vin = vehicle.vin),
                    (SELECT state FROM report WHERE report.vin = vehicle.vin
                     ORDER BY number DESC LIMIT 1)
                FROM vehicle ORDER BY vin";
            let mut statement = transaction.prepare(vehicles)?;
            let vehicles = statement.query_map([], |row| {
                Ok(Seen {
                    vin: row.get(0)?,
                    seen_at: row.get(1)?,
                    action: None,
                    reports: row.get(2)?,
                    last_report: row.get(3)?,
                })
            })?;
            let mut vehicles = vehicles.collect::<Result<Vec<_>, _>>()?;
            let action = "SELECT id, campaign, state, detail FROM action WHERE vin = ?1
                          ORDER BY id DESC LIMIT 1";
            for vehicle in &mut vehicles {
                let found = transaction.query_row(action, [&vehicle.vin], action_of);
                vehicle.action = found.optional()?;
            }
            Ok(vehicles)
        })
    }

    /// All of `work`, or nothing of it.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let done = (|| {
            let transaction = self.connection.transaction_with_behavior(behavior)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        done.map_err(|error: rusqlite::Error| Error::corrupt(Path::new("keys/fleet.sqlite"), error))
    }
}

/// A report of a vehicle.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The vehicle's name for it, for ever.
    pub id: String,
    /// The campaign.
    pub campaign: String,
    /// How the campaign stands.
    pub state: String,
    /// All of it.
    pub body: Value,
}

/// What a feedback makes of an action.
fn next_state(before: State, cancels: bool, status: &Status) -> State {
    let closed = status.execution == "closed";
    let failed = status.result.finished == "failure";
    match (before, closed) {
        (State::Success | State::Failure | State::Canceled, _) => before,
        (_, true) if cancels && !failed => State::Canceled,
        (_, true) if cancels => State::Running,
        (_, true) if failed => State::Failure,
        (_, true) => State::Success,
        (State::Canceling, false) if status.execution == "canceled" => State::Canceled,
        // The vehicle goes on.
        (State::Canceling, false) if cancels && status.execution == "rejected" => State::Running,
        (State::Open, false) => State::Running,
        (_, false) => before,
    }
}

fn action_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Action> {
    Ok(Action {
        id: row.get(0)?,
        campaign: row.get(1)?,
        state: state_of(row, 2)?,
        detail: row.get(3)?,
    })
}

fn state_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<State> {
    let name: String = row.get(column)?;
    let state = State::ALL.into_iter().find(|state| state.name() == name);
    state.ok_or(rusqlite::Error::InvalidQuery)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vehicles_said_is_the_owners_alone_wherever_it_was_before() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("keys")).unwrap();
        let mode = |name: &str| {
            fs::metadata(dir.path().join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        let mut store = Store::open(dir.path()).unwrap();
        store.polled("v", None, 7).unwrap();
        store.attributes("v", &serde_json::json!({})).unwrap();
        assert_eq!(mode("keys/fleet.sqlite") & 0o777, 0o600);
        assert_eq!(mode("keys/fleet.sqlite-wal") & 0o777, 0o600);
        drop(store);
        let old = dir.path().join("fleet.sqlite");
        fs::rename(dir.path().join("keys/fleet.sqlite"), &old).unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        assert!(!store.is_unknown("v").unwrap() && !old.exists());
        assert_eq!(mode("keys/fleet.sqlite") & 0o777, 0o600);
    }
}

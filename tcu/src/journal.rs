//! The journal in SQLite: every record is on the disk before what it announces happens.

mod outbox;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rand::RngExt;
use rusqlite::{Connection, OptionalExtension, params};

use crate::engine::{Journal, JournalError, Plan, Record, Report};
use crate::ports::{Clock, SystemClock};

/// Longest wait for somebody who reads the same file, such as who delivers the reports.
const BUSY: Duration = Duration::from_secs(30);
/// The layout of the tables; an older file is brought to it, a newer one is refused.
const SCHEMA_VERSION: i64 = 2;
/// From each version to the next, from 0: an empty file.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE campaign (
        id INTEGER PRIMARY KEY,
        started_at INTEGER NOT NULL,
        plan TEXT NOT NULL,
        finished INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE record (
        campaign INTEGER NOT NULL REFERENCES campaign(id),
        number INTEGER NOT NULL,
        at INTEGER NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (campaign, number)
    ) WITHOUT ROWID;
    PRAGMA user_version = 1;
",
    "
    ALTER TABLE campaign ADD COLUMN nonce TEXT NOT NULL DEFAULT '';
    CREATE TABLE report (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        at INTEGER NOT NULL,
        phase TEXT NOT NULL,
        report TEXT NOT NULL
    );
    PRAGMA user_version = 2;
",
];

/// A campaign in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub plan: Plan,
    /// What has happened.
    pub records: Vec<Record>,
    /// Whether it has ended.
    pub finished: bool,
}

/// The journal. Called inline: a record takes one commit.
pub struct SqliteJournal {
    connection: Connection,
    clock: Box<dyn Clock>,
    /// The campaign that records belong to.
    current: Option<Current>,
}

/// A campaign under way.
#[derive(Debug, Clone)]
struct Current {
    id: i64,
    /// Tells it from every other one of every vehicle; empty in a journal of version 1.
    nonce: String,
    /// The number of the next record.
    next: i64,
}

impl fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteJournal")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

fn failed(error: impl ToString) -> JournalError {
    JournalError(error.to_string())
}

/// 128 random bits.
fn nonce() -> String {
    format!("{:032x}", crate::random().random::<u128>())
}

impl SqliteJournal {
    /// Opens or creates the journal file.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: not a journal, of a newer version, or not accessible.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_with_clock(path, Box::new(SystemClock))
    }

    /// The same with another clock.
    ///
    /// # Errors
    ///
    /// As for [`SqliteJournal::open`].
    pub fn open_with_clock(path: &Path, clock: Box<dyn Clock>) -> Result<Self, JournalError> {
        Self::prepare(Connection::open(path).map_err(failed)?, clock)
    }

    /// A journal that ends with the process, for tests.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub fn in_memory() -> Result<Self, JournalError> {
        let connection = Connection::open_in_memory().map_err(failed)?;
        Self::prepare(connection, Box::new(SystemClock))
    }

    fn prepare(connection: Connection, clock: Box<dyn Clock>) -> Result<Self, JournalError> {
        let setup = || -> rusqlite::Result<i64> {
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "DELETE")?;
            // FULL would do without the last step: a commit ends with the rollback journal's
            // deletion, and the folder must be synchronised for that to survive a loss of power.
            connection.pragma_update(None, "synchronous", "EXTRA")?;
            #[cfg(feature = "deliberate-bugs")]
            if crate::bugs::has(crate::bugs::Bug::SynchronousOff) {
                connection.pragma_update(None, "synchronous", "OFF")?;
            }
            connection.pragma_update(None, "foreign_keys", "ON")?;
            let version =
                || connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
            let found = usize::try_from(version()?).unwrap_or(usize::MAX);
            for step in MIGRATIONS.iter().skip(found) {
                connection.execute_batch(&format!("BEGIN EXCLUSIVE; {step} COMMIT;"))?;
            }
            version()
        };
        match setup().map_err(failed)? {
            SCHEMA_VERSION => Ok(Self {
                connection,
                clock,
                current: None,
            }),
            other => Err(JournalError(format!(
                "it has version {other}, this program needs {SCHEMA_VERSION}"
            ))),
        }
    }

    /// Looks through the whole file for damage.
    ///
    /// # Errors
    ///
    /// [`JournalError`] with what is wrong first.
    pub fn check(&self) -> Result<(), JournalError> {
        let found = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        match found.map_err(failed)?.as_str() {
            "ok" => Ok(()),
            wrong => Err(JournalError(format!("malformed: {wrong}"))),
        }
    }

    /// Begins a campaign: later records belong to it.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub fn begin(&mut self, plan: &Plan) -> Result<(), JournalError> {
        let plan = serde_json::to_string(plan).map_err(failed)?;
        let nonce = nonce();
        self.connection
            .execute(
                "INSERT INTO campaign (started_at, plan, nonce) VALUES (?1, ?2, ?3)",
                params![self.clock.unix_time(), plan, nonce],
            )
            .map_err(failed)?;
        self.current = Some(Current {
            id: self.connection.last_insert_rowid(),
            nonce,
            next: 0,
        });
        Ok(())
    }

    /// The last campaign, if any; unless it has ended, later records belong to it.
    ///
    /// # Errors
    ///
    /// [`JournalError`], also where a row cannot be read.
    pub fn last(&mut self) -> Result<Option<Entry>, JournalError> {
        let row = self
            .connection
            .query_row(
                "SELECT id, plan, finished, nonce FROM campaign ORDER BY id DESC LIMIT 1",
                [],
                |row| {
                    let (id, plan): (i64, String) = (row.get(0)?, row.get(1)?);
                    Ok((id, plan, row.get::<_, bool>(2)?, row.get(3)?))
                },
            )
            .optional()
            .map_err(failed)?;
        let Some((id, plan, finished, nonce)) = row else {
            return Ok(None);
        };
        let records = self.records(id)?;
        let next = i64::try_from(records.len()).map_err(failed)?;
        self.current = (!finished).then_some(Current { id, nonce, next });
        Ok(Some(Entry {
            plan: serde_json::from_str(&plan).map_err(failed)?,
            records,
            finished,
        }))
    }

    fn records(&self, campaign: i64) -> Result<Vec<Record>, JournalError> {
        let mut statement = self
            .connection
            .prepare("SELECT record FROM record WHERE campaign = ?1 ORDER BY number")
            .map_err(failed)?;
        let rows = statement
            .query_map([campaign], |row| row.get::<_, String>(0))
            .map_err(failed)?;
        rows.map(|row| serde_json::from_str(&row.map_err(failed)?).map_err(failed))
            .collect()
    }
}

impl Journal for SqliteJournal {
    fn append(&mut self, record: &Record, report: Option<&Report>) -> Result<(), JournalError> {
        let current = self
            .current
            .clone()
            .ok_or_else(|| JournalError("no campaign has begun".into()))?;
        let at = self.clock.unix_time();
        let text = serde_json::to_string(record).map_err(failed)?;
        let transaction = self.connection.transaction().map_err(failed)?;
        transaction
            .prepare_cached(
                "INSERT INTO record (campaign, number, at, record) VALUES (?1, ?2, ?3, ?4)",
            )
            .and_then(|mut insert| insert.execute(params![current.id, current.next, at, text]))
            .map_err(failed)?;
        if let (Some(phase), Some(report)) = (record.reported_as(), report) {
            // The record's number: however often a report is delivered, it is the same one.
            let id = format!("{}-{}", current.nonce, current.next);
            outbox::insert(&transaction, &id, at, phase, report)?;
        }
        if matches!(record, Record::Done(_)) {
            transaction
                .execute(
                    "UPDATE campaign SET finished = 1 WHERE id = ?1",
                    [current.id],
                )
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.current = Some(Current {
            next: current.next + 1,
            ..current
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CampaignState;

    fn plan(campaign: &str) -> Plan {
        Plan {
            campaign: campaign.into(),
            rxswins: Default::default(),
            together: Default::default(),
            ecus: Vec::new(),
        }
    }

    #[test]
    fn records_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let mut journal = SqliteJournal::open(&path).unwrap();
        assert_eq!(journal.last().unwrap(), None);
        journal.begin(&plan("one")).unwrap();
        journal.append(&Record::AllStaged, None).unwrap();
        drop(journal);

        let mut journal = SqliteJournal::open(&path).unwrap();
        let entry = journal.last().unwrap().unwrap();
        assert_eq!(
            (entry.records, entry.finished),
            (vec![Record::AllStaged], false)
        );
        journal.append(&Record::Commit, None).unwrap();
        journal
            .append(&Record::Done(CampaignState::Completed), None)
            .unwrap();
        let entry = journal.last().unwrap().unwrap();
        assert_eq!((entry.records.len(), entry.finished), (3, true));
        assert!(
            journal.append(&Record::Commit, None).is_err(),
            "a finished campaign takes no more"
        );
    }

    #[test]
    fn file_and_folder_are_synchronised_at_each_commit() {
        let dir = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(&dir.path().join("j")).unwrap();
        let extra: i64 = journal
            .connection
            .pragma_query_value(None, "synchronous", |row| row.get(0))
            .unwrap();
        assert_eq!(extra, 3);
    }

    #[test]
    fn another_version_or_another_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        std::fs::write(
            &path,
            b"this is no database, but long enough to be read as one",
        )
        .unwrap();
        assert!(SqliteJournal::open(&path).is_err());
        let other = dir.path().join("other");
        let connection = Connection::open(&other).unwrap();
        connection.pragma_update(None, "user_version", 9).unwrap();
        drop(connection);
        let error = SqliteJournal::open(&other).unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    #[test]
    fn a_file_of_version_1_is_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        let plan = serde_json::to_string(&plan("old")).unwrap();
        old.execute(
            "INSERT INTO campaign (started_at, plan) VALUES (0, ?1)",
            [plan],
        )
        .unwrap();
        drop(old);
        let mut journal = SqliteJournal::open(&path).unwrap();
        let entry = journal.last().unwrap().unwrap();
        assert_eq!(
            (entry.plan.campaign.as_str(), entry.finished),
            ("old", false)
        );
        journal.append(&Record::AllStaged, None).unwrap();
    }
}

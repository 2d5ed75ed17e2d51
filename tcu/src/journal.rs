//! The journal in SQLite: every record is on the disk before what it announces happens.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};

use crate::engine::{Journal, JournalError, Plan, Record};

/// The layout of the tables; a file of another is refused.
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
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
";

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
#[derive(Debug)]
pub struct SqliteJournal {
    connection: Connection,
    /// The campaign that records belong to, and the number of the next one.
    current: Option<(i64, i64)>,
}

fn failed(error: impl ToString) -> JournalError {
    JournalError(error.to_string())
}

impl SqliteJournal {
    /// Opens or creates the journal file.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: not a journal, of another version, or not accessible.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::prepare(Connection::open(path).map_err(failed)?)
    }

    /// A journal that ends with the process, for tests.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub fn in_memory() -> Result<Self, JournalError> {
        Self::prepare(Connection::open_in_memory().map_err(failed)?)
    }

    fn prepare(connection: Connection) -> Result<Self, JournalError> {
        let setup = || -> rusqlite::Result<i64> {
            connection.pragma_update(None, "journal_mode", "DELETE")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", "ON")?;
            let version = |row: &rusqlite::Row<'_>| row.get(0);
            if connection.pragma_query_value(None, "user_version", version)? == 0_i64 {
                connection.execute_batch(&format!("BEGIN EXCLUSIVE; {SCHEMA} COMMIT;"))?;
            }
            connection.pragma_query_value(None, "user_version", version)
        };
        match setup().map_err(failed)? {
            SCHEMA_VERSION => Ok(Self {
                connection,
                current: None,
            }),
            other => Err(JournalError(format!(
                "it has version {other}, this program needs {SCHEMA_VERSION}"
            ))),
        }
    }

    /// Begins a campaign: later records belong to it.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub fn begin(&mut self, plan: &Plan) -> Result<(), JournalError> {
        let plan = serde_json::to_string(plan).map_err(failed)?;
        self.connection
            .execute(
                "INSERT INTO campaign (started_at, plan) VALUES (?1, ?2)",
                params![unix_time(), plan],
            )
            .map_err(failed)?;
        self.current = Some((self.connection.last_insert_rowid(), 0));
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
                "SELECT id, plan, finished FROM campaign ORDER BY id DESC LIMIT 1",
                [],
                |row| {
                    let (id, plan): (i64, String) = (row.get(0)?, row.get(1)?);
                    Ok((id, plan, row.get::<_, bool>(2)?))
                },
            )
            .optional()
            .map_err(failed)?;
        let Some((id, plan, finished)) = row else {
            return Ok(None);
        };
        let records = self.records(id)?;
        let next = i64::try_from(records.len()).map_err(failed)?;
        self.current = (!finished).then_some((id, next));
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
    fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let (campaign, number) = self
            .current
            .ok_or_else(|| JournalError("no campaign has begun".into()))?;
        let text = serde_json::to_string(record).map_err(failed)?;
        let transaction = self.connection.transaction().map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO record (campaign, number, at, record) VALUES (?1, ?2, ?3, ?4)",
                params![campaign, number, unix_time(), text],
            )
            .map_err(failed)?;
        if matches!(record, Record::Done(_)) {
            transaction
                .execute("UPDATE campaign SET finished = 1 WHERE id = ?1", [campaign])
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.current = Some((campaign, number + 1));
        Ok(())
    }
}

/// Seconds since 1970, for people who read the journal; nothing depends on it.
fn unix_time() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CampaignState;

    fn plan(campaign: &str) -> Plan {
        Plan {
            campaign: campaign.into(),
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
        journal.append(&Record::AllStaged).unwrap();
        drop(journal);

        let mut journal = SqliteJournal::open(&path).unwrap();
        let entry = journal.last().unwrap().unwrap();
        assert_eq!(
            (entry.records, entry.finished),
            (vec![Record::AllStaged], false)
        );
        journal.append(&Record::Commit).unwrap();
        journal
            .append(&Record::Done(CampaignState::Completed))
            .unwrap();
        let entry = journal.last().unwrap().unwrap();
        assert_eq!((entry.records.len(), entry.finished), (3, true));
        assert!(
            journal.append(&Record::Commit).is_err(),
            "a finished campaign takes no more"
        );
    }

    #[test]
    fn the_file_is_synchronised_at_each_commit() {
        let dir = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(&dir.path().join("j")).unwrap();
        let full: i64 = journal
            .connection
            .pragma_query_value(None, "synchronous", |row| row.get(0))
            .unwrap();
        assert_eq!(full, 2);
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
}

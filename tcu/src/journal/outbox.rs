//! The reports in the journal's file: stored with the record that leads to them, kept until they
//! are delivered.

use rusqlite::{Connection, params};

use super::{SqliteJournal, failed, nonce};
use crate::engine::{JournalError, Phase, Report};
use crate::ports::{Outbox, StoredReport};

/// The most reports that wait: without a backend that confirms them the oldest give way.
pub(super) const LONGEST: i64 = 256;

/// Stores a report; within a transaction, together with whatever else that holds.
pub(super) fn insert(
    connection: &Connection,
    id: &str,
    at: i64,
    phase: Phase,
    report: &Report,
) -> Result<(), JournalError> {
    let phase = serde_json::to_string(&phase).map_err(failed)?;
    let report = serde_json::to_string(report).map_err(failed)?;
    connection
        .prepare_cached("INSERT INTO report (id, at, phase, report) VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut insert| insert.execute(params![id, at, phase, report]))
        .map_err(failed)?;
    let oldest = connection.last_insert_rowid() - LONGEST;
    let dropped = connection
        .prepare_cached("DELETE FROM report WHERE number <= ?1")
        .and_then(|mut delete| delete.execute([oldest]))
        .map_err(failed)?;
    if dropped > 0 {
        tracing::warn!("nobody takes the reports: the oldest of more than {LONGEST} is dropped");
    }
    Ok(())
}

type Row = (String, i64, String, String);

fn parse((id, at, phase, report): Row) -> Result<StoredReport, JournalError> {
    Ok(StoredReport {
        id,
        at,
        phase: serde_json::from_str(&phase).map_err(failed)?,
        report: serde_json::from_str(&report).map_err(failed)?,
    })
}

impl Outbox for SqliteJournal {
    /// One that cannot be read stays where it is, and does not keep others from their delivery.
    fn undelivered(&self, limit: usize) -> Result<Vec<StoredReport>, JournalError> {
        let mut statement = self
            .connection
            .prepare("SELECT id, at, phase, report FROM report ORDER BY number")
            .map_err(failed)?;
        let rows = statement
            .query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .map_err(failed)?;
        let mut reports = Vec::new();
        for row in rows {
            if reports.len() == limit {
                break;
            }
            let row: Row = row.map_err(failed)?;
            let id = row.0.clone();
            match parse(row) {
                Ok(report) => reports.push(report),
                Err(error) => {
                    tracing::error!(%error, id, "a report cannot be read, and is left out")
                }
            }
        }
        Ok(reports)
    }

    fn delivered(&mut self, id: &str) -> Result<(), JournalError> {
        self.connection
            .execute("DELETE FROM report WHERE id = ?1", [id])
            .map_err(failed)?;
        Ok(())
    }

    fn store(&mut self, phase: Phase, report: &Report) -> Result<String, JournalError> {
        let id = nonce();
        insert(&self.connection, &id, self.clock.unix_time(), phase, report)?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{CampaignReport, CampaignState, Journal, Plan, Record};

    fn report(state: CampaignState) -> Report {
        Report {
            campaign: CampaignReport {
                id: "c".into(),
                state,
                reason: None,
                broken_rules: Vec::new(),
                attack: None,
            },
            ecus: Vec::new(),
        }
    }

    fn ids(journal: &SqliteJournal) -> Vec<String> {
        let reports = journal.undelivered(9).unwrap();
        reports.into_iter().map(|report| report.id).collect()
    }

    #[test]
    fn a_report_is_kept_under_the_same_id_until_it_is_delivered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let plan = Plan {
            campaign: "c".into(),
            rxswins: Default::default(),
            together: Default::default(),
            ecus: Vec::new(),
        };
        let mut journal = SqliteJournal::open(&path).unwrap();
        journal.begin(&plan).unwrap();
        let under_way = report(CampaignState::Incomplete);
        journal
            .append(&Record::AllStaged, Some(&under_way))
            .unwrap();
        journal.append(&Record::Commit, Some(&under_way)).unwrap();
        let before = ids(&journal);
        assert_eq!(before.len(), 2);
        drop(journal);

        let mut journal = SqliteJournal::open(&path).unwrap();
        assert_eq!(ids(&journal), before);
        assert_eq!(journal.undelivered(1).unwrap()[0].phase, Phase::Activating);
        journal.delivered(&before[0]).unwrap();
        journal.delivered(&before[0]).unwrap();
        assert_eq!(ids(&journal), before[1..]);
        assert_eq!(journal.undelivered(9).unwrap()[0].report, under_way);
    }

    #[test]
    fn a_report_that_cannot_be_read_does_not_hold_up_the_others() {
        let mut journal = SqliteJournal::in_memory().unwrap();
        let ended = Phase::Done(CampaignState::Rejected);
        let stored: Vec<_> = (0..3)
            .map(|_| {
                journal
                    .store(ended, &report(CampaignState::Rejected))
                    .unwrap()
            })
            .collect();
        let spoil = "UPDATE report SET report = substr(report, 2) WHERE id = ?1";
        journal.connection.execute(spoil, [&stored[0]]).unwrap();
        let found = journal.undelivered(1).unwrap();
        assert_eq!(found[0].id, stored[1]);
        assert_eq!(ids(&journal), stored[1..]);
    }

    #[test]
    fn the_same_campaign_again_makes_other_reports() {
        let mut journal = SqliteJournal::in_memory().unwrap();
        let plan = Plan {
            campaign: "c".into(),
            rxswins: Default::default(),
            together: Default::default(),
            ecus: Vec::new(),
        };
        let reverted = report(CampaignState::Reverted);
        for _ in 0..2 {
            journal.begin(&plan).unwrap();
            let done = Record::Done(CampaignState::Reverted);
            journal.append(&done, Some(&reverted)).unwrap();
        }
        let rejected = Phase::Done(CampaignState::Rejected);
        journal
            .store(rejected, &report(CampaignState::Rejected))
            .unwrap();
        let mut ids = ids(&journal);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 3);
    }

    #[test]
    fn a_record_and_its_report_are_there_both_or_not_at_all() {
        let mut journal = SqliteJournal::in_memory().unwrap();
        let plan = Plan {
            campaign: "c".into(),
            rxswins: Default::default(),
            together: Default::default(),
            ecus: Vec::new(),
        };
        journal.begin(&plan).unwrap();
        journal.connection.execute("DROP TABLE report", []).unwrap();
        let under_way = report(CampaignState::Incomplete);
        assert!(
            journal
                .append(&Record::AllStaged, Some(&under_way))
                .is_err()
        );
        assert_eq!(journal.last().unwrap().unwrap().records, []);
    }

    #[test]
    fn without_a_backend_the_oldest_reports_give_way() {
        let mut journal = SqliteJournal::in_memory().unwrap();
        let ids: Vec<String> = (0..LONGEST + 3)
            .map(|_| {
                journal
                    .store(Phase::Staging, &report(CampaignState::Completed))
                    .unwrap()
            })
            .collect();
        let kept = journal.undelivered(usize::MAX).unwrap();
        let kept: Vec<&String> = kept.iter().map(|stored| &stored.id).collect();
        assert_eq!(kept, ids[3..].iter().collect::<Vec<_>>());
    }
}

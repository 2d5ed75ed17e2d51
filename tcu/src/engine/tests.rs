//! The state table: what each event leads to in each state, as the journal and the commands show it.

mod incomplete;
mod order;

use std::fmt::Write;

use ecu_image::{Digest, ImageDigest};
use uds::time::{Duration, Instant};

use super::{Cost, Engine, JobDone, Plan, PlannedEcu, Policy, Record, Running};
use crate::flash::{Failure, Job, RequestError, Step, What};
use crate::profile::BootReason;

const OLD: ImageDigest = ImageDigest([1; 32]);
const NEW: ImageDigest = ImageDigest([2; 32]);

pub(super) fn plan(unchanged: bool) -> Plan {
    let ecu = |name: &str, unchanged| PlannedEcu {
        name: name.into(),
        bus: "bus".into(),
        image: NEW,
        artifact: Digest::ZERO,
        length: 0,
        last: false,
        restore: None,
        after: Vec::new(),
        key_set: None,
        grant: String::new(),
        from: Running {
            version: "1.0.0".into(),
            image: OLD,
        },
        to_version: "2.0.0".into(),
        unchanged,
    };
    Plan {
        campaign: "c".into(),
        rxswins: Default::default(),
        together: Default::default(),
        ecus: vec![ecu("a", unchanged), ecu("b", unchanged)],
    }
}

pub(super) fn policy() -> Policy {
    Policy {
        parallel_per_bus: 2,
        converge_attempts: 2,
        ..Policy::default()
    }
}

pub(super) fn operator() -> super::GivenUp {
    super::GivenUp {
        who: "uid 0".into(),
        reason: "replaced".into(),
    }
}

pub(super) fn done(job: Job) -> JobDone {
    JobDone {
        version: None,
        running: if job == Job::Revert { OLD } else { NEW },
    }
}

pub(super) fn failure(what: What, touched: bool) -> Failure {
    Failure {
        step: Step::BootStatus,
        what,
        touched,
    }
}

pub(super) fn ended(ecu: usize, job: Job) -> Record {
    Record::End {
        ecu,
        job,
        result: Ok(done(job)),
        cost: Cost::default(),
    }
}

/// Both ECUs have done `job`.
fn both(job: Job) -> Vec<Record> {
    let start = |ecu| Record::Start { ecu, job };
    vec![start(0), start(1), ended(0, job), ended(1, job)]
}

/// The journal up to the start of a phase.
pub(super) fn journal_of(phase: &str) -> Vec<Record> {
    let phases = [
        ("staging", vec![]),
        (
            "activating",
            [both(Job::Stage), vec![Record::AllStaged]].concat(),
        ),
        (
            "awaiting healthy",
            [both(Job::Activate), vec![Record::AllActivated]].concat(),
        ),
        (
            "sealing",
            [both(Job::AwaitHealthy), vec![Record::Commit]].concat(),
        ),
    ];
    if phase == "reverting" {
        return [both(Job::Stage), vec![Record::AllStaged, Record::Revert]].concat();
    }
    let mut records = Vec::new();
    for (name, more) in phases {
        records.extend(more);
        if name == phase {
            break;
        }
    }
    records
}

pub(super) fn short(record: &Record) -> String {
    match record {
        Record::Start { ecu, job } => format!("start {ecu} {job:?}"),
        Record::End {
            ecu, job, result, ..
        } => {
            let result = match result {
                Ok(_) => "ok".to_owned(),
                Err(failure) => format!("failed, touched {}", failure.touched),
            };
            format!("end {ecu} {job:?} {result}")
        }
        other => format!("{other:?}"),
    }
}

/// Starts from a journal, lets an event happen to ECU 0's job, and tells what follows.
fn follow(start: &[Record], event: Option<Result<JobDone, Failure>>) -> String {
    let mut engine = Engine::new(plan(false), policy(), start, 1);
    let mut journal: Vec<Record> = Vec::new();
    let mut commands = Vec::new();
    let mut now = Instant::ZERO;
    while let Some(command) = engine.poll_command(now, &mut journal).unwrap() {
        commands.push(command);
    }
    let (known, said) = (journal.len(), commands.len());
    if let Some(result) = event {
        let cost = Cost::default();
        engine
            .on_job_end(now, 0, result, cost, &mut journal)
            .unwrap();
        now = now + Duration::from_secs(2);
        while let Some(command) = engine.poll_command(now, &mut journal).unwrap() {
            commands.push(command);
        }
        commands.drain(..said);
        journal.drain(..known);
    }
    let records: Vec<String> = journal.iter().map(short).collect();
    format!(
        "{} | {commands:?} | {:?} {:?}",
        records.join(", "),
        engine.phase(),
        engine.finished()
    )
}

#[test]
fn every_state_and_event() {
    let phases = [
        ("staging", Job::Stage),
        ("activating", Job::Activate),
        ("awaiting healthy", Job::AwaitHealthy),
        ("sealing", Job::Seal),
        ("reverting", Job::Revert),
    ];
    let timeout = What::Request(RequestError::Timeout);
    let mut table = String::new();
    for (phase, job) in phases {
        let journal = journal_of(phase);
        let mut row = |event: &str, result| {
            let what = follow(&journal, result);
            writeln!(
                table,
                "{phase}, {event}:\n    {}",
                what.replace(" | ", "\n    ")
            )
            .unwrap();
        };
        row("start or restart", None);
        row("done", Some(Ok(done(job))));
        row("failed, touched", Some(Err(failure(timeout.clone(), true))));
        row(
            "failed, untouched",
            Some(Err(failure(timeout.clone(), false))),
        );
        let back = What::FellBack(BootReason::FellBackToPrevious);
        row("fell back", Some(Err(failure(back, true))));
        row("not running", Some(Err(failure(What::NotRunning, true))));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn nothing_to_do_is_completed_without_a_job() {
    let mut engine = Engine::new(plan(true), policy(), &[], 1);
    let mut journal: Vec<Record> = Vec::new();
    let command = engine.poll_command(Instant::ZERO, &mut journal).unwrap();
    assert_eq!(command, None);
    let records: Vec<String> = journal.iter().map(short).collect();
    insta::assert_snapshot!(records.join(", "), @"AllStaged, AllActivated, Commit, Done(Completed)");
}

#[test]
fn a_cancelled_campaign_reverts_before_commit_and_not_after() {
    for (phase, expected) in [("awaiting healthy", true), ("sealing", false)] {
        let mut engine = Engine::new(plan(false), policy(), &journal_of(phase), 1);
        let mut journal: Vec<Record> = Vec::new();
        engine.cancel();
        while engine
            .poll_command(Instant::ZERO, &mut journal)
            .unwrap()
            .is_some()
        {}
        assert_eq!(journal.contains(&Record::Revert), expected, "{phase}");
    }
}

#[test]
fn a_revert_that_ends_on_another_image_is_not_believed() {
    let other = JobDone {
        version: None,
        running: ImageDigest([9; 32]),
    };
    let text = follow(&journal_of("reverting"), Some(Ok(other)));
    assert!(text.starts_with("end 0 Revert failed"), "{text}");
}

#[test]
fn a_failing_journal_stops_everything() {
    struct Full;
    impl super::Journal for Full {
        fn append(
            &mut self,
            _: &Record,
            _: Option<&super::Report>,
        ) -> Result<(), super::JournalError> {
            Err(super::JournalError("no space left".into()))
        }
    }
    let mut engine = Engine::new(plan(false), policy(), &[], 1);
    let error = engine.poll_command(Instant::ZERO, &mut Full).unwrap_err();
    assert!(error.to_string().contains("no space left"));
}

#[test]
fn records_survive_json() {
    for record in [
        journal_of("sealing"),
        vec![Record::End {
            ecu: 1,
            job: Job::Stage,
            result: Err(failure(What::FellBack(BootReason::LimpHome), true)),
            cost: Cost {
                bytes: 1,
                micros: 2,
            },
        }],
    ]
    .concat()
    {
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}

#[test]
fn the_report_has_the_documented_names() {
    let engine = Engine::new(plan(false), policy(), &journal_of("sealing"), 1);
    let report = serde_json::to_value(engine.report()).unwrap();
    insta::assert_snapshot!(report.to_string(), @r#"{"campaign":{"id":"c","state":"incomplete"},"ecus":[{"bus":"bus","bytes":0,"from":"1.0.0","name":"a","reason":null,"seconds":0.0,"state":"healthy","to":"2.0.0"},{"bus":"bus","bytes":0,"from":"1.0.0","name":"b","reason":null,"seconds":0.0,"state":"healthy","to":"2.0.0"}]}"#);
}

#[test]
fn the_content_of_a_plan_is_what_it_installs() {
    let content = plan(false).content();
    assert_eq!(plan(true).content(), content, "what runs by now");
    let mut again = plan(false);
    again.ecus.reverse();
    again.ecus[0].grant = "00".into();
    assert_eq!(again.content(), content, "a fresh grant, another order");
    again.ecus[0].image = OLD;
    assert_ne!(again.content(), content, "another image");
    let mut fewer = plan(false);
    fewer.ecus.pop();
    assert_ne!(fewer.content(), content, "an ECU less");
}

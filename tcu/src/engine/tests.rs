//! The state table: what each event leads to in each state, as the journal and the commands show it.

use std::fmt::Write;

use ecu_image::{Digest, ImageDigest};
use uds::time::{Duration, Instant};

use super::{
    CampaignState, Command, Cost, Engine, JobDone, Plan, PlannedEcu, Policy, Record, Running,
};
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

/// `b` is activated only when `a` is; a plan that names nobody, or an index of nobody, waits for none.
#[test]
fn an_ecu_is_activated_after_those_that_go_first() {
    let mut journal = journal_of("activating");
    let mut first = plan(false);
    first.ecus[1].after = vec![0, 7];
    let mut engine = Engine::new(first, policy(), &journal, 1);
    let started = |engine: &mut Engine, journal: &mut Vec<Record>| {
        let mut commands = Vec::new();
        while let Some(command) = engine.poll_command(Instant::ZERO, journal).unwrap() {
            if let Command::Start(ecu, job) = command {
                commands.push((ecu, job));
            }
        }
        commands
    };
    assert_eq!(started(&mut engine, &mut journal), [(0, Job::Activate)]);
    let result = Ok(done(Job::Activate));
    engine
        .on_job_end(Instant::ZERO, 0, result, Cost::default(), &mut journal)
        .unwrap();
    assert_eq!(started(&mut engine, &mut journal), [(1, Job::Activate)]);
}

#[test]
fn one_ecu_after_the_other_where_that_is_asked_for() {
    let one = Policy {
        one_at_a_time: true,
        ..policy()
    };
    for (policy, most) in [(one, 1), (policy(), 2)] {
        let mut engine = Engine::new(plan(false), policy, &[], 1);
        let (mut journal, mut now) = (Vec::new(), Instant::ZERO);
        let mut side_by_side = 0;
        while engine.finished().is_none() {
            let mut running = Vec::new();
            while let Some(command) = engine.poll_command(now, &mut journal).unwrap() {
                if let Command::Start(ecu, job) = command {
                    running.push((ecu, job));
                }
            }
            side_by_side = side_by_side.max(running.len());
            for (ecu, job) in running {
                engine
                    .on_job_end(now, ecu, Ok(done(job)), Cost::default(), &mut journal)
                    .unwrap();
            }
            now = now + Duration::from_secs(1);
        }
        assert_eq!(engine.finished(), Some(CampaignState::Completed));
        assert_eq!(side_by_side, most);
    }
}

#[test]
fn an_ecu_with_one_slot_goes_last() {
    let mut plan = plan(false);
    plan.ecus[0].last = true;
    let mut engine = Engine::new(plan, policy(), &[], 1);
    let mut journal: Vec<Record> = Vec::new();
    let mut at = 0;
    for _ in 0..20 {
        let now = Instant::ZERO;
        while engine.poll_command(now, &mut journal).unwrap().is_some() {}
        let new: Vec<Record> = journal.drain(at..).collect();
        journal.extend(new.clone());
        at = journal.len();
        for record in new {
            if let Record::Start { ecu, job } = record {
                let cost = Cost::default();
                engine
                    .on_job_end(now, ecu, Ok(done(job)), cost, &mut journal)
                    .unwrap();
            }
        }
    }
    let starts: Vec<String> = journal.iter().map(short).collect();
    let at = |what: &str| starts.iter().position(|found| found == what);
    assert!(
        at("end 1 AwaitHealthy ok") < at("start 0 Stage"),
        "{starts:#?}"
    );
    assert!(at("end 0 AwaitHealthy ok") < at("Commit"), "{starts:#?}");
    assert_eq!(engine.finished(), Some(CampaignState::Completed));
}

/// After COMMIT an ECU loses the image and refuses it: it is named, and a fresh grant goes on.
#[test]
fn a_spent_grant_is_named_and_a_fresh_one_goes_on() {
    let mut records = journal_of("sealing");
    let start = |ecu, job| Record::Start { ecu, job };
    let failed = |job, what| Record::End {
        ecu: 0,
        job,
        result: Err(failure(what, true)),
        cost: Cost::default(),
    };
    let replayed = What::ProgrammingFailure {
        reason: 0x0105,
        detail: 1,
    };
    records.extend([
        start(0, Job::Seal),
        start(1, Job::Seal),
        ended(1, Job::Seal),
        failed(Job::Seal, What::NotRunning),
        start(0, Job::Stage),
        failed(Job::Stage, replayed),
    ]);
    let mut journal = records.clone();
    let mut engine = Engine::new(plan(false), policy(), &records, 1);
    assert_eq!(
        engine.poll_command(Instant::ZERO, &mut journal).unwrap(),
        None
    );
    assert_eq!(
        journal[records.len()..],
        [Record::Incomplete { ecus: vec![0] }]
    );
    assert_eq!(engine.finished(), Some(CampaignState::Incomplete));
    assert_eq!(engine.needing_grants().collect::<Vec<_>>(), [0]);
    let report = serde_json::to_value(engine.report()).unwrap();
    assert_eq!(report["ecus"][0]["state"], "needs-grant");
    assert!(
        report["ecus"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("fresh grant")
    );

    let grant = Record::Regrant {
        ecu: 0,
        grant: "beef".into(),
    };
    journal.push(grant);
    let mut engine = Engine::new(plan(false), policy(), &journal, 1);
    assert_eq!(engine.plan().ecus[0].grant, "beef");
    let known = journal.len();
    while engine
        .poll_command(Instant::ZERO, &mut journal)
        .unwrap()
        .is_some()
    {}
    assert_eq!(journal[known..], [start(0, Job::Stage)]);
}

/// Reverting has left the only update slot of `a` without the image before: it is named, gets that
/// image again under a fresh grant, sealed, and then all are as they were.
#[test]
fn an_ecu_with_one_slot_gets_the_image_before_again() {
    let start = |ecu, job| Record::Start { ecu, job };
    let mut first = plan(false);
    first.ecus[0].last = true;
    let factory = JobDone {
        version: None,
        running: ImageDigest([7; 32]),
    };
    let mut records = vec![
        start(0, Job::Stage),
        ended(0, Job::Stage),
        Record::Revert,
        start(0, Job::Revert),
    ];
    let mut engine = Engine::new(first.clone(), policy(), &records[..3], 1);
    let mut journal = records[..3].to_vec();
    engine.poll_command(Instant::ZERO, &mut journal).unwrap();
    assert_eq!(journal, records);
    engine
        .on_job_end(Instant::ZERO, 0, Ok(factory), Cost::default(), &mut journal)
        .unwrap();
    engine.poll_command(Instant::ZERO, &mut journal).unwrap();
    assert_eq!(engine.finished(), Some(CampaignState::Incomplete));
    assert_eq!(engine.needing_grants().collect::<Vec<_>>(), [0]);
    let report = engine.report();
    assert_eq!(report.ecus[0].state, super::EcuResult::NeedsGrant);
    let reason = report.ecus[0].reason.clone().unwrap();
    assert!(reason.contains("lost 1.0.0"), "{reason}");

    let image = super::Restore {
        artifact: Digest([3; 32]),
        length: 0,
        grant: "beef".into(),
    };
    journal.push(Record::Restore {
        ecu: 0,
        image: image.clone(),
    });
    let text = serde_json::to_string(&journal).unwrap();
    records = serde_json::from_str(&text).unwrap();
    let mut engine = Engine::new(first, policy(), &records, 1);
    assert_eq!(engine.plan().ecus[0].restore, Some(image));
    let old = JobDone {
        version: None,
        running: OLD,
    };
    for job in [Job::Stage, Job::Activate, Job::AwaitHealthy, Job::Seal] {
        while engine
            .poll_command(Instant::ZERO, &mut records)
            .unwrap()
            .is_some()
        {}
        assert_eq!(records.last(), Some(&start(0, job)));
        let cost = Cost::default();
        engine
            .on_job_end(Instant::ZERO, 0, Ok(old.clone()), cost, &mut records)
            .unwrap();
    }
    engine.poll_command(Instant::ZERO, &mut records).unwrap();
    assert_eq!(engine.finished(), Some(CampaignState::Reverted));
    assert_eq!(engine.report().ecus[0].state, super::EcuResult::Reverted);
}

/// `a`'s new image needs the new one of `b`. What a silent ECU does to that is said with the state.
#[test]
fn rules_that_may_not_hold_while_an_ecu_is_silent_are_named() {
    let member = |name: &str, hardware: &str| super::Member {
        name: name.into(),
        hardware_id: hardware.parse().unwrap(),
        image: OLD,
        version: Some("1.0.0".into()),
    };
    let rules = r#"{"requires": [{"hardwareId": "hw-b", "versions": ">=2.0.0"}]}"#;
    let mut ruled = plan(false);
    ruled.ecus[1].image = ImageDigest([3; 32]);
    ruled.together = super::Together {
        ecus: vec![member("a", "hw-a"), member("b", "hw-b")],
        rules: vec![campaign::rules::ImageRules {
            image_digest: NEW,
            rules: serde_json::from_str(rules).unwrap(),
        }],
    };
    let silent = |ecu, job| Record::End {
        ecu,
        job,
        result: Err(failure(What::Request(RequestError::Timeout), true)),
        cost: Cost::default(),
    };
    let broken = |phase: &str, ecu: usize, job| {
        let mut journal = journal_of(phase);
        let other = 1 - ecu;
        for _ in 0..policy().converge_attempts {
            journal.extend([Record::Start { ecu, job }, silent(ecu, job)]);
        }
        journal.extend([Record::Start { ecu: other, job }, ended(other, job)]);
        let mut engine = Engine::new(ruled.clone(), policy(), &journal, 1);
        // Tries count anew in each run.
        let (mut now, mut rest) = (Instant::ZERO, Vec::new());
        for _ in 0..10 {
            while let Some(command) = engine.poll_command(now, &mut rest).unwrap() {
                if let Command::Start(ecu, _) = command {
                    let result = Err(failure(What::Request(RequestError::Timeout), true));
                    let cost = Cost::default();
                    engine
                        .on_job_end(now, ecu, result, cost, &mut rest)
                        .unwrap();
                }
            }
            now = now + Duration::from_secs(10);
        }
        assert_eq!(engine.finished(), Some(CampaignState::Incomplete));
        engine.report().campaign.broken_rules
    };
    // After COMMIT both were healthy on their new images, whoever is silent now.
    assert!(broken("sealing", 1, Job::Seal).is_empty());
    // `b` is back, and silent `a` may still run what needs the new `b`.
    let named = broken("reverting", 0, Job::Revert);
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(named[0].contains("hw-b >=2.0.0"), "{named:?}");
    // Given up, `b` may run anything: what `a` runs by now may not fit it.
    let mut journal = journal_of("sealing");
    journal.extend(both(Job::Seal).into_iter().take(3));
    let (ecu, by) = (1, operator());
    journal.push(Record::GiveUp { ecu, by });
    journal.push(Record::Done(CampaignState::GivenUp));
    let report = Engine::new(ruled.clone(), policy(), &journal, 1).report();
    assert_eq!(report.campaign.broken_rules.len(), 1, "{report:?}");
    // `a` is back on its old image, which asks nothing.
    assert!(broken("reverting", 1, Job::Revert).is_empty());
}

/// What an ECU said while it ran the new image is not said of it once it has lost that.
#[test]
fn an_ecu_that_lost_the_new_image_is_not_reported_to_run_it() {
    let mut records = journal_of("sealing");
    for record in &mut records {
        if let Record::End {
            result: Ok(done), ..
        } = record
        {
            done.version = Some("2.0.0".into());
        }
    }
    let to = |records: &[Record]| {
        let report = Engine::new(plan(false), policy(), records, 1).report();
        report.ecus[0].to.clone()
    };
    assert_eq!(to(&records), "2.0.0");
    for what in [
        What::NotRunning,
        What::FellBack(BootReason::FellBackToPrevious),
    ] {
        let (ecu, job) = (0, Job::Seal);
        let lost = Record::End {
            ecu,
            job,
            result: Err(failure(what, true)),
            cost: Cost::default(),
        };
        let records = [&records[..], &[Record::Start { ecu, job }, lost]].concat();
        assert_eq!(to(&records), "1.0.0");
    }
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

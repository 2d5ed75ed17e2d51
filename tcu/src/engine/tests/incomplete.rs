//! ECUs that keep a campaign from its end: without a grant that they take, without the image before,
//! silent.

use ecu_image::{Digest, ImageDigest};
use uds::time::{Duration, Instant};

use super::{NEW, OLD, both, ended, failure, journal_of, operator, plan, policy};
use crate::engine::{
    CampaignState, Command, Cost, EcuResult, Engine, JobDone, Member, Record, Restore, Together,
};
use crate::flash::{Job, RequestError, What};
use crate::profile::BootReason;

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
    assert_eq!(report.ecus[0].state, EcuResult::NeedsGrant);
    let reason = report.ecus[0].reason.clone().unwrap();
    assert!(reason.contains("lost 1.0.0"), "{reason}");

    let image = Restore {
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
    assert_eq!(engine.report().ecus[0].state, EcuResult::Reverted);
}

/// `a`'s new image needs the new one of `b`. What a silent ECU does to that is said with the state.
#[test]
fn rules_that_may_not_hold_while_an_ecu_is_silent_are_named() {
    let member = |name: &str, hardware: &str| Member {
        name: name.into(),
        hardware_id: hardware.parse().unwrap(),
        image: OLD,
        version: Some("1.0.0".into()),
    };
    let rules = r#"{"requires": [{"hardwareId": "hw-b", "versions": ">=2.0.0"}]}"#;
    let mut ruled = plan(false);
    ruled.ecus[1].image = ImageDigest([3; 32]);
    ruled.together = Together {
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

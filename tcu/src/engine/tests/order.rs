//! Which ECU goes before which.

use uds::time::{Duration, Instant};

use super::{done, journal_of, plan, policy, short};
use crate::engine::{CampaignState, Command, Cost, Engine, Policy, Record};
use crate::flash::Job;

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

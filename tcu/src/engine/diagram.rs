//! The state diagram of `docs/spec/transaction.md`, made from what the engine does: every state that
//! two ECUs can bring it into is visited, and what leads from phase to phase is written down.

use std::collections::{BTreeMap, BTreeSet};

use uds::time::Instant;

use super::{CampaignState, Cost, Engine, JobDone, Phase, Policy, Record};
use crate::flash::{Failure, Job, RequestError, Step, What};
use crate::profile::BootReason;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/spec/transaction.md");
const BEGIN: &str = "```mermaid\n";
const END: &str = "```\n";

/// From phase to phase by records, and the jobs that run in each phase.
#[derive(Debug, Default)]
struct Diagram {
    arrows: BTreeSet<(usize, String, usize)>,
    jobs: BTreeMap<usize, BTreeSet<String>>,
}

/// The phases in their order.
const PHASES: [Phase; 8] = [
    Phase::Staging,
    Phase::Activating,
    Phase::AwaitingHealthy,
    Phase::Sealing,
    Phase::Reverting,
    Phase::Done(CampaignState::Completed),
    Phase::Done(CampaignState::Reverted),
    Phase::Done(CampaignState::GivenUp),
];

fn number(phase: Phase) -> usize {
    PHASES.iter().position(|known| *known == phase).unwrap()
}

fn name(phase: usize) -> String {
    match PHASES[phase] {
        Phase::Done(state) => format!("{state:?}"),
        phase => format!("{phase:?}"),
    }
}

fn label(record: &Record) -> &'static str {
    match record {
        Record::AllStaged => "all are staged",
        Record::AllActivated => "all are activated",
        Record::Commit => "COMMIT: all are healthy",
        Record::Revert => "one failed, or cancelled",
        Record::Incomplete { .. } => {
            "incomplete: those not reached are named, the next run goes on"
        }
        Record::GiveUp { .. } => "an operator gives an ECU up",
        Record::Done(CampaignState::GivenUp) => "all others are done",
        Record::Done(_) => "all are done",
        Record::Start { .. }
        | Record::End { .. }
        | Record::Regrant { .. }
        | Record::Restore { .. } => "",
    }
}

/// What may come of a job.
fn ends(job: Job) -> Vec<Result<JobDone, Failure>> {
    let running = super::tests::done(job);
    let failed = |what| {
        Err(Failure {
            step: Step::BootStatus,
            what,
            touched: true,
        })
    };
    vec![
        Ok(running),
        failed(What::Request(RequestError::Timeout)),
        failed(What::FellBack(BootReason::FellBackToPrevious)),
        failed(What::ProgrammingFailure {
            reason: super::GRANT_REPLAYED,
            detail: 0,
        }),
    ]
}

impl Diagram {
    /// Everything that can follow from here, once a job has ended where one does.
    fn explore(
        &mut self,
        records: &[Record],
        end: Option<(usize, Result<JobDone, Failure>)>,
        seen: &mut BTreeSet<String>,
    ) {
        let policy = Policy {
            converge_attempts: 1,
            ..super::tests::policy()
        };
        let mut engine = Engine::new(super::tests::plan(false), policy.clone(), records, 1);
        let mut journal = records.to_vec();
        let now = Instant::ZERO;
        while engine.poll_command(now, &mut journal).unwrap().is_some() {}
        if let Some((ecu, result)) = end {
            let cost = Cost::default();
            engine
                .on_job_end(now, ecu, result, cost, &mut journal)
                .unwrap();
            while engine.poll_command(now, &mut journal).unwrap().is_some() {}
        }
        self.note(records, &journal);
        if !seen.insert(format!("{:?} {:?}", engine.phase, engine.ecus)) {
            return;
        }
        for planned in &super::tests::plan(false).ecus {
            let again = Engine::new(super::tests::plan(false), policy.clone(), &journal, 1);
            if let Ok(Some(ecu)) = again.may_give_up(&planned.name) {
                let by = super::tests::operator();
                let given_up = [journal.as_slice(), &[Record::GiveUp { ecu, by }]].concat();
                self.note(&journal, &given_up);
                self.explore(&given_up, None, seen);
            }
        }
        let mut running = BTreeMap::new();
        for record in &journal {
            match record {
                Record::Start { ecu, job } => running.insert(*ecu, *job),
                Record::End { ecu, .. } => running.remove(ecu),
                _ => None,
            };
        }
        for (ecu, job) in running {
            for result in ends(job) {
                self.explore(&journal, Some((ecu, result)), seen);
            }
        }
    }

    fn note(&mut self, before: &[Record], journal: &[Record]) {
        for at in before.len()..journal.len() {
            let phase = |records: &[Record]| {
                let last = records.iter().rev().find_map(Record::phase);
                number(last.unwrap_or(Phase::Staging))
            };
            let (from, to) = (phase(&journal[..at]), phase(&journal[..=at]));
            match &journal[at] {
                Record::Start { job, .. } => {
                    self.jobs
                        .entry(from)
                        .or_default()
                        .insert(format!("{job:?}"));
                }
                record if !label(record).is_empty() => {
                    self.arrows.insert((from, label(record).into(), to));
                }
                _ => {}
            }
        }
    }

    fn mermaid(&self) -> String {
        let mut text = String::from("stateDiagram-v2\n    [*] --> Staging\n");
        for (phase, jobs) in &self.jobs {
            let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
            text += &format!("    {} : {}\n", name(*phase), jobs.join(", "));
        }
        for (from, label, to) in &self.arrows {
            text += &format!("    {} --> {} : {label}\n", name(*from), name(*to));
        }
        text + "    Completed --> [*]\n    Reverted --> [*]\n    GivenUp --> [*]\n"
    }
}

#[test]
fn the_diagram_in_the_documents_is_what_the_engine_does() {
    let mut diagram = Diagram::default();
    let mut seen = BTreeSet::new();
    diagram.explore(&[], None, &mut seen);
    assert!(seen.len() > 30, "only {} states", seen.len());
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let expected = diagram.mermaid();
    if std::env::var_os("UPDATE_DIAGRAM").is_some() {
        std::fs::write(DOCUMENT, [before, BEGIN, &expected, END, after].concat()).unwrap();
    } else {
        assert_eq!(found, expected, "run the test again with UPDATE_DIAGRAM=1");
    }
}

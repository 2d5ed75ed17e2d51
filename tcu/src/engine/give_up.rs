//! An ECU that never comes back: replaced, or dead. An operator gives it up, so that the transaction
//! ends for the others. It never ends as if all were well: the report names the ECU.

use super::{CampaignState, Ecu, Engine, GivenUp, Journal, JournalError, Phase, Record};

/// Why an ECU is not given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGivenUp {
    /// The campaign has no such ECU.
    #[error("campaign {campaign} has no ECU {ecu}; it is about {known}")]
    Unknown {
        /// The campaign.
        campaign: String,
        /// What was asked for.
        ecu: String,
        /// Its ECUs.
        known: String,
    },
    /// Before COMMIT, and not going back either.
    #[error(
        "campaign {0} neither seals nor goes back yet: nothing is stuck; \
         `tcu cancel` makes it go back"
    )]
    UnderWay(String),
    /// The transaction is done with it.
    #[error("{0} has reached its end: it holds nothing up")]
    Reached(String),
    /// A job runs on it.
    #[error("{0} is being asked right now; wait for the end of this run")]
    Asked(String),
    /// Nothing has failed on it since the campaign seals or goes back.
    #[error(
        "{0} has not failed: let the campaign go on (the service, or `tcu install`); \
         an ECU that it does not reach is named, and can be given up then"
    )]
    NotStuck(String),
}

impl Engine {
    /// Which ECU may be given up by this name; `None` where it is already.
    ///
    /// # Errors
    ///
    /// [`NotGivenUp`]: the ECU does not keep the transaction from its end.
    pub fn may_give_up(&self, name: &str) -> Result<Option<usize>, NotGivenUp> {
        let mut planned = self.plan.ecus.iter();
        let index = planned.position(|ecu| ecu.name == name);
        let found = index.and_then(|index| Some((index, self.ecus.get(index)?)));
        let Some((index, ecu)) = found else {
            let known: Vec<&str> = self.plan.ecus.iter().map(|ecu| ecu.name.as_str()).collect();
            return Err(NotGivenUp::Unknown {
                campaign: self.plan.campaign.clone(),
                ecu: name.to_owned(),
                known: known.join(", "),
            });
        };
        let ecu_name = name.to_owned();
        if ecu.given_up.is_some() {
            Ok(None)
        } else if !matches!(self.phase, Phase::Sealing | Phase::Reverting) {
            Err(NotGivenUp::UnderWay(self.plan.campaign.clone()))
        } else if ecu.running.is_some() {
            Err(NotGivenUp::Asked(ecu_name))
        } else if self.has_converged(ecu) {
            Err(NotGivenUp::Reached(ecu_name))
        } else if !ecu.stuck {
            Err(NotGivenUp::NotStuck(ecu_name))
        } else {
            Ok(Some(index))
        }
    }

    /// An operator gives an ECU up; it is asked nothing from then on. The index is that of
    /// [`Engine::may_give_up`].
    ///
    /// # Errors
    ///
    /// [`JournalError`], as for [`Engine::poll_command`].
    pub fn give_up(
        &mut self,
        ecu: usize,
        by: GivenUp,
        journal: &mut impl Journal,
    ) -> Result<(), JournalError> {
        self.make_durable(&Record::GiveUp { ecu, by }, journal)
    }

    /// The end that sealing or reverting has come to.
    pub(super) fn end(&self, all: CampaignState) -> Record {
        let complete = self.ecus.iter().all(|ecu| ecu.given_up.is_none());
        Record::Done(if complete {
            all
        } else {
            CampaignState::GivenUp
        })
    }

    /// How the campaign ended without some ECUs, in a sentence.
    pub(super) fn without(&self) -> String {
        let ecus = self.plan.ecus.iter().zip(&self.ecus);
        let names = ecus.filter(|(_, ecu)| ecu.given_up.is_some());
        let names: Vec<&str> = names.map(|(planned, _)| planned.name.as_str()).collect();
        let others = match self.committed {
            true => "all others run the new images",
            false => "all others are as they were",
        };
        format!(
            "{others}; what {} runs is not known: an operator gave it up",
            names.join(", ")
        )
    }
}

impl Ecu {
    pub(super) fn give_up(&mut self, by: &GivenUp) {
        self.given_up = Some(by.clone());
        self.running = None;
        self.needs_grant = false;
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use uds::time::Instant;

    use super::*;
    use crate::engine::tests::{ended, failure, journal_of, operator, plan, policy, short};
    use crate::engine::{Command, Cost, EcuResult, Report};
    use crate::flash::{Job, RequestError, What};

    fn engine(records: &[Record]) -> Engine {
        Engine::new(plan(false), policy(), records, 1)
    }

    fn failed(job: Job) -> Vec<Record> {
        let what = What::Request(RequestError::Timeout);
        let end = Record::End {
            ecu: 0,
            job,
            result: Err(failure(what, true)),
            cost: Cost::default(),
        };
        vec![Record::Start { ecu: 0, job }, end]
    }

    /// A campaign that seals or goes back and does not reach ECU 0, but ECU 1.
    fn incomplete(phase: &str, job: Job) -> Vec<Record> {
        let mut records = journal_of(phase);
        records.extend(failed(job));
        records.extend([Record::Start { ecu: 1, job }, ended(1, job)]);
        records.extend(failed(job));
        records.push(Record::Incomplete { ecus: vec![0] });
        records
    }

    fn given_up(records: &[Record]) -> Vec<Record> {
        let mut journal = records.to_vec();
        let mut engine = engine(records);
        let ecu = engine.may_give_up("a").unwrap().unwrap();
        engine.give_up(ecu, operator(), &mut journal).unwrap();
        journal
    }

    /// What a run does with a journal to its end, where nothing is left to be asked.
    fn run(records: &[Record]) -> (Vec<Record>, Option<CampaignState>, Report) {
        let mut engine = engine(records);
        let mut journal: Vec<Record> = Vec::new();
        let command = engine.poll_command(Instant::ZERO, &mut journal).unwrap();
        assert_eq!(command, None);
        (journal, engine.finished(), engine.report())
    }

    #[test]
    fn every_phase_in_which_an_operator_gives_up() {
        let phases = [
            ("staging", Job::Stage),
            ("activating", Job::Activate),
            ("awaiting healthy", Job::AwaitHealthy),
            ("sealing", Job::Seal),
            ("reverting", Job::Revert),
        ];
        let mut table = String::new();
        for (phase, job) in phases {
            let begun = journal_of(phase);
            let running = [begun.clone(), vec![Record::Start { ecu: 0, job }]].concat();
            let failed = [begun.clone(), failed(job)].concat();
            let named = [begun.clone(), vec![Record::Incomplete { ecus: vec![0] }]].concat();
            let done = [running.clone(), vec![ended(0, job)]].concat();
            let situations = [
                ("begun", begun),
                ("a job was running", running),
                ("its job failed", failed),
                ("it is named", named),
                ("its job was done", done),
            ];
            for (situation, records) in situations {
                let verdict = match engine(&records).may_give_up("a") {
                    Ok(_) => {
                        let mut journal = given_up(&records);
                        let mut engine = engine(&journal);
                        let before = journal.len();
                        let now = Instant::ZERO;
                        let polled =
                            std::iter::from_fn(|| engine.poll_command(now, &mut journal).unwrap());
                        let commands: Vec<Command> = polled.collect();
                        let records: Vec<String> = journal[before..].iter().map(short).collect();
                        format!("{} | {commands:?}", records.join(", "))
                    }
                    Err(refusal) => refusal.to_string(),
                };
                writeln!(table, "{phase}, {situation}:\n    {verdict}").unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn the_end_names_who_was_given_up_and_is_no_success() {
        for (phase, job, other) in [
            ("sealing", Job::Seal, EcuResult::Sealed),
            ("reverting", Job::Revert, EcuResult::Reverted),
        ] {
            let journal = given_up(&incomplete(phase, job));
            let (records, state, report) = run(&journal);
            assert_eq!(records, [Record::Done(CampaignState::GivenUp)], "{phase}");
            assert_eq!(state, Some(CampaignState::GivenUp));
            let [a, b] = &report.ecus[..] else {
                panic!("{report:?}")
            };
            assert_eq!((a.state, b.state), (EcuResult::GivenUp, other));
            assert_eq!(a.to, "unknown");
            assert_eq!(a.reason.as_deref(), Some("given up by uid 0: replaced"));
            let reason = report.campaign.reason.unwrap();
            assert!(reason.contains("what a runs is not known"), "{reason}");
            let new = reason.contains("all others run the new images");
            assert_eq!(new, phase == "sealing", "{reason}");
            // Killed after the end: a restart finds it, and the ECU still given up.
            let ended = [journal, records].concat();
            assert_eq!(run(&ended).1, Some(CampaignState::GivenUp));
            assert_eq!(run(&ended).2.ecus[0].state, EcuResult::GivenUp);
        }
    }

    /// Killed while the record is written it is there or not; where it is, nothing is asked of the ECU.
    #[test]
    fn a_kill_between_the_record_and_its_effect_gives_up_or_does_not() {
        struct Killed;
        impl Journal for Killed {
            fn append(&mut self, _: &Record, _: Option<&Report>) -> Result<(), JournalError> {
                Err(JournalError("killed".into()))
            }
        }
        let records = incomplete("sealing", Job::Seal);
        let mut dies = engine(&records);
        assert!(dies.give_up(0, operator(), &mut Killed).is_err());
        assert_eq!(dies.finished(), None, "what it believes may not be so");
        // Not durable: the next run asks the ECU again.
        let mut journal: Vec<Record> = Vec::new();
        let mut again = engine(&records);
        let command = again.poll_command(Instant::ZERO, &mut journal).unwrap();
        assert_eq!(command, Some(Command::Start(0, Job::Seal)));
        // Durable: it does not, however often the run dies before its end is durable.
        let journal = given_up(&records);
        for _ in 0..3 {
            let mut dies = engine(&journal);
            assert!(dies.poll_command(Instant::ZERO, &mut Killed).is_err());
        }
        assert_eq!(run(&journal).1, Some(CampaignState::GivenUp));
    }

    #[test]
    fn giving_up_again_changes_nothing_and_strangers_are_refused() {
        let journal = given_up(&incomplete("reverting", Job::Revert));
        assert_eq!(engine(&journal).may_give_up("a"), Ok(None));
        let refused = |name: &str| engine(&journal).may_give_up(name).unwrap_err();
        assert_eq!(refused("b"), NotGivenUp::Reached("b".into()));
        let stranger = refused("c").to_string();
        assert_eq!(stranger, "campaign c has no ECU c; it is about a, b");
    }

    #[test]
    fn the_others_are_brought_to_their_end_first() {
        let mut records = journal_of("sealing");
        records.extend(failed(Job::Seal));
        let mut journal = given_up(&records);
        let mut engine = engine(&journal);
        let now = Instant::ZERO;
        let command = engine.poll_command(now, &mut journal).unwrap();
        assert_eq!(command, Some(Command::Start(1, Job::Seal)));
        assert_eq!(engine.finished(), None);
        let done = Ok(crate::engine::tests::done(Job::Seal));
        let cost = Cost::default();
        engine.on_job_end(now, 1, done, cost, &mut journal).unwrap();
        assert_eq!(engine.poll_command(now, &mut journal).unwrap(), None);
        assert_eq!(engine.finished(), Some(CampaignState::GivenUp));
    }

    #[test]
    fn records_of_it_survive_json() {
        let record = Record::GiveUp {
            ecu: 1,
            by: operator(),
        };
        let text = serde_json::to_string(&record).unwrap();
        insta::assert_snapshot!(text, @r#"{"give-up":{"ecu":1,"by":{"who":"uid 0","reason":"replaced"}}}"#);
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}

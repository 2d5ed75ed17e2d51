//! A transaction and its ECUs on an event queue: no clock, no runtime, the same for the same seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use ecu_image::Digest;
use ecu_image::crypto::MacKey;
use uds::client::{self, TransportFault};
use uds::time::{Duration, Instant, earliest};

use super::ecu::{ACCESS_KEY, FakeEcu, Fault, OLD, target};
use crate::engine::{
    CampaignState, Engine, Journal, JournalError, Permit, Plan, PlannedEcu, Policy, Record, Report,
    Running,
};
use crate::flash::{self, Target};
use crate::vehicle::{Address, Control, EcuSetup, Event, Jobs, Transaction, Vehicle};

/// A journal that dies at a record: before it is durable, or right after.
#[derive(Debug, Clone, Default)]
pub(crate) struct KillJournal {
    pub(crate) records: Vec<Record>,
    pub(crate) kill_at: Option<(usize, bool)>,
}

impl Journal for KillJournal {
    fn append(&mut self, record: &Record, _: Option<&Report>) -> Result<(), JournalError> {
        let kill = self.kill_at.filter(|(at, _)| *at == self.records.len());
        if kill.is_none_or(|(_, durable)| durable) {
            self.records.push(record.clone());
        }
        match kill {
            Some(_) => Err(JournalError("killed".into())),
            None => Ok(()),
        }
    }
}

/// Decides what happens to a request: ECU, its bytes, and the ECU's count of requests.
pub(crate) type Faults<'a> = &'a mut dyn FnMut(usize, &[u8], u32) -> Option<Fault>;

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) ecus: Vec<FakeEcu>,
    pub(crate) targets: Vec<Target>,
    pub(crate) records: Vec<Record>,
    pub(crate) events: Vec<Event>,
    /// Functional requests by bus.
    pub(crate) functional: Vec<(usize, String)>,
    pub(crate) seed: u64,
    pub(crate) parallel: usize,
    pub(crate) driving_share: Option<u8>,
    /// A bus to which nothing leads.
    pub(crate) unlinked: Option<usize>,
    /// How often each ECU is asked beside its jobs for F40D.
    pub(crate) questions: Option<Duration>,
    /// When the operator cancels.
    pub(crate) cancel_at: Option<Instant>,
    /// When the TCU is told to end, as by SIGTERM.
    pub(crate) stop_at: Option<Instant>,
    /// From when on what is permitted, in order.
    pub(crate) permits: VecDeque<(Instant, Permit)>,
    /// The first bytes of each request to an ECU, and when it was handed out.
    pub(crate) requests: Vec<(Instant, usize, Vec<u8>)>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Sent(Address),
    Lost(Address),
    Response(usize, Vec<u8>),
}

/// How a run of the TCU ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Killed,
    Finished(CampaignState),
}

impl World {
    /// ECUs on two buses, by turns.
    pub(crate) fn new(ecus: usize) -> Self {
        Self {
            now: Instant::ZERO,
            ecus: (0..ecus).map(|_| FakeEcu::new()).collect(),
            targets: (0u8..).take(ecus).map(|ecu| target(ecu, 3)).collect(),
            records: Vec::new(),
            events: Vec::new(),
            functional: Vec::new(),
            seed: 1,
            parallel: 1,
            driving_share: None,
            unlinked: None,
            questions: None,
            cancel_at: None,
            stop_at: None,
            permits: VecDeque::new(),
            requests: Vec::new(),
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let ecus = self
            .targets
            .iter()
            .enumerate()
            .map(|(index, target)| PlannedEcu {
                name: format!("ecu{index}"),
                bus: format!("bus{}", index % 2),
                image: target.image,
                artifact: Digest::ZERO,
                length: 0,
                last: false,
                restore: None,
                after: Vec::new(),
                key_set: None,
                grant: hex::encode(&target.grant),
                from: Running {
                    version: "1.0.0".into(),
                    image: OLD,
                },
                to_version: "2.0.0".into(),
                unchanged: false,
            });
        Plan {
            campaign: "test".into(),
            rxswins: Default::default(),
            together: Default::default(),
            ecus: ecus.collect(),
        }
    }

    /// Runs the TCU from the journal's end until it finishes or is killed.
    pub(crate) fn run(&mut self, kill_at: Option<(usize, bool)>, faults: Faults<'_>) -> Ended {
        let policy = Policy {
            parallel_per_bus: self.parallel,
            ..Policy::default()
        };
        let engine = Engine::new(self.plan(), policy, &self.records, self.seed);
        let setups = self
            .targets
            .iter()
            .enumerate()
            .map(|(index, target)| EcuSetup {
                bus: index % 2,
                access_key: MacKey::new(ACCESS_KEY),
                target: Some(target.clone()),
            });
        let config = client::Config::default();
        let flash = flash::Policy {
            driving_share: self.driving_share,
            ..flash::Policy::default()
        };
        let jobs = Jobs::new(setups.collect(), flash, &config, self.seed);
        let journal = KillJournal {
            records: std::mem::take(&mut self.records),
            kill_at,
        };
        let mut machine = Transaction::new(engine, jobs, journal);
        self.drive(&mut machine, faults);
        let ended = match machine.error() {
            Some(_) => Ended::Killed,
            None => machine.finished().map_or(Ended::Killed, Ended::Finished),
        };
        self.records = machine.into_journal().records;
        ended
    }

    fn drive(&mut self, machine: &mut Transaction<KillJournal>, faults: Faults<'_>) {
        let mut queue = BinaryHeap::new();
        let mut question = self.questions.map(|_| self.now);
        for turn in 0.. {
            assert!(turn < 200_000, "no end in sight at {:?}", self.now);
            if self.stop_at.take_if(|at| *at <= self.now).is_some() {
                return;
            }
            if self.cancel_at.take_if(|at| *at <= self.now).is_some() {
                machine.handle_control(&Control {
                    cancel: true,
                    ..Control::default()
                });
            }
            while let Some((_, permit)) = self.permits.pop_front_if(|(at, _)| *at <= self.now) {
                machine.handle_control(&Control {
                    permit,
                    ..Control::default()
                });
            }
            if let Some(every) = self.questions.filter(|_| question <= Some(self.now)) {
                question = Some(self.now + every);
                for ecu in 0..self.ecus.len() {
                    machine.handle_question(self.now, ecu, 0xF40D);
                }
            }
            while let Some(transmit) = machine.poll_transmit(self.now) {
                let sent = self.now + Duration::from_millis(1);
                let unlinked = |ecu: usize| self.unlinked == Some(ecu % 2);
                match transmit.to {
                    Address::Ecu(index) if unlinked(index) => {
                        queue.push(Reverse((sent, Due::Lost(transmit.to))));
                        continue;
                    }
                    _ => queue.push(Reverse((sent, Due::Sent(transmit.to)))),
                }
                match transmit.to {
                    Address::Ecu(index) => {
                        let first = transmit.pdu.iter().take(4).copied().collect();
                        self.requests.push((self.now, index, first));
                        let count = self.ecus[index].requests;
                        let fault = faults(index, &transmit.pdu, count);
                        let answer = self.ecus[index].request(sent, &transmit.pdu, fault);
                        let due = sent + Duration::from_millis(2);
                        queue.extend(answer.map(|pdu| Reverse((due, Due::Response(index, pdu)))));
                    }
                    Address::Bus(bus) => {
                        self.functional.push((bus, hex::encode(&transmit.pdu)));
                        for (index, ecu) in self.ecus.iter_mut().enumerate() {
                            if index % 2 == bus {
                                ecu.request(sent, &transmit.pdu, None);
                            }
                        }
                    }
                }
            }
            self.events
                .extend(std::iter::from_fn(|| machine.poll_event()));
            if machine.is_finished() {
                return;
            }
            let permit = self.permits.front().map(|(at, _)| *at);
            let told = [permit, self.stop_at, self.cancel_at, question];
            let timeout = [machine.poll_timeout()].into_iter().chain(told);
            let timeout = timeout.fold(None, earliest);
            let next = queue.peek().map(|Reverse((at, _))| *at);
            match (next, timeout) {
                (Some(at), timeout) if timeout.is_none_or(|timeout| at <= timeout) => {
                    self.now = at;
                    match queue.pop().unwrap().0.1 {
                        Due::Sent(to) => machine.handle_sent(self.now, to),
                        Due::Lost(to) => machine.handle_fault(self.now, to, TransportFault::Send),
                        Due::Response(ecu, pdu) => machine.handle_pdu(self.now, ecu, &pdu),
                    }
                }
                (_, Some(timeout)) => {
                    self.now = self.now.max(timeout);
                    machine.handle_timeout(self.now);
                }
                (_, None) => panic!("the machine waits for nothing: {machine:?}"),
            }
        }
    }

    pub(crate) fn committed(&self) -> bool {
        self.records.contains(&Record::Commit)
    }

    /// All ECUs run the new image, sealed.
    pub(crate) fn all_new(&self) -> bool {
        let pairs = self.ecus.iter().zip(&self.targets);
        pairs
            .into_iter()
            .all(|(ecu, target)| ecu.runs() == (target.image, crate::profile::SlotState::Sealed))
    }

    /// All ECUs run the old image and none holds anything that could still be tried.
    pub(crate) fn all_old(&self) -> bool {
        use crate::profile::SlotState::{Empty, Rejected};
        self.ecus.iter().all(|ecu| {
            let other = ecu.slots[1 - ecu.running].1;
            ecu.runs().0 == OLD && matches!(other, Empty | Rejected)
        })
    }
}

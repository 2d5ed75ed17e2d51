//! A vehicle, and what can be done with it.

use std::collections::VecDeque;

use ecu_bootloader::state::State;
use rand::SeedableRng;
use rand::rngs::StdRng;
use simbus::BusConfig;
use tcu::engine::{CampaignState, Engine, Plan, PlannedEcu, Policy, Record, Running};
use tcu::flash;
use tcu::vehicle::{EcuSetup, Event as TcuEvent, Jobs, Transaction, Vehicle};
use uds::time::{Duration, Instant};
use virtual_ecu::app::Behaviour;
use virtual_ecu::hardware::ChipModel;

use super::misbehaviour::{Hostile, Misbehaviour};
use super::oem::{Oem, Release};
use super::parts::{BusSide, Ecu, EcuState, Factory};
use super::service::Service;
use super::{Interruption, Ledger};

/// How long a vehicle may take for anything before the test fails.
const LIMIT: Duration = Duration::from_secs(3600);
/// The least time between two events; far below the shortest frame.
const TICK: Duration = Duration::from_micros(20);
/// How long one request may be answered with 0x78. Ten minutes by default, which a flooded bus
/// makes long to simulate.
const PENDING: Duration = Duration::from_secs(10);
/// Grants of an image beside the first.
const SPARE_GRANTS: usize = 4;

/// A vehicle: ECUs on two buses, and a TCU while one runs.
pub struct World {
    pub(super) now: Instant,
    pub(super) buses: Vec<BusSide>,
    pub(super) ecus: Vec<Ecu>,
    pub(super) tcu: Option<Transaction<Ledger>>,
    /// The journal, while no TCU runs.
    pub(super) ledger: Option<Ledger>,
    pub(super) service: Option<Service>,
    pub(super) reports_due: bool,
    pub(super) interruptions: VecDeque<Interruption>,
    /// Frames that are over, and how many were when the next interruption was armed.
    pub(super) frames: u64,
    pub(super) armed_at: u64,
    pub(super) events: Vec<TcuEvent>,
    pub(super) keeps_events: bool,
    seed: u64,
}

impl World {
    /// `classical` ECUs on a bus of 500 kbit/s, `fd` ECUs on one of 500 kbit/s and 2 Mbit/s, all
    /// running `factory`.
    ///
    /// # Panics
    /// When an ECU does not start.
    #[must_use]
    pub fn new(oem: &mut Oem, factory: &Release, classical: u16, fd: u16, seed: u64) -> Self {
        println!("seed {seed}");
        let ecu = |index| {
            let bus = usize::from(index >= classical);
            Factory::new(oem, factory, index, bus, ChipModel::default(), None)
        };
        let mut world = Self::of(&(0..classical + fd).map(ecu).collect::<Vec<_>>(), seed);
        world.keeps_events = true;
        world
    }

    /// A vehicle of copies of these ECUs, all running.
    ///
    /// # Panics
    /// When an ECU does not start.
    #[must_use]
    pub fn of(factories: &[Factory], seed: u64) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            buses: vec![
                BusSide::new(BusConfig::classical(500_000)),
                BusSide::new(BusConfig::fd(500_000, 2_000_000)),
            ],
            ecus: Vec::new(),
            tcu: None,
            ledger: None,
            service: None,
            reports_due: false,
            interruptions: VecDeque::new(),
            frames: 0,
            armed_at: 0,
            events: Vec::new(),
            keeps_events: false,
            seed,
        };
        for factory in factories {
            let node = world.buses[factory.bus].bus.attach();
            world.ecus.push(Ecu::new(factory, node, world.now));
        }
        world.run_until("every ECU runs", |world| {
            world.ecus.iter().all(|ecu| ecu.version.is_some())
        });
        world
    }

    /// The campaign of one release for all ECUs, except those that get another one.
    pub fn plan(&self, oem: &mut Oem, release: &Release, other: &[(usize, Release)]) -> Campaign {
        let mut campaign = Campaign {
            plan: Plan {
                campaign: "virtual".into(),
                rxswins: Default::default(),
                together: Default::default(),
                ecus: Vec::new(),
            },
            targets: Vec::new(),
            spare_grants: Vec::new(),
        };
        for (index, ecu) in self.ecus.iter().enumerate() {
            let release = other
                .iter()
                .find(|(at, _)| *at == index)
                .map_or(release, |(_, other)| other);
            let target = oem.target(release, &ecu.provisioning);
            campaign.plan.ecus.push(PlannedEcu {
                name: ecu.provisioning.name.to_string(),
                bus: ecu.provisioning.bus.to_string(),
                image: release.digest,
                artifact: ecu_image::crypto::sha256(&[&release.image]),
                length: 0,
                grant: hex_of(&target.grant),
                from: Running {
                    version: "1.0.0".into(),
                    image: ecu_image::ImageDigest::ZERO,
                },
                to_version: release.version.clone(),
                unchanged: false,
                last: false,
                restore: None,
                after: Vec::new(),
                key_set: None,
            });
            campaign.targets.push(target);
            let mut spare: Vec<String> = (0..SPARE_GRANTS)
                .map(|_| hex_of(&oem.grant(release, &ecu.provisioning)))
                .collect();
            spare.reverse();
            campaign.spare_grants.push(spare);
        }
        campaign
    }

    /// Starts a TCU at the end of `journal`, which is in memory.
    pub fn start_tcu(&mut self, campaign: &Campaign, journal: Vec<Record>) {
        self.start_tcu_with(campaign, Ledger::in_memory(journal));
        // What it announces again is on its way: who kills it at the next record kills it later.
        self.settle();
    }

    /// Starts a TCU at the end of a journal.
    pub(super) fn start_tcu_with(&mut self, campaign: &Campaign, journal: Ledger) {
        self.seed += 1;
        let engine = Engine::new(
            campaign.plan.clone(),
            Policy::default(),
            journal.records(),
            self.seed,
        );
        let planned = campaign.targets.iter().zip(&engine.plan().ecus);
        let setups = self.ecus.iter().zip(planned);
        let setups = setups.map(|(ecu, (target, planned))| EcuSetup {
            bus: ecu.bus,
            access_key: ecu.provisioning.access_key.clone(),
            target: Some(flash::Target {
                grant: bytes_of(match &planned.restore {
                    Some(restore) => &restore.grant,
                    None => &planned.grant,
                }),
                ..target.clone()
            }),
        });
        let jobs = Jobs::new(
            setups.collect(),
            flash::Policy {
                max_request_len: 4200,
                ..flash::Policy::default()
            },
            &uds::client::Config {
                pending_time: PENDING,
                ..uds::client::Config::default()
            },
            self.seed,
        );
        self.tcu = Some(Transaction::new(engine, jobs, journal));
        self.reports_due = true;
    }

    /// Kills the TCU; what it had journaled is all that is left of it.
    ///
    /// # Panics
    /// When none runs.
    pub fn kill_tcu(&mut self) -> Vec<Record> {
        self.stop_tcu().records().to_vec()
    }

    /// Ends the TCU; its journal is all that is left of it.
    pub(super) fn stop_tcu(&mut self) -> Ledger {
        for ecu in &mut self.ecus {
            ecu.tester.reset();
        }
        for bus in &mut self.buses {
            bus.waiting.clear();
        }
        let tcu = self.tcu.take().expect("a TCU");
        tcu.into_journal()
    }

    /// Runs the TCU to its end.
    ///
    /// # Panics
    /// When it does not end within an hour of virtual time.
    pub fn run_campaign(&mut self) -> CampaignState {
        self.run_until("the campaign ends", Self::tcu_is_finished);
        let tcu = self.tcu.as_ref().expect("a TCU");
        assert!(tcu.error().is_none());
        tcu.finished().expect("an end")
    }

    /// Whether the running TCU has nothing left to do.
    #[must_use]
    pub fn tcu_is_finished(&self) -> bool {
        self.tcu.as_ref().is_none_or(Vehicle::is_finished)
    }

    /// How many records the running TCU has journaled.
    #[must_use]
    pub fn journaled(&self) -> usize {
        self.tcu
            .as_ref()
            .map_or(0, |tcu| tcu.journal().records().len())
    }

    /// The TCU's events so far.
    #[must_use]
    pub fn events(&self) -> &[TcuEvent] {
        &self.events
    }

    /// Power fails inside the `operation`-th flash operation of an ECU from now on, and returns.
    pub fn cut_power(&mut self, ecu: usize, operation: u64, seed: u64) {
        self.ecus[ecu].machine.chip().with(|nor| {
            let at = nor.operations() + operation;
            let when = nor::When::Inside {
                tear: nor::Tear::Seeded(seed),
                marginal: nor::Marginal::Half,
            };
            nor.arm(nor::Cut {
                operation: at,
                when,
            });
        });
    }

    /// An ECU misbehaves from now on.
    pub fn misbehave(&mut self, ecu: usize, kind: Misbehaviour) {
        let rng = StdRng::seed_from_u64(self.seed);
        self.ecus[ecu].hostile = Some(Hostile::new(kind, rng, self.now));
    }

    /// A misbehaving ECU does its work again.
    pub fn behave(&mut self, ecu: usize) {
        self.ecus[ecu].hostile = None;
    }

    /// Frames that a misbehaving ECU has said.
    #[must_use]
    pub fn said(&self, ecu: usize) -> u64 {
        self.ecus[ecu]
            .hostile
            .as_ref()
            .map_or(0, |hostile| hostile.said)
    }

    /// What every ECU runs. Lets each send another heartbeat first.
    #[must_use]
    pub fn states(&mut self) -> Vec<EcuState> {
        for ecu in &mut self.ecus {
            ecu.version = None;
        }
        // A bootloader that stays for a tester after crashes resets when nobody has come for 5 s.
        let deadline = self.now + Duration::from_secs(15);
        self.run_until("heartbeats", |world| {
            world.now >= deadline || world.ecus.iter().all(|ecu| ecu.version.is_some())
        });
        self.ecus
            .iter()
            .map(|ecu| EcuState {
                version: ecu.version.clone(),
                boots: ecu.machine.boots(),
                cuts: ecu.cuts,
            })
            .collect()
    }

    /// The versions of [`World::states`].
    #[must_use]
    pub fn versions(&mut self) -> Vec<Option<String>> {
        self.states()
            .into_iter()
            .map(|state| state.version)
            .collect()
    }

    /// Waits until every bus works and every ECU has power and does not crash. An interruption that
    /// has not happened by now does not happen any more.
    pub fn let_return(&mut self) {
        self.spare();
        self.run_until("everything is back", |world| {
            let now = world.now;
            let works = |until: Option<Instant>| until.is_none_or(|at| now >= at);
            world.buses.iter().all(|side| works(side.off_until))
                && world
                    .ecus
                    .iter()
                    .all(|ecu| ecu.power_returns.is_none() && ecu.crashes == 0)
        });
    }

    /// How many ECUs it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ecus.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ecus.is_empty()
    }

    /// What the TCU's journal has confirmed.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let running = self.tcu.as_ref().map(Transaction::journal);
        let ledger = running.or(self.ledger.as_ref());
        ledger.map_or(Vec::new(), |ledger| ledger.records().to_vec())
    }

    /// Why jobs failed, as the journal has it.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let failure = |record| match record {
            Record::End {
                ecu,
                job,
                result: Err(failure),
                ..
            } => Some(format!("ECU {ecu}, {job:?}: {failure}")),
            _ => None,
        };
        self.records().into_iter().filter_map(failure).collect()
    }

    /// What an ECU's journal holds, while its bootloader has read it.
    #[must_use]
    pub fn ecu_state(&self, ecu: usize) -> Option<State> {
        self.ecus[ecu].machine.bootloader()?.state().copied()
    }

    /// Operations of an ECU's flash.
    #[must_use]
    pub fn flash_operations(&self, ecu: usize) -> u64 {
        self.ecus[ecu].machine.chip().with(|nor| nor.operations())
    }

    /// How often an ECU broke the rules of its flash.
    #[must_use]
    pub fn flash_violations(&self, ecu: usize) -> u64 {
        self.ecus[ecu].machine.chip().with(|nor| nor.violations())
    }

    /// Bytes of the image that went to an ECU again.
    #[must_use]
    pub fn resent(&self, ecu: usize) -> usize {
        self.ecus[ecu].traffic.resent()
    }

    /// Frames that were over since the campaign began.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Operations of the disk below the journal.
    #[must_use]
    pub fn disk_operations(&self) -> u64 {
        let running = self.tcu.as_ref().map(Transaction::journal);
        let disk = running.or(self.ledger.as_ref()).and_then(Ledger::disk);
        disk.map_or(0, crate::disk::Disk::operations)
    }

    /// Virtual time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_since(Instant::ZERO)
    }

    /// Goes from event to event until `done`.
    ///
    /// # Panics
    /// When nothing happens any more, or an hour has passed.
    pub fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let limit = self.now + LIMIT;
        self.settle();
        while !done(self) {
            let next = self
                .next_event()
                .unwrap_or_else(|| panic!("{what}: nothing happens"));
            assert!(next < limit, "{what}: not within {LIMIT:?}");
            // A machine may be due at once and yet wait for the bus: time goes on all the same.
            self.now = next.max(self.now + TICK);
            self.advance();
            self.settle();
        }
    }
}

/// A campaign for one vehicle.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// What the TCU is told.
    pub plan: Plan,
    targets: Vec<flash::Target>,
    /// Further grants of the same images for each ECU, hexadecimal, the next one last.
    pub(super) spare_grants: Vec<Vec<String>>,
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    let byte = |digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    digits.filter_map(byte).collect()
}

/// A release that works, of so many bytes.
#[must_use]
pub fn good_of(oem: &mut Oem, version: (u16, u16, u32), counter: u32, size: usize) -> Release {
    oem.release(version, counter, Behaviour::Good, size)
}

/// A release that works, of 9 pages.
#[must_use]
pub fn good(oem: &mut Oem, version: (u16, u16, u32), counter: u32) -> Release {
    good_of(oem, version, counter, 36_000)
}

//! The event queue, and what carries frames and PDUs between the machines.

use std::collections::VecDeque;

use ecu_image::provision::EcuProvisioning;
use rand::SeedableRng;
use rand::rngs::StdRng;
use simbus::{Bus, BusConfig, NodeId};
use tcu::engine::{CampaignState, Engine, Plan, PlannedEcu, Policy, Record, Running};
use tcu::flash;
use tcu::vehicle::{Address, EcuSetup, Event as TcuEvent, Jobs, Transaction, Vehicle};
use uds::can::Frame;
use uds::client::TransportFault;
use uds::isotp::{Config as IsoTpConfig, Direction, Endpoint, Event as IsoTpEvent};
use uds::time::{Duration, Instant, earliest};
use virtual_ecu::app::{Behaviour, heartbeat_version};
use virtual_ecu::chip::{Chip, Otp};
use virtual_ecu::event::Event as EcuEvent;
use virtual_ecu::hardware::Hardware;
use virtual_ecu::machine::{Machine, Options};
use virtual_ecu::provision::provision;
use virtual_ecu::scripted::Scripts;

use super::misbehaviour::{Hostile, Misbehaviour};
use super::oem::{Oem, Release};

/// How long a vehicle may take for anything before the test fails.
const LIMIT: Duration = Duration::from_secs(3600);
/// The least time between two events; far below the shortest frame.
const TICK: Duration = Duration::from_micros(20);
/// How long one request may be answered with 0x78. Ten minutes by default, which a flooded bus
/// makes long to simulate.
const PENDING: Duration = Duration::from_secs(10);
/// N_As: how long the TCU's controller may take no frame.
const N_AS: Duration = Duration::from_secs(1);
/// How long an ECU without power stays so.
const POWER_RETURNS_AFTER: Duration = Duration::from_millis(300);

/// What an ECU runs, as its heartbeat says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcuState {
    /// The version in the last heartbeat.
    pub version: Option<String>,
    /// Program starts since the first power-on.
    pub boots: u64,
    /// Power cuts inside flash operations.
    pub cuts: u64,
}

struct Ecu {
    hostile: Option<Hostile>,
    machine: Machine<Scripts>,
    provisioning: EcuProvisioning,
    bus: usize,
    node: NodeId,
    /// The TCU's end of the connection to it.
    tester: Endpoint<Vec<u8>, Vec<u8>>,
    version: Option<String>,
    cuts: u64,
    power_returns: Option<Instant>,
}

struct BusSide {
    bus: Bus,
    tester: NodeId,
    /// Frames of the TCU that wait for a place in its controller's queue.
    waiting: VecDeque<Frame>,
    /// Since when a frame waits and none of the TCU's left the controller.
    stuck: Option<Instant>,
}

/// A vehicle: ECUs on two buses, and a TCU while one runs.
pub struct World {
    now: Instant,
    buses: Vec<BusSide>,
    ecus: Vec<Ecu>,
    tcu: Option<Transaction<Vec<Record>>>,
    events: Vec<TcuEvent>,
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
        let mut world = Self {
            now: Instant::ZERO,
            buses: vec![
                BusSide::new(BusConfig::classical(500_000)),
                BusSide::new(BusConfig::fd(500_000, 2_000_000)),
            ],
            ecus: Vec::new(),
            tcu: None,
            events: Vec::new(),
            seed,
        };
        for index in 0..classical + fd {
            world.add_ecu(oem, factory, index, usize::from(index >= classical));
        }
        world.run_until("every ECU runs", |world| {
            world.ecus.iter().all(|ecu| ecu.version.is_some())
        });
        world
    }

    fn add_ecu(&mut self, oem: &mut Oem, factory: &Release, index: u16, bus: usize) {
        let fd = bus == 1;
        let provisioning = oem.provisioning(index, if fd { "fd" } else { "classical" }, fd);
        let mut hardware = Hardware::new(provisioning.clone());
        hardware.allow_rsa_2048 = true;
        let chip = Chip::new(nor::Nor::in_memory(hardware.geometry()));
        let grant = oem.grant(factory, &provisioning);
        provision(&hardware, &chip, &factory.image, &grant).expect("a provisioned ECU");
        let connection = hardware.connection();
        let mut tester = IsoTpConfig {
            tx_id: connection.rx_id,
            rx_id: connection.tx_id,
            ..connection
        };
        tester.functional_id = connection.functional_id;
        let mut machine = Machine::new(
            hardware,
            chip,
            Otp::in_memory(),
            Scripts,
            Options::default(),
        )
        .expect("a flash map");
        machine.power_on(self.now);
        let node = self.buses[bus].bus.attach();
        self.ecus.push(Ecu {
            hostile: None,
            machine,
            provisioning,
            bus,
            node,
            tester: Endpoint::new(tester, vec![0; 4096], vec![0; 4200]),
            version: None,
            cuts: 0,
            power_returns: None,
        });
    }

    /// The campaign of one release for all ECUs, except those that get another one.
    pub fn plan(&self, oem: &mut Oem, release: &Release, other: &[(usize, Release)]) -> Campaign {
        let mut campaign = Campaign {
            plan: Plan {
                campaign: "virtual".into(),
                ecus: Vec::new(),
            },
            targets: Vec::new(),
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
                after: Vec::new(),
                key_set: None,
                grant: target
                    .grant
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
                from: Running {
                    version: "1.0.0".into(),
                    image: ecu_image::ImageDigest::ZERO,
                },
                to_version: release.version.clone(),
                unchanged: false,
            });
            campaign.targets.push(target);
        }
        campaign
    }

    /// Starts a TCU at the end of `journal`.
    pub fn start_tcu(&mut self, campaign: &Campaign, journal: Vec<Record>) {
        let setups = self
            .ecus
            .iter()
            .zip(&campaign.targets)
            .map(|(ecu, target)| EcuSetup {
                bus: ecu.bus,
                access_key: ecu.provisioning.access_key.clone(),
                target: Some(target.clone()),
            });
        self.seed += 1;
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
        let engine = Engine::new(
            campaign.plan.clone(),
            Policy::default(),
            &journal,
            self.seed,
        );
        self.tcu = Some(Transaction::new(engine, jobs, journal));
        self.settle();
    }

    /// Kills the TCU; what it had journaled is all that is left of it.
    ///
    /// # Panics
    /// When none runs.
    pub fn kill_tcu(&mut self) -> Vec<Record> {
        for ecu in &mut self.ecus {
            ecu.tester.reset();
        }
        for bus in &mut self.buses {
            bus.waiting.clear();
        }
        self.tcu.take().expect("a TCU").into_journal()
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
        self.tcu.as_ref().map_or(0, |tcu| tcu.journal().len())
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
        let deadline = self.now + Duration::from_secs(5);
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

    fn next_event(&self) -> Option<Instant> {
        let buses = self
            .buses
            .iter()
            .map(|side| earliest(side.bus.poll_timeout(), side.stuck_until()));
        let ecus = self.ecus.iter().map(|ecu| {
            let side = &self.buses[ecu.bus];
            // What is due and has no place in a queue waits for the bus.
            let of = |node: NodeId, at: Option<Instant>| {
                at.filter(|at| *at > self.now || side.bus.free_slots(node) > 0)
            };
            let again = ecu.hostile.as_ref().and_then(Hostile::poll_timeout);
            let own = earliest(ecu.machine.poll_timeout(), again);
            let tester = of(side.tester, ecu.tester.poll_timeout());
            earliest(earliest(of(ecu.node, own), tester), ecu.power_returns)
        });
        let tcu = self.tcu.as_ref().and_then(|tcu| tcu.poll_timeout());
        buses.chain(ecus).fold(tcu, earliest)
    }

    /// Delivers the frames that are over, then fires what is due.
    fn advance(&mut self) {
        let now = self.now;
        for index in 0..self.buses.len() {
            while let Some(delivery) = self.buses[index].bus.poll(now) {
                let side = &mut self.buses[index];
                if delivery.from == side.tester {
                    side.stuck = None;
                }
                if delivery.outcome == simbus::Outcome::Received {
                    self.deliver(index, delivery.from, &delivery.frame);
                }
            }
        }
        for index in 0..self.buses.len() {
            if self.buses[index].stuck_until().is_some_and(|at| now >= at) {
                self.give_up(index);
            }
        }
        for ecu in &mut self.ecus {
            if ecu.power_returns.is_some_and(|at| now >= at) {
                ecu.power_returns = None;
                ecu.machine.power_on(now);
            }
            if ecu.machine.poll_timeout().is_some_and(|at| now >= at) {
                ecu.machine.handle_timeout(now);
            }
            if ecu.tester.poll_timeout().is_some_and(|at| now >= at) {
                ecu.tester.handle_timeout(now);
            }
        }
        if let Some(tcu) = &mut self.tcu
            && tcu.poll_timeout().is_some_and(|at| now >= at)
        {
            tcu.handle_timeout(now);
        }
    }

    /// The TCU's controller took no frame for N_As: what was to be sent on this bus fails.
    fn give_up(&mut self, bus: usize) {
        self.buses[bus].stuck = None;
        self.buses[bus].waiting.clear();
        for (index, ecu) in self.ecus.iter_mut().enumerate() {
            if ecu.bus == bus {
                ecu.tester.on_blocked();
                report(&mut ecu.tester, self.tcu.as_mut(), self.now, index);
            }
        }
    }

    fn deliver(&mut self, bus: usize, from: NodeId, frame: &Frame) {
        for (index, ecu) in self
            .ecus
            .iter_mut()
            .enumerate()
            .filter(|(_, ecu)| ecu.bus == bus)
        {
            if ecu.node != from {
                match &mut ecu.hostile {
                    Some(hostile) => hostile.handle_frame(self.now, frame, ecu.tester.config()),
                    None => ecu.machine.handle_frame(self.now, frame),
                }
            }
            if self.buses[bus].tester != from {
                ecu.tester.handle_frame(self.now, frame);
                report(&mut ecu.tester, self.tcu.as_mut(), self.now, index);
            }
            let heartbeat = ecu.provisioning.heartbeat_id.raw();
            if ecu.node == from && frame.id().raw() == heartbeat {
                ecu.version = heartbeat_version(frame.data());
            }
        }
    }

    /// Carries PDUs and frames until nothing moves at this instant.
    fn settle(&mut self) {
        let mut moved = true;
        while moved {
            moved = self.carry_pdus();
            moved |= self.carry_frames();
            self.note_ecu_events();
        }
    }

    fn carry_pdus(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for index in 0..self.ecus.len() {
            report(&mut self.ecus[index].tester, self.tcu.as_mut(), now, index);
        }
        let Some(tcu) = &mut self.tcu else {
            return false;
        };
        while let Some(transmit) = tcu.poll_transmit(now) {
            moved = true;
            let sent = match transmit.to {
                Address::Ecu(index) => self.ecus[index].tester.send(now, &transmit.pdu),
                Address::Bus(bus) => {
                    let ecu = self.ecus.iter_mut().find(|ecu| ecu.bus == bus);
                    let sent = ecu.map(|ecu| ecu.tester.send_functional(now, &transmit.pdu));
                    tcu.handle_sent(now, transmit.to);
                    sent.unwrap_or(Ok(()))
                }
            };
            if sent.is_err() {
                tcu.handle_fault(now, transmit.to, TransportFault::Send);
            }
        }
        while let Some(event) = tcu.poll_event() {
            self.events.push(event);
        }
        moved
    }

    fn carry_frames(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for ecu in &mut self.ecus {
            let side = &mut self.buses[ecu.bus];
            while side.bus.free_slots(ecu.node) > 0
                && let Some(frame) = ecu.poll_transmit(now)
            {
                side.bus
                    .enqueue(ecu.node, frame, now)
                    .expect("a place for the frame");
                moved = true;
            }
            while side.waiting.len() + side.bus.config().queue - side.bus.free_slots(side.tester)
                < side.bus.config().queue
                && let Some(frame) = ecu.tester.poll_transmit(now)
            {
                side.waiting.push_back(frame);
                moved = true;
            }
            while side.bus.free_slots(side.tester) > 0
                && let Some(frame) = side.waiting.pop_front()
            {
                side.bus
                    .enqueue(side.tester, frame, now)
                    .expect("a place for the frame");
                side.stuck = None;
                moved = true;
            }
            if !side.waiting.is_empty() || side.bus.free_slots(side.tester) == 0 {
                side.stuck.get_or_insert(now);
            }
        }
        moved
    }

    fn note_ecu_events(&mut self) {
        let now = self.now;
        for ecu in &mut self.ecus {
            while let Some(event) = ecu.machine.poll_event() {
                if let EcuEvent::PowerCut { .. } = event {
                    ecu.cuts += 1;
                    ecu.power_returns = Some(now + POWER_RETURNS_AFTER);
                }
            }
        }
    }
}

impl Ecu {
    fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        let frame = self.machine.poll_transmit(now);
        match &mut self.hostile {
            // What the ECU itself would say is lost.
            Some(hostile) => hostile.poll_transmit(now, self.tester.config()),
            None => frame,
        }
    }
}

/// Tells the TCU what became of its end of a connection.
fn report(
    tester: &mut Endpoint<Vec<u8>, Vec<u8>>,
    tcu: Option<&mut Transaction<Vec<Record>>>,
    now: Instant,
    index: usize,
) {
    let Some(tcu) = tcu else {
        while tester.poll_event().is_some() {}
        return;
    };
    while let Some(event) = tester.poll_event() {
        match event {
            IsoTpEvent::Started { .. } => tcu.handle_receive_started(now, index),
            IsoTpEvent::Received { .. } => tcu.handle_pdu(now, index, tester.received()),
            IsoTpEvent::Sent { functional: false } => tcu.handle_sent(now, Address::Ecu(index)),
            IsoTpEvent::Sent { functional: true } => {}
            IsoTpEvent::Failed(error) => {
                let fault = match error.direction() {
                    Direction::Send => TransportFault::Send,
                    Direction::Receive => TransportFault::Receive,
                };
                tcu.handle_fault(now, Address::Ecu(index), fault);
            }
        }
    }
}

impl BusSide {
    fn new(config: BusConfig) -> Self {
        let mut bus = Bus::new(config);
        let tester = bus.attach();
        Self {
            bus,
            tester,
            waiting: VecDeque::new(),
            stuck: None,
        }
    }

    fn stuck_until(&self) -> Option<Instant> {
        self.stuck.map(|since| since + N_AS)
    }
}

/// A campaign for one vehicle.
#[derive(Debug, Clone)]
pub struct Campaign {
    plan: Plan,
    targets: Vec<flash::Target>,
}

/// A release that works, of 9 pages.
#[must_use]
pub fn good(oem: &mut Oem, version: (u16, u16, u32), counter: u32) -> Release {
    oem.release(version, counter, Behaviour::Good, 36_000)
}

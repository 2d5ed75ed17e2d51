//! An ECU on a virtual clock: the machine, a modelled flash, and a tester at the other end of the
//! CAN frames. Nothing sleeps; time goes on when nothing else can happen.

mod tester;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ecu_bootloader::boot::{BootReason, ResetCause};
use ecu_bootloader::counter::{CounterError, MonotonicCounter};
use ecu_bootloader::flash::{FlashError, FlashOp, FlashRead};
use ecu_bootloader::keys::SoftKeyStore;
use ecu_bootloader::layout::{KeySetArea, Layout, Region, SlotId};
use ecu_bootloader::mailbox::Handover;
use ecu_bootloader::platform::{Board, COUNTER_JUMP, Parts};
use ecu_bootloader::provision::{self, provision};
use ecu_bootloader::state::{SlotState, State};
use ecu_bootloader::{BootTarget, Bootloader, Event, access};
use ecu_image::signature::SoftwareVerifier;
use ecu_image::{LogicalBlock, SecurityCounter};
use nor::{Geometry, Nor};
use uds::can::{CanId, Frame};
use uds::isotp::{self, Endpoint};
use uds::service::SecurityLevel;
use uds::time::{Instant, earliest};

use crate::images::{self, Image};
use crate::verifier::Remembering;
use crate::work::{self, Counted};

/// The flash, shared by the machine that reads it and the bench that performs operations.
#[derive(Clone)]
pub struct SharedNor(pub Rc<RefCell<Nor>>);

impl FlashRead for SharedNor {
    fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), FlashError> {
        self.0
            .borrow()
            .read(address, buffer)
            .map_err(|_| FlashError)
    }
}

/// The counter behind the floor: what a real one keeps over a reset.
#[derive(Debug, Clone, Default)]
pub struct SharedCounter {
    count: Rc<Cell<u32>>,
    fails: Rc<Cell<bool>>,
}

impl SharedCounter {
    fn at(count: u32) -> Self {
        Self {
            count: Rc::new(Cell::new(count)),
            ..Self::default()
        }
    }

    /// What it counts now.
    pub fn get(&self) -> u32 {
        self.count.get()
    }

    /// From now on it cannot be read, or can again.
    pub fn fail(&self, fails: bool) {
        self.fails.set(fails);
    }
}

impl MonotonicCounter for SharedCounter {
    fn read(&mut self) -> SecurityCounter {
        match self.fails.get() {
            true => SecurityCounter(u32::MAX),
            false => SecurityCounter(self.get()),
        }
    }

    fn raise_to(&mut self, to: SecurityCounter) -> Result<(), CounterError> {
        self.count.set(self.get().max(to.0));
        Ok(())
    }
}

/// An operation that changes what lasts over a reset.
#[derive(Debug, Clone)]
pub enum Change {
    /// Erase of a sector.
    Erase { address: u32 },
    /// Program.
    Program { address: u32, bytes: Vec<u8> },
    /// The counter rises.
    Counter { to: u32 },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Erase { address } => write!(f, "erase {address:#x}"),
            Self::Program { address, bytes } => {
                write!(f, "program {} bytes at {address:#x}", bytes.len())
            }
            Self::Counter { to } => write!(f, "counter to {to}"),
        }
    }
}

/// An operation that is about to happen, and everything that lasts before it.
#[derive(Debug)]
pub struct Recorded {
    /// What happens.
    pub change: Change,
    /// The flash before.
    pub nor: Nor,
    /// The counter before.
    pub counter: u32,
    /// The state that the machine goes by.
    pub state: Option<State>,
    /// Whether the ECU has acted since power-on, other than by writing its journal.
    pub observed: bool,
    /// Whether the journal is written.
    pub journal: bool,
}

type Seeds = fn(&mut [u8]);
type Signatures = Remembering<Counted<SoftwareVerifier<Vec<Vec<u8>>>>>;
type Board1 = Parts<SharedNor, Counted<SoftKeyStore>, SharedCounter, Signatures, Seeds>;
pub type Machine = Bootloader<Board1>;

/// Power failed at the armed operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerLost;

/// A response, or `None` where none came.
pub type Response = Result<Option<Vec<u8>>, PowerLost>;

/// What an ECU under test is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    pub geometry: Geometry,
    pub layout: Layout,
}

impl Setup {
    pub fn new(two_update_slots: bool) -> Self {
        Self::with(Geometry::uniform_4k(1 << 20), 4096, 4, two_update_slots)
    }

    pub fn with(geometry: Geometry, sector: u32, word: u32, two_update_slots: bool) -> Self {
        let layout = Layout::uniform(0, sector, word, 1, 64 * 1024, two_update_slots).unwrap();
        Self { geometry, layout }
    }
}

pub struct Bench {
    pub nor: Rc<RefCell<Nor>>,
    pub ecu: Machine,
    pub now: Instant,
    pub booted: Option<BootTarget>,
    pub reset: Option<Option<Handover>>,
    pub pending_seen: usize,
    pub counter: SharedCounter,
    /// Operations, where they are recorded.
    pub record: Option<Vec<Recorded>>,
    /// The state that the journal held at the last start.
    pub found: Option<State>,
    /// How often power has failed, as far as a proof knows.
    pub cuts: u32,
    observed: bool,
    remembers: bool,
    /// Makes frames of others, eight whenever anything happens.
    pub flood: Option<Box<dyn FnMut() -> Frame>>,
    /// How many frames the flood has had.
    pub flooded: usize,
    tester: Endpoint<Vec<u8>, Vec<u8>>,
    busy_until: Option<(Instant, Result<(), FlashError>)>,
    power_lost: bool,
    board: Board,
}

fn ids() -> (CanId, CanId, CanId) {
    let id = |raw| CanId::standard(raw).unwrap();
    (id(0x7E0), id(0x7E8), id(0x7DF))
}

pub fn board(layout: Layout) -> Board {
    let (request, response, functional) = ids();
    let mut connection = isotp::Config::fd(response, request);
    connection.functional_id = Some(functional);
    Board {
        layout,
        hardware_id: images::HARDWARE.parse().unwrap(),
        serial: images::SERIAL.parse().unwrap(),
        vin: *b"WVWZZZ1JZXW000001",
        supplier: "canopus",
        boot_software: "boot 0.1.0",
        logical_block: LogicalBlock::APPLICATION,
        max_block_length: 4095,
        allow_rsa_2048: true,
        max_counter_jump: COUNTER_JUMP,
        connection,
    }
}

pub fn keys() -> SoftKeyStore {
    SoftKeyStore::new(
        images::wrap_key(),
        images::grant_key(),
        images::journal_key(),
        images::access_key(),
    )
}

fn seeds(seed: &mut [u8]) {
    seed.fill(0xA5);
}

fn machine(
    board: Board,
    nor: &Rc<RefCell<Nor>>,
    counter: &SharedCounter,
    remembers: bool,
) -> Machine {
    let signatures = SoftwareVerifier::new(images::roots());
    Bootloader::new(Parts {
        board,
        flash: SharedNor(Rc::clone(nor)),
        keys: Counted(keys()),
        counter: counter.clone(),
        signatures: Remembering::new(Counted(signatures), remembers),
        random: seeds as Seeds,
    })
}

fn tester() -> Endpoint<Vec<u8>, Vec<u8>> {
    let (request, response, functional) = ids();
    let mut config = isotp::Config::fd(request, response);
    config.functional_id = Some(functional);
    Endpoint::new(config, vec![0; 4095], vec![0; 4095])
}

/// Performs an operation on the modelled flash; how long it takes.
pub fn perform(nor: &mut Nor, op: FlashOp<'_>) -> Result<Duration, nor::FlashError> {
    match op {
        FlashOp::Erase { address, len } => {
            let sector = nor.geometry().sector_of(address).unwrap().size;
            assert_eq!(sector, len, "one sector an operation");
            nor.erase(address)
        }
        FlashOp::Program { address, bytes } => nor.program(address, bytes),
    }
}

fn change_of(op: &FlashOp<'_>) -> Change {
    match *op {
        FlashOp::Erase { address, .. } => Change::Erase { address },
        FlashOp::Program { address, bytes } => Change::Program {
            address,
            bytes: bytes.to_vec(),
        },
    }
}

fn is_journal(layout: &Layout, op: &FlashOp<'_>) -> bool {
    let (FlashOp::Erase { address, .. } | FlashOp::Program { address, .. }) = *op;
    let within = |region: ecu_bootloader::layout::Region| {
        address >= region.address && address - region.address < region.len
    };
    layout.journal().into_iter().any(within)
}

/// A machine in service changes nothing but its journal and the slot that receives under an accepted
/// grant; never what is confirmed.
fn check_place(layout: &Layout, state: Option<&State>, op: &FlashOp<'_>) {
    let (FlashOp::Erase { address, .. } | FlashOp::Program { address, .. }) = *op;
    let inside = |region: Region| (region.address..region.address + region.len).contains(&address);
    if layout.journal().into_iter().any(inside) {
        return;
    }
    for area in [KeySetArea::First, KeySetArea::Second] {
        if inside(layout.key_set(area)) {
            let used = state.and_then(|state| state.key_set).expect("a key set");
            assert_ne!(used.area, area, "{op:?} of the key set in use");
            return;
        }
    }
    let slot = [SlotId::Factory, SlotId::A, SlotId::B]
        .into_iter()
        .find(|id| {
            let slot = layout.slot(*id);
            slot.is_some_and(|slot| inside(slot.metadata) || inside(slot.payload))
        });
    let (slot, state) = (slot.expect("in a slot"), state.expect("provisioned"));
    assert_ne!(slot, state.confirmed, "{op:?} of the confirmed slot");
    assert_eq!(
        state.slot(slot).state,
        SlotState::Receiving,
        "{op:?} without a grant"
    );
}

/// What a factory writes: this image, and the first key set.
pub fn parts(factory: &Image, floor: u32) -> provision::Parts<'_> {
    provision::Parts {
        image: &factory.packed,
        grant: &factory.grant,
        key_set: images::first_key_set(),
        floor: SecurityCounter(floor),
        page_buffer: 4096,
    }
}

impl Bench {
    /// A provisioned ECU that was just switched on and has run to its first event.
    pub fn new(setup: &Setup, factory: &Image, floor: u32) -> Self {
        let mut nor = Nor::in_memory(setup.geometry.clone());
        let board = board(setup.layout);
        provision(
            &board,
            &mut keys(),
            &parts(factory, floor),
            &mut [0; 4096],
            |op| perform(&mut nor, op).map(drop).map_err(|_| FlashError),
        )
        .unwrap();
        let mut bench = Self::on(board, nor);
        bench.start(ResetCause::PowerOn, None).unwrap();
        bench
    }

    /// An ECU with this flash, not started.
    pub fn on(board: Board, nor: Nor) -> Self {
        Self::with(board, nor, 0, false)
    }

    /// An ECU with this flash and counter, not started; its verifier remembers.
    pub fn resumed(board: Board, nor: Nor, counter: u32) -> Self {
        Self::with(board, nor, counter, true)
    }

    fn with(board: Board, nor: Nor, counter: u32, remembers: bool) -> Self {
        let nor = Rc::new(RefCell::new(nor));
        let counter = SharedCounter::at(counter);
        Self {
            ecu: machine(board, &nor, &counter, remembers),
            nor,
            counter,
            record: None,
            found: None,
            cuts: 0,
            observed: false,
            remembers,
            now: Instant::from_millis(1),
            booted: None,
            reset: None,
            pending_seen: 0,
            flood: None,
            flooded: 0,
            tester: tester(),
            busy_until: None,
            power_lost: false,
            board,
        }
    }

    /// Provisions the ECU anew, as a factory does.
    pub fn provision(&mut self, factory: &Image, floor: u32) {
        let (nor, record) = (&self.nor, &mut self.record);
        let (counter, layout) = (self.counter.get(), self.board.layout);
        provision(
            &self.board,
            &mut keys(),
            &parts(factory, floor),
            &mut [0; 4096],
            |op| {
                if let Some(record) = record {
                    record.push(Recorded {
                        change: change_of(&op),
                        nor: nor.borrow().fork().unwrap(),
                        counter,
                        state: None,
                        observed: true,
                        journal: is_journal(&layout, &op),
                    });
                }
                let done = perform(&mut nor.borrow_mut(), op).map(drop);
                nor.borrow_mut().complete();
                done.map_err(|_| FlashError)
            },
        )
        .unwrap();
    }

    /// The flash map.
    pub fn layout(&self) -> Layout {
        self.board.layout
    }

    /// Resets and runs until something boots, or the bootloader serves.
    pub fn start(
        &mut self,
        cause: ResetCause,
        handover: Option<Handover>,
    ) -> Result<(), PowerLost> {
        self.nor.borrow_mut().power_on();
        self.ecu = machine(self.board, &self.nor, &self.counter, self.remembers);
        self.found = self.ecu.state().copied();
        self.observed = false;
        self.tester = tester();
        self.booted = None;
        self.reset = None;
        self.busy_until = None;
        self.power_lost = false;
        let retained = handover.map(|handover| handover.encode());
        let retained = retained.as_ref().map_or(&[][..], |bytes| bytes);
        self.watching_counter(|bench| bench.ecu.start(bench.now, cause, retained));
        for _ in 0..100_000 {
            if !self.turn()? {
                return Ok(());
            }
        }
        panic!("the start does not end");
    }

    /// Power off and on.
    pub fn power_cycle(&mut self) -> Result<(), PowerLost> {
        self.start(ResetCause::PowerOn, None)
    }

    /// Performs the reset that the machine asked for.
    pub fn follow_reset(&mut self) -> Result<(), PowerLost> {
        let handover = self.reset.take().expect("a reset was asked for");
        self.start(ResetCause::Software, handover)
    }

    /// Lets everything that can happen now happen once; whether anything did.
    fn turn(&mut self) -> Result<bool, PowerLost> {
        let mut moved = false;
        if let Some(flood) = &mut self.flood {
            for _ in 0..8 {
                self.ecu.handle_frame(self.now, &flood());
                self.flooded += 1;
            }
        }
        while let Some(frame) = self.tester.poll_transmit(self.now) {
            self.watching_counter(|bench| bench.ecu.handle_frame(bench.now, &frame));
            moved = true;
        }
        while let Some(frame) = self.ecu.poll_transmit(self.now) {
            self.observed = true;
            self.tester.handle_frame(self.now, &frame);
            moved = true;
        }
        if self.watching_counter(|bench| bench.ecu.poll(bench.now, 1)) {
            work::note(|work| work.slices += 1);
            self.now = self.now + Duration::from_micros(300);
            moved = true;
        }
        moved |= self.turn_flash()?;
        while let Some(event) = self.ecu.poll_event() {
            moved = true;
            self.observed = true;
            match event {
                Event::Boot(target) => self.booted = Some(target),
                Event::Reset { handover } => self.reset = Some(handover),
            }
        }
        if !moved {
            // Flash in progress is something that happens; timers are the caller's.
            if let Some((until, _)) = self.busy_until {
                self.pass_to(until);
                return Ok(true);
            }
        }
        Ok(moved)
    }

    fn turn_flash(&mut self) -> Result<bool, PowerLost> {
        if let Some((until, result)) = self.busy_until {
            if until > self.now {
                return Ok(false);
            }
            self.busy_until = None;
            self.nor.borrow_mut().complete();
            self.watching_counter(|bench| bench.ecu.on_flash_done(bench.now, result));
            return Ok(true);
        }
        let state = self.ecu.state().copied();
        let Some(op) = self.ecu.poll_flash() else {
            return Ok(false);
        };
        check_place(&self.board.layout, state.as_ref(), &op);
        let journal = is_journal(&self.board.layout, &op);
        if let Some(record) = &mut self.record {
            record.push(Recorded {
                change: change_of(&op),
                nor: self.nor.borrow().fork().unwrap(),
                counter: self.counter.get(),
                state,
                observed: self.observed,
                journal,
            });
        }
        self.observed |= !journal;
        let result = perform(&mut self.nor.borrow_mut(), op);
        match result {
            Ok(time) => self.busy_until = Some((self.now + time, Ok(()))),
            Err(nor::FlashError::PowerLost) => {
                self.power_lost = true;
                return Err(PowerLost);
            }
            Err(error) => {
                let violations = self.nor.borrow().violations();
                assert_eq!(violations, 0, "the machine misuses the flash: {error}");
                self.busy_until = Some((self.now, Err(FlashError)));
            }
        }
        Ok(true)
    }

    /// Does something with the machine; where the counter rose by it, that was an operation too.
    fn watching_counter<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let (before, state) = (self.counter.get(), self.ecu.state().copied());
        let done = act(self);
        let to = self.counter.get();
        if to != before {
            // Between a durable order and the rise nothing else can have happened.
            let state = self.ecu.state().copied().or(state);
            if let Some(record) = &mut self.record {
                record.push(Recorded {
                    change: Change::Counter { to },
                    nor: self.nor.borrow().fork().unwrap(),
                    counter: before,
                    state,
                    observed: self.observed,
                    journal: false,
                });
            }
            self.observed = true;
        }
        done
    }

    fn pass_to(&mut self, at: Instant) {
        let timer = earliest(self.ecu.poll_timeout(), self.tester.poll_timeout());
        self.now = self.now.max(earliest(Some(at), timer).unwrap_or(at));
        self.watching_counter(|bench| bench.ecu.handle_timeout(bench.now));
        self.tester.handle_timeout(self.now);
    }

    /// Lets this much time pass.
    pub fn pass(&mut self, time: Duration) -> Result<(), PowerLost> {
        let end = self.now + time;
        while self.now < end {
            if !self.turn()? {
                self.pass_to(end);
            }
        }
        while self.turn()? {}
        Ok(())
    }

    /// The plaintext in a slot.
    pub fn slot_bytes(&self, slot: SlotId, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let address = self.board.layout.slot(slot).unwrap().payload.address;
        self.nor.borrow().read(address, &mut bytes).unwrap();
        bytes
    }

    pub fn slot_and_reason(&self) -> Option<(SlotId, BootReason)> {
        self.booted.map(|target| (target.slot, target.reason))
    }
}

/// The key that answers a seed at level 1.
pub fn key_of(seed: &[u8]) -> [u8; 16] {
    let message = access::message(seed.try_into().unwrap(), SecurityLevel::ONE);
    images::access_key().mac(&message)
}

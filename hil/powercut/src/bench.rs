//! An ECU on a virtual clock: the machine, a modelled flash, and a tester at the other end of the
//! CAN frames. Nothing sleeps; time goes on when nothing else can happen.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ecu_bootloader::boot::{BootReason, ResetCause};
use ecu_bootloader::counter::{CounterError, MonotonicCounter};
use ecu_bootloader::flash::{FlashError, FlashOp, FlashRead};
use ecu_bootloader::keys::SoftKeyStore;
use ecu_bootloader::layout::{KeySetArea, Layout, Region, SlotId};
use ecu_bootloader::mailbox::{Handover, Reply, Request};
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
        self.watching_counter(|bench| bench.ecu.start(bench.now, cause, handover));
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
        let handover = handover.map(|handover| Handover::parse(&handover.encode()).unwrap());
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

    /// Sends a request and waits for the final response.
    pub fn request(&mut self, pdu: &[u8]) -> Response {
        self.tester.send(self.now, pdu).unwrap();
        self.response()
    }

    /// Sends a request and waits no longer than this for its response.
    pub fn physical_within(&mut self, pdu: &[u8], time: Duration) -> Response {
        self.tester.send(self.now, pdu).unwrap();
        self.response_within(time)
    }

    /// Sends a request if the tester's transport is free; it may be what the ECU refuses to receive.
    pub fn attempt(&mut self, pdu: &[u8], functional: bool, time: Duration) -> Response {
        let sent = if functional {
            self.tester.send_functional(self.now, pdu)
        } else {
            self.tester.send(self.now, pdu)
        };
        if sent.is_err() {
            self.pass(Duration::from_millis(1500))?;
            return Ok(None);
        }
        self.response_within(time)
    }

    /// Waits for the end of what was asked before, and forgets the answers.
    pub fn quiet(&mut self) -> Result<(), PowerLost> {
        self.pass(Duration::from_secs(2))?;
        while self.tester.poll_event().is_some() {}
        Ok(())
    }

    /// Sends a request and waits only until it has arrived.
    pub fn send(&mut self, pdu: &[u8]) -> Result<(), PowerLost> {
        self.tester.send(self.now, pdu).unwrap();
        self.turn().map(drop)
    }

    /// Sends a functionally addressed request.
    pub fn functional(&mut self, pdu: &[u8]) -> Response {
        self.tester.send_functional(self.now, pdu).unwrap();
        self.response_within(Duration::from_millis(200))
    }

    /// The next final response within 6 s of the last sign of life.
    pub fn response(&mut self) -> Response {
        self.response_within(Duration::from_secs(6))
    }

    fn response_within(&mut self, time: Duration) -> Response {
        let mut until = self.now + time;
        loop {
            let moved = self.turn()?;
            while let Some(event) = self.tester.poll_event() {
                if let isotp::Event::Received { .. } = event {
                    let pdu = self.tester.received().to_vec();
                    if pdu.first() == Some(&0x7F) && pdu.get(2) == Some(&0x78) {
                        self.pending_seen += 1;
                        until = self.now + Duration::from_secs(6);
                        continue;
                    }
                    return Ok(Some(pdu));
                }
            }
            if self.now >= until {
                return Ok(None);
            }
            if !moved {
                self.pass_to(until);
            }
        }
    }

    /// Puts one frame on the bus as it is.
    pub fn raw_frame(&mut self, frame: &Frame) -> Result<(), PowerLost> {
        self.ecu.handle_frame(self.now, frame);
        self.turn().map(drop)
    }

    /// A message of the running application and the reply to it.
    pub fn mailbox(&mut self, request: Request<'_>) -> Result<Vec<u8>, PowerLost> {
        let mut message = [0; 256];
        let len = request.encode(&mut message).unwrap();
        self.ecu.mailbox_request(self.now, &message[..len]);
        for _ in 0..100_000 {
            if let Some(reply) = self.ecu.poll_mailbox() {
                return Ok(reply.to_vec());
            }
            self.turn()?;
            if self.reset.is_some() {
                return Ok(Vec::new());
            }
        }
        panic!("no reply to {request:?}");
    }

    /// A UDS request through the mailbox, in the extended session; the response.
    pub fn app(&mut self, pdu: &[u8]) -> Result<Vec<u8>, PowerLost> {
        let reply = self.mailbox(Request::Uds { session: 3, pdu })?;
        match Reply::parse(&reply) {
            Some(Reply::Uds(pdu)) => Ok(pdu.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    /// Unlocks through the mailbox.
    pub fn app_unlock(&mut self) -> Result<(), PowerLost> {
        let seed = self.app(&[0x27, 1])?;
        let key = key_of(&seed[2..]);
        assert_eq!(self.app(&[&[0x27, 2], &key[..]].concat())?, [0x67, 2]);
        Ok(())
    }

    pub fn self_test_passed(&mut self) -> Result<bool, PowerLost> {
        let reply = self.mailbox(Request::SelfTestPassed)?;
        Ok(Reply::parse(&reply) == Some(Reply::Done))
    }

    /// From the running application into the programming session.
    pub fn enter_programming(&mut self) -> Result<(), PowerLost> {
        if self.booted.is_some() {
            let (request_id, response_id, _) = ids();
            self.mailbox(Request::EnterProgramming(Handover {
                request_id,
                response_id,
            }))?;
            self.follow_reset()?;
            let response = self.response()?.unwrap();
            assert_eq!(response, [0x50, 2, 0, 50, 1, 0xF4]);
        } else {
            assert_eq!(self.request(&[0x10, 2])?.unwrap()[..2], [0x50, 2]);
        }
        Ok(())
    }

    /// Unlocks, after the delay that earlier attempts have left.
    pub fn unlock(&mut self) -> Result<(), PowerLost> {
        let mut seed = self.request(&[0x27, 1])?.unwrap();
        while seed == [0x7F, 0x27, 0x37] {
            self.pass(Duration::from_secs(4))?;
            self.request(&[0x3E, 0])?;
            seed = self.request(&[0x27, 1])?.unwrap();
        }
        assert_eq!(seed[..2], [0x67, 1], "{seed:02X?}");
        let key = key_of(&seed[2..]);
        let answer = self.request(&[&[0x27, 2], &key[..]].concat())?.unwrap();
        assert_eq!(answer, [0x67, 2]);
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

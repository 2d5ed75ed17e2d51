//! One UDS client and at most one running job per ECU.

use std::collections::VecDeque;

use ecu_image::crypto::MacKey;
use uds::client::{self, Answer, Client, Options, TransportFault};
use uds::time::{Instant, earliest};

use super::bus::Bus;
use super::{Address, Transmit};
use crate::engine::Cost;
use crate::flash::{self, Action, Failure, Flash, Job, Outcome, RequestError, Target};

/// The longest response that a job awaits.
const RESPONSE_LEN: usize = 4096;

/// An ECU as the jobs need it.
#[derive(Debug, Clone)]
pub struct EcuSetup {
    /// The index of its bus.
    pub bus: usize,
    /// The key of SecurityAccess.
    pub access_key: MacKey,
    /// What to install; inventories need none.
    pub target: Option<Target>,
}

/// What happens, for progress display and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job starts on an ECU.
    Started(usize, Job),
    /// A job comes forward.
    Job(usize, flash::Event),
    /// An ECU asks for more time; the number counts how often it has for this request.
    Pending(usize, u32),
    /// A request is sent again.
    Repeated(usize),
    /// A job has ended.
    Ended(usize, Job, Result<(), Failure>),
    /// The transaction enters a phase.
    Phase(crate::engine::Phase),
    /// What an ECU says to a question beside its jobs; nothing where it does not answer well.
    Answered(usize, Option<Vec<u8>>),
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// The ECU.
    pub ecu: usize,
    /// The job.
    pub job: Job,
    /// What it has learnt, or why it failed.
    pub result: Result<Outcome, Failure>,
    /// What it has cost.
    pub cost: Cost,
}

#[derive(Debug)]
struct Ecu {
    setup: EcuSetup,
    client: Client<Vec<u8>>,
    flash: Option<(Flash, Instant)>,
    /// When the running job wants to be asked again.
    wait: Option<Instant>,
    jobs: u64,
    /// The data identifier that it is asked for beside its jobs. One that starts meanwhile waits for the
    /// answer.
    asked: Option<u16>,
}

/// ReadDataByIdentifier.
const READ_DATA: u8 = 0x22;
/// TransferData.
const TRANSFER_DATA: u8 = 0x36;

/// How long images were on a bus, and for how long the bus is left to others for it.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    since: Option<Instant>,
    until: Option<Instant>,
}

/// Jobs on the ECUs of a vehicle.
#[derive(Debug)]
pub struct Jobs {
    ecus: Vec<Ecu>,
    buses: Vec<Bus>,
    policy: flash::Policy,
    seed: u64,
    events: VecDeque<Event>,
    ended: VecDeque<JobEnd>,
    /// Where the next search for a PDU starts, so that no ECU starves another.
    turn: usize,
    /// What staging has taken of each bus.
    paces: Vec<Pace>,
    /// Only a share of each bus may be taken: see [`flash::Policy::driving_share`].
    driving: bool,
}

impl Jobs {
    /// No job runs. `client` is the configuration of each UDS client, but for its seed.
    #[must_use]
    pub fn new(
        ecus: Vec<EcuSetup>,
        policy: flash::Policy,
        client: &client::Config,
        seed: u64,
    ) -> Self {
        let buses = ecus.iter().map(|ecu| ecu.bus + 1).max().unwrap_or(0);
        let ecus = (0..)
            .zip(ecus)
            .map(|(index, setup)| {
                let config = client::Config {
                    seed: seed ^ index,
                    ..*client
                };
                let request = vec![0; policy.max_request_len];
                Ecu {
                    client: Client::new(config, request, vec![0; RESPONSE_LEN]),
                    setup,
                    flash: None,
                    wait: None,
                    jobs: 0,
                    asked: None,
                }
            })
            .collect();
        Self {
            ecus,
            buses: std::iter::repeat_with(Bus::default).take(buses).collect(),
            policy,
            seed,
            events: VecDeque::new(),
            ended: VecDeque::new(),
            turn: 0,
            paces: vec![Pace::default(); buses],
            driving: false,
        }
    }

    /// Whether the vehicle may be driving, so that staging takes no more than its share of a bus.
    pub fn set_driving(&mut self, driving: bool) {
        self.driving = driving;
    }

    /// The share of a bus in percent that staging may take now, where it is bounded.
    fn share(&self) -> Option<u8> {
        self.policy.driving_share.filter(|_| self.driving)
    }

    /// Starts a job on an ECU that runs none.
    pub fn start(&mut self, now: Instant, index: usize, job: Job) {
        let Some(ecu) = self.ecus.get_mut(index) else {
            return;
        };
        ecu.jobs += 1;
        let seed = self.seed ^ ((index as u64) << 32) ^ ecu.jobs;
        let flash = Flash::new(
            job,
            ecu.setup.target.clone(),
            ecu.setup.access_key.clone(),
            self.policy.clone(),
            seed,
        );
        ecu.flash = Some((flash, now));
        ecu.wait = None;
        self.events.push_back(Event::Started(index, job));
    }

    /// Asks an ECU on which no job runs for a data identifier, in the session in which it is; whether it
    /// is asked. What it says comes as [`Event::Answered`].
    pub fn question(&mut self, now: Instant, index: usize, did: u16) -> bool {
        let Some(ecu) = self.ecus.get_mut(index) else {
            return false;
        };
        if ecu.flash.is_some() || ecu.asked.is_some() || !ecu.client.is_idle() {
            return false;
        }
        let [high, low] = did.to_be_bytes();
        let request = [READ_DATA, high, low];
        let sent = ecu
            .client
            .request(now, &request, Options::default())
            .is_ok();
        ecu.asked = sent.then_some(did);
        sent
    }

    /// Ends the job on an ECU at the next occasion.
    pub fn cancel(&mut self, index: usize) {
        if let Some(ecu) = self.ecus.get_mut(index) {
            ecu.wait = None;
            if let Some((flash, _)) = &mut ecu.flash {
                flash.cancel();
            }
        }
    }

    /// Stops fault memory and normal traffic on a bus; jobs on it wait until that is out.
    pub fn quiet(&mut self, now: Instant, bus: usize) {
        if let Some(bus) = self.buses.get_mut(bus) {
            bus.quiet(now);
        }
    }

    /// Resumes them.
    pub fn wake(&mut self, bus: usize) {
        if let Some(bus) = self.buses.get_mut(bus) {
            bus.wake();
        }
    }

    /// Whether [`Jobs::poll_end`] has something.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// The next job that has ended.
    pub fn poll_end(&mut self) -> Option<JobEnd> {
        self.ended.pop_front()
    }

    /// What has happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether no job runs and nothing is left to be said to the buses.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ecus.iter().all(|ecu| ecu.flash.is_none()) && self.buses.iter().all(Bus::is_settled)
    }

    /// A PDU came from an ECU.
    pub fn handle_pdu(&mut self, now: Instant, index: usize, pdu: &[u8]) {
        if let Some(ecu) = self.ecus.get_mut(index) {
            ecu.client.on_pdu(now, pdu);
        }
        self.advance(now, index);
    }

    /// The first frame of a longer PDU came from an ECU.
    pub fn handle_receive_started(&mut self, now: Instant, index: usize) {
        if let Some(ecu) = self.ecus.get_mut(index) {
            ecu.client.on_receive_started(now);
        }
    }

    /// A PDU is on the bus.
    pub fn handle_sent(&mut self, now: Instant, to: Address) {
        match to {
            Address::Ecu(index) => {
                let share = self.share();
                if let Some(ecu) = self.ecus.get_mut(index) {
                    ecu.client.on_sent(now);
                    if let Some(pace) = self.paces.get_mut(ecu.setup.bus) {
                        pace.on_sent(now, share);
                    }
                }
                self.advance(now, index);
            }
            Address::Bus(index) => {
                if let Some(bus) = self.buses.get_mut(index) {
                    bus.on_sent(now);
                }
            }
        }
    }

    /// A PDU could not be sent or received.
    pub fn handle_fault(&mut self, now: Instant, to: Address, fault: TransportFault) {
        match to {
            Address::Ecu(index) => {
                if let Some(ecu) = self.ecus.get_mut(index) {
                    ecu.client.on_transport_error(now, fault);
                }
                self.advance(now, index);
            }
            Address::Bus(_) => self.handle_sent(now, to),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for bus in &mut self.buses {
            bus.handle_timeout(now);
        }
        for index in 0..self.ecus.len() {
            // Between jobs nothing keeps an ECU from falling back to its default session.
            let busy = |ecu: &&mut Ecu| ecu.flash.is_some() || ecu.asked.is_some();
            if let Some(ecu) = self.ecus.get_mut(index).filter(busy) {
                ecu.client.handle_timeout(now);
            }
            self.advance(now, index);
        }
    }

    /// The next PDU to send, the ECUs by turns.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        for (index, bus) in self.buses.iter_mut().enumerate() {
            if let Some(pdu) = bus.poll_transmit(now) {
                let to = Address::Bus(index);
                return Some(Transmit { to, pdu });
            }
        }
        let count = self.ecus.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            self.advance(now, index);
            let transmit = self
                .ecus
                .get_mut(index)
                .and_then(|ecu| ecu.client.poll_transmit(now));
            if let Some(transmit) = transmit {
                let pdu = transmit.pdu.to_vec();
                let bus = self.ecus.get(index).map(|ecu| ecu.setup.bus);
                if let Some(pace) = bus.and_then(|bus| self.paces.get_mut(bus)) {
                    pace.on_transmit(now, &pdu);
                }
                self.turn = index + 1;
                let to = Address::Ecu(index);
                return Some(Transmit { to, pdu });
            }
        }
        None
    }

    /// When [`Jobs::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let busy = |ecu: &&Ecu| ecu.flash.is_some() || ecu.asked.is_some();
        let running = self.ecus.iter().filter(busy);
        let ecus = running.map(|ecu| {
            let settled = self.buses.get(ecu.setup.bus).is_none_or(Bus::is_settled);
            earliest(ecu.client.poll_timeout(), ecu.wait.filter(|_| settled))
        });
        let buses = self.buses.iter().map(Bus::poll_timeout);
        ecus.chain(buses).fold(None, earliest)
    }

    /// Moves the job of an ECU as far as it goes without new input.
    fn advance(&mut self, now: Instant, index: usize) {
        let Some(ecu) = self.ecus.get_mut(index) else {
            return;
        };
        while let Some(event) = ecu.client.poll_event() {
            match event {
                client::Event::Pending { count } => {
                    self.events.push_back(Event::Pending(index, count));
                }
                client::Event::Repeated => self.events.push_back(Event::Repeated(index)),
                client::Event::Done(result) => match ecu.asked.take() {
                    Some(did) => {
                        let record = ecu.record(did, &result);
                        self.events.push_back(Event::Answered(index, record));
                    }
                    None => ecu.on_done(now, result),
                },
            }
        }
        let settled = self.buses.get(ecu.setup.bus).is_none_or(Bus::is_settled);
        let pace = self.paces.get(ecu.setup.bus);
        if let Some(until) = pace.and_then(|pace| pace.rests(now))
            && self.driving
            && ecu.is_staging()
        {
            ecu.wait = Some(ecu.wait.map_or(until, |wait| wait.max(until)));
        }
        let due = settled && ecu.wait.is_none_or(|wait| now >= wait);
        let result = due.then(|| ecu.ask(now)).flatten();
        while let Some(event) = ecu.flash.as_mut().and_then(|(flash, _)| flash.poll_event()) {
            self.events.push_back(Event::Job(index, event));
        }
        let Some(result) = result else { return };
        let Some((flash, since)) = ecu.flash.take() else {
            return;
        };
        let micros = now.saturating_since(since).as_micros();
        let cost = Cost {
            bytes: flash.bytes(),
            micros: u64::try_from(micros).unwrap_or(u64::MAX),
        };
        let job = flash.job();
        let ended = result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.events.push_back(Event::Ended(index, job, ended));
        self.ended.push_back(JobEnd {
            ecu: index,
            job,
            result,
            cost,
        });
    }
}

impl Pace {
    /// A PDU begins; those that carry no image count for nothing.
    fn on_transmit(&mut self, now: Instant, pdu: &[u8]) {
        if pdu.first() == Some(&TRANSFER_DATA) {
            self.since.get_or_insert(now);
        }
    }

    /// It is on the bus. What it took is what others have to be left for.
    fn on_sent(&mut self, now: Instant, share: Option<u8>) {
        let Some(since) = self.since.take() else {
            return;
        };
        let share = u32::from(share.unwrap_or(100).clamp(1, 100));
        let busy = now.saturating_since(since);
        self.until = Some(now + busy * (100 - share) / share);
    }

    /// Until when no image is sent.
    fn rests(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }
}

impl Ecu {
    fn is_staging(&self) -> bool {
        let flash = self.flash.as_ref();
        flash.is_some_and(|(flash, _)| flash.job() == Job::Stage && !flash.is_cancelled())
    }

    /// The client's request is over.
    fn on_done(&mut self, now: Instant, result: Result<Answer, client::Error>) {
        let Some((flash, _)) = &mut self.flash else {
            return;
        };
        let response = match result {
            Ok(Answer::Positive) => Ok(self.client.response()),
            Ok(Answer::Silence) => Err(RequestError::Timeout),
            Err(error) => Err(error.into()),
        };
        flash.on_response(now, response);
    }

    /// The record in the answer to a question.
    fn record(&self, did: u16, result: &Result<Answer, client::Error>) -> Option<Vec<u8>> {
        let [high, low] = did.to_be_bytes();
        let positive = [READ_DATA | 0x40, high, low];
        let response = matches!(result, Ok(Answer::Positive)).then(|| self.client.response())?;
        response.strip_prefix(&positive).map(<[u8]>::to_vec)
    }

    /// Asks the running job what it wants; its result where it has ended.
    fn ask(&mut self, now: Instant) -> Option<Result<Outcome, Failure>> {
        self.wait = None;
        loop {
            let (flash, _) = self.flash.as_mut().filter(|_| self.client.is_idle())?;
            match flash.poll_action(now) {
                Action::Done(result) => return Some(result.clone()),
                Action::Idle => return None,
                Action::Wait(until) => {
                    self.wait = Some(until);
                    return None;
                }
                Action::Request(pdu) => {
                    if self.client.request(now, pdu, Options::default()).is_ok() {
                        return None;
                    }
                    // Longer than the client's buffer, which is as long as the longest block.
                    flash.on_response(now, Err(RequestError::Transport));
                }
            }
        }
    }
}

impl From<client::Error> for RequestError {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Negative(nrc) => Self::Negative(nrc.0),
            client::Error::Timeout => Self::Timeout,
            client::Error::PendingLimit => Self::PendingLimit,
            client::Error::Transport(_) => Self::Transport,
            client::Error::Malformed | client::Error::ResponseTooLong => Self::Malformed,
        }
    }
}

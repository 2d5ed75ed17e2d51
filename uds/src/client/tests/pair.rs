//! A client and a server on a virtual clock, over a line that loses and delays PDUs, and keeps their
//! order.

use super::*;
use crate::server::{self, Addressing, Context, Handler, Length, Outcome, Server, ServiceEntry};
use crate::service::BlockSequenceCounter;
use crate::time::earliest;
use proptest::prelude::*;

const ALL: &[Session] = &[Session::DEFAULT, Session::EXTENDED];
const SERVICES: &[ServiceEntry] = &[
    ServiceEntry::with_sub_functions(
        ServiceId::DIAGNOSTIC_SESSION_CONTROL,
        ALL,
        &[server::SubFunctionEntry::new(3, ALL, Length::exactly(2))],
    ),
    ServiceEntry::with_sub_functions(
        ServiceId::TESTER_PRESENT,
        ALL,
        &[server::SubFunctionEntry::new(0, ALL, Length::exactly(2)).functional()],
    ),
    ServiceEntry::new(
        ServiceId::TRANSFER_DATA,
        &[Session::EXTENDED],
        Length::at_least(2),
    ),
];

/// Takes blocks as a bootloader does: the one before may repeat, some take long.
#[derive(Default)]
struct Receiver {
    blocks: Vec<u8>,
    last: Option<BlockSequenceCounter>,
    slow: Option<(Instant, u8)>,
}

impl Handler for Receiver {
    fn handle(&mut self, now: Instant, _: Context, request: &[u8], out: &mut [u8]) -> Outcome {
        match *request {
            [0x10, ..] => Outcome::Positive(0),
            [0x36, counter, ref data @ ..] => {
                let got = BlockSequenceCounter(counter);
                let due = self
                    .last
                    .map_or(BlockSequenceCounter::FIRST, |last| last.next());
                out[1] = counter;
                if Some(got) == self.last {
                    return Outcome::Positive(2);
                }
                if got != due {
                    return Outcome::Negative(Nrc::WRONG_BLOCK_SEQUENCE_COUNTER);
                }
                self.last = Some(got);
                self.blocks.extend(data);
                if counter % 16 == 5 {
                    // A little longer than the second repetition of 0x78.
                    self.slow = Some((now + Duration::from_millis(5030), counter));
                    return Outcome::Pending;
                }
                Outcome::Positive(2)
            }
            _ => Outcome::Negative(Nrc::REQUEST_OUT_OF_RANGE),
        }
    }
}

struct Line {
    random: u64,
    /// Of 100 PDUs, how many are lost.
    loss: u64,
    /// When, to whom (`None` is the client), what.
    flying: Vec<(Instant, Option<Addressing>, Vec<u8>)>,
}

impl Line {
    fn random(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    fn send(&mut self, now: Instant, to_server: Option<Addressing>, pdu: &[u8]) {
        let delay = Duration::from_millis(self.random() % 20);
        // A connection of ISO-TP delays, and never lets one PDU overtake another.
        let same = |flying: &&(Instant, Option<Addressing>, Vec<u8>)| {
            flying.1.is_some() == to_server.is_some()
        };
        let before = self.flying.iter().filter(same).map(|(at, ..)| *at).max();
        let at = before.map_or(now + delay, |before| before.max(now + delay));
        if self.random() % 100 >= self.loss {
            self.flying.push((at, to_server, pdu.to_vec()));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.flying.iter().map(|(at, ..)| *at).min()
    }

    fn arrive(&mut self, now: Instant) -> Option<(Option<Addressing>, Vec<u8>)> {
        let first = self.flying.iter().position(|(at, ..)| *at <= now)?;
        let (_, to_server, pdu) = self.flying.remove(first);
        Some((to_server, pdu))
    }
}

struct Pair {
    now: Instant,
    client: Client<[u8; 64]>,
    server: Server<[u8; 64]>,
    receiver: Receiver,
    line: Line,
}

impl Pair {
    fn new(seed: u64, loss: u64) -> Self {
        let config = server::Config::new(SERVICES);
        Self::with(seed, loss, config)
    }

    fn with(seed: u64, loss: u64, config: server::Config) -> Self {
        Self {
            now: Instant::ZERO,
            client: Client::new(
                Config {
                    seed,
                    retries: 60,
                    keep_alive: KeepAlive::Functional,
                    ..Config::default()
                },
                [0; 64],
                [0; 64],
            ),
            server: Server::new(config, [0; 64]),
            receiver: Receiver::default(),
            line: Line {
                random: seed,
                loss,
                flying: Vec::new(),
            },
        }
    }

    fn drain(&mut self) -> Option<Result<Answer, Error>> {
        while let Some(transmit) = self.client.poll_transmit(self.now) {
            let addressing = match transmit.functional {
                true => Addressing::Functional,
                false => Addressing::Physical,
            };
            self.line.send(self.now, Some(addressing), transmit.pdu);
            self.client.on_sent(self.now);
        }
        while let Some(pdu) = self.server.poll_transmit() {
            self.line.send(self.now, None, pdu);
            self.server.on_sent(self.now);
        }
        while self.server.poll_event().is_some() {}
        while let Some(event) = self.client.poll_event() {
            if let Event::Done(result) = event {
                return Some(result);
            }
        }
        None
    }

    fn step(&mut self, limit: Instant) {
        if let Some((to_server, pdu)) = self.line.arrive(self.now) {
            if let Some(addressing) = to_server {
                let receiver = &mut self.receiver;
                self.server.on_pdu(self.now, addressing, &pdu, receiver);
            } else {
                self.client.on_pdu(self.now, &pdu);
            }
            return;
        }
        if let Some((_, counter)) = self.receiver.slow.take_if(|(at, _)| *at <= self.now) {
            self.server.complete(self.now, |out| {
                out[1] = counter;
                Outcome::Positive(2)
            });
            return;
        }
        let machines = earliest(self.client.poll_timeout(), self.server.poll_timeout());
        let job = self.receiver.slow.map(|(at, _)| at);
        let next = earliest(earliest(machines, job), self.line.next());
        let next = next.map_or(limit, |next| next.min(limit));
        assert!(next >= self.now, "a deadline in the past");
        self.now = next;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }

    fn run(&mut self, pdu: &[u8]) -> Result<Answer, Error> {
        self.client
            .request(self.now, pdu, Options::default())
            .unwrap();
        let limit = self.now + Duration::from_secs(3600);
        loop {
            if let Some(result) = self.drain() {
                return result;
            }
            assert!(self.now < limit, "the request never ended");
            self.step(limit);
        }
    }

    fn idle(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            assert_eq!(self.drain(), None);
            self.step(end);
        }
    }

    fn enter(&mut self) {
        while self.run(&[0x10, 3]).is_err() {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_block_arrives_once_whatever_is_lost(seed: u64, loss in 0u64..30) {
        // A line as bad as this loses all keep-alives of 5 s now and then.
        let config = server::Config { s3: Duration::from_secs(60), ..server::Config::new(SERVICES) };
        let mut pair = Pair::with(seed, loss, config);
        pair.enter();
        let mut counter = BlockSequenceCounter::FIRST;
        let mut sent = Vec::new();
        for n in 0..40u8 {
            let result = pair.run(&[0x36, counter.0, n, n]);
            prop_assert_eq!(result, Ok(Answer::Positive), "block {}", n);
            sent.extend([n, n]);
            counter = counter.next();
        }
        prop_assert_eq!(&pair.receiver.blocks, &sent);
        prop_assert_eq!(pair.server.session(), Session::EXTENDED);
    }

    #[test]
    fn a_request_ends_even_on_a_dead_line(seed: u64, pdu in prop::collection::vec(any::<u8>(), 1..8)) {
        let mut pair = Pair::new(seed, 100);
        if ServiceId(pdu[0]).is_request() {
            let _ = pair.run(&pdu);
            prop_assert!(pair.client.is_idle());
        }
    }
}

#[test]
fn an_hour_of_silence_keeps_the_session() {
    let mut pair = Pair::new(1, 0);
    pair.enter();
    pair.idle(Duration::from_secs(3600));
    assert_eq!(pair.server.session(), Session::EXTENDED);
}

#[test]
fn without_keep_alive_the_server_leaves_and_says_so() {
    let mut pair = Pair::new(1, 0);
    pair.enter();
    pair.line.loss = 100;
    pair.idle(Duration::from_secs(6));
    pair.line.loss = 0;
    assert_eq!(pair.server.session(), Session::DEFAULT);
    let refused = Error::Negative(Nrc::SERVICE_NOT_SUPPORTED_IN_ACTIVE_SESSION);
    assert_eq!(pair.run(&[0x36, 1, 0]), Err(refused));
}

#[test]
fn the_session_outlasts_a_lost_response_that_was_announced() {
    let mut pair = Pair::new(1, 0);
    pair.enter();
    for counter in 1..5 {
        pair.run(&[0x36, counter, 0]).unwrap();
    }
    let block = [0x36, 5, 0];
    let now = pair.now;
    pair.client
        .request(now, &block, Options::default())
        .unwrap();
    // What the server says when the job ends is lost: S3 would end before P2* does.
    let mut result = None;
    while result.is_none() {
        result = pair.drain();
        let responds = pair.receiver.slow.is_some_and(|(at, _)| at <= pair.now);
        pair.step(now + Duration::from_secs(60));
        if responds {
            assert!(pair.server.poll_transmit().is_some());
            pair.server.on_sent(pair.now);
        }
    }
    assert_eq!(result, Some(Ok(Answer::Positive)));
    assert_eq!(pair.receiver.blocks, [0; 5]);
    assert!(pair.now >= now + Duration::from_secs(10));
}

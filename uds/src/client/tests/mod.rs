//! The client in every state under every event, and its rules one by one.

mod pair;

use super::*;
use std::string::{String, ToString};
use std::vec::Vec;

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

struct Bench {
    client: Client<[u8; 64]>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        Self {
            client: Client::new(config, [0; 64], [0; 64]),
            now: Instant::ZERO,
        }
    }

    /// Everything the client has to say; each PDU is sent at once.
    fn said(&mut self) -> String {
        let mut said = Vec::new();
        loop {
            if let Some(transmit) = self.client.poll_transmit(self.now) {
                let hex: Vec<_> = transmit.pdu.iter().map(|b| format!("{b:02X}")).collect();
                let to = if transmit.functional { " to all" } else { "" };
                said.push(hex.join(" ") + to);
                self.client.on_sent(self.now);
            } else if let Some(event) = self.client.poll_event() {
                said.push(match event {
                    Event::Done(Ok(Answer::Positive)) => "[positive]".to_string(),
                    Event::Done(Ok(Answer::Silence)) => "[silence]".to_string(),
                    Event::Done(Err(error)) => format!("[{error}]"),
                    Event::Pending { count } => format!("[pending {count}]"),
                    Event::Repeated => "[repeated]".to_string(),
                });
            } else {
                break said.join(", ");
            }
        }
    }

    fn request(&mut self, hex: &str) -> String {
        self.request_with(hex, Options::default())
    }

    fn request_with(&mut self, hex: &str, options: Options) -> String {
        match self.client.request(self.now, &bytes(hex), options) {
            Ok(()) => self.said(),
            Err(error) => format!("({error})"),
        }
    }

    fn receive(&mut self, hex: &str) -> String {
        self.client.on_pdu(self.now, &bytes(hex));
        self.said()
    }

    fn wait(&mut self, millis: u64) -> String {
        self.now = self.now + Duration::from_millis(millis);
        self.client.handle_timeout(self.now);
        self.said()
    }

    fn extended(&mut self) {
        self.request("10 03");
        assert_eq!(self.receive("50 03 00 32 01 F4"), "[positive]");
    }

    fn fault(&mut self, fault: TransportFault) -> String {
        self.client.on_transport_error(self.now, fault);
        self.said()
    }
}

type Preparation = (&'static str, fn(&mut Bench));

const STATES: &[Preparation] = &[
    ("idle", |_| {}),
    ("idle, extended session", Bench::extended),
    ("sending 22 F190", |bench| {
        let vin = [0x22, 0xF1, 0x90];
        let now = bench.now;
        bench.client.request(now, &vin, Options::default()).unwrap();
        assert!(bench.client.poll_transmit(now).is_some());
    }),
    ("waiting for 22 F190", |bench| {
        bench.request("22 F1 90");
    }),
    ("waiting for 31 01 FF00", |bench| {
        bench.request("31 01 FF 00");
    }),
    ("announced 31 01 FF00", |bench| {
        bench.request("31 01 FF 00");
        bench.receive("7F 31 78");
    }),
    ("waiting for 36 05", |bench| {
        bench.request("36 05 AA");
    }),
    ("waiting for 85 82", |bench| {
        bench.request("85 82");
    }),
    ("back-off of 22 F190", |bench| {
        bench.request("22 F1 90");
        bench.receive("7F 22 21");
    }),
    ("receiving 62 F190", |bench| {
        bench.request("22 F1 90");
        let now = bench.now;
        bench.client.on_receive_started(now);
    }),
    ("sending keep-alive", |bench| {
        bench.extended();
        bench.now = bench.now + Duration::from_secs(2);
        let now = bench.now;
        bench.client.handle_timeout(now);
        assert!(bench.client.poll_transmit(now).is_some());
    }),
];

type Action = (&'static str, fn(&mut Bench) -> String);

const EVENTS: &[Action] = &[
    ("request 22 F18C", |bench| bench.request("22 F1 8C")),
    ("sent", |bench| {
        let now = bench.now;
        bench.client.on_sent(now);
        bench.said()
    }),
    ("62 F190 56", |bench| bench.receive("62 F1 90 56")),
    ("71 01 FF00", |bench| bench.receive("71 01 FF 00")),
    ("76 05", |bench| bench.receive("76 05")),
    ("76 04", |bench| bench.receive("76 04")),
    ("C5 02", |bench| bench.receive("C5 02")),
    ("7F 22 31", |bench| bench.receive("7F 22 31")),
    ("7F 22 21", |bench| bench.receive("7F 22 21")),
    ("7F 31 78", |bench| bench.receive("7F 31 78")),
    ("7F 36 72", |bench| bench.receive("7F 36 72")),
    ("7F 85 22", |bench| bench.receive("7F 85 22")),
    ("7F 31", |bench| bench.receive("7F 31")),
    ("62", |bench| bench.receive("62")),
    ("empty", |bench| bench.receive("")),
    ("150 ms", |bench| bench.wait(150)),
    ("5.1 s", |bench| bench.wait(5100)),
    ("send failed", |bench| bench.fault(TransportFault::Send)),
    ("receive failed", |bench| {
        bench.fault(TransportFault::Receive)
    }),
    ("abort", |bench| {
        let now = bench.now;
        bench.client.abort(now);
        bench.said()
    }),
];

#[test]
fn every_state_under_every_event() {
    let mut table = String::new();
    for (state, prepare) in STATES {
        table += &format!("{state}\n");
        for (event, act) in EVENTS {
            let mut bench = Bench::new();
            prepare(&mut bench);
            let said = act(&mut bench);
            let next = bench.client.poll_timeout();
            let next = next.map(|at| at.saturating_since(bench.now).as_micros());
            let next = next.map_or(String::new(), |micros| format!(" | {micros} us"));
            table += &format!("  {event:16}-> {said}{next}\n");
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn timing_comes_from_the_session_response() {
    let mut bench = Bench::new();
    bench.request("10 02");
    bench.receive("50 02 01 F4 00 C8");
    let timing = (Duration::from_millis(500), Duration::from_secs(2));
    assert_eq!(bench.client.timing(), timing);
    assert_eq!(bench.client.session(), Session::PROGRAMMING);
    bench.request("31 01 FF 00");
    assert_eq!(bench.wait(599), "");
    bench.receive("7F 31 78");
    assert_eq!(bench.wait(2099), "");
    assert_eq!(bench.wait(1), "[the server did not respond in time]");
}

#[test]
fn announcements_are_counted_and_timed() {
    let mut bench = Bench::with(Config {
        pending_count: 2,
        pending_time: Duration::from_secs(8),
        ..Config::default()
    });
    let limit = "[the server kept announcing a response (0x78) past the limit]";
    bench.request("31 01 FF 00");
    assert_eq!(bench.receive("7F 31 78"), "[pending 1]");
    assert_eq!(bench.receive("7F 31 78"), "[pending 2]");
    assert_eq!(bench.receive("7F 31 78"), limit);
    bench.request("31 01 FF 00");
    assert_eq!(bench.receive("7F 31 78"), "[pending 1]");
    assert_eq!(bench.wait(4000), "");
    assert_eq!(bench.receive("7F 31 78"), "[pending 2]");
    assert_eq!(bench.wait(3999), "");
    assert_eq!(bench.wait(1), limit);
}

#[test]
fn a_late_response_of_another_request_changes_nothing() {
    let mut bench = Bench::new();
    bench.request("36 06 AA");
    for other in [
        "76 05",
        "7F 35 70",
        "62 F1 90 00",
        "7E 00",
        "50 03 00 00 00 00",
    ] {
        assert_eq!(bench.receive(other), "", "{other}");
    }
    assert_eq!(bench.receive("76 06"), "[positive]");
    assert_eq!(bench.client.response(), [0x76, 6]);
}

#[test]
fn a_lost_block_is_sent_again_a_bounded_number_of_times() {
    let mut bench = Bench::new();
    bench.request("36 05 AA");
    for _ in 0..3 {
        assert_eq!(bench.wait(150), "36 05 AA, [repeated]");
    }
    assert_eq!(bench.wait(150), "[the server did not respond in time]");
    // What has an effect each time is never repeated.
    bench.request("2E F1 5A 00");
    assert_eq!(bench.wait(150), "[the server did not respond in time]");
}

#[test]
fn busy_is_asked_again_later_and_later() {
    let waits = |seed| {
        let mut bench = Bench::with(Config {
            seed,
            ..Config::default()
        });
        bench.request("31 01 FF 00");
        let mut waits = Vec::new();
        while bench.receive("7F 31 21").is_empty() {
            let at = bench.client.poll_timeout().unwrap();
            waits.push(at.saturating_since(bench.now).as_millis());
            bench.now = at;
            bench.client.handle_timeout(at);
            assert_eq!(bench.said(), "31 01 FF 00, [repeated]");
        }
        waits
    };
    let some = waits(1);
    assert_eq!(some.len(), 10);
    for (n, wait) in some.iter().enumerate() {
        let longest = 100 << n.min(6);
        assert!((longest / 2..=longest).contains(wait), "{some:?}");
    }
    assert_eq!(waits(1), some);
    assert_ne!(waits(2), some);
}

#[test]
fn a_session_is_kept_open_while_nothing_is_asked() {
    let mut bench = Bench::new();
    bench.extended();
    assert_eq!(bench.wait(1999), "");
    assert_eq!(bench.wait(1), "3E 80");
    assert_eq!(bench.wait(2000), "3E 80");
    bench.wait(1000);
    bench.request("22 F1 90");
    bench.receive("62 F1 90 00");
    assert_eq!(bench.wait(1999), "");
    assert_eq!(bench.wait(1), "3E 80");
    bench.request("11 01");
    bench.receive("51 01");
    assert_eq!(bench.wait(60_000), "");
    let mut bench = Bench::with(Config {
        keep_alive: KeepAlive::Functional,
        ..Config::default()
    });
    bench.extended();
    assert_eq!(bench.wait(2000), "3E 80 to all");
}

#[test]
fn a_request_waits_for_the_keep_alive_under_way() {
    let mut bench = Bench::new();
    bench.extended();
    bench.now = bench.now + Duration::from_secs(2);
    bench.client.handle_timeout(bench.now);
    assert!(bench.client.poll_transmit(bench.now).is_some());
    assert_eq!(bench.request("22 F1 90"), "");
    bench.client.on_sent(bench.now);
    assert_eq!(bench.said(), "22 F1 90");
}

#[test]
fn silence_answers_a_suppressed_or_functional_request() {
    let mut bench = Bench::new();
    bench.request("10 83");
    assert_eq!(bench.wait(150), "[silence]");
    assert_eq!(bench.client.session(), Session::EXTENDED);
    let functional = Options {
        functional: true,
        ..Options::default()
    };
    assert_eq!(
        bench.request_with("22 F1 90", functional),
        "22 F1 90 to all"
    );
    assert_eq!(bench.wait(150), "[silence]");
    // Announced means that the response comes.
    bench.request("31 81 FF 00");
    bench.receive("7F 31 78");
    assert_eq!(bench.wait(5100), "[the server did not respond in time]");
}

#[test]
fn a_long_response_outlasts_p2() {
    let mut bench = Bench::new();
    bench.request("22 F1 90");
    bench.client.on_receive_started(bench.now);
    assert_eq!(bench.wait(60_000), "");
    assert_eq!(bench.receive("62 F1 90 00"), "[positive]");
}

#[test]
fn what_is_no_request_is_not_sent() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.request("62 F1 90"),
        "(not a request: empty, or bit 6 of its first byte is set)"
    );
    let long = "22 ".repeat(65);
    assert_eq!(bench.request(&long), "(the request exceeds the buffer)");
    bench.request("22 F1 90");
    assert_eq!(bench.request("22 F1 90"), "(another request is running)");
}

proptest::proptest! {
    #[test]
    fn hostile_scripts_do_no_harm(script in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        fuzz::client(&script);
    }
}

/// Every input of the corpus, as the fuzz target would run it.
#[test]
fn the_corpus_passes() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/uds_client");
    let inputs: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
    assert!(!inputs.is_empty());
    for input in inputs {
        fuzz::client(&std::fs::read(input.unwrap().path()).unwrap());
    }
}

//! The server in every state under every event, the order of refusals, and time.

use super::*;
use std::string::{String, ToString};
use std::vec::Vec;

const ALL: &[Session] = &[Session::DEFAULT, Session::EXTENDED, Session::PROGRAMMING];
const NON_DEFAULT: &[Session] = &[Session::EXTENDED, Session::PROGRAMMING];
const PROGRAMMING: &[Session] = &[Session::PROGRAMMING];
const TWO: Length = Length::exactly(2);

const SERVICES: &[ServiceEntry] = &[
    ServiceEntry::with_sub_functions(
        ServiceId::DIAGNOSTIC_SESSION_CONTROL,
        ALL,
        &[
            SubFunctionEntry::new(1, ALL, TWO).functional(),
            SubFunctionEntry::new(2, NON_DEFAULT, TWO),
            SubFunctionEntry::new(3, ALL, TWO).functional(),
        ],
    ),
    ServiceEntry::with_sub_functions(
        ServiceId::ECU_RESET,
        ALL,
        &[
            SubFunctionEntry::new(1, ALL, TWO),
            SubFunctionEntry::new(3, ALL, TWO),
        ],
    ),
    ServiceEntry::new(ServiceId::READ_DATA_BY_IDENTIFIER, ALL, Length::at_least(3)).functional(),
    ServiceEntry::with_sub_functions(
        ServiceId::SECURITY_ACCESS,
        NON_DEFAULT,
        &[
            SubFunctionEntry::new(1, NON_DEFAULT, TWO),
            SubFunctionEntry::new(2, NON_DEFAULT, Length::exactly(6)),
        ],
    ),
    ServiceEntry::with_sub_functions(
        ServiceId::ROUTINE_CONTROL,
        ALL,
        &[SubFunctionEntry::new(1, ALL, Length::at_least(4))],
    ),
    ServiceEntry::new(ServiceId::TRANSFER_DATA, PROGRAMMING, Length::at_least(3))
        .secured(SecurityLevel::ONE),
    ServiceEntry::with_sub_functions(
        ServiceId::TESTER_PRESENT,
        ALL,
        &[SubFunctionEntry::new(0, ALL, TWO).functional()],
    ),
];

/// 22 F190 is known; routine 0001 takes long, 0002 as long without polling, 0003 is answered after
/// a reset, 0004 is refused.
struct App;

impl Handler for App {
    fn handle(&mut self, _: Instant, _: Context, request: &[u8], out: &mut [u8]) -> Outcome {
        match *request {
            [0x10, ..] => Outcome::Positive(0),
            [0x11, kind] => {
                out[1] = kind;
                Outcome::PositiveThenReset(2)
            }
            [0x22, 0xF1, 0x90] => {
                out[1..5].copy_from_slice(&[0xF1, 0x90, b'V', b'I']);
                Outcome::Positive(5)
            }
            [0x22, 0, 1] => Outcome::PendingLong,
            [0x31, _, 0, 1] => Outcome::Pending,
            [0x31, _, 0, 2] => Outcome::PendingLong,
            [0x31, _, 0, 3] => Outcome::PendingThenReset,
            [0x31, ..] => Outcome::Negative(Nrc::CONDITIONS_NOT_CORRECT),
            [0x36, counter, ..] => {
                out[1] = counter;
                Outcome::Positive(2)
            }
            _ => Outcome::Negative(Nrc::REQUEST_OUT_OF_RANGE),
        }
    }

    fn make_seed(
        &mut self,
        _: Instant,
        _: SecurityLevel,
        _: &[u8],
        seed: &mut [u8],
    ) -> Result<(), Nrc> {
        seed.fill(0x5E);
        Ok(())
    }

    fn verify_key(&mut self, _: Instant, _: SecurityLevel, key: &[u8]) -> bool {
        key == [0xA1; 4]
    }
}

fn config() -> Config {
    Config {
        security: Some(SecurityConfig {
            seed_len: 4,
            attempts: 3,
            delay: Duration::from_secs(10),
        }),
        ..Config::new(SERVICES)
    }
}

struct Bench {
    server: Server<[u8; 32]>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            server: Server::new(config(), [0; 32]),
            now: Instant::ZERO,
        }
    }

    fn put(&mut self, addressing: Addressing, hex: &str) {
        let pdu: Vec<u8> = hex
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        self.server.on_pdu(self.now, addressing, &pdu, &mut App);
    }

    /// Everything the server has to say; each PDU is sent at once.
    fn said(&mut self) -> String {
        let mut said = Vec::new();
        loop {
            if let Some(pdu) = self.server.poll_transmit() {
                let hex: Vec<_> = pdu.iter().map(|byte| format!("{byte:02X}")).collect();
                said.push(hex.join(" "));
                self.server.on_sent(self.now);
            } else if let Some(event) = self.server.poll_event() {
                said.push(match event {
                    Event::Reset => "[reset]".to_string(),
                    Event::SessionChanged { to, timed_out, .. } => {
                        format!("[{to}{}]", if timed_out { ", S3" } else { "" })
                    }
                });
            } else {
                break said.join(", ");
            }
        }
    }

    fn ask(&mut self, hex: &str) -> String {
        self.put(Addressing::Physical, hex);
        self.said()
    }

    fn ask_all(&mut self, hex: &str) -> String {
        self.put(Addressing::Functional, hex);
        self.said()
    }

    fn wait(&mut self, millis: u64) -> String {
        self.now = self.now + Duration::from_millis(millis);
        self.server.handle_timeout(self.now);
        self.said()
    }

    fn unlock(&mut self) {
        self.ask("10 03");
        self.ask("10 02");
        self.ask("27 01");
        assert_eq!(self.ask("27 02 A1 A1 A1 A1"), "67 02");
    }
}

type Action = (&'static str, fn(&mut Bench) -> String);

type Preparation = (&'static str, fn(&mut Bench));

const STATES: &[Preparation] = &[
    ("default", |_| {}),
    ("extended", |bench| {
        bench.ask("10 03");
    }),
    ("unlocked", Bench::unlock),
    ("seed sent", |bench| {
        bench.ask("10 03");
        bench.ask("27 01");
    }),
    ("pending", |bench| {
        bench.ask("10 03");
        bench.ask("31 01 00 01");
    }),
    ("announced", |bench| {
        bench.ask("10 03");
        bench.ask("31 01 00 02");
    }),
    ("sending", |bench| {
        bench.put(Addressing::Physical, "22 F1 90");
        assert!(bench.server.poll_transmit().is_some());
    }),
];

const EVENTS: &[Action] = &[
    ("10 01", |bench| bench.ask("10 01")),
    ("10 02", |bench| bench.ask("10 02")),
    ("10 83", |bench| bench.ask("10 83")),
    ("11 01", |bench| bench.ask("11 01")),
    ("11 83", |bench| bench.ask("11 83")),
    ("22 F190", |bench| bench.ask("22 F1 90")),
    ("22 0000 functional", |bench| bench.ask_all("22 00 00")),
    ("22 0000", |bench| bench.ask("22 00 00")),
    ("27 01", |bench| bench.ask("27 01")),
    ("27 02 right", |bench| bench.ask("27 02 A1 A1 A1 A1")),
    ("27 02 wrong", |bench| bench.ask("27 02 00 00 00 00")),
    ("31 01 0001", |bench| bench.ask("31 01 00 01")),
    ("31 81 0002", |bench| bench.ask("31 81 00 02")),
    ("31 01 0003", |bench| bench.ask("31 01 00 03")),
    ("36 01", |bench| bench.ask("36 01 00")),
    ("3E 00", |bench| bench.ask("3E 00")),
    ("3E 80", |bench| bench.ask("3E 80")),
    ("3E 80 functional", |bench| bench.ask_all("3E 80")),
    ("complete", |bench| {
        let now = bench.now;
        bench.server.complete(now, |out| {
            out[1..4].copy_from_slice(&[1, 0, 1]);
            Outcome::Positive(4)
        });
        bench.said()
    }),
    ("complete 0x72", |bench| {
        let now = bench.now;
        let failed = Outcome::Negative(Nrc::GENERAL_PROGRAMMING_FAILURE);
        bench.server.complete(now, |_| failed);
        bench.said()
    }),
    ("sent", |bench| {
        let now = bench.now;
        bench.server.on_sent(now);
        bench.said()
    }),
    ("25 ms", |bench| bench.wait(25)),
    ("5 s", |bench| bench.wait(5000)),
    ("response of another", |bench| bench.ask("62 F1 90 00")),
    ("empty", |bench| bench.ask("")),
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
            let next = bench.server.poll_timeout();
            let next = next.map(|at| at.saturating_since(bench.now).as_micros());
            let next = next.map_or(String::new(), |micros| format!(" | {micros} us"));
            let session = bench.server.session();
            let lock = bench.server.unlocked().map_or("", |_| " unlocked");
            table += &format!("  {event:20}-> {said} | {session}{lock}{next}\n");
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn refusals_come_in_the_order_of_the_standard() {
    let mut bench = Bench::new();
    // Service, then its session, then its security, then its length.
    assert_eq!(bench.ask("99"), "7F 99 11");
    assert_eq!(bench.ask("36"), "7F 36 7F");
    bench.ask("10 03");
    bench.ask("10 02");
    assert_eq!(bench.ask("36"), "7F 36 33");
    bench.unlock();
    assert_eq!(bench.ask("36"), "7F 36 13");
    // Length for the sub-function, the sub-function, its session, its whole length.
    let mut bench = Bench::new();
    assert_eq!(bench.ask("10"), "7F 10 13");
    assert_eq!(bench.ask("10 7F 00"), "7F 10 12");
    assert_eq!(bench.ask("10 02 00"), "7F 10 7E");
    assert_eq!(bench.ask("10 01 00"), "7F 10 13");
}

#[test]
fn functional_requests_draw_no_answer_of_not_supported() {
    let mut bench = Bench::new();
    for silent in [
        "99", "27 01", "10 7F", "10 02", "22 00 00", "11 01", "3E 80",
    ] {
        assert_eq!(bench.ask_all(silent), "", "{silent}");
    }
    assert_eq!(bench.ask_all("22 F1 90"), "62 F1 90 56 49");
    assert_eq!(bench.ask_all("22"), "7F 22 13");
}

#[test]
fn a_suppressed_response_comes_once_it_was_announced() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask("10 83"), "[extended]");
    assert_eq!(bench.ask("31 81 00 02"), "7F 31 78");
    bench.server.complete(bench.now, |out| {
        out[1..4].copy_from_slice(&[1, 0, 2]);
        Outcome::Positive(4)
    });
    assert_eq!(bench.said(), "71 01 00 02");
}

#[test]
fn a_functional_refusal_comes_once_a_response_was_announced() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask_all("22 00 01"), "7F 22 78");
    bench
        .server
        .complete(bench.now, |_| Outcome::Negative(Nrc::REQUEST_OUT_OF_RANGE));
    assert_eq!(bench.said(), "7F 22 31");
}

#[test]
fn a_long_job_is_announced_in_time_and_again() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask("31 01 00 01"), "");
    assert_eq!(bench.wait(24), "");
    assert_eq!(bench.wait(1), "7F 31 78");
    assert_eq!(bench.wait(2499), "");
    assert_eq!(bench.wait(1), "7F 31 78");
    bench
        .server
        .complete(bench.now, |_| Outcome::Negative(Nrc::REQUEST_OUT_OF_RANGE));
    assert_eq!(bench.said(), "7F 31 31");
    assert_eq!(bench.wait(60_000), "");
}

#[test]
fn the_end_of_a_job_while_0x78_is_being_sent_follows_it() {
    let mut bench = Bench::new();
    bench.put(Addressing::Physical, "31 01 00 02");
    assert_eq!(bench.server.poll_transmit(), Some(&[0x7F, 0x31, 0x78][..]));
    bench
        .server
        .complete(bench.now, |_| Outcome::Negative(Nrc::GENERAL_REJECT));
    assert_eq!(bench.server.poll_transmit(), None);
    bench.server.on_sent(bench.now);
    assert_eq!(bench.said(), "7F 31 10");
}

#[test]
fn s3_ends_a_session_and_locks() {
    let mut bench = Bench::new();
    bench.unlock();
    assert_eq!(bench.wait(4999), "");
    bench.ask_all("3E 80");
    assert_eq!(bench.wait(4999), "");
    assert_eq!(bench.server.unlocked(), Some(SecurityLevel::ONE));
    assert_eq!(bench.wait(1), "[default, S3]");
    assert_eq!(bench.server.unlocked(), None);
}

#[test]
fn s3_stands_still_while_a_request_is_received_or_served() {
    let mut bench = Bench::new();
    bench.ask("10 03");
    bench.server.on_receive_started(bench.now);
    assert_eq!(bench.wait(60_000), "");
    bench.server.on_receive_failed(bench.now);
    assert_eq!(bench.wait(4999), "");
    bench.ask("31 01 00 02");
    bench.wait(60_000);
    assert_eq!(bench.server.session(), Session::EXTENDED);
}

#[test]
fn wrong_keys_run_into_the_delay() {
    let mut bench = Bench::new();
    bench.ask("10 03");
    let mut attempt = |key: &str| {
        bench.ask("27 01");
        bench.ask(key)
    };
    assert_eq!(attempt("27 02 00 00 00 00"), "7F 27 35");
    assert_eq!(attempt("27 02 00 00 00 00"), "7F 27 35");
    assert_eq!(attempt("27 02 00 00 00 00"), "7F 27 36");
    assert_eq!(bench.ask("27 01"), "7F 27 37");
    assert_eq!(bench.ask("27 02 A1 A1 A1 A1"), "7F 27 24");
    // Changing the session is no way around it.
    bench.ask("10 01");
    bench.ask("10 03");
    assert_eq!(bench.ask("27 01"), "7F 27 37");
    bench.wait(4000);
    bench.ask("3E 00");
    bench.wait(4000);
    bench.ask("3E 00");
    bench.wait(2000);
    assert_eq!(bench.ask("27 01"), "67 01 5E 5E 5E 5E");
    // One attempt was given back, not three.
    assert_eq!(bench.ask("27 02 00 00 00 00"), "7F 27 36");
}

#[test]
fn a_seed_is_good_for_one_key_and_zeros_when_unlocked() {
    let mut bench = Bench::new();
    bench.unlock();
    assert_eq!(bench.ask("27 01"), "67 01 00 00 00 00");
    assert_eq!(bench.ask("27 02 A1 A1 A1 A1"), "7F 27 24");
    assert_eq!(bench.ask("10 02"), "50 02 00 32 01 F4, [programming]");
    assert_eq!(bench.ask("36 01 00"), "7F 36 33");
}

#[test]
fn a_reset_waits_for_its_response() {
    let mut bench = Bench::new();
    bench.put(Addressing::Physical, "11 01");
    assert_eq!(bench.server.poll_event(), None);
    assert_eq!(bench.said(), "51 01, [reset]");
    assert_eq!(bench.ask("31 01 00 03"), "7F 31 78, [reset]");
}

#[test]
fn a_session_is_taken_over_from_the_program_before() {
    let start = Instant::from_millis(70);
    let session = Session::PROGRAMMING;
    let mut bench = Bench {
        server: Server::new(config(), [0; 32]),
        now: start,
    };
    bench.server.resume(start, session);
    assert_eq!(bench.said(), "50 02 00 32 01 F4");
    assert_eq!(bench.ask("36 01 00"), "7F 36 33");
    assert_eq!(bench.wait(5000), "[default, S3]");
}

#[test]
fn a_restart_forgets_session_job_and_response() {
    let mut bench = Bench::new();
    bench.ask("10 03");
    bench.put(Addressing::Physical, "22 F1 90");
    bench.server.restart(config());
    assert_eq!(bench.said(), "");
    assert_eq!(bench.server.session(), Session::DEFAULT);
    assert_eq!(bench.server.poll_timeout(), None);
}

#[test]
fn a_response_that_does_not_fit_is_refused() {
    struct Boaster;
    impl Handler for Boaster {
        fn handle(&mut self, _: Instant, _: Context, _: &[u8], _: &mut [u8]) -> Outcome {
            Outcome::Positive(33)
        }
    }
    let mut server = Server::new(config(), [0; 32]);
    let request = [0x22, 0xF1, 0x90];
    server.on_pdu(Instant::ZERO, Addressing::Physical, &request, &mut Boaster);
    assert_eq!(server.poll_transmit(), Some(&[0x7F, 0x22, 0x14][..]));
}

#[test]
fn a_request_after_an_unreported_response_is_served() {
    let mut bench = Bench::new();
    bench.put(Addressing::Physical, "22 F1 90");
    assert!(bench.server.poll_transmit().is_some());
    assert_eq!(bench.ask("3E 00"), "7E 00");
}

proptest::proptest! {
    #[test]
    fn hostile_scripts_do_no_harm(script in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        fuzz::server(&script);
    }
}

/// Every input of the corpus, as the fuzz target would run it.
#[test]
fn the_corpus_passes() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/uds_server");
    let inputs: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
    assert!(!inputs.is_empty());
    for input in inputs {
        fuzz::server(&std::fs::read(input.unwrap().path()).unwrap());
    }
}

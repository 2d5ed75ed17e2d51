//! Authentication (29) by the testers' own keys.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ecu_bootloader::authentication::{ALGORITHM, message_digest};
use ecu_bootloader::boot::ResetCause;
use ecu_bootloader::counter::JournaledCounter;
use ecu_bootloader::flash::FlashError;
use ecu_bootloader::keys::SoftKeyStore;
use ecu_bootloader::mailbox::Handover;
use ecu_bootloader::platform::{Board, Parts, Platform};
use ecu_bootloader::provision::provision;
use ecu_bootloader::{Bootloader, Event};
use ecu_image::pss::key_id;
use ecu_image::signature::{SignatureVerifier, SoftwareVerifier};
use nor::Nor;
use uds::isotp::{self, Endpoint};
use uds::time::{Instant, earliest};

use crate::bench::{Setup, SharedNor, board, key_of, keys, parts, perform};
use crate::images::{self, SERIAL, recipe};

type Verifier = SoftwareVerifier<Vec<Vec<u8>>>;
type Inner = Parts<SharedNor, SoftKeyStore, JournaledCounter, Verifier, fn(&mut [u8])>;

/// A board whose testers have keys.
struct WithTesters(Inner, Verifier);

impl Platform for WithTesters {
    type Flash = SharedNor;
    type Keys = SoftKeyStore;
    type Counter = JournaledCounter;
    type Signatures = Verifier;
    type Connection = uds::isotp::Config;

    fn connection(&self) -> uds::isotp::Config {
        self.board().connection
    }

    fn board(&self) -> &Board {
        self.0.board()
    }

    fn flash(&mut self) -> &mut SharedNor {
        self.0.flash()
    }

    fn keys(&mut self) -> &mut SoftKeyStore {
        self.0.keys()
    }

    fn counter(&mut self) -> &mut JournaledCounter {
        self.0.counter()
    }

    fn signatures(&mut self) -> &mut Verifier {
        self.0.signatures()
    }

    fn board_flash_keys(&mut self) -> (&Board, &mut SharedNor, &mut SoftKeyStore) {
        self.0.board_flash_keys()
    }

    fn random(&mut self, seed: &mut [u8]) {
        seed.fill(0xA5);
    }

    fn testers(&mut self) -> Option<&mut dyn SignatureVerifier> {
        Some(&mut self.1)
    }
}

struct Ecu {
    nor: Rc<RefCell<Nor>>,
    board: Board,
    machine: Bootloader<WithTesters>,
    tester: Endpoint<Vec<u8>, Vec<u8>>,
    now: Instant,
}

impl Ecu {
    /// In the programming session, locked.
    fn new() -> Self {
        let setup = Setup::new(true);
        let board = board(setup.layout);
        let mut nor = Nor::in_memory(setup.geometry);
        let factory = recipe(1).make();
        provision(
            &board,
            &mut keys(),
            &parts(&factory, 1),
            &mut [0; 4096],
            |op| perform(&mut nor, op).map(drop).map_err(|_| FlashError),
        )
        .unwrap();
        let nor = Rc::new(RefCell::new(nor));
        let (machine, tester) = start(board, &nor);
        let mut ecu = Self {
            nor,
            board,
            machine,
            tester,
            now: Instant::from_millis(1),
        };
        ecu.reset();
        ecu
    }

    /// A reset into the programming session.
    fn reset(&mut self) {
        (self.machine, self.tester) = start(self.board, &self.nor);
        let connection = self.board.connection;
        let handover = Handover {
            request_id: connection.rx_id,
            response_id: connection.tx_id,
        };
        self.machine
            .start(self.now, ResetCause::Software, &handover.encode());
        assert_eq!(self.response()[..2], [0x50, 2]);
    }

    fn ask(&mut self, pdu: &[u8]) -> Vec<u8> {
        self.tester.send(self.now, pdu).unwrap();
        self.response()
    }

    fn response(&mut self) -> Vec<u8> {
        for _ in 0..100_000 {
            let mut moved = false;
            while let Some(frame) = self.tester.poll_transmit(self.now) {
                self.machine.handle_frame(self.now, &frame);
                moved = true;
            }
            moved |= self.machine.poll(self.now, 1);
            let done = self.machine.poll_flash().map(|op| {
                let done = perform(&mut self.nor.borrow_mut(), op);
                done.map(drop).map_err(|_| FlashError)
            });
            if let Some(done) = done {
                self.machine.on_flash_done(self.now, done);
                moved = true;
            }
            while let Some(frame) = self.machine.poll_transmit(self.now) {
                self.tester.handle_frame(self.now, &frame);
                moved = true;
            }
            while let Some(event) = self.machine.poll_event() {
                assert!(!matches!(event, Event::Boot(_)), "{event:?}");
            }
            while let Some(event) = self.tester.poll_event() {
                if let isotp::Event::Received { .. } = event {
                    let pdu = self.tester.received();
                    if pdu.first() != Some(&0x7F) || pdu.get(2) != Some(&0x78) {
                        return pdu.to_vec();
                    }
                }
            }
            if !moved {
                self.pass();
            }
        }
        panic!("no response");
    }

    /// To the next deadline.
    fn pass(&mut self) {
        let next = earliest(self.machine.poll_timeout(), self.tester.poll_timeout());
        self.now = next.expect("a deadline");
        self.machine.handle_timeout(self.now);
        self.tester.handle_timeout(self.now);
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_secs(2);
            assert_eq!(self.ask(&[0x3E, 0]), [0x7E, 0]);
        }
    }

    fn challenge(&mut self) -> Vec<u8> {
        let response = self.ask(&[&[0x29, 5, 0], &ALGORITHM[..]].concat());
        assert_eq!(response[..3], [0x69, 5, 0], "{response:02X?}");
        assert_eq!(response[3..19], ALGORITHM);
        assert_eq!(response[19..21], [0, 16]);
        assert_eq!(response[37..], [0, 0]);
        response[21..37].to_vec()
    }

    fn is_unlocked(&mut self) -> bool {
        self.ask(&[0x22, 0xFD, 2])[0] == 0x62
    }
}

fn start(
    board: Board,
    nor: &Rc<RefCell<Nor>>,
) -> (Bootloader<WithTesters>, Endpoint<Vec<u8>, Vec<u8>>) {
    let inner = Parts {
        board,
        flash: SharedNor(Rc::clone(nor)),
        keys: keys(),
        counter: JournaledCounter,
        signatures: SoftwareVerifier::new(images::roots()),
        random: (|seed: &mut [u8]| seed.fill(0)) as fn(&mut [u8]),
    };
    let testers = SoftwareVerifier::new(vec![images::tester_modulus()]);
    let connection = isotp::Config::fd(board.connection.rx_id, board.connection.tx_id);
    (
        Bootloader::new(WithTesters(inner, testers)),
        Endpoint::new(connection, vec![0; 4095], vec![0; 4095]),
    )
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// 29 06 with a signature of these bytes' message.
fn proof(serial: &str, challenge: &[u8], client: &[u8]) -> Vec<u8> {
    let mut padded = [0; 32];
    padded[..serial.len()].copy_from_slice(serial.as_bytes());
    let message = [b"CNAU", &padded[..], challenge, client].concat();
    let id = key_id(&images::tester_modulus()).0;
    [
        &[0x29, 6][..],
        &ALGORITHM,
        &field(&images::tester_proof(&message)),
        &field(client),
        &field(&id),
    ]
    .concat()
}

const FAILED: [u8; 3] = [0x7F, 0x29, 0x58];

#[test]
fn a_proof_opens_what_a_key_opens_and_deauthentication_closes_it() {
    let mut ecu = Ecu::new();
    assert_eq!(ecu.ask(&[0x29, 8]), [0x69, 8, 3]);
    assert!(!ecu.is_unlocked());
    for client in [&[][..], &[7; 32]] {
        let challenge = ecu.challenge();
        let response = ecu.ask(&proof(SERIAL, &challenge, client));
        assert_eq!(
            response,
            [&[0x69, 6, 0x12], &ALGORITHM[..], &[0, 0]].concat()
        );
        assert!(ecu.is_unlocked());
        assert_eq!(ecu.machine.state().unwrap().access_blocks, 0);
        assert_eq!(ecu.ask(&[0x29, 0]), [0x69, 0, 0x10]);
        assert!(!ecu.is_unlocked());
    }
    let challenge = ecu.challenge();
    ecu.ask(&proof(SERIAL, &challenge, &[]));
    assert!(ecu.is_unlocked());
    ecu.ask(&[0x10, 2]);
    assert!(!ecu.is_unlocked(), "another session locks");
}

#[test]
fn a_proof_is_good_for_one_ecu_and_once() {
    let mut ecu = Ecu::new();
    let challenge = ecu.challenge();
    assert_eq!(ecu.ask(&proof("SN-0043", &challenge, &[])), FAILED);
    let right = proof(SERIAL, &challenge, &[]);
    assert_eq!(ecu.ask(&right), [0x7F, 0x29, 0x24], "the challenge is used");
    ecu.challenge();
    assert_eq!(ecu.ask(&right), FAILED, "another challenge");
    ecu.reset();
    assert_eq!(ecu.ask(&right), [0x7F, 0x29, 0x24]);
    // Nor is a challenge a seed, or a seed a challenge.
    ecu.wait(Duration::from_secs(12));
    let challenge = ecu.challenge();
    let key = [&[0x27, 2], &key_of(&challenge)[..]].concat();
    assert_eq!(ecu.ask(&key), [0x7F, 0x27, 0x24]);
    let seed = ecu.ask(&[0x27, 1]);
    assert_eq!(ecu.ask(&proof(SERIAL, &seed[2..], &[])), [0x7F, 0x29, 0x24]);
    assert!(!ecu.is_unlocked());
}

#[test]
fn wrong_proofs_run_into_the_delay_of_wrong_keys() {
    let mut ecu = Ecu::new();
    for _ in 0..3 {
        let challenge = ecu.challenge();
        let mut wrong = proof(SERIAL, &challenge, &[]);
        wrong[40] ^= 1;
        assert_eq!(ecu.ask(&wrong), FAILED);
    }
    let request = [&[0x29, 5, 0], &ALGORITHM[..]].concat();
    assert_eq!(ecu.ask(&request), [0x7F, 0x29, 0x37]);
    assert_eq!(ecu.ask(&[0x27, 1]), [0x7F, 0x27, 0x37]);
    ecu.reset();
    assert_eq!(ecu.ask(&request), [0x7F, 0x29, 0x37]);
    ecu.wait(Duration::from_secs(12));
    let challenge = ecu.challenge();
    assert_eq!(ecu.ask(&proof(SERIAL, &challenge, &[]))[..2], [0x69, 6]);
}

#[test]
fn what_is_not_offered_is_refused() {
    let mut ecu = Ecu::new();
    let mut algorithm = ALGORITHM;
    algorithm[10] = 0x0B;
    let challenge =
        |configuration: u8, algorithm: &[u8]| [&[0x29, 5, configuration], algorithm].concat();
    let right = proof(SERIAL, &[0; 16], &[]);
    let short = right[..right.len() - 1].to_vec();
    let long_client = proof(SERIAL, &[0; 16], &[0; 33]);
    let cases: [(Vec<u8>, u8); 8] = [
        (challenge(0, &algorithm), 0x31),
        (challenge(1, &ALGORITHM), 0x31),
        (challenge(0, &ALGORITHM[..15]), 0x13),
        (vec![0x29, 1], 0x12),
        (vec![0x29], 0x13),
        (vec![0x29, 0, 0], 0x13),
        (right, 0x24),
        (short, 0x13),
    ];
    for (request, nrc) in cases {
        let answer = ecu.ask(&request);
        assert_eq!(answer, [0x7F, 0x29, nrc], "{:02X?}", &request[..2]);
    }
    ecu.challenge();
    assert_eq!(ecu.ask(&long_client), [0x7F, 0x29, 0x31]);
    // A key that nobody has.
    let challenge = ecu.challenge();
    let mut stranger = proof(SERIAL, &challenge, &[]);
    *stranger.last_mut().unwrap() ^= 1;
    assert_eq!(ecu.ask(&stranger), FAILED);
    ecu.ask(&[0x10, 1]);
    assert_eq!(ecu.ask(&[0x29, 8]), [0x7F, 0x29, 0x7F]);
}

#[test]
fn the_message_is_that_of_the_profile() {
    let mut serial = [0; 32];
    serial[..SERIAL.len()].copy_from_slice(SERIAL.as_bytes());
    let message = [b"CNAU", &serial[..], &[1; 16], b"me"].concat();
    let digest = ecu_image::crypto::sha256(&[&message]);
    assert_eq!(message_digest(&serial, &[1; 16], b"me"), digest.0);
}

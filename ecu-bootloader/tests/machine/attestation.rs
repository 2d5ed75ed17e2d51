//! The ECU's report (31 01 0214): what it says at each station of an update, and to whom.

use ecu_bootloader::boot::ResetCause;
use ecu_image::{EcuReport, ImageDigest, NONCE_LEN, REPORT_LEN, RunState, SecurityCounter};

use crate::bench::{Bench, Setup};
use crate::images::{self, SERIAL, recipe};

fn request(nonce: [u8; NONCE_LEN]) -> Vec<u8> {
    [&[0x31, 1, 2, 0x14], &nonce[..]].concat()
}

/// The report in a response, which the ECU made in answer to `nonce`.
fn report(response: &[u8], nonce: [u8; NONCE_LEN]) -> EcuReport {
    let (head, report) = response.split_first_chunk().unwrap();
    assert_eq!(*head, [0x71, 1, 2, 0x14, 0]);
    let bytes: [u8; REPORT_LEN] = report.try_into().unwrap();
    assert!(images::grant_key().verify_report(&bytes));
    let report = EcuReport::parse(&bytes).unwrap();
    assert_eq!(report.nonce, nonce);
    assert_eq!(report.ecu_serial, SERIAL.parse().unwrap());
    report
}

/// What the boot services say while the application runs.
fn said(bench: &mut Bench) -> EcuReport {
    let response = bench.app(&request([9; NONCE_LEN])).unwrap();
    report(&response, [9; NONCE_LEN])
}

fn numbers(report: &EcuReport) -> (RunState, u32, u32, u64) {
    (
        report.state,
        report.security_counter.get(),
        report.floor.get(),
        report.sequence.get(),
    )
}

#[test]
fn a_report_says_what_runs_at_every_station_of_an_update() {
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    let factory = said(&mut bench);
    assert_eq!(numbers(&factory), (RunState::Sealed, 1, 1, 1));
    let image = recipe(2).make();
    bench.stage(&image).unwrap();
    // In the programming session nothing runs.
    let nothing = bench.ask(&request([1; NONCE_LEN])).unwrap();
    let nothing = report(&nothing, [1; NONCE_LEN]);
    assert_eq!(nothing.image_digest, ImageDigest::ZERO);
    assert_eq!(nothing.security_counter, SecurityCounter(0));
    assert_eq!(nothing.state, RunState::Recovery);
    bench.activate().unwrap();
    let tried = said(&mut bench);
    assert_ne!(tried.image_digest, factory.image_digest);
    assert_eq!(numbers(&tried).0, RunState::Trial);
    assert_eq!(numbers(&tried).1, 2);
    assert_eq!(numbers(&tried).2, 1);
    assert!(bench.self_test_passed().unwrap());
    assert_eq!(said(&mut bench).state, RunState::Healthy);
    bench.app_unlock().unwrap();
    assert_eq!(bench.app(&[0x31, 1, 2, 0x12]).unwrap()[0], 0x71);
    let sealed = said(&mut bench);
    assert_eq!(sealed.image_digest, tried.image_digest);
    assert_eq!((sealed.state, sealed.floor.get()), (RunState::Sealed, 2));
    assert_eq!(sealed.sequence, tried.sequence);
}

#[test]
fn what_was_reverted_is_called_so_until_the_next_reset() {
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    bench.stage(&recipe(2).make()).unwrap();
    bench.activate().unwrap();
    bench.app_unlock().unwrap();
    assert_eq!(bench.app(&[0x31, 1, 2, 0x13]).unwrap()[0], 0x71);
    assert_eq!(said(&mut bench).state, RunState::Rejected);
    bench.start(ResetCause::Software, None).unwrap();
    assert_eq!(said(&mut bench).state, RunState::Sealed);
}

/// The nonce makes a report, and nothing else of the request is in it.
#[test]
fn a_request_of_another_length_gets_no_report() {
    let mut bench = Bench::new(&Setup::new(true), &recipe(1).make(), 1);
    let right = request([3; NONCE_LEN]);
    let long = [&right[..], &[0]].concat();
    for wrong in [&right[..4], &right[..19], &long] {
        assert_eq!(bench.app(wrong).unwrap(), [0x7F, 0x31, 0x13]);
    }
    // Other routines take no option record.
    assert_eq!(
        bench.app(&[0x31, 1, 2, 0x13, 0]).unwrap(),
        [0x7F, 0x31, 0x13]
    );
    bench.enter_programming().unwrap();
    let functional = bench.functional(&right).unwrap();
    assert_eq!(functional, None, "it is asked of one ECU");
    bench.ask(&[0x10, 1]).unwrap();
    assert_eq!(bench.ask(&right).unwrap()[0], 0x71, "without access");
}

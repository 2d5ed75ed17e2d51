//! The whole life of an ECU in virtual time, through frames alone: factory boot, update, trial,
//! seal, and every way back.

mod bench;
mod images;

use bench::Bench;
use ecu_bootloader::boot::{BootReason, ResetCause};
use ecu_bootloader::layout::SlotId;
use ecu_image::{EcuReport, ImageDigest, RunState};
use images::{image, image_by_point};
use nor::{Cut, Marginal, Tear, When};
use uds::client;
use uds::nrc::Nrc;
use uds::time::Duration;
use virtual_ecu::app::Behaviour;
use virtual_ecu::event::Event;

const TRIAL: Event = Event::Boot {
    slot: Some(SlotId::A),
    reason: BootReason::Trial,
};

/// Powered on, with its factory application.
fn started(fd: bool) -> Bench {
    let mut bench = Bench::new(fd);
    bench.power_on();
    bench.wait_for("1.0.0", 1);
    bench
}

/// Updated with a bad application, of which no heartbeat may come after it was given up.
fn given_up(behaviour: Behaviour, cause: ResetCause) {
    let mut bench = started(false);
    bench.stage(&image(2, behaviour)).unwrap();
    bench.activate().unwrap();
    bench.wait_for("1.0.0", 5);
    assert!(bench.events.contains(&TRIAL));
    assert!(bench.events.contains(&Event::Reset { cause }));
    // Application, factory slot, fell back to factory, factory, rejected.
    assert_eq!(bench.status(), [1, 0, 3, 7, 6]);
    bench.heartbeats.clear();
    bench.machine.power_cut();
    bench.power_on();
    bench.wait_for("1.0.0", 5);
    assert!(!bench.heartbeats.contains(&"2.0.0".to_owned()));
}

#[test]
fn a_new_ecu_boots_its_factory_application() {
    let mut bench = started(false);
    let boot = Event::Boot {
        slot: Some(SlotId::Factory),
        reason: BootReason::Normal,
    };
    assert_eq!(bench.events, [boot]);
    assert_eq!(bench.status(), [1, 0, 0, 7, 0]);
    assert_eq!(bench.request(&[0x22, 0xF1, 0x95]).unwrap()[3..], *b"1.0.0");
    assert_eq!(
        bench.request(&[0x22, 0xF1, 0x8C]).unwrap()[3..],
        *b"SN-0042"
    );
    assert_eq!(bench.machine.chip().with(|nor| nor.violations()), 0);
}

#[test]
fn an_update_runs_becomes_healthy_and_is_sealed_on_classical_and_fd_buses() {
    for fd in [false, true] {
        let mut bench = started(fd);
        bench.stage(&image(2, Behaviour::Good)).unwrap();
        bench.activate().unwrap();
        bench.wait_for("2.0.0", 6);
        assert!(bench.events.contains(&TRIAL));
        assert_eq!(bench.status(), [1, 1, 1, 4, 0], "healthy");
        assert_eq!(bench.floor(), 1);
        bench.request(&[0x10, 3]).unwrap();
        bench.unlock().unwrap();
        bench.routine(0x0212).unwrap();
        assert_eq!((bench.status()[3], bench.floor()), (5, 2), "sealed");
        bench.machine.power_cut();
        bench.power_on();
        bench.wait_for("2.0.0", 5);
        assert_eq!(bench.status(), [1, 1, 0, 5, 0]);
        assert_eq!(bench.machine.chip().with(|nor| nor.violations()), 0);
    }
}

/// A host that is short of CPU: time passes between the calls of the machine, so what ends a flash
/// operation or a slice is as likely to be the question for the next frame as the deadline.
#[test]
fn a_response_that_is_ready_while_the_host_asks_for_the_next_frame_is_sent() {
    for micros in [1, 20, 150, 700, 1500] {
        let mut bench = started(false);
        bench.host_delay = Duration::from_micros(micros);
        bench.stage(&image(2, Behaviour::Good)).unwrap();
        bench.activate().unwrap();
        bench.wait_for("2.0.0", 1);
    }
}

/// The second algorithm: an image under a key of P-256 that the key set names is installed, verified at
/// each boot, and sealed; one whose signature was altered is refused before anything is erased.
#[test]
fn an_image_signed_with_ecdsa_is_installed_and_a_forged_one_refused() {
    let mut bench = started(false);
    let mut forged = image_by_point(2, Behaviour::Good);
    // Behind grant and signed part.
    forged.packed[1024 + 63] ^= 1;
    let refused = bench.stage(&forged).unwrap_err();
    let nrc = Nrc::GENERAL_PROGRAMMING_FAILURE;
    assert!(matches!(refused, client::Error::Negative(found) if found == nrc));
    bench.stage(&image_by_point(2, Behaviour::Good)).unwrap();
    bench.activate().unwrap();
    bench.wait_for("2.0.0", 6);
    bench.request(&[0x10, 3]).unwrap();
    bench.unlock().unwrap();
    bench.routine(0x0212).unwrap();
    bench.machine.power_cut();
    bench.power_on();
    bench.wait_for("2.0.0", 5);
    assert_eq!(bench.status(), [1, 1, 0, 5, 0]);
}

/// Over the bus, through the application and its mailbox, in the default session; in the bootloader
/// too.
#[test]
fn an_ecu_answers_a_nonce_with_its_report() {
    let mut bench = started(false);
    let nonce = [7; ecu_image::NONCE_LEN];
    let ask = |bench: &mut Bench| {
        let response = bench.request(&[&[0x31, 1, 2, 0x14], &nonce[..]].concat());
        let response = response.unwrap();
        let (head, report) = response.split_first_chunk().unwrap();
        assert_eq!(*head, [0x71, 1, 2, 0x14, 0]);
        let report = report.try_into().unwrap();
        assert!(
            images::hardware(false)
                .provisioning
                .grant_key
                .verify_report(&report)
        );
        EcuReport::parse(&report).unwrap()
    };
    let report = ask(&mut bench);
    assert_eq!((report.nonce, report.state), (nonce, RunState::Sealed));
    assert_ne!(report.image_digest, ImageDigest::ZERO);
    let short = bench.request(&[0x31, 1, 2, 0x14]).unwrap_err();
    let nrc = Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT;
    assert!(matches!(short, client::Error::Negative(found) if found == nrc));
    bench.enter_programming().unwrap();
    assert_eq!(ask(&mut bench).image_digest, ImageDigest::ZERO);
}

#[test]
fn a_healthy_update_is_reverted_on_request() {
    let mut bench = started(false);
    bench.stage(&image(2, Behaviour::Good)).unwrap();
    bench.activate().unwrap();
    bench.wait_for("2.0.0", 6);
    bench.request(&[0x10, 3]).unwrap();
    bench.unlock().unwrap();
    bench.routine(0x0213).unwrap();
    bench.request(&[0x11, 1]).unwrap();
    bench.wait_for("1.0.0", 3);
}

#[test]
fn an_application_that_crashes_is_given_up() {
    given_up(Behaviour::Crash, ResetCause::Crash);
}

#[test]
fn an_application_that_hangs_is_given_up_by_the_watchdog() {
    given_up(Behaviour::Hang, ResetCause::Watchdog);
}

#[test]
fn an_application_that_fails_its_self_test_is_given_up() {
    given_up(Behaviour::FailSelfTest, ResetCause::Crash);
}

#[test]
fn what_disturbs_a_moving_vehicle_is_refused() {
    let mut bench = started(false);
    bench.machine.set_standstill(bench.now, false);
    let refused = Err(client::Error::Negative(Nrc::CONDITIONS_NOT_CORRECT));
    bench.request(&[0x10, 3]).unwrap();
    assert_eq!(bench.request(&[0x31, 1, 2, 3]).unwrap(), [0x71, 1, 2, 3, 1]);
    let disturbing: [&[u8]; 6] = [
        &[0x10, 2],
        &[0x11, 1],
        &[0x11, 2],
        &[0x11, 3],
        &[0x28, 3, 1],
        &[0x28, 0x83, 1],
    ];
    for request in disturbing {
        assert_eq!(bench.request(request), refused, "{request:02X?}");
    }
    // What only asks is answered on the road too.
    bench.request(&[0x22, 0xFD, 1]).unwrap();
    bench.heartbeats.clear();
    bench.run(Duration::from_secs(1));
    assert!(!bench.heartbeats.is_empty(), "it goes on");
    bench.machine.set_standstill(bench.now, true);
    bench.stage(&image(2, Behaviour::Good)).unwrap();
    // It rolls away before the activation.
    bench.machine.set_standstill(bench.now, false);
    let activation = [0x31, 1, 2, 0x10];
    assert_eq!(bench.request(&activation), refused);
    assert_eq!(bench.status()[4], 2, "still staged");
    bench.machine.set_standstill(bench.now, true);
    bench.activate().unwrap();
    bench.wait_for("2.0.0", 6);
}

#[test]
fn what_is_said_to_all_neither_resets_nor_programs() {
    let mut bench = started(false);
    let all: [&[u8]; 4] = [&[0x10, 2], &[0x11, 1], &[0x11, 2], &[0x11, 3]];
    let check = |bench: &mut Bench| {
        for request in all {
            let answer = bench.functional(request);
            assert_eq!(answer, Ok(Vec::new()), "{request:02X?}");
        }
        bench.run(Duration::from_millis(500));
        let reset = |event: &Event| matches!(event, Event::Reset { .. });
        assert!(!bench.events.iter().any(reset), "{:?}", bench.events);
    };
    check(&mut bench);
    bench.request(&[0x10, 3]).unwrap();
    check(&mut bench);
    bench.enter_programming().unwrap();
    bench.events.clear();
    check(&mut bench);
    // Nor does it lock.
    bench.request(&[0x22, 0xFD, 2]).unwrap();
}

#[test]
fn a_programming_session_without_a_tester_ends_in_the_application() {
    let mut bench = started(false);
    bench.enter_programming().unwrap();
    bench.heartbeats.clear();
    // The client keeps the session; a tester that is gone does not.
    bench.run(Duration::from_secs(3));
    assert!(bench.heartbeats.is_empty());
    bench.request(&[0x10, 1]).unwrap();
    bench.run(Duration::from_secs(12));
    assert!(bench.heartbeats.contains(&"1.0.0".to_owned()));
}

/// Cuts the power in the `operation`th flash operation from the start of an update on, then
/// finishes it.
fn cut_and_resume(operation: u64, when: When) {
    let update = image(2, Behaviour::Good);
    let mut bench = started(false);
    let operation = bench.machine.chip().with(|nor| nor.operations()) + operation;
    bench
        .machine
        .chip()
        .with(|nor| nor.arm(Cut { operation, when }));
    let first = bench.stage(&update).and_then(|()| bench.activate());
    if first.is_ok() {
        // The cut falls into the trial's journal, or nowhere.
        bench.run(Duration::from_secs(3));
    }
    let cut = bench.events.contains(&Event::PowerCut { operation });
    let done = bench.machine.chip().with(|nor| nor.operations());
    assert!(cut, "the cut at {operation} did not happen in {done}");
    assert!(!bench.machine.is_on());
    bench.events.clear();
    bench.power_on();
    bench.run(Duration::from_secs(8));
    assert!(
        !bench.heartbeats.is_empty(),
        "cut at {operation}: {:?}",
        bench.events
    );
    if bench.heartbeats.last().unwrap() != "2.0.0" {
        bench
            .stage(&update)
            .unwrap_or_else(|e| panic!("cut at {operation}: {e}"));
        bench.activate().unwrap();
    }
    bench.wait_for("2.0.0", 6);
    assert_eq!(bench.status()[3], 4, "cut at {operation}");
}

/// Flash operations from the start of an update to its healthy application.
fn operations_of_an_update() -> u64 {
    let mut bench = started(false);
    let operations = |bench: &Bench| bench.machine.chip().with(|nor| nor.operations());
    let before = operations(&bench);
    bench.stage(&image(2, Behaviour::Good)).unwrap();
    bench.activate().unwrap();
    bench.wait_for("2.0.0", 6);
    operations(&bench) - before
}

#[test]
fn power_is_cut_in_every_flash_operation_of_an_update() {
    let operations = operations_of_an_update();
    assert!(operations > 20, "{operations}");
    for operation in 0..operations {
        let when = When::Inside {
            tear: Tear::Seeded(operation),
            marginal: Marginal::Half,
        };
        cut_and_resume(operation, when);
    }
}

//! Sessions, access, sequence and addressing, as the ECU profile says.

use std::time::Duration;

use uds::can::{CanId, Format, Frame};

use crate::bench::{Bench, Setup};
use crate::images::recipe;
use crate::tester::Failed;

fn fresh() -> Bench {
    Bench::new(&Setup::new(true), &recipe(1).make(), 1)
}

fn ready() -> Bench {
    let mut bench = fresh();
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    bench
}

fn check(bench: &mut Bench, request: &[u8], response: &[u8]) {
    let answer = bench.request(request).unwrap().unwrap_or_default();
    assert_eq!(answer, response, "{request:02X?}");
}

#[test]
fn the_bootloader_is_entered_locked() {
    let mut bench = fresh();
    bench.enter_programming().unwrap();
    for request in [
        &[0x34, 0, 0x44, 0xF0, 0, 0, 0, 0, 0, 0x17, 0][..],
        &[0x36, 1, 0],
        &[0x37],
        &[0x2E, 0xF1, 0x5A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x31, 1, 0xFF, 0],
        &[0x31, 1, 2, 0x10],
        &[0x22, 0xFD, 2],
    ] {
        check(&mut bench, request, &[0x7F, request[0], 0x33]);
    }
    check(&mut bench, &[0x31, 1, 2, 3], &[0x71, 1, 2, 3, 0]);
}

#[test]
fn identification_and_status_need_no_access() {
    let mut bench = fresh();
    bench.enter_programming().unwrap();
    check(&mut bench, &[0x22, 0xF1, 0x8C], b"\x62\xF1\x8CSN-0042");
    check(&mut bench, &[0x22, 0xF1, 0x91], b"\x62\xF1\x91BRAKE-2");
    check(&mut bench, &[0x22, 0xF1, 0x95], b"\x62\xF1\x951.0.1");
    check(&mut bench, &[0x22, 0xF1, 0x86], b"\x62\xF1\x86\x02");
    check(
        &mut bench,
        &[0x22, 0xF1, 0x90],
        b"\x62\xF1\x90WVWZZZ1JZXW000001",
    );
    check(&mut bench, &[0x22, 0x12, 0x34], &[0x7F, 0x22, 0x31]);
    let status = bench.status().unwrap();
    assert_eq!((status.phase, status.running, status.reason), (0, 0xFF, 5));
}

#[test]
fn sequence_and_parameters_are_refused_as_the_standard_says() {
    let mut bench = ready();
    check(&mut bench, &[0x36, 1, 0], &[0x7F, 0x36, 0x24]);
    check(&mut bench, &[0x37], &[0x7F, 0x37, 0x24]);
    check(&mut bench, &[0x31, 1, 0xFF, 0], &[0x7F, 0x31, 0x24]);
    check(&mut bench, &[0x31, 1, 2, 2], &[0x7F, 0x31, 0x24]);
    check(&mut bench, &[0x31, 1, 0xFF, 1], &[0x7F, 0x31, 0x24]);
    check(&mut bench, &[0x31, 1, 2, 0x10], &[0x7F, 0x31, 0x24]);
    check(&mut bench, &[0x31, 1, 0x77, 0x77], &[0x7F, 0x31, 0x31]);
    check(&mut bench, &[0x31, 2, 0xFF, 0], &[0x7F, 0x31, 0x12]);
    check(&mut bench, &[0x34, 0, 0x44], &[0x7F, 0x34, 0x13]);
    let download = |format, alfid, address: u32, len: u32| {
        let (a, l) = (address.to_be_bytes(), len.to_be_bytes());
        [&[0x34, format, alfid], &a[..], &l[..]].concat()
    };
    check(
        &mut bench,
        &download(0, 0x33, 0xF000_0000, 5888),
        &[0x7F, 0x34, 0x31],
    );
    check(
        &mut bench,
        &download(0, 0x44, 0xF000_0000, 5889),
        &[0x7F, 0x34, 0x70],
    );
    check(
        &mut bench,
        &download(0, 0x44, 0x1000, 5888),
        &[0x7F, 0x34, 0x70],
    );
    check(&mut bench, &download(1, 0x44, 0, 4096), &[0x7F, 0x34, 0x24]);
}

#[test]
fn only_the_last_block_counter_may_repeat() {
    let mut bench = ready();
    let metadata = recipe(2).make().metadata();
    bench
        .request_download(0, 0xF000_0000, metadata.len())
        .unwrap();
    check(&mut bench, &[0x36, 2, 0], &[0x7F, 0x36, 0x73]);
    let block =
        |counter: u8, range: std::ops::Range<usize>| [&[0x36, counter], &metadata[range]].concat();
    check(&mut bench, &block(1, 0..500), &[0x76, 1]);
    check(&mut bench, &block(1, 0..500), &[0x76, 1]);
    check(&mut bench, &block(2, 500..1000), &[0x76, 2]);
    check(&mut bench, &block(1, 0..500), &[0x7F, 0x36, 0x73]);
    check(&mut bench, &[0x37], &[0x7F, 0x37, 0x24]);
    // Longer than the ECU said.
    check(&mut bench, &block(3, 1000..1513), &[0x7F, 0x36, 0x31]);
    for (counter, start) in (3..).zip((1000..metadata.len()).step_by(512)) {
        let end = metadata.len().min(start + 512);
        check(&mut bench, &block(counter, start..end), &[0x76, counter]);
    }
    check(&mut bench, &[0x36, 13, 0], &[0x7F, 0x36, 0x24]);
    check(&mut bench, &[0x37], &[0x77]);
}

#[test]
fn a_payload_block_never_holds_parts_of_two_pages() {
    let mut bench = ready();
    let image = recipe(2).make();
    bench.send_metadata(&image).unwrap();
    bench.routine(0xFF00).unwrap();
    bench.request_download(1, 0, image.pages().len()).unwrap();
    bench.block(1, &image.pages()[..3000]).unwrap();
    let over = [&[0x36, 2], &image.pages()[3000..5000]].concat();
    check(&mut bench, &over, &[0x7F, 0x36, 0x31]);
    bench.block(2, &image.pages()[3000..4096]).unwrap();
}

#[test]
fn without_a_tester_the_bootloader_locks_and_leaves_and_keeps_durable_pages() {
    let mut bench = ready();
    let image = recipe(2).make();
    bench.send_metadata(&image).unwrap();
    bench.routine(0xFF00).unwrap();
    bench.request_download(1, 0, image.pages().len()).unwrap();
    bench.block(1, &image.pages()[..2048]).unwrap();
    bench.block(2, &image.pages()[2048..4096]).unwrap();
    bench.block(3, &image.pages()[4096..5000]).unwrap();
    bench.pass(Duration::from_millis(5100)).unwrap();
    check(&mut bench, &[0x36, 4, 0], &[0x7F, 0x36, 0x7F]);
    bench.enter_again();
    let progress = bench.progress().unwrap();
    assert_eq!((progress.state, progress.next_offset), (2, 4096));
    bench.pass(Duration::from_millis(5100)).unwrap();
    bench.pass(Duration::from_millis(5100)).unwrap();
    bench.follow_reset().unwrap();
    assert!(bench.booted.is_some());
    // After the reset the last page is not sure to be whole.
    bench.stage(&image).unwrap();
}

#[test]
fn functional_requests_do_only_what_the_profile_allows() {
    let mut bench = ready();
    assert_eq!(bench.functional(&[0x85, 0x82]).unwrap(), None);
    assert_eq!(bench.functional(&[0x28, 0x83, 1]).unwrap(), None);
    assert_eq!(bench.functional(&[0x11, 1]).unwrap(), None);
    assert_eq!(bench.reset, None);
    assert_eq!(bench.functional(&[0x10, 2]).unwrap(), None);
    let answer = bench.functional(&[0x22, 0xF1, 0x8C]).unwrap().unwrap();
    assert_eq!(answer[0], 0x62);
}

#[test]
fn long_jobs_are_announced() {
    let mut bench = ready();
    bench.pending_seen = 0;
    bench.stage_unlocked(&recipe(2).make()).unwrap();
    assert!(
        bench.pending_seen > 0,
        "an erase of 45 ms is longer than P2/2"
    );
}

#[test]
fn a_foreign_handover_is_not_answered() {
    use ecu_bootloader::boot::ResetCause;
    use ecu_bootloader::mailbox::Handover;
    let mut bench = fresh();
    let id = |raw| CanId::standard(raw).unwrap();
    let handover = Handover {
        request_id: id(0x123),
        response_id: id(0x7E8),
    };
    bench.start(ResetCause::Software, Some(handover)).unwrap();
    assert!(bench.booted.is_some());
}

#[test]
fn an_unprovisioned_ecu_answers_and_accepts_nothing() {
    let setup = Setup::new(true);
    let nor = nor::Nor::in_memory(setup.geometry.clone());
    let mut bench = Bench::on(crate::bench::board(setup.layout), nor);
    bench.power_cycle().unwrap();
    bench.enter_programming().unwrap();
    bench.unlock().unwrap();
    let image = recipe(2).make();
    assert_eq!(
        bench.send_metadata(&image),
        Err(Failed::Negative {
            request: vec![0x34, 0, 0x44, 0xF0],
            nrc: 0x70
        })
    );
    assert_eq!(bench.last_failure(), 0x0504);
    check(&mut bench, &[0x31, 1, 2, 0x13], &[0x7F, 0x31, 0x22]);
}

/// Random frames on the tester's identifiers, in and out of sessions: no panic, no misuse of the
/// flash, and the machine still answers.
#[test]
fn noise_on_the_bus_changes_nothing() {
    let mut bench = ready();
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..20_000 {
        let len = [8, 8, 8, 12, 64][(random() % 5) as usize];
        let mut data: Vec<u8> = (0..len).map(|_| random() as u8).collect();
        // Often something that looks like a request.
        if random() % 2 == 0 {
            data[0] = 3 + (random() % 5) as u8;
            data[1] = [0x10, 0x22, 0x27, 0x31, 0x34, 0x36, 0x37, 0x3E][(random() % 8) as usize];
        }
        if data[1] == 0x11 {
            continue;
        }
        let id = [0x7E0, 0x7DF][(random() % 2) as usize];
        let id = CanId::standard(id).unwrap();
        let frame = Frame::new(id, Format::Fd { brs: true }, &data).unwrap();
        bench.raw_frame(&frame).unwrap();
        if round % 100 == 0 {
            bench.pass(Duration::from_millis(700)).unwrap();
        }
        if bench.reset.is_some() {
            bench.follow_reset().unwrap();
            if bench.booted.is_some() {
                bench.enter_programming().unwrap();
            }
        }
    }
    bench.power_cycle().unwrap();
    bench.update(&recipe(2).make()).unwrap();
}

//! Every state of an endpoint against every event (clause 9.8.3), as a committed table.

use super::pair::{End, bytes, id};
use crate::can::{Format, Frame};
use crate::isotp::{Config, Endpoint};
use crate::time::{Duration, Instant};
use std::fmt::Write as _;
use std::string::String;

const NOW: Instant = Instant::from_millis(10);

fn frame(data: &[u8]) -> Frame {
    Frame::new(id(0x7E8), Format::Classical, data).unwrap()
}

fn endpoint() -> End {
    let mut config = Config::new(id(0x7E0), id(0x7E8));
    config.functional_id = Some(id(0x7DF));
    config.padding = None;
    config.block_size = 2;
    config.wft_max = 1;
    Endpoint::new(config, std::vec![0; 40], std::vec![0; 40])
}

fn settle(end: &mut End) {
    while end.poll_transmit(NOW).is_some() {}
    while end.poll_event().is_some() {}
}

type Step = (&'static str, fn(&mut End));

const FIRST: [u8; 8] = [0x10, 30, 1, 2, 3, 4, 5, 6];

fn states() -> [Step; 6] {
    [
        ("idle", |_| {}),
        ("awaiting flow control", |end| {
            end.send(NOW, &bytes(40)).unwrap();
            settle(end);
        }),
        ("awaiting flow control after WAIT", |end| {
            end.send(NOW, &bytes(40)).unwrap();
            settle(end);
            end.handle_frame(NOW, &frame(&[0x31, 0, 0]));
        }),
        ("sending, in STmin", |end| {
            end.send(NOW, &bytes(40)).unwrap();
            settle(end);
            end.handle_frame(NOW, &frame(&[0x30, 0, 20]));
            settle(end);
        }),
        ("receiving", |end| {
            end.handle_frame(NOW, &frame(&FIRST));
            settle(end);
        }),
        ("message held", |end| {
            end.handle_frame(NOW, &frame(&[2, 0xA, 0xB]));
            settle(end);
            end.hold();
        }),
    ]
}

fn events() -> [Step; 14] {
    [
        ("SF", |end| end.handle_frame(NOW, &frame(&[1, 0x3E]))),
        ("functional SF", |end| {
            let frame = Frame::new(id(0x7DF), Format::Classical, &[1, 0x3E]).unwrap();
            end.handle_frame(NOW, &frame);
        }),
        ("functional FF", |end| {
            let frame = Frame::new(id(0x7DF), Format::Classical, &FIRST).unwrap();
            end.handle_frame(NOW, &frame);
        }),
        ("FF", |end| end.handle_frame(NOW, &frame(&FIRST))),
        ("FF too long", |end| {
            end.handle_frame(NOW, &frame(&[0x10, 41, 0, 0, 0, 0, 0, 0]));
        }),
        ("CF 1", |end| {
            end.handle_frame(NOW, &frame(&[0x21, 0, 0, 0, 0, 0, 0, 0]));
        }),
        ("CF 1 short", |end| {
            end.handle_frame(NOW, &frame(&[0x21, 0]))
        }),
        ("CF 2", |end| {
            end.handle_frame(NOW, &frame(&[0x22, 0, 0, 0, 0, 0, 0, 0]));
        }),
        ("FC CTS", |end| end.handle_frame(NOW, &frame(&[0x30, 1, 0]))),
        ("FC WAIT", |end| {
            end.handle_frame(NOW, &frame(&[0x31, 0, 0]))
        }),
        ("FC OVFLW", |end| {
            end.handle_frame(NOW, &frame(&[0x32, 0, 0]))
        }),
        ("FC reserved", |end| {
            end.handle_frame(NOW, &frame(&[0x3F, 0, 0]))
        }),
        ("unknown", |end| {
            end.handle_frame(NOW, &frame(&[0x70, 0, 0]))
        }),
        ("1 s passes", |end| {
            end.handle_timeout(NOW + Duration::from_secs(1));
        }),
    ]
}

#[test]
fn states_and_events() {
    let mut table = String::new();
    for (state, prepare) in states() {
        writeln!(table, "{state}").unwrap();
        for (name, event) in events() {
            let mut end = endpoint();
            prepare(&mut end);
            event(&mut end);
            write!(table, "  {name:14}").unwrap();
            while let Some(event) = end.poll_event() {
                write!(table, " {event:?};").unwrap();
            }
            while let Some(frame) = end.poll_transmit(NOW) {
                write!(table, " -> {frame:?}").unwrap();
            }
            let (sending, receiving) = (end.is_sending(), end.is_receiving());
            let after = match (sending, receiving) {
                (false, false) => "idle",
                (true, false) => "sending",
                (false, true) => "receiving",
                (true, true) => "both",
            };
            writeln!(table, " [{after}]").unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

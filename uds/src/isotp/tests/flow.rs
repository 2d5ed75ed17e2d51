//! Flow control and timers, step by step.

use super::pair::{Pair, bytes, id, mirrored};
use crate::isotp::{Config, Direction, Endpoint, Error, Event, StMin};
use crate::time::{Duration, Instant};
use std::vec::Vec;

fn config() -> Config {
    Config::new(id(0x7E0), id(0x7E8))
}

fn failures(events: &[Event]) -> Vec<Error> {
    let error = |event: &Event| match event {
        Event::Failed(error) => Some(*error),
        _ => None,
    };
    events.iter().filter_map(error).collect()
}

/// When the frames of the sender's message were handed out, in µs.
fn times(pair: &Pair) -> Vec<u64> {
    let own = pair.trace.iter().filter(|(_, side, _)| *side == 0);
    own.map(|(at, ..)| at.as_micros()).collect()
}

#[test]
fn separation_time_is_kept_down_to_100_us() {
    for (raw, gap) in [(0xF1, 100), (0xF9, 900), (2, 2000), (0x80, 127_000)] {
        let config = Config {
            st_min: StMin::from_wire(raw),
            ..config()
        };
        let mut pair = Pair::new(mirrored(config), 100);
        pair.ends[0].send(Instant::ZERO, &bytes(60)).unwrap();
        pair.run();
        let times = times(&pair);
        assert!(
            times[1..].windows(2).all(|pair| pair[1] - pair[0] == gap),
            "{raw:#x}"
        );
    }
}

#[test]
fn separation_time_counts_from_the_confirmation_where_there_is_one() {
    let mut config = Config {
        st_min: StMin::from_wire(1),
        ..config()
    };
    config.timeouts.n_a = Some(Duration::from_secs(1));
    let mut pair = Pair::new(mirrored(config), 100);
    pair.confirm_after = Duration::from_millis(3);
    pair.ends[0].send(Instant::ZERO, &bytes(60)).unwrap();
    pair.run();
    assert_eq!(pair.seen[1].messages, [bytes(60)]);
    assert!(
        times(&pair)[2..]
            .windows(2)
            .all(|pair| pair[1] - pair[0] == 4000)
    );
}

#[test]
fn a_flow_control_follows_every_block() {
    let config = Config {
        block_size: 3,
        ..config()
    };
    let mut pair = Pair::new(mirrored(config), 100);
    // FF 6, then 10 CF of 7: blocks of 3, 3, 3, 1.
    pair.ends[0].send(Instant::ZERO, &bytes(76)).unwrap();
    pair.run();
    assert_eq!(
        pair.trace.iter().filter(|(_, side, _)| *side == 1).count(),
        4
    );
    assert_eq!(pair.seen[1].messages, [bytes(76)]);
}

#[test]
fn a_held_message_puts_the_next_one_off_by_wait() {
    let mut pair = Pair::new(mirrored(config()), 100);
    pair.ends[0].send(Instant::ZERO, &[1, 2, 3]).unwrap();
    pair.run();
    pair.ends[1].hold();
    pair.ends[0].send(pair.now, &bytes(50)).unwrap();
    let first = pair.ends[0].poll_transmit(pair.now).unwrap();
    pair.ends[1].handle_frame(pair.now, &first);
    let wait = pair.ends[1].poll_transmit(pair.now).unwrap();
    assert_eq!(wait.data()[0], 0x31);
    assert_eq!(pair.ends[1].received(), [1, 2, 3]);
    pair.ends[0].handle_frame(pair.now, &wait);
    pair.ends[1].release();
    pair.run();
    assert_eq!(pair.seen[1].messages, [&[1, 2, 3][..], &bytes(50)]);
    assert!(failures(&pair.seen[0].events).is_empty());

    // A release without a hold disturbs no message that comes in.
    pair.ends[0].send(pair.now, &bytes(50)).unwrap();
    let first = pair.ends[0].poll_transmit(pair.now).unwrap();
    pair.ends[1].handle_frame(pair.now, &first);
    pair.ends[1].release();
    pair.run();
    assert_eq!(pair.seen[1].messages.last().unwrap(), &bytes(50));
}

#[test]
fn waiting_ends_after_wft_max_at_both_ends() {
    let config = Config {
        wft_max: 3,
        ..config()
    };
    let mut pair = Pair::new(mirrored(config), 100);
    pair.ends[0].send(Instant::ZERO, &[1]).unwrap();
    pair.run();
    pair.ends[1].hold();
    pair.ends[0].send(pair.now, &bytes(50)).unwrap();
    pair.run();
    assert_eq!(
        failures(&pair.seen[1].events),
        [Error::WaitOverrun(Direction::Receive)]
    );
    assert_eq!(failures(&pair.seen[0].events), [Error::TimeoutBs]);
    assert_eq!(pair.ends[1].received(), [1], "what is held stays");
    let waits = pair
        .trace
        .iter()
        .filter(|(_, _, frame)| frame.data()[0] == 0x31);
    assert_eq!(waits.count(), 3);

    // A sender that meets a more patient receiver gives up by itself.
    let [sender, mut receiver] = mirrored(config);
    receiver.wft_max = 200;
    let mut pair = Pair::new([sender, receiver], 100);
    pair.ends[0].send(Instant::ZERO, &[1]).unwrap();
    pair.run();
    pair.ends[1].hold();
    pair.ends[0].send(pair.now, &bytes(50)).unwrap();
    pair.run();
    assert_eq!(
        failures(&pair.seen[0].events),
        [Error::WaitOverrun(Direction::Send)]
    );
}

#[test]
fn a_message_beyond_the_storage_is_refused_by_overflow() {
    let mut pair = Pair::new(mirrored(config()), 100);
    let other = Pair::new(mirrored(config()), 5000);
    let [sender, _] = other.ends;
    pair.ends[0] = sender;
    pair.ends[0].send(Instant::ZERO, &bytes(4999)).unwrap();
    pair.run();
    assert_eq!(failures(&pair.seen[0].events), [Error::PeerOverflow]);
    assert_eq!(
        failures(&pair.seen[1].events),
        [Error::TooLong { len: 4999 }]
    );
}

#[test]
fn a_silent_peer_ends_a_message_after_one_second() {
    let mut pair = Pair::new(mirrored(config()), 100);
    pair.faults.loss = 1000;
    pair.ends[0].send(Instant::ZERO, &bytes(50)).unwrap();
    pair.run();
    assert_eq!(failures(&pair.seen[0].events), [Error::TimeoutBs]);
    assert_eq!(pair.now, Instant::from_millis(1000));

    let mut pair = Pair::new(mirrored(config()), 100);
    pair.ends[0].send(Instant::ZERO, &bytes(50)).unwrap();
    let first = pair.ends[0].poll_transmit(pair.now).unwrap();
    pair.ends[0].cancel_send();
    pair.ends[1].handle_frame(pair.now, &first);
    pair.run();
    assert_eq!(failures(&pair.seen[1].events), [Error::TimeoutCr]);
    assert_eq!(pair.now, Instant::from_millis(1000));
}

#[test]
fn a_frame_that_is_never_confirmed_ends_its_message() {
    let mut config = config();
    config.timeouts.n_a = Some(Duration::from_millis(100));
    let mut pair = Pair::new(mirrored(config), 100);
    pair.confirm_after = Duration::from_secs(2);
    pair.ends[0].send(Instant::ZERO, &bytes(50)).unwrap();
    pair.run();
    assert_eq!(
        failures(&pair.seen[0].events),
        [Error::TimeoutA(Direction::Send)]
    );
    assert_eq!(
        failures(&pair.seen[1].events),
        [Error::TimeoutA(Direction::Receive)]
    );
}

/// A controller that takes no frame: only what waits for it fails.
#[test]
fn a_blocked_controller_fails_what_was_to_be_sent() {
    let now = Instant::ZERO;
    let [tester, ecu] = &mut Pair::new(mirrored(config()), 100).ends;
    let events = |end: &mut Endpoint<Vec<u8>, Vec<u8>>| {
        end.on_blocked();
        let events: Vec<_> = core::iter::from_fn(|| end.poll_event()).collect();
        failures(&events)
    };
    assert_eq!(events(tester), []);
    ecu.send(now, &bytes(60)).unwrap();
    let first = ecu.poll_transmit(now).unwrap();
    tester.handle_frame(now, &first);
    // The FlowControl is not handed out.
    assert_eq!(events(tester), [Error::TimeoutA(Direction::Receive)]);
    tester.handle_frame(now, &first);
    let flow = tester.poll_transmit(now).unwrap();
    assert_eq!(events(tester), [], "it waits for the peer alone");
    ecu.handle_frame(now, &flow);
    assert!(ecu.poll_transmit(now).is_some());
    assert_eq!(events(ecu), [Error::TimeoutA(Direction::Send)]);
    assert!(!ecu.is_sending() && tester.is_receiving());
}

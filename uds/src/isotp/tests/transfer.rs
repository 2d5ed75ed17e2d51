//! Every length over every kind of frame and address.

use super::pair::{Pair, bytes, id, mirrored};
use crate::can::Format;
use crate::isotp::{Addressing, Config, Event, SendError, StMin, TxDl};
use crate::time::Instant;
use proptest::prelude::*;

const EXTENDED: Addressing = Addressing::Extended {
    tx: 0x10,
    rx: 0xF1,
    functional: 0x33,
};
const MIXED: Addressing = Addressing::Mixed { extension: 0x99 };

fn modes() -> impl Iterator<Item = Config> {
    let classical = Config::new(id(0x7E0), id(0x7E8));
    let fd = Config::fd(id(0x7E0), id(0x7E8));
    let dls = [8, 12, 24, 64].map(|dl| Config {
        tx_dl: TxDl::new(dl).unwrap(),
        ..fd
    });
    [
        classical,
        Config {
            padding: None,
            ..classical
        },
    ]
    .into_iter()
    .chain(dls)
    .flat_map(|config| {
        [Addressing::Normal, EXTENDED, MIXED].map(|addressing| Config {
            addressing,
            functional_id: Some(id(0x7DF)),
            ..config
        })
    })
}

/// Sends both ways at once; each end must see exactly the message and nothing else.
fn check(config: Config, len: usize) {
    let mut pair = Pair::new(mirrored(config), 8300);
    let message = bytes(len);
    for end in &mut pair.ends {
        end.send(Instant::ZERO, &message).unwrap();
    }
    pair.run();
    for seen in &pair.seen {
        assert_eq!(seen.messages, [&message[..]], "{config:?} {len}");
        let failed = seen.events.iter().any(|e| matches!(e, Event::Failed(_)));
        assert!(!failed, "{config:?} {len} {:?}", seen.events);
        assert!(seen.events.contains(&Event::Sent { functional: false }));
    }
}

#[test]
fn every_length_around_the_limits_in_every_mode() {
    for config in modes() {
        (1..=150).for_each(|len| check(config, len));
        (4090..=4100).for_each(|len| check(config, len));
        check(config, 8300);
    }
}

#[test]
fn frames_have_the_lengths_that_the_standard_demands() {
    for config in modes() {
        for len in [1, 6, 7, 8, 20, 62, 63, 500, 5000] {
            let mut pair = Pair::new(mirrored(config), 8300);
            pair.ends[0].send(Instant::ZERO, &bytes(len)).unwrap();
            pair.run();
            for (_, side, frame) in &pair.trace {
                let data = frame.data();
                assert!(config.padding.is_none() || data.len() >= 8);
                assert!(data.len() <= config.frame_len());
                let pci = data[config.addressing.overhead()];
                if *side == 0 && pci >> 4 == 1 {
                    assert_eq!(data.len(), config.frame_len());
                }
            }
        }
    }
}

#[test]
fn consecutive_frames_come_back_to_back_without_separation_time() {
    let mut pair = Pair::new(mirrored(Config::new(id(0x7E0), id(0x7E8))), 8300);
    pair.ends[0].send(Instant::ZERO, &bytes(706)).unwrap();
    pair.run();
    let cts = pair.trace.iter().find(|(_, side, _)| *side == 1).unwrap().0;
    let together = pair
        .trace
        .iter()
        .filter(|(at, side, _)| *side == 0 && *at > cts);
    let times: std::collections::BTreeSet<_> = together.map(|(at, ..)| *at).collect();
    assert_eq!(times.len(), 1, "all in one burst");
    assert_eq!(pair.trace.len(), 1 + 1 + 100, "FF, FC and the burst");
}

#[test]
fn functional_messages_pass_between_the_frames_of_a_physical_one() {
    for config in modes() {
        let config = Config {
            block_size: 2,
            st_min: StMin::from_wire(5),
            ..config
        };
        let mut pair = Pair::new(mirrored(config), 8300);
        pair.ends[0].send(Instant::ZERO, &bytes(1000)).unwrap();
        let frame = pair.ends[0].poll_transmit(pair.now).unwrap();
        pair.ends[1].handle_frame(pair.now, &frame);
        pair.ends[0]
            .send_functional(pair.now, &[0x3E, 0x80])
            .unwrap();
        pair.run();
        assert_eq!(pair.seen[1].messages, [&[0x3E, 0x80][..], &bytes(1000)]);
        assert!(
            pair.seen[1]
                .events
                .contains(&Event::Received { functional: true })
        );
        assert!(
            pair.seen[0]
                .events
                .contains(&Event::Sent { functional: true })
        );
    }
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    let mut end = Pair::new(mirrored(Config::new(id(1), id(2))), 10).ends;
    let now = Instant::ZERO;
    assert_eq!(end[0].send(now, &[]), Err(SendError::Empty));
    let too_long = SendError::TooLong { len: 11, room: 10 };
    assert_eq!(end[0].send(now, &[0; 11]), Err(too_long));
    assert_eq!(
        end[0].send_functional(now, &[1]),
        Err(SendError::NoFunctionalId)
    );
    assert_eq!(end[0].send(now, &[0; 10]), Ok(()));
    assert_eq!(end[0].send(now, &[1]), Err(SendError::Busy));
    let config = Config {
        functional_id: Some(id(0x7DF)),
        ..*end[0].config()
    };
    let mut end = Pair::new([config, config], 100).ends;
    let long = SendError::NotSingleFrame { len: 8, room: 7 };
    assert_eq!(end[0].send_functional(now, &[0; 8]), Err(long));
}

fn any_config() -> impl Strategy<Value = Config> {
    let addressing = prop_oneof![Just(Addressing::Normal), Just(EXTENDED), Just(MIXED)];
    let dl = prop::sample::select(std::vec![8, 12, 16, 20, 24, 32, 48, 64]);
    (
        addressing,
        dl,
        any::<bool>(),
        any::<Option<u8>>(),
        0..10u8,
        any::<u8>(),
        any::<bool>(),
    )
        .prop_map(
            |(addressing, dl, fd, padding, block_size, st_min, confirm)| {
                let mut config = Config {
                    addressing,
                    padding,
                    block_size,
                    st_min: StMin::from_wire(st_min),
                    tx_dl: TxDl::new(dl).unwrap(),
                    ..Config::new(id(0x7E0), id(0x7E8))
                };
                if fd {
                    config.format = Format::Fd { brs: false };
                }
                if confirm {
                    config.timeouts.n_a = Some(config.timeouts.n_bs);
                }
                config
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_message_arrives_over_any_configuration(config in any_config(), len in 1..=8300usize) {
        check(config, len);
    }
}

/// Without a gap, more frames are ready than may be unconfirmed: nothing is due until then.
#[test]
fn a_full_window_waits_for_its_confirmations() {
    let mut config = Config::new(id(0x7E0), id(0x7E8));
    config.timeouts.n_a = Some(config.timeouts.n_bs);
    check(config, 4000);
}

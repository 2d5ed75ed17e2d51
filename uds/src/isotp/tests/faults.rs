//! A faulty line: a message arrives whole or is reported as failed, and the ends recover.

use super::pair::{Faults, Pair, bytes, id, mirrored};
use crate::isotp::{Config, Event};

fn check(faults: Faults) {
    let mut arrived = 0;
    for seed in 1..=150u16 {
        let mut config = Config::new(id(0x7E0), id(0x7E8));
        config.block_size = u8::try_from(seed % 9).unwrap();
        let mut pair = Pair::new(mirrored(config), 4096).with_faults(faults, u64::from(seed));
        let message = bytes(20 + (usize::from(seed) * 37) % 2000);
        pair.ends[0].send(pair.now, &message).unwrap();
        pair.run();
        // A SN counts to 15 only: 16 frames lost in a row would go unnoticed, and 16 late ones.
        // The faults here are rarer than that.
        for received in &pair.seen[1].messages {
            assert_eq!(received, &message, "seed {seed}");
            arrived += 1;
        }
        let sent = pair.seen[0]
            .events
            .contains(&Event::Sent { functional: false });
        let failed = pair.seen.iter().any(|seen| {
            let failed = |event: &Event| matches!(event, Event::Failed(_));
            seen.events.iter().any(failed)
        });
        assert!(sent || failed, "seed {seed}");
        assert!(!pair.seen[1].messages.is_empty() || failed, "seed {seed}");

        // Whatever happened, the next message gets through a line that works again.
        pair.faults = Faults::default();
        pair.ends[0].send(pair.now, &[0x3E, 0]).unwrap();
        pair.run();
        assert_eq!(
            pair.seen[1].messages.last().unwrap(),
            &[0x3E, 0],
            "seed {seed}"
        );
    }
    assert!(
        (10..150).contains(&arrived),
        "the faults bite now and then: {arrived}"
    );
}

#[test]
fn frames_are_lost() {
    check(Faults {
        loss: 8,
        ..Faults::default()
    });
}

#[test]
fn frames_are_repeated() {
    check(Faults {
        duplicate: 8,
        ..Faults::default()
    });
}

#[test]
fn frames_change_places() {
    check(Faults {
        reorder: 8,
        ..Faults::default()
    });
}

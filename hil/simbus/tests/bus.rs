//! The bus seen from its nodes: order, times, back-pressure, faults.

use proptest::prelude::*;
use simbus::{Bus, BusConfig, Delivery, EnqueueError, Faults, FrameBits, NodeId, Outcome};
use uds::can::{CanId, Format, Frame};
use uds::time::{Duration, Instant};

const CLASSICAL: BusConfig = BusConfig::classical(500_000);
const FOREVER: Instant = Instant::from_micros(u64::MAX / 2000);

fn frame(id: CanId, data: &[u8]) -> Frame {
    Frame::new(id, Format::Classical, data).unwrap()
}

fn standard(raw: u16) -> Frame {
    frame(CanId::standard(raw).unwrap(), &[1, 2, 3])
}

fn extended(raw: u32) -> Frame {
    frame(CanId::extended(raw).unwrap(), &[1, 2, 3])
}

fn micros(frame: &Frame, config: &BusConfig) -> u64 {
    FrameBits::of(frame).nanos(config).div_ceil(1000)
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|delivery| delivery.frame.id().to_string())
        .collect()
}

#[test]
fn the_dominant_identifier_wins() {
    let mut bus = Bus::new(BusConfig::fd(500_000, 2_000_000));
    let fd = Frame::new(
        CanId::standard(0x100).unwrap(),
        Format::Fd { brs: true },
        &[0; 64],
    );
    let frames = [
        standard(0x101),
        extended(0x100 << 18),
        fd.unwrap(),
        standard(0x0FF),
        extended(0x0FF << 18 | 1),
        standard(0x100),
        extended(0x0FF << 18),
    ];
    for frame in frames {
        let node = bus.attach();
        bus.enqueue(node, frame, Instant::ZERO).unwrap();
    }
    let order = ids(&bus.advance(FOREVER));
    let expected = [
        "0FF", "03FC0000", "03FC0001", "100", "100", "04000000", "101",
    ];
    assert_eq!(order, expected);
}

#[test]
fn frames_follow_each_other_after_the_intermission() {
    let mut bus = Bus::new(CLASSICAL);
    let (a, b) = (bus.attach(), bus.attach());
    let one = micros(&standard(0x10), &CLASSICAL);
    bus.enqueue(a, standard(0x10), Instant::from_micros(100))
        .unwrap();
    assert_eq!(bus.poll_timeout(), Some(Instant::from_micros(100 + one)));
    assert_eq!(bus.poll(Instant::from_micros(100 + one - 1)), None);
    // While the first is on the bus: it does not interrupt, although it is dominant.
    bus.enqueue(b, standard(0x0), Instant::from_micros(110))
        .unwrap();
    let first = bus.poll(Instant::from_micros(100 + one)).unwrap();
    assert_eq!((first.from, first.at), (a, Instant::from_micros(100 + one)));
    let two = 100 + one + 6 + micros(&standard(0x0), &CLASSICAL);
    assert_eq!(bus.poll_timeout(), Some(Instant::from_micros(two)));
    assert_eq!(bus.drained_at(), Some(Instant::from_micros(two)));
    let second = bus.poll(Instant::from_micros(two)).unwrap();
    assert_eq!((second.from, second.at), (b, Instant::from_micros(two)));
    assert_eq!(
        (bus.poll_timeout(), bus.drained_at(), bus.backlog()),
        (None, None, 0)
    );
    assert_eq!(bus.stats().busy, Duration::from_micros(two + 6 - 100));
}

#[test]
fn who_comes_later_than_the_start_does_not_arbitrate() {
    let mut bus = Bus::new(CLASSICAL);
    let (a, b) = (bus.attach(), bus.attach());
    bus.enqueue(a, standard(0x700), Instant::from_micros(10))
        .unwrap();
    bus.enqueue(b, standard(0x001), Instant::from_micros(11))
        .unwrap();
    assert_eq!(ids(&bus.advance(FOREVER)), ["700", "001"]);
}

#[test]
fn a_full_queue_pushes_back() {
    let mut bus = Bus::new(BusConfig {
        queue: 2,
        ..CLASSICAL
    });
    let node = bus.attach();
    bus.enqueue(node, standard(1), Instant::ZERO).unwrap();
    bus.enqueue(node, standard(2), Instant::ZERO).unwrap();
    assert_eq!(
        bus.enqueue(node, standard(3), Instant::ZERO),
        Err(EnqueueError::Full)
    );
    assert_eq!(bus.free_slots(node), 0);
    let first = bus.poll_timeout().unwrap();
    assert!(bus.poll(first).is_some());
    assert_eq!(bus.free_slots(node), 1);
    bus.enqueue(node, standard(3), first).unwrap();
}

#[test]
fn a_classical_bus_takes_no_fd_frame() {
    let mut bus = Bus::new(CLASSICAL);
    let node = bus.attach();
    let fd = Frame::new(CanId::standard(1).unwrap(), Format::Fd { brs: false }, &[]).unwrap();
    assert_eq!(
        bus.enqueue(node, fd, Instant::ZERO),
        Err(EnqueueError::NotFd)
    );
}

#[test]
fn a_detached_node_leaves_only_the_frame_on_the_bus() {
    let mut bus = Bus::new(CLASSICAL);
    let (a, b) = (bus.attach(), bus.attach());
    bus.enqueue(a, standard(1), Instant::ZERO).unwrap();
    bus.enqueue(a, standard(2), Instant::ZERO).unwrap();
    bus.enqueue(b, standard(3), Instant::ZERO).unwrap();
    bus.detach(a, Instant::from_micros(1));
    assert_eq!(
        bus.enqueue(a, standard(1), Instant::ZERO),
        Err(EnqueueError::NoSuchNode)
    );
    assert_eq!(bus.nodes().collect::<Vec<NodeId>>(), [b]);
    assert_eq!(ids(&bus.advance(FOREVER)), ["001", "003"]);
}

fn flood(faults: Faults, seed: u64) -> (Bus, Vec<Delivery>) {
    let mut bus = Bus::new(BusConfig {
        faults,
        seed,
        queue: 1000,
        ..CLASSICAL
    });
    let node = bus.attach();
    for _ in 0..1000 {
        bus.enqueue(node, standard(1), Instant::ZERO).unwrap();
    }
    let deliveries = bus.advance(FOREVER);
    (bus, deliveries)
}

#[test]
fn a_destroyed_frame_is_sent_again_and_costs_time() {
    let faults = Faults {
        corrupt_ppm: 100_000,
        ..Faults::NONE
    };
    let (bus, deliveries) = flood(faults, 1);
    assert_eq!(deliveries.len(), 1000);
    assert!((60..160).contains(&bus.stats().errors), "{:?}", bus.stats());
    let (clean, _) = flood(Faults::NONE, 1);
    assert!(bus.stats().busy > clean.stats().busy);
    assert_eq!(clean.stats().errors, 0);
}

#[test]
fn a_dropped_frame_is_completed_but_not_received() {
    let faults = Faults {
        drop_ppm: 100_000,
        ..Faults::NONE
    };
    let (bus, deliveries) = flood(faults, 7);
    let lost = deliveries
        .iter()
        .filter(|d| d.outcome == Outcome::Lost)
        .count();
    assert_eq!((deliveries.len(), bus.stats().lost), (1000, lost as u64));
    assert!((60..160).contains(&lost), "{lost}");
    assert_eq!(
        flood(faults, 7).1,
        deliveries,
        "the same seed, the same faults"
    );
    assert_ne!(flood(faults, 8).1, deliveries);
}

#[test]
fn a_saturated_bus_reaches_the_computed_limit() {
    for config in [CLASSICAL, BusConfig::fd(500_000, 2_000_000)] {
        let mut bus = Bus::new(BusConfig {
            queue: 200,
            ..config
        });
        let node = bus.attach();
        let (format, len) = match config.data_bps {
            Some(_) => (Format::Fd { brs: true }, 64),
            None => (Format::Classical, 8),
        };
        // Alternating bits: hardly any stuff bit.
        let frame =
            Frame::new(CanId::standard(0x2AA).unwrap(), format, &[0x55; 64][..len]).unwrap();
        for _ in 0..200 {
            bus.enqueue(node, frame, Instant::ZERO).unwrap();
        }
        let last = bus.advance(FOREVER).last().unwrap().at;
        let rate =
            200.0 * (len as f64 - 1.0) / Duration::from_micros(last.as_micros()).as_secs_f64();
        let limit = simbus::limits::isotp(&config, simbus::limits::IdKind::Standard);
        assert!(
            rate < limit * 1.001 && rate > limit * 0.95,
            "{rate} of {limit}"
        );
    }
}

proptest! {
    /// Whatever is sent when: each node's frames arrive in order, none overlap, none is missing,
    /// and small steps of time give the same as one large step.
    #[test]
    fn deliveries_do_not_depend_on_the_steps(
        mut sends in prop::collection::vec((0usize..3, 0u16..8, 0u64..3000), 0..40),
        step in 1u64..700,
    ) {
        sends.sort_by_key(|(_, _, at)| *at);
        let config = BusConfig { queue: 40, ..CLASSICAL };
        let run = |stepped: bool| {
            let mut bus = Bus::new(config);
            let nodes = [bus.attach(), bus.attach(), bus.attach()];
            let mut all = Vec::new();
            let mut now = 0;
            for (node, id, at) in &sends {
                while stepped && now + step < *at {
                    now += step;
                    all.extend(bus.advance(Instant::from_micros(now)));
                }
                bus.enqueue(nodes[*node], standard(*id), Instant::from_micros(*at)).unwrap();
            }
            while let Some(next) = bus.poll_timeout() {
                all.extend(bus.advance(next));
            }
            all
        };
        let all = run(false);
        prop_assert_eq!(&all, &run(true));
        prop_assert_eq!(all.len(), sends.len());
        for pair in all.windows(2) {
            let length = micros(&pair[1].frame, &config);
            prop_assert!(pair[1].at.as_micros() >= pair[0].at.as_micros() + length);
        }
    }
}

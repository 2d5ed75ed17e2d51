//! A hub with real sockets: two ends through it, back-pressure, filters, nodes that come and go.

use can_link::{Bus, ChannelOptions, FrameLink, IsoTpChannel, LinkError, LinkOptions};
use rig::hub::{Hub, HubConfig, RunningHub};
use simbus::{BusConfig, Faults};
use std::path::Path;
use uds::can::{CanId, Format, Frame};
use uds::isotp::Config;

const FD: BusConfig = BusConfig::fd(1_000_000, 8_000_000);

fn id(raw: u16) -> CanId {
    CanId::standard(raw).unwrap()
}

fn frame(raw: u16, data: &[u8]) -> Frame {
    Frame::new(id(raw), Format::Classical, data).unwrap()
}

fn config(dir: &Path, bus: BusConfig) -> HubConfig {
    HubConfig {
        bus,
        listen: dir.join("bus.sock"),
        log: Some(dir.join("bus.log")),
    }
}

fn link(dir: &Path) -> String {
    format!("bus:{}", dir.join("bus.sock").display())
}

fn open(dir: &Path) -> FrameLink {
    let options = LinkOptions {
        fd: true,
        filters: None,
    };
    FrameLink::open(&link(dir), &options).unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
        .collect()
}

#[tokio::test]
async fn sixty_four_kilobytes_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::spawn(config(dir.path(), FD)).unwrap();
    let (a, b) = (
        Bus::open(&link(dir.path()), true).unwrap(),
        Bus::open(&link(dir.path()), true).unwrap(),
    );
    let channel = |bus, tx, rx| {
        IsoTpChannel::open(bus, Config::fd(id(tx), id(rx)), &ChannelOptions::default()).unwrap()
    };
    let (tester, ecu) = (channel(&a, 0x7E0, 0x7E8), channel(&b, 0x7E8, 0x7E0));
    let message = pattern(65_535);
    let (sent, received) = tokio::join!(tester.send(&message), ecu.recv());
    sent.unwrap();
    assert_eq!(received.unwrap(), message);
    let (sent, received) = tokio::join!(ecu.send(&message), tester.recv());
    sent.unwrap();
    assert_eq!(received.unwrap(), message);
    let summary = hub.stop().unwrap();
    assert_eq!(summary.frames, 2 * (1 + 1040 + 1));
    assert_eq!(
        (summary.overruns, summary.rejected, summary.nodes),
        (0, 0, 2)
    );
    let log = std::fs::read_to_string(dir.path().join("bus.log")).unwrap();
    assert_eq!(log.lines().count(), 2084);
    assert!(
        log.lines().next().unwrap().contains(") bus 7E0##11000"),
        "{log:.80}"
    );
}

#[tokio::test]
async fn a_sender_waits_for_the_bus_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::spawn(config(dir.path(), BusConfig::classical(1_000_000))).unwrap();
    let (sender, receiver) = (open(dir.path()), open(dir.path()));
    receiver.set_filters(None).unwrap();
    let mut taken = 0;
    while sender.try_send(&frame(1, &[0; 8])).unwrap() {
        taken += 1;
        assert!(taken < 500, "the hub reads without end");
    }
    sender.sendable().await.unwrap();
    for n in 0..300u16 {
        sender.send(&frame(2, &n.to_be_bytes())).await.unwrap();
    }
    let mut next = 0u16;
    while next < 300 {
        let received = receiver.recv().await.unwrap().frame;
        if received.id() == id(2) {
            assert_eq!(received.data(), next.to_be_bytes());
            next += 1;
        }
    }
    let summary = hub.stop().unwrap();
    assert_eq!(summary.frames, 300 + taken);
}

#[tokio::test]
async fn filters_are_the_hubs() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::spawn(config(dir.path(), FD)).unwrap();
    let (sender, receiver, witness) = (open(dir.path()), open(dir.path()), open(dir.path()));
    receiver.set_filters(Some(&[id(3)])).unwrap();
    // The hub has read the filter when it has read the frame that comes behind it.
    receiver.send(&frame(0x10, &[])).await.unwrap();
    assert_eq!(witness.recv().await.unwrap().frame.id(), id(0x10));
    for raw in [1, 2, 3] {
        sender.send(&frame(raw, &[])).await.unwrap();
        assert_eq!(witness.recv().await.unwrap().frame.id(), id(raw));
    }
    assert_eq!(receiver.recv().await.unwrap().frame.id(), id(3));
    hub.stop().unwrap();
}

#[tokio::test]
async fn an_fd_frame_on_a_classical_bus_is_refused_and_nodes_may_leave() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::spawn(config(dir.path(), BusConfig::classical(500_000))).unwrap();
    let (sender, receiver) = (open(dir.path()), open(dir.path()));
    drop(open(dir.path()));
    let fd = Frame::new(id(1), Format::Fd { brs: true }, &[0; 64]).unwrap();
    sender.send(&fd).await.unwrap();
    sender.send(&frame(1, &[])).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().frame, frame(1, &[]));
    let summary = hub.stop().unwrap();
    assert_eq!((summary.rejected, summary.nodes, summary.frames), (1, 3, 1));
    let gone = receiver.recv().await;
    assert!(matches!(gone, Err(LinkError::Closed { .. })), "{gone:?}");
}

#[tokio::test]
async fn faults_come_from_the_seed() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults {
        drop_ppm: 200_000,
        corrupt_ppm: 200_000,
    };
    let bus = BusConfig {
        faults,
        seed: 5,
        ..BusConfig::classical(1_000_000)
    };
    let hub = RunningHub::spawn(config(dir.path(), bus)).unwrap();
    let (sender, receiver) = (open(dir.path()), open(dir.path()));
    for n in 0..100u8 {
        sender.send(&frame(1, &[n])).await.unwrap();
    }
    // Whatever else is lost: one of these arrives, behind all the others.
    let mut received = Vec::new();
    loop {
        sender.send(&frame(2, &[])).await.unwrap();
        let got = receiver.recv().await.unwrap().frame;
        if got.id() == id(2) {
            break;
        }
        received.push(got.data()[0]);
    }
    let summary = hub.stop().unwrap();
    assert!(summary.lost > 0 && summary.errors > 0, "{summary:?}");
    assert!(
        received.is_sorted() && (50..100).contains(&received.len()),
        "{received:?}"
    );
}

#[test]
fn a_place_is_taken_once_and_a_dead_hubs_place_again() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::bind(config(dir.path(), FD)).unwrap();
    let error = Hub::bind(config(dir.path(), FD)).unwrap_err();
    assert!(format!("{error:#}").contains("another hub"), "{error:#}");
    drop(hub); // Without running: its socket stays behind, as after kill -9.
    assert!(dir.path().join("bus.sock").exists());
    RunningHub::spawn(config(dir.path(), FD))
        .unwrap()
        .stop()
        .unwrap();
    assert!(!dir.path().join("bus.sock").exists());
    std::fs::write(dir.path().join("bus.sock"), "a file").unwrap();
    assert!(Hub::bind(config(dir.path(), FD)).is_err());
    assert!(
        dir.path().join("bus.sock").exists(),
        "a file is never removed"
    );
}

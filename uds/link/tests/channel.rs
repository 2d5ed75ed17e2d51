//! Channels over a pair of links: messages both ways, several at once, failures.

use can_link::{
    Bus, ChannelError, ChannelEvent, ChannelOptions, FrameLink, IsoTpChannel, LinkError,
    LinkOptions,
};
use uds::can::{CanId, Format, Frame};
use uds::isotp::{Config, Direction, Error, SendError, StMin};
use uds::time::Duration;

fn id(raw: u16) -> CanId {
    CanId::standard(raw).unwrap()
}

fn pair() -> (Bus, Bus) {
    let (a, b) = FrameLink::pair().unwrap();
    (Bus::new(a), Bus::new(b))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
        .collect()
}

fn server() -> ChannelOptions {
    ChannelOptions {
        receive_functional: true,
        ..ChannelOptions::default()
    }
}

fn config(tx: u16, rx: u16) -> Config {
    let mut config = Config::new(id(tx), id(rx));
    config.functional_id = Some(id(0x7DF));
    config
}

fn connect(a: &Bus, b: &Bus, request: u16, response: u16) -> (IsoTpChannel, IsoTpChannel) {
    let tester = IsoTpChannel::open(a, config(request, response), &ChannelOptions::default());
    let ecu = IsoTpChannel::open(b, config(response, request), &server());
    (tester.unwrap(), ecu.unwrap())
}

#[tokio::test]
async fn messages_of_many_lengths_both_ways() {
    let (a, b) = pair();
    let (tester, ecu) = connect(&a, &b, 0x7E0, 0x7E8);
    for len in [1, 7, 8, 62, 63, 4095, 4096, 65_536] {
        let message = pattern(len);
        let (sent, received) = tokio::join!(tester.send(&message), ecu.recv());
        sent.unwrap();
        assert_eq!(received.unwrap(), message);
        let (sent, received) = tokio::join!(ecu.send(&message), tester.recv());
        sent.unwrap();
        assert_eq!(received.unwrap(), message);
    }
}

#[tokio::test]
async fn several_channels_share_a_bus_at_a_time() {
    let (a, b) = pair();
    let channels: Vec<_> = (0..6)
        .map(|n| connect(&a, &b, 0x700 + n, 0x780 + n))
        .collect();
    let transfers = channels
        .iter()
        .enumerate()
        .map(|(n, (tester, ecu))| async move {
            let message = vec![n.to_le_bytes()[0]; 5000 + n];
            for _ in 0..5 {
                let (sent, received) = tokio::join!(tester.send(&message), ecu.recv());
                sent.unwrap();
                assert_eq!(received.unwrap(), message);
            }
        });
    for transfer in transfers.collect::<Vec<_>>() {
        transfer.await;
    }
    let all = channels.into_iter().map(|(tester, ecu)| {
        tokio::spawn(async move {
            let message = pattern(20_000);
            let (sent, received) = tokio::join!(tester.send(&message), ecu.recv());
            sent.unwrap();
            assert_eq!(received.unwrap(), message);
        })
    });
    for transfer in all.collect::<Vec<_>>() {
        transfer.await.unwrap();
    }
}

#[tokio::test]
async fn functional_requests_reach_every_ecu_and_no_tester() {
    let (a, b) = pair();
    let (tester, first) = connect(&a, &b, 0x7E0, 0x7E8);
    let (_other, second) = connect(&a, &b, 0x7E1, 0x7E9);
    tester.send_functional(&[0x3E, 0x80]).await.unwrap();
    let expected = ChannelEvent::Received {
        pdu: vec![0x3E, 0x80],
        functional: true,
    };
    assert_eq!(first.next_event().await.unwrap(), expected);
    assert_eq!(second.next_event().await.unwrap(), expected);
    let long = tester.send_functional(&[0; 100]).await;
    assert!(matches!(
        long,
        Err(ChannelError::Refused(SendError::NotSingleFrame { .. }))
    ));
}

#[tokio::test]
async fn the_beginning_of_a_message_is_an_event() {
    let (a, b) = pair();
    let (tester, ecu) = connect(&a, &b, 0x7E0, 0x7E8);
    ecu.send(&pattern(100)).await.unwrap();
    assert_eq!(
        tester.next_event().await.unwrap(),
        ChannelEvent::Started { len: 100 }
    );
    assert_eq!(tester.recv().await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_silent_peer_is_a_timeout_and_the_channel_goes_on() {
    let (a, b) = pair();
    let mut impatient = config(0x7E0, 0x7E8);
    impatient.timeouts.n_bs = Duration::from_millis(5);
    let tester = IsoTpChannel::open(&a, impatient, &ChannelOptions::default()).unwrap();
    let result = tester.send(&pattern(100)).await;
    assert!(
        matches!(result, Err(ChannelError::IsoTp(Error::TimeoutBs))),
        "{result:?}"
    );
    let ecu = IsoTpChannel::open(&b, config(0x7E8, 0x7E0), &server()).unwrap();
    tester.send(&[0x3E, 0]).await.unwrap();
    assert_eq!(ecu.recv().await.unwrap(), [0x3E, 0]);
}

#[tokio::test]
async fn a_send_that_nobody_awaits_stops() {
    let (a, b) = pair();
    let (tester, ecu) = connect(&a, &b, 0x7E0, 0x7E8);
    let mut slow = config(0x7E9, 0x7E1);
    slow.st_min = StMin::from_wire(100);
    let (slow_tester, _slow_ecu) = (
        IsoTpChannel::open(&a, config(0x7E1, 0x7E9), &ChannelOptions::default()).unwrap(),
        IsoTpChannel::open(&b, slow, &server()).unwrap(),
    );
    let message = pattern(4000);
    let abandoned = tokio::time::timeout(
        std::time::Duration::from_millis(20),
        slow_tester.send(&message),
    );
    abandoned.await.unwrap_err();
    // Neither it nor its neighbour is busy now.
    slow_tester.send(&[0x3E, 0]).await.unwrap();
    tester.send(&message).await.unwrap();
    assert_eq!(ecu.recv().await.unwrap(), message);
}

#[tokio::test]
async fn every_channel_learns_that_the_bus_is_gone() {
    let (a, b) = pair();
    let (tester, _ecu) = connect(&a, &b, 0x7E0, 0x7E8);
    drop(_ecu);
    drop(b);
    let result = tester.recv().await;
    assert!(
        matches!(result, Err(ChannelError::Link(LinkError::Closed { .. }))),
        "{result:?}"
    );
    let result = tester.send(&[1]).await;
    assert!(
        matches!(result, Err(ChannelError::Link(LinkError::Closed { .. }))),
        "{result:?}"
    );
    let again = IsoTpChannel::open(&a, config(1, 2), &ChannelOptions::default());
    assert!(matches!(again, Err(LinkError::Closed { .. })));
}

#[tokio::test]
async fn a_subscription_to_all_sees_all() {
    let (a, b) = pair();
    let mut all = b.subscribe_all().unwrap();
    let mut some = b.subscribe(&[id(2)]).unwrap();
    for raw in [1, 2] {
        let frame = Frame::new(id(raw), Format::Classical, &[7]).unwrap();
        a.send(&frame).await.unwrap();
    }
    assert_eq!(all.recv().await.unwrap().frame.id(), id(1));
    assert_eq!(all.recv().await.unwrap().frame.id(), id(2));
    assert_eq!(some.recv().await.unwrap().frame.id(), id(2));
}

fn open(name: &str) -> LinkError {
    FrameLink::open(name, &LinkOptions::default()).unwrap_err()
}

#[tokio::test]
async fn names_that_are_no_link_say_what_to_do() {
    assert!(matches!(open(""), LinkError::BadName { .. }));
    assert!(matches!(open("bus:"), LinkError::BadName { .. }));
    assert!(matches!(
        open("an-interface-too-long"),
        LinkError::BadName { .. }
    ));
    assert!(matches!(
        open("bus:/nonexistent/hub.sock"),
        LinkError::NoHub { .. }
    ));
    let error = open("nocan7");
    let known = matches!(
        error,
        LinkError::NoSuchInterface { .. } | LinkError::NoKernelCan
    );
    assert!(known, "{error:?}");
}

#[tokio::test]
async fn a_classical_link_takes_no_fd_frame() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus");
    let listener = nix_listener(&path);
    let link =
        FrameLink::open(&format!("bus:{}", path.display()), &LinkOptions::default()).unwrap();
    let fd = Frame::new(id(1), Format::Fd { brs: true }, &[0; 64]).unwrap();
    assert!(matches!(link.try_send(&fd), Err(LinkError::NotFd { .. })));
    drop(listener);
}

fn nix_listener(path: &std::path::Path) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
    };
    use std::os::fd::AsRawFd;
    let fd = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    bind(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&fd, Backlog::new(4).unwrap()).unwrap();
    fd
}

/// A bus that others fill, or that the controller has left, takes no frame.
#[tokio::test]
async fn a_link_that_takes_nothing_ends_a_message_after_n_as() {
    let (a, b) = FrameLink::pair().unwrap();
    let a = Bus::new(a);
    let tester = IsoTpChannel::open(&a, config(0x7E0, 0x7E8), &ChannelOptions::default()).unwrap();
    // Nobody takes anything from `b`.
    let filler = Frame::new(id(0x100), Format::Classical, &[0; 8]).unwrap();
    while a.link().try_send(&filler).unwrap() {}
    let message = pattern(20);
    let (physical, functional) =
        tokio::join!(tester.send(&message), tester.send_functional(&[0x3E, 0x80]));
    for sent in [physical, functional] {
        let late = |error| matches!(error, ChannelError::IsoTp(Error::TimeoutA(Direction::Send)));
        assert!(sent.is_err_and(late));
    }
    // And goes on once there is room.
    while b.try_recv().unwrap().is_some() {}
    tester.send(&[0x3E, 0x00]).await.unwrap();
    assert_eq!(b.recv().await.unwrap().frame.data()[..3], [2, 0x3E, 0x00]);
}

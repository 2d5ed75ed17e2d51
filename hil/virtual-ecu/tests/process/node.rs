//! The test as a node of a bus of two: it listens where a hub would, and is a tester.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use can_link::{Bus, ChannelOptions, FrameLink, IsoTpChannel, Subscription};
use ecu_image::crypto::MacKey;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept, bind, listen as start, socket,
};
use uds::can::CanId;
use uds::isotp;
use virtual_ecu::app::heartbeat_version;

use crate::images::{ACCESS_KEY, Image};

/// Nothing here takes this long; it only bounds a failure.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn listen(path: &Path) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    start(&listener, Backlog::new(1).unwrap()).unwrap();
    listener
}

/// Why a request failed: what came instead of a positive response, or why nothing came.
pub(crate) type Failed = String;

pub(crate) struct Node {
    channel: IsoTpChannel,
    heartbeats: Subscription,
}

impl Node {
    #[allow(unsafe_code)]
    pub(crate) async fn accept(listener: OwnedFd) -> Self {
        let accepted = tokio::task::spawn_blocking(move || {
            let fd = accept(listener.as_raw_fd()).unwrap();
            // SAFETY: `accept` has just made this descriptor, and nobody else knows it.
            unsafe { OwnedFd::from_raw_fd(fd) }
        });
        let fd = tokio::time::timeout(LIMIT, accepted)
            .await
            .unwrap()
            .unwrap();
        let bus = Bus::new(FrameLink::from_fd("test", fd).unwrap());
        let id = |raw| CanId::standard(raw).unwrap();
        let config = isotp::Config::new(id(0x7E0), id(0x7E8));
        Self {
            heartbeats: bus.subscribe(&[id(0x510)]).unwrap(),
            channel: IsoTpChannel::open(&bus, config, &ChannelOptions::default()).unwrap(),
        }
    }

    /// Waits for a heartbeat of `version`.
    pub(crate) async fn heartbeat(&mut self, version: &str) {
        let wait = async {
            loop {
                let frame = self.heartbeats.recv().await.unwrap().frame;
                if heartbeat_version(frame.data()).unwrap() == version {
                    return;
                }
            }
        };
        let seen = tokio::time::timeout(LIMIT, wait).await;
        seen.unwrap_or_else(|_| panic!("no heartbeat of {version}"));
    }

    async fn request(&self, pdu: &[u8]) -> Result<Vec<u8>, Failed> {
        let exchange = async {
            self.channel.send(pdu).await.map_err(|e| e.to_string())?;
            loop {
                let response = self.channel.recv().await.map_err(|e| e.to_string())?;
                match response[..] {
                    [0x7F, sid, 0x78] if sid == pdu[0] => {}
                    [sid, ..] if sid == pdu[0] | 0x40 => return Ok(response),
                    _ => return Err(format!("{:02X?} to {:02X?}", response, &pdu[..2])),
                }
            }
        };
        let exchanged = tokio::time::timeout(LIMIT, exchange).await;
        exchanged.map_err(|_| "no response".to_owned())?
    }

    /// FD01: phase, running slot, boot reason, state of the running and of the other slot.
    pub(crate) async fn status(&self) -> Result<[u8; 5], Failed> {
        let response = self.request(&[0x22, 0xFD, 1]).await?;
        Ok(response[4..9].try_into().unwrap())
    }

    /// Waits until the running image is healthy.
    pub(crate) async fn healthy(&mut self) {
        while self.status().await.unwrap()[3] != 4 {
            let frame = tokio::time::timeout(LIMIT, self.heartbeats.recv()).await;
            frame.unwrap().unwrap();
        }
    }

    async fn routine(&self, id: u16) -> Result<(), Failed> {
        let [high, low] = id.to_be_bytes();
        let response = self.request(&[0x31, 1, high, low]).await?;
        assert_eq!(response, [0x71, 1, high, low, 0]);
        Ok(())
    }

    async fn download(&self, format: u8, address: u32, data: &[u8]) -> Result<(), Failed> {
        let len = u32::try_from(data.len()).unwrap();
        let request = [
            &[0x34, format, 0x44][..],
            &address.to_be_bytes(),
            &len.to_be_bytes(),
        ];
        let answer = self.request(&request.concat()).await?;
        let longest = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
        let blocks = data.chunks(2048.min(longest - 2));
        for (counter, block) in (1u8..).chain(0..).zip(blocks) {
            self.request(&[&[0x36, counter], block].concat()).await?;
        }
        self.request(&[0x37]).await.map(drop)
    }

    /// Installs and activates an image, from where FD00 says, up to the reset into its trial.
    pub(crate) async fn install(&self, image: &Image) -> Result<(), Failed> {
        self.request(&[0x10, 3]).await?;
        self.request(&[0x10, 2]).await?;
        let seed = self.request(&[0x27, 1]).await?;
        let key = MacKey::new(ACCESS_KEY).mac(&[&seed[2..], &[1]].concat());
        self.request(&[&[0x27, 2], &key[..]].concat()).await?;
        let progress = self.request(&[0x22, 0xFD, 0]).await?;
        let known = progress[3] > 0 && progress[5..37] == image.digest.0;
        if !known {
            self.download(0, 0xF000_0000, &image.metadata()).await?;
        }
        if !known || progress[3] < 2 {
            self.routine(0xFF00).await?;
        }
        let progress = self.request(&[0x22, 0xFD, 0]).await?;
        let offset = u32::from_be_bytes(progress[49..53].try_into().unwrap());
        self.download(1, offset, &image.pages()[offset as usize..])
            .await?;
        for routine in [0x0202, 0xFF01, 0x0210] {
            self.routine(routine).await?;
        }
        self.request(&[0x11, 1]).await.map(drop)
    }
}

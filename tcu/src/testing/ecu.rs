//! An ECU of the profile, reduced to what the TCU can see: durable slots, sessions, access, download.

use ecu_image::ImageDigest;
use ecu_image::crypto::MacKey;
use ecu_image::keyset::KeySet;
use uds::time::{Duration, Instant};

use crate::flash::Target;
use crate::profile::{KEY_SET_ADDRESS, METADATA_ADDRESS, SlotState};

pub(crate) const ACCESS_KEY: [u8; 16] = [7; 16];
pub(crate) const OLD: ImageDigest = ImageDigest([0x01; 32]);
pub(crate) const PAGE: u32 = 1024;

const BOOT: Duration = Duration::from_millis(200);
const SELF_TEST: Duration = Duration::from_millis(300);
const S3: Duration = Duration::from_secs(5);

/// What the new application does when it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Application {
    Good,
    Crashes,
    Hangs,
}

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never arrives.
    LostRequest,
    /// It is carried out, its answer lost.
    LostResponse,
    /// Refused with this code, not carried out.
    Refuse(u8),
    /// The ECU loses power before it.
    Restart,
}

#[derive(Debug, Clone)]
pub(crate) struct FakeEcu {
    pub(crate) application: Application,
    /// While set nothing is answered.
    pub(crate) dead: bool,
    /// Whether somebody else keeps its session.
    pub(crate) never_times_out: bool,
    /// Asked before each request: the service, the routine where it is one, and its count.
    pub(crate) requests: u32,
    // Durable.
    pub(crate) slots: [(ImageDigest, SlotState); 2],
    pub(crate) running: usize,
    announced: ImageDigest,
    progress: u8,
    page_count: u32,
    pub(crate) pages: Vec<u8>,
    pub(crate) bytes_received: u64,
    /// Version of its key set.
    pub(crate) key_set: u32,
    // Volatile.
    bootloader: bool,
    session: u8,
    unlocked: bool,
    seed: [u8; 16],
    /// Address, length, next block counter, bytes.
    download: Option<(u32, u32, u8, Vec<u8>)>,
    last_block: Option<Vec<u8>>,
    up_at: Instant,
    healthy_at: Option<Instant>,
    active_at: Instant,
}

impl FakeEcu {
    pub(crate) fn new() -> Self {
        Self {
            application: Application::Good,
            dead: false,
            never_times_out: false,
            requests: 0,
            slots: [
                (OLD, SlotState::Sealed),
                (ImageDigest::ZERO, SlotState::Empty),
            ],
            running: 0,
            announced: ImageDigest::ZERO,
            progress: 0,
            page_count: 0,
            pages: Vec::new(),
            bytes_received: 0,
            key_set: 1,
            bootloader: false,
            session: 1,
            unlocked: false,
            seed: [0; 16],
            download: None,
            last_block: None,
            up_at: Instant::ZERO,
            healthy_at: None,
            active_at: Instant::ZERO,
        }
    }

    pub(crate) fn runs(&self) -> (ImageDigest, SlotState) {
        self.slots[self.running]
    }

    /// Loses power: what is durable stays, the application starts again.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.bootloader = false;
        self.session = 1;
        self.unlocked = false;
        self.download = None;
        self.last_block = None;
        self.up_at = now + BOOT;
        self.healthy_at = None;
        let other = 1 - self.running;
        if self.slots[other].1 == SlotState::Trial {
            match self.application {
                Application::Good => self.running = other,
                Application::Crashes => self.slots[other].1 = SlotState::Rejected,
                Application::Hangs => {
                    self.slots[other].1 = SlotState::Rejected;
                    self.up_at = now + BOOT + Duration::from_secs(9);
                }
            }
        }
        if self.slots[self.running].1 == SlotState::Rejected {
            self.running = 1 - self.running;
        }
        if self.slots[self.running].1 == SlotState::Trial {
            self.healthy_at = Some(self.up_at + SELF_TEST);
        }
    }

    /// The answer to a request, unless a fault takes it.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        pdu: &[u8],
        fault: Option<Fault>,
    ) -> Option<Vec<u8>> {
        self.pass(now);
        if self.dead {
            return None;
        }
        self.requests += 1;
        match fault {
            Some(Fault::LostRequest) => return None,
            Some(Fault::Refuse(code)) if now >= self.up_at => {
                return Some(vec![0x7F, pdu[0], code]);
            }
            Some(Fault::Restart) => self.restart(now),
            _ => {}
        }
        if now < self.up_at {
            return None;
        }
        self.active_at = now;
        let answer = self.answer(now, pdu);
        let answer = answer.unwrap_or_else(|code| vec![0x7F, pdu[0], code]);
        let suppressed = [0x10, 0x28, 0x3E, 0x85].contains(&pdu[0]) && pdu[1] & 0x80 != 0;
        (fault != Some(Fault::LostResponse) && !suppressed).then_some(answer)
    }

    /// What happens without a request.
    fn pass(&mut self, now: Instant) {
        if self.session != 1 && !self.never_times_out && now.saturating_since(self.active_at) >= S3
        {
            if self.bootloader {
                self.restart(now);
            }
            self.session = 1;
            self.unlocked = false;
        }
        if self.healthy_at.is_some_and(|at| now >= at) && !self.bootloader {
            self.healthy_at = None;
            self.slots[self.running].1 = SlotState::Healthy;
        }
    }

    fn answer(&mut self, now: Instant, pdu: &[u8]) -> Result<Vec<u8>, u8> {
        let did = || u16::from_be_bytes([pdu[1], pdu[2]]);
        match pdu[0] {
            0x10 => {
                self.session = pdu[1] & 0x7F;
                self.unlocked = false;
                self.bootloader |= self.session == 2;
                Ok(vec![0x50, pdu[1], 0, 50, 1, 244])
            }
            0x11 => {
                self.restart(now);
                Ok(vec![0x51, pdu[1]])
            }
            0x22 => {
                let mut answer = vec![0x62, pdu[1], pdu[2]];
                answer.extend(self.read(did())?);
                Ok(answer)
            }
            0x27 if self.session == 1 => Err(0x7F),
            0x27 if pdu[1] == 1 => {
                let seed = if self.unlocked {
                    [0; 16]
                } else {
                    [self.seed[0].wrapping_add(1); 16]
                };
                self.seed = seed;
                Ok([&[0x67, 1][..], &seed].concat())
            }
            0x27 => {
                let message = [&self.seed[..], &[1]].concat();
                if MacKey::new(ACCESS_KEY).mac(&message) != pdu[2..] {
                    return Err(0x35);
                }
                self.unlocked = true;
                Ok(vec![0x67, 2])
            }
            0x2E if self.unlocked => Ok(vec![0x6E, pdu[1], pdu[2]]),
            0x31 => {
                self.routine(u16::from_be_bytes([pdu[2], pdu[3]]))?;
                Ok(vec![0x71, 1, pdu[2], pdu[3], 0])
            }
            0x34 | 0x36 | 0x37 if !self.unlocked || self.session != 2 => Err(0x33),
            0x34 => self.start_download(pdu),
            0x36 => self.block(pdu),
            0x37 => self.end_download(),
            0x28 | 0x3E | 0x85 => Ok(vec![pdu[0] | 0x40, pdu[1]]),
            _ => Err(0x11),
        }
    }

    fn read(&self, did: u16) -> Result<Vec<u8>, u8> {
        Ok(match did {
            0xF18C => b"SN-1".to_vec(),
            0xF191 => b"hw-1".to_vec(),
            0xF40D => vec![0, 0x04, 0xD2],
            0xF195 => match self.runs().0 {
                OLD => b"1.0.0".to_vec(),
                _ => b"2.0.0".to_vec(),
            },
            0xFD00 => {
                let durable = u32::try_from(self.pages.len()).unwrap();
                let mut record = vec![self.progress, 1];
                record.extend(self.announced.0);
                for number in [PAGE, self.page_count, durable / PAGE, durable] {
                    record.extend(number.to_be_bytes());
                }
                record.push(8);
                record
            }
            0xFD01 => {
                let code = |state: SlotState| match state {
                    SlotState::Empty => 0,
                    SlotState::Receiving => 1,
                    SlotState::Staged => 2,
                    SlotState::Trial => 3,
                    SlotState::Healthy => 4,
                    SlotState::Sealed => 5,
                    SlotState::Rejected => 6,
                    SlotState::Factory => 7,
                };
                let (running, other) = (self.slots[self.running], self.slots[1 - self.running]);
                let mut record = vec![1, u8::from(!self.bootloader), 1, 0];
                record.extend([code(running.1), code(other.1), 3, 0]);
                record.extend([0; 12]);
                record.extend(running.0.0);
                record.extend(other.0.0);
                record
            }
            0xFD03 => [&self.key_set.to_be_bytes()[..], &[0; 32]].concat(),
            0xFD02 if self.unlocked => vec![0, 42, 0, 0, 0, 1],
            _ => return Err(0x31),
        })
    }

    fn routine(&mut self, id: u16) -> Result<(), u8> {
        let other = 1 - self.running;
        if id == 0x0203 {
            return Ok(());
        }
        if !self.unlocked {
            return Err(0x33);
        }
        let programming = [0xFF00, 0x0202, 0xFF01, 0x0210].contains(&id);
        if programming && self.session != 2 {
            return Err(0x7F);
        }
        match (id, self.slots[self.running].1, self.slots[other].1) {
            (0xFF00, ..) if self.progress > 0 => {
                self.pages.clear();
                self.progress = 2;
                Ok(())
            }
            (0x0202, ..) if self.progress >= 3 => {
                self.progress = 4;
                self.slots[other] = (self.announced, SlotState::Staged);
                Ok(())
            }
            (0xFF01, _, SlotState::Staged) => Ok(()),
            (0x0210, _, SlotState::Staged) => {
                self.slots[other].1 = SlotState::Trial;
                Ok(())
            }
            (0x0212, SlotState::Healthy | SlotState::Sealed, _) => {
                self.slots[self.running].1 = SlotState::Sealed;
                Ok(())
            }
            (0x0213, SlotState::Trial | SlotState::Healthy, _) => {
                self.slots[self.running].1 = SlotState::Rejected;
                self.progress = 0;
                Ok(())
            }
            (0x0213, _, SlotState::Receiving | SlotState::Staged | SlotState::Trial) => {
                self.slots[other] = (ImageDigest::ZERO, SlotState::Empty);
                self.progress = 0;
                Ok(())
            }
            (0x0213, ..) => Ok(()),
            _ => Err(0x24),
        }
    }

    fn start_download(&mut self, pdu: &[u8]) -> Result<Vec<u8>, u8> {
        let address = u32::from_be_bytes(pdu[3..7].try_into().unwrap());
        let payload = address < METADATA_ADDRESS;
        if payload && (self.progress < 2 || address as usize != self.pages.len()) {
            return Err(0x70);
        }
        let len = u32::from_be_bytes(pdu[7..11].try_into().unwrap());
        self.download = Some((address, len, 1, Vec::new()));
        self.last_block = None;
        // Two blocks of 512 to a page.
        Ok(vec![0x74, 0x20, 0x02, 0x30])
    }

    fn block(&mut self, pdu: &[u8]) -> Result<Vec<u8>, u8> {
        let (address, _, counter, buffer) = self.download.as_mut().ok_or(0x24)?;
        if self.last_block.as_deref() == Some(pdu) {
            return Ok(vec![0x76, pdu[1]]);
        }
        if *counter != pdu[1] {
            return Err(0x73);
        }
        *counter = counter.wrapping_add(1);
        buffer.extend(&pdu[2..]);
        self.last_block = Some(pdu.to_vec());
        if *address < METADATA_ADDRESS {
            assert!(buffer.len() <= PAGE as usize, "a block crosses a page");
            self.bytes_received += pdu.len() as u64 - 2;
            if buffer.len() == PAGE as usize {
                self.pages.append(buffer);
            }
            if self.pages.len() == (self.page_count * PAGE) as usize {
                self.progress = 3;
            }
        }
        Ok(vec![0x76, pdu[1]])
    }

    fn end_download(&mut self) -> Result<Vec<u8>, u8> {
        let (address, len, _, buffer) = self.download.take().ok_or(0x24)?;
        let other = 1 - self.running;
        if address >= METADATA_ADDRESS && buffer.len() != len as usize {
            return Err(0x24);
        }
        if address == KEY_SET_ADDRESS {
            let set = KeySet::parse(&buffer).map_err(|_| 0x72)?;
            if set.version.get() <= self.key_set {
                return Err(0x72);
            }
            self.key_set = set.version.get();
        } else if address == METADATA_ADDRESS {
            // grant (256) ‖ header: the digest stands at its start in tests.
            let digest: [u8; 32] = buffer[256..288].try_into().unwrap();
            self.page_count = u32::from_be_bytes(buffer[288..292].try_into().unwrap());
            if self.announced.0 != digest || self.progress == 0 {
                self.announced = ImageDigest(digest);
                self.progress = 1;
                self.pages.clear();
                self.slots[other] = (self.announced, SlotState::Receiving);
            }
        } else if self.progress != 3 {
            return Err(0x24);
        }
        Ok(vec![0x77])
    }
}

/// An image of `pages` pages whose "header" is its digest and page count.
pub(crate) fn target(seed: u8, pages: u32) -> Target {
    let digest = [seed | 0x80; 32];
    let mut bytes = digest.to_vec();
    bytes.extend(pages.to_be_bytes());
    bytes.resize(600, 0xEE);
    bytes.extend((0..pages * PAGE).map(|index| (index / 7).to_le_bytes()[0] ^ seed));
    Target {
        image: ImageDigest(digest),
        grant: vec![0x33; 256],
        key_set: None,
        packed: Ok(crate::flash::Packed {
            metadata_len: 600,
            page_size: PAGE,
            page_count: pages,
            source: std::sync::Arc::new(bytes),
        }),
    }
}

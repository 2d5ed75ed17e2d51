//! The tester's part of `docs/spec/ecu-profile.md`, clause "Sequence".

use crate::bench::{Bench, PowerLost};
use crate::images::Image;

/// A negative response, or none: what was asked and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    Negative { request: Vec<u8>, nrc: u8 },
    Silent,
    PowerLost,
}

impl From<PowerLost> for Failed {
    fn from(_: PowerLost) -> Self {
        Self::PowerLost
    }
}

pub type Done<T = ()> = Result<T, Failed>;

/// FD00.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub state: u8,
    pub slot: u8,
    pub digest: [u8; 32],
    pub page_size: u32,
    pub pages: u32,
    pub durable: u32,
    pub next_offset: u32,
    pub erases_left: u8,
}

/// FD01.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub phase: u8,
    pub running: u8,
    pub reason: u8,
    pub running_state: u8,
    pub other_state: u8,
    pub attempts: u8,
    pub floor: u32,
    pub sequence: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn parse_progress(bytes: &[u8]) -> Progress {
    assert_eq!(bytes.len(), 51);
    Progress {
        state: bytes[0],
        slot: bytes[1],
        digest: bytes[2..34].try_into().unwrap(),
        page_size: u32_at(bytes, 34),
        pages: u32_at(bytes, 38),
        durable: u32_at(bytes, 42),
        next_offset: u32_at(bytes, 46),
        erases_left: bytes[50],
    }
}

pub fn parse_status(bytes: &[u8]) -> Status {
    assert_eq!(bytes.len(), 84);
    assert_eq!(bytes[0], 1);
    Status {
        phase: bytes[1],
        running: bytes[2],
        reason: bytes[3],
        running_state: bytes[4],
        other_state: bytes[5],
        attempts: bytes[6],
        floor: u32_at(bytes, 8),
        sequence: u64::from_be_bytes(bytes[12..20].try_into().unwrap()),
    }
}

impl Bench {
    /// A request that must be answered positively.
    pub fn ask(&mut self, pdu: &[u8]) -> Done<Vec<u8>> {
        match self.request(pdu)? {
            None => Err(Failed::Silent),
            Some(response) if response[0] == 0x7F => Err(Failed::Negative {
                request: pdu[..pdu.len().min(4)].to_vec(),
                nrc: response[2],
            }),
            Some(response) => Ok(response),
        }
    }

    pub fn routine(&mut self, id: u16) -> Done {
        let [high, low] = id.to_be_bytes();
        let response = self.ask(&[0x31, 1, high, low])?;
        assert_eq!(response, [0x71, 1, high, low, 0]);
        Ok(())
    }

    pub fn progress(&mut self) -> Done<Progress> {
        let response = self.ask(&[0x22, 0xFD, 0])?;
        Ok(parse_progress(&response[3..]))
    }

    pub fn status(&mut self) -> Done<Status> {
        let response = self.ask(&[0x22, 0xFD, 1])?;
        Ok(parse_status(&response[3..]))
    }

    /// FD01 through the mailbox of the running application.
    pub fn app_status(&mut self) -> Status {
        parse_status(&self.app(&[0x22, 0xFD, 1]).unwrap()[3..])
    }

    pub fn last_failure(&mut self) -> u16 {
        let response = self.ask(&[0x22, 0xFD, 2]).unwrap();
        u16::from_be_bytes([response[3], response[4]])
    }

    pub fn request_download(&mut self, format: u8, address: u32, len: usize) -> Done<usize> {
        let len = (len as u32).to_be_bytes();
        let request = [&[0x34, format, 0x44], &address.to_be_bytes()[..], &len[..]].concat();
        let response = self.ask(&request)?;
        assert_eq!(response[..2], [0x74, 0x20]);
        Ok(u16::from_be_bytes([response[2], response[3]]).into())
    }

    pub fn block(&mut self, counter: u8, data: &[u8]) -> Done {
        let response = self.ask(&[&[0x36, counter], data].concat())?;
        assert_eq!(response, [0x76, counter]);
        Ok(())
    }

    pub fn send_metadata(&mut self, image: &Image) -> Done {
        let metadata = image.metadata();
        let block = self.request_download(0, 0xF000_0000, metadata.len())? - 2;
        let mut counter = 1u8;
        for data in metadata.chunks(block) {
            self.block(counter, data)?;
            counter = counter.wrapping_add(1);
        }
        self.ask(&[0x37]).map(drop)
    }

    pub fn send_key_set(&mut self, set: &[u8]) -> Done {
        let block = self.request_download(0, 0xF100_0000, set.len())? - 2;
        for (counter, data) in (1u8..).zip(set.chunks(block)) {
            self.block(counter, data)?;
        }
        self.ask(&[0x37]).map(drop)
    }

    /// FD03: version and digest of the key set in use.
    pub fn key_set(&mut self) -> (u32, [u8; 32]) {
        let response = self.ask(&[0x22, 0xFD, 3]).unwrap();
        (u32_at(&response, 3), response[7..].try_into().unwrap())
    }

    pub fn send_pages(&mut self, image: &Image, from: usize) -> Done {
        let block = self.request_download(1, from as u32, image.pages().len() - from)? - 2;
        let mut counter = 1u8;
        for page in image.pages()[from..].chunks(image.page_size) {
            for data in page.chunks(block.min(2048)) {
                self.block(counter, data)?;
                counter = counter.wrapping_add(1);
            }
        }
        self.ask(&[0x37]).map(drop)
    }

    /// Steps 2 to 6, from wherever the ECU is: in the application, in its bootloader, with nothing
    /// or a part of the image.
    pub fn stage(&mut self, image: &Image) -> Done {
        self.enter_programming()?;
        self.unlock()?;
        self.stage_unlocked(image)
    }

    pub fn stage_unlocked(&mut self, image: &Image) -> Done {
        self.ask(&[&[0x2E, 0xF1, 0x5A], &[0x26; 10][..]].concat())?;
        let mut progress = self.progress()?;
        if progress.state == 0 || progress.digest != image.digest.0 {
            self.send_metadata(image)?;
            progress = self.progress()?;
        }
        if progress.state == 1 {
            self.routine(0xFF00)?;
            progress = self.progress()?;
        }
        if progress.state == 2 {
            self.send_pages(image, progress.next_offset as usize)?;
        }
        self.routine(0x0202)?;
        self.routine(0xFF01)
    }

    /// Step 7: activates and resets into the trial.
    pub fn activate(&mut self) -> Done {
        self.routine(0x0210)?;
        self.reset_ecu()
    }

    pub fn reset_ecu(&mut self) -> Done {
        assert_eq!(self.ask(&[0x11, 1])?, [0x51, 1]);
        Ok(self.follow_reset()?)
    }

    /// Step 8, in the trial: the application's self-test passes, then the seal.
    pub fn confirm_and_seal(&mut self) -> Done {
        assert!(self.self_test_passed()?);
        self.app_unlock()?;
        assert_eq!(self.app(&[0x31, 1, 2, 0x12])?, [0x71, 1, 2, 0x12, 0]);
        Ok(())
    }

    /// The whole update.
    pub fn update(&mut self, image: &Image) -> Done {
        self.stage(image)?;
        self.activate()?;
        self.confirm_and_seal()
    }
}

impl Bench {
    /// Into the programming session once more, without reset.
    pub fn enter_again(&mut self) {
        self.ask(&[0x10, 2]).unwrap();
        self.unlock().unwrap();
    }
}

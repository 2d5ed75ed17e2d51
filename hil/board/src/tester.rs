//! A tester on the emulated board: the sequence of `docs/spec/ecu-profile.md`.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, bail, ensure};
use board_shell::machine::{FUNCTIONAL, REQUEST, RESPONSE};
use ecu_bootloader::access;
use ecu_bootloader::mailbox::{Handover, Reply, Request};
use uds::can::{CanId, Frame};
use uds::isotp::{self, Endpoint};
use uds::service::SecurityLevel;
use uds::time::{Instant, earliest};

use crate::images::Image;
use crate::keys::{Keys, Mode};
use crate::qemu::{Board, Program, Turn};

/// How long a response may take in the board's time, in µs.
const PATIENCE: u64 = 6_000_000;

/// Instructions of a download.
#[derive(Debug, Clone, Default)]
pub struct Spent {
    /// Of each block of the metadata.
    pub metadata: Vec<u64>,
    /// Of each page.
    pub pages: Vec<u64>,
}

/// A board and a tester at the other end of its bus.
pub struct Bench {
    board: Board,
    keys: Keys,
    tester: Endpoint<Vec<u8>, Vec<u8>>,
    now: u64,
    deadline: Option<u64>,
    waiting: VecDeque<Frame>,
    mail: VecDeque<Vec<u8>>,
    /// The last event, a word of [`board_shell::report`].
    pub event: u32,
    /// Instructions since this was last set to zero.
    pub instructions: u64,
    /// The least free stack that was seen, in bytes.
    pub free_stack: u32,
}

fn id(raw: u16) -> Result<CanId> {
    CanId::standard(raw).context("an identifier")
}

impl Bench {
    /// Starts the program with this flash.
    ///
    /// # Errors
    /// The board does not start.
    pub fn start(program: &Program, keys: &Keys, flash: &[u8]) -> Result<Self> {
        let provision = keys.provision(Mode::Shell, 0, 0);
        let (board, turn) = Board::start(program, flash, &provision)?;
        let mut config = isotp::Config::new(id(REQUEST)?, id(RESPONSE)?);
        config.functional_id = Some(id(FUNCTIONAL)?);
        let mut bench = Self {
            board,
            keys: keys.clone(),
            tester: Endpoint::new(config, vec![0; 4095], vec![0; 4095]),
            now: 0,
            deadline: None,
            waiting: VecDeque::new(),
            mail: VecDeque::new(),
            event: 0,
            instructions: 0,
            free_stack: u32::MAX,
        };
        bench.note(turn)?;
        Ok(bench)
    }

    fn note(&mut self, turn: Turn) -> Result<()> {
        ensure!(turn.misused == 0, "the flash was misused");
        self.now = self.now.max(turn.now);
        self.deadline = turn.deadline;
        self.instructions += turn.instructions;
        self.free_stack = self.free_stack.min(turn.free_stack);
        self.waiting.extend(turn.frames);
        self.mail.extend(turn.mail);
        if let Some(event) = turn.events.last() {
            self.event = *event;
        }
        Ok(())
    }

    /// Puts a frame on the bus as it is.
    ///
    /// # Errors
    /// The board is gone.
    pub fn raw(&mut self, frame: &Frame) -> Result<()> {
        let turn = self.board.frame(self.now, frame)?;
        self.note(turn)
    }

    /// Lets time pass, in µs.
    ///
    /// # Errors
    /// The board is gone.
    pub fn pass(&mut self, micros: u64) -> Result<()> {
        let until = self.now + micros;
        while self.now < until {
            self.pass_to(until)?;
            self.exchange()?;
        }
        Ok(())
    }

    /// To the next deadline, at most `until`.
    fn pass_to(&mut self, until: u64) -> Result<()> {
        let board = self.deadline.map(Instant::from_micros);
        let next = earliest(board, self.tester.poll_timeout());
        let next = next.map_or(until, |at| at.as_micros().min(until));
        self.now = self.now.max(next);
        self.tester.handle_timeout(Instant::from_micros(self.now));
        let turn = self.board.time(self.now)?;
        self.note(turn)
    }

    /// Carries frames until both ends are quiet.
    fn exchange(&mut self) -> Result<()> {
        loop {
            let now = Instant::from_micros(self.now);
            if let Some(frame) = self.waiting.pop_front() {
                self.tester.handle_frame(now, &frame);
            } else if let Some(frame) = self.tester.poll_transmit(now) {
                self.raw(&frame)?;
            } else {
                return Ok(());
            }
        }
    }

    /// Sends a request and waits for its final response; `None` where none comes.
    ///
    /// # Errors
    /// The board is gone.
    pub fn request(&mut self, pdu: &[u8]) -> Result<Option<Vec<u8>>> {
        while self.tester.poll_event().is_some() {}
        let now = Instant::from_micros(self.now);
        if self.tester.send(now, pdu).is_err() {
            bail!("the tester is still sending");
        }
        self.response()
    }

    /// The next final response.
    ///
    /// # Errors
    /// The board is gone.
    pub fn response(&mut self) -> Result<Option<Vec<u8>>> {
        let mut until = self.now + PATIENCE;
        loop {
            self.exchange()?;
            while let Some(event) = self.tester.poll_event() {
                if let isotp::Event::Received { .. } = event {
                    let pdu = self.tester.received();
                    if !matches!(pdu, [0x7F, _, 0x78]) {
                        return Ok(Some(pdu.to_vec()));
                    }
                    until = self.now + PATIENCE;
                }
            }
            if self.now >= until {
                return Ok(None);
            }
            self.pass_to(until)?;
        }
    }

    /// A request that must be answered positively.
    ///
    /// # Errors
    /// It is not.
    pub fn ask(&mut self, pdu: &[u8]) -> Result<Vec<u8>> {
        let shown = pdu.get(..4.min(pdu.len())).unwrap_or(pdu).to_vec();
        let response = self.request(pdu)?;
        let response = response.with_context(|| format!("{shown:02X?}: no answer"))?;
        ensure!(response[0] != 0x7F, "{shown:02X?}: {response:02X?}");
        Ok(response)
    }

    /// A routine.
    ///
    /// # Errors
    /// It fails.
    pub fn routine(&mut self, id: u16) -> Result<()> {
        let [high, low] = id.to_be_bytes();
        self.ask(&[0x31, 1, high, low]).map(drop)
    }

    /// Unlocks the access.
    ///
    /// # Errors
    /// It stays locked.
    pub fn unlock(&mut self) -> Result<()> {
        let seed = self.ask(&[0x27, 1])?;
        let key = self.key(&seed)?;
        self.ask(&[&[0x27, 2], &key[..]].concat()).map(drop)
    }

    fn key(&self, seed: &[u8]) -> Result<[u8; 16]> {
        let seed = seed.get(2..).and_then(|seed| seed.try_into().ok());
        let message = access::message(seed.context("no seed")?, SecurityLevel::ONE);
        Ok(self.keys.access().mac(&message))
    }

    /// Resets the board.
    ///
    /// # Errors
    /// It does not start again.
    pub fn reset(&mut self, cause: u8, handover: &[u8]) -> Result<()> {
        self.waiting.clear();
        self.event = 0;
        let turn = self.board.reset(self.now, cause, handover)?;
        self.note(turn)
    }

    /// From the running application into the programming session.
    ///
    /// # Errors
    /// The bootloader does not answer.
    pub fn enter_programming(&mut self) -> Result<()> {
        let handover = Handover {
            request_id: id(REQUEST)?,
            response_id: id(RESPONSE)?,
        };
        self.message(&Request::EnterProgramming(handover))?;
        let response = self.response()?;
        ensure!(
            response
                .as_deref()
                .is_some_and(|pdu| pdu.starts_with(&[0x50, 2])),
            "{response:02X?}"
        );
        Ok(())
    }

    /// A message of the application; the reply.
    ///
    /// # Errors
    /// The board is gone.
    pub fn message(&mut self, request: &Request<'_>) -> Result<Option<Vec<u8>>> {
        let mut message = [0; 256];
        let len = request
            .encode(&mut message)
            .context("the message is too long")?;
        self.mail.clear();
        let turn = self.board.mail(self.now, &message[..len])?;
        self.note(turn)?;
        Ok(self.mail.pop_front())
    }

    /// A UDS request of the application in the extended session; the positive response.
    ///
    /// # Errors
    /// Another one.
    pub fn app(&mut self, pdu: &[u8]) -> Result<Vec<u8>> {
        let reply = self.message(&Request::Uds { session: 3, pdu })?;
        match reply.as_deref().and_then(Reply::parse) {
            Some(Reply::Uds(response)) if response.first() != Some(&0x7F) => Ok(response.to_vec()),
            other => bail!("{pdu:02X?}: {other:02X?}"),
        }
    }

    fn download(&mut self, format: u8, address: u32, len: usize) -> Result<usize> {
        let len = u32::try_from(len)?.to_be_bytes();
        let request = [&[0x34, format, 0x44], &address.to_be_bytes()[..], &len].concat();
        let response = self.ask(&request)?;
        let longest = response.get(2..4).and_then(|len| len.try_into().ok());
        Ok(usize::from(u16::from_be_bytes(longest.context("no length")?)) - 2)
    }

    fn block(&mut self, data: &[u8], counter: &mut u8) -> Result<u64> {
        let before = self.instructions;
        *counter = counter.wrapping_add(1);
        self.ask(&[&[0x36, *counter], data].concat())?;
        Ok(self.instructions - before)
    }

    /// Grant, header and table; the instructions that each block took.
    ///
    /// # Errors
    /// They are refused.
    pub fn send_metadata(&mut self, image: &Image) -> Result<Vec<u64>> {
        let metadata = image.metadata();
        let block = self.download(0, 0xF000_0000, metadata.len())?;
        let mut counter = 0;
        let blocks = metadata.chunks(block);
        let spent: Result<_> = blocks.map(|data| self.block(data, &mut counter)).collect();
        self.ask(&[0x37])?;
        spent
    }

    /// All pages; the instructions that each took.
    ///
    /// # Errors
    /// They are refused.
    pub fn send_pages(&mut self, image: &Image) -> Result<Vec<u64>> {
        let block = self.download(1, 0, image.pages().len())?;
        let mut counter = 0;
        let mut spent = Vec::new();
        for page in image.pages().chunks(image.page_size) {
            let mut page_spent = 0;
            for data in page.chunks(block.min(2048)) {
                page_spent += self.block(data, &mut counter)?;
            }
            spent.push(page_spent);
        }
        self.ask(&[0x37])?;
        Ok(spent)
    }

    /// Steps 2 to 6 of the sequence, from the running application on.
    ///
    /// # Errors
    /// A step fails.
    pub fn stage(&mut self, image: &Image) -> Result<Spent> {
        self.enter_programming()?;
        self.unlock()?;
        self.ask(&[&[0x2E, 0xF1, 0x5A], &[0x26; 10][..]].concat())?;
        let metadata = self.send_metadata(image)?;
        self.routine(0xFF00)?;
        let pages = self.send_pages(image)?;
        self.routine(0x0202)?;
        self.routine(0xFF01)?;
        Ok(Spent { metadata, pages })
    }

    /// The whole update: staged, tried, healthy, sealed.
    ///
    /// # Errors
    /// A step fails.
    pub fn update(&mut self, image: &Image) -> Result<Spent> {
        let spent = self.stage(image)?;
        self.routine(0x0210)?;
        self.ask(&[0x11, 1])?;
        self.message(&Request::SelfTestPassed)?;
        let seed = self.app(&[0x27, 1])?;
        let key = self.key(&seed)?;
        self.app(&[&[0x27, 2], &key[..]].concat())?;
        self.app(&[0x31, 1, 2, 0x12])?;
        Ok(spent)
    }

    /// The whole flash.
    ///
    /// # Errors
    /// The board is gone.
    pub fn flash(&mut self) -> Result<Vec<u8>> {
        self.board.dump(self.now)
    }
}

//! Two endpoints on a virtual clock with a faulty line between them.

use crate::can::{CanId, Frame};
use crate::isotp::{Addressing, Config, Endpoint, Event};
use crate::time::{Duration, Instant, earliest};
use std::vec::Vec;

/// xorshift64*; the seed is printed by whoever fails.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % limit
    }
}

/// Chances in a thousand, for every frame.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) loss: u64,
    pub(super) duplicate: u64,
    /// The frame overtakes or is overtaken: it arrives up to 5 ms late.
    pub(super) reorder: u64,
}

pub(super) type End = Endpoint<Vec<u8>, Vec<u8>>;

/// What one end saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) events: Vec<Event>,
    pub(super) messages: Vec<Vec<u8>>,
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    pub(super) seen: [Seen; 2],
    /// Every frame handed out: when, by which end, what.
    pub(super) trace: Vec<(Instant, usize, Frame)>,
    pub(super) faults: Faults,
    /// Confirms are late by this much, where frames are confirmed at all.
    pub(super) confirm_after: Duration,
    rng: Rng,
    line: Vec<(Instant, usize, Frame)>,
    confirms: Vec<(Instant, usize)>,
}

const DELAY: Duration = Duration::from_micros(250);

impl Pair {
    pub(super) fn new(configs: [Config; 2], room: usize) -> Self {
        Self {
            now: Instant::ZERO,
            ends: configs
                .map(|config| Endpoint::new(config, std::vec![0; room], std::vec![0; room])),
            seen: Default::default(),
            trace: Vec::new(),
            faults: Faults::default(),
            confirm_after: DELAY,
            rng: Rng(1),
            line: Vec::new(),
            confirms: Vec::new(),
        }
    }

    pub(super) fn with_faults(mut self, faults: Faults, seed: u64) -> Self {
        self.faults = faults;
        self.rng = Rng(seed | 1);
        self
    }

    /// Runs until nothing is on its way and no timer runs; at most an hour.
    pub(super) fn run(&mut self) {
        loop {
            self.transmit();
            let Some(next) = self.next() else { return };
            assert!(next < Instant::from_millis(3_600_000), "endless");
            self.now = self.now.max(next);
            self.deliver();
            for side in 0..2 {
                self.ends[side].handle_timeout(self.now);
                self.collect(side);
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        let line = self.line.iter().map(|(at, ..)| *at).min();
        let confirms = self.confirms.iter().map(|(at, _)| *at).min();
        self.ends
            .iter()
            .map(Endpoint::poll_timeout)
            .fold(earliest(line, confirms), earliest)
    }

    fn transmit(&mut self) {
        for side in 0..2 {
            while let Some(frame) = self.ends[side].poll_transmit(self.now) {
                self.trace.push((self.now, side, frame));
                if self.ends[side].config().timeouts.n_a.is_some() {
                    self.confirms.push((self.now + self.confirm_after, side));
                }
                self.put_on_line(side, frame);
            }
            self.collect(side);
        }
    }

    fn put_on_line(&mut self, side: usize, frame: Frame) {
        let mut hit = |chance| self.rng.below(1000) < chance;
        let (lost, twice, late) = (
            hit(self.faults.loss),
            hit(self.faults.duplicate),
            hit(self.faults.reorder),
        );
        let mut at = self.now + DELAY;
        if late {
            at = at + Duration::from_micros(self.rng.below(5000));
        }
        for _ in 0..(1 + usize::from(twice)) * usize::from(!lost) {
            self.line.push((at, 1 - side, frame));
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let due: Vec<_> = self.line.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, side, frame) in due {
            self.ends[side].handle_frame(now, &frame);
            self.collect(side);
        }
        let confirms: Vec<_> = self.confirms.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, side) in confirms {
            self.ends[side].on_transmitted(now);
            self.collect(side);
        }
    }

    fn collect(&mut self, side: usize) {
        while let Some(event) = self.ends[side].poll_event() {
            if matches!(event, Event::Received { .. }) {
                let message = self.ends[side].received().to_vec();
                self.seen[side].messages.push(message);
            }
            self.seen[side].events.push(event);
        }
    }
}

/// The configurations of a tester and an ECU that mirror each other.
pub(super) fn mirrored(config: Config) -> [Config; 2] {
    let addressing = match config.addressing {
        Addressing::Extended { tx, rx, functional } => Addressing::Extended {
            tx: rx,
            rx: tx,
            functional,
        },
        same => same,
    };
    let other = Config {
        tx_id: config.rx_id,
        rx_id: config.tx_id,
        addressing,
        ..config
    };
    [config, other]
}

pub(super) fn id(raw: u16) -> CanId {
    CanId::standard(raw).unwrap()
}

pub(super) fn bytes(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

//! The bus: transmit queues, arbitration, delivery, faults.

use crate::BusConfig;
use crate::bits::{self, FrameBits};
use crate::config::duration;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use uds::can::{CanId, Format, Frame};
use uds::time::Instant;

/// A node of one bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every other node received it.
    Received,
    /// A fault: nobody received it, although it was acknowledged.
    Lost,
}

/// A frame that is over: for the sender its completion, for all others its reception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The frame.
    pub frame: Frame,
    /// Who sent it.
    pub from: NodeId,
    /// When its last bit was over.
    pub at: Instant,
    /// Whether it arrived.
    pub outcome: Outcome,
}

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnqueueError {
    /// The node's queue is full; try again after its next delivery.
    Full,
    /// An FD frame on a classical bus.
    NotFd,
    /// The node has been detached.
    NoSuchNode,
}

impl fmt::Display for EnqueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the transmit queue is full",
            Self::NotFd => "a CAN FD frame on a classical bus",
            Self::NoSuchNode => "the node is not attached",
        })
    }
}

impl core::error::Error for EnqueueError {}

/// What the bus has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Frames completed, lost ones included.
    pub frames: u64,
    /// Frames lost by a fault.
    pub lost: u64,
    /// Transmissions destroyed by a fault and repeated.
    pub errors: u64,
    /// Time not idle: frames, error frames and intermissions.
    pub busy: Duration,
}

struct Queued {
    frame: Frame,
    priority: Priority,
    ready: u64,
    nanos: u64,
}

/// A transmission that has won arbitration.
struct Transmission {
    node: usize,
    start: u64,
    /// The last bit of the frame, or of the error frame where it is destroyed.
    end: u64,
    destroyed: bool,
}

/// A CAN bus.
///
/// Order of calls, with a `now` that never goes back: [`enqueue`](Self::enqueue) whatever nodes
/// send at `now`, then [`poll`](Self::poll) until it returns `None`, then
/// [`poll_timeout`](Self::poll_timeout) says when to come back.
///
/// A queue is a FIFO, as drivers have it; the frames at the heads arbitrate. Times are exact to the
/// nanosecond inside and rounded up to a microsecond at the surface.
pub struct Bus {
    config: BusConfig,
    nodes: Vec<Option<VecDeque<Queued>>>,
    transmission: Option<Transmission>,
    /// The sender of the current transmission has gone; its frame, if any.
    orphan: Option<Queued>,
    /// When the bus is, or becomes, idle.
    free: u64,
    rng: u64,
    /// The next transmission is destroyed.
    destroy: bool,
    stats: Stats,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("config", &self.config)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Bus {
    /// An idle bus without nodes.
    #[must_use]
    pub fn new(config: BusConfig) -> Self {
        Self {
            rng: config.seed,
            config,
            destroy: false,
            nodes: Vec::new(),
            transmission: None,
            orphan: None,
            free: 0,
            stats: Stats::default(),
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &BusConfig {
        &self.config
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Adds a node; it may take the place of one that has been detached.
    pub fn attach(&mut self) -> NodeId {
        let sending = self.transmission.as_ref().map(|tx| tx.node);
        let mut places = self.nodes.iter_mut().enumerate();
        if let Some((at, place)) = places.find(|(at, node)| node.is_none() && sending != Some(*at))
        {
            *place = Some(VecDeque::new());
            return NodeId(at);
        }
        self.nodes.push(Some(VecDeque::new()));
        NodeId(self.nodes.len() - 1)
    }

    /// Removes a node with everything in its queue; a frame already on the bus is completed.
    pub fn detach(&mut self, node: NodeId, now: Instant) {
        self.arbitrate(nanos(now));
        let queue = self.nodes.get_mut(node.0).and_then(Option::take);
        let sending = self
            .transmission
            .as_ref()
            .is_some_and(|tx| tx.node == node.0);
        if sending {
            self.orphan = queue.and_then(|mut queue| queue.pop_front());
        }
    }

    /// Empties the node's queue, as a driver does that resets its controller. A frame already on the
    /// bus is completed.
    pub fn clear(&mut self, node: NodeId) {
        let sending = self.transmission.as_ref().map(|tx| tx.node) == Some(node.0);
        if let Some(Some(queue)) = self.nodes.get_mut(node.0) {
            queue.truncate(usize::from(sending));
        }
    }

    /// Destroys the next transmission that starts: an error frame, and the controller repeats it.
    pub fn destroy_next(&mut self) {
        self.destroy = true;
    }

    /// The nodes attached now.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        let attached = |(at, node): (usize, &Option<_>)| node.as_ref().map(|_| NodeId(at));
        self.nodes.iter().enumerate().filter_map(attached)
    }

    /// How many frames the node's queue still takes.
    #[must_use]
    pub fn free_slots(&self, node: NodeId) -> usize {
        self.queue(node)
            .map_or(0, |queue| self.config.queue.saturating_sub(queue.len()))
    }

    /// How many frames wait or are being sent, of all nodes.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.nodes.iter().flatten().map(VecDeque::len).sum()
    }

    /// Queues a frame of `node` at `now`.
    ///
    /// # Errors
    /// See [`EnqueueError`]; the bus is unchanged.
    pub fn enqueue(
        &mut self,
        node: NodeId,
        frame: Frame,
        now: Instant,
    ) -> Result<(), EnqueueError> {
        if self.config.data_bps.is_none() && frame.format() != Format::Classical {
            return Err(EnqueueError::NotFd);
        }
        let slots = self.config.queue;
        let queued = Queued {
            priority: priority(&frame),
            ready: nanos(now),
            nanos: FrameBits::of(&frame).nanos(&self.config),
            frame,
        };
        let queue = self.nodes.get_mut(node.0).and_then(Option::as_mut);
        let queue = queue.ok_or(EnqueueError::NoSuchNode)?;
        if queue.len() >= slots {
            return Err(EnqueueError::Full);
        }
        queue.push_back(queued);
        Ok(())
    }

    /// The next frame that is over at `now`, in the order of the bus.
    pub fn poll(&mut self, now: Instant) -> Option<Delivery> {
        let now = nanos(now);
        loop {
            self.arbitrate(now);
            let tx = self.transmission.take_if(|tx| tx.end <= now)?;
            self.free = tx.end + self.config.nominal_nanos(bits::INTERMISSION);
            self.stats.busy += duration(self.free - tx.start);
            if tx.destroyed {
                self.stats.errors += 1;
                self.orphan = None;
                continue;
            }
            let queue = self.nodes.get_mut(tx.node).and_then(Option::as_mut);
            let orphan = self.orphan.take();
            let Some(sent) = orphan.or_else(|| queue?.pop_front()) else {
                continue;
            };
            let outcome = self.outcome();
            return Some(Delivery {
                frame: sent.frame,
                from: NodeId(tx.node),
                at: instant(tx.end),
                outcome,
            });
        }
    }

    /// All frames that are over at `now`; see [`poll`](Self::poll).
    pub fn advance(&mut self, now: Instant) -> Vec<Delivery> {
        core::iter::from_fn(|| self.poll(now)).collect()
    }

    /// When the next frame is over, as far as is known now; `None` while nothing is queued.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Some(tx) = &self.transmission {
            return Some(instant(tx.end));
        }
        let (node, start) = self.winner()?;
        let head = self.nodes.get(node)?.as_ref()?.front()?;
        Some(instant(start + head.nanos))
    }

    /// When everything queued so far will be over, repetitions apart; `None` while nothing is
    /// queued. Nobody waits for the bus before that, but for frames themselves.
    #[must_use]
    pub fn drained_at(&self) -> Option<Instant> {
        let next = nanos(self.poll_timeout()?);
        let intermission = self.config.nominal_nanos(bits::INTERMISSION);
        let all: u64 = self
            .nodes
            .iter()
            .flatten()
            .flatten()
            .map(|q| q.nanos + intermission)
            .sum();
        let first = match &self.transmission {
            Some(tx) => self.nodes.get(tx.node).and_then(Option::as_ref),
            None => self
                .winner()
                .and_then(|(node, _)| self.nodes.get(node)?.as_ref()),
        };
        let first = first
            .and_then(VecDeque::front)
            .map_or(0, |q| q.nanos + intermission);
        Some(instant(next + all.saturating_sub(first)))
    }

    fn queue(&self, node: NodeId) -> Option<&VecDeque<Queued>> {
        self.nodes.get(node.0)?.as_ref()
    }

    /// Who sends next, and from when: of the heads that are ready when the bus is free and the
    /// first of them is ready, the one with the dominant identifier.
    fn winner(&self) -> Option<(usize, u64)> {
        let heads = || {
            let head = |(at, queue): (usize, &Option<VecDeque<Queued>>)| {
                queue
                    .as_ref()?
                    .front()
                    .map(|head| (at, head.ready, head.priority))
            };
            self.nodes.iter().enumerate().filter_map(head)
        };
        let start = heads().map(|(_, ready, _)| ready).min()?.max(self.free);
        heads()
            .filter(|(_, ready, _)| *ready <= start)
            .min_by_key(|(_, _, priority)| *priority)
            .map(|(node, _, _)| (node, start))
    }

    /// Starts the transmission that is due at or before `now`, if the bus is free.
    fn arbitrate(&mut self, now: u64) {
        if self.transmission.is_some() {
            return;
        }
        let Some((node, start)) = self.winner().filter(|(_, start)| *start <= now) else {
            return;
        };
        let head = self
            .nodes
            .get(node)
            .and_then(Option::as_ref)
            .and_then(VecDeque::front);
        let Some(length) = head.map(|head| head.nanos) else {
            return;
        };
        let destroyed =
            core::mem::take(&mut self.destroy) | self.chance(self.config.faults.corrupt_ppm);
        let end = match destroyed {
            false => start + length,
            true => start + self.random() % length + self.config.nominal_nanos(bits::ERROR_FRAME),
        };
        self.transmission = Some(Transmission {
            node,
            start,
            end,
            destroyed,
        });
    }

    fn outcome(&mut self) -> Outcome {
        self.stats.frames += 1;
        if self.chance(self.config.faults.drop_ppm) {
            self.stats.lost += 1;
            return Outcome::Lost;
        }
        Outcome::Received
    }

    fn chance(&mut self, ppm: u32) -> bool {
        ppm != 0 && self.random() % 1_000_000 < u64::from(ppm)
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// The dominant frame is the least: base identifier, then 11 bits before 29 (RTR and IDE dominant),
/// then the extension, then classical before FD (FDF recessive).
type Priority = (u32, bool, u32, bool);

fn priority(frame: &Frame) -> Priority {
    let fd = frame.format() != Format::Classical;
    match frame.id() {
        CanId::Standard(id) => (id.as_raw().into(), false, 0, fd),
        CanId::Extended(id) => (id.as_raw() >> 18, true, id.as_raw() & 0x3_FFFF, fd),
    }
}

fn nanos(at: Instant) -> u64 {
    at.as_micros().saturating_mul(1000)
}

fn instant(nanos: u64) -> Instant {
    Instant::from_micros(nanos.div_ceil(1000))
}

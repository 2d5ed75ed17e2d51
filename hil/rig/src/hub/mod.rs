//! The hub of a user-space CAN bus: processes join by a Unix socket, the bus model says when each
//! frame is over, and the hub releases it then.
//!
//! Each connection (`SOCK_SEQPACKET`) is a node; messages are frames in the kernel's layouts, or a
//! filter (see [`can_link::layout`]). Model time is the time since the hub was bound. All frames
//! that are due are released at a go against absolute deadlines, never by a sleep per frame, so
//! being late does not add up. While more frames are queued behind, frames are released in batches
//! of a millisecond: nobody waits for a single one of them, and the machine saves most of its
//! context switches. The last frame before the bus falls idle is released at its time.
//!
//! A node whose queue is full is not read, so its socket fills and it has to wait, as for a
//! controller. What it wanted to send meanwhile is queued as of the time when there was room.

mod log;
mod node;
mod summary;

pub use summary::Summary;

use self::log::FrameLog;
use self::node::{Message, Node};
use self::summary::Lag;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::time::TimeSpec;
use simbus::{Bus, BusConfig, Delivery, EnqueueError, Outcome};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use uds::time::{Duration, Instant};

/// How long a frame may be held back while others are queued behind it.
const BATCH: Duration = Duration::from_millis(1);
/// Processes that may wait to be accepted.
const BACKLOG: i32 = 64;

/// What a hub serves and where.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// The bus.
    pub bus: BusConfig,
    /// The path of its socket.
    pub listen: PathBuf,
    /// Every completed frame goes there, in candump's format, with model time.
    pub log: Option<PathBuf>,
}

/// A bound hub, not running yet: processes can connect already.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    listener: UnixListener,
    bus: Bus,
    nodes: Vec<Node>,
    log: FrameLog,
    epoch: std::time::Instant,
    lag: Lag,
    summary: Summary,
}

impl Hub {
    /// Binds the socket and opens the log.
    ///
    /// # Errors
    /// When a file cannot be made, or another hub listens there.
    pub fn bind(config: HubConfig) -> Result<Self> {
        let log = FrameLog::create(config.log.as_deref())?;
        let listener = listen_at(&config.listen)
            .with_context(|| format!("cannot listen at {}", config.listen.display()))?;
        Ok(Self {
            bus: Bus::new(config.bus),
            summary: Summary::of(&config.bus),
            config,
            listener,
            nodes: Vec::new(),
            log,
            epoch: std::time::Instant::now(),
            lag: Lag::default(),
        })
    }

    /// Serves until `stop` becomes readable.
    ///
    /// # Errors
    /// When the log cannot be written or the kernel fails.
    pub fn run(mut self, stop: &impl AsFd) -> Result<Summary> {
        // Wake when asked to, not 50 µs later: at most a few thousand times a second.
        let _default = nix::sys::prctl::set_timerslack(1);
        loop {
            self.turn()?;
            if self.bus.backlog() == 0 {
                self.log.flush()?;
            }
            let wake = self.wake_at();
            if self.wait(stop, wake)? {
                break;
            }
            if let Some(target) = wake {
                // A node that waits for room has more: queued as of then, no time is lost.
                let more = self.nodes.iter().any(|node| node.waited);
                let idle_since = self.bus.drained_at().filter(|_| !more);
                self.lag.on_wake(target, self.now(), idle_since);
            }
        }
        self.log.flush()?;
        Ok(self.finish())
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.epoch.elapsed()
    }

    /// Releases what is due and takes what nodes have to send, until neither gets on.
    fn turn(&mut self) -> Result<()> {
        loop {
            let now = self.now();
            while let Some(delivery) = self.bus.poll(now) {
                self.release(&delivery)?;
            }
            let overdue = self.read_nodes(now);
            self.remove_gone(now);
            if !overdue {
                return Ok(());
            }
        }
    }

    fn release(&mut self, delivery: &Delivery) -> Result<()> {
        self.log.write(delivery)?;
        for node in &mut self.nodes {
            if node.id == delivery.from {
                node.on_sent(delivery.at);
            } else if delivery.outcome == Outcome::Received && !node.send(&delivery.frame) {
                self.summary.overruns += 1;
            }
        }
        Ok(())
    }

    /// Fills the queues; says whether a frame in them may be over already.
    fn read_nodes(&mut self, now: Instant) -> bool {
        let mut late = false;
        for node in &mut self.nodes {
            let waited = node.waited;
            node.waited = false;
            loop {
                if self.bus.free_slots(node.id) == 0 {
                    node.waited = true;
                    break;
                }
                let frame = match node.receive() {
                    Message::Frame(frame) => frame,
                    Message::Filter(filter) => {
                        node.filter = filter;
                        continue;
                    }
                    Message::Malformed => {
                        self.summary.rejected += 1;
                        continue;
                    }
                    Message::Nothing | Message::Gone => break,
                };
                let ready = if waited { node.last_sent } else { now };
                match self.bus.enqueue(node.id, frame, ready) {
                    Ok(()) => late |= waited,
                    Err(EnqueueError::NotFd | EnqueueError::NoSuchNode | EnqueueError::Full) => {
                        self.summary.rejected += 1;
                    }
                }
            }
        }
        late && self.bus.poll_timeout().is_some_and(|next| next <= now)
    }

    fn remove_gone(&mut self, now: Instant) {
        let bus = &mut self.bus;
        self.nodes.retain(|node| {
            if node.gone {
                bus.detach(node.id, now);
            }
            !node.gone
        });
    }

    /// When to look again without being told: see the head of this module.
    fn wake_at(&self) -> Option<Instant> {
        let next = self.bus.poll_timeout()?;
        let drained = self.bus.drained_at().unwrap_or(next);
        Some((next + BATCH).min(drained).max(next))
    }

    /// Sleeps; says whether to stop.
    fn wait(&mut self, stop: &impl AsFd, wake: Option<Instant>) -> Result<bool> {
        let timeout = wake.map(|wake| TimeSpec::from_duration(wake.saturating_since(self.now())));
        let input = PollFlags::POLLIN;
        let mut fds = vec![
            PollFd::new(stop.as_fd(), input),
            PollFd::new(self.listener.as_fd(), input),
        ];
        let readable = self.nodes.iter().filter(|node| !node.waited);
        fds.extend(readable.map(|node| PollFd::new(node.as_fd(), input)));
        match ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => bail!("waiting for the nodes: {error}"),
        }
        let ready = |at: usize| {
            fds.get(at)
                .is_some_and(|fd: &PollFd<'_>| fd.any() == Some(true))
        };
        let (stopped, connecting) = (ready(0), ready(1));
        drop(fds);
        if connecting {
            self.accept()?;
        }
        Ok(stopped)
    }

    /// All that wait: what is released from now on is theirs too.
    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _unnamed)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accepting a node"),
            };
            let id = self.bus.attach();
            match Node::new(id, stream) {
                Ok(node) => self.nodes.push(node),
                Err(error) => {
                    tracing::warn!(%error, "a node could not join");
                    self.bus.detach(id, self.now());
                }
            }
            self.summary.nodes += 1;
        }
    }

    fn finish(self) -> Summary {
        // Another hub may have taken the place already; then there is nothing to remove.
        let _gone = fs::remove_file(&self.config.listen);
        let seconds = self.epoch.elapsed().as_secs_f64();
        self.summary.complete(seconds, &self.bus.stats(), &self.lag)
    }
}

/// A hub that runs in a thread of this process.
#[derive(Debug)]
pub struct RunningHub {
    stop: UnixStream,
    thread: JoinHandle<Result<Summary>>,
}

impl RunningHub {
    /// Binds and runs a hub.
    ///
    /// # Errors
    /// See [`Hub::bind`].
    pub fn spawn(config: HubConfig) -> Result<Self> {
        let hub = Hub::bind(config)?;
        let (stop, stopped) = UnixStream::pair().context("a socket to stop the hub by")?;
        let thread = std::thread::spawn(move || hub.run(&stopped));
        Ok(Self { stop, thread })
    }

    /// Stops it.
    ///
    /// # Errors
    /// What [`Hub::run`] ended with.
    pub fn stop(self) -> Result<Summary> {
        drop(self.stop);
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the hub's thread panicked"),
        }
    }
}

/// A listening socket at `path`; one that a dead hub left behind is replaced.
fn listen_at(path: &Path) -> Result<UnixListener> {
    let address = UnixAddr::new(path).context("a socket's path has at most 107 bytes")?;
    let new = || -> Result<OwnedFd, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
    };
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            bail!("something else than a socket is there");
        }
        match connect(new()?.as_raw_fd(), &address) {
            Err(Errno::ECONNREFUSED) => fs::remove_file(path)?,
            Ok(()) => bail!("another hub listens there"),
            Err(error) => bail!("another program's socket is there ({error})"),
        }
    }
    let fd = new()?;
    bind(fd.as_raw_fd(), &address)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    // The type of the socket does not matter to the standard library's listener.
    let listener = UnixListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

//! One link shared by many parties of a process, each with identifiers of its own.

use crate::{FrameLink, LinkError, LinkOptions, Received};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::AbortHandle;
use uds::can::{CanId, Frame};

/// Frames that wait for one party. More only come from a peer that ignores flow control.
const QUEUE: usize = 8192;
/// Frames that the demultiplexer takes at a go before others of the runtime have a turn.
const BATCH: usize = 256;

/// A bus that several parties of this process use over one connection. Clones are the same bus;
/// it closes with its last clone, subscription and channel.
#[derive(Debug, Clone)]
pub struct Bus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    link: Arc<FrameLink>,
    routes: Arc<Routes>,
    reader: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[derive(Debug, Default)]
struct Routes {
    next: AtomicU64,
    parties: Mutex<Parties>,
    failure: OnceLock<LinkError>,
}

#[derive(Debug, Default)]
struct Parties {
    by_id: HashMap<CanId, Vec<Route>>,
    everything: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    party: u64,
    frames: mpsc::Sender<Received>,
}

impl Bus {
    /// Opens the link called `name`; see [`FrameLink::open`]. Within a tokio runtime.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn open(name: &str, fd: bool) -> Result<Self, LinkError> {
        let options = LinkOptions {
            fd,
            filters: Some(Vec::new()),
        };
        Ok(Self::new(FrameLink::open(name, &options)?))
    }

    /// A bus over an open link, whose filters it manages from now on. Within a tokio runtime.
    #[must_use]
    pub fn new(link: FrameLink) -> Self {
        let link = Arc::new(link);
        let routes = Arc::new(Routes::default());
        let reader = tokio::spawn(demultiplex(link.clone(), routes.clone())).abort_handle();
        Self(Arc::new(Shared {
            link,
            routes,
            reader,
        }))
    }

    /// The link, to send frames.
    #[must_use]
    pub fn link(&self) -> &FrameLink {
        &self.0.link
    }

    /// Sends a frame, waiting for room.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn send(&self, frame: &Frame) -> Result<(), LinkError> {
        self.0.link.send(frame).await
    }

    /// Receives the frames of `ids` from now on.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn subscribe(&self, ids: &[CanId]) -> Result<Subscription, LinkError> {
        self.subscribe_to(Some(ids))
    }

    /// Receives all frames from now on.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn subscribe_all(&self) -> Result<Subscription, LinkError> {
        self.subscribe_to(None)
    }

    fn subscribe_to(&self, ids: Option<&[CanId]>) -> Result<Subscription, LinkError> {
        let routes = &self.0.routes;
        let party = routes.next.fetch_add(1, Ordering::Relaxed);
        let (frames, queue) = mpsc::channel(QUEUE);
        let route = || Route {
            party,
            frames: frames.clone(),
        };
        let mut parties = locked(&routes.parties);
        match ids {
            None => parties.everything.push(route()),
            Some(ids) => {
                for id in ids {
                    parties.by_id.entry(*id).or_default().push(route());
                }
            }
        }
        let set = self.update_filters(&parties);
        drop(parties);
        let subscription = Subscription {
            party,
            bus: self.clone(),
            queue,
        };
        // After the insertion: the link may have ended meanwhile, and nobody would tell the party.
        match routes.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => set.map(|()| subscription),
        }
    }

    /// Within the lock, so that filters are set in the order of the changes.
    fn update_filters(&self, parties: &Parties) -> Result<(), LinkError> {
        let ids: Vec<CanId> = parties.by_id.keys().copied().collect();
        let some = parties.everything.is_empty().then_some(ids.as_slice());
        self.0.link.set_filters(some)
    }

    /// Delivers what the socket holds already, before timers are looked at.
    pub(crate) fn pump(&self) {
        // An error ends the demultiplexer, which tells everybody.
        while let Ok(false) = self.0.routes.pump(&self.0.link) {}
    }
}

/// The frames of one party. Dropped, it is unsubscribed.
#[derive(Debug)]
pub struct Subscription {
    party: u64,
    bus: Bus,
    queue: mpsc::Receiver<Received>,
}

impl Subscription {
    /// The next frame.
    ///
    /// # Errors
    /// Why the link ended.
    pub async fn recv(&mut self) -> Result<Received, LinkError> {
        match self.queue.recv().await {
            Some(received) => Ok(received),
            None => Err(self.failure()),
        }
    }

    /// The next frame, if one is there.
    pub fn try_recv(&mut self) -> Option<Received> {
        self.queue.try_recv().ok()
    }

    /// The bus.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    fn failure(&self) -> LinkError {
        let closed = || LinkError::Closed {
            name: self.bus.link().name().into(),
        };
        self.bus
            .0
            .routes
            .failure
            .get()
            .cloned()
            .unwrap_or_else(closed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut parties = locked(&self.bus.0.routes.parties);
        let others = |route: &Route| route.party != self.party;
        parties.everything.retain(others);
        parties.by_id.retain(|_, routes| {
            routes.retain(others);
            !routes.is_empty()
        });
        // Too many frames do no harm.
        let _ignored = self.bus.update_filters(&parties);
    }
}

/// Takes every frame from the link to those who want it, until the link ends.
async fn demultiplex(link: Arc<FrameLink>, routes: Arc<Routes>) {
    let failure = loop {
        if let Err(error) = link.when_readable(|| routes.pump(&link)).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    let _first = routes.failure.set(failure);
    locked(&routes.parties).clear();
}

impl Routes {
    /// Delivers what the socket holds, up to a batch; says whether that was all. The lock keeps the
    /// order of the frames, whoever calls.
    fn pump(&self, link: &FrameLink) -> Result<bool, LinkError> {
        let parties = locked(&self.parties);
        for _ in 0..BATCH {
            match link.try_recv()? {
                Some(received) => parties.deliver(received),
                None => return Ok(true),
            }
        }
        Ok(false)
    }
}

impl Parties {
    fn deliver(&self, received: Received) {
        let by_id = self.by_id.get(&received.frame.id()).into_iter().flatten();
        for route in by_id.chain(&self.everything) {
            if let Err(TrySendError::Full(_)) = route.frames.try_send(received) {
                tracing::warn!(frame = ?received.frame, "frame lost: its receiver does not keep up");
            }
        }
    }

    fn clear(&mut self) {
        self.by_id.clear();
        self.everything.clear();
    }
}

/// Nothing in here panics while it holds a lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

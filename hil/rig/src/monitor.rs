//! A listener on every bus: which version each ECU's heartbeat tells.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use can_link::{FrameLink, LinkOptions};
use uds::can::CanId;

use crate::vehicle::{BUSES, ECUS, EcuSpec};

/// Hears every heartbeat from the moment it is started.
#[derive(Debug)]
pub struct Monitor {
    heard: Arc<Heard>,
    // Dropping the runtime ends the listeners.
    _runtime: tokio::runtime::Runtime,
}

/// A point in the sequence of heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark(u64);

#[derive(Debug, Default)]
struct Heard {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    count: u64,
    /// By heartbeat id: when it was heard last, and the version it told.
    versions: HashMap<u32, (Mark, String)>,
}

impl Monitor {
    /// Listens on `links`, one per bus in the order of [`BUSES`].
    ///
    /// # Errors
    /// When a bus cannot be joined.
    pub fn start(links: &[String]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("no runtime for the monitor")?;
        let heard = Arc::new(Heard::default());
        for (bus, link) in BUSES.iter().zip(links) {
            let filters = ECUS
                .iter()
                .filter(|ecu| ecu.bus == bus.name)
                .filter_map(heartbeat_id)
                .collect();
            let options = LinkOptions {
                fd: bus.data_bitrate.is_some(),
                filters: Some(filters),
            };
            let link = {
                let _context = runtime.enter();
                FrameLink::open(link, &options)?
            };
            let heard = Arc::clone(&heard);
            runtime.spawn(async move {
                while let Ok(received) = link.recv().await {
                    heard.note(received.frame.id(), received.frame.data());
                }
            });
        }
        Ok(Self {
            heard,
            _runtime: runtime,
        })
    }

    /// Now: heartbeats after it are later ones.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.heard.lock().count)
    }

    /// The version that `ecu` told last.
    #[must_use]
    pub fn version(&self, ecu: &EcuSpec) -> Option<String> {
        let id = u32::from(ecu.heartbeat_id);
        self.heard
            .lock()
            .versions
            .get(&id)
            .map(|(_, version)| version.clone())
    }

    /// The version that `ecu` tells after `mark`.
    ///
    /// # Errors
    /// When nothing is heard of it within `limit`.
    pub fn await_version_after(
        &self,
        mark: Mark,
        ecu: &EcuSpec,
        limit: Duration,
    ) -> Result<String> {
        let deadline = Instant::now() + limit;
        let id = u32::from(ecu.heartbeat_id);
        let mut state = self.heard.lock();
        loop {
            if let Some((at, version)) = state.versions.get(&id)
                && *at > mark
            {
                return Ok(version.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{}: no heartbeat within {limit:?}", ecu.name);
            }
            state = self
                .heard
                .news
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Heard {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, id: CanId, data: &[u8]) {
        let Some(version) = virtual_ecu::app::heartbeat_version(data) else {
            return;
        };
        let mut state = self.lock();
        state.count += 1;
        let mark = Mark(state.count);
        state.versions.insert(id.raw(), (mark, version));
        self.news.notify_all();
    }
}

fn heartbeat_id(ecu: &EcuSpec) -> Option<CanId> {
    CanId::standard(ecu.heartbeat_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_heartbeats_after_the_mark_count() {
        let heard = Arc::new(Heard::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let monitor = Monitor {
            heard: Arc::clone(&heard),
            _runtime: runtime,
        };
        let ecu = &ECUS[0];
        heard.note(heartbeat_id(ecu).unwrap(), &[0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(monitor.version(ecu).unwrap(), "1.0.0");
        let mark = monitor.mark();
        assert!(
            monitor
                .await_version_after(mark, ecu, Duration::ZERO)
                .is_err()
        );
        heard.note(heartbeat_id(ecu).unwrap(), &[0, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            monitor
                .await_version_after(mark, ecu, Duration::ZERO)
                .unwrap(),
            "2.0.0"
        );
    }
}

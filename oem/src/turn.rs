//! A server's requests that change the repository: a few at once, each for a moment, and none of them on
//! a thread that serves others.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use crate::{error::Error, repo::Repo};

/// So many are answered at once; others wait without a thread.
const AT_ONCE: usize = 4;
/// How long it is tried to get the repository's lock, which each answer holds for a moment, and a
/// release for longer.
const LOCK: Duration = Duration::from_secs(5);

/// The repository, as a server's requests see it.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    dir: PathBuf,
    turns: Arc<Semaphore>,
}

impl Turns {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs what waits for the repository's lock where waiting is allowed.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] where somebody else holds the lock for long, and what `act` fails with.
    pub(crate) async fn with_repo<T: Send + 'static>(
        self,
        act: impl FnOnce(&Repo) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = self.turns.acquire_owned().await;
        let work = tokio::task::spawn_blocking(move || {
            let result = act(&open(&self.dir)?);
            drop(turn);
            result
        });
        work.await.unwrap_or_else(|error| {
            Err(Error::System {
                what: "answering",
                error: std::io::Error::other(error),
            })
        })
    }
}

/// The repository, if it can be had within a while.
fn open(dir: &Path) -> Result<Repo, Error> {
    let end = Instant::now() + LOCK;
    loop {
        match Repo::open_now(dir) {
            Err(Error::Busy(_)) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(50));
            }
            opened => return opened,
        }
    }
}

//! The disk below SQLite: files in memory that lose power, and with it what was not synchronised.
//!
//! What a drive and a file system promise, and no more: a write, a truncation, a new name or a
//! deleted one is durable after the synchronisation of its file or folder. Until then a loss of power
//! keeps any part of it, in any order; of a write also a part.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::vfs;

/// What remains of what was not synchronised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All: the process died, the machine did not.
    Nothing,
    /// Nothing.
    Unsynced,
    /// Some of it, chosen by this seed, and parts of writes.
    Torn(u64),
}

/// A change that is not synchronised.
#[derive(Debug, Clone)]
pub(crate) enum Pending {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Pending {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(bytes);
            }
            Self::Truncate(len) => content.resize(*len, 0),
        }
    }

    /// What a power cut may leave of it.
    fn torn(&self, rng: &mut StdRng) -> Option<Self> {
        match (rng.random_range(0..3), self) {
            (0, _) => None,
            (1, Self::Write(at, bytes)) => {
                // Sectors of 512 bytes are written whole.
                let sectors = rng.random_range(0..=bytes.len() / 512);
                Some(Self::Write(*at, bytes[..sectors * 512].to_vec()))
            }
            _ => Some(self.clone()),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) synced: Vec<u8>,
    pub(crate) pending: Vec<Pending>,
}

impl File {
    pub(crate) fn change(&mut self, change: Pending) {
        change.apply(&mut self.content);
        self.pending.push(change);
    }

    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    fn lose(&mut self, loss: Loss, rng: &mut StdRng) {
        for change in self.pending.drain(..) {
            let kept = match loss {
                Loss::Nothing => Some(change),
                Loss::Unsynced => None,
                Loss::Torn(_) => change.torn(rng),
            };
            if let Some(kept) = kept {
                kept.apply(&mut self.synced);
            }
        }
        self.content.clone_from(&self.synced);
    }
}

/// Files and their names; names that are there now, and those that are durable.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) files: Vec<File>,
    pub(crate) names: BTreeMap<String, usize>,
    pub(crate) durable: BTreeMap<String, usize>,
    pub(crate) operations: u64,
    pub(crate) fails_at: Option<u64>,
    pub(crate) off: bool,
}

impl State {
    /// Counts a change; false where power fails in it or has failed.
    pub(crate) fn operate(&mut self) -> bool {
        self.off |= self.fails_at == Some(self.operations);
        self.operations += 1;
        !self.off
    }

    pub(crate) fn create(&mut self, name: &str) -> usize {
        let id = self.files.len();
        self.files.push(File::default());
        self.names.insert(name.to_owned(), id);
        id
    }

    pub(crate) fn sync(&mut self, id: usize) {
        self.files[id].sync();
        // As file systems do: a new file is synchronised with its name.
        for (name, file) in &self.names {
            if *file == id {
                self.durable.insert(name.clone(), id);
            }
        }
    }

    pub(crate) fn delete(&mut self, name: &str, sync_folder: bool) {
        self.names.remove(name);
        if sync_folder {
            self.durable = self.names.clone();
        }
    }

    fn lose_power(&mut self, loss: Loss) {
        let mut rng = StdRng::seed_from_u64(match loss {
            Loss::Torn(seed) => seed,
            Loss::Nothing | Loss::Unsynced => 0,
        });
        for file in &mut self.files {
            file.lose(loss, &mut rng);
        }
        match loss {
            Loss::Nothing => {}
            Loss::Unsynced => self.names = self.durable.clone(),
            Loss::Torn(_) => {
                let all: Vec<String> = self
                    .names
                    .keys()
                    .chain(self.durable.keys())
                    .cloned()
                    .collect();
                for name in all {
                    if self.names.get(&name) == self.durable.get(&name) || rng.random() {
                        continue;
                    }
                    match self.durable.get(&name) {
                        Some(id) => self.names.insert(name, *id),
                        None => self.names.remove(&name),
                    };
                }
            }
        }
        self.durable = self.names.clone();
        self.off = false;
        self.fails_at = None;
    }
}

static DISKS: Mutex<BTreeMap<u64, Arc<Mutex<State>>>> = Mutex::new(BTreeMap::new());

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A disk.
#[derive(Debug)]
pub struct Disk {
    id: u64,
    state: Arc<Mutex<State>>,
}

impl Default for Disk {
    fn default() -> Self {
        Self::of(State::default())
    }
}

impl Disk {
    fn of(state: State) -> Self {
        vfs::register();
        let mut disks = lock(&DISKS);
        let id = disks.last_key_value().map_or(0, |(id, _)| id + 1);
        let state = Arc::new(Mutex::new(state));
        disks.insert(id, Arc::clone(&state));
        Self { id, state }
    }

    /// Where SQLite finds a database on it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("file:/{}/journal?vfs=chaos", self.id).into()
    }

    /// Changes so far: writes, truncations, synchronisations, files created and deleted.
    #[must_use]
    pub fn operations(&self) -> u64 {
        lock(&self.state).operations
    }

    /// Lets power fail in this operation, counted as [`Disk::operations`] does.
    pub fn fail_at(&self, operation: u64) {
        lock(&self.state).fails_at = Some(operation);
    }

    /// Whether power has failed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        lock(&self.state).off
    }

    /// Power fails now, if it has not: the disk as it is when power comes back. Who still uses this
    /// one gets errors, so that what is dropped late changes nothing.
    #[must_use]
    pub fn lose_power(&self, loss: Loss) -> Self {
        let mut state = lock(&self.state);
        state.off = true;
        let mut again = state.clone();
        again.lose_power(loss);
        drop(state);
        Self::of(again)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        lock(&DISKS).remove(&self.id);
    }
}

/// `/ID/NAME`.
pub(crate) fn find(name: &str) -> Option<(Arc<Mutex<State>>, &str)> {
    let (id, name) = name.strip_prefix('/')?.split_once('/')?;
    let disk = lock(&DISKS).get(&id.parse().ok()?)?.clone();
    Some((disk, name))
}

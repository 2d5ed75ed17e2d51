//! The state folder: a lock, the journal, the trust that was reached, and the images.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use campaign::Trust;
use ecu_image::Digest;

use crate::error::Error;
use crate::journal::SqliteJournal;
use crate::ports::Outbox as _;

/// The journal's file in the state folder.
pub const JOURNAL: &str = "journal.sqlite";

/// An opened state folder; no other process has it meanwhile.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    _lock: File,
}

impl State {
    /// Opens or creates the folder and locks it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::File`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let cache = dir.join("cache");
        std::fs::create_dir_all(&cache).map_err(Error::file(&cache))?;
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(Error::file(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(Error::file(&path)(source)),
        }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The user that this process runs as, as a number.
    #[must_use]
    pub fn user(&self) -> u32 {
        use std::os::unix::fs::MetadataExt;

        // The lock may have been made by another user before.
        let process = std::fs::metadata("/proc/self").or_else(|_| self._lock.metadata());
        process.map_or(u32::MAX, |process| process.uid())
    }

    /// Where images are kept.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// The file of an image.
    #[must_use]
    pub fn image(&self, sha256: &Digest) -> PathBuf {
        self.cache().join(format!("{sha256}.img"))
    }

    /// The journal.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`].
    pub fn journal(&self) -> Result<SqliteJournal, Error> {
        Ok(SqliteJournal::open(&self.journal_path())?)
    }

    /// The journal's file.
    #[must_use]
    pub fn journal_path(&self) -> PathBuf {
        self.dir.join(JOURNAL)
    }

    /// Sets a journal aside that is no database any more, and returns the name that it got and what
    /// was wrong: the vehicle stays usable. What a campaign under way has done is then unknown here,
    /// but not to the ECUs: the same campaign, or the next, goes on from what they say.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] for everything else that keeps it from being used; [`Error::File`].
    pub fn mend_journal(&self) -> Result<Option<(String, String)>, Error> {
        let read = self.journal().and_then(|mut journal| {
            journal.check()?;
            journal.last()?;
            Ok(journal.undelivered(1)?)
        });
        let why = match read {
            Ok(_) => return Ok(None),
            Err(Error::Journal(error)) if is_damage(&error.0) => error.0,
            Err(error) => return Err(error),
        };
        let name = |number: u32| format!("journal.broken-{number}.sqlite");
        let mut free = (1..).map(name).filter(|name| !self.dir.join(name).exists());
        let name = free.next().unwrap_or_default();
        // SQLite would play what a transaction left behind into the new file.
        for end in ["-journal", ""] {
            let from = self.dir.join(format!("journal.sqlite{end}"));
            let to = self.dir.join(format!("{name}{end}"));
            match std::fs::rename(&from, to) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file(&from)(error));
                }
                _ => {}
            }
        }
        drop(self.journal()?);
        Ok(Some((name, why)))
    }

    /// The trust that the last verified campaign reached, else the pinned one of `root`.
    ///
    /// # Errors
    ///
    /// [`Error::Trust`], [`Error::File`].
    pub fn trust(&self, root: &Path) -> Result<Trust, Error> {
        let stored = self.trust_path();
        let pinned = !stored.exists();
        let path = if pinned { root } else { &stored };
        let bytes = std::fs::read(path).map_err(|error| match pinned {
            true => Error::configuration(path)(error),
            false => Error::file(path)(error),
        })?;
        Trust::from_json(&bytes).map_err(|error| match pinned {
            true => Error::Trust {
                path: path.to_owned(),
                what: error.to_string(),
            },
            // No matter of configuration: a campaign under way goes on without it. It is not begun
            // anew by itself, since it is what forbids older documents.
            false => Error::file(path)(std::io::Error::other(error.to_string())),
        })
    }

    /// Stores the trust that a verified campaign reached.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn store_trust(&self, trust: &Trust) -> Result<(), Error> {
        let path = self.trust_path();
        let bytes = trust.to_json().map_err(|error| Error::Trust {
            path: path.clone(),
            what: error.to_string(),
        })?;
        replace(&path, &bytes).map_err(Error::file(&path))
    }

    /// Deletes what is in the cache but for these images, whole or in part.
    pub fn clean_cache(&self, keep: &[Digest]) {
        let keep: Vec<String> = keep.iter().map(Digest::to_string).collect();
        let kept = |path: &Path| {
            let name = path.file_stem().and_then(|name| name.to_str());
            name.is_some_and(|name| keep.iter().any(|keep| keep == name))
        };
        let files = std::fs::read_dir(self.cache()).into_iter().flatten();
        for file in files.flatten().filter(|file| !kept(&file.path())) {
            if let Err(error) = std::fs::remove_file(file.path()) {
                tracing::warn!(path = %file.path().display(), %error, "not deleted");
            }
        }
    }

    fn trust_path(&self) -> PathBuf {
        self.dir.join("trust.json")
    }
}

/// What SQLite says of a file that has lost its form.
fn is_damage(error: &str) -> bool {
    ["not a database", "malformed"]
        .iter()
        .any(|damage| error.contains(damage))
}

/// Gives a file other content: after a loss of power it has the one or the other.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_cleaned_of_all_but_what_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let names = ["img", "part", "etag"].map(|end| format!("{}.{end}", Digest([1; 32])));
        let others = [format!("{}.img", Digest([2; 32])), "other".to_owned()];
        for name in names.iter().chain(&others) {
            std::fs::write(state.cache().join(name), "x").unwrap();
        }
        state.clean_cache(&[Digest([1; 32])]);
        assert!(names.iter().all(|name| state.cache().join(name).exists()));
        assert!(others.iter().all(|name| !state.cache().join(name).exists()));
    }

    /// Pages of the file that nothing reads at the start are looked at, too.
    #[test]
    fn damage_anywhere_in_the_journal_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        drop(state.journal().unwrap());
        let path = dir.path().join("journal.sqlite");
        let whole = std::fs::read(&path).unwrap();
        assert!(state.mend_journal().unwrap().is_none());
        let pages = whole.len() / 4096;
        for page in 1..pages {
            let mut bytes = whole.clone();
            bytes[page * 4096..][..4096].fill(0xA5);
            std::fs::write(&path, bytes).unwrap();
            let mended = state.mend_journal().unwrap();
            assert!(mended.is_some(), "page {page} of {pages}");
        }
    }
}

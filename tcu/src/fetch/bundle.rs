//! A bundle: one tar file with the documents and images of one vehicle, named as in the repository.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::part::Part;
use super::{Artifact, FetchError, settle};

/// A bundle file.
#[derive(Debug)]
pub struct BundleSource {
    path: PathBuf,
}

impl BundleSource {
    /// A bundle that can be opened.
    ///
    /// # Errors
    ///
    /// [`FetchError::File`].
    pub fn open(path: &Path) -> Result<Self, FetchError> {
        File::open(path).map_err(FetchError::file(path))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// A document of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub fn document(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, FetchError> {
        self.with_entry(name, |entry| {
            let mut bytes = Vec::new();
            entry.take(limit as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        })?
        .map(|bytes| match bytes.len() {
            len if len > limit => Err(FetchError::TooLong {
                what: name.to_owned(),
                limit: limit as u64,
            }),
            _ => Ok(bytes),
        })
        .transpose()
    }

    /// Copies an image into the cache.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub fn artifact(
        &self,
        artifact: &Artifact,
        cache: &Path,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), FetchError> {
        let part = Part::of(artifact, cache);
        let mut out = part.restart(None).map_err(FetchError::file(part.path()))?;
        let copied = self.with_entry(&artifact.path, |entry| {
            std::io::copy(&mut entry.take(artifact.length), &mut out)
        })?;
        progress(copied.ok_or_else(|| FetchError::Missing(artifact.path.clone()))?);
        settle(artifact, cache)
    }

    /// Calls `read` with the entry of that name. Entries are only ever read by name, so where an
    /// entry wants to be unpacked to does not matter. Names stand in the ustar header alone: the
    /// extensions for long ones are read into memory, however long a stranger made them.
    fn with_entry<T>(
        &self,
        name: &str,
        read: impl FnOnce(&mut dyn Read) -> std::io::Result<T>,
    ) -> Result<Option<T>, FetchError> {
        let find = || -> std::io::Result<Option<T>> {
            let mut archive = tar::Archive::new(File::open(&self.path)?);
            for entry in archive.entries_with_seek()?.raw(true) {
                let mut entry = entry?;
                if entry.header().entry_type().is_file() && entry.path_bytes() == name.as_bytes() {
                    return read(&mut entry).map(Some);
                }
            }
            Ok(None)
        };
        let printable = |error: &std::io::Error| -> String {
            // It quotes what it found, which may be anything.
            let text = error.to_string();
            let shown = text
                .chars()
                .take_while(|char| !char.is_control() && *char != '\u{fffd}');
            shown.take(120).collect()
        };
        find().map_err(|error| match error.raw_os_error() {
            Some(_) => FetchError::file(&self.path)(error),
            // The system has no complaint, so the archive is malformed or cut.
            None => FetchError::NoBundle {
                path: self.path.clone(),
                what: printable(&error),
            },
        })
    }
}

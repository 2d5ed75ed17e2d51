//! The file that grows until it has its length and hash, and the validator of what it holds.
//!
//! It survives the program: beside `HASH.part` lies `HASH.etag`, the strong entity tag of the answer
//! that the bytes are from, so that a later range is asked for only if the file is still that one.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Artifact;

/// Bytes after which what was written is made durable: no power cut costs more.
const SYNC_EVERY: u64 = 4 << 20;
/// The longest entity tag that is kept, in bytes.
const TAG_MAX: usize = 256;

/// What there is of an artifact.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    tag_path: PathBuf,
}

impl Part {
    pub(super) fn of(artifact: &Artifact, cache: &Path) -> Self {
        Self {
            path: cache.join(format!("{}.part", artifact.sha256)),
            tag_path: cache.join(format!("{}.etag", artifact.sha256)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes there are.
    pub(super) fn length(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// The entity tag of what there is; `None` where the server gave none that helps.
    pub(super) fn tag(&self) -> Option<String> {
        let tag = std::fs::read_to_string(&self.tag_path).ok();
        tag.filter(|tag| is_strong_tag(tag))
    }

    /// Begins anew, with the bytes of an answer that has this entity tag.
    pub(super) fn restart(&self, tag: Option<&str>) -> io::Result<Growing> {
        // No moment at which old bytes have the new tag.
        let file = self.open(0)?;
        match tag.filter(|tag| is_strong_tag(tag)) {
            Some(tag) => std::fs::write(&self.tag_path, tag)?,
            None => remove(&self.tag_path)?,
        }
        Ok(file)
    }

    /// Goes on after the first `have` bytes.
    pub(super) fn open(&self, have: u64) -> io::Result<Growing> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)?;
        file.set_len(have)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Growing { file, unsynced: 0 })
    }

    /// Nothing is left of it.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove(&self.path)?;
        remove(&self.tag_path)
    }

    /// It is complete: it gets this name, durably.
    pub(super) fn finish(&self, path: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        std::fs::rename(&self.path, path)?;
        remove(&self.tag_path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// A part that is being written.
#[derive(Debug)]
pub(super) struct Growing {
    file: File,
    unsynced: u64,
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced = self.unsynced.saturating_add(written as u64);
        if self.unsynced >= SYNC_EVERY {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A strong entity tag (RFC 9110, 8.8.3): a weak one may not be used to continue a file (13.1.5).
fn is_strong_tag(tag: &str) -> bool {
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    tag.len() <= TAG_MAX
        && inner.is_some_and(|inner| {
            inner
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"')
        })
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strong_tags_are_kept() {
        for strong in [r#""""#, r#""5f3c-1f4""#, r#""W/x""#] {
            assert!(is_strong_tag(strong), "{strong}");
        }
        let long = format!("\"{}\"", "x".repeat(TAG_MAX));
        for other in [
            "",
            "\"",
            "x",
            r#"W/"1""#,
            "\"a\"b\"",
            "\"a\r\nb: c\"",
            &long,
        ] {
            assert!(!is_strong_tag(other), "{other}");
        }
    }
}

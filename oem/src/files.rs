//! Files: bounded reading, and writing that leaves the old file or the new one, never a part.

use std::{
    fs::{self, File, Permissions},
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::error::Error;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody: what may be published.
    Public,
    /// The owner alone: keys.
    Secret,
}

impl Access {
    const fn mode(self) -> u32 {
        match self {
            Self::Public => 0o644,
            Self::Secret => 0o600,
        }
    }
}

/// Writes `bytes` to `path` through a temporary file beside it, making missing folders.
///
/// # Errors
///
/// [`Error::File`]; `path` is as it was then.
pub fn write_atomic(path: &Path, bytes: &[u8], access: Access) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(Error::file(folder))?;
    let write = || {
        let mut file = tempfile::Builder::new()
            .prefix(".oem-")
            .permissions(Permissions::from_mode(access.mode()))
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        // The process's mask may have taken bits away.
        file.as_file()
            .set_permissions(Permissions::from_mode(access.mode()))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(Error::file(path))
}

/// Writes indented JSON.
///
/// # Errors
///
/// [`Error::File`].
pub fn write_json(path: &Path, value: &impl Serialize, access: Access) -> Result<(), Error> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|error| Error::corrupt(path, error))?;
    bytes.push(b'\n');
    write_atomic(path, &bytes, access)
}

/// Reads at most `max` bytes.
///
/// # Errors
///
/// [`Error::File`], or [`Error::TooLong`] for a longer file.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::file(path))?;
    (&file)
        .take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(Error::file(path))?;
    let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if read <= max {
        return Ok(bytes);
    }
    let len = file.metadata().map_or(read, |metadata| metadata.len());
    let path = path.to_owned();
    Err(Error::TooLong { path, len, max })
}

/// Reads a file of the repository as JSON; `None` where there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, max: u64) -> Result<Option<T>, Error> {
    match read(path, max) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::corrupt(path, error)),
        Err(Error::File { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_access() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        write_atomic(&path, b"old", Access::Public).unwrap();
        write_atomic(&path, b"new", Access::Secret).unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(matches!(
            write_atomic(&path, b"x", Access::Public),
            Err(Error::File { .. })
        ));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn long_files_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, [0; 10]).unwrap();
        assert!(matches!(
            read(&path, 9),
            Err(Error::TooLong {
                len: 10,
                max: 9,
                ..
            })
        ));
    }
}

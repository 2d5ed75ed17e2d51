//! Where a campaign comes from: a repository over HTTPS, or a bundle file.
//!
//! Nothing that is fetched is believed: every length is bounded before it is read, an image only
//! gets its name in the cache when it has its hash.

mod bundle;
mod download;
mod http;
mod part;
mod retry;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ecu_image::Digest;
use sha2::{Digest as _, Sha256};

pub use bundle::BundleSource;
pub use http::{Announced, HttpSource, Location};
pub(crate) use http::{Fault, Http, authorities, refused};
pub use retry::{Limits, Pace, Retry, retry_after};

use crate::error::Exit;
use part::Part;

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a source.
    #[error("{0}: neither an https URL nor a file")]
    NoSource(String),
    /// The CA file cannot be used.
    #[error("{path}: no certificate authority in it: {what}", path = path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The server cannot be reached or breaks off, however often it is tried.
    #[error("{url}: {what}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened last.
        what: String,
    },
    /// The server answers with a status that does not help.
    #[error("{url}: HTTP status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// More bytes than allowed.
    #[error("{what}: longer than {limit} bytes")]
    TooLong {
        /// The document.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A document or image is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// An image has not the hash of the metadata.
    #[error("{0}: not the file that the metadata names (wrong hash)")]
    Hash(String),
    /// The server announces something else than the metadata.
    #[error("the server announces {0}, of which the signed metadata names nothing")]
    Contradiction(String),
    /// A file that is no bundle.
    #[error("{path}: not a bundle: {what}", path = path.display())]
    NoBundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The bundle or the cache cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl FetchError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoSource(_) | Self::Ca { .. } => Exit::Usage,
            Self::Unreachable { .. } | Self::Status { .. } => Exit::Unreachable,
            Self::TooLong { .. }
            | Self::Missing(_)
            | Self::Hash(_)
            | Self::Contradiction(_)
            | Self::NoBundle { .. } => Exit::Rejected,
            Self::File { .. } => Exit::Io,
        }
    }

    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// An image to fetch.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Its path below the repository's root.
    pub path: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its hash.
    pub sha256: Digest,
}

impl Artifact {
    /// Its file in a cache folder.
    #[must_use]
    pub fn cached(&self, cache: &Path) -> PathBuf {
        cache.join(format!("{}.img", self.sha256))
    }
}

/// What a campaign is installed from: it is opened when it is needed.
pub trait Origin {
    /// Opens the source.
    ///
    /// # Errors
    ///
    /// [`FetchError::NoSource`], [`FetchError::Ca`], or a bundle cannot be opened.
    fn open(&self, ca: Option<&Path>) -> Result<Source, FetchError>;

    /// Everything of this campaign is verified, and the first ECU is about to be touched.
    ///
    /// # Errors
    ///
    /// What keeps it from being begun.
    fn begins(&self, _campaign: &str) -> Result<(), crate::error::Error> {
        Ok(())
    }
}

/// The URL of a repository or the path of a bundle.
impl Origin for str {
    fn open(&self, ca: Option<&Path>) -> Result<Source, FetchError> {
        Source::new(self, ca)
    }
}

impl Origin for String {
    fn open(&self, ca: Option<&Path>) -> Result<Source, FetchError> {
        self.as_str().open(ca)
    }
}

/// A source of documents and images.
#[derive(Debug)]
pub enum Source {
    /// A repository.
    Http(HttpSource),
    /// A bundle.
    Bundle(BundleSource),
}

impl Source {
    /// A source by its URL or path; `ca` pins the authorities that may vouch for the server.
    ///
    /// # Errors
    ///
    /// [`FetchError::NoSource`], [`FetchError::Ca`], or the bundle cannot be opened.
    pub fn new(text: &str, ca: Option<&Path>) -> Result<Self, FetchError> {
        if text.starts_with("https://") {
            return Ok(Self::Http(HttpSource::new(text, ca, Limits::default())?));
        }
        if text.contains("://") {
            return Err(FetchError::NoSource(text.to_owned()));
        }
        Ok(Self::Bundle(BundleSource::open(Path::new(text))?))
    }

    /// A document of at most `limit` bytes; `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn document(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, FetchError> {
        match self {
            Self::Http(source) => source.document(path, limit).await,
            Self::Bundle(source) => source.document(path, limit),
        }
    }

    /// Whether what the source was announced with has something to do with the campaign: each of
    /// its groups must have one of these images.
    ///
    /// # Errors
    ///
    /// [`FetchError::Contradiction`].
    pub fn agrees(&self, images: &[Digest]) -> Result<(), FetchError> {
        match self {
            Self::Http(source) => source.agrees(images),
            Self::Bundle(_) => Ok(()),
        }
    }

    /// Brings an image into the cache, if it is not there, and returns its file. `progress` gets
    /// the bytes there are.
    ///
    /// # Errors
    ///
    /// [`FetchError`]; what was fetched so far stays for the next try, unless its hash is wrong.
    pub async fn artifact(
        &self,
        artifact: &Artifact,
        cache: &Path,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<PathBuf, FetchError> {
        let path = artifact.cached(cache);
        if path.exists() && has_hash(&path, artifact)? {
            progress(artifact.length);
            return Ok(path);
        }
        match self {
            Self::Http(source) => source.artifact(artifact, cache, progress).await?,
            Self::Bundle(source) => source.artifact(artifact, cache, progress)?,
        }
        Ok(path)
    }
}

/// Gives a complete file its name, or deletes it where its hash is wrong.
fn settle(artifact: &Artifact, cache: &Path) -> Result<(), FetchError> {
    let part = Part::of(artifact, cache);
    if !has_hash(part.path(), artifact)? {
        part.remove().map_err(FetchError::file(part.path()))?;
        return Err(FetchError::Hash(artifact.path.clone()));
    }
    let path = artifact.cached(cache);
    part.finish(&path).map_err(FetchError::file(&path))
}

/// Whether an image is in the cache, whole.
#[must_use]
pub fn is_cached(artifact: &Artifact, cache: &Path) -> bool {
    let path = artifact.cached(cache);
    has_hash(&path, artifact).unwrap_or(false)
}

/// Whether a file has the artifact's length and hash.
fn has_hash(path: &Path, artifact: &Artifact) -> Result<bool, FetchError> {
    let digest = || -> std::io::Result<Option<[u8; 32]>> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() != artifact.length {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Some(hash.finalize().into())),
                len => hash.update(buffer.get(..len).unwrap_or_default()),
            }
        }
    };
    let digest = digest().map_err(FetchError::file(path))?;
    Ok(digest == Some(artifact.sha256.0))
}

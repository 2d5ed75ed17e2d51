//! What a vehicle believes before it reads anything new: a root of each repository, and how far it
//! has seen each of them.
//!
//! The pinned roots (`root.json` of `oem vehicle add`) are where it starts. After each verified
//! campaign the caller stores the advanced [`Trust`], so that an older document is refused later.

use crate::{
    layout::{ROOT_MAX_LEN, Repository},
    meta::{Document, Envelope, KeyPolicy, Malformed, Root},
};
use alloc::{string::ToString, vec::Vec};
use serde::{Deserialize, Serialize};

/// Upper bound of a stored [`Trust`] in bytes.
pub const TRUST_MAX_LEN: usize = ROOT_MAX_LEN * 2 + 4096;

/// The roots that are believed and the newest versions seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    pub(crate) image: RepositoryTrust,
    pub(crate) director: RepositoryTrust,
    pub(crate) policy: KeyPolicy,
}

/// What is believed of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepositoryTrust {
    /// The root document as it was read, for storing.
    pub(crate) envelope: Envelope,
    pub(crate) root: Root,
    pub(crate) seen: Seen,
}

/// The newest version seen of each document below the root; zero before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Of the targets document.
    #[serde(default)]
    pub targets: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredRepository {
    root: Envelope,
    #[serde(default)]
    seen: Seen,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    image: StoredRepository,
    director: StoredRepository,
}

impl Trust {
    /// Trust in two roots, which are believed as they are: the caller got them at provisioning.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where one of them is not a root document.
    pub fn pin(image_root: &[u8], director_root: &[u8]) -> Result<Self, Malformed> {
        let parse = |bytes: &[u8]| {
            bounded(bytes, ROOT_MAX_LEN)?;
            let root = serde_json::from_slice(bytes).map_err(|error| json_error(&error))?;
            let seen = Seen::default();
            RepositoryTrust::new(StoredRepository { root, seen })
        };
        Ok(Self {
            image: parse(image_root)?,
            director: parse(director_root)?,
            policy: KeyPolicy::default(),
        })
    }

    /// Reads what [`Trust::to_json`] wrote; also the `root.json` of a vehicle.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, Malformed> {
        bounded(bytes, TRUST_MAX_LEN)?;
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| json_error(&error))?;
        Ok(Self {
            image: RepositoryTrust::new(stored.image)?,
            director: RepositoryTrust::new(stored.director)?,
            policy: KeyPolicy::default(),
        })
    }

    /// The roots and versions as JSON. The caller stores it atomically.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; not for any trust that was read.
    pub fn to_json(&self) -> Result<Vec<u8>, Malformed> {
        let stored = |trust: &RepositoryTrust| StoredRepository {
            root: trust.envelope.clone(),
            seen: trust.seen,
        };
        let stored = Stored {
            image: stored(&self.image),
            director: stored(&self.director),
        };
        let mut bytes = serde_json::to_vec_pretty(&stored).map_err(|error| json_error(&error))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The same trust under another policy for keys.
    #[must_use]
    pub fn with_policy(mut self, policy: KeyPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The version of the root that is believed: a client asks for the next one.
    #[must_use]
    pub const fn root_version(&self, repository: Repository) -> u64 {
        self.repository(repository).root.header.version
    }

    pub(crate) const fn repository(&self, repository: Repository) -> &RepositoryTrust {
        match repository {
            Repository::Image => &self.image,
            Repository::Director => &self.director,
        }
    }

    pub(crate) const fn repository_mut(&mut self, repository: Repository) -> &mut RepositoryTrust {
        match repository {
            Repository::Image => &mut self.image,
            Repository::Director => &mut self.director,
        }
    }
}

impl RepositoryTrust {
    fn new(stored: StoredRepository) -> Result<Self, Malformed> {
        let document = Document::<Root>::from_envelope(stored.root.clone())?;
        Ok(Self {
            envelope: stored.root,
            root: document.unverified().clone(),
            seen: stored.seen,
        })
    }
}

fn bounded(bytes: &[u8], max: usize) -> Result<(), Malformed> {
    let len = bytes.len();
    if len > max {
        return Err(Malformed::TooLong { len, max });
    }
    Ok(())
}

fn json_error(error: &serde_json::Error) -> Malformed {
    Malformed::Json(error.to_string())
}

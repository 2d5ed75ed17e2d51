//! What a vehicle believes before it reads anything new: the documents of each repository that it
//! verified last, at first a root alone.
//!
//! The pinned roots (`root.json` of `oem vehicle add`) are where it starts. After each verified
//! campaign the caller stores the advanced [`Trust`], so that an older document is refused later.

use crate::time::{KnownTime, UnixTime};
use crate::{
    layout::Repository,
    meta::{Document, KeyPolicy, Malformed, Root},
    repository::{Limits, Stored},
};
use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// Upper bound of a stored [`Trust`] in bytes.
pub const TRUST_MAX_LEN: usize = 32 << 20;

/// The documents that are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    image: Stored,
    director: Stored,
    pub(crate) known: KnownTime,
    pub(crate) policy: KeyPolicy,
}

/// The documents as text, by role: their bytes count, since digests are over them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    image: BTreeMap<String, String>,
    director: BTreeMap<String, String>,
    /// The last time that is known to have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<UnixTime>,
}

impl Trust {
    /// Trust in two roots, which are believed as they are: the caller got them at provisioning.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where one of them is not a root document.
    pub fn pin(image_root: &[u8], director_root: &[u8]) -> Result<Self, Malformed> {
        let (image, director) = (Stored::root(image_root), Stored::root(director_root));
        Self::provisioned(image, director, None)
    }

    /// Trust in these documents, which are believed as they are: the caller got them at provisioning, or
    /// verified them itself. `known` is a time that has surely been.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where one of them has no root document.
    pub fn provisioned(
        image: Stored,
        director: Stored,
        known: Option<UnixTime>,
    ) -> Result<Self, Malformed> {
        let trust = Self {
            image,
            director,
            known: known.map(KnownTime::new).unwrap_or_default(),
            policy: KeyPolicy::default(),
        };
        trust.check()?;
        Ok(trust)
    }

    /// Reads what [`Trust::to_json`] wrote; also the `root.json` of a vehicle.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, Malformed> {
        let (len, max) = (bytes.len(), TRUST_MAX_LEN);
        if len > max {
            return Err(Malformed::TooLong { len, max });
        }
        let file: File = serde_json::from_slice(bytes).map_err(|error| json_error(&error))?;
        let stored = |documents: &BTreeMap<String, String>| {
            let mut stored = Stored::default();
            for (role, text) in documents {
                stored.insert(role, text.as_bytes());
            }
            stored
        };
        Self::provisioned(stored(&file.image), stored(&file.director), file.time)
    }

    /// The documents as JSON. The caller stores it atomically. Where they are more than
    /// [`Trust::from_json`] reads, targets are left out: they are fetched again, and what forbids older
    /// ones stays.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; not for any trust that was verified.
    pub fn to_json(&self) -> Result<Vec<u8>, Malformed> {
        let bytes = self.to_json_of(|_| true)?;
        if bytes.len() <= TRUST_MAX_LEN {
            return Ok(bytes);
        }
        self.to_json_of(|role| ["root", "timestamp", "snapshot"].contains(&role))
    }

    fn to_json_of(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<u8>, Malformed> {
        let texts = |stored: &Stored| {
            let text = |(role, bytes): (&str, &[u8])| {
                let text = core::str::from_utf8(bytes);
                let text = text.map_err(|_| Malformed::Rule("not UTF-8"))?;
                Ok((role.to_string(), text.to_string()))
            };
            let wanted = stored.iter().filter(|(role, _)| wanted(role));
            wanted.map(text).collect::<Result<_, Malformed>>()
        };
        let file = File {
            image: texts(&self.image)?,
            director: texts(&self.director)?,
            time: Some(self.known)
                .filter(|known| *known != KnownTime::default())
                .map(KnownTime::time),
        };
        let mut bytes = serde_json::to_vec_pretty(&file).map_err(|error| json_error(&error))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The same trust under another policy for keys.
    #[must_use]
    pub const fn with_policy(mut self, policy: KeyPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The last time that is known to have been.
    #[must_use]
    pub const fn known_time(&self) -> KnownTime {
        self.known
    }

    /// The documents of a repository.
    #[must_use]
    pub const fn repository(&self, repository: Repository) -> &Stored {
        match repository {
            Repository::Image => &self.image,
            Repository::Director => &self.director,
        }
    }

    pub(crate) const fn repository_mut(&mut self, repository: Repository) -> &mut Stored {
        match repository {
            Repository::Image => &mut self.image,
            Repository::Director => &mut self.director,
        }
    }

    /// Both roots are root documents; whether they are signed is for the verification to see.
    fn check(&self) -> Result<(), Malformed> {
        let max = usize::try_from(Limits::default().root).unwrap_or(usize::MAX);
        for stored in [&self.image, &self.director] {
            Document::<Root>::parse(stored.get("root").unwrap_or(&[]), max)?;
        }
        Ok(())
    }
}

fn json_error(error: &serde_json::Error) -> Malformed {
    Malformed::Json(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_can_be_read_again_however_much_was_believed() {
        let mut trust = Trust {
            image: Stored::root(b"root"),
            director: Stored::root(b"root"),
            known: KnownTime::default(),
            policy: KeyPolicy::default(),
        };
        trust.image.insert("snapshot", b"snapshot");
        trust
            .image
            .insert("targets", &alloc::vec![b'x'; TRUST_MAX_LEN]);
        let bytes = trust.to_json().unwrap();
        assert!(bytes.len() < TRUST_MAX_LEN);
        let file: File = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(file.image["snapshot"], "snapshot");
        assert!(!file.image.contains_key("targets"));
    }
}

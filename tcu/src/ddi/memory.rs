//! What survives a restart: the action under which the vehicle works, and a final feedback that the
//! server has not confirmed yet.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ActionId, Feedback};
use crate::error::Error;

/// The longest file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// What survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The action whose campaign is being installed.
    #[serde(default)]
    pub action: Option<ActionId>,
    /// The campaign that was begun under it; none before an ECU is touched.
    #[serde(default)]
    pub campaign: Option<String>,
    /// The last action that ended, and how: said again if the server still offers it.
    #[serde(default)]
    pub ended: Option<Feedback>,
    /// The campaign that was begun under that one.
    #[serde(default)]
    pub ended_campaign: Option<String>,
    /// Whether the server has confirmed that.
    #[serde(default)]
    pub confirmed: bool,
}

impl Memory {
    /// The file in a state folder.
    #[must_use]
    pub fn path(state: &Path) -> PathBuf {
        state.join("ddi.json")
    }

    /// What was stored; nothing where the file is missing or damaged, since the server then offers
    /// the action again, and what is installed already is not installed twice.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let small = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= FILE_MAX);
        let bytes = small.then(|| std::fs::read(path).ok()).flatten();
        let read = bytes.map(|bytes| serde_json::from_slice(&bytes));
        match read {
            Some(Ok(memory)) => memory,
            Some(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "not readable, begun anew");
                Self::default()
            }
            None => Self::default(),
        }
    }

    /// Stores durably that a campaign is about to begin under the action that is remembered: whatever
    /// happens to the vehicle from here on, its fate is told under that action and no other.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn begin(path: &Path, campaign: &str) -> Result<(), Error> {
        let memory = Self {
            campaign: Some(campaign.to_owned()),
            ..Self::load(path)
        };
        memory.store(path)
    }

    /// Stores it durably.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let store = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer(&mut file, self)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            File::open(folder)?.sync_all()
        };
        store().map_err(Error::file(path))
    }
}

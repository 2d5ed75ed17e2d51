//! Where documents lie in the static repository and in a bundle, and how long each may be.
//!
//! Paths are relative to the repository's root; the same paths name the entries of a bundle.

use crate::ids::{Digest, Vin};
use crate::time::Nonce;
use alloc::{format, string::String};

/// Upper bound of a director's targets for one vehicle in bytes; the other bounds are
/// [`crate::repository::Limits`].
pub const DIRECTOR_TARGETS_MAX_LEN: u64 = 1 << 20;
/// Upper bound of a packed image in bytes: 2048 pages of 64 KiB, header and table.
pub const ARTIFACT_MAX_LEN: u64 = (128 << 20) + (128 << 10);

/// Which of the two repositories a document belongs to (Uptane Standard 2.1, clause 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repository {
    /// What images exist: signed offline, the same for all vehicles.
    Image,
    /// What this vehicle shall install: signed per vehicle.
    Director,
}

impl core::fmt::Display for Repository {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Image => "image repository",
            Self::Director => "director",
        })
    }
}

/// `metadata` or `director/VIN`.
fn folder(repository: Repository, vin: &Vin) -> String {
    match repository {
        Repository::Image => String::from("metadata"),
        Repository::Director => format!("director/{vin}"),
    }
}

/// `metadata/NAME`, `director/VIN/NAME`.
#[must_use]
pub fn metadata_path(repository: Repository, vin: &Vin, name: &str) -> String {
    format!("{}/{name}", folder(repository, vin))
}

/// `time/NONCE`: what the director answers about the time; a static repository has none.
#[must_use]
pub fn time_path(nonce: &Nonce) -> String {
    format!("time/{nonce}")
}

/// `targets/SHA256.img`.
#[must_use]
pub fn artifact_path(sha256: &Digest) -> String {
    format!("targets/{sha256}.img")
}

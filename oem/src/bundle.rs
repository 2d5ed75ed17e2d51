//! `oem bundle`: the published files that one vehicle needs, as one tar file.

use std::{io::Write as _, path::Path};

use campaign::{
    Documents, RepositoryDocuments, UnixTime, VerifiedCampaign,
    ids::Vin,
    layout::{self, Repository},
};

use crate::{
    error::Error,
    files::{self, Access},
    release::OWN_KEYS,
    repo::Repo,
    vehicle::pinned,
};

/// One file of a bundle.
struct Entry {
    path: String,
    bytes: Vec<u8>,
}

/// Writes the bundle of `vin` to `out`. What it holds is verified first, as the vehicle will.
///
/// # Errors
///
/// [`Error::UnknownVehicle`], [`Error::NotReleased`], [`Error::SelfCheck`], [`Error::File`].
pub fn bundle(
    repo: &Repo,
    vin: &Vin,
    out: &Path,
    now: UnixTime,
) -> Result<VerifiedCampaign, Error> {
    let vehicle = repo.vehicle(vin)?.vehicle;
    let mut entries = Vec::new();
    let mut targets = Vec::new();
    for (repository, max) in [
        (Repository::Image, layout::IMAGE_TARGETS_MAX_LEN),
        (Repository::Director, layout::DIRECTOR_TARGETS_MAX_LEN),
    ] {
        entries.extend(roots(repo, repository, vin)?);
        let path = layout::targets_path(repository, vin);
        if !repo.path(&path).exists() {
            return Err(Error::NotReleased(vin.clone()));
        }
        let bytes = files::read(&repo.path(&path), u64::try_from(max).unwrap_or(u64::MAX))?;
        targets.push(bytes.clone());
        entries.push(Entry { path, bytes });
    }
    let trust = pinned(repo, vin)?.with_policy(OWN_KEYS);
    let document = |index: usize| RepositoryDocuments {
        roots: &[],
        targets: targets.get(index).map(Vec::as_slice),
    };
    let documents = Documents {
        image: document(0),
        director: document(1),
    };
    let campaign =
        campaign::verify(&trust, &documents, &vehicle, now).map_err(|error| Error::SelfCheck {
            vin: vin.clone(),
            error: Box::new(error),
        })?;
    for ecu in &campaign.ecus {
        let path = ecu.artifact_path();
        if entries.iter().all(|entry| entry.path != path) {
            let bytes = files::read(&repo.path(&path), layout::ARTIFACT_MAX_LEN)?;
            entries.push(Entry { path, bytes });
        }
    }
    let bytes = archive(&entries).map_err(Error::file(out))?;
    files::write_atomic(out, &bytes, Access::Public)?;
    Ok(campaign)
}

/// The chain of roots from version 1.
fn roots(repo: &Repo, repository: Repository, vin: &Vin) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let max = u64::try_from(layout::ROOT_MAX_LEN).unwrap_or(u64::MAX);
    for version in 1.. {
        let path = layout::root_path(repository, vin, version);
        if !repo.path(&path).exists() {
            break;
        }
        let bytes = files::read(&repo.path(&path), max)?;
        entries.push(Entry { path, bytes });
    }
    Ok(entries)
}

/// The same entries make the same bytes.
fn archive(entries: &[Entry]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(u64::try_from(entry.bytes.len()).unwrap_or(u64::MAX));
        builder.append_data(&mut header, &entry.path, entry.bytes.as_slice())?;
    }
    let mut bytes = builder.into_inner()?;
    bytes.flush()?;
    Ok(bytes)
}

//! `oem bundle`: the published files that one vehicle needs, as one tar file.

use std::{io::Write as _, path::Path};

use campaign::{
    UnixTime, Verification, VerifiedCampaign,
    ids::Vin,
    layout::{self, Repository},
};

use crate::{
    error::Error,
    files::{self, Access},
    release::OWN_KEYS,
    repo::Repo,
    root,
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
    let trust = pinned(repo)?.with_policy(OWN_KEYS);
    let refused = |error| Error::SelfCheck {
        vin: vin.clone(),
        error: Box::new(error),
    };
    let mut entries = later_roots(repo, vin)?;
    let mut verification = Verification::new(&trust, &vehicle, now).map_err(refused)?;
    // Every other document that the vehicle will ask for, as it will ask.
    while let Some(wanted) = verification.wanted() {
        let path = repo.path(&wanted.path);
        if !path.exists() && wanted.path.ends_with("/timestamp.json") {
            return Err(Error::NotReleased(vin.clone()));
        }
        let bytes = match path.exists() {
            true => Some(files::read(&path, wanted.limit as u64)?),
            false => None,
        };
        verification
            .on_document(bytes.as_deref())
            .map_err(refused)?;
        let path = wanted.path;
        entries.extend(bytes.map(|bytes| Entry { path, bytes }));
    }
    let (campaign, _) = verification.finish().map_err(refused)?;
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

/// The roots from which a vehicle that knows the first gets to the newest.
fn later_roots(repo: &Repo, vin: &Vin) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for repository in [Repository::Director, Repository::Image] {
        for (version, bytes) in root::later(repo, repository)? {
            let path = layout::metadata_path(repository, vin, &format!("{version}.root.json"));
            entries.push(Entry { path, bytes });
        }
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
        // A name that does not fit is an error: vehicles look at no extension.
        header.set_path(&entry.path)?;
        header.set_cksum();
        builder.append(&header, entry.bytes.as_slice())?;
    }
    let mut bytes = builder.into_inner()?;
    bytes.flush()?;
    Ok(bytes)
}

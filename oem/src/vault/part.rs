//! `oem vault part`: the keys of ECUs and images leave the desk.
//!
//! ```text
//! of the desk:                         of the vault:
//! keys/vault/address.json              keys/vault/server.pem, server.key
//! keys/vault/ca.pem                    keys/vault/ca.pem
//! keys/vault/client.pem, client.key    keys/vehicles, keys/images
//!                                      keys/ecu-roots.json, keys/key-set.bin, keys/state.json
//! ```

use std::{fs, path::PathBuf};

use reqwest::Url;
use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    keyset,
    repo::Repo,
    tls,
};

/// The authority of both sides' certificates.
pub(super) const CA: &str = "keys/vault/ca.pem";
/// The desk's certificate.
pub(super) const CLIENT: &str = "keys/vault/client.pem";
/// The desk's key.
pub(super) const CLIENT_KEY: &str = "keys/vault/client.key";
/// The vault's certificate.
pub(super) const SERVER: &str = "keys/vault/server.pem";
/// The vault's key.
pub(super) const SERVER_KEY: &str = "keys/vault/server.key";
/// Where a desk finds its vault.
const ADDRESS: &str = "keys/vault/address.json";
const ADDRESS_MAX: u64 = 4 << 10;

/// What `oem vault part` is asked for.
#[derive(Debug, Clone)]
pub struct PartOptions {
    /// The folder that becomes the vault's; it is moved to the vault's host.
    pub store: PathBuf,
    /// Where the desk will find the vault: an https URL.
    pub url: Url,
}

/// What left the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Parted {
    /// Vehicles whose ECUs' keys the vault has.
    pub vehicles: usize,
    /// Images whose content keys the vault has.
    pub images: usize,
}

/// Where the vault of a desk is; `None` where the desk holds all keys itself.
pub(super) fn address(repo: &Repo) -> Result<Option<Url>, Error> {
    let path = repo.path(ADDRESS);
    let Some(text) = files::read_json::<String>(&path, ADDRESS_MAX)? else {
        return Ok(None);
    };
    let url = Url::parse(&text).map_err(|error| Error::corrupt(&path, error))?;
    Ok(Some(url))
}

/// Moves the keys of ECUs and images to a vault's folder. The vault is complete before the desk knows it,
/// and the desk knows it before it forgets a key: an interrupted run is repeated.
///
/// # Errors
///
/// [`Error::Vault`] where the desk has another vault or `url` is not https,
/// [`Error::RepositoryExists`] where the folder is a repository already, [`Error::File`].
pub fn part(repo: &Repo, options: &PartOptions) -> Result<Parted, Error> {
    let (vins, images) = (repo.vins()?, repo.image_digests()?);
    match address(repo)? {
        Some(url) if url != options.url => {
            return Err(Error::Vault(format!("this desk has one at {url}")));
        }
        Some(_) => {}
        None => make(repo, options)?,
    }
    for vin in &vins {
        let mut record = repo.vehicle(vin)?;
        if !record.ecus.is_empty() {
            record.ecus.clear();
            repo.store_vehicle(&record)?;
        }
    }
    for digest in &images {
        let path = repo.image_path(digest);
        fs::remove_file(&path).map_err(Error::file(&path))?;
    }
    Ok(Parted {
        vehicles: vins.len(),
        images: images.len(),
    })
}

/// The vault, and then its address at the desk.
fn make(repo: &Repo, options: &PartOptions) -> Result<(), Error> {
    let url = &options.url;
    let host = url.host_str().filter(|_| url.scheme() == "https");
    let host = host.ok_or_else(|| Error::Vault(format!("{url} is not an https URL")))?;
    let certificates = tls::mutual(host.trim_matches(['[', ']']))?;
    let vault = Repo::create(&options.store)?;
    for vin in repo.vins()? {
        vault.store_vehicle(&repo.vehicle(&vin)?)?;
    }
    for digest in repo.image_digests()? {
        vault.store_image_secrets(&digest, &repo.image_secrets(&digest)?)?;
    }
    keyset::copy(repo, &vault)?;
    let write = |repo: &Repo, name: &str, text: &str, access| {
        files::write_atomic(&repo.path(name), text.as_bytes(), access)
    };
    write(&vault, CA, &certificates.ca, Access::Public)?;
    write(&vault, SERVER, &certificates.server, Access::Public)?;
    write(&vault, SERVER_KEY, &certificates.server_key, Access::Secret)?;
    let details = json!({ "url": url.as_str() });
    audit::record(&vault, "vault part", &details)?;
    vault.store_state(&repo.state()?)?;

    write(repo, CA, &certificates.ca, Access::Public)?;
    write(repo, CLIENT, &certificates.client, Access::Public)?;
    write(repo, CLIENT_KEY, &certificates.client_key, Access::Secret)?;
    audit::record(repo, "vault part", &details)?;
    files::write_json(&repo.path(ADDRESS), &url.as_str(), Access::Public)
}

/// Whether the repository is a vault's.
pub(crate) fn is_vault(repo: &Repo) -> bool {
    repo.path(SERVER_KEY).exists()
}

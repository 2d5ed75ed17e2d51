//! What an attacker with the repository's metadata keys releases.
//!
//! The metadata are signed correctly and agree with the artifacts; what stands against the attacker
//! is the image key, which is kept elsewhere, and each ECU's own floor.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use campaign::UnixTime;
use campaign::ids::{Vin, sha256};
use campaign::layout::Repository;
use campaign::meta::{Envelope, Targets};
use campaign::repository::TOP_TARGETS;
use ecu_image::HEADER_LEN;
use oem::keys::SigningKey;
use oem::publish::{edition, next_header, published};
use oem::release::{Plan, ReleaseOptions, plan};
use oem::repo::Repo;

use crate::vehicle::VIN;

/// Bytes of the header that its signature covers.
const SIGNED: usize = 1024;

/// Changes one byte of the last ciphertext page.
///
/// # Errors
/// When the image has no page.
pub fn tamper_with_page(image: &mut [u8]) -> Result<()> {
    let byte = image.last_mut().context("an image without pages")?;
    *byte ^= 1;
    Ok(())
}

/// Puts the signature of a key that nobody trusts into the header, which names the trusted one.
///
/// # Errors
/// When no key can be made.
pub fn sign_with_foreign_key(image: &mut [u8]) -> Result<()> {
    let signed = image.get(..SIGNED).context("an image without a header")?;
    let signature = SigningKey::generate(3072)?.sign(signed)?;
    let place = image
        .get_mut(SIGNED..HEADER_LEN)
        .context("an image without a header")?;
    place.fill(0);
    place
        .get_mut(..signature.len())
        .context("a signature too long")?
        .copy_from_slice(&signature);
    Ok(())
}

/// Releases `images` after `change` has been made to the last one; the metadata name the changed
/// bytes.
///
/// # Errors
/// When the repository cannot be read or written.
pub fn release_changed(
    repo: &Path,
    campaign: &str,
    images: &[PathBuf],
    change: fn(&mut [u8]) -> Result<()>,
) -> Result<()> {
    let repo = Repo::open(repo)?;
    let mut plan = planned(&repo, campaign, images)?;
    // One image of several: what is checked image by image would be too late.
    let image = plan.images.last_mut().context("no images")?;
    let before = image.sha256;
    change(&mut image.bytes)?;
    image.sha256 = sha256(&image.bytes);
    let after = image.sha256;
    let documents = plan
        .vehicles
        .iter_mut()
        .map(|vehicle| &mut vehicle.director_targets);
    for document in documents.chain([&mut plan.image_targets]) {
        for target in document.targets.values_mut() {
            if target.hashes.sha256 == Some(before) {
                target.hashes.sha256 = Some(after);
            }
        }
    }
    plan.sign(&repo, now()?)?.publish(&repo, &plan)?;
    Ok(())
}

/// Releases `images` although their counters are below those released before, without the exception
/// that an OEM who means it writes into the grants.
///
/// # Errors
/// When the repository cannot be read or written.
pub fn release_without_exception(repo: &Path, campaign: &str, images: &[PathBuf]) -> Result<()> {
    // The books that the OEM tool checks are not what the ECUs check.
    let books = repo.join("keys/state.json");
    std::fs::write(&books, "{}").with_context(|| format!("cannot write {}", books.display()))?;
    // Nor is what the ECUs said of their floors.
    let known = repo.join(format!("keys/manifests/{}.json", vin()?));
    std::fs::remove_file(&known).with_context(|| format!("cannot remove {}", known.display()))?;
    let repo = Repo::open(repo)?;
    let plan = planned(&repo, campaign, images)?;
    plan.sign(&repo, now()?)?.publish(&repo, &plan)?;
    Ok(())
}

fn planned(repo: &Repo, campaign: &str, images: &[PathBuf]) -> Result<Plan> {
    let options = ReleaseOptions {
        campaign: campaign
            .parse()
            .map_err(|error| anyhow!("{campaign}: {error}"))?,
        vins: vec![vin()?],
        images: images.to_vec(),
        rules: None,
        allow_downgrade: false,
        valid_days: 30,
        rxswins: std::collections::BTreeMap::new(),
    };
    Ok(plan(repo, &options, now()?)?)
}

pub(crate) fn now() -> Result<UnixTime> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(UnixTime::from_secs(now))
}

/// The director's statement for the bench's vehicle as it is published now.
///
/// # Errors
/// When nothing is published.
pub fn director_statement(repo: &Path) -> Result<Targets> {
    let repo = Repo::open(repo)?;
    let before =
        published(&repo, Repository::Director, &vin()?)?.context("nothing is published")?;
    let targets = before.targets(TOP_TARGETS).context("no targets")?;
    Ok(targets.clone())
}

/// Publishes what the director said before as its newest statement, grants and all. Needs the
/// director's keys, which are online.
///
/// # Errors
/// When the repository cannot be read or written.
pub fn replay(repo: &Path, campaign: &str, statement: &Targets) -> Result<()> {
    direct(repo, campaign, statement.clone())
}

/// Directs the vehicle to an image of the attacker's own: its file lies in the repository, the
/// director names it, and the image repository's timestamp is signed anew. Needs every key that is
/// online: those of the director and the image repository's timestamp.
///
/// # Errors
/// When the repository cannot be read or written.
pub fn direct_to_own_image(repo: &Path, campaign: &str, image: &Path) -> Result<()> {
    let mut statement = director_statement(repo)?;
    let bytes = std::fs::read(image)?;
    let digest = sha256(&bytes);
    std::fs::write(repo.join(format!("targets/{digest}.img")), &bytes)?;
    let path = statement.targets.keys().next().cloned();
    let path = path.context("the director names nothing")?;
    let mut target = statement.targets.remove(&path).context("no target")?;
    target.hashes.sha256 = Some(digest);
    target.length = u64::try_from(bytes.len())?;
    statement.targets.insert(format!("{path}.own"), target);
    direct(repo, campaign, statement)?;
    oem::publish::refresh(&Repo::open(repo)?, now()?)?;
    Ok(())
}

/// Signs a statement as the director's next one.
fn direct(repo: &Path, campaign: &str, mut statement: Targets) -> Result<()> {
    let (repo, vin, now) = (Repo::open(repo)?, vin()?, now()?);
    let before = published(&repo, Repository::Director, &vin)?;
    let expires = now.plus_days(30);
    statement.header = next_header(&repo, Repository::Director, &vin, before.as_ref(), expires);
    if let Some(custom) = statement.custom.as_mut() {
        custom["campaignId"] = campaign.into();
    }
    edition(
        &repo,
        Repository::Director,
        &vin,
        before.as_ref(),
        &statement,
        now,
    )?
    .publish(&repo)?;
    Ok(())
}

/// Releases `images` with timestamps of a month ago, as a mirror shows them that has been frozen.
///
/// # Errors
/// When the repository cannot be read or written.
pub fn release_a_month_ago(repo: &Path, campaign: &str, images: &[PathBuf]) -> Result<()> {
    let repo = Repo::open(repo)?;
    let plan = planned(&repo, campaign, images)?;
    let then = UnixTime::from_secs(now()?.as_secs().saturating_sub(30 * 86_400));
    plan.sign(&repo, then)?.publish(&repo, &plan)?;
    Ok(())
}

/// Whether the server leaves questions for the time without an answer, as a static mirror does.
///
/// # Errors
/// When the time key cannot be moved.
pub fn hide_time(repo: &Path, hidden: bool) -> Result<()> {
    let (key, away) = (
        repo.join("keys/director-time.pem"),
        repo.join("keys/director-time.away"),
    );
    match hidden {
        true => std::fs::rename(&key, &away),
        false => std::fs::rename(&away, &key),
    }
    .with_context(|| format!("cannot move {}", key.display()))
}

/// What a mirror serves of the image repository.
///
/// # Errors
/// When it cannot be read.
pub fn mirrored(repo: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for file in std::fs::read_dir(repo.join("metadata"))? {
        let path = file?.path();
        files.push((path.clone(), std::fs::read(&path)?));
    }
    Ok(files)
}

/// Serves the image repository as it was, beside the director of today.
///
/// # Errors
/// When it cannot be written.
pub fn restore(files: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    for (path, bytes) in files {
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

/// The reports of an earlier manifest, under another nonce and signed by the telematics unit whose key
/// is in the file `key`.
///
/// # Errors
/// When it is no manifest, or the key cannot be read.
pub fn old_reports_again(key: &Path, manifest: &[u8], nonce: &str) -> Result<Vec<u8>> {
    let mut envelope: Envelope = serde_json::from_slice(manifest)?;
    envelope.signed["nonce"] = nonce.into();
    SigningKey::load(key)?.sign_envelope(&mut envelope)?;
    Ok(envelope.to_json()?)
}

/// The identification number of the bench's vehicle.
pub(crate) fn vin() -> Result<Vin> {
    VIN.parse().map_err(|error| anyhow!("{VIN}: {error}"))
}

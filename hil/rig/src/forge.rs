//! What an attacker with the repository's metadata keys releases.
//!
//! The metadata are signed correctly and agree with the artifacts; what stands against the attacker
//! is the image key, which is kept elsewhere, and each ECU's own floor.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use campaign::UnixTime;
use campaign::ids::sha256;
use ecu_image::HEADER_LEN;
use oem::keys::SigningKey;
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
        vins: vec![VIN.parse().map_err(|error| anyhow!("{VIN}: {error}"))?],
        images: images.to_vec(),
        allow_downgrade: false,
        valid_days: 30,
    };
    Ok(plan(repo, &options, now()?)?)
}

fn now() -> Result<UnixTime> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(UnixTime::from_secs(now))
}

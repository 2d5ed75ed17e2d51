//! What a vault grants: by what it has, and by nothing that a desk says.

use std::collections::BTreeSet;

use campaign::ids::{ImageDigest, Vin};
use ecu_image::{GrantFlags, HEADER_LEN};
use serde_json::json;

use super::{Granted, protocol::GrantAsk};
use crate::{
    audit,
    error::Error,
    files::{self, Access},
    grant::{self, Subject},
    image, keyset,
    repo::{Repo, State},
};

/// The images that may be granted below the counter released before.
const PERMITTED_FILE: &str = "keys/permitted.json";
const PERMITTED_MAX: u64 = 1 << 20;

/// Permits grants for an image below the counter that was released before, and downgrade exceptions for
/// it. Somebody at the vault decides that; a desk only asks.
///
/// # Errors
///
/// [`Error::UnknownImage`], [`Error::File`], [`Error::Audit`].
pub fn permit(repo: &Repo, image: ImageDigest) -> Result<(), Error> {
    repo.image_secrets(&image)?;
    let mut permitted = permitted(repo)?;
    if permitted.insert(image) {
        audit::record(repo, "permit", &json!({ "image": image }))?;
        files::write_json(&repo.path(PERMITTED_FILE), &permitted, Access::Secret)?;
    }
    Ok(())
}

fn permitted(repo: &Repo) -> Result<BTreeSet<ImageDigest>, Error> {
    Ok(files::read_json(&repo.path(PERMITTED_FILE), PERMITTED_MAX)?.unwrap_or_default())
}

/// Grants all that is asked for a vehicle, or nothing. Stored before it is said: sequences, the counters
/// released, and who was granted what.
///
/// # Errors
///
/// The rule that refuses; nothing was changed then.
pub(super) fn grant(repo: &Repo, vin: &Vin, asks: &[GrantAsk]) -> Result<Vec<Granted>, Error> {
    let mut vehicle = repo.vehicle(vin)?;
    let mut state = repo.state()?;
    let permitted = permitted(repo)?;
    let (mut grants, mut entries) = (Vec::new(), Vec::new());
    for ask in asks {
        let subject = subject(repo, &ask.header, ask.downgrade, &permitted, &mut state)?;
        let downgrade = ask.downgrade;
        let flags = GrantFlags { downgrade };
        let granted = grant::next(&mut vehicle, &ask.ecu, &subject, ask.sequence, flags)?;
        entries.push(json!({
            "ecu": ask.ecu, "sequence": granted.sequence, "image": subject.digest, "downgrade": downgrade,
        }));
        grants.push(granted);
    }
    audit::record(repo, "grants", &json!({ "vin": vin, "grants": entries }))?;
    repo.store_vehicle(&vehicle)?;
    repo.store_state(&state)?;
    Ok(grants)
}

/// The image of this header, if an active image key signed it, its content key is here, and nothing newer
/// was granted for its hardware.
fn subject(
    repo: &Repo,
    header: &[u8; HEADER_LEN],
    downgrade: bool,
    permitted: &BTreeSet<ImageDigest>,
    state: &mut State,
) -> Result<Subject, Error> {
    let (header, digest) = image::verify_header(header, &keyset::active(repo)?)?;
    let (hardware, counter) = (header.hardware_id, header.security_counter);
    let released = state.released.entry(hardware).or_insert(counter);
    if (counter < *released || downgrade) && !permitted.contains(&digest) {
        return Err(Error::NotPermitted(digest));
    }
    *released = counter.max(*released);
    Ok(Subject {
        hardware,
        digest,
        secrets: repo.image_secrets(&digest)?,
    })
}

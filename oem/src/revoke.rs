//! `oem revoke`: a key that was stolen or lost speaks for nobody any more.

use std::path::Path;

use campaign::{UnixTime, meta::Root};

use crate::{
    error::Error,
    keys::RSA_BITS,
    keyset,
    repo::Repo,
    root::{self, RootChange, Which},
    rotate::{self, Rotated},
};

/// What a revocation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// This version of the root no longer names the key.
    Root(u64),
    /// The next root is a draft that has to be signed.
    Draft,
    /// The next key set has to be signed by two ECU roots.
    KeySet,
}

/// Revokes the key with this name: of a metadata role, or an image key.
///
/// # Errors
///
/// [`Error::Root`] where nobody has the key, or too few keys would be left; [`Error::KeySet`];
/// [`Error::Signers`] where others have to sign and no draft was asked for.
pub fn revoke(
    repo: &Repo,
    name: &str,
    draft: Option<&Path>,
    now: UnixTime,
) -> Result<Revoked, Error> {
    if let Ok(id) = name.parse::<ecu_image::KeyId>() {
        return image_key(repo, id, draft);
    }
    for which in [Which::Image, Which::Director] {
        let (root, _) = root::newest(repo, which.into())?;
        if root.keys.keys().any(|id| id.as_str().starts_with(name)) {
            return role_key(repo, which, &root, name, draft, now);
        }
    }
    Err(Error::Root(format!("no role has key {name}")))
}

fn role_key(
    repo: &Repo,
    which: Which,
    root: &Root,
    name: &str,
    draft: Option<&Path>,
    now: UnixTime,
) -> Result<Revoked, Error> {
    let id = root::find_key(root, name)?;
    let time = root.time_keys();
    if time.is_some_and(|role| role.contains(&id)) {
        return rotate::rotate(repo, Rotated::DirectorTime, now).map(Revoked::Root);
    }
    let only = |role: &_| root.role(*role).keyids() == [id.clone()];
    if let (Some(role), None) = (root::ROLES.into_iter().find(only), draft) {
        let rotated = Rotated::of(root::key_name(which.into(), role));
        let rotated = rotated.ok_or_else(|| Error::Root(format!("{role} has no key")))?;
        return rotate::rotate(repo, rotated, now).map(Revoked::Root);
    }
    let change = RootChange {
        remove: vec![id.as_str().to_owned()],
        ..RootChange::default()
    };
    match draft {
        Some(path) => {
            root::draft(repo, which, &change, now)?.store(path)?;
            Ok(Revoked::Draft)
        }
        None => root::change(repo, which, &change, now).map(Revoked::Root),
    }
}

/// The next key set, in which the key signs no more; with a new key where it was the only one.
fn image_key(repo: &Repo, id: ecu_image::KeyId, draft: Option<&Path>) -> Result<Revoked, Error> {
    let out = draft.ok_or_else(|| {
        Error::KeySet("two holders of ECU roots have to sign it: name a file with --draft".into())
    })?;
    let active = keyset::active(repo)?;
    let changes = keyset::Changes {
        rotate: active.iter().all(|key| key.id() == id),
        revoke: vec![id],
        ..keyset::Changes::default()
    };
    keyset::make(repo, &changes, RSA_BITS, out)?;
    Ok(Revoked::KeySet)
}

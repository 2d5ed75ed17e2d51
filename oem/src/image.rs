//! Packed images as files: reading them back, verified with this repository's key.

use std::path::{Path, PathBuf};

use campaign::{
    ids::{Digest, ImageDigest, sha256},
    layout,
    rules::Rules,
};
use ecu_image::{
    HEADER_LEN, Header, KeyId, Signature, SignatureLen,
    provision::ImageKey,
    verify::{Policy, VerifyError, verify_image},
};

use crate::{error::Error, files, keyset, repo::Repo};

/// An image that this repository packed.
#[derive(Debug, Clone)]
pub struct Image {
    /// Where it was read.
    pub path: PathBuf,
    /// The whole file.
    pub bytes: Vec<u8>,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Its header.
    pub header: Header,
    /// Its identity.
    pub digest: ImageDigest,
    /// What it asks of other ECUs, which is decided when it is released.
    pub rules: Rules,
}

impl Image {
    /// Reads an image and verifies signature and every page.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] where it is malformed, changed or signed by another key.
    pub fn load(repo: &Repo, path: &Path) -> Result<Self, Error> {
        let bytes = files::read(path, layout::ARTIFACT_MAX_LEN)?;
        let keys = keyset::active(repo)?;
        let (header, digest) = verify(&bytes, &keys).map_err(|error| Error::input(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            sha256: sha256(&bytes),
            bytes,
            header,
            digest,
            rules: Rules::default(),
        })
    }
}

/// Header and identity of an image that verifies with one of `keys`.
fn verify(bytes: &[u8], keys: &[ImageKey]) -> Result<(Header, ImageDigest), VerifyError> {
    // Whatever length this repository signs with is acceptable to itself.
    let policy = Policy {
        weakest_signature: SignatureLen::Rsa2048,
    };
    let image = verify_image(bytes, &policy, |key_id, signed, signature| {
        let digest = ImageDigest(sha256(signed).0);
        signed_by(keys, key_id, &digest, signature)
    })?;
    Ok((image.header, image.digest))
}

/// Header and identity of an image of which nothing else is here, if one of `keys` signed it.
///
/// # Errors
///
/// [`Error::Header`].
pub(crate) fn verify_header(
    bytes: &[u8; HEADER_LEN],
    keys: &[ImageKey],
) -> Result<(Header, ImageDigest), Error> {
    let header = Header::parse(bytes).map_err(VerifyError::Header);
    let header = header.map_err(Error::Header)?;
    let digest = Header::digest_of(bytes);
    match signed_by(keys, header.key_id, &digest, &header.signature) {
        true => Ok((header, digest)),
        false => Err(Error::Header(VerifyError::Signature(header.key_id))),
    }
}

fn signed_by(keys: &[ImageKey], id: KeyId, digest: &ImageDigest, signature: &Signature) -> bool {
    let key = keys.iter().find(|key| key.id() == id);
    key.is_some_and(|key| {
        let key = key.as_ref();
        key.verifies(digest.as_bytes(), signature.as_bytes())
    })
}

//! `oem inspect`: what an image, a grant, a key set, a draft or a bundle says. Needs no keys, verifies
//! digests; signatures only of a draft, by the roots that it holds itself.

mod bundle;
mod text;

pub use text::to_text;

use std::io::Read as _;
use std::path::Path;

use campaign::layout::ARTIFACT_MAX_LEN;
use ecu_image::{
    Algorithm, Cipher, GRANT_LEN, Grant, HEADER_LEN, Header, SignatureLen, Slot, WrappedKey,
    keyset::{KeyEntry, KeySet, KeyStatus},
    verify::{Policy, verify_image},
};
use serde_json::{Value, json};

use crate::{draft::Draft, error::Error, files};

/// Bytes by which files are told apart: the first block of a tar file.
const HEAD: u64 = 512;

/// Describes an image, a grant, a key set, a draft or a bundle, told apart by their first bytes.
///
/// # Errors
///
/// [`Error::Input`] where it is none of them, or malformed.
pub fn inspect(path: &Path) -> Result<Value, Error> {
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::file(path))?;
    file.take(HEAD)
        .read_to_end(&mut head)
        .map_err(Error::file(path))?;
    if bundle::is_bundle(&head) {
        return bundle::describe(path);
    }
    let bytes = files::read(path, ARTIFACT_MAX_LEN)?;
    match bytes.first_chunk::<4>() {
        Some(b"CNPG") => grant(&bytes, path),
        Some(b"CNPI") => image(&bytes, path),
        Some(b"CNPK") => key_set(&bytes, path),
        Some([b'{', ..]) => Draft::load(path)?.describe(),
        _ => Err(Error::input(
            path,
            "no image, grant, key set, draft or bundle",
        )),
    }
}

fn key_set(bytes: &[u8], path: &Path) -> Result<Value, Error> {
    let set = KeySet::parse(bytes).map_err(|error| Error::input(path, error))?;
    let key = |entry: KeyEntry<'_>| {
        json!({
            "key_id": entry.id,
            "algorithm": algorithm_name(entry.key.algorithm),
            "status": match entry.status {
                KeyStatus::Active => "active",
                KeyStatus::Revoked => "revoked",
            },
        })
    };
    Ok(json!({
        "kind": "key set",
        "digest": set.digest(),
        "hardware_id": set.hardware_id,
        "version": set.version,
        "keys": set.keys().map(key).collect::<Vec<_>>(),
        "signed_by": set.signatures().map(|entry| entry.root).collect::<Vec<_>>(),
    }))
}

/// As the command line names it.
const fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RsaPssSha256 => "rsa-pss-sha256",
        Algorithm::EcdsaP256Sha256 => "ecdsa-p256-sha256",
    }
}

fn grant(bytes: &[u8], path: &Path) -> Result<Value, Error> {
    let bytes: &[u8; GRANT_LEN] = bytes.try_into().map_err(|_| {
        Error::input(
            path,
            format!("a grant of {} bytes, not {GRANT_LEN}", bytes.len()),
        )
    })?;
    let grant = Grant::parse(bytes).map_err(|error| Error::input(path, error))?;
    let cipher = match grant.wrapped {
        WrappedKey::Aes128(_) => "aes128",
        WrappedKey::Aes256(_) => "aes256",
    };
    Ok(json!({
        "kind": "grant",
        "ecu_serial": grant.ecu_serial,
        "image_digest": grant.image_digest,
        "sequence": grant.sequence,
        "downgrade": grant.flags.downgrade,
        "cipher": cipher,
    }))
}

fn image(bytes: &[u8], path: &Path) -> Result<Value, Error> {
    let header = bytes
        .first_chunk::<HEADER_LEN>()
        .ok_or_else(|| Error::input(path, "shorter than an image header"))?;
    let parsed = Header::parse(header).map_err(|error| Error::input(path, error))?;
    let policy = Policy {
        weakest_signature: SignatureLen::Rsa2048,
    };
    let pages = verify_image(bytes, &policy, |_, _, _| true);
    let slots = [(Slot::Factory, "factory"), (Slot::A, "a"), (Slot::B, "b")];
    let slots: Vec<_> = slots
        .into_iter()
        .filter(|(slot, _)| parsed.slots.contains(*slot))
        .map(|(_, name)| name)
        .collect();
    Ok(json!({
        "kind": "image",
        "image_digest": Header::digest_of(header),
        "hardware_id": parsed.hardware_id,
        "version": parsed.version,
        "security_counter": parsed.security_counter,
        "logical_block": parsed.logical_block,
        "slots": slots,
        "limp_home": parsed.flags.limp_home,
        "load_address": parsed.load_address(),
        "payload_len": parsed.layout().payload_len(),
        "page_size": parsed.layout().page_size().get(),
        "page_count": parsed.layout().page_count(),
        "cipher": match parsed.cipher {
            Cipher::Aes128Cbc => "aes128",
            Cipher::Aes256Cbc => "aes256",
        },
        "key_id": parsed.key_id,
        "algorithm": algorithm_name(parsed.signature.len().algorithm()),
        "signature_bits": parsed.signature.len().bytes().saturating_mul(8),
        "signature": "not checked: `release` checks it, and every TCU and ECU",
        "digests": match pages {
            Ok(_) => String::from("ok"),
            Err(error) => error.to_string(),
        },
    }))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::cli::ImageAlgorithm;

    #[test]
    fn algorithms_have_the_names_of_the_command_line() {
        for algorithm in ImageAlgorithm::value_variants() {
            let value = algorithm.to_possible_value().unwrap();
            assert_eq!(algorithm_name((*algorithm).into()), value.get_name());
        }
    }
}

//! `oem pack`: a firmware file becomes an encrypted, signed image; its content key stays here.

use std::path::Path;

use campaign::ids::{HardwareId, ImageDigest, SecurityCounter, Version};
use ecu_image::{
    Cipher, HEADER_LEN, Header, HeaderFlags, IvSeed, LogicalBlock, PageSize, Salt, SlotSet,
    crypto::ContentKey,
    pack::{PackRequest, build},
};

use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    firmware::{FIRMWARE_MAX, Firmware, Format},
    keys::{SigningKey, random},
    leaks,
    repo::{ImageSecrets, KeyName, Repo},
    vault,
};

/// What the header says beside the firmware itself.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    /// The hardware type that the image is for.
    pub hardware_id: HardwareId,
    /// Its version.
    pub version: Version,
    /// Its security counter.
    pub security_counter: SecurityCounter,
    /// Whether it may start below the floor, as limp-home.
    pub limp_home: bool,
    /// The slots that it is linked for.
    pub slots: SlotSet,
    /// How it is encrypted.
    pub cipher: Cipher,
    /// How it is cut.
    pub page_size: PageSize,
    /// What it fills.
    pub logical_block: LogicalBlock,
}

/// A packed image.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Header, table, ciphertext.
    pub bytes: Vec<u8>,
    /// Its identity.
    pub digest: ImageDigest,
    /// Its secrets.
    pub secrets: ImageSecrets,
}

/// Packs `firmware` with a new content key, signed by `key`. Nothing is stored.
///
/// # Errors
///
/// [`Error::Pack`] where it does not fit the format, [`Error::Crypto`].
pub fn pack(firmware: &Firmware, options: &PackOptions, key: &SigningKey) -> Result<Packed, Error> {
    let content_key = match options.cipher {
        Cipher::Aes128Cbc => ContentKey::Aes128(random()?),
        Cipher::Aes256Cbc => ContentKey::Aes256(random()?),
    };
    let salt = Salt(random()?);
    let request = PackRequest {
        hardware_id: options.hardware_id,
        logical_block: options.logical_block,
        slots: options.slots,
        version: options.version,
        security_counter: options.security_counter,
        load_address: firmware.load_address,
        page_size: options.page_size,
        flags: HeaderFlags {
            limp_home: options.limp_home,
        },
        key_id: key.image_key_id()?,
        signature_len: key.signature_len()?,
        content_key: &content_key,
        salt,
        iv_seed: IvSeed(random()?),
        plaintext: &firmware.bytes,
    };
    let bytes = build(&request, |signed| key.sign_image(signed))
        .map_err(|error| Error::Pack(error.to_string()))?;
    let header = bytes
        .first_chunk::<HEADER_LEN>()
        .ok_or_else(|| Error::Pack("no header".into()))?;
    Ok(Packed {
        digest: Header::digest_of(header),
        bytes,
        secrets: ImageSecrets { content_key, salt },
    })
}

/// Packs the file `input` into the file `out`. The content key is stored before the image, so no
/// image exists that cannot be granted.
///
/// # Errors
///
/// [`Error::Firmware`] for a malformed file, [`Error::Leak`], [`Error::Pack`], [`Error::File`].
pub fn pack_file(
    repo: &Repo,
    input: &Path,
    format: Format,
    options: &PackOptions,
    out: &Path,
) -> Result<Packed, Error> {
    // Text formats spend more than two characters on a byte.
    let bytes = files::read(input, FIRMWARE_MAX.saturating_mul(4))?;
    let firmware = Firmware::parse(&bytes, format).map_err(|error| Error::Firmware {
        path: input.to_owned(),
        error,
    })?;
    if let Some(leak) = leaks::find(&firmware.bytes) {
        let path = input.to_owned();
        return Err(Error::Leak { path, leak });
    }
    let packed = pack(&firmware, options, &repo.key(KeyName::Image)?)?;
    let details = json!({
        "image": packed.digest, "hardware_id": options.hardware_id, "version": options.version,
        "security_counter": options.security_counter,
    });
    audit::record(repo, "pack", &details)?;
    let header = packed.bytes.first_chunk();
    let header = header.ok_or_else(|| Error::Pack("no header".into()))?;
    vault::holder(repo)?.keep(header, &packed.secrets)?;
    files::write_atomic(out, &packed.bytes, Access::Public)?;
    Ok(packed)
}

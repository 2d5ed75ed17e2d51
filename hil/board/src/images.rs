//! Images and grants for the emulated board.

use anyhow::{Result, anyhow};
use board_shell::machine::{HARDWARE, SERIAL};
use ecu_image::crypto::ContentKey;
use ecu_image::pack::{GrantRequest, PackRequest, build};
use ecu_image::{
    Grant, GrantFlags, HEADER_LEN, Header, HeaderFlags, ImageDigest, ImageVersion, IvSeed,
    LogicalBlock, PageSize, Salt, SecurityCounter, SequenceNumber, SlotSet,
};

use crate::keys::Keys;

/// An image to be made; every field may be changed first.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Patch number of the version; also decides the plaintext.
    pub version: u32,
    /// The security counter.
    pub counter: u32,
    /// Length of the plaintext in bytes.
    pub len: usize,
    /// Bytes of a page.
    pub page_size: u32,
    /// For which hardware.
    pub hardware: &'static str,
    /// For which ECU.
    pub serial: &'static str,
    /// Whether a factory image below the floor may boot.
    pub limp_home: bool,
    /// Sequence of the grant.
    pub sequence: u64,
    /// Whether the grant excepts the image from the floor.
    pub downgrade: bool,
}

/// A packed image and its grant.
#[derive(Debug, Clone)]
pub struct Image {
    /// Header, table, pages.
    pub packed: Vec<u8>,
    /// The grant.
    pub grant: Vec<u8>,
    /// What the ECU runs.
    pub plaintext: Vec<u8>,
    /// The image's identity.
    pub digest: ImageDigest,
    /// Bytes of a page.
    pub page_size: usize,
    metadata_len: usize,
}

impl Recipe {
    /// Version, counter and grant sequence `number`; `len` bytes for the emulated board.
    #[must_use]
    pub fn new(number: u32, len: usize) -> Self {
        Self {
            version: number,
            counter: number,
            len,
            page_size: board_shell::machine::PAGE_SIZE,
            hardware: HARDWARE,
            serial: SERIAL,
            limp_home: false,
            sequence: number.into(),
            downgrade: false,
        }
    }

    /// Packs and grants under `keys`; `signed_by` signs in the place of the ECU's OEM.
    ///
    /// # Errors
    /// A field is out of range.
    pub fn make(&self, keys: &Keys, signed_by: &Keys) -> Result<Image> {
        let content_key = ContentKey::Aes128([self.version.to_le_bytes()[0] ^ 0x5C; 16]);
        let salt = Salt([7; 16]);
        let plaintext: Vec<u8> = (0..u32::try_from(self.len)?)
            .map(|at| at.wrapping_mul(2_654_435_761 ^ self.version).to_le_bytes()[1])
            .collect();
        let key = keys.image_key()?;
        let request = PackRequest {
            hardware_id: self.hardware.parse()?,
            logical_block: LogicalBlock::APPLICATION,
            slots: SlotSet::ALL,
            version: ImageVersion {
                major: 1,
                minor: 0,
                patch: self.version,
            },
            security_counter: SecurityCounter(self.counter),
            load_address: 0x2000_0000,
            page_size: PageSize::new(self.page_size).ok_or_else(|| anyhow!("page size"))?,
            flags: HeaderFlags {
                limp_home: self.limp_home,
            },
            key_id: key.id(),
            signature_len: key.signature_len(),
            content_key: &content_key,
            salt,
            iv_seed: IvSeed([9; 16]),
            plaintext: &plaintext,
        };
        let sign = |message: &[u8]| Ok::<_, String>(signed_by.sign(message));
        let packed = build(&request, sign)?;
        let header = packed
            .first_chunk::<HEADER_LEN>()
            .ok_or_else(|| anyhow!("no header"))?;
        let digest = Header::digest_of(header);
        let table_len = Header::parse(header)?.layout().table_len() as usize;
        let request = GrantRequest {
            ecu_serial: self.serial.parse()?,
            image_digest: digest,
            sequence: SequenceNumber(self.sequence),
            flags: GrantFlags {
                downgrade: self.downgrade,
            },
            content_key: &content_key,
            salt,
        };
        let grant = Grant::issue(&request, &keys.wrap(), &keys.grant());
        Ok(Image {
            metadata_len: HEADER_LEN + table_len,
            packed,
            grant: grant.encode().to_vec(),
            plaintext,
            digest,
            page_size: self.page_size as usize,
        })
    }
}

impl Image {
    /// Grant, header and table, as they are downloaded.
    #[must_use]
    pub fn metadata(&self) -> Vec<u8> {
        [&self.grant, &self.packed[..self.metadata_len]].concat()
    }

    /// The ciphertext pages.
    #[must_use]
    pub fn pages(&self) -> &[u8] {
        &self.packed[self.metadata_len..]
    }
}

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
    /// Length of the plaintext in bytes, where no program is given.
    pub len: usize,
    /// What the ECU runs; else bytes that no ECU could.
    pub program: Option<Vec<u8>>,
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
            program: None,
            page_size: board_shell::machine::PAGE_SIZE,
            hardware: HARDWARE,
            serial: SERIAL,
            limp_home: false,
            sequence: number.into(),
            downgrade: false,
        }
    }

    fn plaintext(&self) -> Result<Vec<u8>> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let seed = 2_654_435_761 ^ self.version;
        Ok((0..u32::try_from(self.len)?)
            .map(|at| at.wrapping_mul(seed).to_le_bytes()[1])
            .collect())
    }

    /// Packs and grants under `keys`; `signed_by` signs in the place of the ECU's OEM.
    ///
    /// # Errors
    /// A field is out of range.
    pub fn make(&self, keys: &Keys, signed_by: &Keys) -> Result<Image> {
        let content_key = ContentKey::Aes128([self.version.to_le_bytes()[0] ^ 0x5C; 16]);
        let salt = Salt([7; 16]);
        let plaintext = self.plaintext()?;
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

/// A program for a Cortex-M at `address` that takes an exception through a vector table of its own and
/// then tells the emulator to end with status 0; any other exception keeps it where it is.
#[must_use]
pub fn takes_exceptions(address: u32) -> Vec<u8> {
    const STACK: u32 = 0x2000_1000;
    const SUPERVISOR_CALL: usize = 11;
    // An odd address is one of Thumb code.
    let thumb = |offset: u32| address + offset + 1;
    let (reset, stay, handler) = (thumb(64), thumb(66), thumb(68));
    let mut vectors = [stay; 16];
    (vectors[0], vectors[1], vectors[SUPERVISOR_CALL]) = (STACK, reset, handler);
    let code: [u16; 8] = [
        0xDF00, // reset: svc 0
        0xE7FE, // stay: b stay
        0x2018, // handler: movs r0, #0x18 (SYS_EXIT)
        0x4901, // ldr r1, [pc, #4]
        0xBEAB, // bkpt 0xAB
        0xE7FE, // b .
        0x0026, 0x0002, // ADP_Stopped_ApplicationExit
    ];
    let vectors = vectors.into_iter().flat_map(u32::to_le_bytes);
    vectors
        .chain(code.into_iter().flat_map(u16::to_le_bytes))
        .collect()
}

/// A program in Arm code that tells the emulator to end (SYS_EXIT).
#[must_use]
pub fn ends() -> Vec<u8> {
    const CODE: [u32; 5] = [
        0xE3A0_0018, // mov r0, #0x18 (SYS_EXIT)
        0xE300_1026, // movw r1, #0x26
        0xE340_1002, // movt r1, #2: ADP_Stopped_ApplicationExit
        0xEF12_3456, // svc 0x123456
        0xEAFF_FFFE, // b .
    ];
    CODE.into_iter().flat_map(u32::to_le_bytes).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_with_vectors_of_its_own() {
        const BASE: u32 = 0x2100_8000;
        let program = takes_exceptions(BASE);
        let (vectors, code) = program.split_at(64);
        let vectors: Vec<u32> = vectors
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let instruction = |vector: u32| {
            assert_eq!(vector % 2, 1, "{vector:#x} is no Thumb code");
            let at = (vector - 1 - BASE) as usize - 64;
            u16::from_le_bytes([code[at], code[at + 1]])
        };
        assert_eq!(instruction(vectors[1]), 0xDF00, "a supervisor call");
        assert_eq!(instruction(vectors[11]), 0x2018, "its handler");
        for other in (2..16).filter(|other| *other != 11) {
            assert_eq!(instruction(vectors[other]), 0xE7FE, "{other}: stay");
        }
    }
}

//! An image, its grant, and the flash that holds them in slot A.

use anyhow::{Context as _, Result, anyhow};
use board::flash::{BASE, map};
use board::keys::Keys;
use board_shell::machine::{HARDWARE, PAGE_SIZE, SERIAL};
use ecu_bootloader::layout::{METADATA_HEAD, SlotId, TABLE_PAGE};
use ecu_bootloader::state::{SlotRecord, SlotState, State};
use ecu_image::crypto::{ContentKey, MacKey};
use ecu_image::pack::{GrantRequest, PackRequest, build};
use ecu_image::{
    Grant, GrantFlags, HEADER_LEN, Header, HeaderFlags, ImageDigest, ImageVersion, IvSeed,
    LogicalBlock, PageSize, Salt, SecurityCounter, SequenceNumber, SlotSet,
};

/// Pages of an image. All are alike but the first, so that one that was not read could pass for
/// another.
const PAGES: usize = 3;
/// The floor of every ECU here.
pub(crate) const FLOOR: SecurityCounter = SecurityCounter(5);

/// What an image says, and who signed it.
pub(crate) struct Recipe<'k> {
    pub(crate) counter: u32,
    pub(crate) hardware: &'static str,
    pub(crate) serial: &'static str,
    pub(crate) signed_by: &'k Keys,
    /// Whose key the header names.
    pub(crate) named: &'k Keys,
}

impl<'k> Recipe<'k> {
    /// A genuine image.
    pub(crate) const fn genuine(keys: &'k Keys) -> Self {
        Self {
            counter: 6,
            hardware: HARDWARE,
            serial: SERIAL,
            signed_by: keys,
            named: keys,
        }
    }
}

/// A packed image, its grant, and what the slot holds of it.
pub(crate) struct Image {
    pub(crate) packed: Vec<u8>,
    pub(crate) grant: Vec<u8>,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) digest: ImageDigest,
    pub(crate) counter: SecurityCounter,
}

/// A program that only has to be reached: a vector table, then branches to themselves.
fn program(address: u32) -> Vec<u8> {
    let code = address + 8;
    let table = [0x2000_8000, code | 1].map(u32::to_le_bytes).concat();
    let page = usize::try_from(PAGE_SIZE).unwrap_or(0);
    table
        .into_iter()
        .chain([0xFE, 0xE7].repeat(page * PAGES))
        .take(page * PAGES)
        .collect()
}

/// Where slot A holds its plaintext.
pub(crate) fn payload_address() -> Result<u32> {
    let slot = map()?.slot(SlotId::A).context("slot A")?;
    Ok(slot.payload.address)
}

impl Recipe<'_> {
    /// Packs for slot A under `keys`.
    pub(crate) fn make(&self, keys: &Keys) -> Result<Image> {
        let content_key = ContentKey::Aes128([0x5C; 16]);
        let salt = Salt([7; 16]);
        let plaintext = program(payload_address()?);
        let key = self.named.image_key()?;
        let request = PackRequest {
            hardware_id: self.hardware.parse()?,
            logical_block: LogicalBlock::APPLICATION,
            slots: SlotSet::ALL,
            version: ImageVersion {
                major: 1,
                minor: 0,
                patch: 2,
            },
            security_counter: SecurityCounter(self.counter),
            load_address: payload_address()?.into(),
            page_size: PageSize::new(PAGE_SIZE).ok_or_else(|| anyhow!("page size"))?,
            flags: HeaderFlags { limp_home: false },
            key_id: key.id(),
            signature_len: key.signature_len(),
            content_key: &content_key,
            salt,
            iv_seed: IvSeed([9; 16]),
            plaintext: &plaintext,
        };
        let packed = build(&request, |message| {
            Ok::<_, String>(self.signed_by.sign(message))
        })?;
        let header = packed.first_chunk::<HEADER_LEN>().context("no header")?;
        let digest = Header::digest_of(header);
        let grant = Grant::issue(
            &GrantRequest {
                ecu_serial: self.serial.parse()?,
                image_digest: digest,
                sequence: SequenceNumber(2),
                flags: GrantFlags { downgrade: false },
                content_key: &content_key,
                salt,
            },
            &keys.wrap(),
            &keys.grant(),
        );
        Ok(Image {
            packed,
            grant: grant.encode().to_vec(),
            plaintext,
            digest,
            counter: SecurityCounter(self.counter),
        })
    }
}

/// The provisioned ECU's memory, without its factory image.
pub(crate) fn provisioned(keys: &Keys) -> Result<Vec<u8>> {
    let factory = board::images::Recipe::new(1, 4096).make(keys, keys)?;
    let mut flash = board::flash::provisioned(keys, &factory, FLOOR.get())?;
    let factory = map()?.slot(SlotId::Factory).context("factory slot")?;
    let head = vec![0xFF; METADATA_HEAD as usize];
    put(&mut flash, factory.metadata.address, &head)?;
    Ok(flash)
}

/// The journal of a provisioned ECU that sealed `image` in slot A.
pub(crate) fn sealed(flash: &[u8], image: &Image) -> Result<State> {
    let [journal, _] = map()?.journal();
    let at = (journal.address - BASE) as usize + 16;
    let state = flash.get(at..).and_then(<[u8]>::first_chunk);
    let mut state = State::decode(state.context("no record")?).context("no state")?;
    state.confirmed = SlotId::A;
    state.a = SlotRecord {
        state: SlotState::Sealed,
        digest: image.digest,
        counter: image.counter,
    };
    Ok(state)
}

/// A journal record with this sequence, under `key`.
pub(crate) fn record(sequence: u64, state: &State, key: &MacKey) -> Vec<u8> {
    let mut record = b"CNJR\x01\0\0\x01".to_vec();
    record.extend(sequence.to_le_bytes());
    record.extend(state.encode());
    record.extend(key.mac(&record));
    record
}

/// Puts `image` into slot A, and its record into the place of the first one.
pub(crate) fn install(flash: &mut [u8], image: &Image, record: &[u8]) -> Result<()> {
    let map = map()?;
    let slot = map.slot(SlotId::A).context("slot A")?;
    let [journal, _] = map.journal();
    let (header, rest) = image.packed.split_at(HEADER_LEN);
    let table = rest.get(..TABLE_PAGE as usize).context("no table")?;
    let mut head = [&image.grant, header].concat();
    head.resize(METADATA_HEAD as usize, 0);
    put(flash, slot.metadata.address, &head)?;
    put(flash, slot.metadata.address + METADATA_HEAD, table)?;
    put(flash, slot.payload.address, &image.plaintext)?;
    put(flash, journal.address, record)
}

/// Writes into the flash at an address.
pub(crate) fn put(flash: &mut [u8], address: u32, bytes: &[u8]) -> Result<()> {
    let at = (address - BASE) as usize;
    let place = flash
        .get_mut(at..at + bytes.len())
        .context("outside the flash")?;
    place.copy_from_slice(bytes);
    Ok(())
}

//! The cases: what is right in everything but one thing.

use anyhow::{Context as _, Result, anyhow};
use board::flash::BASE;
use board::keys::{Keys, Mode};
use board_shell::machine::PAGE_SIZE;
use ecu_bootloader::layout::{KeySetArea, SlotId};
use ecu_image::keyset::KeySet;

use crate::memory::{
    FLOOR, Image, Recipe, install, payload_address, provisioned, put, record, sealed,
};

/// An ECU's memory before it starts.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) flash: Vec<u8>,
    pub(crate) provision: Vec<u8>,
}

/// The genuine image first.
pub(crate) fn all(keys: &Keys, stranger: &Keys) -> Result<Vec<Case>> {
    let genuine = Recipe::genuine(keys).make(keys)?;
    let provisioned = provisioned(keys)?;
    let case = |name, image: &Image| -> Result<Case> {
        let mut flash = provisioned.clone();
        let record = record(1, &sealed(&flash, image)?, &keys.journal());
        install(&mut flash, image, &record)?;
        Ok(Case {
            name,
            flash,
            provision: keys.provision(Mode::Boot, 0, FLOOR.get()),
        })
    };
    let made = |recipe: Recipe<'_>| recipe.make(keys);
    let right = || Recipe::genuine(keys);
    let strange = || Recipe {
        signed_by: stranger,
        named: stranger,
        ..right()
    };
    let mut cases = vec![
        case("genuine", &genuine)?,
        // Another key's signature, under the identity of the one that the ECU knows.
        case(
            "signature",
            &made(Recipe {
                signed_by: stranger,
                ..right()
            })?,
        )?,
        // A key that is in no key set of this ECU, and one that is in a forged set.
        case("key", &made(strange())?)?,
        case("keyset", &made(strange())?)?,
        case("payload", &genuine)?,
        case(
            "counter",
            &made(Recipe {
                counter: 4,
                ..right()
            })?,
        )?,
        case(
            "hardware",
            &made(Recipe {
                hardware: "BOARD-2",
                ..right()
            })?,
        )?,
        case(
            "serial",
            &made(Recipe {
                serial: "SN-0002",
                ..right()
            })?,
        )?,
        case("grant", &genuine)?,
        case("journal", &genuine)?,
        case("image", &genuine)?,
        case("rejected", &genuine)?,
    ];
    for case in &mut cases {
        spoil(case, keys, stranger, &genuine)?;
    }
    for (name, offset) in REJECTS {
        let mut case = case(name, &genuine)?;
        flip(&mut case.flash, offset)?;
        cases.push(case);
    }
    Ok(cases)
}

/// Cases `equal-STAGE-WHERE`, whose refusal takes as many instructions wherever one byte is wrong;
/// by the offset of that byte from slot A's metadata.
const REJECTS: [(&str, u32); 9] = [
    ("equal-grant-first", 240),
    ("equal-grant-middle", 247),
    ("equal-grant-last", 255),
    ("equal-signature-first", 256 + 1024 + 1),
    ("equal-signature-middle", 256 + 1024 + 200),
    ("equal-signature-last", 256 + 1024 + 383),
    ("equal-payload-first", METADATA + 8),
    ("equal-payload-middle", METADATA + PAGE_SIZE + 900),
    ("equal-payload-last", METADATA + 3 * PAGE_SIZE - 1),
];
/// Bytes of slot A's metadata: the payload follows it.
const METADATA: u32 = 8192;

/// Alters the byte at an offset from slot A's metadata.
fn flip(flash: &mut [u8], offset: u32) -> Result<()> {
    let slot = board::flash::map()?.slot(SlotId::A).context("slot A")?;
    let at = (slot.metadata.address - BASE + offset) as usize;
    *flash.get_mut(at).context("outside the flash")? ^= 1;
    Ok(())
}

/// What is not in the image but around it.
fn spoil(case: &mut Case, keys: &Keys, stranger: &Keys, genuine: &Image) -> Result<()> {
    let map = board::flash::map()?;
    let [journal, _] = map.journal();
    let Some(slot) = map.slot(SlotId::A) else {
        return Ok(());
    };
    let state = sealed(&case.flash, genuine)?;
    let mut other = state;
    let rewritten = match case.name {
        // One instruction in the last page, where genuine pages before it look alike.
        "payload" => {
            let last = payload_address()? + PAGE_SIZE * 2 + 128;
            return put(&mut case.flash, last, &[0x00, 0xBF]);
        }
        // The MAC of a stranger.
        "grant" => {
            let mac = stranger.grant().mac(&genuine.grant[..240]);
            return put(&mut case.flash, slot.metadata.address + 240, &mac);
        }
        // Two roots have signed it, but not this ECU's; the journal names the genuine one.
        "keyset" => {
            let area = map.key_set(KeySetArea::First);
            let forged = stranger.key_set()?;
            let signed = KeySet::parse(&forged).map_err(|error| anyhow!("{error}"))?;
            return put(&mut case.flash, area.address, signed.signed_bytes());
        }
        // The record of a stranger.
        "journal" => record(1, &state, &stranger.journal()),
        // The journal names another image.
        "image" => {
            other.a.digest.0[31] ^= 1;
            record(1, &other, &keys.journal())
        }
        // The journal has rejected this very image.
        "rejected" => {
            other.confirmed = SlotId::Factory;
            other.a.state = ecu_bootloader::state::SlotState::Rejected;
            record(1, &other, &keys.journal())
        }
        _ => return Ok(()),
    };
    put(&mut case.flash, journal.address, &rewritten)
}

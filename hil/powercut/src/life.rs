//! The whole life of an ECU, in steps that can be gone on with after any interruption.
//!
//! Each step starts at power-on and leads to a goal. It looks where the ECU stands and goes on from
//! there, as a tester does, so the same step is also what follows a power cut in it.

use ecu_bootloader::access::FREE_BLOCKS;
use ecu_bootloader::boot::{BootReason, ResetCause};
use ecu_bootloader::layout::{Layout, Region, Slot, SlotId};
use ecu_bootloader::state::{SlotState, State};
use ecu_image::ImageDigest;
use ecu_image::keyset::KeyStatus;
use nor::Geometry;

use crate::bench::{Bench, Setup};
use crate::images::{Image, KeySetRecipe, Recipe, Signer, key_set, recipe, rotation};
use crate::tester::{Done, Failed};

/// Pages of each image; one of them is blank, the last one half full.
pub const PAGES: u32 = 9;
/// The page of which every byte is 0xFF: it reads right before it was programmed.
const BLANK_PAGE: u32 = 4;

/// An ECU, its images and the name of what it is.
#[derive(Debug)]
pub struct Life {
    /// As reports have it.
    pub name: &'static str,
    /// Flash and layout.
    pub setup: Setup,
    factory: Image,
    /// One image under two grants.
    first: [Image; 2],
    /// Begun and given up.
    dropped: Image,
    /// One image under three grants.
    second: [Image; 3],
    third: Image,
    /// Versions 2 to 4; the last revokes the key of the images before it.
    key_sets: [Vec<u8>; 3],
}

/// One step of a life.
#[derive(Clone, Copy)]
pub struct Step {
    /// As reports have it.
    pub name: &'static str,
    /// Whether the update slots lose a sector before the step.
    pub decays: bool,
    /// What a tester and the application do.
    pub act: fn(&mut Bench, &Life) -> Done,
    /// Whether the step is done.
    pub goal: fn(&State, &Life) -> bool,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn step(
    name: &'static str,
    act: fn(&mut Bench, &Life) -> Done,
    goal: fn(&State, &Life) -> bool,
) -> Step {
    Step {
        name,
        decays: false,
        act,
        goal,
    }
}

/// Every step in order.
#[must_use]
pub fn steps() -> Vec<Step> {
    use SlotState::{Healthy, Sealed, Staged};
    vec![
        step("provision", provision, |_, _| true),
        step(
            "stage the first image",
            |bench, life| install(bench, &life.first[0], Staged),
            |state, life| is(state, &life.first[0], Staged),
        ),
        step("try the first image twice", try_twice, |state, life| {
            is(state, &life.first[0], Healthy)
        }),
        step(
            "seal the first image",
            |bench, life| install(bench, &life.first[0], Sealed),
            |state, life| is(state, &life.first[0], Sealed) && state.floor.0 == 2,
        ),
        step(
            "update the key set",
            |bench, life| update_keys(bench, life, 2),
            |state, _| state.key_set.is_some_and(|set| set.version.0 == 2),
        ),
        step(
            "update it again, over the first",
            |bench, life| update_keys(bench, life, 3),
            |state, _| state.key_set.is_some_and(|set| set.version.0 == 3),
        ),
        step("guess access keys", guess_keys, |state, _| {
            state.access_blocks > FREE_BLOCKS
        }),
        step(
            "unlock after the delay",
            |bench, _| {
                bench.enter_programming()?;
                Ok(bench.unlock()?)
            },
            |state, _| state.access_blocks == 0,
        ),
        step(
            "begin another image and drop it",
            begin_and_drop,
            |state, life| {
                state.find(SlotState::Receiving).is_none()
                    && state.grant_digest == life.dropped.digest
            },
        ),
        step(
            "revoke the key of the confirmed image",
            |bench, life| update_keys(bench, life, 4),
            |state, _| state.key_set.is_some_and(|set| set.version.0 == 4),
        ),
        step(
            "stage the second image",
            |bench, life| install(bench, &life.second[0], Staged),
            |state, life| is(state, &life.second[0], Staged),
        ),
        step("crash in its trial", crash_in_trial, |state, life| {
            is(state, &life.second[0], SlotState::Rejected)
        }),
        step(
            "install it under another grant",
            |bench, life| install(bench, &life.second[1], Healthy),
            |state, life| is(state, &life.second[1], Healthy),
        ),
        step("revert it", revert, |state, life| {
            is(state, &life.second[1], SlotState::Rejected)
        }),
        step(
            "install and seal it",
            |bench, life| install(bench, &life.second[2], Sealed),
            |state, life| is(state, &life.second[2], Sealed) && state.floor.0 == 3,
        ),
        Step {
            decays: true,
            ..step(
                "boot the factory image",
                |_, _| Ok(()),
                |state, _| state.confirmed == SlotId::Factory,
            )
        },
        step(
            "install the third image from there",
            |bench, life| install(bench, &life.third, Sealed),
            |state, life| is(state, &life.third, Sealed),
        ),
    ]
}

impl Life {
    fn new(name: &'static str, setup: Setup, page_size: u32) -> Self {
        let signed = |number: u32, sequence: u64, signer| {
            Recipe {
                signer,
                len: (PAGES * page_size - page_size / 2) as usize,
                page_size,
                blank: (BLANK_PAGE * page_size) as usize..((BLANK_PAGE + 1) * page_size) as usize,
                sequence,
                counter: number.min(3),
                limp_home: number == 1,
                ..recipe(number)
            }
            .make()
        };
        let image = |number, sequence| signed(number, sequence, Signer::First);
        let after = |number, sequence| signed(number, sequence, Signer::Second);
        let both = |version| KeySetRecipe {
            keys: [Signer::First, Signer::Second]
                .map(|key| (key, KeyStatus::Active))
                .into(),
            ..key_set(version)
        };
        Self {
            name,
            setup,
            factory: image(1, 1),
            first: [image(2, 2), image(2, 100)],
            dropped: image(4, 3),
            second: [after(3, 4), after(3, 5), after(3, 6)],
            third: after(5, 7),
            key_sets: [both(2).make(), both(3).make(), rotation(4).make()],
        }
    }

    fn uniform(
        name: &'static str,
        geometry: fn(u32) -> Geometry,
        (sector, word): (u32, u32),
        page_size: u32,
        two_update_slots: bool,
    ) -> Self {
        let layout = Layout::uniform(0, sector, word, 1, PAGES * page_size, two_update_slots);
        let layout = layout.unwrap();
        let last = layout.slot(if two_update_slots {
            SlotId::B
        } else {
            SlotId::A
        });
        let payload = last.unwrap().payload;
        let geometry = geometry(payload.address + payload.len);
        Self::new(name, Setup { geometry, layout }, page_size)
    }

    /// Pages of 2 KiB, 8-byte words with ECC; four pages of the image a sector. The smallest.
    #[must_use]
    pub fn pages_2k_8() -> Self {
        let geometry = |capacity| Geometry::pages_2k_8(capacity).with_ecc();
        Self::uniform(
            "2 KiB pages, 8-byte words, ECC",
            geometry,
            (2048, 8),
            512,
            true,
        )
    }

    /// Pages of 2 KiB, 32-byte words with ECC; two pages of the image a sector.
    #[must_use]
    pub fn pages_2k_32() -> Self {
        let geometry = |capacity| Geometry::pages_2k_32(capacity).with_ecc();
        Self::uniform(
            "2 KiB pages, 32-byte words, ECC",
            geometry,
            (2048, 32),
            1024,
            true,
        )
    }

    /// Uniform sectors of 4 KiB; a page of the image is a sector.
    #[must_use]
    pub fn uniform_4k() -> Self {
        Self::uniform("uniform 4 KiB", Geometry::uniform_4k, (4096, 4), 4096, true)
    }

    /// One update slot, on sectors half as large as a page of the image; one bank, which cannot be
    /// read while it is being changed.
    #[must_use]
    pub fn one_slot() -> Self {
        let geometry = |capacity| Geometry::pages_2k_8(capacity).with_banks(capacity);
        Self::uniform(
            "one update slot, one bank",
            geometry,
            (2048, 8),
            4096,
            false,
        )
    }

    /// Sectors of 16, 64 and 128 KiB; the image lies within one.
    #[must_use]
    pub fn mixed() -> Self {
        const K: u32 = 1024;
        let region = |address, len| Region {
            address: address * K,
            len: len * K,
            sector: len * K,
        };
        let slot = |metadata, payload| Slot { metadata, payload };
        let layout = Layout::new(
            4,
            [region(0, 16), region(16, 16)],
            [region(512, 128), region(640, 128)],
            slot(region(64, 64), region(128, 128)),
            slot(region(32, 16), region(256, 128)),
            Some(slot(region(48, 16), region(384, 128))),
        );
        let setup = Setup {
            geometry: Geometry::mixed(768 * K),
            layout: layout.unwrap(),
        };
        Self::new("mixed sectors", setup, 1024)
    }

    /// All, the smallest first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![
            Self::pages_2k_8(),
            Self::pages_2k_32(),
            Self::uniform_4k(),
            Self::mixed(),
            Self::one_slot(),
        ]
    }

    /// The authentic image of this digest.
    #[must_use]
    pub fn image(&self, digest: ImageDigest) -> Option<&Image> {
        [&self.factory, &self.first[0], &self.dropped, &self.third]
            .into_iter()
            .chain(&self.second)
            .find(|image| image.digest == digest)
    }

    /// The factory image.
    #[must_use]
    pub fn factory(&self) -> &Image {
        &self.factory
    }
}

/// The update slot that holds an image and what it is there; a rejected one only where there is no
/// other.
fn place(state: &State, image: &Image) -> Option<(SlotId, SlotState)> {
    let holds = |slot: &SlotId| {
        let record = state.slot(*slot);
        record.digest == image.digest && record.state != SlotState::Empty
    };
    let rejected = |slot: &SlotId| state.slot(*slot).state == SlotState::Rejected;
    let slot = [SlotId::A, SlotId::B]
        .into_iter()
        .filter(holds)
        .min_by_key(rejected)?;
    Some((slot, state.slot(slot).state))
}

fn is(state: &State, image: &Image, expected: SlotState) -> bool {
    place(state, image).is_some_and(|(_, found)| found == expected)
}

fn found(bench: &Bench, image: &Image) -> SlotState {
    let state = bench.ecu.state().expect("a provisioned ECU");
    place(state, image).map_or(SlotState::Empty, |(_, state)| state)
}

fn runs(bench: &Bench, image: &Image) -> bool {
    bench
        .booted
        .is_some_and(|target| target.digest == image.digest)
}

fn provision(bench: &mut Bench, life: &Life) -> Done {
    bench.provision(&life.factory, 1);
    Ok(bench.power_cycle()?)
}

/// From wherever the image stands to `until`, with this grant.
fn install(bench: &mut Bench, image: &Image, until: SlotState) -> Done {
    for _ in 0..10 {
        let reached = found(bench, image);
        if reached as u8 >= until as u8 && reached != SlotState::Rejected {
            return Ok(());
        }
        match reached {
            SlotState::Staged => activate(bench)?,
            SlotState::Trial if runs(bench, image) => {
                assert!(bench.self_test_passed()?, "the self-test is not believed");
            }
            SlotState::Trial => bench.power_cycle()?,
            SlotState::Healthy | SlotState::Sealed => {
                bench.app_unlock()?;
                assert_eq!(bench.app(&[0x31, 1, 2, 0x12])?, [0x71, 1, 2, 0x12, 0]);
            }
            SlotState::Empty | SlotState::Receiving | SlotState::Rejected => stage(bench, image)?,
        }
    }
    panic!("the image is {:?} for ever", found(bench, image));
}

fn activate(bench: &mut Bench) -> Done {
    bench.enter_programming()?;
    bench.unlock()?;
    bench.activate()
}

/// Steps 2 to 6 of the profile's sequence, from wherever the download was interrupted.
fn stage(bench: &mut Bench, image: &Image) -> Done {
    bench.enter_programming()?;
    bench.unlock()?;
    bench.ask(&[&[0x2E, 0xF1, 0x5A], &image.digest.0[..10]].concat())?;
    let mut progress = bench.progress()?;
    if progress.state == 0 || progress.digest != image.digest.0 {
        bench.send_metadata(image)?;
        progress = bench.progress()?;
    }
    if progress.state == 1 {
        bench.routine(0xFF00)?;
        progress = bench.progress()?;
    } else if progress.state == 2 {
        check_offset(bench, image, progress.next_offset);
    }
    if progress.state == 2 {
        bench.send_pages(image, progress.next_offset as usize)?;
    }
    bench.routine(0x0202)?;
    bench.routine(0xFF01)
}

/// What is sent again is at most what lies in one sector and one page; blank pages, which read
/// right without having been sent, are not counted.
fn check_offset(bench: &Bench, image: &Image, offset: u32) {
    let state = bench.ecu.state().unwrap();
    let slot = state.find(SlotState::Receiving).expect("a receiving slot");
    let payload = bench.layout().slot(slot).unwrap().payload;
    let nor = bench.nor.borrow();
    let stored = |page: usize, plain: &[u8]| {
        let start = payload.address + (page * image.page_size) as u32;
        let mut bytes = vec![0; plain.len()];
        nor.peek(start, &mut bytes).unwrap();
        bytes == plain && nor.is_settled(start..start + plain.len() as u32)
    };
    let first = offset as usize / image.page_size;
    let pages = image.plaintext.chunks(image.page_size).enumerate();
    let again = pages
        .take_while(|(page, plain)| stored(*page, plain))
        .skip(first)
        .filter(|(_, plain)| plain.iter().any(|byte| *byte != 0xFF))
        .count();
    let sector = (payload.sector as usize / image.page_size).max(1);
    assert!(again <= sector + 1, "{again} complete pages are sent again");
}

/// Two boots in trial, then the self-test passes.
fn try_twice(bench: &mut Bench, life: &Life) -> Done {
    if found(bench, &life.first[0]) == SlotState::Staged {
        activate(bench)?;
    }
    let fresh = bench.ecu.state().unwrap().attempts_left == 2;
    if found(bench, &life.first[0]) == SlotState::Trial && fresh {
        bench.power_cycle()?;
    }
    // Three boots are all that a trial has: who fails in two of them needs a new grant.
    let used_up = found(bench, &life.first[0]) == SlotState::Rejected && bench.cuts == 2;
    install(bench, &life.first[usize::from(used_up)], SlotState::Healthy)
}

/// To key set `version`, unless it is in use.
fn update_keys(bench: &mut Bench, life: &Life, version: u32) -> Done {
    bench.enter_programming()?;
    bench.unlock()?;
    let used = bench.ecu.state().unwrap().key_set;
    if used.is_none_or(|used| used.version.0 < version) {
        bench.send_key_set(&life.key_sets[version as usize - 2])?;
    }
    bench.reset_ecu()
}

/// An attacker's wrong keys, until there is a delay.
fn guess_keys(bench: &mut Bench, _life: &Life) -> Done {
    bench.enter_programming()?;
    while bench.ecu.state().unwrap().access_blocks <= FREE_BLOCKS {
        // Answered, or refused: what matters is what the ECU remembers of it.
        bench.request(&[0x27, 1])?;
        bench.request(&[&[0x27, 2], &[0; 16][..]].concat())?;
    }
    Ok(())
}

fn begin_and_drop(bench: &mut Bench, life: &Life) -> Done {
    let image = &life.dropped;
    bench.enter_programming()?;
    bench.unlock()?;
    let state = *bench.ecu.state().unwrap();
    if state.grant_digest != image.digest || state.find(SlotState::Receiving).is_some() {
        bench.send_metadata(image)?;
        bench.routine(0xFF00)?;
        bench.routine(0x0213)?;
    }
    bench.reset_ecu()
}

fn crash_in_trial(bench: &mut Bench, life: &Life) -> Done {
    let image = &life.second[0];
    for _ in 0..10 {
        match found(bench, image) {
            SlotState::Rejected => return Ok(()),
            SlotState::Staged => activate(bench)?,
            SlotState::Trial => bench.start(ResetCause::Crash, None)?,
            other => panic!("{other:?}"),
        }
    }
    Err(Failed::Silent)
}

fn revert(bench: &mut Bench, life: &Life) -> Done {
    if found(bench, &life.second[1]) == SlotState::Healthy {
        bench.app_unlock()?;
        assert_eq!(bench.app(&[0x31, 1, 2, 0x13])?, [0x71, 1, 2, 0x13, 0]);
    }
    bench.start(ResetCause::Software, None)?;
    let fell_back = [
        BootReason::FellBackToPrevious,
        BootReason::FellBackToFactory,
        BootReason::LimpHome,
    ];
    let why = bench.booted.expect("the image before boots").reason;
    assert!(fell_back.contains(&why), "{why:?}");
    Ok(())
}

/// Both update slots lose a sector.
pub fn decay(bench: &Bench, life: &Life) {
    for slot in [SlotId::A, SlotId::B] {
        if let Some(slot) = life.setup.layout.slot(slot) {
            bench.nor.borrow_mut().erase(slot.payload.address).unwrap();
            bench.nor.borrow_mut().complete();
        }
    }
}

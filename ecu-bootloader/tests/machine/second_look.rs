//! The second look before the boot, with a first answer that is always yes: as if a disturbed
//! processor had turned it.

use std::cell::RefCell;
use std::rc::Rc;

use ecu_bootloader::boot::ResetCause;
use ecu_bootloader::counter::JournaledCounter;
use ecu_bootloader::flash::{FlashError, FlashRead};
use ecu_bootloader::keys::{KeyError, KeyStore, MacKeyId, SoftKeyStore};
use ecu_bootloader::layout::SlotId;
use ecu_bootloader::platform::Parts;
use ecu_bootloader::provision::provision;
use ecu_bootloader::{Bootloader, Event};
use ecu_image::pss::{Progress, SignatureVerifier, SoftwareVerifier, UnknownKey};
use ecu_image::{ImageDigest, KeyId, Salt, SecurityCounter, Signature, WrappedKey};
use nor::Nor;
use uds::time::Instant;

use crate::bench::{Setup, SharedNor, board, keys, perform};
use crate::images::{self, recipe};

/// Takes every MAC for right.
struct Credulous(SoftKeyStore);

impl KeyStore for Credulous {
    fn cmac(&mut self, key: MacKeyId, message: &[u8]) -> [u8; 16] {
        self.0.cmac(key, message)
    }

    fn cmac_verify(&mut self, _key: MacKeyId, _message: &[u8], _mac: &[u8; 16]) -> bool {
        true
    }

    fn unwrap(&mut self, wrapped: &WrappedKey) -> Result<Salt, KeyError> {
        self.0.unwrap(wrapped)
    }

    fn forget(&mut self) {
        self.0.forget();
    }

    fn cbc_encrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        self.0.cbc_encrypt(iv, data)
    }

    fn cbc_decrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        self.0.cbc_decrypt(iv, data)
    }
}

/// Takes every signature for right.
struct Trusting(SoftwareVerifier<Vec<ecu_image::pss::PublicKey>>);

impl SignatureVerifier for Trusting {
    fn begin(
        &mut self,
        key_id: KeyId,
        digest: &ImageDigest,
        signature: &Signature,
    ) -> Result<(), UnknownKey> {
        self.0.begin(key_id, digest, signature)
    }

    fn step(&mut self, budget: u32) -> Progress {
        match self.0.step(budget) {
            Progress::Pending => Progress::Pending,
            Progress::Valid | Progress::Invalid => Progress::Valid,
        }
    }

    fn difference(&mut self, digest: &ImageDigest) -> u32 {
        self.0.difference(digest)
    }
}

/// A provisioned flash whose factory slot holds an image of this recipe.
fn flash(forged: bool) -> Nor {
    let setup = Setup::new(true);
    let mut nor = Nor::in_memory(setup.geometry.clone());
    let mut recipe = recipe(1);
    recipe.forged = forged;
    let image = recipe.make();
    provision(
        &board(setup.layout),
        &mut keys(),
        &image.packed,
        &image.grant,
        SecurityCounter(1),
        &mut [0; 4096],
        |op| perform(&mut nor, op).map(drop).map_err(|_| FlashError),
    )
    .unwrap();
    nor
}

/// The flash with one bit read differently.
struct Altered {
    nor: SharedNor,
    at: Option<u32>,
}

impl FlashRead for Altered {
    fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), FlashError> {
        self.nor.read(address, buffer)?;
        let inside = self.at.and_then(|at| at.checked_sub(address));
        if let Some(byte) = inside.and_then(|at| buffer.get_mut(at as usize)) {
            *byte ^= 1;
        }
        Ok(())
    }
}

/// What came of a start.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Boots(SlotId),
    Stays,
    NotProvisioned,
}

/// What the credulous ECU does with this flash, of which it reads the byte at `at` altered.
fn outcome(nor: Nor, at: Option<u32>) -> Outcome {
    let nor = Rc::new(RefCell::new(nor));
    let now = Instant::from_millis(1);
    let mut ecu: Bootloader<_, 4095, 4096> = Bootloader::new(Parts {
        board: board(Setup::new(true).layout),
        flash: Altered {
            nor: SharedNor(Rc::clone(&nor)),
            at,
        },
        keys: Credulous(keys()),
        counter: JournaledCounter,
        signatures: Trusting(SoftwareVerifier::new(vec![images::public_key()])),
        random: |_: &mut [u8]| {},
    });
    ecu.start(now, ResetCause::PowerOn, None);
    loop {
        let mut moved = ecu.poll(now, 1);
        let op = ecu
            .poll_flash()
            .map(|op| perform(&mut nor.borrow_mut(), op));
        if let Some(result) = op {
            ecu.on_flash_done(now, result.map(drop).map_err(|_| FlashError));
            moved = true;
        }
        match ecu.poll_event() {
            Some(Event::Boot(target)) => {
                let place = ecu.platform().board.layout.slot(target.slot).unwrap();
                assert_eq!(target.payload_address(), place.payload.address);
                return Outcome::Boots(target.slot);
            }
            Some(Event::Reset { .. }) => panic!("it resets"),
            None if moved => {}
            None if ecu.state().is_none() => return Outcome::NotProvisioned,
            None => return Outcome::Stays,
        }
    }
}

#[test]
fn an_authentic_image_boots() {
    let found = outcome(flash(false), None);
    assert_eq!(found, Outcome::Boots(SlotId::Factory));
}

#[test]
fn a_forged_signature_that_was_taken_for_right_does_not_boot() {
    assert_eq!(outcome(flash(true), None), Outcome::Stays);
}

#[test]
fn a_forged_grant_that_was_taken_for_right_does_not_boot() {
    let layout = Setup::new(true).layout;
    let metadata = layout.slot(SlotId::Factory).unwrap().metadata.address;
    // Its sequence, and both ends of its MAC.
    for offset in [72, 240, 255] {
        let found = outcome(flash(false), Some(metadata + offset));
        assert_eq!(found, Outcome::Stays, "byte {offset} of the grant");
    }
}

#[test]
fn a_forged_record_that_was_taken_for_right_provisions_nothing() {
    let [journal, _] = Setup::new(true).layout.journal();
    // The floor, the factory image, and the MAC.
    for offset in [24, 152, 240] {
        let found = outcome(flash(false), Some(journal.address + offset));
        assert_eq!(
            found,
            Outcome::NotProvisioned,
            "byte {offset} of the record"
        );
    }
}

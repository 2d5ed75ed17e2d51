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
use ecu_bootloader::{Bootloader, Event};
use ecu_image::pss::Progress;
use ecu_image::signature::{PublicKeyRef, SignatureVerifier, SoftwareVerifier, UnusableKey};
use ecu_image::{ImageDigest, KeyId, Salt};
use nor::Nor;
use uds::time::Instant;

use crate::bench::{Bench, Setup, SharedNor, board, keys, perform};
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

    fn unwrap(&mut self, wrapped: &[u8], salt: &mut Salt) -> Result<(), KeyError> {
        self.0.unwrap(wrapped, salt)
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
struct Trusting(SoftwareVerifier<Vec<Vec<u8>>>);

impl SignatureVerifier for Trusting {
    fn begin(
        &mut self,
        key: PublicKeyRef<'_>,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        self.0.begin(key, digest, signature)
    }

    fn begin_pinned(
        &mut self,
        root: KeyId,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        self.0.begin_pinned(root, digest, signature)
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

/// A provisioned ECU, whose journal has one record.
fn provisioned() -> Bench {
    Bench::new(&Setup::new(true), &recipe(1).make(), 1)
}

/// The flash of an ECU with an image sealed in A.
fn flash() -> Nor {
    let mut bench = provisioned();
    bench.update(&recipe(2).make()).unwrap();
    bench.nor.borrow().fork().unwrap()
}

/// The metadata area of A.
fn metadata() -> u32 {
    let slot = Setup::new(true).layout.slot(SlotId::A).unwrap();
    slot.metadata.address
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
    let mut ecu: Bootloader<_> = Bootloader::new(Parts {
        board: board(Setup::new(true).layout),
        flash: Altered {
            nor: SharedNor(Rc::clone(&nor)),
            at,
        },
        keys: Credulous(keys()),
        counter: JournaledCounter,
        signatures: Trusting(SoftwareVerifier::new(images::roots())),
        random: |_: &mut [u8]| {},
    });
    ecu.start(now, ResetCause::PowerOn, &[]);
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
    assert_eq!(outcome(flash(), None), Outcome::Boots(SlotId::A));
}

#[test]
fn a_forged_signature_that_was_taken_for_right_does_not_boot() {
    // Both ends of the signature, which the image's digest does not cover.
    for offset in [256 + 1024, 256 + 1024 + 255] {
        let found = outcome(flash(), Some(metadata() + offset));
        assert_eq!(found, Outcome::Stays, "byte {offset} of the metadata");
    }
}

#[test]
fn a_forged_grant_that_was_taken_for_right_does_not_boot() {
    // Its sequence, and both ends of its MAC.
    for offset in [72, 240, 255] {
        let found = outcome(flash(), Some(metadata() + offset));
        assert_eq!(found, Outcome::Stays, "byte {offset} of the grant");
    }
}

#[test]
fn a_forged_record_that_was_taken_for_right_provisions_nothing() {
    let [journal, _] = Setup::new(true).layout.journal();
    // The floor, the factory image, and the MAC.
    for offset in [24, 152, 240] {
        let nor = provisioned().nor.borrow().fork().unwrap();
        let found = outcome(nor, Some(journal.address + offset));
        assert_eq!(
            found,
            Outcome::NotProvisioned,
            "byte {offset} of the record"
        );
    }
}

//! An ECU whose keys lie in an element of their own, which answers and never gives one away.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use ecu_bootloader::boot::ResetCause;
use ecu_bootloader::counter::JournaledCounter;
use ecu_bootloader::flash::FlashError;
use ecu_bootloader::keys::{KeyError, KeyStore, MacKeyId};
use ecu_bootloader::layout::SlotId;
use ecu_bootloader::platform::Parts;
use ecu_bootloader::provision::provision;
use ecu_bootloader::{Bootloader, Event};
use ecu_image::Salt;
use ecu_image::signature::SoftwareVerifier;
use nor::Nor;
use uds::time::Instant;

use crate::bench::{Setup, SharedNor, board, keys, parts, perform};
use crate::images::{self, recipe};

/// What the element is asked; no answer holds a key.
enum Ask {
    Cmac(MacKeyId, Vec<u8>),
    Unwrap(Vec<u8>),
    Forget,
    Cbc {
        encrypt: bool,
        iv: [u8; 16],
        data: Vec<u8>,
    },
}

type Answer = Option<Vec<u8>>;

/// The ECU's end of the line to its element.
struct Element {
    ask: Sender<Ask>,
    answer: Receiver<Answer>,
}

impl Element {
    /// An element, with its keys in a thread that has nothing else.
    fn new() -> Self {
        let (ask, asked) = channel();
        let (answered, answer) = channel();
        thread::spawn(move || {
            let mut keys = keys();
            while let Ok(ask) = asked.recv() {
                if answered.send(respond(&mut keys, ask)).is_err() {
                    return;
                }
            }
        });
        Self { ask, answer }
    }

    fn ask(&self, ask: Ask) -> Result<Vec<u8>, KeyError> {
        self.ask.send(ask).unwrap();
        self.answer.recv().unwrap().ok_or(KeyError)
    }

    fn cbc(&self, encrypt: bool, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        let answer = self.ask(Ask::Cbc {
            encrypt,
            iv: *iv,
            data: data.to_vec(),
        })?;
        data.copy_from_slice(&answer);
        Ok(())
    }
}

fn respond(keys: &mut impl KeyStore, ask: Ask) -> Answer {
    match ask {
        Ask::Cmac(key, message) => Some(keys.cmac(key, &message).to_vec()),
        Ask::Unwrap(wrapped) => {
            let mut salt = Salt([0; 16]);
            keys.unwrap(&wrapped, &mut salt).ok()?;
            Some(salt.as_bytes().to_vec())
        }
        Ask::Forget => {
            keys.forget();
            Some(Vec::new())
        }
        Ask::Cbc {
            encrypt,
            iv,
            mut data,
        } => {
            let done = if encrypt {
                keys.cbc_encrypt(&iv, &mut data)
            } else {
                keys.cbc_decrypt(&iv, &mut data)
            };
            done.ok().map(|()| data)
        }
    }
}

impl KeyStore for Element {
    fn cmac(&mut self, key: MacKeyId, message: &[u8]) -> [u8; 16] {
        let mac = self.ask(Ask::Cmac(key, message.to_vec())).unwrap();
        mac.try_into().unwrap()
    }

    fn cmac_verify(&mut self, key: MacKeyId, message: &[u8], mac: &[u8; 16]) -> bool {
        self.cmac(key, message) == *mac
    }

    fn unwrap(&mut self, wrapped: &[u8], salt: &mut Salt) -> Result<(), KeyError> {
        let answer = self.ask(Ask::Unwrap(wrapped.to_vec()))?;
        salt.0 = answer.try_into().map_err(|_| KeyError)?;
        Ok(())
    }

    fn forget(&mut self) {
        self.ask(Ask::Forget).unwrap();
    }

    fn cbc_encrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        self.cbc(true, iv, data)
    }

    fn cbc_decrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        self.cbc(false, iv, data)
    }
}

/// A new ECU's flash, written with this key store from an encrypted image, and that image's plaintext.
fn provisioned(keys: &mut impl KeyStore) -> (Nor, Vec<u8>) {
    let setup = Setup::new(true);
    let factory = recipe(1).make();
    let mut nor = Nor::in_memory(setup.geometry.clone());
    let board = board(setup.layout);
    provision(&board, keys, &parts(&factory, 1), &mut [0; 4096], |op| {
        perform(&mut nor, op).map(drop).map_err(|_| FlashError)
    })
    .unwrap();
    (nor, factory.plaintext)
}

#[test]
fn an_ecu_decrypts_and_boots_with_keys_that_it_never_has() {
    let (nor, plaintext) = provisioned(&mut Element::new());
    let layout = Setup::new(true).layout;
    let mut stored = vec![0; plaintext.len()];
    let payload = layout.slot(SlotId::Factory).unwrap().payload;
    nor.peek(payload.address, &mut stored).unwrap();
    assert_eq!(stored, plaintext);
    let nor = Rc::new(RefCell::new(nor));
    let mut ecu: Bootloader<_> = Bootloader::new(Parts {
        board: board(layout),
        flash: SharedNor(Rc::clone(&nor)),
        keys: Element::new(),
        counter: JournaledCounter,
        signatures: SoftwareVerifier::new(images::roots()),
        random: |_: &mut [u8]| {},
    });
    let now = Instant::from_millis(1);
    ecu.start(now, ResetCause::PowerOn, &[]);
    let booted = loop {
        let more = ecu.poll(now, 1);
        let op = ecu
            .poll_flash()
            .map(|op| perform(&mut nor.borrow_mut(), op));
        let moved = more || op.is_some();
        if let Some(result) = op {
            ecu.on_flash_done(now, result.map(drop).map_err(|_| FlashError));
        }
        match ecu.poll_event() {
            Some(Event::Boot(target)) => break Some(target.slot),
            _ if !moved => break None,
            _ => {}
        }
    };
    assert_eq!(booted, Some(SlotId::Factory));
}

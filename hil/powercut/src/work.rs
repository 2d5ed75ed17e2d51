//! Counts what the machine's cryptography works, wherever it ends: the bench's keys and verifier are
//! wrapped in [`Counted`].

use std::cell::Cell;

use ecu_bootloader::keys::{KeyError, KeyStore, MacKeyId};
use ecu_image::pss::Progress;
use ecu_image::signature::{PublicKeyRef, SignatureVerifier, UnusableKey};
use ecu_image::{ImageDigest, KeyId, Salt};

/// What was done since [`take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// AES-CMACs, and the bytes under them.
    pub macs: (usize, usize),
    /// Content keys unwrapped.
    pub unwraps: usize,
    /// Bytes of AES-CBC.
    pub cipher_bytes: usize,
    /// Signatures begun, and their steps of at most two Montgomery multiplications.
    pub signatures: (usize, usize),
    /// Slices of the machine.
    pub slices: usize,
}

thread_local! {
    static WORK: Cell<Work> = const { Cell::new(Work {
        macs: (0, 0),
        unwraps: 0,
        cipher_bytes: 0,
        signatures: (0, 0),
        slices: 0,
    }) };
}

/// What this thread's machines have worked since the last call.
pub fn take() -> Work {
    WORK.take()
}

pub(crate) fn note(change: impl FnOnce(&mut Work)) {
    WORK.with(|work| {
        let mut now = work.get();
        change(&mut now);
        work.set(now);
    });
}

/// A part whose work is counted.
#[derive(Debug, Clone)]
pub struct Counted<T>(pub T);

impl<K: KeyStore> KeyStore for Counted<K> {
    fn cmac(&mut self, key: MacKeyId, message: &[u8]) -> [u8; 16] {
        note(|work| work.macs = (work.macs.0 + 1, work.macs.1 + message.len()));
        self.0.cmac(key, message)
    }

    fn cmac_verify(&mut self, key: MacKeyId, message: &[u8], mac: &[u8; 16]) -> bool {
        note(|work| work.macs = (work.macs.0 + 1, work.macs.1 + message.len()));
        self.0.cmac_verify(key, message, mac)
    }

    fn unwrap(&mut self, wrapped: &[u8], salt: &mut Salt) -> Result<(), KeyError> {
        note(|work| work.unwraps += 1);
        self.0.unwrap(wrapped, salt)
    }

    fn forget(&mut self) {
        self.0.forget();
    }

    fn cbc_encrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        note(|work| work.cipher_bytes += data.len());
        self.0.cbc_encrypt(iv, data)
    }

    fn cbc_decrypt(&mut self, iv: &[u8; 16], data: &mut [u8]) -> Result<(), KeyError> {
        note(|work| work.cipher_bytes += data.len());
        self.0.cbc_decrypt(iv, data)
    }
}

impl<V: SignatureVerifier> SignatureVerifier for Counted<V> {
    fn begin(
        &mut self,
        key: PublicKeyRef<'_>,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        note(|work| work.signatures.0 += 1);
        self.0.begin(key, digest, signature)
    }

    fn begin_pinned(
        &mut self,
        key: KeyId,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        note(|work| work.signatures.0 += 1);
        self.0.begin_pinned(key, digest, signature)
    }

    fn step(&mut self, budget: u32) -> Progress {
        note(|work| work.signatures.1 += budget as usize);
        self.0.step(budget)
    }

    fn difference(&mut self, digest: &ImageDigest) -> u32 {
        self.0.difference(digest)
    }
}

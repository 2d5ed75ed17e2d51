//! A signature verifier that remembers what the real one said.
//!
//! A proof boots an ECU a hundred thousand times with the same few images, and nearly all of its
//! time would be RSA. What is remembered is the answer to exactly these bytes (key, digest,
//! signature), computed once by the real verifier; whether the key is known is asked every time. So
//! nothing verifies that would not have verified.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ecu_image::pss::Progress;
use ecu_image::signature::{PublicKeyRef, SignatureVerifier, UnusableKey};
use ecu_image::{ImageDigest, KeyId};
use sha2::{Digest as _, Sha256};

/// What was asked: the SHA-256 of everything that the answer depends on.
type Question = [u8; 32];

/// Answers by their questions: whether a signature is right, and what the second look found.
static RIGHT: Mutex<BTreeMap<Question, bool>> = Mutex::new(BTreeMap::new());
static SECOND_LOOKS: Mutex<BTreeMap<Question, u32>> = Mutex::new(BTreeMap::new());

fn remembered<T: Copy>(
    answers: &Mutex<BTreeMap<Question, T>>,
    question: Question,
    find: impl FnOnce() -> T,
) -> T {
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    *answers.entry(question).or_insert_with(find)
}

/// Verifies to the end.
fn verify(verifier: &mut impl SignatureVerifier) -> bool {
    loop {
        match verifier.step(u32::MAX) {
            Progress::Pending => {}
            progress => return progress == Progress::Valid,
        }
    }
}

/// The verifier; without memory it is the one inside.
#[derive(Debug)]
pub struct Remembering<V> {
    inner: V,
    remembers: bool,
    question: Question,
}

impl<V> Remembering<V> {
    /// Around `inner`.
    pub const fn new(inner: V, remembers: bool) -> Self {
        Self {
            inner,
            remembers,
            question: [0; 32],
        }
    }

    fn ask(&mut self, key: &[u8], digest: &[u8; 32], signature: &[u8]) {
        let hash = Sha256::new().chain_update(key).chain_update(digest);
        self.question = hash.chain_update(signature).finalize().into();
    }
}

impl<V: SignatureVerifier> SignatureVerifier for Remembering<V> {
    fn begin(
        &mut self,
        key: PublicKeyRef<'_>,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        self.ask(key.bytes, digest, signature);
        self.inner.begin(key, digest, signature)
    }

    fn begin_pinned(
        &mut self,
        root: KeyId,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<(), UnusableKey> {
        self.ask(root.as_bytes(), digest, signature);
        self.inner.begin_pinned(root, digest, signature)
    }

    fn step(&mut self, budget: u32) -> Progress {
        if !self.remembers {
            return self.inner.step(budget);
        }
        if remembered(&RIGHT, self.question, || verify(&mut self.inner)) {
            Progress::Valid
        } else {
            Progress::Invalid
        }
    }

    fn difference(&mut self, digest: &ImageDigest) -> u32 {
        if !self.remembers {
            return self.inner.difference(digest);
        }
        let hash = Sha256::new().chain_update(self.question);
        let question = hash.chain_update(digest.0).finalize().into();
        remembered(&SECOND_LOOKS, question, || {
            verify(&mut self.inner);
            self.inner.difference(digest)
        })
    }
}

//! Keys of the roles: generating, storing, signing. Offline keys are RSA (RSASSA-PSS, SHA-256,
//! MGF1-SHA-256, salt 32), online keys Ed25519, image keys RSA or ECDSA over P-256 with SHA-256.
//!
//! At rest a key is PKCS #8 in PEM, encrypted where it was given a passphrase (PBES2 with scrypt and
//! AES-256), or the name of a key in a token.
//!
//! [`SigningKey::sign_envelope`] signs any statement. It is public so that tests of a receiver can
//! forge documents with keys that they hold; the product's own way is [`crate::release`].

use std::path::Path;

use campaign::meta::{Envelope, Key};
use ecu_image::{Algorithm, KeyId, SignatureLen, provision::ImageKey, signature::PublicKeyRef};
use p256::elliptic_curve::Generate as _;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};
use rand::{rand_core::UnwrapErr, rngs::SysRng};
use rsa::{
    RsaPrivateKey, RsaPublicKey,
    pkcs8::{
        DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
        LineEnding,
    },
    pss,
    signature::{RandomizedSigner as _, SignatureEncoding as _, Signer as _},
    traits::PublicKeyParts as _,
};
use serde::Serialize;
use zeroize::Zeroizing;

use token::{TokenKey, Uri};

use crate::{
    error::Error,
    files::{self, Access},
    release::OWN_KEYS,
};

/// Length of the moduli that `init` generates, in bits.
pub const RSA_BITS: usize = 3072;

/// Upper bound of a key file in bytes.
const KEY_FILE_MAX: u64 = 16 << 10;

mod passphrase;
mod token;

pub(crate) use passphrase::first_line;
pub use passphrase::{PASSPHRASE, PIN, Secret, Unlock};
pub use token::MODULE;

/// A private key.
pub struct SigningKey {
    private: Private,
    public: Key,
    /// What encrypts its file.
    passphrase: Option<Secret>,
}

enum Private {
    Rsa(Box<RsaPrivateKey>),
    Ed25519(Box<ed25519_dalek::SigningKey>),
    P256(Box<p256::ecdsa::SigningKey>),
    Token(Box<TokenKey>),
}

const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public.id())
    }
}

/// The operating system's random numbers. Without them nothing here can go on.
fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// Fills `N` bytes with random numbers of the operating system.
///
/// # Errors
///
/// [`Error::Crypto`] where it has none.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Error::crypto("random number generation"))?;
    Ok(bytes)
}

impl SigningKey {
    /// A new RSA key of `bits`.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`].
    pub fn generate(bits: usize) -> Result<Self, Error> {
        RsaPrivateKey::new(&mut rng(), bits)
            .map_err(Error::crypto("key generation"))
            .and_then(Self::rsa)
    }

    /// A new image key; of `bits` where it is an RSA key.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`].
    pub fn generate_for_images(algorithm: Algorithm, bits: usize) -> Result<Self, Error> {
        match algorithm {
            Algorithm::RsaPssSha256 => Self::generate(bits),
            Algorithm::EcdsaP256Sha256 => {
                Self::p256(p256::ecdsa::SigningKey::generate_from_rng(&mut rng()))
            }
        }
    }

    /// A new Ed25519 key.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`].
    pub fn generate_ed25519() -> Result<Self, Error> {
        let secret = random()?;
        Ok(Self::ed25519(ed25519_dalek::SigningKey::from_bytes(
            &secret,
        )))
    }

    /// A new RSA key in a token: `uri` says where.
    ///
    /// # Errors
    ///
    /// [`Error::Token`], [`Error::Locked`].
    pub fn generate_in_token(uri: &str, bits: usize, unlock: &Unlock) -> Result<Self, Error> {
        TokenKey::generate(&Uri::parse(uri)?, bits, unlock)?;
        Self::in_token(uri, unlock)
    }

    fn in_token(uri: &str, unlock: &Unlock) -> Result<Self, Error> {
        let (key, public) = TokenKey::open(Uri::parse(uri)?, unlock)?;
        Self::new(Private::Token(Box::new(key)), &public)
    }

    fn new(private: Private, public: &RsaPublicKey) -> Result<Self, Error> {
        let pem = public.to_public_key_pem(LineEnding::LF);
        Ok(Self {
            public: Key::rsa(&pem.map_err(Error::crypto("key encoding"))?),
            private,
            passphrase: None,
        })
    }

    fn rsa(private: RsaPrivateKey) -> Result<Self, Error> {
        let public = private.to_public_key();
        Self::new(Private::Rsa(Box::new(private)), &public)
    }

    fn p256(private: p256::ecdsa::SigningKey) -> Result<Self, Error> {
        let pem = private.verifying_key().to_public_key_pem(LineEnding::LF);
        Ok(Self {
            public: Key::ecdsa_p256(&pem.map_err(Error::crypto("key encoding"))?),
            private: Private::P256(Box::new(private)),
            passphrase: None,
        })
    }

    /// The same key, whose file is encrypted from now on.
    #[must_use]
    pub fn with_passphrase(mut self, passphrase: Option<Secret>) -> Self {
        self.passphrase = passphrase;
        self
    }

    /// What encrypts the key's file.
    #[must_use]
    pub(crate) const fn passphrase(&self) -> Option<&Secret> {
        self.passphrase.as_ref()
    }

    /// Whether the key lies in a token.
    #[must_use]
    pub const fn is_in_token(&self) -> bool {
        matches!(self.private, Private::Token(_))
    }

    /// The Ed25519 key of this secret (RFC 8032).
    #[must_use]
    pub fn from_ed25519(secret: &[u8; 32]) -> Self {
        Self::ed25519(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    fn ed25519(private: ed25519_dalek::SigningKey) -> Self {
        Self {
            public: Key::ed25519(private.verifying_key().as_bytes()),
            private: Private::Ed25519(Box::new(private)),
            passphrase: None,
        }
    }

    /// Reads a key as [`SigningKey::open`] does; what opens it comes from the environment or the
    /// terminal.
    ///
    /// # Errors
    ///
    /// As [`SigningKey::open`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::open(path, &Unlock::default())
    }

    /// Reads PKCS #8 in PEM, encrypted or not, or the name of a key in a token.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Corrupt`] also for a wrong passphrase, [`Error::Locked`],
    /// [`Error::Token`].
    pub fn open(path: &Path, unlock: &Unlock) -> Result<Self, Error> {
        let bytes = Zeroizing::new(files::read(path, KEY_FILE_MAX)?);
        let text = std::str::from_utf8(&bytes).map_err(|error| Error::corrupt(path, error))?;
        if text.starts_with(token::SCHEME) {
            return Self::in_token(text, unlock);
        }
        if !text.starts_with(ENCRYPTED) {
            return Self::plain(text).map_err(|error| Error::corrupt(path, error));
        }
        let known = unlock.known_passphrases().into_iter();
        let mut opened = known.filter_map(|known| Some((decrypted(text, &known).ok()?, known)));
        let (pem, passphrase) = match opened.next() {
            Some(opened) => opened,
            None => {
                let passphrase = unlock.passphrase(path)?;
                let pem = decrypted(text, &passphrase).map_err(|error| {
                    let reason = format!("wrong passphrase, or not an encrypted key: {error}");
                    Error::corrupt(path, reason)
                })?;
                (pem, passphrase)
            }
        };
        let key = Self::plain(&pem).map_err(|error| Error::corrupt(path, error))?;
        Ok(key.with_passphrase(Some(passphrase)))
    }

    fn plain(text: &str) -> Result<Self, String> {
        if let Ok(key) = ed25519_dalek::SigningKey::from_pkcs8_pem(text) {
            return Ok(Self::ed25519(key));
        }
        if let Ok(key) = p256::ecdsa::SigningKey::from_pkcs8_pem(text) {
            return Self::p256(key).map_err(|error| error.to_string());
        }
        let key = RsaPrivateKey::from_pkcs8_pem(text).map_err(|error| error.to_string())?;
        Self::rsa(key).map_err(|error| error.to_string())
    }

    /// Writes what [`SigningKey::open`] reads, readable by the owner alone; encrypted where the key has
    /// a passphrase.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Crypto`].
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        let failed = "key encoding";
        let document = match &self.private {
            Private::Rsa(key) => key.to_pkcs8_der(),
            Private::Ed25519(key) => key.to_pkcs8_der(),
            Private::P256(key) => key.to_pkcs8_der(),
            Private::Token(key) => {
                let text = format!("{}\n", key.uri);
                return files::write_atomic(path, text.as_bytes(), Access::Secret);
            }
        };
        let document = document.map_err(Error::crypto(failed))?;
        let pem = match &self.passphrase {
            None => document.to_pem("PRIVATE KEY", LineEnding::LF),
            Some(passphrase) => PrivateKeyInfoRef::try_from(document.as_bytes())
                .map_err(Error::crypto(failed))?
                .encrypt(passphrase.as_bytes())
                .map_err(Error::crypto(failed))?
                .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF),
        };
        let pem = pem.map_err(Error::crypto(failed))?;
        files::write_atomic(path, pem.as_bytes(), Access::Secret)
    }

    /// The public key as metadata hold it.
    #[must_use]
    pub const fn public(&self) -> &Key {
        &self.public
    }

    fn as_rsa(&self) -> Option<RsaPublicKey> {
        RsaPublicKey::from_public_key_pem(&self.public.keyval.public).ok()
    }

    /// The length of an RSA modulus in bits; `None` for other keys.
    #[must_use]
    pub fn rsa_bits(&self) -> Option<usize> {
        self.as_rsa().map(|key| key.size().saturating_mul(8))
    }

    /// The key's name in image headers.
    ///
    /// # Errors
    ///
    /// As [`SigningKey::image_key`].
    pub fn image_key_id(&self) -> Result<KeyId, Error> {
        Ok(self.image_key()?.id())
    }

    /// The public key as an ECU is provisioned with it.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`] for a key that signs no images, or a modulus of a length that they do not
    /// have.
    pub fn image_key(&self) -> Result<ImageKey, Error> {
        let (algorithm, bytes) = match (&self.private, self.as_rsa()) {
            (Private::P256(key), _) => (Algorithm::EcdsaP256Sha256, untagged(key)),
            (_, Some(key)) => (
                Algorithm::RsaPssSha256,
                key.n().to_be_bytes_trimmed_vartime().to_vec(),
            ),
            (_, None) => {
                return Err(Error::Crypto {
                    what: "image key",
                    reason: "neither an RSA key nor one of P-256".into(),
                });
            }
        };
        let bytes = &bytes;
        ImageKey::new(PublicKeyRef { algorithm, bytes }).map_err(Error::crypto("image key"))
    }

    /// The length of this key's signatures of images.
    ///
    /// # Errors
    ///
    /// As [`SigningKey::image_key`].
    pub fn signature_len(&self) -> Result<SignatureLen, Error> {
        let len = self.image_key()?.signature_len();
        len.ok_or_else(|| Error::Crypto {
            what: "image signature",
            reason: "no image has signatures of this length".into(),
        })
    }

    /// Signs an image's header as images hold it: a signature of ECDSA is `r ‖ s`.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`].
    pub fn sign_image(&self, signed: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.private {
            Private::P256(key) => Ok(sign_p256(key, signed)?.to_bytes().to_vec()),
            _ => self.sign(signed),
        }
    }

    /// Signs `message` as metadata hold it: a signature of ECDSA is in DER.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.private {
            Private::Rsa(key) => pss::SigningKey::<sha2::Sha256>::new((**key).clone())
                .try_sign_with_rng(&mut rng(), message)
                .map(|signature| signature.to_vec()),
            Private::Token(key) => return key.sign(message),
            Private::P256(key) => return Ok(sign_p256(key, message)?.to_der().to_bytes().to_vec()),
            Private::Ed25519(key) => key
                .try_sign(message)
                .map(|signature| signature.to_bytes().to_vec()),
        }
        .map_err(Error::crypto("signing"))
    }

    /// Adds this key's signature to an envelope.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`].
    pub fn sign_envelope(&self, envelope: &mut Envelope) -> Result<(), Error> {
        let signature = self.sign(&envelope.signing_bytes()?)?;
        envelope.add_signature(self.public.id(), &signature);
        Ok(())
    }

    /// A document: any statement in an envelope with signatures by `keys`.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`].
    pub fn sign_document(statement: &impl Serialize, keys: &[&Self]) -> Result<Vec<u8>, Error> {
        let mut envelope = Envelope::new(statement)?;
        for key in keys {
            key.sign_envelope(&mut envelope)?;
        }
        Ok(envelope.to_json()?)
    }
}

/// Both coordinates of the public point.
fn untagged(key: &p256::ecdsa::SigningKey) -> Vec<u8> {
    let point = key.verifying_key().to_sec1_point(false);
    point.as_bytes().get(1..).unwrap_or(&[]).to_vec()
}

fn sign_p256(
    key: &p256::ecdsa::SigningKey,
    message: &[u8],
) -> Result<p256::ecdsa::Signature, Error> {
    key.try_sign_with_rng(&mut rng(), message)
        .map_err(Error::crypto("signing"))
}

/// The key as PEM that is not encrypted.
fn decrypted(text: &str, passphrase: &Secret) -> Result<Zeroizing<String>, pkcs8::Error> {
    let (_, document) = SecretDocument::from_pem(text)?;
    let document = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())?;
    let document = document.decrypt(passphrase.as_bytes())?;
    Ok(document.to_pem("PRIVATE KEY", LineEnding::LF)?)
}

/// Reads a public key: SubjectPublicKeyInfo in PEM, RSA or Ed25519.
///
/// # Errors
///
/// [`Error::Input`], [`Error::File`].
pub fn read_public(path: &Path) -> Result<Key, Error> {
    let bytes = files::read(path, KEY_FILE_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| Error::input(path, error))?;
    let key = match ed25519_dalek::VerifyingKey::from_public_key_pem(text) {
        Ok(key) => Key::ed25519(key.as_bytes()),
        Err(_) if p256::PublicKey::from_public_key_pem(text).is_ok() => {
            return Err(Error::input(
                path,
                "a key of ECDSA signs images here, and nothing else",
            ));
        }
        // As we write it, whoever wrote it: its name is a digest of the text.
        Err(_) => RsaPublicKey::from_public_key_pem(text)
            .and_then(|key| key.to_public_key_pem(LineEnding::LF))
            .map(|pem| Key::rsa(&pem))
            .map_err(|error| Error::input(path, error))?,
    };
    key.check(OWN_KEYS)
        .map_err(|error| Error::input(path, error))?;
    Ok(key)
}

/// Writes a public key: SubjectPublicKeyInfo in PEM. [`read_public`] reads those of metadata.
///
/// # Errors
///
/// [`Error::File`], [`Error::Crypto`].
pub fn write_public(key: &Key, path: &Path) -> Result<(), Error> {
    let text = &key.keyval.public;
    let pem = match key.keytype.as_str() {
        campaign::meta::ED25519 => {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text, &mut bytes).map_err(Error::crypto("key encoding"))?;
            ed25519_dalek::VerifyingKey::from_bytes(&bytes)
                .map_err(Error::crypto("key encoding"))?
                .to_public_key_pem(LineEnding::LF)
                .map_err(Error::crypto("key encoding"))?
        }
        _ => text.clone(),
    };
    files::write_atomic(path, pem.as_bytes(), Access::Public)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_key_of_p256_survives_its_file_and_signs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let key = SigningKey::generate_for_images(Algorithm::EcdsaP256Sha256, 2048).unwrap();
        key.store(&path).unwrap();
        let loaded = SigningKey::load(&path).unwrap();
        assert_eq!(loaded.public(), key.public());
        assert_eq!(loaded.signature_len().unwrap(), SignatureLen::P256);
        let signature = loaded.sign_image(b"x").unwrap();
        let digest = ecu_image::crypto::sha256(&[b"x"]);
        let image_key = key.image_key().unwrap();
        assert!(image_key.as_ref().verifies(digest.as_bytes(), &signature));
        let other = ecu_image::crypto::sha256(&[b"y"]);
        assert!(!image_key.as_ref().verifies(other.as_bytes(), &signature));
        assert_eq!(loaded.rsa_bits(), None);
    }

    #[test]
    fn a_key_survives_its_file_and_signs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let key = SigningKey::generate(2048).unwrap();
        key.store(&path).unwrap();
        let loaded = SigningKey::load(&path).unwrap();
        assert_eq!(loaded.public(), key.public());
        assert_eq!(loaded.sign(b"x").unwrap().len(), 256);
        assert_eq!(
            key.image_key().unwrap().signature_len(),
            Some(SignatureLen::Rsa2048)
        );
        std::fs::write(&path, "no key").unwrap();
        assert!(matches!(
            SigningKey::load(&path),
            Err(Error::Corrupt { .. })
        ));
    }
}

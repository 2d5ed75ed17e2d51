//! RSA keys that lie in a token, over PKCS #11, and never leave it. A key file then holds the token's
//! name for the key, a URI of RFC 7512:
//!
//! ```text
//! pkcs11:token=canopus;object=root?module-path=/usr/lib/softhsm/libsofthsm2.so
//! ```

use std::{
    collections::BTreeMap,
    env, fmt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error as Pkcs11Error, RvError},
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use rsa::{BoxedUint, RsaPublicKey};

use super::passphrase::{Unlock, first_line};
use crate::error::Error;

/// Names the PKCS #11 module where the URI does not.
pub const MODULE: &str = "OEM_PKCS11_MODULE";
/// What a URI begins with.
pub(super) const SCHEME: &str = "pkcs11:";

/// Modules are initialised once in a process.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// Where a key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uri {
    text: String,
    token: String,
    object: String,
    module: PathBuf,
    pin_source: Option<PathBuf>,
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Uri {
    /// # Errors
    ///
    /// [`Error::Token`] for a URI without `token` and `object`, with an attribute that we do not know,
    /// or without a module.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Token(format!("{text}: {reason}"));
        let rest = text.trim().strip_prefix(SCHEME);
        let rest = rest.ok_or_else(|| wrong("no PKCS #11 URI"))?;
        let mut attributes = BTreeMap::new();
        for part in rest.split([';', '?', '&']).filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| wrong("NAME=VALUE expected"))?;
            let value = percent_decoded(value).ok_or_else(|| wrong("malformed % code"))?;
            attributes.insert(name, value);
        }
        let token = attributes
            .remove("token")
            .ok_or_else(|| wrong("token= is missing"))?;
        let object = attributes
            .remove("object")
            .ok_or_else(|| wrong("object= is missing"))?;
        let module = attributes
            .remove("module-path")
            .or_else(|| env::var(MODULE).ok());
        let module =
            module.ok_or_else(|| wrong("module-path= is missing, or OEM_PKCS11_MODULE"))?;
        let pin_source = attributes.remove("pin-source");
        let pin_source = pin_source.map(|text| text.trim_start_matches("file:").into());
        match attributes.keys().next() {
            // A PIN in the URI would stand in the key's file.
            Some(name) => Err(wrong(&format!("{name}= is not supported"))),
            None => Ok(Self {
                text: text.trim().to_owned(),
                token,
                object,
                module: module.into(),
                pin_source,
            }),
        }
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// A key in a token, with a session in which it may sign.
pub(super) struct TokenKey {
    pub(super) uri: Uri,
    session: Session,
    private: ObjectHandle,
}

impl TokenKey {
    /// Opens the key; its public half beside it.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] with what is missing; [`Error::Locked`].
    pub(super) fn open(uri: Uri, unlock: &Unlock) -> Result<(Self, RsaPublicKey), Error> {
        let session = uri.session(unlock, false)?;
        let template = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Label(uri.object.clone().into_bytes()),
        ];
        let found = session
            .find_objects(&template)
            .map_err(|error| uri.failed(&error))?;
        let [private] = found.as_slice() else {
            let count = found.len();
            return Err(uri.wrong(&format!("the token has {count} private keys of that name")));
        };
        let private = *private;
        let public = uri.public(&session, private)?;
        let key = Self {
            uri,
            session,
            private,
        };
        Ok((key, public))
    }

    /// Makes an RSA key in the token, which does not give it away.
    ///
    /// # Errors
    ///
    /// As [`TokenKey::open`], or where there is a key of that name.
    pub(super) fn generate(uri: &Uri, bits: usize, unlock: &Unlock) -> Result<(), Error> {
        let session = uri.session(unlock, true)?;
        let label = Attribute::Label(uri.object.clone().into_bytes());
        let failed = |error: Pkcs11Error| uri.failed(&error);
        if !session
            .find_objects(std::slice::from_ref(&label))
            .map_err(failed)?
            .is_empty()
        {
            return Err(uri.wrong("the token has something of that name already"));
        }
        let bits = u64::try_from(bits).map_err(|_| uri.wrong("too long a key"))?;
        let public = [
            label.clone(),
            Attribute::Token(true),
            Attribute::Verify(true),
            Attribute::ModulusBits(bits.into()),
            Attribute::PublicExponent(vec![1, 0, 1]),
        ];
        let private = [
            label,
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ];
        session
            .generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)
            .map(drop)
            .map_err(failed)
    }

    /// RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let parameters = PkcsPssParams {
            hash_alg: MechanismType::SHA256,
            mgf: PkcsMgfType::MGF1_SHA256,
            s_len: 32_u64.into(),
        };
        let mechanism = Mechanism::Sha256RsaPkcsPss(parameters);
        let signature = self.session.sign(&mechanism, self.private, message);
        signature.map_err(|error| self.uri.failed(&error))
    }
}

impl Uri {
    fn wrong(&self, reason: &str) -> Error {
        Error::Token(format!("{self}: {reason}"))
    }

    fn failed(&self, error: &Pkcs11Error) -> Error {
        self.wrong(&error.to_string())
    }

    fn session(&self, unlock: &Unlock, write: bool) -> Result<Session, Error> {
        let failed = |error: Pkcs11Error| self.failed(&error);
        let module = module(&self.module).map_err(failed)?;
        let slots = module.get_slots_with_token().map_err(failed)?;
        let has_name = |slot: &_| {
            let info = module.get_token_info(*slot);
            info.is_ok_and(|info| info.label().trim_end() == self.token)
        };
        let slot = slots.into_iter().find(has_name);
        let slot = slot.ok_or_else(|| self.wrong("there is no token of that name"))?;
        let session = match write {
            true => module.open_rw_session(slot),
            false => module.open_ro_session(slot),
        };
        let session = session.map_err(failed)?;
        let pin = match &self.pin_source {
            Some(path) => first_line(path)?,
            None => unlock.pin(&self.token)?,
        };
        let pin = AuthPin::new(pin.as_str().into());
        match session.login(UserType::User, Some(&pin)) {
            // By a session before, for another key of the token.
            Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(failed(error)),
        }
    }

    fn public(&self, session: &Session, key: ObjectHandle) -> Result<RsaPublicKey, Error> {
        let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
        let found = session.get_attributes(key, &wanted);
        let found = found.map_err(|error| self.failed(&error))?;
        let number = |bytes: &[u8]| BoxedUint::from_be_slice_vartime(bytes);
        let modulus = found.iter().find_map(|attribute| match attribute {
            Attribute::Modulus(bytes) => Some(number(bytes)),
            _ => None,
        });
        let exponent = found.iter().find_map(|attribute| match attribute {
            Attribute::PublicExponent(bytes) => Some(number(bytes)),
            _ => None,
        });
        let (Some(modulus), Some(exponent)) = (modulus, exponent) else {
            return Err(self.wrong("no RSA key"));
        };
        RsaPublicKey::new(modulus, exponent).map_err(|error| self.wrong(&error.to_string()))
    }
}

fn module(path: &Path) -> Result<Pkcs11, Pkcs11Error> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path)?;
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}

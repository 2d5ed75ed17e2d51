//! Tokens: one for a gateway that speaks for all vehicles, and one for each vehicle, which is made of
//! the gateway's and so need not be stored.

use std::{fmt::Write as _, path::Path};

use campaign::ids::Vin;
use ring::hmac;

use crate::{
    error::Error,
    files::{self, Access},
};

/// The secret of all tokens, below the repository.
const FILE: &str = "keys/ddi.token";

/// Who may say what.
#[derive(Debug)]
pub struct Tokens {
    gateway: String,
}

impl Tokens {
    /// Those of the repository in `dir`; made when they are asked for first.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Corrupt`], [`Error::Crypto`].
    pub fn of(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        if !path.exists() {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret).map_err(Error::crypto("randomness"))?;
            let text = format!("{}\n", hex::encode(secret));
            files::write_atomic(&path, text.as_bytes(), Access::Secret)?;
        }
        let bytes = files::read(&path, 1024)?;
        let text = String::from_utf8(bytes).map_err(|error| Error::corrupt(&path, error))?;
        let gateway = text.trim().to_owned();
        match gateway.len() {
            32.. => Ok(Self { gateway }),
            _ => Err(Error::corrupt(
                &path,
                "a token of at least 32 characters expected",
            )),
        }
    }

    /// The token of a gateway.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The token of a vehicle.
    #[must_use]
    pub fn target(&self, vin: &Vin) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.gateway.as_bytes());
        let tag = hmac::sign(&key, format!("ddi target {vin}").as_bytes());
        tag.as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Whether an `Authorization` header lets its sender speak for a vehicle.
    #[must_use]
    pub fn admit(&self, authorization: &str, vin: &Vin) -> bool {
        match authorization.split_once(' ') {
            Some(("GatewayToken", token)) => same(token, &self.gateway),
            Some(("TargetToken", token)) => same(token, &self.target(vin)),
            _ => false,
        }
    }
}

/// Compares by digests under a key of the moment, so that the time taken tells nothing.
fn same(given: &str, expected: &str) -> bool {
    let mut nonce = [0; 32];
    if getrandom::fill(&mut nonce).is_err() {
        return false;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &nonce);
    let expected = hmac::sign(&key, expected.as_bytes());
    hmac::verify(&key, given.trim().as_bytes(), expected.as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vehicles_token_speaks_for_it_alone_and_the_gateways_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::of(dir.path()).unwrap();
        let again = Tokens::of(dir.path()).unwrap();
        let [one, two]: [Vin; 2] =
            ["WCANEPUS000000001", "WCANEPUS000000002"].map(|vin| vin.parse().unwrap());
        let target = format!("TargetToken {}", again.target(&one));
        assert!(tokens.admit(&target, &one));
        assert!(!tokens.admit(&target, &two));
        let gateway = format!("GatewayToken {}", again.gateway());
        assert!(tokens.admit(&gateway, &one) && tokens.admit(&gateway, &two));
        for wrong in [
            String::new(),
            "TargetToken ".into(),
            format!("Bearer {}", tokens.gateway()),
            format!("TargetToken {}", tokens.gateway()),
            format!("GatewayToken {}x", tokens.gateway()),
        ] {
            assert!(!tokens.admit(&wrong, &one), "{wrong}");
        }
    }
}

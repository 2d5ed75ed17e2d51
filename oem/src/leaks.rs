//! What must not leave the house inside a firmware: debug information and private keys.
//!
//! Images are encrypted, but their plaintext lies in ECUs that others can open.

use object::{Object as _, ObjectSection as _};

/// Something that does not belong into a firmware.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Leak {
    /// A section of debug information.
    #[error("it has debug information ({0}): strip it, or pack the ELF file with `--format elf`")]
    Debug(String),
    /// A private key in PEM.
    #[error("a private key lies at byte {0}: remove it; keys are provisioned, not released")]
    PrivateKey(usize),
}

/// Begins the second half of the first line of a private key in PEM (RFC 7468).
const MARK: &[u8] = b"PRIVATE KEY-----";
/// Shortest body of a key in base64. A program that reads PEM has the mark itself, without a body.
const BODY_MIN: usize = 40;

/// The first thing in `plaintext` that must not be released.
#[must_use]
pub fn find(plaintext: &[u8]) -> Option<Leak> {
    debug_section(plaintext).or_else(|| private_key(plaintext))
}

fn debug_section(plaintext: &[u8]) -> Option<Leak> {
    let file = object::File::parse(plaintext).ok()?;
    let names = file
        .sections()
        .filter_map(|section| section.name().ok().map(str::to_owned));
    let mut debug = names.filter(|name| name.starts_with(".debug") || name.starts_with(".zdebug"));
    debug.next().map(Leak::Debug)
}

fn private_key(plaintext: &[u8]) -> Option<Leak> {
    let marks = plaintext.windows(MARK.len()).enumerate();
    let mut marks = marks.filter(|(_, window)| *window == MARK);
    let key = marks.find(|(at, _)| {
        let body = plaintext
            .get(at.saturating_add(MARK.len())..)
            .unwrap_or_default();
        let printed = body.iter().filter(|byte| !b"\r\n".contains(byte));
        let base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
        printed.take_while(base64).take(BODY_MIN).count() == BODY_MIN
    });
    key.map(|(at, _)| Leak::PrivateKey(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    #[test]
    fn a_private_key_is_found_wherever_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        SigningKey::generate_ed25519()
            .unwrap()
            .store(&path)
            .unwrap();
        let pem = std::fs::read(&path).unwrap();
        for before in [0, 1, 4095] {
            let firmware = [vec![0xA5; before], pem.clone(), vec![0; 100]].concat();
            assert!(
                matches!(find(&firmware), Some(Leak::PrivateKey(_))),
                "{before}"
            );
        }
    }

    /// Libraries that read keys have these texts in them.
    #[test]
    fn a_program_that_reads_keys_is_none() {
        let texts = b"\0-----BEGIN RSA PRIVATE KEY-----\0-----END RSA PRIVATE KEY-----\0";
        assert_eq!(find(texts), None);
        assert_eq!(find(&[]), None);
    }

    /// This test is a program with debug information; none is left in its segments alone.
    #[test]
    fn debug_information_is_found() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(matches!(debug_section(&own), Some(Leak::Debug(_))));
        assert_eq!(debug_section(&own[..64]), None);
    }
}

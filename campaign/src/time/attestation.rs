//! Time from the director: a statement that carries the vehicle's own nonce, signed by the keys of the
//! role `time` in the director's root (Uptane Standard 2.1, clauses 5.4.2.2 and 5.4.3.1).
//!
//! ```json
//! {"signatures": [{"keyid": "…", "sig": "…"}],
//!  "signed": {"_type": "time", "nonce": "00112233445566778899aabbccddeeff", "time": "2026-11-22T00:00:00Z"}}
//! ```
//!
//! What a vehicle knows is a lower bound, which it keeps over restarts: attested times, and the times
//! at which the timestamps that it believed were issued. Its own clock never moves the bound, so a
//! clock that was wrong once does no lasting harm; while nothing is attested the clock counts, but
//! never below the bound.

use super::UnixTime;
use crate::meta::{Envelope, KeyPolicy, Malformed, Root, SignatureShortfall, Timestamp};
use alloc::{format, string::String};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Upper bound of an attestation in bytes.
pub const ATTESTATION_MAX_LEN: usize = 16 << 10;
/// How far directors' clocks may differ, in seconds.
pub const TOLERANCE_SECS: u64 = 300;
/// The `_type` of the statement.
const TYPE: &str = "time";

/// Random bytes of the vehicle, used for one request and never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; 16]);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl core::str::FromStr for Nonce {
    type Err = crate::ids::InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes)
            .map(|()| Self(bytes))
            .map_err(|_| crate::ids::InvalidId::new("nonce", text, "32 hexadecimal digits"))
    }
}

#[derive(Serialize, Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    nonce: String,
    time: UnixTime,
}

/// The envelope of an attestation, to be signed by the director.
///
/// # Errors
///
/// [`Malformed`]; not for any time.
pub fn statement(nonce: &Nonce, time: UnixTime) -> Result<Envelope, Malformed> {
    Envelope::new(&Statement {
        kind: String::from(TYPE),
        nonce: format!("{nonce}"),
        time,
    })
}

/// Why an attestation is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFault {
    /// Not an attestation.
    Malformed(Malformed),
    /// Too few time keys of the director's root signed it.
    Signatures(SignatureShortfall),
    /// It answers another request: it was replayed.
    Nonce,
    /// Earlier than what is known, by more than [`TOLERANCE_SECS`].
    Back {
        /// What it says.
        attested: UnixTime,
        /// What is known.
        known: UnixTime,
    },
    /// Not before the end of the director's root, which nobody could have signed it under.
    AfterRoot {
        /// What it says.
        attested: UnixTime,
        /// The root's end.
        expires: UnixTime,
    },
}

impl fmt::Display for TimeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Signatures(shortfall) => shortfall.fmt(f),
            Self::Nonce => f.write_str("answers another request"),
            Self::Back { attested, known } => {
                write!(f, "says {attested}, it was {known} before")
            }
            Self::AfterRoot { attested, expires } => {
                write!(f, "says {attested}, the director's root ends at {expires}")
            }
        }
    }
}

impl core::error::Error for TimeFault {}

/// Where a time is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// The director attested it to this vehicle, now.
    Attested,
    /// The vehicle's clock; nothing was attested.
    Clock,
    /// What was known before: the clock is behind it, so it was set back, or has lost its battery.
    Known,
}

/// The time by which expiry is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The time.
    pub now: UnixTime,
    /// Where it is from.
    pub source: TimeSource,
}

/// The last time that is known to have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownTime(UnixTime);

impl Default for KnownTime {
    /// 1970: nothing is known.
    fn default() -> Self {
        Self(UnixTime::from_secs(0))
    }
}

impl KnownTime {
    /// What was stored.
    #[must_use]
    pub const fn new(time: UnixTime) -> Self {
        Self(time)
    }

    /// What is to be stored.
    #[must_use]
    pub const fn time(self) -> UnixTime {
        self.0
    }

    /// The time by which expiry is judged while nothing is attested.
    #[must_use]
    pub fn judge(self, clock: UnixTime) -> Judged {
        match clock < self.0 {
            true => Judged {
                now: self.0,
                source: TimeSource::Known,
            },
            false => Judged {
                now: clock,
                source: TimeSource::Clock,
            },
        }
    }

    /// Believes the answer to the request with `nonce`; `root` is the director's newest.
    ///
    /// # Errors
    ///
    /// [`TimeFault`]; what is known stays.
    pub fn attested(
        &mut self,
        root: &Root,
        policy: KeyPolicy,
        nonce: &Nonce,
        bytes: &[u8],
    ) -> Result<Judged, TimeFault> {
        let attested = verified(root, policy, nonce, bytes)?;
        let (known, expires) = (self.0, root.header.expires);
        if attested.as_secs().saturating_add(TOLERANCE_SECS) < known.as_secs() {
            return Err(TimeFault::Back { attested, known });
        }
        if attested >= expires {
            return Err(TimeFault::AfterRoot { attested, expires });
        }
        self.0 = known.max(attested);
        Ok(Judged {
            now: self.0,
            source: TimeSource::Attested,
        })
    }

    /// Learns when a believed timestamp was issued. One that claims to be from after the end of its
    /// root says nothing.
    pub(crate) fn issued(&mut self, timestamp: &Timestamp, root: &Root) {
        let issued = timestamp
            .issued()
            .filter(|time| *time < root.header.expires);
        self.0 = issued.map_or(self.0, |time| self.0.max(time));
    }
}

fn verified(
    root: &Root,
    policy: KeyPolicy,
    nonce: &Nonce,
    bytes: &[u8],
) -> Result<UnixTime, TimeFault> {
    let malformed = TimeFault::Malformed;
    if bytes.len() > ATTESTATION_MAX_LEN {
        let (len, max) = (bytes.len(), ATTESTATION_MAX_LEN);
        return Err(malformed(Malformed::TooLong { len, max }));
    }
    let json = |error: serde_json::Error| malformed(Malformed::Json(format!("{error}")));
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(json)?;
    let role = root
        .time_keys()
        .ok_or(TimeFault::Signatures(SignatureShortfall {
            valid: 0,
            threshold: 1,
        }))?;
    envelope
        .verify(&root.keys, &role, policy)
        .map_err(TimeFault::Signatures)?;
    let statement: Statement = serde_json::from_value(envelope.signed).map_err(json)?;
    if statement.kind != TYPE {
        return Err(malformed(Malformed::Rule("_type is not time")));
    }
    match statement.nonce == format!("{nonce}") {
        true => Ok(statement.time),
        false => Err(TimeFault::Nonce),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{Header, Key, RoleKeys, RoleName, Roles};
    use alloc::{collections::BTreeMap, vec, vec::Vec};
    use ed25519_dalek::{Signer as _, SigningKey};
    use proptest::prelude::*;

    const NONCE: Nonce = Nonce([7; 16]);

    fn signer(seed: u8) -> (SigningKey, Key) {
        let private = SigningKey::from_bytes(&[seed; 32]);
        let public = Key::ed25519(private.verifying_key().as_bytes());
        (private, public)
    }

    /// A root whose time key is that of the seed 1.
    fn root() -> Root {
        let (_, key) = signer(1);
        let role = RoleKeys::new(vec![key.id()], 1).unwrap();
        let roles = Roles {
            root: role.clone(),
            targets: role.clone(),
            timestamp: role.clone(),
            snapshot: role.clone(),
            extra: BTreeMap::new(),
        };
        let header = Header::new(RoleName::Root, 1, at(1_000_000));
        let mut root = Root::new(header, [(key.id(), key)].into(), roles);
        root.set_time_keys(&role);
        root
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds)
    }

    fn attestation(seed: u8, nonce: Nonce, time: u64) -> Vec<u8> {
        let mut envelope = statement(&nonce, at(time)).unwrap();
        let (private, public) = signer(seed);
        let signature = private.sign(&envelope.signing_bytes().unwrap());
        envelope.add_signature(public.id(), &signature.to_bytes());
        envelope.to_json().unwrap()
    }

    fn take(known: &mut KnownTime, bytes: &[u8]) -> Result<Judged, TimeFault> {
        known.attested(&root(), KeyPolicy::default(), &NONCE, bytes)
    }

    #[test]
    fn an_attested_time_is_known_from_then_on() {
        let mut known = KnownTime::new(at(500));
        let judged = take(&mut known, &attestation(1, NONCE, 2_000)).unwrap();
        assert_eq!(
            (judged.now, judged.source),
            (at(2_000), TimeSource::Attested)
        );
        assert_eq!(known.time(), at(2_000));
        // Directors differ by little: the later time stays.
        let judged = take(&mut known, &attestation(1, NONCE, 1_800)).unwrap();
        assert_eq!(judged.now, at(2_000));
    }

    #[test]
    fn a_clock_that_was_set_back_is_seen_and_does_not_count() {
        let known = KnownTime::new(at(500));
        let judged = known.judge(at(499));
        assert_eq!((judged.now, judged.source), (at(500), TimeSource::Known));
        let judged = known.judge(at(501));
        assert_eq!((judged.now, judged.source), (at(501), TimeSource::Clock));
        assert_eq!(known.time(), at(500), "a clock moves nothing for good");
    }

    #[test]
    fn what_is_not_an_answer_of_the_director_to_this_request_is_refused() {
        let mut known = KnownTime::new(at(10_000));
        let replayed = attestation(1, Nonce([8; 16]), 20_000);
        assert_eq!(take(&mut known, &replayed), Err(TimeFault::Nonce));
        let foreign = take(&mut known, &attestation(2, NONCE, 20_000));
        assert!(matches!(foreign, Err(TimeFault::Signatures(_))));
        let back = TimeFault::Back {
            attested: at(9_699),
            known: at(10_000),
        };
        assert_eq!(take(&mut known, &attestation(1, NONCE, 9_699)), Err(back));
        let after = take(&mut known, &attestation(1, NONCE, 1_000_000));
        assert!(matches!(after, Err(TimeFault::AfterRoot { .. })));
        assert_eq!(known.time(), at(10_000));
    }

    #[test]
    fn a_root_without_time_keys_believes_no_attestation() {
        let mut root = root();
        root.roles.extra.clear();
        let bytes = attestation(1, NONCE, 2_000);
        let result = KnownTime::default().attested(&root, KeyPolicy::default(), &NONCE, &bytes);
        assert!(matches!(result, Err(TimeFault::Signatures(_))));
    }

    proptest! {
        #[test]
        fn no_changed_byte_is_believed(at in 0_usize..400, bit in 0_u8..8) {
            let good = attestation(1, NONCE, 2_000);
            let mut bytes = good.clone();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let taken = take(&mut KnownTime::default(), &bytes);
            // White space may change, and the case of hexadecimal digits.
            if let Ok(judged) = taken {
                prop_assert_eq!(judged.now, self::at(2_000));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = take(&mut KnownTime::default(), &bytes);
        }
    }
}

//! The key set (`docs/spec/keyset.md`): the public keys whose images an ECU accepts, signed by at
//! least two of its offline roots.
//!
//! A [`KeySet`] borrows the bytes that it was parsed from and copies nothing, so an ECU can look at
//! one in a page buffer, or in flash that is mapped into memory.

use crate::error::{FieldError, Offset, ParseError, Problem};
use crate::header::{Algorithm, SignatureLen};
use crate::id::{Digest, HardwareId, KeyId, KeySetVersion};
use crate::pss::key_id;
use crate::signature::PublicKeyRef;
use crate::wire::{Fixed, Reader, check, some};

/// The longest key set in bytes.
pub const KEY_SET_MAX: usize = 4096;
/// The most image keys in a set.
pub const MAX_KEYS: usize = 4;
/// The most roots that an ECU pins, and the most signatures of a set.
pub const MAX_ROOTS: usize = 4;
/// How many roots must have signed a set.
pub const THRESHOLD: usize = 2;

pub(crate) const MAGIC: [u8; 4] = *b"CNPK";
pub(crate) const FORMAT_VERSION: u16 = 1;
/// Bytes before the first key.
pub(crate) const HEADER_LEN: usize = 48;
/// Bytes of a key's entry before the key.
pub(crate) const KEY_HEAD_LEN: usize = 16;
/// Bytes between the signed part and the first signature.
pub(crate) const COUNT_LEN: usize = 4;
/// Bytes of a signature's entry before the signature.
pub(crate) const SIGNATURE_HEAD_LEN: usize = 12;

/// Whether a key still signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyStatus {
    /// Its images may be installed.
    Active = 1,
    /// Its images may not be installed any more; one that is installed boots until an image under an
    /// active key has been sealed.
    Revoked = 2,
}

impl KeyStatus {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Active),
            2 => Some(Self::Revoked),
            _ => None,
        }
    }
}

/// One image key of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEntry<'a> {
    /// Its identity, which is that of its bytes.
    pub id: KeyId,
    /// Whether it still signs.
    pub status: KeyStatus,
    /// The key.
    pub key: PublicKeyRef<'a>,
}

/// One signature of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootSignature<'a> {
    /// The root that made it.
    pub root: KeyId,
    /// RSA-PSS-SHA-256 over the signed part, big-endian.
    pub signature: &'a [u8],
}

/// A well-formed key set. Well-formed is not authentic: at least [`THRESHOLD`] of the signatures
/// must be right over [`Self::signed_bytes`], or its [`digest`](Self::digest) one that is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySet<'a> {
    signed: &'a [u8],
    signatures: &'a [u8],
    /// The hardware type that it is for; `None` for every ECU with these roots.
    pub hardware_id: Option<HardwareId>,
    /// Strictly increasing for an ECU.
    pub version: KeySetVersion,
}

impl<'a> KeySet<'a> {
    /// Parses a key set that fills `bytes`. Total: any bytes are a set or an error that says where.
    ///
    /// # Errors
    /// The first field that the specification does not allow.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        Self::parse_as(bytes)
    }

    /// As [`KeySet::parse`], with an error of another kind.
    ///
    /// # Errors
    /// The first field that the specification does not allow.
    pub fn parse_as<E: FieldError>(bytes: &'a [u8]) -> Result<Self, E> {
        let set = Self::parse_prefix(bytes)?;
        let expected = set.len();
        let problem = Problem::Contradiction {
            expected: wide(expected),
            found: wide(bytes.len()),
        };
        check(expected == bytes.len(), "end", expected, problem)?;
        Ok(set)
    }

    /// Parses a key set at the beginning of a larger buffer.
    ///
    /// # Errors
    /// The first field that the specification does not allow.
    pub fn parse_prefix<E: FieldError>(bytes: &'a [u8]) -> Result<Self, E> {
        let (_, rest) = split(bytes)?;
        let set = Self::parse_signed(bytes)?;
        let signatures = check_signatures(set.signed.len(), rest)?;
        Ok(Self { signatures, ..set })
    }

    /// Parses the signed part, at the beginning of `bytes`, without signatures: as an ECU stores it,
    /// which knows the digest.
    ///
    /// # Errors
    /// The first field that the specification does not allow.
    pub fn parse_signed<E: FieldError>(bytes: &'a [u8]) -> Result<Self, E> {
        let (signed, _) = split(bytes)?;
        let r = Fixed(signed.first_chunk().unwrap_or(&[0; HEADER_LEN]));
        let version = KeySetVersion(r.u32(40));
        check(version.get() > 0, "version", 40, Problem::Range(0))?;
        check(r.u16(46) == 0, "reserved", 46, Problem::NotZero)?;
        check_keys(signed, r.u16(44))?;
        Ok(Self {
            signed,
            signatures: &[],
            hardware_id: parse_scope(r)?,
            version,
        })
    }

    /// Length of the signed part that begins with these bytes, or `None` where they begin none.
    #[must_use]
    pub fn signed_len(start: &[u8; 8]) -> Option<usize> {
        let r = Fixed(start);
        let len = usize::from(r.u16(6));
        let known = r.array(0) == MAGIC && r.u16(4) == FORMAT_VERSION;
        (known && (HEADER_LEN..=KEY_SET_MAX).contains(&len)).then_some(len)
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.signed.len().saturating_add(self.signatures.len())
    }

    /// Never: a set has at least its header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part that every signature covers.
    #[must_use]
    pub const fn signed_bytes(&self) -> &'a [u8] {
        self.signed
    }

    /// SHA-256 of the signed part: the identity of the set, and the digest that is signed.
    #[must_use]
    pub fn digest(&self) -> Digest {
        crate::crypto::sha256(&[self.signed])
    }

    /// The keys, by ascending identity.
    pub fn keys(&self) -> impl Iterator<Item = KeyEntry<'a>> + use<'a> {
        let signed = self.signed;
        let mut at = HEADER_LEN;
        core::iter::from_fn(move || {
            let (entry, next) = key_at::<Offset>(signed, at).ok()?;
            at = next;
            Some(entry)
        })
    }

    /// The key with this identity.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<KeyEntry<'a>> {
        find(self.signed, id)
    }

    /// The signatures, by ascending identity of their roots: no root is there twice.
    pub fn signatures(&self) -> impl Iterator<Item = RootSignature<'a>> + use<'a> {
        let signatures = self.signatures;
        let mut at = COUNT_LEN;
        core::iter::from_fn(move || {
            let (entry, next) = signature_at::<Offset>(signatures, 0, at).ok()?;
            at = next;
            Some(entry)
        })
    }
}

/// The keys of a set whose digest is trusted. It was well-formed when it was accepted, so its keys are
/// found and not examined again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedKeys<'a>(&'a [u8]);

impl<'a> TrustedKeys<'a> {
    /// The signed part of a set, if it has this digest.
    #[must_use]
    pub fn of(signed: &'a [u8], digest: &Digest) -> Option<Self> {
        (crate::crypto::sha256(&[signed]) == *digest).then_some(Self(signed))
    }

    /// The key with this identity.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<KeyEntry<'a>> {
        find(self.0, id)
    }
}

/// The key with this identity in the signed part of a set, which is not examined again.
#[inline(never)]
fn find(signed: &[u8], id: KeyId) -> Option<KeyEntry<'_>> {
    let mut rest = signed.get(HEADER_LEN..)?;
    loop {
        let (head, behind) = rest.split_first_chunk::<KEY_HEAD_LEN>()?;
        let r = Fixed(head);
        let (bytes, behind) = behind.split_at_checked(r.u16(12).into())?;
        if r.array(0) == id.0 {
            let [status, _] = r.array(10);
            let algorithm = Algorithm::from_code(r.u16(8))?;
            return Some(KeyEntry {
                id,
                status: KeyStatus::from_number(status)?,
                key: PublicKeyRef { algorithm, bytes },
            });
        }
        rest = behind;
    }
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// The signed part, and what lies behind it.
fn split<E: FieldError>(bytes: &[u8]) -> Result<(&[u8], &[u8]), E> {
    let short = Problem::Range(wide(bytes.len()));
    let header = bytes.first_chunk::<HEADER_LEN>();
    let r = Fixed(some(header, "length", 0, short)?);
    check(r.array(0) == MAGIC, "magic", 0, Problem::Magic)?;
    let unknown = Problem::Unknown(r.u16(4).into());
    check(r.u16(4) == FORMAT_VERSION, "format_version", 4, unknown)?;
    let len = KeySet::signed_len(&r.array(0));
    some(
        len.and_then(|len| bytes.split_at_checked(len)),
        "signed_len",
        6,
        Problem::Range(r.u16(6).into()),
    )
}

fn parse_scope<E: FieldError>(r: Fixed<'_, HEADER_LEN>) -> Result<Option<HardwareId>, E> {
    let field = r.array(8);
    if field == [0; 32] {
        return Ok(None);
    }
    let text = |error| E::of("hardware_id", 8, Problem::Text(error));
    HardwareId::from_field(&field).map(Some).map_err(text)
}

/// `count` keys fill the signed part, by ascending identity.
fn check_keys<E: FieldError>(signed: &[u8], count: u16) -> Result<(), E> {
    let known = (1..=MAX_KEYS).contains(&usize::from(count));
    check(known, "key_count", 44, Problem::Range(count.into()))?;
    let mut at = HEADER_LEN;
    let mut last = None;
    for _ in 0..count {
        let (entry, next) = key_at(signed, at)?;
        check(last < Some(entry.id), "key_id", at, Problem::Order)?;
        let right = key_id(entry.key.bytes) == entry.id;
        check(right, "key_id", at, Problem::Identity)?;
        last = Some(entry.id);
        at = next;
    }
    let problem = Problem::Contradiction {
        expected: wide(at),
        found: wide(signed.len()),
    };
    check(at == signed.len(), "signed_len", 6, problem)
}

fn key_at<E: FieldError>(signed: &[u8], at: usize) -> Result<(KeyEntry<'_>, usize), E> {
    // `at` is in the set: no sum wraps.
    let field = |offset: usize| at.wrapping_add(offset);
    let rest = signed.get(at..).unwrap_or(&[]);
    let (head, rest) = some(
        rest.split_first_chunk::<KEY_HEAD_LEN>(),
        "key",
        at,
        Problem::Range(wide(signed.len())),
    )?;
    let r = Fixed(head);
    let code = r.u16(8);
    let algorithm = some(
        Algorithm::from_code(code),
        "algorithm",
        field(8),
        Problem::Unknown(code.into()),
    )?;
    let [number, zero] = r.array(10);
    let status = some(
        KeyStatus::from_number(number),
        "status",
        field(10),
        Problem::Unknown(number.into()),
    )?;
    check(zero == 0, "reserved", field(11), Problem::NotZero)?;
    check(r.u16(14) == 0, "reserved", field(14), Problem::NotZero)?;
    let len = usize::from(r.u16(12));
    let bytes = some(
        rest.get(..len)
            .filter(|_| SignatureLen::new(algorithm, len).is_some()),
        "key_len",
        field(12),
        Problem::Range(wide(len)),
    )?;
    let entry = KeyEntry {
        id: KeyId(r.array(0)),
        status,
        key: PublicKeyRef { algorithm, bytes },
    };
    Ok((entry, field(KEY_HEAD_LEN).wrapping_add(len)))
}

/// The part of `rest` with the signatures, which begin at `offset` of the set.
fn check_signatures<E: FieldError>(offset: usize, rest: &[u8]) -> Result<&[u8], E> {
    let r = Reader(rest);
    let short = Problem::Range(wide(rest.len()));
    check(rest.len() >= COUNT_LEN, "signature_count", offset, short)?;
    let count = r.u16(0);
    let known = usize::from(count) <= MAX_ROOTS;
    let problem = Problem::Range(count.into());
    check(known, "signature_count", offset, problem)?;
    check(
        r.u16(2) == 0,
        "reserved",
        offset.saturating_add(2),
        Problem::NotZero,
    )?;
    let mut at = COUNT_LEN;
    let mut last = None;
    for _ in 0..count {
        let (entry, next) = signature_at(rest, offset, at)?;
        let place = offset.saturating_add(at);
        check(last < Some(entry.root), "root_id", place, Problem::Order)?;
        last = Some(entry.root);
        at = next;
    }
    let whole = offset.saturating_add(at);
    let problem = Problem::Range(wide(whole));
    check(whole <= KEY_SET_MAX, "signature", offset, problem)?;
    some(rest.get(..at), "signature", offset, problem)
}

fn signature_at<E: FieldError>(
    rest: &[u8],
    offset: usize,
    at: usize,
) -> Result<(RootSignature<'_>, usize), E> {
    let r = Reader(rest);
    let start = at.saturating_add(SIGNATURE_HEAD_LEN);
    let place = offset.saturating_add(at);
    let inside = start <= rest.len();
    check(inside, "root_id", place, Problem::Range(wide(rest.len())))?;
    let len = usize::from(r.u16(at.saturating_add(8)));
    let end = start.saturating_add(len);
    let signature = some(
        rest.get(start..end)
            .filter(|_| SignatureLen::new(Algorithm::RsaPssSha256, len).is_some()),
        "signature_len",
        place.saturating_add(8),
        Problem::Range(wide(len)),
    )?;
    let reserved = r.u16(at.saturating_add(10));
    check(
        reserved == 0,
        "reserved",
        place.saturating_add(10),
        Problem::NotZero,
    )?;
    let root = KeyId(r.array(at));
    Ok((RootSignature { root, signature }, end))
}

#[cfg(feature = "alloc")]
mod build;
#[cfg(feature = "alloc")]
pub use build::{BuildError, KeySetContent, NewKey, NotAuthentic, add_signature};

#[cfg(all(test, feature = "alloc"))]
mod tests;

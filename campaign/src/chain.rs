//! A record that can only grow: each entry names the digest of the one before, so that whoever
//! changes, removes or inserts one is found, and where.
//!
//! An entry is one line of JSON. Its digest stands at its end and is over the bytes before it, so
//! nothing has to be brought into another form to check it:
//!
//! ```text
//! {"sequence":1,"previous":"00…","time":"2026-11-22T00:00:00Z","body":{…},"digest":"ab…"}
//! ```
//!
//! The last entries can be cut off, or all written anew, by whoever may write the file: only a
//! [`Head`] that is kept or signed elsewhere shows that. Nothing here reads a file; the caller passes
//! lines in and appends lines.

use crate::{
    ids::{Digest, sha256},
    time::UnixTime,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Upper bound of an entry in bytes, without its line feed.
pub const ENTRY_MAX_LEN: usize = 64 << 10;

/// What precedes the digest in a line.
const BEFORE_DIGEST: &[u8] = b",\"digest\":\"";
/// What follows it.
const AFTER_DIGEST: &[u8] = b"\"}";
/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;

/// How far a chain goes: the number of its entries and the digest of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The sequence number of the last entry; 0 where there is none.
    pub sequence: u64,
    /// The digest of the last entry; zeros where there is none.
    pub digest: Digest,
}

impl Default for Head {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// From 1, without gaps.
    pub sequence: u64,
    /// The digest of the entry before; zeros in the first.
    pub previous: Digest,
    /// When it was made, by the clock of whoever made it: not proven by the chain.
    pub time: UnixTime,
    /// What is recorded.
    pub body: Value,
    /// Over the line up to this field.
    pub digest: Digest,
}

/// What an entry says beside its digest.
#[derive(Serialize)]
struct Undigested<'a> {
    sequence: u64,
    previous: Digest,
    time: UnixTime,
    body: &'a Value,
}

/// An entry that does not continue the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainError {
    /// The place: the sequence number that the entry should have.
    pub sequence: u64,
    /// What is wrong there.
    pub fault: ChainFault,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainFault {
    /// More than [`ENTRY_MAX_LEN`] bytes.
    TooLong {
        /// Length in bytes.
        len: usize,
    },
    /// Not a line that [`Head::append`] writes; the text says what.
    Malformed(String),
    /// Its bytes do not have the digest that it carries: it was changed.
    Altered,
    /// Entries are missing before it, or it stands where another belongs.
    Sequence {
        /// Its number.
        found: u64,
    },
    /// It follows another entry than the one before it here.
    Previous,
    /// The chain ends elsewhere than the head that was expected.
    Head {
        /// The head that was expected.
        expected: Head,
    },
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}: {}", self.sequence, self.fault)
    }
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len } => write!(f, "{len} bytes, at most {ENTRY_MAX_LEN}"),
            Self::Malformed(error) => write!(f, "not an entry: {error}"),
            Self::Altered => f.write_str("changed: its digest is another"),
            Self::Sequence { found } => write!(f, "numbered {found}: entries are missing or moved"),
            Self::Previous => f.write_str("follows another entry than the one before it"),
            Self::Head { expected } => {
                let (sequence, digest) = (expected.sequence, expected.digest);
                write!(f, "the chain should end with entry {sequence}, {digest}")
            }
        }
    }
}

impl core::error::Error for ChainError {}
impl core::error::Error for ChainFault {}

impl Head {
    /// Of a chain without entries.
    pub const EMPTY: Self = Self {
        sequence: 0,
        digest: Digest([0; 32]),
    };

    /// The line of the next entry, without line feed. The head goes on to it; a caller that then
    /// cannot store the line goes back to a copy of the head before.
    ///
    /// # Errors
    ///
    /// [`ChainFault::TooLong`]; the head stays.
    pub fn append(&mut self, time: UnixTime, body: &Value) -> Result<String, ChainError> {
        let sequence = self.sequence.saturating_add(1);
        let of = |fault| ChainError { sequence, fault };
        let entry = Undigested {
            sequence,
            previous: self.digest,
            time,
            body,
        };
        let text = serde_json::to_string(&entry);
        let mut line = text.map_err(|error| of(ChainFault::Malformed(error.to_string())))?;
        // Its closing brace comes after the digest.
        line.pop();
        let digest = sha256(line.as_bytes());
        line.push_str(&format!(",\"digest\":\"{digest}\"}}"));
        if line.len() > ENTRY_MAX_LEN {
            return Err(of(ChainFault::TooLong { len: line.len() }));
        }
        *self = Self { sequence, digest };
        Ok(line)
    }

    /// The entry that `line`, without its line feed, adds to the chain; the head goes on to it.
    ///
    /// # Errors
    ///
    /// [`ChainError`]; the head stays.
    pub fn follow(&mut self, line: &[u8]) -> Result<Entry, ChainError> {
        let sequence = self.sequence.saturating_add(1);
        let entry = entry(line).and_then(|entry| match entry {
            Entry {
                sequence: found, ..
            } if found != sequence => Err(ChainFault::Sequence { found }),
            Entry { previous, .. } if previous != self.digest => Err(ChainFault::Previous),
            entry => Ok(entry),
        });
        let entry = entry.map_err(|fault| ChainError { sequence, fault })?;
        *self = Self {
            sequence,
            digest: entry.digest,
        };
        Ok(entry)
    }

    /// Whether a chain that was followed to its end ends where it is known to.
    ///
    /// # Errors
    ///
    /// [`ChainFault::Head`].
    pub fn expect(&self, expected: &Self) -> Result<(), ChainError> {
        if self == expected {
            return Ok(());
        }
        Err(ChainError {
            sequence: self.sequence,
            fault: ChainFault::Head {
                expected: *expected,
            },
        })
    }
}

/// An entry whose bytes have the digest that it carries.
fn entry(line: &[u8]) -> Result<Entry, ChainFault> {
    if line.len() > ENTRY_MAX_LEN {
        return Err(ChainFault::TooLong { len: line.len() });
    }
    let malformed = |what: &str| ChainFault::Malformed(what.to_string());
    let (covered, digest) = line
        .strip_suffix(AFTER_DIGEST)
        .and_then(|rest| rest.split_last_chunk::<DIGITS>())
        .and_then(|(rest, digits)| Some((rest.strip_suffix(BEFORE_DIGEST)?, digits)))
        .ok_or_else(|| malformed("no digest at its end"))?;
    if format!("{}", sha256(covered)).as_bytes() != digest {
        return Err(ChainFault::Altered);
    }
    serde_json::from_slice(line).map_err(|error| ChainFault::Malformed(error.to_string()))
}

/// Follows a whole chain from its first entry.
///
/// # Errors
///
/// [`ChainError`] with the first place that is wrong.
pub fn verify<'l>(
    lines: impl IntoIterator<Item = &'l [u8]>,
) -> Result<(Vec<Entry>, Head), ChainError> {
    let mut head = Head::EMPTY;
    let entries = lines.into_iter().map(|line| head.follow(line));
    let entries = entries.collect::<Result<_, _>>()?;
    Ok((entries, head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tests::any_json;
    use proptest::prelude::*;
    use serde_json::json;

    fn chain(bodies: &[Value]) -> (Vec<String>, Head) {
        let mut head = Head::EMPTY;
        let append = |(second, body)| head.append(UnixTime::from_secs(second), body).unwrap();
        let lines = (1..).zip(bodies).map(append).collect();
        (lines, head)
    }

    fn three() -> (Vec<String>, Head) {
        chain(&[
            json!({"what": "a"}),
            json!({"what": "b\n"}),
            json!({"what": "c"}),
        ])
    }

    fn refusal(lines: &[String]) -> ChainError {
        verify(lines.iter().map(String::as_bytes)).unwrap_err()
    }

    fn at(sequence: u64, fault: ChainFault) -> ChainError {
        ChainError { sequence, fault }
    }

    #[test]
    fn entries_follow_one_another() {
        let (lines, head) = three();
        let (entries, end) = verify(lines.iter().map(String::as_bytes)).unwrap();
        assert_eq!(end, head);
        assert_eq!(end.expect(&head), Ok(()));
        assert_eq!(entries[1].body, json!({"what": "b\n"}));
        assert_eq!(entries[2].previous, entries[1].digest);
    }

    #[test]
    fn a_changed_entry_is_found_in_its_place() {
        let (mut lines, _) = three();
        lines[1] = lines[1].replace("b\\n", "x\\n");
        assert_eq!(refusal(&lines), at(2, ChainFault::Altered));
    }

    #[test]
    fn a_changed_entry_with_its_digest_made_anew_is_found_by_its_successor() {
        let (mut lines, _) = three();
        let mut head = Head::EMPTY;
        head.follow(lines[0].as_bytes()).unwrap();
        lines[1] = head.append(UnixTime::from_secs(2), &json!({})).unwrap();
        assert_eq!(refusal(&lines), at(3, ChainFault::Previous));
    }

    #[test]
    fn a_removed_a_doubled_and_a_moved_entry_are_found() {
        let (lines, _) = three();
        let missing = [lines[0].clone(), lines[2].clone()];
        let found = |found| ChainFault::Sequence { found };
        assert_eq!(refusal(&missing), at(2, found(3)));
        assert_eq!(refusal(&lines[1..]), at(1, found(2)));
        let doubled = [lines[0].clone(), lines[0].clone()];
        assert_eq!(refusal(&doubled), at(2, found(1)));
    }

    #[test]
    fn an_end_that_was_cut_off_is_found_by_the_head_alone() {
        let (lines, head) = three();
        let (_, end) = verify(lines[..2].iter().map(String::as_bytes)).unwrap();
        let expected = ChainFault::Head { expected: head };
        assert_eq!(end.expect(&head), Err(at(2, expected)));
    }

    #[test]
    fn a_chain_goes_on_from_its_head() {
        let (lines, mut head) = three();
        let text = serde_json::to_string(&head).unwrap();
        assert_eq!(serde_json::from_str::<Head>(&text).unwrap(), head);
        let mut resumed = head;
        let line = head.append(UnixTime::from_secs(4), &json!(null)).unwrap();
        assert_eq!(resumed.follow(line.as_bytes()).unwrap().sequence, 4);
        assert!(Head::default().follow(line.as_bytes()).is_err());
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn an_entry_is_bounded() {
        let body = json!("x".repeat(ENTRY_MAX_LEN));
        let mut head = Head::EMPTY;
        let error = head.append(UnixTime::from_secs(0), &body).unwrap_err();
        assert!(matches!(error.fault, ChainFault::TooLong { .. }));
        assert_eq!(head, Head::EMPTY);
        let fault = head.follow(&vec![b' '; ENTRY_MAX_LEN + 1]).unwrap_err();
        assert!(matches!(fault.fault, ChainFault::TooLong { .. }));
    }

    proptest! {
        #[test]
        fn any_body_survives(bodies in prop::collection::vec(any_json(), 0..4)) {
            let (lines, head) = chain(&bodies);
            let (entries, end) = verify(lines.iter().map(String::as_bytes)).unwrap();
            prop_assert_eq!(end, head);
            prop_assert_eq!(entries.into_iter().map(|it| it.body).collect::<Vec<_>>(), bodies);
        }

        #[test]
        fn no_changed_byte_goes_unseen(line in 0_usize..3, at in 0_usize..400, bit in 0_u8..8) {
            let (lines, head) = three();
            let mut lines: Vec<Vec<u8>> = lines.into_iter().map(String::into_bytes).collect();
            let at = at % lines[line].len();
            lines[line][at] ^= 1 << bit;
            let end = verify(lines.iter().map(Vec::as_slice)).map(|(_, end)| end);
            prop_assert_ne!(end, Ok(head));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Head::default().follow(&bytes);
        }
    }
}

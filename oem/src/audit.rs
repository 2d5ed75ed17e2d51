//! The record of what the desk did: one hash-chained line in `keys/audit.log` for each command that
//! changed whom vehicles trust, or released something (`campaign::chain`).
//!
//! An entry is written before the effect, once nothing refuses it any more: an interrupted command
//! leaves an entry too many, never an effect without one. It names digests and versions, never keys.
//! Whoever may write the file can cut its end off or write all of it anew; a head that was noted
//! elsewhere shows that (`oem audit verify --head`). Who acted is what the environment says.

use std::{
    env, fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf,
    str::FromStr, time::SystemTime,
};

use campaign::{
    UnixTime,
    chain::{self, ChainError, Entry, Head},
    ids::Digest,
};
use serde_json::{Value, json};

use crate::{error::Error, files, repo::Repo};

const FILE: &str = "keys/audit.log";
/// Upper bound of the record in bytes: hundreds of thousands of entries.
const FILE_MAX: u64 = 256 << 20;
/// Names who acts, before the login name.
pub const OPERATOR: &str = "OEM_OPERATOR";

/// The record as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its entries.
    pub entries: Vec<Entry>,
    /// Where it ends.
    pub head: Head,
    /// Bytes of a last line that was not written to its end.
    pub torn: usize,
}

fn path(repo: &Repo) -> PathBuf {
    repo.path(FILE)
}

/// Adds an entry: `what` was done, with `details`.
///
/// # Errors
///
/// [`Error::Audit`] where the record was tampered with, [`Error::File`].
pub(crate) fn record(repo: &Repo, what: &str, details: &Value) -> Result<Head, Error> {
    let Record { mut head, torn, .. } = read(repo)?;
    let mut body = json!({ "who": operator(), "what": what, "details": details });
    if let (1.., Value::Object(body)) = (torn, &mut body) {
        body.insert("torn_before".into(), torn.into());
    }
    let line = head.append(clock(), &body).map_err(Error::Audit)?;
    let path = path(repo);
    let write = || {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)?;
        let whole = file.metadata()?.len();
        let torn = u64::try_from(torn).unwrap_or(u64::MAX);
        file.set_len(whole.saturating_sub(torn))?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()
    };
    write().map_err(Error::file(&path))?;
    Ok(head)
}

/// Reads the record and follows its chain.
///
/// # Errors
///
/// [`Error::Audit`] with the first entry that does not continue it, [`Error::File`].
pub fn read(repo: &Repo) -> Result<Record, Error> {
    let path = path(repo);
    let bytes = match path.exists() {
        true => files::read(&path, FILE_MAX)?,
        false => Vec::new(),
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n');
    let whole = whole.map_or(0, |at| at.saturating_add(1));
    let (lines, torn) = bytes.split_at_checked(whole).unwrap_or((&bytes, &[]));
    let lines = lines
        .split_inclusive(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_suffix(b"\n"));
    let (entries, head) = chain::verify(lines).map_err(Error::Audit)?;
    Ok(Record {
        entries,
        head,
        torn: torn.len(),
    })
}

/// Reads the record, which must be whole and, where a head was noted elsewhere, hold its entry.
///
/// # Errors
///
/// [`Error::Audit`], [`Error::File`].
pub fn verify(repo: &Repo, noted: Option<&NotedHead>) -> Result<Record, Error> {
    let record = read(repo)?;
    let at = |head: Head, fault| {
        let sequence = head.sequence;
        Err(Error::Audit(ChainError { sequence, fault }))
    };
    if record.torn > 0 {
        let next = record.head.sequence.saturating_add(1);
        let fault = chain::ChainFault::Malformed("not written to its end".into());
        return at(
            Head {
                sequence: next,
                ..record.head
            },
            fault,
        );
    }
    if let Some(NotedHead(expected)) = noted {
        let holds = record
            .entries
            .iter()
            .any(|entry| entry.sequence == expected.sequence && entry.digest == expected.digest);
        if !holds && *expected != Head::EMPTY {
            let expected = *expected;
            return at(expected, chain::ChainFault::Head { expected });
        }
    }
    Ok(record)
}

/// A head as a person notes it: `SEQUENCE:DIGEST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotedHead(pub Head);

impl FromStr for NotedHead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "SEQUENCE:DIGEST expected, as `oem audit verify` prints it".to_owned();
        let (sequence, digest) = text.split_once(':').ok_or_else(wrong)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digest, &mut bytes).map_err(|_| wrong())?;
        Ok(Self(Head {
            sequence: sequence.parse().map_err(|_| wrong())?,
            digest: Digest(bytes),
        }))
    }
}

impl std::fmt::Display for NotedHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0.sequence, self.0.digest)
    }
}

fn operator() -> String {
    [OPERATOR, "LOGNAME", "USER"]
        .iter()
        .find_map(|name| env::var(name).ok())
        .unwrap_or_else(|| "unknown".into())
}

fn clock() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::from_secs(since.map_or(0, |since| since.as_secs()))
}

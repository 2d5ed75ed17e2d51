//! What a bundle holds: its files, and what the director says to the vehicle that it is for.

use std::{fs::File, io::Read as _, path::Path};

use campaign::{
    ids::sha256,
    layout::{ARTIFACT_MAX_LEN, DIRECTOR_TARGETS_MAX_LEN, artifact_path},
    meta::Envelope,
};
use serde_json::{Value, json};
use tar::{Archive, Entry, EntryType};

use crate::error::Error;

/// Where a header of a tar file says that it is one, and what.
const MAGIC: (usize, &[u8]) = (257, b"ustar");

/// Whether the file begins as a bundle does.
pub(super) fn is_bundle(bytes: &[u8]) -> bool {
    let (at, magic) = MAGIC;
    bytes.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

/// Describes the bundle in the file at `path`: each file with its length, an image with whether it is
/// the one that its name says, and the director's targets whole. Signatures are not checked.
pub(super) fn describe(path: &Path) -> Result<Value, Error> {
    let file = File::open(path).map_err(Error::file(path))?;
    let mut archive = Archive::new(file);
    let mut files = Vec::new();
    let mut director = None;
    // Raw: a vehicle follows no extension either.
    let entries = archive.entries().map_err(Error::file(path))?.raw(true);
    for entry in entries {
        let entry = entry.map_err(|error| Error::input(path, error))?;
        if entry.header().entry_type() != EntryType::Regular {
            return Err(Error::input(path, "it holds something else than files"));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let bytes = entry.size();
        let content = read(entry).map_err(|error| Error::input(path, error))?;
        if name.starts_with("targets/") {
            let name_holds = artifact_path(&sha256(&content)) == name;
            files.push(json!({
                "path": name,
                "bytes": bytes,
                "digest": if name_holds { "ok" } else { "not that of its name" },
            }));
            continue;
        }
        if name.starts_with("director/") && name.ends_with(".targets.json") {
            director = Some(document(&content).map_err(|error| Error::input(path, error))?);
        }
        files.push(json!({"path": name, "bytes": bytes}));
    }
    Ok(json!({
        "kind": "bundle",
        "files": files,
        "director": director,
        "signatures": "not checked: every TCU checks them",
    }))
}

/// No more than a vehicle would read.
fn read(entry: Entry<'_, File>) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    entry.take(ARTIFACT_MAX_LEN).read_to_end(&mut content)?;
    Ok(content)
}

fn document(content: &[u8]) -> Result<Value, String> {
    let len = u64::try_from(content.len()).unwrap_or(u64::MAX);
    if len > DIRECTOR_TARGETS_MAX_LEN {
        return Err(format!("targets of {len} bytes"));
    }
    let envelope: Envelope =
        serde_json::from_slice(content).map_err(|error| format!("targets: {error}"))?;
    Ok(envelope.signed)
}

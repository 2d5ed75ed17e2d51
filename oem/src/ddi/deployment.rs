//! What the director has released for a vehicle, as a deployment.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use campaign::{
    ids::{Digest, Serial, Vin},
    layout::{self, Repository},
    meta::{DirectorCustom, DirectorStatement, Document, Role, Snapshot, Targets, Timestamp},
    repository::Limits,
    vehicle::Vehicle,
};
use ring::digest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{error::Error, files};

/// A campaign of one vehicle.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// The campaign.
    pub campaign: String,
    /// Names what is released, whatever the version of the document is: a statement that is only
    /// signed again is no new deployment.
    pub digest: Digest,
    /// One for each ECU.
    pub chunks: Vec<Chunk>,
}

/// What one ECU gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// The ECU.
    pub part: String,
    /// The file's name.
    pub name: String,
    /// The image's version.
    pub version: String,
    /// The file's hash and path.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// What is released for a vehicle now; `None` before its first release. It is only shown, so
/// signatures are not checked: the vehicle does that.
///
/// # Errors
///
/// [`Error::File`], [`Error::Corrupt`].
pub fn deployment(dir: &Path, vin: &Vin) -> Result<Option<Deployment>, Error> {
    let path = |name: &str| dir.join(layout::metadata_path(Repository::Director, vin, name));
    let timestamp = path("timestamp.json");
    if !timestamp.exists() {
        return Ok(None);
    }
    let limits = Limits::default();
    let timestamp: Timestamp = statement(&timestamp, limits.timestamp)?;
    let snapshot = path(&format!(
        "{}.snapshot.json",
        timestamp.meta.snapshot.version
    ));
    let snapshot: Snapshot = statement(&snapshot, limits.snapshot)?;
    let Some(named) = snapshot.meta.get("targets.json") else {
        return Ok(None);
    };
    let file = path(&format!("{}.targets.json", named.version));
    let targets: Targets = statement(&file, layout::DIRECTOR_TARGETS_MAX_LEN)?;
    let corrupt = |error: serde_json::Error| Error::corrupt(&file, error);
    let said: DirectorStatement = custom(targets.custom.as_ref()).map_err(corrupt)?;
    let content = serde_json::to_vec(&targets.targets).map_err(corrupt)?;
    let names = ecu_names(dir, vin)?;
    let mut chunks = Vec::new();
    for (name, target) in &targets.targets {
        let said: DirectorCustom = custom(target.custom.as_ref()).map_err(corrupt)?;
        let Some(sha256) = target.hashes.sha256 else {
            continue;
        };
        chunks.extend(said.ecu_identifiers.keys().map(|serial| {
            Chunk {
                part: names
                    .get(serial)
                    .cloned()
                    .unwrap_or_else(|| serial.to_string()),
                name: name.rsplit('/').next().unwrap_or(name).to_owned(),
                version: said.version.to_string(),
                sha256,
                size: target.length,
            }
        }));
    }
    chunks.sort_by(|a, b| a.part.cmp(&b.part));
    Ok(Some(Deployment {
        campaign: said.campaign_id.to_string(),
        digest: campaign::ids::sha256(&content),
        chunks,
    }))
}

fn statement<R: Role + Clone>(path: &Path, max: u64) -> Result<R, Error> {
    let bytes = files::read(path, max)?;
    let document = Document::<R>::parse(&bytes, bytes.len());
    let document = document.map_err(|error| Error::corrupt(path, error))?;
    Ok(document.unverified().clone())
}

fn custom<T: for<'de> Deserialize<'de>>(value: Option<&Value>) -> Result<T, serde_json::Error> {
    T::deserialize(value.unwrap_or(&Value::Null))
}

/// The ECUs' names by their serial numbers.
fn ecu_names(dir: &Path, vin: &Vin) -> Result<HashMap<Serial, String>, Error> {
    #[derive(Deserialize)]
    struct Record {
        vehicle: Vehicle,
    }
    let path = dir.join(format!("keys/vehicles/{vin}.json"));
    let record: Option<Record> = files::read_json(&path, 8 << 20)?;
    let ecus = record.iter().flat_map(|record| record.vehicle.ecus());
    Ok(ecus.map(|ecu| (ecu.serial, ecu.name.to_string())).collect())
}

/// SHA-1 digests of artifacts, which hawkBit's clients expect; computed once for each file.
#[derive(Debug, Default)]
pub(super) struct Sha1s(Mutex<HashMap<Digest, String>>);

impl Sha1s {
    /// The SHA-1 of an artifact. It protects nothing: the vehicle believes SHA-256 alone.
    fn of(&self, dir: &Path, sha256: &Digest) -> Result<String, Error> {
        let known = self
            .0
            .lock()
            .ok()
            .and_then(|known| known.get(sha256).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let path: PathBuf = dir.join(layout::artifact_path(sha256));
        let sha1 = sha1(&path).map_err(Error::file(&path))?;
        if let Ok(mut known) = self.0.lock() {
            known.insert(*sha256, sha1.clone());
        }
        Ok(sha1)
    }
}

fn sha1(path: &Path) -> io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    let (mut file, mut buffer) = (File::open(path)?, vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(context.finish().as_ref())),
            len => context.update(buffer.get(..len).unwrap_or_default()),
        }
    }
}

impl Deployment {
    /// The document, with links to `base`.
    pub(super) fn document(
        &self,
        dir: &Path,
        sha1s: &Sha1s,
        base: &str,
        action: i64,
    ) -> Result<Value, Error> {
        let chunk = |chunk: &Chunk| -> Result<Value, Error> {
            let path = layout::artifact_path(&chunk.sha256);
            Ok(json!({
                "part": chunk.part, "name": chunk.name, "version": chunk.version,
                "artifacts": [{
                    "filename": chunk.name,
                    "hashes": {
                        "sha1": sha1s.of(dir, &chunk.sha256)?,
                        "sha256": chunk.sha256.to_string(),
                    },
                    "size": chunk.size,
                    "_links": {"download": {"href": format!("{base}/{path}")}},
                }],
            }))
        };
        let chunks = self
            .chunks
            .iter()
            .map(chunk)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(json!({
            "id": action.to_string(),
            "deployment": {"download": "forced", "update": "forced", "chunks": chunks},
        }))
    }
}

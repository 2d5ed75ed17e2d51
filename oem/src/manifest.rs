//! Vehicle version manifests: a nonce for each, the check of every ECU's part, and what is installed.
//!
//! `keys/manifests/VIN.json` holds the nonce that is open and what the last manifest proved. A release
//! looks at it before it directs an image to an ECU (`below_floor`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use axum::{
    Router,
    body::Bytes,
    extract,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use campaign::{
    UnixTime,
    ids::{EcuName, ImageDigest, SecurityCounter, Serial, Vin, sha256},
    manifest::{self, ManifestFault, Proven},
    time::Nonce,
};
use ecu_image::EcuReport;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    keys::random,
    repo::{Repo, VehicleRecord},
    turn::Turns,
    vault,
};

/// How long a nonce is accepted, in seconds: no older may what a manifest says be.
pub const NONCE_VALID_SECS: u64 = 3600;
const FILE_MAX: u64 = 8 << 20;

/// What is known of a vehicle's ECUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The open nonce and when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<(String, UnixTime)>,
    /// When the last manifest was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<UnixTime>,
    /// What each ECU ran when it last said so.
    #[serde(default)]
    pub installed: BTreeMap<EcuName, Installed>,
    /// The ECUs that did not answer the last time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<EcuName>,
    /// What the telematics unit has said since then that no ECU of the vehicle has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disbelieved: Option<Disbelieved>,
}

/// A manifest that the vehicle's own telematics unit signed, and that is not true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disbelieved {
    /// When it came.
    pub at: UnixTime,
    /// What does not hold, the ECU included.
    pub fault: String,
}

/// What an ECU proved to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The image; zeros where none runs.
    pub image: ImageDigest,
    /// Its security counter.
    pub security_counter: SecurityCounter,
    /// The ECU's floor.
    pub floor: SecurityCounter,
    /// `recovery`, `trial`, `healthy`, `sealed`, `limp-home` or `rejected`.
    pub state: String,
}

fn path(repo: &Repo, vin: &Vin) -> PathBuf {
    repo.path(&format!("keys/manifests/{vin}.json"))
}

/// What the last manifest of a vehicle proved.
///
/// # Errors
///
/// [`Error::File`], [`Error::Corrupt`].
pub fn known(repo: &Repo, vin: &Vin) -> Result<Known, Error> {
    Ok(files::read_json(&path(repo, vin), FILE_MAX)?.unwrap_or_default())
}

/// The nonce for the next manifest of a vehicle: the open one, or a new one where that is too old.
///
/// # Errors
///
/// [`Error::UnknownVehicle`], [`Error::File`], [`Error::Corrupt`], [`Error::Crypto`].
pub fn nonce(repo: &Repo, vin: &Vin, now: UnixTime) -> Result<Nonce, Error> {
    repo.vehicle(vin)?;
    let mut known = known(repo, vin)?;
    if let Some(nonce) = open_nonce(&known, now) {
        return Ok(nonce);
    }
    let nonce = Nonce(random()?);
    known.nonce = Some((nonce.to_string(), now));
    files::write_json(&path(repo, vin), &known, Access::Secret)?;
    Ok(nonce)
}

fn open_nonce(known: &Known, now: UnixTime) -> Option<Nonce> {
    let (nonce, made) = known.nonce.as_ref()?;
    let age = now.as_secs().checked_sub(made.as_secs())?;
    nonce.parse().ok().filter(|_| age < NONCE_VALID_SECS)
}

/// Checks a manifest, ECU by ECU, and records what it proves. Its nonce is used up.
///
/// # Errors
///
/// [`Error::Manifest`] with what does not hold. Of what is installed nothing is recorded then; that the
/// telematics unit said what is not true, is.
pub fn accept(repo: &Repo, vin: &Vin, bytes: &[u8], now: UnixTime) -> Result<Known, Error> {
    let record = repo.vehicle(vin)?;
    let known = known(repo, vin)?;
    match proven(repo, &record, &known, bytes, now) {
        Ok(proven) => record_proven(repo, &record, &known, &proven, bytes, now),
        Err(Error::Manifest { vin, fault }) => {
            if fault.is_the_units_own() {
                record_lie(repo, &vin, known, &fault, now)?;
            }
            Err(Error::Manifest { vin, fault })
        }
        Err(error) => Err(error),
    }
}

fn proven(
    repo: &Repo,
    record: &VehicleRecord,
    known: &Known,
    bytes: &[u8],
    now: UnixTime,
) -> Result<Proven, Error> {
    let vin = record.vehicle.vin();
    let refuse = |fault| Error::Manifest {
        vin: vin.clone(),
        fault: Box::new(fault),
    };
    let nonce = open_nonce(known, now);
    let nonce = nonce.ok_or_else(|| refuse(ManifestFault::Nonce))?;
    let tcu = record.tcu_key.as_ref();
    let tcu = tcu.ok_or_else(|| Error::NoTcuKey(vin.clone()))?;
    let (holder, mut unknown) = (vault::holder(repo)?, None);
    let authentic = |serial: &Serial, report: &_| {
        let vouched = holder.vouches(record, serial, report);
        vouched.unwrap_or_else(|error| {
            unknown = Some(error);
            false
        })
    };
    let proven = manifest::verify(bytes, &record.vehicle, &nonce, &tcu.public(), authentic);
    // Where the ECUs' keys cannot be asked, nobody has lied.
    unknown.map_or_else(|| proven.map_err(refuse), Err)
}

/// Of an ECU that did not answer stays what it said before: its floor never falls. A vehicle says the same
/// at each poll: the audit log has only what is news.
fn record_proven(
    repo: &Repo,
    record: &VehicleRecord,
    before: &Known,
    proven: &Proven,
    bytes: &[u8],
    now: UnixTime,
) -> Result<Known, Error> {
    let name = |serial: &Serial| Some(record.vehicle.ecu_by_serial(serial)?.name.clone());
    let said = proven
        .reports
        .iter()
        .filter_map(|report| Some((name(&report.ecu_serial)?, Installed::from(report))));
    let mut known = Known {
        nonce: None,
        accepted: Some(now),
        silent: proven.silent.iter().filter_map(name).collect(),
        disbelieved: None,
        installed: before.installed.clone(),
    };
    known.installed.extend(said);
    let vin = record.vehicle.vin();
    let is_as_before = known.installed == before.installed
        && known.silent == before.silent
        && known.disbelieved == before.disbelieved;
    let details = json!({
        "vin": vin,
        "digest": sha256(bytes),
        "ecus": proven.reports.len(),
        "silent": known.silent,
    });
    if !is_as_before {
        audit::record(repo, "manifest", &details)?;
    }
    files::write_json(&path(repo, vin), &known, Access::Secret)?;
    Ok(known)
}

/// The nonce is used up here too: the same words again are no news.
fn record_lie(
    repo: &Repo,
    vin: &Vin,
    before: Known,
    fault: &ManifestFault,
    now: UnixTime,
) -> Result<(), Error> {
    let fault = fault.to_string();
    audit::record(
        repo,
        "manifest-disbelieved",
        &json!({ "vin": vin, "fault": fault }),
    )?;
    let known = Known {
        nonce: None,
        disbelieved: Some(Disbelieved { at: now, fault }),
        ..before
    };
    files::write_json(&path(repo, vin), &known, Access::Secret)
}

impl From<&EcuReport> for Installed {
    fn from(report: &EcuReport) -> Self {
        Self {
            image: report.image_digest,
            security_counter: report.security_counter,
            floor: report.floor,
            state: report.state.name().into(),
        }
    }
}

/// Refuses to direct an image that the ECU has said it would not install.
///
/// # Errors
///
/// [`Error::BelowFloor`].
pub(crate) fn below_floor(
    known: &Known,
    vin: &Vin,
    ecu: &EcuName,
    counter: SecurityCounter,
) -> Result<(), Error> {
    match known.installed.get(ecu) {
        Some(installed) if counter < installed.floor => Err(Error::BelowFloor {
            vin: vin.clone(),
            ecu: ecu.clone(),
            counter,
            floor: installed.floor,
        }),
        _ => Ok(()),
    }
}

/// The routes below `/manifest`: `GET /VIN` answers with the nonce, `POST /VIN` takes a manifest.
pub(crate) fn routes(dir: &Path) -> Router {
    Router::new()
        .route("/{vin}", get(ask).post(take))
        .with_state(Turns::new(dir))
}

async fn with_repo<T: Send + 'static>(
    turns: Turns,
    vin: String,
    act: impl FnOnce(&Repo, &Vin) -> Result<T, Error> + Send + 'static,
) -> Result<T, StatusCode> {
    let vin: Vin = vin.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    if !Repo::knows(turns.dir(), &vin) {
        return Err(StatusCode::NOT_FOUND);
    }
    let result = turns.with_repo(move |repo| act(repo, &vin)).await;
    result.map_err(|error| match error {
        Error::UnknownVehicle(_) | Error::NoTcuKey(_) => StatusCode::NOT_FOUND,
        // Another manifest was faster, or the nonce too old: the next question may be answered.
        Error::Manifest { fault, .. } if *fault == ManifestFault::Nonce => StatusCode::CONFLICT,
        Error::Manifest { .. } => StatusCode::FORBIDDEN,
        Error::Busy(_) | Error::VaultAway { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    })
}

async fn ask(
    extract::State(turns): extract::State<Turns>,
    extract::Path(vin): extract::Path<String>,
) -> Response {
    let nonce = with_repo(turns, vin, |repo, vin| nonce(repo, vin, crate::time::now()));
    match nonce.await {
        Ok(nonce) => nonce.to_string().into_response(),
        Err(status) => status.into_response(),
    }
}

async fn take(
    extract::State(turns): extract::State<Turns>,
    extract::Path(vin): extract::Path<String>,
    body: Bytes,
) -> StatusCode {
    let taken = with_repo(turns, vin, move |repo, vin| {
        accept(repo, vin, &body, crate::time::now()).map(drop)
    });
    taken
        .await
        .map_or_else(|status| status, |()| StatusCode::NO_CONTENT)
}

//! `oem vehicle add` and `export`: a vehicle from a description without secrets; its ECUs' keys are
//! made here and kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use campaign::{
    Trust,
    ids::{BusName, CanId, EcuName, HardwareId, SecurityCounter, SequenceNumber, Serial, Vin},
    layout::Repository,
    meta::Timestamp,
    repository::{Limits, Stored},
    vehicle::{AccessKey, Addressing, Bus, Ecu, VEHICLE_MAX_LEN, Vehicle},
};
use ecu_image::{
    TextError,
    crypto::{MacKey, WrapKey},
    provision::EcuProvisioning,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    audit,
    error::Error,
    files::{self, Access},
    init::publish_director_root,
    keys::random,
    keyset,
    publish::published,
    repo::{EcuRecord, Repo, TcuKey, VehicleRecord},
    root, vault,
};

/// The description of a vehicle: what `--spec` names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VehicleSpec {
    /// Its identification number.
    pub vin: Vin,
    /// Its buses.
    pub buses: Vec<Bus>,
    /// Its ECUs.
    pub ecus: Vec<EcuSpec>,
}

/// One ECU without secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EcuSpec {
    /// Its name within the vehicle.
    pub name: EcuName,
    /// The bus that it is on.
    pub bus: BusName,
    /// Serial number.
    pub serial: Serial,
    /// Hardware type.
    pub hardware_id: HardwareId,
    /// Identifier of physical requests.
    pub request_id: CanId,
    /// Identifier of responses.
    pub response_id: CanId,
    /// Identifier of functional requests.
    pub functional_id: CanId,
    /// Identifier of the application's heartbeat.
    pub heartbeat_id: CanId,
    /// ISO-TP addressing.
    #[serde(default)]
    pub addressing: Addressing,
    /// The first floor.
    #[serde(default)]
    pub floor: SecurityCounter,
}

/// Adds the vehicle that `spec` describes and writes its files to `out`.
///
/// # Errors
///
/// [`Error::Input`] for a description that is malformed or breaks a rule of a vehicle,
/// [`Error::VehicleExists`], [`Error::File`].
pub fn add(repo: &Repo, spec: &Path, out: &Path) -> Result<VehicleRecord, Error> {
    let max = u64::try_from(VEHICLE_MAX_LEN).unwrap_or(u64::MAX);
    let bytes = files::read(spec, max)?;
    let parsed: VehicleSpec =
        serde_json::from_slice(&bytes).map_err(|error| Error::input(spec, error))?;
    if repo.has_vehicle(&parsed.vin) {
        return Err(Error::VehicleExists(parsed.vin));
    }
    let in_file = |error| match error {
        Error::Vehicle(reason) => Error::input(spec, reason),
        error => error,
    };
    let record = vault::holder(repo)?.vehicle(&parsed).map_err(in_file)?;
    let vin = record.vehicle.vin();
    check_serials(repo, &record).map_err(in_file)?;
    let ecus: Vec<_> = record
        .vehicle
        .ecus()
        .iter()
        .map(|ecu| &ecu.serial)
        .collect();
    audit::record(repo, "vehicle add", &json!({ "vin": vin, "ecus": ecus }))?;
    publish_director_root(repo, vin)?;
    repo.store_vehicle(&record)?;
    export(repo, vin, out)?;
    Ok(record)
}

/// A vehicle of that description, and new keys for its ECUs and its telematics unit.
///
/// # Errors
///
/// [`Error::Vehicle`] for a description that breaks a rule of a vehicle.
pub(crate) fn record(repo: &Repo, spec: &VehicleSpec) -> Result<VehicleRecord, Error> {
    check_heartbeats(spec)?;
    let (root_keys, key_set) = (keyset::roots(repo)?, keyset::current(repo)?);
    let mut ecus = Vec::new();
    let mut records = BTreeMap::new();
    for ecu in spec.ecus.iter().cloned() {
        let access_key: [u8; 16] = random()?;
        let fd = spec.buses.iter().any(|bus| bus.name == ecu.bus && bus.fd);
        let text = |error: TextError| Error::Vehicle(error.to_string());
        let provisioning = EcuProvisioning {
            name: ecu.name.as_str().parse().map_err(text)?,
            vin: spec.vin.clone(),
            serial: ecu.serial,
            hardware_id: ecu.hardware_id,
            bus: ecu.bus.as_str().parse().map_err(text)?,
            request_id: ecu.request_id,
            response_id: ecu.response_id,
            functional_id: ecu.functional_id,
            heartbeat_id: ecu.heartbeat_id,
            fd,
            wrap_key: WrapKey::new(random()?),
            grant_key: MacKey::new(random()?),
            journal_key: MacKey::new(random()?),
            access_key: MacKey::new(access_key),
            root_keys: root_keys.clone(),
            key_set: key_set.clone(),
            floor: ecu.floor,
        };
        let last_sequence = SequenceNumber(0);
        records.insert(
            ecu.name.clone(),
            EcuRecord {
                provisioning,
                last_sequence,
            },
        );
        ecus.push(Ecu {
            name: ecu.name,
            bus: ecu.bus,
            serial: ecu.serial,
            hardware_id: ecu.hardware_id,
            request_id: ecu.request_id,
            response_id: ecu.response_id,
            functional_id: ecu.functional_id,
            addressing: ecu.addressing,
            access_key: AccessKey(access_key),
        });
    }
    let vehicle = Vehicle::new(spec.vin.clone(), spec.buses.clone(), ecus)
        .map_err(|error| Error::Vehicle(error.to_string()))?;
    Ok(VehicleRecord {
        vehicle,
        ecus: records,
        tcu_key: Some(TcuKey::generate()?),
    })
}

/// A serial is one ECU's in the whole fleet: a grant names nothing else.
pub(crate) fn check_serials(repo: &Repo, record: &VehicleRecord) -> Result<(), Error> {
    for vin in repo.vins()? {
        let other = repo.vehicle(&vin)?;
        for ecu in record.vehicle.ecus() {
            let serial = &ecu.serial;
            if other
                .vehicle
                .ecus()
                .iter()
                .any(|other| other.serial == *serial)
            {
                let reason = format!("ECU {}: serial {serial} is of vehicle {vin}", ecu.name);
                return Err(Error::Vehicle(reason));
            }
        }
    }
    Ok(())
}

/// Heartbeats share no identifier with anything else on their bus.
fn check_heartbeats(spec: &VehicleSpec) -> Result<(), Error> {
    let mut used: BTreeSet<(&BusName, CanId)> = BTreeSet::new();
    for ecu in &spec.ecus {
        for id in [ecu.request_id, ecu.response_id, ecu.functional_id] {
            used.insert((&ecu.bus, id));
        }
    }
    for ecu in &spec.ecus {
        if !used.insert((&ecu.bus, ecu.heartbeat_id)) {
            let (name, id) = (&ecu.name, ecu.heartbeat_id);
            let reason = format!("ECU {name}: heartbeat_id {id} is already used on its bus");
            return Err(Error::Vehicle(reason));
        }
    }
    Ok(())
}

/// Writes the files of a vehicle to `out`: `vehicle.json`, `root.json`, `ca.pem`, `tcu.pem`,
/// `ecus/NAME.json`. Where there is a vault, it writes the last and the desk the others.
///
/// # Errors
///
/// [`Error::UnknownVehicle`], [`Error::File`].
pub fn export(repo: &Repo, vin: &Vin, out: &Path) -> Result<(), Error> {
    let record = repo.vehicle(vin)?;
    for (name, ecu) in &record.ecus {
        let path = out.join(format!("ecus/{name}.json"));
        files::write_json(&path, &ecu.provisioning, Access::Secret)?;
    }
    if vault::is_vault(repo) {
        return Ok(());
    }
    let trust = provisioned(repo, vin)?.to_json()?;
    let ca = repo.path("keys/tls/ca.pem");
    let ca = files::read(&ca, 1 << 20)?;
    if let Some(key) = &record.tcu_key {
        key.signing().store(&out.join("tcu.pem"))?;
    }
    files::write_atomic(&out.join("ca.pem"), &ca, Access::Public)?;
    files::write_atomic(&out.join("root.json"), &trust, Access::Public)?;
    files::write_json(&out.join("vehicle.json"), &record.vehicle, Access::Secret)
}

/// The trust that a vehicle gets from the desk: what both repositories have published by now, and the time
/// at which they did. So its first refresh is shown nothing older, however long that were still believed.
/// Of a repository without a release it has the newest root.
fn provisioned(repo: &Repo, vin: &Vin) -> Result<Trust, Error> {
    let mut known = None;
    let mut stored = |repository| {
        let Some(published) = published(repo, repository, vin)? else {
            return Ok(Stored::root(&newest_root(repo, repository)?));
        };
        let issued = published.timestamp().and_then(Timestamp::issued);
        known = known.max(issued);
        Ok::<_, Error>(published.to_stored())
    };
    let (image, director) = (stored(Repository::Image)?, stored(Repository::Director)?);
    Trust::provisioned(image, director, known).map_err(|error| Error::corrupt(repo.dir(), error))
}

/// The least that a vehicle of this desk knows: the newest root of both repositories. Keys that were
/// revoked before it was made have no say in it.
///
/// # Errors
///
/// [`Error::File`], [`Error::Corrupt`].
pub fn pinned(repo: &Repo) -> Result<Trust, Error> {
    let (image, director) = (
        newest_root(repo, Repository::Image)?,
        newest_root(repo, Repository::Director)?,
    );
    Trust::pin(&image, &director).map_err(|error| Error::corrupt(repo.dir(), error))
}

fn newest_root(repo: &Repo, repository: Repository) -> Result<Vec<u8>, Error> {
    let (root, _) = root::newest(repo, repository)?;
    let path = repo.path(&root::kept(repository, root.header.version));
    files::read(&path, Limits::default().root)
}

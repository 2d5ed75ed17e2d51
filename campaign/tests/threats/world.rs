//! Two repositories and a vehicle, of which an attacker may change anything: statements before they are
//! signed, who signs them, and what is served. `docs/spec/vectors.md` describes the state.
//!
//! Statements are symbolic until they are signed: keys are named, and a grant is an object. Keys are made
//! of their names when a test runs; none is stored.

use std::collections::{BTreeMap, BTreeSet};

use campaign::ids::{Digest, sha256};
use campaign::meta::{Envelope, Key, KeyId, KeyPolicy, MetaFile};
use campaign::repository::{Client, Limits, percent};
use campaign::vehicle::Vehicle;
use campaign::{
    Trust, UnixTime, VerifiedCampaign, VerifyError, directing, layout::Repository, verify,
};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Map, Value, json};

use crate::grants;

pub(crate) const VIN: &str = "WCANPS00000000001";
/// Serial and hardware of each ECU.
pub(crate) const ECUS: [(&str, &str); 3] = [
    ("SN-door", "hw-a"),
    ("SN-seat", "hw-a"),
    ("SN-lamp", "hw-b"),
];
const TOP_ROLES: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];
pub(crate) const REPOSITORIES: [&str; 2] = ["image", "director"];

/// The time of the first release.
pub(crate) fn start() -> UnixTime {
    "2026-11-22T00:00:00Z".parse().unwrap()
}

/// One change of a statement before it is signed. On `REPOSITORY/root` it makes the next root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edit {
    /// `REPOSITORY/ROLE`.
    pub(crate) document: String,
    /// By JSON pointer the new value; null removes.
    pub(crate) set: BTreeMap<String, Value>,
    /// Names of the keys that sign it; else those of the role.
    pub(crate) signers: Option<Vec<String>>,
}

impl Edit {
    pub(crate) fn new(document: &str, set: Value) -> Self {
        let set = set.as_object().unwrap().clone();
        Self {
            document: document.into(),
            set: set.into_iter().collect(),
            signers: None,
        }
    }

    pub(crate) fn signed_by(mut self, signers: &[&str]) -> Self {
        self.signers = Some(signers.iter().map(|name| (*name).into()).collect());
        self
    }
}

/// The repositories, what they serve, and what the vehicle believes.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) now: UnixTime,
    pub(crate) trust: Trust,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    roots: BTreeMap<String, Value>,
}

impl World {
    /// Pinned roots, and nothing published.
    pub(crate) fn new() -> Self {
        let roots: BTreeMap<String, Value> = REPOSITORIES
            .map(|repository| (repository.into(), first_root(repository)))
            .into();
        let pinned = |repository: &str| {
            let root = &roots[repository];
            sign(root, &names(&root["roles"]["root"]["keyids"]))
        };
        Self {
            now: start(),
            trust: Trust::pin(&pinned("image"), &pinned("director")).unwrap(),
            files: BTreeMap::new(),
            roots,
        }
    }

    /// The same after a first release, which the vehicle has.
    pub(crate) fn released() -> Self {
        let mut world = Self::new();
        world.release(1, &[]);
        world.verify().unwrap();
        world
    }

    /// Publishes release `number` in both repositories.
    pub(crate) fn release(&mut self, number: u64, edits: &[Edit]) {
        for repository in REPOSITORIES {
            self.publish(repository, number, edits);
        }
    }

    /// Publishes release `number` in one.
    pub(crate) fn publish(&mut self, repository: &str, number: u64, edits: &[Edit]) {
        let own: Vec<(&str, &Edit)> = edits
            .iter()
            .filter_map(|edit| edit.document.split_once('/').map(|it| (it, edit)))
            .filter(|((of, _), _)| *of == repository)
            .map(|((_, role), edit)| (role, edit))
            .collect();
        for (_, edit) in own.iter().filter(|(role, _)| *role == "root") {
            self.next_root(repository, edit);
        }
        let roles: BTreeSet<&str> = own.iter().map(|(role, _)| *role).collect();
        let delegated = roles.into_iter().filter(|role| !TOP_ROLES.contains(role));
        let mut meta = Map::new();
        let mut delegations = Vec::new();
        for role in ["targets"].into_iter().chain(delegated) {
            let mut statement = self.statement(repository, role, number);
            apply(&mut statement, role, &own);
            delegations.push(statement["delegations"].clone());
            let named = self.put(repository, role, &statement, &own, &delegations);
            meta.insert(format!("{role}.json"), named);
        }
        for role in ["snapshot", "timestamp"] {
            let mut statement = self.statement(repository, role, number);
            statement["meta"] = Value::Object(core::mem::take(&mut meta));
            apply(&mut statement, role, &own);
            let named = self.put(repository, role, &statement, &own, &[]);
            meta.insert(format!("{role}.json"), named);
        }
    }

    /// Signs a statement and serves it; what is said about it.
    fn put(
        &mut self,
        repository: &str,
        role: &str,
        statement: &Value,
        edits: &[(&str, &Edit)],
        delegations: &[Value],
    ) -> Value {
        let chosen = edits.iter().rev().find(|(of, _)| *of == role);
        let chosen = chosen.and_then(|(_, edit)| edit.signers.clone());
        let signers = chosen.unwrap_or_else(|| match TOP_ROLES.contains(&role) {
            true => names(&self.roots[repository]["roles"][role]["keyids"]),
            false => names(delegated_keys(delegations, role)),
        });
        let bytes = sign(statement, &signers);
        let version = statement["version"].as_u64().unwrap();
        let file = match role {
            "timestamp" => format!("{repository}/timestamp.json"),
            role => format!("{repository}/{version}.{}.json", percent(role)),
        };
        if role == "targets" {
            // What a primary hands on.
            let handed = format!("{repository}/targets.json");
            self.files.insert(handed, bytes.clone());
        }
        let named = serde_json::to_value(MetaFile::of(version, &bytes)).unwrap();
        self.files.insert(file, bytes);
        named
    }

    pub(crate) fn next_root(&mut self, repository: &str, edit: &Edit) {
        let before = self.roots[repository].clone();
        let mut next = before.clone();
        next["version"] = json!(before["version"].as_u64().unwrap() + 1);
        let number = next["version"].as_u64().unwrap();
        set(&mut next, edit);
        let mut signers = names(&before["roles"]["root"]["keyids"]);
        signers.extend(names(&next["roles"]["root"]["keyids"]));
        let signers = edit.signers.clone().unwrap_or(signers);
        let bytes = sign(&next, &signers);
        self.files
            .insert(format!("{repository}/{number}.root.json"), bytes);
        self.roots.insert(repository.into(), next);
    }

    pub(crate) fn statement(&self, repository: &str, role: &str, number: u64) -> Value {
        let days = match role {
            "timestamp" => 7,
            _ => 30,
        };
        let kind = match role {
            "timestamp" | "snapshot" => role,
            _ => "targets",
        };
        let mut statement = json!({"_type": kind, "spec_version": "1.0.33", "version": number,
            "expires": self.now.plus_days(days)});
        match (role, repository) {
            ("targets", "image") => image_targets(&mut statement, number),
            ("targets", _) => director_targets(&mut statement, number),
            ("timestamp" | "snapshot", _) => {}
            _ => statement["targets"] = json!({}),
        }
        statement
    }

    /// Full verification; what is believed advances where nothing is refused.
    pub(crate) fn verify(&mut self) -> Result<VerifiedCampaign, VerifyError> {
        let (campaign, trust) = self.verify_served(|name| self.files.get(name))?;
        self.trust = trust;
        Ok(campaign)
    }

    /// The same with these files, `REPOSITORY/NAME`; nothing advances here.
    pub(crate) fn verify_served<'f>(
        &self,
        served: impl Fn(&str) -> Option<&'f Vec<u8>>,
    ) -> Result<(VerifiedCampaign, Trust), VerifyError> {
        verify::verify(&self.trust, &vehicle(), self.now, |wanted| {
            served(&name_of(wanted)).map(Vec::as_slice)
        })
    }

    /// Partial verification by the ECU `serial`; the target that it shall install.
    pub(crate) fn verify_partially(&self, serial: &str) -> Result<Option<String>, VerifyError> {
        let of = |refusal| VerifyError::Document {
            repository: Repository::Director,
            refusal,
        };
        let stored = self.trust.repository(Repository::Director).clone();
        let (policy, limits) = (KeyPolicy::default(), Limits::default());
        let mut client = Client::partial(stored, policy, limits, self.now).map_err(of)?;
        while let Some(wanted) = client.wanted() {
            let file = self.files.get(&format!("director/{}", wanted.name));
            match file {
                Some(bytes) => client.on_file(bytes),
                None => client.on_missing(),
            }
            .map_err(of)?;
        }
        let (serial, hardware) = ECUS.iter().find(|(of, _)| *of == serial).unwrap();
        let own = directing::own(
            client.targets().unwrap(),
            &serial.parse().unwrap(),
            &hardware.parse().unwrap(),
        )?;
        Ok(own.map(|(path, _)| path.into()))
    }
}

/// `REPOSITORY/NAME` of a wanted document.
pub(crate) fn name_of(wanted: &verify::Wanted) -> String {
    let director = wanted.path.strip_prefix(&format!("director/{VIN}/"));
    match (director, wanted.path.strip_prefix("metadata/")) {
        (Some(name), _) => format!("director/{name}"),
        (None, Some(name)) => format!("image/{name}"),
        (None, None) => panic!("{} is of no repository", wanted.path),
    }
}

/// By serial the target of each ECU.
pub(crate) fn installs(campaign: &VerifiedCampaign) -> BTreeMap<String, String> {
    let one = |ecu: &campaign::EcuTarget| (ecu.serial.to_string(), ecu.path.to_string());
    campaign.ecus.iter().map(one).collect()
}

/// The key called `name`.
pub(crate) fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&sha256(name.as_bytes()).0)
}

fn key_id(name: &str) -> KeyId {
    Key::ed25519(key(name).verifying_key().as_bytes()).id()
}

/// Signs a statement with the keys of these names.
pub(crate) fn sign(statement: &Value, signers: &[String]) -> Vec<u8> {
    let mut envelope = Envelope::new(&resolved(statement)).unwrap();
    let message = envelope.signing_bytes().unwrap();
    for name in signers {
        envelope.add_signature(key_id(name), &key(name).sign(&message).to_bytes());
    }
    envelope.to_json().unwrap()
}

/// The statement with keys in place of their names, and grants in place of their descriptions.
fn resolved(statement: &Value) -> Value {
    let mut statement = statement.clone();
    resolve_keys(&mut statement, "/roles");
    if let Some(delegations) = statement.pointer_mut("/delegations") {
        resolve_keys(delegations, "/roles");
    }
    for target in members(statement.pointer_mut("/targets")) {
        for ecu in members(target.pointer_mut("/custom/ecuIdentifiers")) {
            if ecu["grant"].is_object() {
                ecu["grant"] = grants::issue(&ecu["grant"]);
            }
        }
    }
    statement
}

/// Ids in place of names in the `keyids` of each role, and `keys` beside the roles.
fn resolve_keys(owner: &mut Value, roles: &str) {
    let mut keys = Map::new();
    for role in members(owner.pointer_mut(roles)) {
        let mut ids = Vec::new();
        for name in names(&role["keyids"]) {
            let id = key_id(&name).to_string();
            let public = Key::ed25519(key(&name).verifying_key().as_bytes());
            keys.insert(id.clone(), serde_json::to_value(public).unwrap());
            ids.push(id);
        }
        role["keyids"] = json!(ids);
    }
    if !keys.is_empty() {
        owner["keys"] = Value::Object(keys);
    }
}

fn members(value: Option<&mut Value>) -> Vec<&mut Value> {
    match value {
        Some(Value::Object(map)) => map.values_mut().collect(),
        Some(Value::Array(items)) => items.iter_mut().collect(),
        _ => Vec::new(),
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.map(|name| name.as_str().unwrap().into()).collect()
}

fn delegated_keys<'a>(delegations: &'a [Value], role: &str) -> &'a Value {
    let roles = delegations.iter().flat_map(|it| it["roles"].as_array());
    let found = roles.flatten().find(|it| it["name"] == role);
    found.map_or(&Value::Null, |it| &it["keyids"])
}

fn apply(statement: &mut Value, role: &str, edits: &[(&str, &Edit)]) {
    for (_, edit) in edits.iter().filter(|(of, _)| *of == role) {
        set(statement, edit);
    }
}

fn set(statement: &mut Value, edit: &Edit) {
    for (pointer, value) in &edit.set {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/").replace("~0", "~");
        let parent = statement.pointer_mut(parent);
        let parent = parent.unwrap_or_else(|| panic!("{pointer}: nothing there to change"));
        match (value, parent) {
            (Value::Null, Value::Object(map)) => drop(map.remove(&name)),
            (value, parent) => parent[name.as_str()] = value.clone(),
        }
    }
}

fn first_root(repository: &str) -> Value {
    let role = |role: &str| json!({"keyids": [format!("{repository}-{role}")], "threshold": 1});
    let roles = TOP_ROLES.map(|name| (name.to_string(), role(name)));
    json!({"_type": "root", "spec_version": "1.0.33", "version": 1,
        "expires": start().plus_days(365), "consistent_snapshot": true, "keys": {},
        "roles": Value::Object(Map::from_iter(roles))})
}

/// `HARDWARE/NUMBER.0.0.img` for both kinds of hardware.
fn image(hardware: &str, number: u64) -> (String, Value) {
    let path = format!("{hardware}/{number}.0.0.img");
    let digest = |of: &str| Digest(sha256(format!("{of} of {path}").as_bytes()).0).to_string();
    let target = json!({"length": 9000, "hashes": {"sha256": digest("file")},
        "custom": {"version": format!("{number}.0.0"), "securityCounter": number,
                   "imageDigest": digest("image")}});
    (path, target)
}

/// What was released stays published.
fn image_targets(statement: &mut Value, number: u64) {
    statement["custom"] = json!({"imageKeys": []});
    for (hardware, number) in ["hw-a", "hw-b"]
        .into_iter()
        .flat_map(|hardware| (1..=number).map(move |number| (hardware, number)))
    {
        let (path, mut target) = image(hardware, number);
        target["custom"]["hardwareIds"] = json!([hardware]);
        statement["targets"][path] = target;
    }
}

fn director_targets(statement: &mut Value, number: u64) {
    statement["custom"] = json!({"campaignId": format!("release-{number}"), "vin": VIN});
    for hardware in ["hw-a", "hw-b"] {
        let (path, mut target) = image(hardware, number);
        for (serial, _) in ECUS.iter().filter(|(_, of)| *of == hardware) {
            let grant = json!({"serial": serial, "sequence": number,
                "imageDigest": target["custom"]["imageDigest"]});
            target["custom"]["ecuIdentifiers"][*serial] =
                json!({"hardwareId": hardware, "grantSequence": number, "grant": grant});
        }
        statement["targets"][path] = target;
    }
}

pub(crate) fn vehicle() -> Vehicle {
    let ecu = |(at, (serial, hardware)): (usize, &(&str, &str))| {
        json!({"name": serial[3..], "bus": "body", "serial": serial, "hardware_id": hardware,
               "request_id": format!("7E{at}"), "response_id": format!("7E{:X}", at + 8),
               "functional_id": "7DF", "access_key": "000102030405060708090a0b0c0d0e0f"})
    };
    let ecus: Vec<Value> = ECUS.iter().enumerate().map(ecu).collect();
    let buses = json!([{"name": "body", "link": "can0"}]);
    let vehicle = json!({"vin": VIN, "buses": buses, "ecus": ecus});
    Vehicle::from_json(vehicle.to_string().as_bytes()).unwrap()
}

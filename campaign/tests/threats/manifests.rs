//! The vectors of `campaign/tests/manifests`: vehicle version manifests, which the director refuses or
//! believes. Their format is in `docs/spec/vectors.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use campaign::ids::{ImageDigest, SecurityCounter, SequenceNumber, Serial, Vin, sha256};
use campaign::manifest::{ManifestFault, Proven, ReportFault, statement, verify};
use campaign::meta::Key;
use campaign::time::Nonce;
use ecu_image::crypto::MacKey;
use ecu_image::{EcuReport, RunState};
use serde::Deserialize;

use crate::world::{ECUS, VIN, key, sign, vehicle};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    about: String,
    clause: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// What the director has asked with.
    nonce: String,
    /// The bytes of that step again.
    again: Option<usize>,
    #[serde(default)]
    manifest: Manifest,
    expect: Expected,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Manifest {
    nonce: Option<String>,
    vin: Option<String>,
    signer: Option<String>,
    reports: BTreeMap<String, Option<Report>>,
    silent: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Report {
    nonce: Option<String>,
    serial: Option<String>,
    key: Option<String>,
    image: Option<String>,
    counter: Option<u32>,
    length: Option<usize>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Expected {
    /// The ECUs of which something is proven, and those that did not answer.
    Believe {
        counters: BTreeMap<String, u32>,
        #[serde(default)]
        silent: Vec<String>,
    },
    Refuse {
        of: String,
        rule: String,
    },
}

/// The first half of the digest of the nonce's name.
fn nonce(name: &str) -> Nonce {
    let digest = sha256(format!("nonce {name}").as_bytes());
    Nonce(*digest.0.first_chunk().unwrap())
}

fn mac_key(serial: &str) -> MacKey {
    let digest = sha256(format!("key of {serial}").as_bytes());
    MacKey::new(*digest.0.first_chunk().unwrap())
}

fn report(serial: &str, asked: &str, change: &Report) -> Vec<u8> {
    let said = change.serial.as_deref().unwrap_or(serial);
    let image = change.image.as_deref().unwrap_or("image 1");
    let mut report = EcuReport {
        ecu_serial: said.parse().unwrap(),
        nonce: nonce(change.nonce.as_deref().unwrap_or(asked)).0,
        image_digest: ImageDigest(sha256(image.as_bytes()).0),
        security_counter: SecurityCounter(change.counter.unwrap_or(1)),
        floor: SecurityCounter(1),
        sequence: SequenceNumber(1),
        state: RunState::Sealed,
        mac: [0; 16],
    };
    let key = mac_key(change.key.as_deref().unwrap_or(serial));
    report.mac = key.mac(EcuReport::maced_bytes(&report.encode()));
    let mut bytes = report.encode().to_vec();
    bytes.resize(change.length.unwrap_or(bytes.len()), 0);
    bytes
}

/// Each ECU answers, but for those that are silent, and as far as the vector does not say otherwise.
fn build(step: &Step) -> Vec<u8> {
    let told = &step.manifest;
    let asked = told.nonce.as_deref().unwrap_or(&step.nonce);
    let mut reports = BTreeMap::new();
    let silent = |serial: &str| told.silent.iter().any(|silent| silent == serial);
    for (serial, _) in ECUS {
        if !told.reports.contains_key(serial) && !silent(serial) {
            let honest = report(serial, asked, &Report::default());
            reports.insert(serial.parse::<Serial>().unwrap(), honest);
        }
    }
    for (serial, change) in &told.reports {
        if let Some(change) = change {
            let serial_number = serial.parse().unwrap();
            reports.insert(serial_number, report(serial, asked, change));
        }
    }
    let vin: Vin = told.vin.as_deref().unwrap_or(VIN).parse().unwrap();
    let silent: BTreeSet<Serial> = told.silent.iter().map(|it| it.parse().unwrap()).collect();
    let envelope = statement(&vin, &nonce(asked), &reports, silent).unwrap();
    let signer = told.signer.as_deref().unwrap_or("tcu");
    sign(&envelope.signed, &[signer.to_owned()])
}

fn judge(bytes: &[u8], asked: &str) -> Expected {
    let keys: BTreeMap<Serial, MacKey> = ECUS
        .iter()
        .map(|(serial, _)| (serial.parse().unwrap(), mac_key(serial)))
        .collect();
    let tcu = Key::ed25519(key("tcu").verifying_key().as_bytes());
    let made = |serial: &Serial, report: &_| keys[serial].verify_report(report);
    match verify(bytes, &vehicle(), &nonce(asked), &tcu, made) {
        Ok(proven) => believed(&proven),
        Err(fault) => {
            let (of, rule) = words(&fault);
            Expected::Refuse {
                of,
                rule: rule.into(),
            }
        }
    }
}

fn believed(proven: &Proven) -> Expected {
    let counter = |report: &EcuReport| {
        let counter = report.security_counter.get();
        (report.ecu_serial.to_string(), counter)
    };
    Expected::Believe {
        counters: proven.reports.iter().map(counter).collect(),
        silent: proven.silent.iter().map(Serial::to_string).collect(),
    }
}

fn words(fault: &ManifestFault) -> (String, &'static str) {
    let manifest = |rule| ("manifest".to_owned(), rule);
    match fault {
        ManifestFault::Malformed(_) => manifest("malformed"),
        ManifestFault::Signature(_) => manifest("signatures"),
        ManifestFault::OtherVehicle(_) => manifest("other-vehicle"),
        ManifestFault::Nonce => manifest("nonce"),
        ManifestFault::Missing(serial) => (serial.to_string(), "missing"),
        ManifestFault::SilentAndHeard(serial) => (serial.to_string(), "silent-and-heard"),
        ManifestFault::UnknownEcu(serial) => (serial.to_string(), "unknown-ecu"),
        ManifestFault::Report { serial, fault } => {
            let rule = match fault {
                ReportFault::Length => "report-length",
                ReportFault::Malformed(_) => "report-malformed",
                ReportFault::OtherEcu => "report-serial",
                ReportFault::Nonce => "report-nonce",
                ReportFault::Mac => "report-mac",
            };
            (serial.to_string(), rule)
        }
    }
}

fn play(path: &Path) -> Result<(), String> {
    let name = path.display();
    let vector: Vector = serde_json::from_slice(&fs::read(path).unwrap())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(!vector.about.is_empty() && !vector.clause.is_empty());
    let mut sent: Vec<Vec<u8>> = Vec::new();
    for (at, step) in vector.steps.iter().enumerate() {
        let bytes = match step.again {
            Some(earlier) => sent[earlier].clone(),
            None => build(step),
        };
        let found = judge(&bytes, &step.nonce);
        sent.push(bytes);
        if found != step.expect {
            return Err(format!("{name}, step {at}: {found:?}"));
        }
    }
    Ok(())
}

#[test]
fn every_manifest_is_judged_as_its_vector_says() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let files = fs::read_dir(folder).unwrap();
    let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 12, "{} vectors", files.len());
    let wrong: Vec<String> = files.iter().filter_map(|file| play(file).err()).collect();
    assert_eq!(wrong.join("\n"), "");
}

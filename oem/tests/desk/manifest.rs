//! Vehicle version manifests: what an honest vehicle proves, and what a telematics unit that lies
//! cannot.

use std::{collections::BTreeMap, fs};

use crate::common::*;
use campaign::{
    UnixTime,
    ids::{ImageDigest, SecurityCounter, SequenceNumber, Serial},
    manifest::{ManifestFault, ReportFault, statement},
    time::Nonce,
};
use ecu_image::{EcuReport, RunState, crypto::MacKey, provision::EcuProvisioning};
use oem::{
    Error, ExitCode,
    keys::SigningKey,
    manifest::{self, NONCE_VALID_SECS},
};

type Reports = BTreeMap<Serial, Vec<u8>>;

fn provisioning(desk: &Desk, ecu: &str) -> EcuProvisioning {
    let bytes = fs::read(desk.path(&format!("out/ecus/{ecu}.json"))).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// What an ECU of this provisioning answers to the nonce.
fn report(ecu: &EcuProvisioning, nonce: &Nonce, floor: u32) -> EcuReport {
    let mut report = EcuReport {
        ecu_serial: ecu.serial,
        nonce: nonce.0,
        image_digest: ImageDigest([0xD1; 32]),
        security_counter: SecurityCounter(floor),
        floor: SecurityCounter(floor),
        sequence: SequenceNumber(1),
        state: RunState::Sealed,
        mac: [0; 16],
    };
    report.mac = ecu.grant_key.mac(EcuReport::maced_bytes(&report.encode()));
    report
}

fn reports(desk: &Desk, nonce: &Nonce) -> Reports {
    let of = |name| {
        let ecu = provisioning(desk, name);
        (ecu.serial, report(&ecu, nonce, 5).encode().to_vec())
    };
    ["door", "brake"].map(of).into()
}

/// What a telematics unit with this key sends.
fn signed(key: &SigningKey, nonce: &Nonce, reports: &Reports) -> Vec<u8> {
    let mut envelope = statement(&vin(), nonce, reports).unwrap();
    key.sign_envelope(&mut envelope).unwrap();
    envelope.to_json().unwrap()
}

fn tcu(desk: &Desk) -> SigningKey {
    SigningKey::load(&desk.path("out/tcu.pem")).unwrap()
}

/// What an honest telematics unit sends.
pub(crate) fn honest(desk: &Desk, nonce: &Nonce) -> Vec<u8> {
    signed(&tcu(desk), nonce, &reports(desk, nonce))
}

fn accept(desk: &Desk, bytes: &[u8]) -> Result<manifest::Known, Error> {
    manifest::accept(&desk.repo(), &vin(), bytes, now())
}

fn fault(result: Result<manifest::Known, Error>) -> ManifestFault {
    match result.unwrap_err() {
        Error::Manifest { fault, .. } => *fault,
        error => panic!("{error}"),
    }
}

#[test]
fn what_every_ecu_says_is_recorded_once() {
    let desk = Desk::new();
    let nonce = manifest::nonce(&desk.repo(), &vin(), now()).unwrap();
    let bytes = signed(&tcu(&desk), &nonce, &reports(&desk, &nonce));
    let known = accept(&desk, &bytes).unwrap();
    let door = &known.installed[&"door".parse().unwrap()];
    assert_eq!(
        (door.floor, door.state.as_str()),
        (SecurityCounter(5), "sealed")
    );
    assert_eq!(known.installed.len(), 2);
    assert_eq!(manifest::known(&desk.repo(), &vin()).unwrap(), known);
    assert_eq!(fault(accept(&desk, &bytes)), ManifestFault::Nonce);
    let next = manifest::nonce(&desk.repo(), &vin(), now()).unwrap();
    assert_ne!(next, nonce);
    assert_eq!(fault(accept(&desk, &bytes)), ManifestFault::Nonce);
}

/// It holds its own key and all that it ever saw; the ECUs' keys it does not hold.
#[test]
fn a_tcu_that_lies_is_found_with_the_ecu_that_it_lies_about() {
    let desk = Desk::new();
    let nonce = manifest::nonce(&desk.repo(), &vin(), now()).unwrap();
    let (door, brake) = (provisioning(&desk, "door"), provisioning(&desk, "brake"));
    let honest = reports(&desk, &nonce);
    let told = |change: &dyn Fn(&mut Reports)| {
        let mut reports = honest.clone();
        change(&mut reports);
        let before = desk.files("repo");
        let result = accept(&desk, &signed(&tcu(&desk), &nonce, &reports));
        assert!(desk.files("repo") == before, "something was recorded");
        fault(result)
    };
    let of_door = |fault| ManifestFault::Report {
        serial: door.serial,
        fault,
    };
    let say = |report: EcuReport| {
        move |reports: &mut Reports| {
            reports.insert("SN-1".parse().unwrap(), report.encode().to_vec());
        }
    };
    let newer = EcuReport {
        image_digest: ImageDigest([0xD2; 32]),
        ..report(&door, &nonce, 5)
    };
    assert_eq!(told(&say(newer)), of_door(ReportFault::Mac));
    let mut own = report(&door, &nonce, 9);
    own.mac = MacKey::new([7; 16]).mac(EcuReport::maced_bytes(&own.encode()));
    assert_eq!(told(&say(own)), of_door(ReportFault::Mac));
    let old = report(&door, &Nonce([1; 16]), 9);
    assert_eq!(told(&say(old)), of_door(ReportFault::Nonce));
    let other = report(&brake, &nonce, 5);
    assert_eq!(told(&say(other)), of_door(ReportFault::OtherEcu));
    let missing = told(&|reports: &mut Reports| drop(reports.remove(&brake.serial)));
    assert_eq!(missing, ManifestFault::Missing(brake.serial));
    let stranger: Serial = "SN-9".parse().unwrap();
    let added = told(&|reports: &mut Reports| drop(reports.insert(stranger, vec![0; 144])));
    assert_eq!(added, ManifestFault::UnknownEcu(stranger));
    accept(&desk, &signed(&tcu(&desk), &nonce, &honest)).unwrap();
}

#[test]
fn only_the_vehicles_own_tcu_speaks_for_it_and_not_for_long() {
    let desk = Desk::new();
    let nonce = manifest::nonce(&desk.repo(), &vin(), now()).unwrap();
    let reports = reports(&desk, &nonce);
    let foreign = SigningKey::generate_ed25519().unwrap();
    let result = accept(&desk, &signed(&foreign, &nonce, &reports));
    assert!(matches!(fault(result), ManifestFault::Signature(_)));
    let later = UnixTime::from_secs(now().as_secs() + NONCE_VALID_SECS);
    let bytes = signed(&tcu(&desk), &nonce, &reports);
    let late = manifest::accept(&desk.repo(), &vin(), &bytes, later);
    assert_eq!(fault(late), ManifestFault::Nonce);
    let changed = String::from_utf8(bytes)
        .unwrap()
        .replace(VIN, "WCANEPUS000000002");
    let result = accept(&desk, changed.as_bytes());
    assert!(matches!(fault(result), ManifestFault::Signature(_)));
    assert!(matches!(
        fault(accept(&desk, b"{}")),
        ManifestFault::Malformed(_)
    ));
}

/// The director looks at what the ECUs said before it directs an image to them.
#[test]
fn nothing_is_directed_to_an_ecu_that_would_refuse_it() {
    let desk = Desk::new();
    let nonce = manifest::nonce(&desk.repo(), &vin(), now()).unwrap();
    accept(&desk, &signed(&tcu(&desk), &nonce, &reports(&desk, &nonce))).unwrap();
    let error = desk
        .release("old", &[desk.pack("hw-a", "1.0.0", 4)])
        .unwrap_err();
    assert!(matches!(error, Error::BelowFloor { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Refused);
    desk.release("new", &[desk.pack("hw-a", "1.0.1", 5)])
        .unwrap();
}

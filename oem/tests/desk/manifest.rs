//! Vehicle version manifests: what an honest vehicle proves, and what a telematics unit that lies
//! cannot.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::common::*;
use campaign::{
    UnixTime,
    ids::{EcuName, ImageDigest, SecurityCounter, SequenceNumber, Serial},
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
    signed_with(key, nonce, reports, BTreeSet::new())
}

fn signed_with(
    key: &SigningKey,
    nonce: &Nonce,
    reports: &Reports,
    silent: BTreeSet<Serial>,
) -> Vec<u8> {
    let mut envelope = statement(&vin(), nonce, reports, silent).unwrap();
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

/// What a telematics unit sends that speaks for an ECU.
pub(crate) fn forged(desk: &Desk, nonce: &Nonce) -> Vec<u8> {
    let mut reports = reports(desk, nonce);
    let mut own = report(&provisioning(desk, "door"), nonce, 9);
    own.mac = MacKey::new([7; 16]).mac(EcuReport::maced_bytes(&own.encode()));
    reports.insert(own.ecu_serial, own.encode().to_vec());
    signed(&tcu(desk), nonce, &reports)
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
    // The same at the next poll is accepted, and no news.
    let log = || fs::read(desk.path("repo/keys/audit.log")).unwrap();
    let before = log();
    accept(&desk, &signed(&tcu(&desk), &next, &reports(&desk, &next))).unwrap();
    assert_eq!(log(), before);
}

/// It holds its own key and all that it ever saw; the ECUs' keys it does not hold.
#[test]
fn a_tcu_that_lies_is_found_with_the_ecu_that_it_lies_about() {
    let desk = Desk::new();
    let (door, brake) = (provisioning(&desk, "door"), provisioning(&desk, "brake"));
    let ask = || manifest::nonce(&desk.repo(), &vin(), now()).unwrap();
    let known = || manifest::known(&desk.repo(), &vin()).unwrap();
    let nonce = ask();
    accept(&desk, &signed(&tcu(&desk), &nonce, &reports(&desk, &nonce))).unwrap();
    let installed = known().installed;
    // What it says instead of the truth, and what the desk makes of it.
    let told = |change: &dyn Fn(&Nonce, &mut Reports)| {
        let nonce = ask();
        let mut reports = reports(&desk, &nonce);
        change(&nonce, &mut reports);
        let lie = signed(&tcu(&desk), &nonce, &reports);
        let found = fault(accept(&desk, &lie));
        let known = known();
        assert_eq!(known.installed, installed, "nothing that it says counts");
        assert_eq!(known.disbelieved.unwrap().fault, found.to_string());
        // The same words again are no news.
        let before = desk.files("repo");
        assert_eq!(fault(accept(&desk, &lie)), ManifestFault::Nonce);
        assert!(desk.files("repo") == before, "something was recorded");
        found
    };
    let of_door = |fault| ManifestFault::Report {
        serial: door.serial,
        fault,
    };
    let say = |reports: &mut Reports, report: EcuReport| {
        reports.insert(door.serial, report.encode().to_vec());
    };
    let newer = told(&|nonce, reports| {
        let image_digest = ImageDigest([0xD2; 32]);
        let report = report(&door, nonce, 5);
        say(
            reports,
            EcuReport {
                image_digest,
                ..report
            },
        );
    });
    assert_eq!(newer, of_door(ReportFault::Mac));
    let own = told(&|nonce, reports| {
        let mut own = report(&door, nonce, 9);
        own.mac = MacKey::new([7; 16]).mac(EcuReport::maced_bytes(&own.encode()));
        say(reports, own);
    });
    assert_eq!(own, of_door(ReportFault::Mac));
    let old = told(&|_, reports| say(reports, report(&door, &nonce, 9)));
    assert_eq!(old, of_door(ReportFault::Nonce));
    let other = told(&|nonce, reports| say(reports, report(&brake, nonce, 5)));
    assert_eq!(other, of_door(ReportFault::OtherEcu));
    let missing = told(&|_, reports| drop(reports.remove(&brake.serial)));
    assert_eq!(missing, ManifestFault::Missing(brake.serial));
    let stranger: Serial = "SN-9".parse().unwrap();
    let added = told(&|_, reports| drop(reports.insert(stranger, vec![0; 144])));
    assert_eq!(added, ManifestFault::UnknownEcu(stranger));
    // The truth ends it.
    let nonce = ask();
    accept(&desk, &signed(&tcu(&desk), &nonce, &reports(&desk, &nonce))).unwrap();
    assert_eq!(known().disbelieved, None);
}

#[test]
fn an_ecu_that_does_not_answer_is_named_and_what_it_said_before_stays() {
    let desk = Desk::new();
    let (door, brake): (EcuName, EcuName) = ("door".parse().unwrap(), "brake".parse().unwrap());
    let say = |silent: &[&EcuName], both: bool| {
        let nonce = manifest::nonce(&desk.repo(), &vin(), now()).unwrap();
        let mut reports = reports(&desk, &nonce);
        let serials = silent.iter();
        let serials = serials.map(|name| provisioning(&desk, name.as_str()).serial);
        let serials: BTreeSet<Serial> = serials.collect();
        reports.retain(|serial, _| both || !serials.contains(serial));
        accept(&desk, &signed_with(&tcu(&desk), &nonce, &reports, serials))
    };
    let first = say(&[&brake], false).unwrap();
    assert_eq!(first.silent, std::slice::from_ref(&brake));
    assert_eq!(first.installed.keys().collect::<Vec<_>>(), [&door]);
    assert_eq!(say(&[], false).unwrap().silent, []);
    let later = say(&[&door, &brake], false).unwrap();
    assert_eq!(later.silent, [door.clone(), brake.clone()]);
    assert_eq!(later.installed[&door].floor, SecurityCounter(5));
    let serial = provisioning(&desk, "door").serial;
    let fault = fault(say(&[&door], true));
    assert_eq!(fault, ManifestFault::SilentAndHeard(serial));
}

/// A thief of one telematics unit holds up neither the fleet nor whoever has looked at his vehicle.
#[test]
fn a_vehicle_whose_tcu_lies_is_left_out_unless_it_is_named() {
    let desk = Desk::new();
    let nonce = manifest::nonce(&desk.repo(), &vin(), now()).unwrap();
    fault(accept(&desk, &signed(&tcu(&desk), &nonce, &Reports::new())));
    let images = [desk.pack("hw-a", "1.0.1", 5)];
    let alone = desk.release("alone", &images).unwrap_err();
    assert!(matches!(&alone, Error::Disbelieved(vins) if *vins == [vin()]));
    assert_eq!(alone.exit_code(), ExitCode::Refused);
    let spec = fs::read_to_string(desk.path("spec.json")).unwrap();
    let spec = spec.replace(VIN, "WCANEPUS000000002").replace("SN-", "SX-");
    fs::write(desk.path("second.json"), spec).unwrap();
    let second = desk.path("second.json");
    oem::vehicle::add(&desk.repo(), &second, &desk.path("second")).unwrap();
    let summary = desk.release("fleet", &images).unwrap();
    assert_eq!(summary.left_out, [vin()]);
    assert_eq!(summary.vehicles.len(), 1);
    let mut named = desk.options("named", &[desk.pack("hw-a", "1.0.2", 5)]);
    named.vins = vec![vin()];
    let summary = oem::release::release(&desk.repo(), &named, now()).unwrap();
    assert_eq!(summary.left_out, []);
    assert!(summary.vehicles.contains_key(&vin()));
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

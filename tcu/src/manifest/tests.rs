//! What a manifest holds, and what the backend's own check makes of it.

use campaign::manifest::{self, ManifestFault};
use campaign::vehicle::Vehicle;
use ecu_image::crypto::MacKey;
use ecu_image::{EcuReport, ImageDigest, RunState, SecurityCounter, SequenceNumber};

use super::*;

const VEHICLE: &[u8] = include_bytes!("../../tests/data/vehicle.json");

fn key(serial: &Serial) -> MacKey {
    MacKey::new([serial.as_str().bytes().last().unwrap(); 16])
}

fn said(serial: Serial, nonce: &Nonce) -> [u8; REPORT_LEN] {
    let mut report = EcuReport {
        ecu_serial: serial,
        nonce: nonce.0,
        image_digest: ImageDigest([1; 32]),
        security_counter: SecurityCounter(3),
        floor: SecurityCounter(2),
        sequence: SequenceNumber(1),
        state: RunState::Healthy,
        mac: [0; 16],
    };
    report.mac = key(&serial).mac(EcuReport::maced_bytes(&report.encode()));
    report.encode()
}

#[test]
fn the_backend_reads_who_said_what_and_who_said_nothing() {
    let vehicle = Vehicle::from_json(VEHICLE).unwrap();
    let (nonce, tcu) = (Nonce([7; 16]), TcuKey::from_secret(&[9; 32]));
    let mut asked: Vec<Asked> = vehicle
        .ecus()
        .iter()
        .map(|ecu| Asked {
            name: ecu.name.clone(),
            serial: ecu.serial,
            said: Ok(said(ecu.serial, &nonce)),
        })
        .collect();
    let keys: BTreeMap<Serial, MacKey> = asked
        .iter()
        .map(|it| (it.serial, key(&it.serial)))
        .collect();
    let read = |asked: &[Asked], nonce: &Nonce, tcu: &TcuKey| {
        let signed = sign(tcu, vehicle.vin(), &Nonce([7; 16]), asked).unwrap();
        let key = TcuKey::from_secret(&[9; 32]).public();
        manifest::verify(&signed, &vehicle, nonce, &key, |serial, report| {
            keys[serial].verify_report(report)
        })
    };
    let proven = read(&asked, &nonce, &tcu).unwrap();
    assert_eq!(proven.reports.len(), asked.len());
    assert_eq!(proven.silent, []);
    asked[0].said = Err("timeout".into());
    let proven = read(&asked, &nonce, &tcu).unwrap();
    assert_eq!(proven.silent, [asked[0].serial]);
    assert_eq!(proven.reports.len(), asked.len() - 1);
    let replayed = read(&asked, &Nonce([8; 16]), &tcu);
    assert_eq!(replayed, Err(ManifestFault::Nonce));
    let stranger = read(&asked, &nonce, &TcuKey::from_secret(&[8; 32]));
    assert!(matches!(stranger, Err(ManifestFault::Signature(_))));
}

//! A small vehicle: two ECUs on a classical bus, one on an FD bus.

use campaign::ids::{Digest, SecurityCounter, SequenceNumber};
use campaign::rules::{ImageRules, Rules};

use super::*;
use crate::engine::Running as Ran;
use crate::profile::{BootPhase, BootReason, BootStatus, SlotState};

const OLD: ImageDigest = ImageDigest([1; 32]);

fn vehicle() -> Vehicle {
    let ecu = |name: &str, bus: &str, id: u32| {
        serde_json::json!({
            "name": name, "bus": bus, "serial": format!("SN-{name}"), "hardware_id": format!("hw-{name}"),
            "request_id": format!("{id:03X}"), "response_id": format!("{:03X}", id + 8),
            "functional_id": "7DF", "access_key": "00".repeat(16),
        })
    };
    let json = serde_json::json!({
        "vin": "WCANEPUS000000001",
        "buses": [
            {"name": "chassis", "link": "can0"},
            {"name": "body", "link": "can1", "fd": true, "data_bitrate": 2_000_000},
        ],
        "ecus": [ecu("abs", "chassis", 0x700), ecu("eps", "chassis", 0x701), ecu("gw", "body", 0x700)],
    });
    Vehicle::from_json(json.to_string().as_bytes()).unwrap()
}

fn target(vehicle: &Vehicle, name: &str) -> EcuTarget {
    let ecu = vehicle.ecu(&name.parse().unwrap()).unwrap();
    EcuTarget {
        ecu: ecu.name.clone(),
        serial: ecu.serial,
        hardware_id: ecu.hardware_id,
        path: name.parse().unwrap(),
        length: 400 << 10,
        sha256: Digest([0; 32]),
        image_digest: new_image(name),
        version: "2.0.0".parse().unwrap(),
        security_counter: SecurityCounter(2),
        grant: vec![0; GRANT_LEN],
        grant_sequence: SequenceNumber(2),
    }
}

fn new_image(name: &str) -> ImageDigest {
    ImageDigest(campaign::ids::sha256(name.as_bytes()).0)
}

fn campaign(vehicle: &Vehicle, ecus: &[&str], rules: &[(ImageDigest, &str)]) -> VerifiedCampaign {
    let ruled = rules.iter().map(|(image, rules)| ImageRules {
        image_digest: *image,
        rules: serde_json::from_str::<Rules>(rules).unwrap(),
    });
    VerifiedCampaign {
        id: "spring".parse().unwrap(),
        vin: vehicle.vin().clone(),
        rxswins: BTreeMap::new(),
        ecus: ecus.iter().map(|name| target(vehicle, name)).collect(),
        image_keys: Vec::new(),
        key_set: None,
        rules: ruled.collect(),
    }
}

fn planned(campaign: &VerifiedCampaign) -> Vec<PlannedEcu> {
    let ecus = campaign.ecus.iter().map(|target| PlannedEcu {
        name: target.ecu.to_string(),
        bus: "chassis".into(),
        image: target.image_digest,
        artifact: target.sha256,
        length: 0,
        grant: String::new(),
        key_set: None,
        from: Ran {
            version: "1.0.0".into(),
            image: OLD,
        },
        to_version: target.version.to_string(),
        unchanged: false,
        last: false,
        restore: None,
        after: Vec::new(),
    });
    ecus.collect()
}

fn says(version: &str) -> Outcome {
    Outcome {
        status: BootStatus {
            update_slots: 2,
            phase: BootPhase::Application,
            reason: BootReason::Normal,
            running: (OLD, SlotState::Sealed),
            other: (ImageDigest::ZERO, SlotState::Empty),
            floor: 1,
            grant_sequence: 1,
        },
        version: Some(version.into()),
        serial: None,
        hardware: None,
        report: None,
    }
}

#[test]
fn what_stays_counts_as_much_as_what_comes() {
    let vehicle = vehicle();
    let rules = r#"{"requires": [{"hardwareId": "hw-gw", "versions": ">=1.4.0"}]}"#;
    let campaign = campaign(&vehicle, &["abs"], &[(new_image("abs"), rules)]);
    let judge = |gateway: Option<&str>| {
        let found = gateway.map(|version| ("gw".parse().unwrap(), says(version)));
        let mut planned = planned(&campaign);
        judge(
            &campaign,
            &vehicle,
            &found.into_iter().collect(),
            &mut planned,
            Means::default(),
        )
    };
    assert!(judge(Some("1.4.0")).is_ok());
    assert_eq!(
        judge(Some("1.3.0")).unwrap_err().to_string(),
        "abs 2.0.0 requires hw-gw >=1.4.0, but gw would run version 1.3.0"
    );
    assert_eq!(
        judge(None).unwrap_err().to_string(),
        "abs 2.0.0 requires hw-gw >=1.4.0, but gw would run no version that it tells"
    );
}

#[test]
fn an_ecu_waits_for_those_that_go_first() {
    let vehicle = vehicle();
    let rules = r#"{"after": ["hw-gw", "hw-eps"]}"#;
    let campaign = campaign(
        &vehicle,
        &["abs", "eps", "gw"],
        &[(new_image("abs"), rules)],
    );
    let mut planned = planned(&campaign);
    let judged = judge(
        &campaign,
        &vehicle,
        &BTreeMap::new(),
        &mut planned,
        Means::default(),
    )
    .unwrap();
    assert_eq!(planned[0].after, [1, 2]);
    assert!(planned[1].after.is_empty() && planned[2].after.is_empty());
    insta::assert_snapshot!(judged.to_string(), @r"
    abs on chassis: 1.0.0 -> 2.0.0, 409856 bytes in about 21 s
      it is activated after eps, gw
    eps on chassis: 1.0.0 -> 2.0.0, 409856 bytes in about 21 s
    gw on chassis: 1.0.0 -> 2.0.0, 409856 bytes in about 9 s
    the rules of 1 image hold
    campaign spring: 3 ECUs in about 51 s
    ");
}

#[test]
fn a_campaign_that_the_battery_does_not_carry_is_left() {
    let vehicle = vehicle();
    let campaign = campaign(&vehicle, &["abs", "eps"], &[]);
    let judge = |draw_w| {
        let battery = Some(Battery {
            budget_wh: 1,
            draw_w,
        });
        let mut planned = planned(&campaign);
        let means = Means {
            battery,
            ..Means::default()
        };
        judge(&campaign, &vehicle, &BTreeMap::new(), &mut planned, means)
    };
    let enough = judge(60).unwrap();
    insta::assert_snapshot!(enough.sum(), @"campaign spring: 2 ECUs in about 51 s; 0.850 Wh of the 1 Wh that the battery may give, at 60 W");
    insta::assert_snapshot!(judge(120).unwrap_err().to_string(), @"the update would draw 1700 mWh from the battery, 1 Wh are allowed");
}

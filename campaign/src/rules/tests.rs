//! Rules over small vehicles, and properties over random ones.

use super::*;
use alloc::{format, vec};
use proptest::prelude::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn running(ecu: &str, hardware: &str, runs: &str) -> Running {
    Running {
        ecu: ecu.parse().unwrap(),
        hardware_id: hardware.parse().unwrap(),
        image: digest(hardware, runs),
        version: Some(version(runs)),
    }
}

fn digest(hardware: &str, runs: &str) -> ImageDigest {
    ImageDigest(crate::ids::sha256(format!("{hardware} {runs}").as_bytes()).0)
}

fn image(hardware: &str, runs: &str, rules: &str) -> ImageRules {
    ImageRules {
        image_digest: digest(hardware, runs),
        rules: serde_json::from_str(rules).unwrap(),
    }
}

fn sentences(after: &[Running], known: &[ImageRules]) -> Vec<String> {
    check(after, known)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn what_an_image_requires_runs_beside_it_or_is_named() {
    let known = [image(
        "brake",
        "2.1.0",
        r#"{"requires": [{"hardwareId": "gateway", "versions": ">=1.4.0, <2.0.0"}]}"#,
    )];
    let vehicle = |gateway| {
        vec![
            running("abs", "brake", "2.1.0"),
            running("gw", "gateway", gateway),
        ]
    };
    assert!(sentences(&vehicle("1.4.0"), &known).is_empty());
    assert_eq!(
        sentences(&vehicle("1.3.9"), &known),
        ["abs 2.1.0 requires gateway >=1.4.0, <2.0.0, but gw would run version 1.3.9"]
    );
    assert!(!sentences(&vehicle("2.0.0"), &known).is_empty());
    assert_eq!(
        sentences(&vehicle("1.4.0")[..1], &known),
        ["abs 2.1.0 requires gateway >=1.4.0, <2.0.0, but the vehicle has no such ECU"]
    );
    let mut silent = vehicle("1.4.0");
    silent[1].version = None;
    assert_eq!(
        sentences(&silent, &known),
        ["abs 2.1.0 requires gateway >=1.4.0, <2.0.0, but gw would run no version that it tells"]
    );
}

#[test]
fn an_ecu_that_a_vehicle_may_lack_is_not_missed() {
    let rules = r#"{"requires": [{"hardwareId": "tow-bar", "versions": "*", "ifPresent": true}]}"#;
    let known = [image("brake", "2.0.0", rules)];
    assert!(sentences(&[running("abs", "brake", "2.0.0")], &known).is_empty());
}

/// The ECU that stays as it is has rules too.
#[test]
fn an_image_that_stays_may_exclude_what_comes() {
    let known = [image(
        "steering",
        "1.0.0",
        r#"{"conflicts": [{"hardwareId": "brake", "versions": ">=2"}]}"#,
    )];
    let after = [
        running("abs", "brake", "2.1.0"),
        running("eps", "steering", "1.0.0"),
    ];
    assert_eq!(
        sentences(&after, &known),
        ["eps 1.0.0 conflicts with brake >=2, but abs would run version 2.1.0"]
    );
}

#[test]
fn a_group_changes_together_or_not_at_all() {
    let of =
        |generation| format!(r#"{{"group": {{"name": "chassis", "generation": {generation}}}}}"#);
    let known = [
        image("brake", "1.0.0", &of(1)),
        image("brake", "2.0.0", &of(2)),
        image("steering", "1.0.0", &of(1)),
        image("steering", "2.0.0", &of(2)),
    ];
    let vehicle = |brake, steering| {
        [
            running("abs", "brake", brake),
            running("eps", "steering", steering),
        ]
    };
    assert!(sentences(&vehicle("1.0.0", "1.0.0"), &known).is_empty());
    assert!(sentences(&vehicle("2.0.0", "2.0.0"), &known).is_empty());
    assert_eq!(
        sentences(&vehicle("2.0.0", "1.0.0"), &known),
        ["group chassis changes together, but abs would be of generation 2 and eps of 1"]
    );
}

#[test]
fn an_order_that_contradicts_itself_is_refused() {
    let known = [
        image("brake", "2.0.0", r#"{"after": ["gateway"]}"#),
        image("gateway", "2.0.0", "{}"),
        image("steering", "2.0.0", r#"{"after": ["brake"]}"#),
    ];
    let campaign = [
        running("abs", "brake", "2.0.0"),
        running("eps", "steering", "2.0.0"),
        running("gw", "gateway", "2.0.0"),
    ];
    assert_eq!(
        order(&campaign, &known).unwrap(),
        [vec![2], vec![0], vec![]]
    );
    let known = [
        image("brake", "2.0.0", r#"{"after": ["steering"]}"#),
        image("steering", "2.0.0", r#"{"after": ["brake"]}"#),
    ];
    assert_eq!(
        order(&campaign, &known).unwrap_err().to_string(),
        "the order of activation contradicts itself: each of abs, eps waits for another"
    );
}

#[test]
fn rules_from_outside_are_bounded_and_strict() {
    let parse = |text: &str| serde_json::from_str::<Rules>(text);
    assert!(parse(r#"{"requires": [], "unknown": 1}"#).is_err());
    assert!(parse(r#"{"conflicts": [{"hardwareId": "a", "versions": "one"}]}"#).is_err());
    let long = format!(
        r#"{{"conflicts": [{{"hardwareId": "a", "versions": "{}1"}}]}}"#,
        " ".repeat(200)
    );
    assert!(parse(&long).is_err());
    let many = format!(r#"{{"after": [{}]}}"#, vec![r#""a""#; 129].join(","));
    assert!(parse(&many).is_err());
}

prop_compose! {
    fn any_vehicle()(ecus in prop::collection::vec((0..4u8, 0..3u16), 1..8)) -> Vec<Running> {
        let ecus = ecus.iter().enumerate();
        ecus.map(|(index, (hardware, major))| {
            running(&format!("ecu{index}"), &format!("hw{hardware}"), &format!("{major}.0.0"))
        })
        .collect()
    }
}

prop_compose! {
    fn any_rules()(rules in prop::collection::vec((0..4u8, 0..3u16, 0..4u8, 0..3u16, 0..3u8), 0..12))
        -> Vec<ImageRules>
    {
        let rules = rules.into_iter();
        rules.map(|(hardware, major, other, versions, kind)| {
            let rule = format!(r#"[{{"hardwareId": "hw{other}", "versions": "={versions}.0.0"}}]"#);
            let text = match kind {
                0 => format!(r#"{{"requires": {rule}}}"#),
                1 => format!(r#"{{"conflicts": {rule}}}"#),
                _ => format!(r#"{{"after": ["hw{other}"]}}"#),
            };
            image(&format!("hw{hardware}"), &format!("{major}.0.0"), &text)
        })
        .collect()
    }
}

proptest! {
    /// Nothing is said of a vehicle whose images have no rules, and rules hold whatever the order of
    /// the ECUs.
    #[test]
    fn the_order_of_ecus_says_nothing(vehicle in any_vehicle(), rules in any_rules()) {
        prop_assert!(check(&vehicle, &[]).is_empty());
        let reversed: Vec<_> = vehicle.iter().rev().cloned().collect();
        prop_assert_eq!(check(&vehicle, &rules).len(), check(&reversed, &rules).len());
    }

    /// An order that is found can be followed: somebody can always go next.
    #[test]
    fn an_order_leads_to_the_end(vehicle in any_vehicle(), rules in any_rules()) {
        let Ok(before) = order(&vehicle, &rules) else {
            return Ok(());
        };
        let mut done = vec![false; vehicle.len()];
        while let Some(next) = (0..done.len()).find(|index| {
            !done[*index] && before[*index].iter().all(|other| done[*other])
        }) {
            done[next] = true;
        }
        prop_assert!(done.into_iter().all(|done| done));
    }

    #[test]
    fn rules_survive_their_notation(rules in any_rules()) {
        for image in rules {
            let text = serde_json::to_string(&image.rules).unwrap();
            prop_assert_eq!(serde_json::from_str::<Rules>(&text).unwrap(), image.rules);
        }
    }
}

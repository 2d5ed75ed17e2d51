//! What is permitted as readings come, go stale and are bad, in virtual time.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    stale: Duration::from_secs(2),
    settle: Duration::from_secs(3),
};
const NOTHING: Permit = Permit {
    stage: false,
    activate: false,
};
const STAGE: Permit = Permit {
    stage: true,
    activate: false,
};

fn id() -> CanId {
    CanId::standard(0x321).unwrap()
}

/// Battery for all, speed for activation only.
fn machine() -> Preconditions {
    let text = include_str!("../../tests/data/vehicle.dbc");
    let layouts = dbc::layouts(text, &[("Body", "Battery"), ("Body", "Speed")]).unwrap();
    let conditions = layouts
        .into_iter()
        .zip([("battery", 11.5, 15.0, true), ("speed", 0.0, 0.0, false)]);
    let conditions = conditions.map(|((id, layout), (name, min, max, stage))| Condition {
        name: name.into(),
        source: Source::Signal {
            bus: "body".into(),
            id,
            layout,
        },
        unit: String::new(),
        min,
        max,
        stage,
    });
    Preconditions::new(conditions.collect(), LIMITS)
}

/// A frame with this speed in km/h and voltage in mV.
fn frame(speed: u16, millivolts: u16) -> [u8; 8] {
    let (speed, volts) = ((speed * 100).to_le_bytes(), millivolts.to_be_bytes());
    [speed[0], speed[1], volts[0], volts[1], 0, 0, 0, 0]
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// Lets the same be heard each 100 ms, and returns what is permitted at the end.
fn hear(machine: &mut Preconditions, from: u64, until: u64, frame: [u8; 8]) -> Permit {
    for now in (from..=until).step_by(100) {
        machine.handle_frame(at(now), "body", id(), &frame);
    }
    machine.permit(at(until))
}

#[test]
fn nothing_is_permitted_before_all_was_well_for_a_while() {
    let mut machine = machine();
    machine.handle_timeout(at(0));
    assert_eq!(machine.permit(at(10_000)), NOTHING);
    assert_eq!(
        machine.unmet(at(0)),
        "battery was never heard, speed was never heard"
    );
    assert_eq!(hear(&mut machine, 0, 2900, frame(0, 12_500)), NOTHING);
    assert_eq!(
        hear(&mut machine, 3000, 3000, frame(0, 12_500)),
        Permit::ALL
    );
    assert_eq!(machine.unmet(at(3000)), "");
}

#[test]
fn driving_permits_staging_and_a_weak_battery_nothing() {
    let mut machine = machine();
    hear(&mut machine, 0, 4000, frame(0, 12_500));
    assert_eq!(hear(&mut machine, 4100, 4100, frame(1, 12_500)), STAGE);
    assert_eq!(machine.unmet(at(4100)), "speed is 1");
    assert_eq!(hear(&mut machine, 4200, 4200, frame(0, 11_499)), NOTHING);
    assert_eq!(
        hear(&mut machine, 4300, 7200, frame(0, 12_500)),
        NOTHING,
        "not settled"
    );
    assert_eq!(
        hear(&mut machine, 7300, 7300, frame(0, 12_500)),
        Permit::ALL
    );
}

#[test]
fn what_is_not_heard_any_more_is_not_fulfilled() {
    let mut machine = machine();
    hear(&mut machine, 0, 4000, frame(0, 12_500));
    assert_eq!(machine.poll_timeout(at(4000)), Some(at(6001)));
    machine.handle_timeout(at(6000));
    assert_eq!(machine.permit(at(6000)), Permit::ALL);
    machine.handle_timeout(at(6001));
    assert_eq!(machine.permit(at(6001)), NOTHING);
    assert!(
        machine
            .unmet(at(6001))
            .starts_with("battery is not heard any more")
    );
    assert_eq!(machine.told(at(6001))["speed"]["value"], Value::Null);
}

#[test]
fn values_that_cannot_be_and_other_frames_do_not_count() {
    let mut machine = machine();
    hear(&mut machine, 0, 4000, frame(0, 12_500));
    machine.handle_frame(
        at(4100),
        "body",
        id(),
        &[0xFF, 0xFF, 0x30, 0xD4, 0, 0, 0, 0],
    );
    assert_eq!(machine.permit(at(4100)), STAGE);
    assert_eq!(machine.unmet(at(4100)), "speed is not valid");
    let other = CanId::standard(0x322).unwrap();
    machine.handle_frame(at(4200), "body", other, &frame(0, 12_500));
    machine.handle_frame(at(4200), "chassis", id(), &frame(0, 12_500));
    assert_eq!(machine.unmet(at(4200)), "speed is not valid");
}

#[test]
fn without_conditions_all_is_permitted_once_settled() {
    let mut machine = Preconditions::new(Vec::new(), LIMITS);
    machine.handle_timeout(at(0));
    assert_eq!(machine.permit(at(3000)), Permit::ALL);
}

proptest! {
    /// Whoever is permitted to activate has heard zero speed within the last two seconds, and
    /// nothing else for three.
    #[test]
    fn activation_is_permitted_only_at_standstill(
        frames in prop::collection::vec((0u64..2500, 0u16..3, 11_000u16..13_000), 1..60),
    ) {
        let mut machine = machine();
        let mut now = 0;
        let mut heard: Vec<(u64, bool)> = Vec::new();
        for (pause, speed, volts) in frames {
            now += pause;
            machine.handle_timeout(at(now));
            machine.handle_frame(at(now), "body", id(), &frame(speed, volts));
            heard.push((now, speed == 0 && volts >= 11_500));
            if machine.permit(at(now)).activate {
                let recent: Vec<_> = heard.iter().filter(|(at, _)| at + 3000 >= now).collect();
                prop_assert!(recent.iter().all(|(_, good)| *good), "{heard:?}");
                let gap = heard.windows(2).filter(|pair| pair[1].0 + 3000 > now);
                prop_assert!(gap.clone().all(|pair| pair[1].0 - pair[0].0 <= 2000 || pair[1].0 + 3000 <= now), "{heard:?}");
            }
        }
    }
}

/// Voltage for all, asked of the door each 500 ms; stale after three.
fn asking() -> Preconditions {
    let condition = Condition {
        name: "battery".into(),
        source: Source::Did {
            ecu: "door".into(),
            did: 0xF40D,
            layout: Layout::bytes(1, 2, false, 0.01, 0.0).unwrap(),
            interval: Duration::from_millis(500),
            stale: Duration::from_millis(1500),
        },
        unit: "V".into(),
        min: 11.8,
        max: 15.0,
        stage: true,
    };
    Preconditions::new(vec![condition], LIMITS)
}

/// Asks when it is due until then, and has the door answer so.
fn answer(machine: &mut Preconditions, from: u64, until: u64, record: Option<&[u8]>) -> Permit {
    for now in (from..=until).map(at) {
        machine.handle_timeout(now);
        while let Some(question) = machine.poll_question(now) {
            assert_eq!((question.ecu.as_str(), question.did), ("door", 0xF40D));
            machine.handle_answer(now, question.index, record);
        }
    }
    machine.permit(at(until))
}

/// 12.34 V, 11.00 V.
const GOOD: Option<&[u8]> = Some(&[0xFF, 0x04, 0xD2]);
const LOW: Option<&[u8]> = Some(&[0xFF, 0x04, 0x4C]);

#[test]
fn an_ecu_is_asked_at_the_interval_and_once_at_a_time() {
    let mut machine = asking();
    assert_eq!(machine.poll_timeout(at(0)), Some(at(0)));
    assert!(machine.poll_question(at(0)).is_some());
    assert_eq!(machine.poll_timeout(at(0)), None);
    assert_eq!(
        machine.poll_question(at(10_000)),
        None,
        "its answer is awaited"
    );
    machine.handle_answer(at(10_000), 0, GOOD);
    let again = machine.poll_question(at(10_000)).unwrap();
    machine.handle_answer(at(10_010), again.index, GOOD);
    assert_eq!(machine.poll_question(at(10_499)), None);
    assert_eq!(machine.poll_timeout(at(10_010)), Some(at(10_500)));
    assert!(machine.poll_question(at(10_500)).is_some());
    machine.handle_answer(at(10_500), 7, GOOD);
}

#[test]
fn what_an_ecu_says_counts_until_it_has_missed_its_intervals() {
    let mut machine = asking();
    assert_eq!(machine.unmet(at(0)), "battery was never heard");
    assert_eq!(answer(&mut machine, 0, 2999, GOOD), NOTHING);
    assert_eq!(answer(&mut machine, 3000, 3000, GOOD), Permit::ALL);
    let told = machine.told(at(3000));
    assert_eq!(told["battery"]["value"], 12.34);
    assert_eq!(told["battery"]["unit"], "V");
    // Busy, silent or refusing: what it said last ages.
    assert_eq!(answer(&mut machine, 3001, 4500, None), Permit::ALL);
    assert_eq!(answer(&mut machine, 4501, 4501, None), NOTHING);
    assert_eq!(machine.unmet(at(4501)), "battery is not heard any more");
    assert_eq!(
        answer(&mut machine, 4502, 8100, GOOD),
        Permit::ALL,
        "it is back"
    );
    // A bad value counts at once, and one that is too short is none.
    assert_eq!(answer(&mut machine, 8101, 8700, LOW), NOTHING);
    assert_eq!(machine.unmet(at(8700)), "battery is 11 V");
    assert_eq!(
        answer(&mut machine, 8701, 9300, Some(&[0xFF, 0x04])),
        NOTHING
    );
    assert_eq!(machine.unmet(at(9300)), "battery is not valid");
}

#[test]
fn numbers_in_records_are_read_with_sign_scale_and_offset() {
    let read = |first, length, signed, factor, offset, record: &[u8]| {
        Layout::bytes(first, length, signed, factor, offset)?.decode(record)
    };
    assert_eq!(read(0, 1, false, 1.0, -40.0, &[0x50]), Some(40.0));
    assert_eq!(read(1, 2, true, 0.5, 0.0, &[9, 0xFF, 0xFE]), Some(-1.0));
    assert_eq!(read(0, 8, true, 1.0, 0.0, &[0xFF; 8]), Some(-1.0));
    assert_eq!(read(0, 2, false, 1.0, 0.0, &[1]), None, "too short");
    assert!(Layout::bytes(0, 0, false, 1.0, 0.0).is_none());
    assert!(Layout::bytes(0, 9, false, 1.0, 0.0).is_none());
}

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
        bus: "body".into(),
        id,
        layout,
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

//! The table of answers, and what holds over any sequence of them while the clock jumps.

use proptest::prelude::*;

use super::*;

/// 2026-11-23 12:00:00 UTC, a Monday.
const NOON: u64 = 1_795_435_200;
const HOUR: u64 = 3600;

fn rules(mode: Mode, windows: &[&str]) -> Rules {
    Rules {
        mode,
        windows: windows.iter().map(|text| text.parse().unwrap()).collect(),
        offset_min: 0,
        postpone_limit: 2,
        postpone_longest_s: 24 * HOUR,
    }
}

fn policy(mode: Mode, windows: &[&str]) -> Policy {
    let mut policy = Policy::new(rules(mode, windows), Memory::default());
    policy.offer("spring", "1");
    policy
}

fn at(seconds: u64) -> Now {
    Now {
        unix: NOON + seconds,
        up: Duration::from_secs(seconds),
    }
}

fn answer(anytime: bool) -> Answer {
    Answer {
        who: "driver".into(),
        at: NOON,
        anytime,
    }
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn every_mode_before_any_answer() {
    let night = ["22:00-05:00"];
    for (mode, windows, expected) in [
        (Mode::Automatic, &[][..], Verdict::Go),
        (
            Mode::Automatic,
            &night,
            Verdict::Wait(Why::Window, seconds(10 * HOUR)),
        ),
        (Mode::Ask, &[], Verdict::Wait(Why::Consent, None)),
        (Mode::Ask, &night, Verdict::Wait(Why::Consent, None)),
        (Mode::Forced, &[], Verdict::Go),
        (Mode::Forced, &night, Verdict::Go),
    ] {
        assert_eq!(
            policy(mode, windows).verdict(at(0)),
            expected,
            "{mode:?} {windows:?}"
        );
    }
}

#[test]
fn consent_is_for_the_window_or_for_any_time() {
    let mut policy = policy(Mode::Ask, &["22:00-05:00"]);
    policy.consent(Some("spring"), answer(false)).unwrap();
    assert_eq!(
        policy.verdict(at(0)),
        Verdict::Wait(Why::Window, seconds(10 * HOUR))
    );
    assert_eq!(policy.verdict(at(10 * HOUR)), Verdict::Go);
    policy.consent(None, answer(true)).unwrap();
    assert_eq!(policy.verdict(at(11 * HOUR)), Verdict::Go);
    assert_eq!(policy.verdict(at(20 * HOUR)), Verdict::Go);
}

#[test]
fn local_time_is_what_windows_are_in() {
    let mut rules = rules(Mode::Automatic, &["13:00-14:00"]);
    rules.offset_min = 60;
    let mut policy = Policy::new(rules, Memory::default());
    assert_eq!(policy.verdict(at(0)), Verdict::Go);
}

#[test]
fn postponing_has_a_limit_and_asks_again() {
    let mut policy = policy(Mode::Ask, &[]);
    let too_long = policy.postpone(None, 24 * HOUR + 1, at(0));
    assert_eq!(too_long, Err(Refusal::TooLong(24 * HOUR)));
    policy.consent(None, answer(false)).unwrap();
    policy.postpone(None, HOUR, at(0)).unwrap();
    assert_eq!(
        policy.verdict(at(1)),
        Verdict::Wait(Why::Postponed, seconds(HOUR - 1))
    );
    assert_eq!(policy.verdict(at(HOUR)), Verdict::Wait(Why::Consent, None));
    policy.postpone(None, HOUR, at(HOUR)).unwrap();
    assert_eq!(
        policy.postpone(None, 1, at(HOUR)),
        Err(Refusal::TooOften(2))
    );
    policy.offer("summer", "1");
    assert_eq!(
        policy.postpone(None, 1, at(HOUR)),
        Ok(()),
        "another campaign"
    );
}

#[test]
fn what_is_declined_waits_for_consent_or_another_campaign() {
    let mut policy = policy(Mode::Automatic, &[]);
    policy.decline(None, answer(false)).unwrap();
    assert_eq!(policy.verdict(at(0)), Verdict::Declined);
    policy.offer("spring", "1");
    assert_eq!(policy.verdict(at(1)), Verdict::Declined, "the same again");
    policy.offer("summer", "1");
    assert_eq!(policy.verdict(at(2)), Verdict::Go);
    policy.decline(None, answer(false)).unwrap();
    policy.consent(None, answer(false)).unwrap();
    assert_eq!(policy.verdict(at(3)), Verdict::Go);
}

#[test]
fn answers_are_about_what_was_on_offer() {
    let mut policy = policy(Mode::Ask, &[]);
    policy.consent(None, answer(true)).unwrap();
    policy.offer("spring", "1");
    assert_eq!(policy.verdict(at(0)), Verdict::Go);
    policy.offer("spring", "2");
    let asks = Verdict::Wait(Why::Consent, None);
    assert_eq!(policy.verdict(at(1)), asks, "other images under its name");
}

#[test]
fn answers_end_with_their_campaign_but_for_a_refusal() {
    let mut policy = policy(Mode::Ask, &[]);
    policy.postpone(None, HOUR, at(0)).unwrap();
    policy.consent(None, answer(true)).unwrap();
    policy.end("winter");
    assert_eq!(policy.verdict(at(1)), Verdict::Go, "another one has ended");
    policy.end("spring");
    assert_eq!(policy.consent(None, answer(true)), Err(Refusal::NoOffer));
    assert_eq!(policy.decline(None, answer(true)), Err(Refusal::NoOffer));
    assert_eq!(policy.postpone(None, 1, at(1)), Err(Refusal::NoOffer));
    policy.offer("spring", "1");
    assert_eq!(policy.verdict(at(2)), Verdict::Wait(Why::Consent, None));
    assert_eq!(policy.memory().postponed, 0);
    policy.decline(None, answer(false)).unwrap();
    policy.end("spring");
    assert_eq!(policy.verdict(at(3)), Verdict::Declined);
}

#[test]
fn answers_that_mean_nothing_are_refused() {
    let mut none = Policy::new(rules(Mode::Ask, &[]), Memory::default());
    assert_eq!(none.consent(None, answer(false)), Err(Refusal::NoOffer));
    let mut ask = policy(Mode::Ask, &[]);
    let other = ask.consent(Some("winter"), answer(false));
    assert_eq!(other, Err(Refusal::OtherCampaign));
    let mut forced = policy(Mode::Forced, &[]);
    assert_eq!(forced.decline(None, answer(false)), Err(Refusal::Forced));
    assert_eq!(forced.postpone(None, 1, at(0)), Err(Refusal::Forced));
}

#[test]
fn a_clock_that_was_set_opens_no_window_until_it_is_steady() {
    let mut policy = policy(Mode::Automatic, &["22:00-05:00"]);
    assert_eq!(
        policy.verdict(at(0)),
        Verdict::Wait(Why::Window, seconds(10 * HOUR))
    );
    let set = |up: u64| Now {
        unix: NOON + 10 * HOUR + up,
        up: Duration::from_secs(up),
    };
    assert_eq!(
        policy.verdict(set(60)),
        Verdict::Wait(Why::Clock, seconds(600))
    );
    assert_eq!(
        policy.verdict(set(360)),
        Verdict::Wait(Why::Clock, seconds(300))
    );
    assert_eq!(policy.verdict(set(660)), Verdict::Go);
}

#[test]
fn a_clock_behind_what_was_seen_is_believed_after_a_day() {
    let memory = Memory {
        latest: NOON + 365 * 24 * HOUR,
        ..Memory::default()
    };
    let mut policy = Policy::new(rules(Mode::Automatic, &["12:00-13:00"]), memory);
    assert_eq!(
        policy.verdict(at(0)),
        Verdict::Wait(Why::Clock, seconds(24 * HOUR))
    );
    for hour in 1..24 {
        let waits = policy.verdict(at(hour * HOUR));
        assert!(matches!(waits, Verdict::Wait(Why::Clock, _)), "{waits:?}");
    }
    assert_eq!(policy.verdict(at(24 * HOUR)), Verdict::Go);
    assert_eq!(policy.memory().latest, NOON + 24 * HOUR);
}

/// A vehicle is awake for an hour at a time, and its clock was a year ahead once.
#[test]
fn a_clock_behind_what_was_seen_is_believed_after_a_day_of_short_runs() {
    let mut memory = Memory {
        latest: NOON + 365 * 24 * HOUR,
        ..Memory::default()
    };
    let mut runs = 0;
    loop {
        let mut policy = Policy::new(rules(Mode::Automatic, &["00:00-24:00"]), memory);
        let now = |up: u64| Now {
            unix: NOON + runs * 2 * HOUR + up,
            up: Duration::from_secs(up),
        };
        let verdicts = [0, HOUR].map(|up| policy.verdict(now(up)));
        memory = policy.memory().clone();
        if verdicts[1] == Verdict::Go {
            break;
        }
        runs += 1;
        assert!(runs < 30, "{verdicts:?}");
    }
    assert_eq!(runs, 23);
    assert_eq!(memory.behind, None);
    // One that is set back again has to begin anew.
    memory.latest = NOON + 365 * 24 * HOUR;
    memory.behind = Some((NOON, 20 * HOUR));
    let before = Now {
        unix: NOON - HOUR,
        up: Duration::ZERO,
    };
    let mut policy = Policy::new(rules(Mode::Automatic, &["00:00-24:00"]), memory);
    let waits = Verdict::Wait(Why::Clock, seconds(24 * HOUR));
    assert_eq!(policy.verdict(before), waits);
}

#[test]
fn a_postponement_ends_although_the_clock_went_back_while_nothing_ran() {
    let mut policy = policy(Mode::Automatic, &[]);
    policy.postpone(None, HOUR, at(0)).unwrap();
    let mut later = Policy::new(rules(Mode::Automatic, &[]), policy.memory().clone());
    let now = |up: u64| Now {
        unix: 1000 + up,
        up: Duration::from_secs(up),
    };
    assert_eq!(
        later.verdict(now(0)),
        Verdict::Wait(Why::Postponed, seconds(HOUR))
    );
    assert_eq!(later.verdict(now(HOUR)), Verdict::Go);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Pass(u64),
    Set(u64),
    Consent(bool),
    Decline,
    Postpone(u64),
    Offer(bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3 * HOUR).prop_map(Step::Pass),
        (0u64..4_000_000_000).prop_map(Step::Set),
        any::<bool>().prop_map(Step::Consent),
        Just(Step::Decline),
        (0..30 * HOUR).prop_map(Step::Postpone),
        any::<bool>().prop_map(Step::Offer),
        Just(Step::Restart),
    ]
}

/// What must hold, kept beside the machine in the simplest way.
#[derive(Debug, Default)]
struct Model {
    campaign: String,
    consent: bool,
    declined: bool,
    postponements: u32,
    /// True time at which a postponement ends; unknown after a restart.
    until: Option<u64>,
}

proptest! {
    #[test]
    fn nothing_is_installed_against_an_answer(
        mode in prop::sample::select(vec![Mode::Automatic, Mode::Ask]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut policy = policy(mode, &[]);
        let mut model = Model { campaign: "spring".into(), ..Model::default() };
        let (mut true_time, mut clock) = (0, NOON);
        let mut started = 0;
        for step in steps {
            let now = Now { unix: clock, up: Duration::from_secs(true_time - started) };
            match step {
                Step::Pass(by) => (true_time, clock) = (true_time + by, clock + by),
                Step::Set(to) => clock = to,
                Step::Consent(anytime) => {
                    policy.consent(None, answer(anytime)).unwrap();
                    (model.consent, model.declined, model.until) = (true, false, None);
                }
                Step::Decline => {
                    policy.decline(None, answer(false)).unwrap();
                    (model.consent, model.declined, model.until) = (false, true, None);
                }
                Step::Postpone(by) => {
                    let allowed = by <= 24 * HOUR && model.postponements < 2;
                    prop_assert_eq!(policy.postpone(None, by, now).is_ok(), allowed);
                    if allowed {
                        model.postponements += 1;
                        (model.consent, model.until) = (false, Some(true_time + by));
                    }
                }
                Step::Offer(other) => {
                    let name = if other { "summer" } else { "spring" };
                    policy.offer(name, "1");
                    if model.campaign != name {
                        model = Model { campaign: name.into(), ..Model::default() };
                    }
                }
                Step::Restart => {
                    let text = serde_json::to_string(policy.memory()).unwrap();
                    let memory = serde_json::from_str(&text).unwrap();
                    policy = Policy::new(policy.rules().clone(), memory);
                    (started, model.until) = (true_time, None);
                }
            }
            let now = Now { unix: clock, up: Duration::from_secs(true_time - started) };
            let verdict = policy.verdict(now);
            let postponed = model.until.is_some_and(|until| true_time < until);
            match verdict {
                Verdict::Go => {
                    prop_assert!(mode == Mode::Automatic || model.consent);
                    prop_assert!(!model.declined && !postponed);
                }
                Verdict::Declined => prop_assert!(model.declined),
                Verdict::Wait(why, rest) => {
                    prop_assert!(rest.unwrap_or_default() <= Duration::from_secs(24 * HOUR));
                    // It does not wait for what is over.
                    let over = model.until.is_some_and(|until| until + JUMP_S < true_time);
                    prop_assert!(why != Why::Postponed || !over);
                }
            }
        }
    }
}

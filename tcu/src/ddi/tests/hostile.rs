//! Servers that say anything, in any order: the vehicle neither panics nor works without end.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::super::{Answer, Fate, Machine, Memory, Order};
use super::world::{ROOT, deployment, policy, root};

/// Documents that mean something, and some that do not.
fn document() -> impl Strategy<Value = Vec<u8>> {
    let id = prop::sample::select(vec!["7", "8", "9"]);
    let update = prop::sample::select(vec!["skip", "forced", "never"]);
    let links = prop::collection::vec(
        prop::sample::select(vec![
            "deploymentBase",
            "cancelAction",
            "confirmationBase",
            "configData",
        ]),
        0..5,
    );
    let sleep = prop::sample::select(vec!["00:00:00", "00:00:01", "99:59:59", "x"]);
    prop_oneof![
        (links, sleep).prop_map(|(links, sleep)| {
            let link = |name: &&str| {
                (
                    (*name).to_owned(),
                    json!({"href": format!("{ROOT}/{name}")}),
                )
            };
            let links: serde_json::Map<_, _> = links.iter().map(link).collect();
            json!({"config": {"polling": {"sleep": sleep}}, "_links": links}).to_string()
        }),
        (id.clone(), update).prop_map(|(id, update)| deployment(id, update).to_string()),
        (id.clone(), id).prop_map(|(id, stop)| {
            json!({"id": id, "cancelAction": {"stopId": stop}}).to_string()
        }),
        any::<String>(),
    ]
    .prop_map(String::into_bytes)
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        8 => document().prop_map(Answer::Document),
        1 => Just(Answer::Gone),
        1 => Just(Answer::Refused("no".into())),
        1 => any::<Option<u32>>().prop_map(|after| {
            Answer::Failed(after.map(|after| Duration::from_secs(after.into())))
        }),
    ]
}

fn fate() -> impl Strategy<Value = Option<Fate>> {
    let fates = vec![
        None,
        Some(Fate::Completed),
        Some(Fate::Failed("x".into())),
        Some(Fate::Unfinished {
            begun: true,
            why: "x".into(),
        }),
        Some(Fate::Unfinished {
            begun: false,
            why: "x".into(),
        }),
        Some(Fate::Prepared),
    ];
    prop::sample::select(fates)
}

proptest! {
    #[test]
    fn no_server_makes_the_vehicle_panic_or_run_two_campaigns_at_a_time(
        seed: u64,
        resumes: bool,
        script in prop::collection::vec((answer(), fate()), 1..300),
    ) {
        let start = Duration::ZERO;
        let resumes = resumes.then_some("spring");
        let mut machine = Machine::new(root(), policy(), Memory::default(), resumes, seed, start);
        let (mut now, mut runs) = (start, false);
        for (answer, fate) in script {
            // Between two things that happen nothing is asked without end.
            let mut steps = 0;
            loop {
                steps += 1;
                prop_assert!(steps < 50, "it never waits");
                match machine.next(now) {
                    Order::Send(_) => {
                        machine.on_answer(now, answer.clone());
                        break;
                    }
                    Order::Wait(until) if until == Duration::MAX => break,
                    Order::Wait(until) => now = until,
                    Order::Install(_) | Order::Prepare(_) | Order::Resume => {
                        prop_assert!(!runs, "two at a time");
                        runs = true;
                    }
                    Order::Abandon => prop_assert!(runs, "nothing runs"),
                    Order::Remember(_) | Order::Delivered(_) => {}
                }
            }
            if let Some(fate) = fate.filter(|_| runs) {
                runs = false;
                if matches!(fate, Fate::Unfinished { begun: true, .. }) {
                    machine.on_begun("spring");
                }
                machine.on_fate(now, fate);
            }
        }
    }

    #[test]
    fn a_poll_never_comes_sooner_than_the_bound(
        seed: u64,
        sleeps in prop::collection::vec("[0-9]{1,3}:[0-9]{2}:[0-9]{2}", 2..30),
    ) {
        let start = Duration::ZERO;
        let mut machine = Machine::new(root(), policy(), Memory::default(), None, seed, start);
        let (shortest, longest) = policy().bounds;
        let (mut now, mut last) = (start, None);
        for sleep in sleeps {
            while let Order::Wait(until) = machine.next(now) {
                now = until;
            }
            if let Some(last) = last {
                prop_assert!(now - last >= shortest && now - last <= longest.mul_f64(1.25));
            }
            last = Some(now);
            let document = json!({"config": {"polling": {"sleep": sleep}},
                "_links": {"confirmationBase": {"href": format!("{ROOT}/confirmationBase/1")}}});
            machine.on_answer(now, Answer::Document(document.to_string().into_bytes()));
            // It is confirmed, and asked for again at once.
            while let Order::Send(_) = machine.next(now) {
                machine.on_answer(now, Answer::Document(br#"{"id": 1}"#.to_vec()));
            }
        }
    }
}

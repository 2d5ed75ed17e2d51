//! One ECU: what each answer leads to.

use ecu_image::crypto::MacKey;
use ecu_image::keyset::{KeySetContent, KeyStatus, NewKey};
use ecu_image::provision::KeySetBytes;
use ecu_image::{Algorithm, KeySetVersion};
use uds::time::{Duration, Instant};

use super::{Action, Failure, Flash, Job, Outcome, Policy, RequestError, Step, Target, What};
use crate::testing::ecu::{ACCESS_KEY, FakeEcu, target};

/// What is answered instead of what the ECU says.
type Reply = Option<Result<Vec<u8>, RequestError>>;

/// Runs a job against an ECU; `tamper` may replace an answer.
fn run(
    ecu: &mut FakeEcu,
    job: Job,
    tamper: impl FnMut(&[u8]) -> Reply,
) -> (Result<Outcome, Failure>, Vec<String>) {
    run_with(ecu, job, target(1, 2), tamper)
}

fn run_with(
    ecu: &mut FakeEcu,
    job: Job,
    image: Target,
    mut tamper: impl FnMut(&[u8]) -> Reply,
) -> (Result<Outcome, Failure>, Vec<String>) {
    let key = MacKey::new(ACCESS_KEY);
    let mut flash = Flash::new(job, Some(image), key, Policy::default(), 1);
    // Long after the job before.
    let mut now = Instant::from_millis(1 + u64::from(ecu.requests) * 100_000);
    let mut sent = Vec::new();
    loop {
        let pdu = match flash.poll_action(now) {
            Action::Done(result) => return (result.clone(), sent),
            Action::Wait(until) => {
                now = until;
                continue;
            }
            Action::Idle => unreachable!("every request is answered at once"),
            Action::Request(pdu) => pdu.to_vec(),
        };
        let told = match pdu[0] {
            0x22 | 0x2E => 3,
            0x31 => 4,
            0x37 => 1,
            _ => 2,
        };
        sent.push(hex::encode(&pdu[..told]));
        assert!(sent.len() < 2000, "no end in sight");
        now = now + Duration::from_millis(1);
        let reply = tamper(&pdu).unwrap_or_else(|| match ecu.request(now, &pdu, None) {
            Some(answer) if answer[0] == 0x7F => Err(RequestError::Negative(answer[2])),
            Some(answer) => Ok(answer),
            None => Err(RequestError::Timeout),
        });
        flash.on_response(now, reply.as_deref().map_err(|error| *error));
    }
}

fn untampered(_: &[u8]) -> Reply {
    None
}

#[test]
fn staging_sends_the_sequence_of_the_profile() {
    let (result, sent) = run(&mut FakeEcu::new(), Job::Stage, untampered);
    assert!(result.is_ok());
    insta::assert_snapshot!(sent.join(" "), @"22fd01 1003 31010203 1002 2701 2702 2ef15a 22fd00 3400 3601 3602 37 3101ff00 3401 3601 3602 3603 3604 37 31010202 3101ff01 1101 22fd01 22fd01");
}

#[test]
fn a_key_set_is_sent_where_the_ecu_holds_an_older_one() {
    let sequence = |held, offered| {
        let mut ecu = FakeEcu::new();
        ecu.key_set = held;
        let image = Target {
            key_set: Some(key_set(offered)),
            ..target(1, 2)
        };
        let (result, sent) = run_with(&mut ecu, Job::Stage, image, untampered);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(ecu.key_set, held.max(offered));
        let from = sent.iter().position(|pdu| pdu == "22fd03").unwrap();
        sent[from..from + 5].join(" ")
    };
    insta::assert_snapshot!(sequence(1, 2), @"22fd03 3400 3601 37 22fd00");
    insta::assert_snapshot!(sequence(2, 2), @"22fd03 22fd00 3400 3601 3602");
    insta::assert_snapshot!(sequence(3, 2), @"22fd03 22fd00 3400 3601 3602");
}

/// A key set that nobody has signed: the ECU of these tests looks at the version alone.
fn key_set(version: u32) -> KeySetBytes {
    let content = KeySetContent {
        hardware_id: None,
        version: KeySetVersion(version),
        keys: vec![NewKey {
            algorithm: Algorithm::RsaPssSha256,
            status: KeyStatus::Active,
            bytes: vec![0xA5; 256],
        }],
    };
    content.build().unwrap().try_into().unwrap()
}

#[test]
fn activation_health_seal_and_revert_send_what_is_needed() {
    let mut ecu = FakeEcu::new();
    run(&mut ecu, Job::Stage, untampered).0.unwrap();
    let mut next = |job| {
        let (result, mut sent) = run(&mut ecu, job, untampered);
        result.unwrap();
        sent.dedup();
        sent.join(" ")
    };
    insta::assert_snapshot!(next(Job::Activate), @"22fd01 1003 1002 2701 2702 31010210 1101");
    insta::assert_snapshot!(next(Job::AwaitHealthy), @"22fd01 22f195");
    insta::assert_snapshot!(next(Job::Seal), @"22fd01 1003 2701 2702 31010212 22fd01 22f195");
    // Again: nothing is left to do.
    insta::assert_snapshot!(next(Job::Seal), @"22fd01 22f195");
    insta::assert_snapshot!(next(Job::Activate), @"22fd01");
    insta::assert_snapshot!(next(Job::Stage), @"22fd01");
    let sealed = run(&mut ecu, Job::Revert, untampered).0.unwrap_err();
    assert_eq!(sealed.what, What::AlreadySealed);
}

#[test]
fn a_staged_image_is_dropped_and_a_healthy_one_given_up() {
    let mut ecu = FakeEcu::new();
    run(&mut ecu, Job::Stage, untampered).0.unwrap();
    let (result, sent) = run(&mut ecu, Job::Revert, untampered);
    assert_eq!(result.unwrap().version.as_deref(), Some("1.0.0"));
    assert!(sent.contains(&"31010213".to_owned()));
    for job in [Job::Stage, Job::Activate, Job::AwaitHealthy, Job::Revert] {
        run(&mut ecu, job, untampered).0.unwrap();
    }
    assert_eq!(ecu.runs().0, crate::testing::ecu::OLD);
}

#[test]
fn an_unlocked_ecu_needs_no_key() {
    let zeros = |pdu: &[u8]| (pdu == [0x27, 0x01]).then(|| Ok([&[0x67, 1][..], &[0; 16]].concat()));
    let mut ecu = FakeEcu::new();
    let (_, sent) = run(&mut ecu, Job::Stage, |pdu| zeros(pdu));
    assert!(!sent.contains(&"2702".to_owned()));
}

#[test]
fn a_wrong_key_is_tried_once() {
    let (result, sent) = run(&mut FakeEcu::new(), Job::Stage, |pdu| {
        pdu.starts_with(&[0x27, 2])
            .then_some(Err(RequestError::Negative(0x35)))
    });
    let failure = result.unwrap_err();
    assert_eq!(failure.step, Step::SendKey);
    assert_eq!(failure.what, What::Request(RequestError::Negative(0x35)));
    assert!(!failure.touched);
    assert_eq!(sent.iter().filter(|pdu| *pdu == "2702").count(), 1);
}

/// Somebody's wrong keys before: the ECU's delay is waited for in the session, without a reset,
/// and not for ever.
#[test]
fn the_delay_of_an_ecu_is_waited_for() {
    let delayed = |times: u32| {
        let mut left = times;
        move |pdu: &[u8]| {
            let refuse = pdu == [0x27, 1] && left > 0;
            left -= u32::from(refuse);
            refuse.then_some(Err(RequestError::Negative(0x37)))
        }
    };
    let mut ecu = FakeEcu::new();
    ecu.never_times_out = true;
    let (result, sent) = run(&mut ecu, Job::Stage, delayed(30));
    result.unwrap();
    let seeds = sent.iter().filter(|pdu| *pdu == "2701").count();
    assert_eq!(seeds, 31);
    assert_eq!(sent.iter().filter(|pdu| *pdu == "1002").count(), 1);
    let (result, _) = run(&mut FakeEcu::new(), Job::Stage, delayed(u32::MAX));
    let failure = result.unwrap_err();
    assert_eq!(failure.what, What::Request(RequestError::Negative(0x37)));
}

#[test]
fn an_ecu_that_starts_is_asked_again_and_not_taken_for_one_in_recovery() {
    let status = |reason: u8| {
        let mut record = vec![0x62, 0xFD, 0x01, 1, 0, 0xFF, reason];
        record.resize(3 + 84, 0);
        record
    };
    let mut looks = 0;
    let (result, sent) = run(&mut FakeEcu::new(), Job::Stage, |pdu| {
        looks += u32::from(pdu == [0x22, 0xFD, 1]);
        (pdu == [0x22, 0xFD, 1] && looks <= 3).then(|| Ok(status(7)))
    });
    result.unwrap();
    assert_eq!(sent[..5], ["22fd01", "22fd01", "22fd01", "22fd01", "1003"]);
    // One in recovery has nothing to revert: it is believed at once.
    let (result, sent) = run(&mut FakeEcu::new(), Job::Revert, |pdu| {
        (pdu == [0x22, 0xFD, 1]).then(|| Ok(status(6)))
    });
    result.unwrap();
    assert_eq!(sent, ["22fd01", "22f195"]);
    // One that never gets further has not come back.
    let (result, sent) = run(&mut FakeEcu::new(), Job::Revert, |pdu| {
        (pdu == [0x22, 0xFD, 1]).then(|| Ok(status(7)))
    });
    assert!(matches!(result.unwrap_err().what, What::WrongContent(_)));
    assert!(sent.iter().all(|pdu| pdu == "22fd01"));
}

#[test]
fn silence_is_waited_for_and_given_up_after_that() {
    let silent = |job| {
        let (result, sent) = run(&mut FakeEcu::new(), job, |_| {
            Some(Err(RequestError::Timeout))
        });
        let timeout = What::Request(RequestError::Timeout);
        assert_eq!(result.unwrap_err().what, timeout);
        sent.len()
    };
    // 30 s of half seconds, and then the attempts.
    let waited = silent(Job::Stage);
    assert!((50..70).contains(&waited), "{waited}");
    assert_eq!(silent(Job::Inventory), 3);
}

#[test]
fn a_page_that_fails_is_sent_again_and_refused_metadata_is_not() {
    let mut failures = 1;
    let (result, _) = run(&mut FakeEcu::new(), Job::Stage, |pdu| {
        let fails = pdu.starts_with(&[0x36, 3]) && failures > 0;
        failures -= u32::from(fails);
        fails.then_some(Err(RequestError::Negative(0x72)))
    });
    assert!(result.is_ok());
    let (result, sent) = run(&mut FakeEcu::new(), Job::Stage, |pdu| {
        (pdu == [0x37]).then_some(Err(RequestError::Negative(0x72)))
    });
    let failure = result.unwrap_err();
    assert_eq!(failure.step, Step::MetadataExit);
    let reason = What::ProgrammingFailure {
        reason: 42,
        detail: 1,
    };
    assert_eq!(failure.what, reason);
    assert!(failure.touched);
    assert_eq!(sent.iter().filter(|pdu| *pdu == "37").count(), 1);
}

/// A reset between two blocks, while the link was down: the application answers the next one.
#[test]
fn a_programming_session_that_is_gone_is_entered_again() {
    for code in [0x11, 0x12, 0x31] {
        let mut gone = false;
        let (result, sent) = run(&mut FakeEcu::new(), Job::Stage, |pdu| {
            let first = pdu[0] == 0x36 && !std::mem::replace(&mut gone, true);
            first.then_some(Err(RequestError::Negative(code)))
        });
        result.unwrap();
        assert_eq!(sent.iter().filter(|pdu| *pdu == "1002").count(), 2);
    }
    // What answers so before there was one has no bootloader.
    let (result, sent) = run(&mut FakeEcu::new(), Job::Stage, |pdu| {
        (pdu == [0x10, 0x02]).then_some(Err(RequestError::Negative(0x11)))
    });
    let failure = result.unwrap_err();
    assert_eq!(failure.what, What::Request(RequestError::Negative(0x11)));
    assert_eq!(sent.iter().filter(|pdu| *pdu == "1002").count(), 1);
}

/// One that is starting is waited for, one that knows no such routine is not asked twice; no ECU is
/// asked for anything else.
#[test]
fn a_report_is_asked_for_by_its_nonce_and_nothing_else() {
    let mut starting = true;
    let (result, sent) = run(&mut FakeEcu::new(), Job::Report, |pdu| match pdu {
        [0x22, 0xFD, 1] if std::mem::take(&mut starting) => {
            let mut status = vec![0x62, 0xFD, 1, 1, 0, 0xFF, 7];
            status.resize(87, 0);
            Some(Ok(status))
        }
        [0x31, 1, 2, 0x14, nonce @ ..] => {
            assert_eq!(nonce, Policy::default().nonce);
            Some(Ok([&[0x71, 1, 2, 0x14, 0][..], &[9; 144]].concat()))
        }
        _ => None,
    });
    assert_eq!(result.unwrap().report, Some(Box::new([9; 144])));
    assert_eq!(sent, ["22fd01", "22fd01", "31010214"]);
    let (result, sent) = run(&mut FakeEcu::new(), Job::Report, |pdu| {
        (pdu[0] == 0x31).then_some(Err(RequestError::Negative(0x31)))
    });
    let failure = result.unwrap_err();
    assert_eq!(failure.step, Step::Report);
    assert!(!failure.touched);
    assert_eq!(sent, ["22fd01", "31010214"]);
    for answer in [&[0x71, 1, 2, 0x14, 0][..], &[0x71, 1, 2, 0x14, 1]] {
        let answer = [answer, &vec![9; 144 - usize::from(answer[4] == 0)]].concat();
        let (result, _) = run(&mut FakeEcu::new(), Job::Report, |pdu| {
            (pdu[0] == 0x31).then(|| Ok(answer.clone()))
        });
        assert!(matches!(result.unwrap_err().what, What::WrongContent(_)));
    }
}

#[test]
fn malformed_answers_are_wrong_content() {
    let answers: [(&[u8], &[u8]); 6] = [
        (&[0x22, 0xFD, 0x01], &[0x62, 0xFD, 0x01, 1]),
        (&[0x22, 0xFD, 0x00], &[0x62, 0xFD, 0x00]),
        (&[0x31, 0x01, 0x02, 0x03], &[0x71, 1, 2, 3]),
        (&[0x34], &[0x74, 0x20, 0, 2]),
        (&[0x34], &[0x74]),
        (&[0x36], &[0x76, 0xAA]),
    ];
    for (request, answer) in answers {
        let (result, _) = run(&mut FakeEcu::new(), Job::Stage, |pdu| {
            pdu.starts_with(request).then(|| Ok(answer.to_vec()))
        });
        let failure = result.unwrap_err();
        assert!(
            matches!(failure.what, What::WrongContent(_)),
            "{answer:02X?}: {failure}"
        );
    }
}

#[test]
fn unmet_preconditions_are_named() {
    let (result, _) = run(&mut FakeEcu::new(), Job::Precheck, |pdu| {
        (pdu == [0x31, 1, 2, 3]).then(|| Ok(vec![0x71, 1, 2, 3, 0b011]))
    });
    let failure = result.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "preconditions: unmet: standstill, supply voltage"
    );
    assert!(!failure.touched);
}

#[test]
fn a_cancelled_job_ends_after_the_request_under_way() {
    let key = MacKey::new(ACCESS_KEY);
    let mut flash = Flash::new(Job::Stage, Some(target(1, 2)), key, Policy::default(), 1);
    let now = Instant::ZERO;
    assert!(matches!(flash.poll_action(now), Action::Request(_)));
    flash.cancel();
    assert_eq!(flash.poll_action(now), Action::Idle);
    flash.on_response(now, Err(RequestError::Timeout));
    let Action::Done(Err(failure)) = flash.poll_action(now) else {
        panic!("it goes on");
    };
    assert_eq!(failure.what, What::Cancelled);
}

#[test]
fn an_image_file_that_ends_early_is_a_failure_of_its_own() {
    let mut image = target(1, 2);
    image.packed.as_mut().unwrap().page_count = 3;
    let key = MacKey::new(ACCESS_KEY);
    let mut flash = Flash::new(Job::Stage, Some(image), key, Policy::default(), 1);
    let mut ecu = FakeEcu::new();
    let mut now = Instant::ZERO;
    let failure = loop {
        match flash.poll_action(now) {
            Action::Request(pdu) => {
                let pdu = pdu.to_vec();
                now = now + Duration::from_millis(1);
                let answer = ecu.request(now, &pdu, None).unwrap();
                flash.on_response(now, Ok(&answer));
            }
            Action::Done(result) => break result.clone().unwrap_err(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failure.step, Step::PayloadBlock);
    assert!(matches!(failure.what, What::Source(_)));
}

#[test]
fn an_interrupted_download_resumes_at_the_offset_of_the_ecu() {
    let mut ecu = FakeEcu::new();
    let mut blocks = 0;
    let (result, sent) = run(&mut ecu, Job::Stage, |pdu| {
        blocks += u32::from(pdu.starts_with(&[0x36]));
        // Two blocks of metadata, two of the first page, then the link is down.
        (blocks == 5).then_some(Err(RequestError::Transport))
    });
    assert!(result.is_err(), "{sent:?}");
    ecu.restart(Instant::ZERO);
    let (result, sent) = run(&mut ecu, Job::Stage, untampered);
    result.unwrap();
    assert!(!sent.contains(&"3101ff00".to_owned()), "{sent:?}");
    assert_eq!(sent.iter().filter(|pdu| pdu.starts_with("36")).count(), 2);
}

/// An ECU that takes a quarter of an hour for every answer comes forward, and is given up.
#[test]
fn a_job_that_crawls_ends() {
    let mut ecu = FakeEcu::new();
    let image = Some(target(1, 2));
    let policy = Policy::default();
    let limit = Instant::from_millis(1) + policy.job_time;
    let mut flash = Flash::new(Job::Stage, image, MacKey::new(ACCESS_KEY), policy, 1);
    let mut now = Instant::from_millis(1);
    let failure = loop {
        let pdu = match flash.poll_action(now) {
            Action::Done(result) => break result.clone().unwrap_err(),
            Action::Wait(until) => {
                now = until;
                continue;
            }
            Action::Idle => unreachable!("every request is answered at once"),
            Action::Request(pdu) => pdu.to_vec(),
        };
        // The ECU keeps its session: its own clock hardly moves.
        let answer = ecu.request(Instant::from_millis(1), &pdu, None);
        let answer = answer.expect("an answer");
        now = now + Duration::from_secs(900);
        flash.on_response(now, Ok(&answer));
    };
    assert_eq!(
        (failure.what, failure.step),
        (What::Overdue, Step::MetadataDownload)
    );
    assert_eq!(now, limit);
}

//! Expiry is judged by what the director attests, or what is known: set back clocks and frozen mirrors.

use std::fs;

use crate::common::*;
use campaign::{
    Trust, UnixTime, Verification, VerifyError,
    error::DocumentFault,
    meta::KeyPolicy,
    time::{Nonce, TimeFault, TimeSource},
    vehicle::Vehicle,
};
use oem::{
    publish,
    revoke::revoke,
    root::{self, Which},
    rotate::{Rotated, rotate},
    time,
};

const NONCE: Nonce = Nonce([0x5A; 16]);

fn released() -> Desk {
    let desk = Desk::new();
    desk.release("spring", &[desk.pack("hw-a", "1.2.3", 4)])
        .unwrap();
    desk
}

fn pinned(desk: &Desk) -> Trust {
    Trust::from_json(&fs::read(desk.path("out/root.json")).unwrap()).unwrap()
}

/// A refresh at `clock`; the director answers with the attestation, or not at all. The time's source,
/// and the trust to store in either case.
fn refresh(
    desk: &Desk,
    trust: &Trust,
    clock: UnixTime,
    answer: Option<&[u8]>,
) -> (Result<TimeSource, VerifyError>, Trust) {
    let vehicle = Vehicle::from_json(&fs::read(desk.path("out/vehicle.json")).unwrap()).unwrap();
    let trust = trust.clone().with_policy(KeyPolicy { rsa_min_bits: 2048 });
    let verification = Verification::new(&trust, &vehicle, clock).unwrap();
    let mut verification = verification.asking_for_time(NONCE);
    while let Some(wanted) = verification.wanted() {
        let file = fs::read(desk.repo_dir().join(&wanted.path)).ok();
        let is_time = wanted.path == campaign::layout::time_path(&NONCE);
        let bytes = if is_time { answer } else { file.as_deref() };
        if let Err(error) = verification.on_document(bytes) {
            return (Err(error), verification.trust().clone());
        }
    }
    let source = verification.judged().source;
    let (_, trust) = verification.finish().unwrap();
    (Ok(source), trust)
}

fn attested(desk: &Desk, time: UnixTime) -> Vec<u8> {
    time::attest(&desk.repo_dir(), &NONCE, time).unwrap()
}

fn is_expired(result: &Result<TimeSource, VerifyError>) -> bool {
    matches!(result, Err(VerifyError::Document { refusal, .. })
        if matches!(refusal.fault, DocumentFault::Expired { .. }))
}

/// The mirror shows what was good 8 days ago, and the vehicle's clock was set back so that it still is.
#[test]
fn a_frozen_mirror_is_seen_though_the_clock_was_set_back() {
    let desk = released();
    let later = now().plus_days(8);
    let (result, trust) = refresh(&desk, &pinned(&desk), now(), Some(&attested(&desk, later)));
    assert!(is_expired(&result), "{result:?}");
    // The director cannot be asked any more: the time that was attested is known still.
    assert_eq!(trust.known_time().time(), later);
    let trust = Trust::from_json(&trust.to_json().unwrap()).unwrap();
    let (result, _) = refresh(&desk, &trust, now(), None);
    assert!(is_expired(&result), "{result:?}");
    publish::refresh(&desk.repo(), later).unwrap();
    let (result, _) = refresh(&desk, &trust, now(), None);
    assert_eq!(result.unwrap(), TimeSource::Known);
}

#[test]
fn what_the_director_attests_counts_and_not_the_clock() {
    let desk = released();
    for clock in [UnixTime::from_secs(0), now().plus_days(3000)] {
        let answer = attested(&desk, now());
        let (result, trust) = refresh(&desk, &pinned(&desk), clock, Some(&answer));
        assert_eq!(result.unwrap(), TimeSource::Attested);
        assert_eq!(trust.known_time().time(), now());
    }
}

/// A static repository attests nothing, but its timestamp says when it was issued.
#[test]
fn a_timestamp_bounds_the_time_of_static_repositories() {
    let desk = released();
    let (result, trust) = refresh(&desk, &pinned(&desk), now(), None);
    assert_eq!(result.unwrap(), TimeSource::Clock);
    assert_eq!(trust.known_time().time(), now());
    let stored = Trust::from_json(&trust.to_json().unwrap()).unwrap();
    let (result, _) = refresh(&desk, &stored, UnixTime::from_secs(0), None);
    assert_eq!(result.unwrap(), TimeSource::Known);
}

#[test]
fn a_replayed_attestation_is_refused() {
    let desk = released();
    let old = time::attest(&desk.repo_dir(), &Nonce([1; 16]), now()).unwrap();
    let (result, trust) = refresh(&desk, &pinned(&desk), now(), Some(&old));
    assert_eq!(result, Err(VerifyError::Time(TimeFault::Nonce)));
    assert_eq!(trust.known_time(), pinned(&desk).known_time());
}

#[test]
fn a_new_time_key_is_believed_and_the_old_one_no_longer() {
    let desk = released();
    let old = attested(&desk, now());
    rotate(&desk.repo(), Rotated::DirectorTime, now()).unwrap();
    let (result, _) = refresh(&desk, &pinned(&desk), now(), Some(&old));
    assert!(matches!(
        result,
        Err(VerifyError::Time(TimeFault::Signatures(_)))
    ));
    let before = attested(&desk, now());
    let (root, _) = root::newest(&desk.repo(), Which::Director.into()).unwrap();
    let key = root.time_keys().unwrap().keyids()[0].as_str().to_owned();
    revoke(&desk.repo(), &key, None, now()).unwrap();
    let (result, _) = refresh(&desk, &pinned(&desk), now(), Some(&before));
    assert!(matches!(
        result,
        Err(VerifyError::Time(TimeFault::Signatures(_)))
    ));
    let (result, _) = refresh(&desk, &pinned(&desk), now(), Some(&attested(&desk, now())));
    assert_eq!(result.unwrap(), TimeSource::Attested);
}

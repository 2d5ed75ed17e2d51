//! The whole transaction against test ECUs in virtual time, with faults and kills.

mod given_up;
mod lost;
mod questions;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uds::time::{Duration, Instant};

use crate::engine::{CampaignState, Permit, Record};
use crate::flash::{Job, Step, What};
use crate::testing::ecu::{Application, Fault, PAGE};
use crate::testing::world::{Ended, World};

fn no_faults(_: usize, _: &[u8], _: u32) -> Option<Fault> {
    None
}

/// Lets the TCU run again until it ends without being killed.
fn finish(world: &mut World) -> CampaignState {
    match world.run(None, &mut no_faults) {
        Ended::Finished(state) => state,
        Ended::Killed => unreachable!("nobody kills it"),
    }
}

#[test]
fn all_ecus_end_sealed() {
    let mut world = World::new(4);
    assert_eq!(finish(&mut world), CampaignState::Completed);
    assert!(world.all_new());
    for (ecu, target) in world.ecus.iter().zip(&world.targets) {
        let packed = target.packed.as_ref().unwrap();
        let mut pages = vec![0; packed.payload_len() as usize];
        packed.source.read(600, &mut pages).unwrap();
        assert_eq!(ecu.pages, pages);
        assert_eq!(
            ecu.bytes_received,
            u64::from(3 * PAGE),
            "nothing is sent twice"
        );
    }
    let quiet = |bus| {
        let of_bus = world.functional.iter().filter(|(other, _)| *other == bus);
        of_bus.map(|(_, pdu)| pdu.clone()).collect::<Vec<_>>()
    };
    for bus in 0..2 {
        let sent = quiet(bus);
        assert_eq!(sent[..3], ["1083", "8582", "288301"]);
        assert_eq!(sent[sent.len() - 2..], ["288001", "8581"]);
    }
}

#[test]
fn staging_in_parallel_on_one_bus_ends_the_same() {
    let mut world = World::new(6);
    world.parallel = 3;
    assert_eq!(finish(&mut world), CampaignState::Completed);
    assert!(world.all_new());
}

#[test]
fn a_kill_at_any_record_changes_nothing_about_the_end() {
    let mut reference = World::new(3);
    finish(&mut reference);
    for at in 0..reference.records.len() {
        for durable in [false, true] {
            for pause in [0, 30] {
                let mut world = World::new(3);
                assert_eq!(
                    world.run(Some((at, durable)), &mut no_faults),
                    Ended::Killed
                );
                world.now = world.now + Duration::from_secs(pause);
                if !world.committed() {
                    let sealed = world.ecus.iter().any(|ecu| {
                        ecu.runs().1 == crate::profile::SlotState::Sealed
                            && ecu.runs().0 != crate::testing::ecu::OLD
                    });
                    assert!(!sealed, "sealed before COMMIT, killed at {at}");
                }
                assert_eq!(
                    finish(&mut world),
                    CampaignState::Completed,
                    "killed at {at}"
                );
                assert!(world.all_new(), "killed at {at}, durable {durable}");
            }
        }
    }
}

const NOTHING: Permit = Permit {
    stage: false,
    activate: false,
};

/// Whether a request would make an ECU leave its application or run another image.
fn disturbs(request: &[u8]) -> bool {
    [&[0x10, 0x02][..], &[0x34], &[0x31, 0x01, 0x02, 0x10]]
        .iter()
        .any(|first| request.starts_with(first))
}

#[test]
fn a_pause_at_any_moment_loses_at_most_a_page_and_changes_nothing_about_the_end() {
    let mut reference = World::new(3);
    finish(&mut reference);
    let end = reference.now.saturating_since(Instant::ZERO).as_micros();
    let end = u64::try_from(end / 1000).unwrap();
    for at in (0..end).step_by(5).map(Instant::from_millis) {
        let mut world = World::new(3);
        let resumed = at + Duration::from_secs(60);
        world.permits = [(at, NOTHING), (resumed, Permit::ALL)].into();
        let ended = finish(&mut world);
        assert_eq!(
            ended,
            CampaignState::Completed,
            "{at:?} {:?}",
            world.records
        );
        assert!(world.all_new(), "{at:?}");
        for ecu in &world.ecus {
            assert!(ecu.bytes_received <= u64::from(4 * PAGE), "{at:?}");
        }
        // What had begun may end: the request under way, or an activation with its reset.
        let rest = at + Duration::from_millis(100);
        let mut while_paused = world.requests.iter();
        let disturbed =
            while_paused.find(|(when, _, pdu)| rest < *when && *when < resumed && disturbs(pdu));
        assert_eq!(disturbed, None, "{at:?}");
    }
}

#[test]
fn a_stop_at_any_moment_loses_at_most_a_page_and_changes_nothing_about_the_end() {
    let mut reference = World::new(3);
    finish(&mut reference);
    let end = reference.now.saturating_since(Instant::ZERO).as_micros();
    let end = u64::try_from(end / 1000).unwrap();
    for at in (0..end).map(Instant::from_millis) {
        for pause in [0, 30] {
            let mut world = World::new(3);
            world.stop_at = Some(at);
            assert_eq!(world.run(None, &mut no_faults), Ended::Killed, "{at:?}");
            world.now = world.now + Duration::from_secs(pause);
            assert_eq!(finish(&mut world), CampaignState::Completed, "{at:?}");
            assert!(world.all_new(), "{at:?}");
            for ecu in &world.ecus {
                assert!(ecu.bytes_received <= u64::from(4 * PAGE), "{at:?}");
            }
        }
    }
}

#[test]
fn a_cancellation_at_any_moment_leaves_all_new_or_all_old() {
    let mut reference = World::new(2);
    finish(&mut reference);
    let end = reference.now.saturating_since(Instant::ZERO).as_millis();
    let end = u64::try_from(end).unwrap();
    let (mut reverted, mut completed) = (0, 0);
    for at in (0..=end).map(Instant::from_millis) {
        let mut world = World::new(2);
        world.cancel_at = Some(at);
        match world.run(None, &mut no_faults) {
            Ended::Finished(CampaignState::Completed) => {
                completed += 1;
                assert!(world.committed() && world.all_new(), "{at:?}");
            }
            Ended::Finished(CampaignState::Reverted) => {
                reverted += 1;
                assert!(!world.committed() && world.all_old(), "{at:?}");
            }
            other => panic!("{at:?}: {other:?}"),
        }
    }
    assert!(reverted > 50 && completed > 5, "{reverted}, {completed}");
}

/// A record that finds no room is not there, and nothing that it announces happens. With room again
/// the campaign goes on.
#[test]
fn a_disk_that_is_full_at_any_record_is_waited_for() {
    let mut reference = World::new(2);
    finish(&mut reference);
    for at in 0..reference.records.len() {
        let mut world = World::new(2);
        for _ in 0..3 {
            let ended = world.run(Some((at, false)), &mut no_faults);
            assert_eq!(ended, Ended::Killed, "{at}");
            assert_eq!(world.records.len(), at, "no record of what had no room");
        }
        assert_eq!(finish(&mut world), CampaignState::Completed, "{at}");
        assert!(world.all_new(), "{at}");
    }
}

#[test]
fn while_staging_rests_the_buses_carry_their_normal_traffic() {
    let mut world = World::new(2);
    let (at, resumed) = (Instant::from_millis(150), Instant::from_millis(60_000));
    world.permits = [(at, NOTHING), (resumed, Permit::ALL)].into();
    world.run(None, &mut |_, _, _| None);
    let of_bus = world.functional.iter().filter(|(bus, _)| *bus == 0);
    let sent: Vec<&str> = of_bus.map(|(_, pdu)| pdu.as_str()).collect();
    let quiet_and_wake = ["1083", "8582", "288301", "288001", "8581"];
    assert_eq!(sent, [quiet_and_wake, quiet_and_wake].concat());
}

/// While driving staging takes its share of each bus and no more, and it still comes to its end.
#[test]
fn staging_while_driving_takes_its_share_of_a_bus() {
    let mut world = World::new(3);
    world.driving_share = Some(20);
    let driving = Permit {
        stage: true,
        activate: false,
    };
    let parked = Instant::from_millis(60_000);
    world.permits = [(Instant::ZERO, driving), (parked, Permit::ALL)].into();
    assert_eq!(
        world.run(None, &mut |_, _, _| None),
        Ended::Finished(CampaignState::Completed)
    );
    for bus in 0..2 {
        let blocks = world.requests.iter();
        let blocks = blocks.filter(|(_, ecu, pdu)| ecu % 2 == bus && pdu[0] == 0x36);
        let times: Vec<Instant> = blocks.map(|(at, ..)| *at).collect();
        assert!(times.len() > 5 && times[times.len() - 1] < parked);
        // A block takes 1 ms here, so the next one comes 5 ms later at the soonest.
        for pair in times.windows(2) {
            let gap = pair[1].saturating_since(pair[0]);
            assert!(gap >= Duration::from_millis(5), "{pair:?}");
        }
    }
    let mut fast = World::new(3);
    fast.run(None, &mut |_, _, _| None);
    assert!(fast.now < parked, "parked it takes what it needs");
}

/// The first bytes of a request at which ECU 1 fails for good, and the step that is reported.
const REFUSALS: [(&[u8], u8, Step); 12] = [
    (&[0x10, 0x03], 0x22, Step::ExtendedSession),
    (&[0x10, 0x02], 0x22, Step::ProgrammingSession),
    (&[0x27, 0x02], 0x35, Step::SendKey),
    (&[0x2E], 0x31, Step::Fingerprint),
    (&[0x34, 0x00], 0x70, Step::MetadataDownload),
    (&[0x36], 0x72, Step::MetadataBlock),
    (&[0x37], 0x72, Step::MetadataExit),
    (&[0x31, 0x01, 0xFF, 0x00], 0x72, Step::Erase),
    (&[0x34, 0x01], 0x70, Step::PayloadDownload),
    (&[0x31, 0x01, 0x02, 0x02], 0x72, Step::Check),
    (&[0x31, 0x01, 0xFF, 0x01], 0x72, Step::Dependencies),
    (&[0x31, 0x01, 0x02, 0x10], 0x22, Step::Activate),
];

/// Refuses once the refusal applies and until something else is asked: reverting must go through.
fn refusing(first: &'static [u8], code: u8) -> impl FnMut(usize, &[u8], u32) -> Option<Fault> {
    let mut staging = true;
    move |ecu, pdu, _| {
        staging &= !pdu.starts_with(&[0x31, 0x01, 0x02, 0x13]);
        let early = first.starts_with(&[0x10]) || first.starts_with(&[0x27]);
        (ecu == 1 && staging && pdu.starts_with(first) && (!early || code != 0))
            .then_some(Fault::Refuse(code))
    }
}

#[test]
fn a_refusal_at_any_step_reverts_all() {
    for (first, code, step) in REFUSALS {
        let mut world = World::new(3);
        let ended = world.run(None, &mut refusing(first, code));
        assert_eq!(ended, Ended::Finished(CampaignState::Reverted), "{step}");
        assert!(world.all_old(), "{step}");
        assert!(!world.committed());
        let failed = world.records.iter().find_map(|record| match record {
            Record::End {
                ecu: 1,
                result: Err(failure),
                ..
            } => Some(failure.clone()),
            _ => None,
        });
        let failure = failed.unwrap();
        assert_eq!(failure.step, step);
        if code == 0x72 {
            let reason = What::ProgrammingFailure {
                reason: 42,
                detail: 1,
            };
            assert_eq!(failure.what, reason);
        }
    }
}

#[test]
fn a_kill_at_any_record_of_a_revert_ends_on_the_old_images() {
    let faults = || refusing(&[0x31, 0x01, 0x02, 0x10], 0x22);
    let mut reference = World::new(3);
    reference.run(None, &mut faults());
    for at in 0..reference.records.len() {
        for durable in [false, true] {
            let mut world = World::new(3);
            world.run(Some((at, durable)), &mut faults());
            let ended = world.run(None, &mut faults());
            assert_eq!(
                ended,
                Ended::Finished(CampaignState::Reverted),
                "killed at {at}"
            );
            assert!(world.all_old(), "killed at {at}, durable {durable}");
        }
    }
}

#[test]
fn an_image_that_crashes_or_hangs_reverts_all() {
    for application in [Application::Crashes, Application::Hangs] {
        let mut world = World::new(3);
        world.ecus[2].application = application;
        assert_eq!(finish(&mut world), CampaignState::Reverted);
        assert!(world.all_old(), "{application:?}");
        let reasons = world.records.iter().filter_map(|record| match record {
            Record::End {
                result: Err(failure),
                ..
            } => Some(failure.what.clone()),
            _ => None,
        });
        let reasons: Vec<_> = reasons.filter(|what| *what != What::Cancelled).collect();
        assert!(matches!(reasons[..], [What::FellBack(_)]), "{reasons:?}");
    }
}

#[test]
fn an_ecu_that_vanishes_before_it_is_touched_does_not_hold_up_the_others() {
    let mut world = World::new(3);
    world.ecus[1].dead = true;
    assert_eq!(finish(&mut world), CampaignState::Reverted);
    assert!(world.all_old());
}

#[test]
fn an_ecu_that_vanishes_after_commit_leaves_the_vehicle_incomplete_until_it_returns() {
    let mut world = World::new(3);
    let mut reference = World::new(3);
    finish(&mut reference);
    let commit = reference
        .records
        .iter()
        .position(|record| *record == Record::Commit);
    assert_eq!(
        world.run(Some((commit.unwrap(), true)), &mut no_faults),
        Ended::Killed
    );
    world.ecus[0].dead = true;
    assert_eq!(finish(&mut world), CampaignState::Incomplete);
    world.ecus[0].dead = false;
    assert_eq!(finish(&mut world), CampaignState::Completed);
    assert!(world.all_new());
}

#[test]
fn an_ecu_that_vanishes_while_reverting_leaves_the_vehicle_incomplete_until_it_returns() {
    let mut world = World::new(3);
    let mut reference = World::new(3);
    reference.ecus[1].application = Application::Crashes;
    finish(&mut reference);
    let revert = reference
        .records
        .iter()
        .position(|record| *record == Record::Revert);
    world.ecus[1].application = Application::Crashes;
    assert_eq!(
        world.run(Some((revert.unwrap(), true)), &mut no_faults),
        Ended::Killed
    );
    world.ecus[0].dead = true;
    assert_eq!(finish(&mut world), CampaignState::Incomplete);
    world.ecus[0].dead = false;
    assert_eq!(finish(&mut world), CampaignState::Reverted);
    assert!(world.all_old());
}

#[test]
fn a_restarted_ecu_gets_only_what_it_lacks() {
    let mut world = World::new(1);
    let mut blocks = 0;
    let ended = world.run(None, &mut |_, pdu, _| {
        blocks += u32::from(pdu[0] == 0x36);
        // In the middle of the second page, before its second block.
        (pdu[0] == 0x36 && blocks == 6).then_some(Fault::Restart)
    });
    assert_eq!(ended, Ended::Finished(CampaignState::Completed));
    let resent = world.ecus[0].bytes_received - u64::from(3 * PAGE);
    assert!(resent <= u64::from(PAGE), "{resent} bytes sent again");
}

#[test]
fn seeded_faults_and_kills_leave_all_new_or_all_old() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(3);
        world.seed = seed;
        world.parallel = rng.random_range(1..=2);
        if rng.random_bool(0.2) {
            world.ecus[rng.random_range(0..3)].application = Application::Crashes;
        }
        for _ in 0..rng.random_range(0..4) {
            let rate = rng.random_range(0.0..0.08);
            let kill = (
                world.records.len() + rng.random_range(0..15),
                rng.random_bool(0.5),
            );
            world.run(Some(kill), &mut |_, _, _| {
                rng.random_bool(rate).then(|| match rng.random_range(0..5) {
                    0 => Fault::LostRequest,
                    1 => Fault::LostResponse,
                    2 => Fault::Restart,
                    3 => Fault::Refuse(0x21),
                    _ => Fault::Refuse(0x22),
                })
            });
        }
        let state = finish(&mut world);
        let jobs = || {
            world
                .records
                .iter()
                .map(|record| format!("{record:?}"))
                .collect::<Vec<_>>()
        };
        if world.committed() {
            assert_eq!(state, CampaignState::Completed, "seed {seed} {:#?}", jobs());
            assert!(world.all_new(), "seed {seed}");
        } else {
            assert_eq!(state, CampaignState::Reverted, "seed {seed} {:#?}", jobs());
            assert!(world.all_old(), "seed {seed} {:#?}", world.ecus);
        }
    }
}

#[test]
fn jobs_are_announced_before_they_start() {
    let mut world = World::new(2);
    finish(&mut world);
    let mut open = [None; 2];
    for record in &world.records {
        match record {
            Record::Start { ecu, job } => open[*ecu] = Some(*job),
            Record::End { ecu, job, .. } => assert_eq!(open[*ecu].take(), Some(*job)),
            Record::Commit => assert_eq!(open, [None; 2]),
            _ => {}
        }
    }
    let sealed = |record: &Record| matches!(record, Record::Start { job: Job::Seal, .. });
    let commit = world
        .records
        .iter()
        .position(|record| *record == Record::Commit);
    assert!(world.records.iter().position(sealed) > commit);
}

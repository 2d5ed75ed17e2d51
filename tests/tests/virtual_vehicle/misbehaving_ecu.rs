//! One ECU misbehaves in the middle of a campaign: it fails in bounded time, nothing of the campaign
//! stays in the vehicle, and the others run what they ran.

use chaos::vehicle::{Misbehaviour, Oem, World, good};
use tcu::engine::CampaignState;

/// ECU 1 misbehaves once the TCU has journaled `after` records.
fn check(kind: Misbehaviour, after: usize) {
    let mut oem = Oem::new(6);
    let factory = good(&mut oem, (1, 0, 0), 1);
    let mut world = World::new(&mut oem, &factory, 2, 1, 6);
    let release = good(&mut oem, (2, 0, 0), 2);
    let campaign = world.plan(&mut oem, &release, &[]);
    world.start_tcu(&campaign, Vec::new());
    world.run_until("the campaign is under way", |world| {
        world.journaled() >= after
    });
    world.misbehave(1, kind);
    let state = world.run_campaign();
    println!(
        "{kind:?} after {after} records: {state:?} at {:?}",
        world.elapsed()
    );
    let least = match kind {
        Misbehaviour::Vanishes => 0,
        Misbehaviour::Babbles => 1000,
        Misbehaviour::AlwaysPending | Misbehaviour::AnswersNonsense => 1,
    };
    let said = world.said(1);
    assert!(
        said >= least && (least > 0 || said == 0),
        "{kind:?}: {said} frames"
    );
    // The ECU itself cannot be asked whether it has returned.
    assert!(
        matches!(state, CampaignState::Reverted | CampaignState::Incomplete),
        "{kind:?}: {state:?}"
    );
    // Nobody hears a heartbeat over one that babbles.
    world.behave(1);
    for (ecu, version) in world.versions().into_iter().enumerate() {
        assert_eq!(version.as_deref(), Some("1.0.0"), "{kind:?}: ECU {ecu}");
    }
}

#[test]
fn it_vanishes() {
    check(Misbehaviour::Vanishes, 1);
    check(Misbehaviour::Vanishes, 3);
}

#[test]
fn it_babbles() {
    check(Misbehaviour::Babbles, 3);
}

#[test]
fn it_answers_0x78_for_ever() {
    check(Misbehaviour::AlwaysPending, 1);
}

#[test]
fn it_answers_nonsense() {
    check(Misbehaviour::AnswersNonsense, 3);
}

//! An ECU that never comes back, and an operator who gives it up.

use super::*;
use crate::engine::{Engine, GivenUp, NotGivenUp, Policy};

/// Gives an ECU up between two runs, as the desk does.
fn give_up(world: &mut World, ecu: &str) -> Result<(), NotGivenUp> {
    let mut engine = Engine::new(world.plan(), Policy::default(), &world.records, 0);
    let Some(ecu) = engine.may_give_up(ecu)? else {
        return Ok(());
    };
    let by = GivenUp {
        who: "uid 0".into(),
        reason: "dead".into(),
    };
    engine.give_up(ecu, by, &mut world.records).unwrap();
    Ok(())
}

/// A campaign that was killed right behind this record, and whose ECU 0 is silent from then on. With a
/// crashing image everything goes back.
fn silent_after(record: &Record) -> World {
    let world = || {
        let mut world = World::new(3);
        if *record == Record::Revert {
            world.ecus[1].application = Application::Crashes;
        }
        world
    };
    let mut reference = world();
    finish(&mut reference);
    let at = reference.records.iter().position(|it| it == record);
    let mut world = world();
    let ended = world.run(Some((at.unwrap(), true)), &mut no_faults);
    assert_eq!(ended, Ended::Killed);
    world.ecus[0].dead = true;
    world
}

#[test]
fn an_ecu_that_is_given_up_is_asked_no_more_and_the_others_come_to_their_end() {
    for phase in [Record::Commit, Record::Revert] {
        let mut world = silent_after(&phase);
        let early = give_up(&mut world, "ecu0").unwrap_err();
        assert_eq!(early, NotGivenUp::NotStuck("ecu0".into()), "{phase:?}");
        assert_eq!(finish(&mut world), CampaignState::Incomplete);
        let reached = give_up(&mut world, "ecu1").unwrap_err();
        assert_eq!(reached, NotGivenUp::Reached("ecu1".into()), "{phase:?}");
        give_up(&mut world, "ecu0").unwrap();
        // It is back after all, and still nobody asks it.
        world.ecus[0].dead = false;
        let asked = world.requests.len();
        assert_eq!(finish(&mut world), CampaignState::GivenUp, "{phase:?}");
        assert_eq!(world.requests.len(), asked, "{phase:?}");
        let new = |index: usize| world.ecus[index].runs().0 == world.targets[index].image;
        for other in [1, 2] {
            assert_eq!(new(other), phase == Record::Commit, "{phase:?} {other}");
        }
    }
}

/// The TCU dies at each of its records, before or behind it: every end is the same.
#[test]
fn a_kill_at_any_record_of_giving_up_changes_nothing_about_the_end() {
    for phase in [Record::Commit, Record::Revert] {
        let mut reference = silent_after(&phase);
        finish(&mut reference);
        let before = reference.records.len();
        give_up(&mut reference, "ecu0").unwrap();
        assert_eq!(finish(&mut reference), CampaignState::GivenUp);
        // From the record of the operator to the end.
        assert_eq!(
            reference.records.len(),
            before + 2,
            "{:?}",
            reference.records
        );
        for (given_up, durable) in [(false, false), (true, false), (true, true)] {
            let mut world = silent_after(&phase);
            assert_eq!(finish(&mut world), CampaignState::Incomplete);
            if given_up {
                give_up(&mut world, "ecu0").unwrap();
                let at = world.records.len();
                let ended = world.run(Some((at, durable)), &mut no_faults);
                assert_eq!(ended, Ended::Killed);
            }
            let expected = match given_up {
                true => CampaignState::GivenUp,
                false => CampaignState::Incomplete,
            };
            assert_eq!(finish(&mut world), expected, "{phase:?}");
        }
    }
}

/// One is lost for ever, and another is away for a while: it is brought to its end when it is back.
#[test]
fn who_is_only_away_is_waited_for_all_the_same() {
    let mut world = silent_after(&Record::Commit);
    world.ecus[2].dead = true;
    assert_eq!(finish(&mut world), CampaignState::Incomplete);
    give_up(&mut world, "ecu0").unwrap();
    assert_eq!(finish(&mut world), CampaignState::Incomplete);
    world.ecus[2].dead = false;
    assert_eq!(finish(&mut world), CampaignState::GivenUp);
    assert_eq!(world.ecus[2].runs().0, world.targets[2].image);
}

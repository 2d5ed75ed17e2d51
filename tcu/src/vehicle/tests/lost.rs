//! What a TCU that goes on may have lost: images in its cache, the way to a bus.

use super::*;

fn lose_images(world: &mut World) {
    for target in &mut world.targets {
        target.packed = Err("no such file".into());
    }
}

/// Only staging needs an image: whatever is lost behind it, the campaign comes to its end, and before
/// that everything goes back.
#[test]
fn a_cache_that_is_lost_at_any_record_stops_no_campaign() {
    let mut reference = World::new(3);
    finish(&mut reference);
    let all = [Record::AllStaged, Record::Commit];
    let [staged, commit] = all.map(|record| {
        reference
            .records
            .iter()
            .position(|it| *it == record)
            .unwrap()
    });
    for at in 0..reference.records.len() {
        let mut world = World::new(3);
        let images = world.targets.clone();
        assert_eq!(world.run(Some((at, true)), &mut no_faults), Ended::Killed);
        lose_images(&mut world);
        let state = finish(&mut world);
        world.targets = images;
        if at + 1 >= staged {
            assert_eq!(state, CampaignState::Completed, "{at} of {commit}");
            assert!(world.all_new(), "{at}");
            continue;
        }
        assert_eq!(state, CampaignState::Reverted, "{at}");
        assert!(world.all_old(), "{at}");
        let lost = world.records.iter().any(|record| {
            let Record::End {
                result: Err(failure),
                ..
            } = record
            else {
                return false;
            };
            failure.what == What::Source("no such file".into()) && failure.step == Step::BootStatus
        });
        assert!(lost, "{at} {:?}", world.records);
    }
}

/// The ECUs of the other bus come to their end, and those that nothing leads to are named.
#[test]
fn a_bus_to_which_nothing_leads_is_silent_and_holds_up_nobody_else() {
    for phase in [Record::Commit, Record::Revert] {
        let new = || {
            let mut world = World::new(4);
            if phase == Record::Revert {
                world.ecus[0].application = Application::Crashes;
            }
            world
        };
        let mut reference = new();
        finish(&mut reference);
        let at = reference.records.iter().position(|it| *it == phase);
        let mut world = new();
        world.run(Some((at.unwrap(), true)), &mut no_faults);
        world.unlinked = Some(1);
        assert_eq!(finish(&mut world), CampaignState::Incomplete, "{phase:?}");
        let named = Record::Incomplete { ecus: vec![1, 3] };
        assert_eq!(world.records.last(), Some(&named), "{phase:?}");
        let new = phase == Record::Commit;
        for ecu in [0, 2] {
            let sealed = (world.targets[ecu].image, crate::profile::SlotState::Sealed);
            assert_eq!(world.ecus[ecu].runs() == sealed, new, "{phase:?}");
        }
        world.unlinked = None;
        finish(&mut world);
        assert!(if new {
            world.all_new()
        } else {
            world.all_old()
        });
    }
}

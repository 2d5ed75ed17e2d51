//! An ECU with one update slot beside the factory's: staging takes away what it runs.

use chaos::vehicle::{Campaign, Factory, Oem, Release, World, good};
use ecu_image::Digest;
use tcu::engine::{CampaignState, EcuResult, Record, Restore};
use tcu::flash::Job;
use virtual_ecu::app::Behaviour;
use virtual_ecu::hardware::ChipModel;

/// Which ECU has one slot.
const ONE: usize = 1;

/// Three ECUs on one bus, all on 2.0.0, and that release.
fn world(oem: &mut Oem, seed: u64) -> (World, Release) {
    println!("seed {seed}");
    let factory = good(oem, (1, 0, 0), 1);
    let ecus: Vec<Factory> = (0..3)
        .map(|index| {
            let two = usize::from(index) != ONE;
            Factory::with_slots(oem, &factory, index, 0, ChipModel::default(), None, two)
        })
        .collect();
    let mut world = World::of(&ecus, seed);
    let release = good(oem, (2, 0, 0), 2);
    let campaign = plan(&world, oem, &release, &[], None);
    world.start_tcu(&campaign, Vec::new());
    assert_eq!(world.run_campaign(), CampaignState::Completed);
    assert_eq!(world.versions(), vec![Some("2.0.0".to_owned()); 3]);
    (world, release)
}

/// The campaign as the TCU plans it, from what the ECUs run.
fn plan(
    world: &World,
    oem: &mut Oem,
    release: &Release,
    other: &[(usize, Release)],
    before: Option<&Release>,
) -> Campaign {
    let mut campaign = world.plan(oem, release, other);
    campaign.plan.ecus[ONE].last = true;
    for ecu in &mut campaign.plan.ecus {
        if let Some(before) = before {
            ecu.from.image = before.digest;
            ecu.from.version.clone_from(&before.version);
        }
    }
    campaign
}

#[test]
fn it_is_given_its_image_when_all_others_are_healthy() {
    let mut oem = Oem::new(7);
    let (mut world, before) = world(&mut oem, 7);
    let release = good(&mut oem, (3, 0, 0), 3);
    let campaign = plan(&world, &mut oem, &release, &[], Some(&before));
    world.start_tcu(&campaign, Vec::new());
    assert_eq!(world.run_campaign(), CampaignState::Completed);
    assert_eq!(world.versions(), vec![Some("3.0.0".to_owned()); 3]);
    let records = world.records();
    let at = |wanted: &dyn Fn(&Record) -> bool| records.iter().position(wanted).unwrap();
    let healthy = |index: usize| {
        at(&|record| {
            let job = Job::AwaitHealthy;
            matches!(record, Record::End { ecu, job: ended, result: Ok(_), .. }
                if *ecu == index && *ended == job)
        })
    };
    let staged = at(&|record| {
        *record
            == Record::Start {
                ecu: ONE,
                job: Job::Stage,
            }
    });
    let commit = at(&|record| *record == Record::Commit);
    assert!(healthy(0) < staged && healthy(2) < staged && healthy(ONE) < commit);
}

#[test]
fn an_image_of_it_that_fails_sends_all_back_and_it_gets_the_image_before_again() {
    let mut oem = Oem::new(8);
    let (mut world, before) = world(&mut oem, 8);
    let release = good(&mut oem, (3, 0, 0), 3);
    let bad = oem.release((3, 0, 0), 3, Behaviour::Crash, 36_000);
    let campaign = plan(&world, &mut oem, &release, &[(ONE, bad)], Some(&before));
    world.start_tcu(&campaign, Vec::new());
    assert_eq!(world.run_campaign(), CampaignState::Incomplete);
    let versions = world.versions();
    let found: Vec<&str> = versions.iter().flatten().map(String::as_str).collect();
    assert_eq!(
        found,
        ["2.0.0", "1.0.0", "2.0.0"],
        "it runs its factory image"
    );

    let mut journal = world.kill_tcu();
    // The OEM releases 2.0.0 again: the same image, a fresh grant.
    let mut again = plan(&world, &mut oem, &before, &[], None);
    let grant = again.plan.ecus[ONE].grant.clone();
    again.plan = campaign.plan;
    journal.push(Record::Restore {
        ecu: ONE,
        image: Restore {
            artifact: Digest::ZERO,
            length: 0,
            grant,
        },
    });
    world.start_tcu(&again, journal);
    assert_eq!(world.run_campaign(), CampaignState::Reverted);
    assert_eq!(world.versions(), vec![Some("2.0.0".to_owned()); 3]);
}

#[test]
fn until_then_it_is_named_as_one_that_needs_a_grant() {
    let mut oem = Oem::new(9);
    let (mut world, before) = world(&mut oem, 9);
    let release = good(&mut oem, (3, 0, 0), 3);
    let bad = oem.release((3, 0, 0), 3, Behaviour::FailSelfTest, 36_000);
    let campaign = plan(&world, &mut oem, &release, &[(ONE, bad)], Some(&before));
    world.start_tcu(&campaign, Vec::new());
    assert_eq!(world.run_campaign(), CampaignState::Incomplete);
    let policy = tcu::engine::Policy::default();
    let engine = tcu::engine::Engine::new(campaign.plan, policy, &world.records(), 1);
    assert_eq!(engine.needing_grants().collect::<Vec<_>>(), [ONE]);
    let report = engine.report();
    let states: Vec<EcuResult> = report.ecus.iter().map(|ecu| ecu.state).collect();
    let reverted = EcuResult::Reverted;
    assert_eq!(states, [reverted, EcuResult::NeedsGrant, reverted]);
}

//! Each state of an action against each thing that the server or the vehicle may bring.

use super::super::{Confirm, Execution, Fate, Machine, Memory, Policy};
use super::world::{Server, World, deployment, policy, root};
use std::time::Duration;

fn offered(update: &str) -> World {
    let mut world = World::new(Server {
        deployment: Some(deployment("7", update)),
        ..Server::default()
    });
    world.run(5);
    world
}

fn cancel(world: &mut World) {
    world.server.cancellation = Some(("9".into(), "7".into()));
    world.run(100);
}

fn unfinished(begun: bool) -> Fate {
    Fate::Unfinished {
        begun,
        why: "door does not answer".into(),
    }
}

#[test]
fn polls_come_at_the_interval_that_the_server_asks_for() {
    let mut world = World::new(Server::default());
    world.run(3600);
    // 60 s and up to a quarter more.
    assert!(
        (48..=61).contains(&world.server.polls),
        "{}",
        world.server.polls
    );
}

#[test]
fn attributes_are_given_once_when_asked_for() {
    let mut world = World::new(Server {
        wants_data: true,
        ..Server::default()
    });
    world.run(300);
    assert!(!world.server.wants_data);
    assert_eq!(world.server.requests, world.server.polls + 1);
}

#[test]
fn success_is_said_only_when_the_campaign_is_completed() {
    let mut world = offered("forced");
    assert_eq!(world.orders, ["install 7"]);
    assert_eq!(world.memory.action.as_ref().unwrap().as_str(), "7");
    world.run(1000);
    assert_eq!(world.orders, ["install 7"], "once, however long it takes");
    assert_eq!(world.said(), ["Deployment 7 Scheduled None"]);
    world.fate(Fate::Completed);
    assert_eq!(world.said()[1..], ["Deployment 7 Closed Success"]);
    assert!(world.memory.confirmed && world.memory.action.is_none());
    world.run(1000);
    assert_eq!(world.said().len(), 2);
}

#[test]
fn a_failure_is_said_with_its_reason_and_not_tried_again() {
    let mut world = offered("forced");
    world.fate(Fate::Failed("brake: wrong image".into()));
    assert_eq!(world.said()[1..], ["Deployment 7 Closed Failure"]);
    let (_, feedback) = &world.server.heard[1];
    assert_eq!(feedback.status.details, ["brake: wrong image"]);
    // A server that has lost it hears it again; nothing is installed again.
    world.server.deployment = Some(deployment("7", "forced"));
    world.run(1000);
    assert_eq!(world.orders, ["install 7"]);
    assert_eq!(world.said().last().unwrap(), "Deployment 7 Closed Failure");
}

#[test]
fn what_is_not_at_an_end_goes_on_with_the_next_poll() {
    let mut world = offered("forced");
    world.fate(unfinished(false));
    world.run(100);
    assert_eq!(world.orders, ["install 7", "install 7"]);
    world.fate(unfinished(true));
    world.run(100);
    assert_eq!(world.orders[2..], ["resume"]);
    assert_eq!(world.said()[1..], ["Deployment 7 Proceeding None"]);
    world.fate(Fate::Unfinished {
        begun: true,
        why: "brake does not answer".into(),
    });
    assert_eq!(
        world.said()[1..],
        ["Deployment 7 Proceeding None"; 2],
        "what is the same is said once: a server takes only so much"
    );
}

/// A server that offers nothing, or is away, is no reason to leave ECUs as they are.
#[test]
fn what_was_begun_goes_on_whether_the_server_asks_for_it_or_not() {
    for (away, remembers) in [(false, false), (false, true), (true, false), (true, true)] {
        let memory = match remembers {
            false => Memory::default(),
            true => {
                let mut world = offered("forced");
                world.begin();
                world.memory
            }
        };
        let server = Server {
            away,
            ..Server::default()
        };
        let mut world = World::restarted(server, memory, true);
        for times in 1..4 {
            world.run(500);
            assert_eq!(world.orders, vec!["resume"; times], "{away} {remembers}");
            world.fate(unfinished(true));
        }
        world.run(500);
        world.fate(Fate::Completed);
        world.run(5000);
        assert_eq!(world.orders.len(), 4, "{away} {remembers}: it has ended");
    }
}

#[test]
fn outside_of_the_maintenance_window_it_is_only_prepared() {
    let mut closed = deployment("7", "forced");
    closed["deployment"]["maintenanceWindow"] = "unavailable".into();
    let mut world = World::new(Server {
        deployment: Some(closed.clone()),
        ..Server::default()
    });
    world.run(5);
    assert_eq!(world.orders, ["prepare 7"]);
    world.fate(Fate::Prepared);
    world.run(1000);
    assert_eq!(world.orders, ["prepare 7"]);
    assert_eq!(world.said()[1..], ["Deployment 7 Downloaded None"]);
    closed["deployment"]["maintenanceWindow"] = "available".into();
    world.server.deployment = Some(closed);
    world.run(100);
    assert_eq!(world.orders, ["prepare 7", "install 7"]);
}

#[test]
fn neither_download_nor_update_is_nothing() {
    let mut skipped = deployment("7", "skip");
    skipped["deployment"]["download"] = "skip".into();
    let mut world = World::new(Server {
        deployment: Some(skipped),
        ..Server::default()
    });
    world.run(1000);
    assert!(world.orders.is_empty());
    assert_eq!(world.said(), ["Deployment 7 Scheduled None"]);
}

#[test]
fn a_cancellation_before_an_ecu_is_touched_is_accepted() {
    let mut world = offered("forced");
    cancel(&mut world);
    assert_eq!(world.orders, ["install 7", "abandon"]);
    world.fate(Fate::Abandoned);
    assert_eq!(world.said()[1..], ["Cancellation 9 Closed Success"]);
    assert!(world.memory.action.is_none());
    world.run(1000);
    assert_eq!(world.orders.len(), 2);
}

#[test]
fn a_cancellation_that_reverts_the_vehicle_is_accepted() {
    let mut world = offered("forced");
    cancel(&mut world);
    world.fate(Fate::Failed("cancelled: reverted".into()));
    assert_eq!(world.said()[1..], ["Cancellation 9 Closed Success"]);
}

#[test]
fn a_cancellation_after_commit_is_rejected() {
    let mut world = offered("forced");
    cancel(&mut world);
    world.fate(Fate::Completed);
    let said = [
        "Cancellation 9 Rejected None",
        "Deployment 7 Closed Success",
    ];
    assert_eq!(world.said()[1..], said);
    assert!(world.server.cancellation.is_none());
}

#[test]
fn a_cancellation_of_what_was_begun_goes_through_the_transaction() {
    let mut world = offered("forced");
    world.fate(unfinished(true));
    world.server.deployment = None;
    cancel(&mut world);
    assert_eq!(world.orders, ["install 7", "resume", "abandon"]);
    world.fate(unfinished(true));
    assert_eq!(world.said().last().unwrap(), "Cancellation 9 Rejected None");
    cancel(&mut world);
    assert_eq!(world.orders[3..], ["resume", "abandon"]);
    world.fate(Fate::Failed("reverted".into()));
    assert_eq!(
        world.said().last().unwrap(),
        "Cancellation 9 Closed Success"
    );
}

#[test]
fn cancellations_of_what_ended_or_never_was() {
    let mut world = offered("forced");
    world.fate(Fate::Completed);
    cancel(&mut world);
    let said = [
        "Cancellation 9 Rejected None",
        "Deployment 7 Closed Success",
    ];
    assert_eq!(world.said()[2..], said);
    world.server.cancellation = Some(("10".into(), "never".into()));
    world.run(100);
    assert_eq!(
        world.said().last().unwrap(),
        "Cancellation 10 Closed Success"
    );
}

#[test]
fn confirmation_is_as_the_policy_says() {
    for (confirm, orders) in [
        (Confirm::Accept, &["install 7"][..]),
        (Confirm::Deny, &[]),
        (Confirm::Leave, &[]),
    ] {
        let mut world = World::new(Server {
            confirmation: Some("7".into()),
            ..Server::default()
        });
        let policy = Policy {
            confirm,
            ..policy()
        };
        let memory = world.memory.clone();
        world.machine = Machine::new(root(), policy, memory, None, 1, Duration::ZERO);
        world.run(30);
        assert_eq!(world.orders, orders, "{confirm:?}");
        let left = world.server.confirmation.is_some();
        assert_eq!(left, confirm == Confirm::Leave);
    }
}

#[test]
fn another_deployment_waits_for_what_runs_and_replaces_what_does_not() {
    let mut world = offered("forced");
    world.server.deployment = Some(deployment("8", "forced"));
    world.run(300);
    assert_eq!(world.orders, ["install 7"]);
    world.fate(unfinished(true));
    world.run(100);
    assert_eq!(world.orders[1..], ["resume"], "ECUs were touched under 7");
    world.fate(Fate::Completed);
    world.run(100);
    assert_eq!(world.orders[2..], ["install 8"]);
}

#[test]
fn the_end_is_told_until_the_server_has_heard_it_across_restarts() {
    let mut world = offered("forced");
    world.server.away = true;
    world.fate(Fate::Completed);
    world.run(10_000);
    assert!(!world.memory.confirmed);
    let World { memory, server, .. } = world;
    let mut world = World::restarted(server, memory, false);
    world.run(100);
    world.server.away = false;
    world.run(1000);
    assert_eq!(world.said()[1..], ["Deployment 7 Closed Success"]);
    assert!(world.memory.confirmed);
    let World { memory, server, .. } = world;
    let mut world = World::restarted(server, memory, false);
    world.run(1000);
    assert_eq!(world.said().len(), 2, "and not once more");
}

#[test]
fn a_campaign_that_goes_on_after_a_restart_is_reported_under_its_action() {
    let mut world = offered("forced");
    world.begin();
    let World { memory, server, .. } = world;
    let mut world = World::restarted(server, memory, true);
    world.run(200);
    assert_eq!(world.orders, ["resume"]);
    world.fate(Fate::Completed);
    let said = ["Deployment 7 Resumed None", "Deployment 7 Closed Success"];
    assert_eq!(world.said()[1..], said);
}

#[test]
fn a_campaign_of_another_channel_is_not_reported_and_not_disturbed() {
    let fates = [
        Fate::Completed,
        Fate::Failed("reverted".into()),
        unfinished(true),
    ];
    for (fate, accepted) in fates.iter().flat_map(|fate| [(fate, false), (fate, true)]) {
        // Under way from elsewhere, whether the action was offered before that or not.
        let World { memory, server, .. } = offered("forced");
        let memory = if accepted { memory } else { Memory::default() };
        let heard = server.heard.len();
        let mut world = World::restarted(server, memory, true);
        world.run(200);
        assert_eq!(world.orders, ["resume"]);
        world.machine.on_report("r1", "spring", "staging", 0, 2);
        world.fate(fate.clone());
        world.run(20);
        assert_eq!(world.said().len(), heard, "{fate:?}");
        assert_eq!(world.orders, ["resume", "delivered r1"]);
        world.run(200);
        let next = match fate {
            Fate::Unfinished { .. } => "resume",
            _ => "install 7",
        };
        assert_eq!(world.orders[2..], [next], "{fate:?}");
    }
}

/// What another channel has begun is not undone by the cancellation of an action that has not.
#[test]
fn a_cancellation_concerns_the_campaign_of_its_action_alone() {
    let World { memory, server, .. } = offered("forced");
    let mut world = World::restarted(server, memory, true);
    world.run(5);
    cancel(&mut world);
    assert_eq!(world.orders, ["resume"]);
    assert_eq!(world.said()[1..], ["Cancellation 9 Closed Success"]);
}

#[test]
fn a_report_that_the_server_refuses_waits_until_it_listens_again() {
    let mut world = offered("forced");
    world.begin();
    world.server.deaf = true;
    for _ in 0..50 {
        world.machine.on_report("r1", "spring", "staging", 0, 2);
        world.run(10);
    }
    assert_eq!(world.orders, ["install 7"], "the server does not have it");
    assert!(world.server.requests < 40, "{}", world.server.requests);
    world.server.deaf = false;
    world.run(100);
    assert_eq!(world.orders[1..], ["delivered r1"]);
    world.server.deaf = true;
    world.fate(Fate::Completed);
    world.run(300);
    assert!(!world.memory.confirmed);
    world.server.deaf = false;
    world.run(100);
    assert_eq!(world.said().last().unwrap(), "Deployment 7 Closed Success");
    assert!(world.memory.confirmed);
}

#[test]
fn a_feedback_that_never_gets_through_does_not_hold_up_a_cancellation() {
    let mut world = offered("forced");
    world.begin();
    world.server.chokes_on = Some(Execution::Proceeding);
    world.machine.on_report("r1", "spring", "staging", 0, 2);
    world.run(100);
    cancel(&mut world);
    assert_eq!(world.orders, ["install 7", "abandon"]);
    world.fate(Fate::Failed("cancelled: reverted".into()));
    world.run(300);
    assert_eq!(world.said()[1..], ["Cancellation 9 Closed Success"]);
    assert_eq!(world.orders.len(), 2, "it is not installed again");
}

#[test]
fn reports_are_told_until_they_are_answered_and_each_is_queued_once() {
    let mut world = offered("forced");
    world.begin();
    world.server.away = true;
    for _ in 0..50 {
        world.machine.on_report("r1", "spring", "staging", 0, 2);
        world.machine.on_report("r2", "spring", "committed", 1, 2);
        world.run(10);
    }
    world.server.away = false;
    world.run(1000);
    assert_eq!(world.orders[1..], ["delivered r1", "delivered r2"]);
    let progress = |index: usize| world.server.heard[index].1.status.result.progress.unwrap();
    assert_eq!(
        (progress(1).cnt, progress(2).cnt, progress(2).of),
        (0, 1, 2)
    );
    world.machine.on_report("r1", "spring", "staging", 0, 2);
    world.run(1000);
    assert_eq!(world.said().len(), 3);
}

#[test]
fn a_server_that_is_away_is_asked_less_and_less_often() {
    let mut world = World::new(Server {
        away: true,
        ..Server::default()
    });
    world.run(86_400);
    // Four tries in 300 s at most.
    assert!(
        (500..=1200).contains(&world.server.requests),
        "{}",
        world.server.requests
    );
}

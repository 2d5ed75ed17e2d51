//! Giving an ECU up over the API.

use super::*;
use crate::engine::{Journal as _, Record};
use crate::testing::world::World;

/// A campaign that was committed and does not reach its ECU.
fn incomplete(service: &Service) {
    let path = service.dir.path().join(crate::state::JOURNAL);
    let mut journal = crate::journal::SqliteJournal::open(&path).unwrap();
    journal.begin(&World::new(2).plan()).unwrap();
    let named = Record::Incomplete { ecus: vec![0] };
    for record in [
        Record::AllStaged,
        Record::AllActivated,
        Record::Commit,
        named,
    ] {
        journal.append(&record, None).unwrap();
    }
}

fn last(service: &Service) -> Vec<Record> {
    let path = service.dir.path().join(crate::state::JOURNAL);
    let mut journal = crate::journal::SqliteJournal::open(&path).unwrap();
    journal.last().unwrap().unwrap().records
}

fn gives_up(ecu: &str) -> GivesUp {
    GivesUp {
        campaign: None,
        ecu: ecu.into(),
        reason: "replaced".into(),
    }
}

async fn refused(service: &Service, gives_up: &GivesUp) -> String {
    let answer = service.client.post::<Reply>("/v1/give-up", gives_up).await;
    let Err(Error::Refused(why)) = answer else {
        panic!("{answer:?}")
    };
    why
}

#[tokio::test]
async fn an_ecu_is_given_up_once_and_the_record_says_by_whom() {
    let service = service();
    let nothing = refused(&service, &gives_up("ecu0")).await;
    assert!(nothing.contains("no campaign is under way"), "{nothing}");
    incomplete(&service);
    let silent = GivesUp {
        reason: "  ".into(),
        ..gives_up("ecu0")
    };
    assert!(refused(&service, &silent).await.contains("reason"));
    let other = GivesUp {
        campaign: Some("winter".into()),
        ..gives_up("ecu0")
    };
    assert!(refused(&service, &other).await.contains("campaign test is"));
    let stranger = refused(&service, &gives_up("door")).await;
    assert!(stranger.contains("ecu0, ecu1"), "{stranger}");
    let healthy = refused(&service, &gives_up("ecu1")).await;
    assert!(healthy.contains("has not failed"), "{healthy}");
    assert!(!service.desk.has_given_up());
    let before = last(&service).len();
    for expected in ["goes on without it", "was given up before"] {
        let said = gives_up("ecu0");
        let reply: Reply = service.client.post("/v1/give-up", &said).await.unwrap();
        assert!(reply.done.contains(expected), "{reply:?}");
    }
    assert!(service.desk.has_given_up(), "the service looks again");
    let records = last(&service);
    assert_eq!(records.len(), before + 1);
    let Some(Record::GiveUp { ecu: 0, by }) = records.last() else {
        panic!("{records:?}")
    };
    assert!(by.who.ends_with("by the local API") && by.reason == "replaced");
    assert_eq!(recorded(&service), ["gave-up"]);
    let text = std::fs::read_to_string(service.dir.path().join(evidence::FILE)).unwrap();
    assert!(
        text.contains(&by.who) && text.contains("replaced"),
        "{text}"
    );
}

/// While a run asks the ECUs nobody else writes to the journal: its numbers would collide.
#[tokio::test]
async fn within_a_run_nobody_is_given_up() {
    let service = service();
    incomplete(&service);
    let before = last(&service);
    service.desk.resume(&World::new(2).plan()).unwrap();
    let driven = refused(&service, &gives_up("ecu0")).await;
    assert!(driven.contains("being driven"), "{driven}");
    assert_eq!(last(&service), before);
    service.desk.abandon(&"it rests");
    let said = gives_up("ecu0");
    let _: Reply = service.client.post("/v1/give-up", &said).await.unwrap();
}

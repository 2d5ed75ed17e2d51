//! The API over a real socket, with a desk behind it.

mod give_up;
mod tls;

use std::path::Path;

use tokio::sync::watch;

use super::*;
use crate::engine::{self, CampaignState, Engine, Phase, Plan, Record};
use crate::evidence;
use crate::output::Line;
use crate::policy::{Mode, Rules};
use crate::state::State as Folder;
use crate::vehicle::Control;

const LIMIT: u64 = 1 << 16;

struct Service {
    dir: tempfile::TempDir,
    desk: Arc<Desk>,
    board: Arc<Board>,
    control: watch::Sender<Control>,
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn desk_in(dir: &Path, control: &watch::Sender<Control>, board: &Arc<Board>) -> Arc<Desk> {
    let rules = Rules {
        mode: Mode::Ask,
        postpone_limit: 1,
        postpone_longest_s: 3600,
        ..Rules::default()
    };
    let state = Folder::open(dir).unwrap();
    let desk = Desk::new(&state, rules, "test".into(), control.clone(), board.clone());
    Arc::new(desk.unwrap())
}

fn service() -> Service {
    let dir = tempfile::tempdir().unwrap();
    let (control, _) = watch::channel(Control::default());
    let board = Arc::new(Board::new());
    let desk = desk_in(dir.path(), &control, &board);
    let access = Access {
        socket: Some(dir.path().join("run/tcu.sock")),
        tls: None,
        uploads: dir.path().to_owned(),
        upload_max: LIMIT,
    };
    let client = Client::new(access.socket.as_ref().unwrap()).unwrap();
    let task = serve(access, desk.clone(), board.clone()).unwrap();
    Service {
        dir,
        desk,
        board,
        control,
        client,
        task,
    }
}

fn plan() -> Plan {
    Plan {
        campaign: "spring".into(),
        rxswins: Default::default(),
        together: Default::default(),
        ecus: Vec::new(),
    }
}

fn said() -> Said {
    Said::default()
}

/// Lets the campaign come to the desk and wait there.
async fn at_the_desk(service: &Service) -> JoinHandle<Result<(), Error>> {
    let desk = service.desk.clone();
    let waiting = tokio::spawn(async move {
        desk.wait(&plan()).await?;
        desk.start(&plan())
    });
    while !service.desk.is_waiting() {
        tokio::task::yield_now().await;
    }
    waiting
}

fn recorded(service: &Service) -> Vec<String> {
    let path = service.dir.path().join(evidence::FILE);
    evidence::verify(&path, None).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let what = |entry: serde_json::Value| entry["body"]["what"].as_str().unwrap().to_owned();
    entries.map(what).collect()
}

#[tokio::test]
async fn consent_lets_a_campaign_begin_and_says_who() {
    let service = service();
    let waiting = at_the_desk(&service).await;
    let told: Told = service.client.get("/v1/status").await.unwrap();
    assert_eq!(told.status.doing, Doing::Waiting);
    assert_eq!(told.offer.unwrap().waits_for.as_deref(), Some("consent"));
    let campaign = Some("winter".into());
    let other = Said { campaign, ..said() };
    let refused = service.client.post::<Reply>("/v1/consent", &other).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("another campaign")
    );
    let reply: Reply = service.client.post("/v1/consent", &said()).await.unwrap();
    assert!(reply.done.contains("spring"));
    waiting.await.unwrap().unwrap();
    assert_eq!(recorded(&service), ["offered", "consented", "started"]);
    let text = std::fs::read_to_string(service.dir.path().join(evidence::FILE)).unwrap();
    assert!(text.contains("by the local API"), "{text}");
}

#[tokio::test]
async fn what_was_answered_ends_with_the_campaign() {
    let service = service();
    let waiting = at_the_desk(&service).await;
    let _: Reply = service.client.post("/v1/consent", &said()).await.unwrap();
    waiting.await.unwrap().unwrap();
    let report = |end| {
        let end = [Record::Done(end)];
        Engine::new(plan(), engine::Policy::default(), &end, 0).report()
    };
    service.desk.end(&report(CampaignState::Incomplete));
    let _: Reply = service.client.post("/v1/consent", &said()).await.unwrap();
    service.desk.end(&report(CampaignState::Completed));
    for path in ["/v1/consent", "/v1/cancel", "/v1/postpone"] {
        let seconds = Some(60);
        let said = Said { seconds, ..said() };
        let refused = service.client.post::<Reply>(path, &said).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("no campaign is on offer"), "{refused}");
    }
    let expected = [
        "offered",
        "consented",
        "started",
        "ended",
        "consented",
        "ended",
    ];
    assert_eq!(recorded(&service), expected);
    // Under its name comes something again: somebody is asked.
    let waiting = at_the_desk(&service).await;
    let offer = loop {
        match service.desk.on_offer() {
            Some(offer) => break offer,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!(offer.waits_for.as_deref(), Some("consent"));
    waiting.abort();
}

#[tokio::test]
async fn a_campaign_is_declined_and_stays_declined_after_a_restart() {
    let service = service();
    let waiting = at_the_desk(&service).await;
    let _: Reply = service.client.post("/v1/cancel", &said()).await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(Error::Declined(_))));
    let again = desk_in(service.dir.path(), &service.control, &service.board);
    assert!(matches!(again.wait(&plan()).await, Err(Error::Declined(_))));
}

#[tokio::test]
async fn cancelling_reverts_before_commit_and_is_refused_after() {
    let service = service();
    let waiting = at_the_desk(&service).await;
    let _: Reply = service.client.post("/v1/consent", &said()).await.unwrap();
    waiting.await.unwrap().unwrap();
    service.desk.phase(Phase::Sealing);
    let late = service.client.post::<Reply>("/v1/cancel", &said()).await;
    assert!(late.unwrap_err().to_string().contains("committed"));
    assert!(!service.control.borrow().cancel);
    service.desk.phase(Phase::Staging);
    let _: Reply = service.client.post("/v1/cancel", &said()).await.unwrap();
    assert!(service.control.borrow().cancel);
    // Killed now, before the revert is journaled: the next start reverts all the same.
    service
        .control
        .send_modify(|control| control.cancel = false);
    let next = desk_in(service.dir.path(), &service.control, &service.board);
    next.resume(&plan()).unwrap();
    assert!(service.control.borrow().cancel);
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_does_not_count() {
    let service = service();
    let waiting = at_the_desk(&service).await;
    // Where the answers go is a folder now.
    let memory = service.dir.path().join("policy.json");
    let _ = std::fs::remove_file(&memory);
    std::fs::create_dir_all(memory.join("x")).unwrap();
    let refused = service.client.post::<Reply>("/v1/consent", &said()).await;
    assert!(refused.unwrap_err().to_string().contains("policy.json"));
    assert_eq!(service.desk.on_offer().unwrap().consent, None);
    std::fs::remove_dir_all(&memory).unwrap();
    let _: Reply = service.client.post("/v1/consent", &said()).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn answers_that_cannot_be_read_are_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.json"), b"{\"consent\": 7").unwrap();
    let (control, _) = watch::channel(Control::default());
    let desk = desk_in(dir.path(), &control, &Arc::default());
    assert_eq!(desk.on_offer(), None);
    assert!(desk.consent("x".into(), None, false).is_err());
}

#[tokio::test]
async fn postponing_is_bounded() {
    let service = service();
    let _waiting = at_the_desk(&service).await;
    let postpone = async |seconds| {
        let said = Said { seconds, ..said() };
        service.client.post::<Reply>("/v1/postpone", &said).await
    };
    assert!(
        postpone(None)
            .await
            .unwrap_err()
            .to_string()
            .contains("seconds")
    );
    assert!(postpone(Some(3601)).await.is_err());
    postpone(Some(60)).await.unwrap();
    let twice = postpone(Some(60)).await.unwrap_err().to_string();
    assert!(twice.contains("1 times already"), "{twice}");
}

async fn upload(service: &Service, bytes: Vec<u8>, length: bool) -> u16 {
    let socket = service.dir.path().join("run/tcu.sock");
    let http = reqwest::Client::builder()
        .unix_socket(socket)
        .build()
        .unwrap();
    let body = match length {
        true => reqwest::Body::from(bytes),
        false => {
            let chunks = bytes
                .chunks(4096)
                .map(|chunk| Ok::<_, Infallible>(chunk.to_vec()));
            let chunks: Vec<_> = chunks.collect();
            reqwest::Body::wrap_stream(futures_util::stream::iter(chunks))
        }
    };
    let request = http.post("http://tcu/v1/campaign").body(body);
    // A server that has seen enough may close before all is sent.
    let answer = request.send().await;
    answer.map_or(413, |answer| answer.status().as_u16())
}

#[tokio::test]
async fn a_bundle_is_taken_up_to_its_bound() {
    let service = service();
    let most = usize::try_from(LIMIT).unwrap();
    for length in [true, false] {
        assert_eq!(upload(&service, vec![7; most + 1], length).await, 413);
        assert!(!service.desk.has_upload());
        assert_eq!(brought(&service), 0);
        assert_eq!(upload(&service, vec![7; most], length).await, 200);
        let bundle = service.desk.take_upload().unwrap();
        assert_eq!(std::fs::metadata(&bundle).unwrap().len(), LIMIT);
        // The next one is a file of its own, and replaces what nobody has looked at.
        for _ in 0..2 {
            assert_eq!(upload(&service, vec![8; 10], length).await, 200);
            assert_eq!(brought(&service), 2);
        }
        assert_eq!(std::fs::metadata(&bundle).unwrap().len(), LIMIT);
        drop((bundle, service.desk.take_upload()));
        assert_eq!(brought(&service), 0);
    }
    service.desk.refuse_uploads();
    assert_eq!(upload(&service, vec![7; 10], true).await, 409);
    assert_eq!(brought(&service), 0);
}

/// Bundles in the folder.
fn brought(service: &Service) -> usize {
    let files = std::fs::read_dir(service.dir.path()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(UPLOAD)).count()
}

/// A body of which the first bytes come, and no more.
fn endless(service: &Service) -> reqwest::RequestBuilder {
    let socket = service.dir.path().join("run/tcu.sock");
    let http = reqwest::Client::builder().unix_socket(socket).build();
    let first = futures_util::stream::iter([Ok::<_, Infallible>(vec![7; 10])]);
    let body = reqwest::Body::wrap_stream(first.chain(futures_util::stream::pending()));
    http.unwrap().post("http://tcu/v1/campaign").body(body)
}

#[tokio::test]
async fn a_bundle_that_is_not_wanted_is_refused_before_it_is_sent() {
    let service = service();
    let first = tokio::spawn(endless(&service).send());
    while brought(&service) == 0 {
        tokio::task::yield_now().await;
    }
    let second = endless(&service).send().await.unwrap();
    assert_eq!(second.status().as_u16(), 409, "one at a time");
    first.abort();
    while brought(&service) == 1 {
        tokio::task::yield_now().await;
    }
    service.desk.refuse_uploads();
    let refused = endless(&service).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 409);
    assert_eq!(brought(&service), 0);
}

#[tokio::test]
async fn events_begin_with_the_status_and_are_typed() {
    let service = service();
    let socket = service.dir.path().join("run/tcu.sock");
    let http = reqwest::Client::builder()
        .unix_socket(socket)
        .build()
        .unwrap();
    let mut stream = http.get("http://tcu/v1/events").send().await.unwrap();
    let first = stream.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: status\ndata: {"), "{first:?}");
    service.board.line(&Line::Paused {
        detail: "speed".into(),
    });
    let second = stream.chunk().await.unwrap().unwrap();
    let expected = "event: progress\ndata: {\"event\":\"paused\",\"detail\":\"speed\"}\n\n";
    assert_eq!(second, expected.as_bytes());
}

#[tokio::test]
async fn the_document_describes_what_is_served() {
    let service = service();
    let document: serde_json::Value = service.client.get("/openapi.json").await.unwrap();
    let socket = service.dir.path().join("run/tcu.sock");
    let http = reqwest::Client::builder()
        .unix_socket(socket)
        .build()
        .unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 9);
    for (path, methods) in paths {
        for method in ["get", "post"] {
            let request = match method {
                "get" => http.get(format!("http://tcu{path}")),
                _ => http.post(format!("http://tcu{path}")).body("x"),
            };
            let status = request.send().await.unwrap().status().as_u16();
            let served = !matches!(status, 404 | 405);
            assert_eq!(
                served,
                methods.get(method).is_some(),
                "{method} {path}: {status}"
            );
        }
    }
    let told: serde_json::Value = service.client.get("/v1/status").await.unwrap();
    let schemas = &document["components"]["schemas"];
    let keys = |value: &serde_json::Value| {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&told), keys(&schemas["Status"]["properties"]));
    let gives_up = serde_json::to_value(GivesUp::default()).unwrap();
    assert_eq!(keys(&gives_up), keys(&schemas["GivesUp"]["properties"]));
    let said = serde_json::to_value(said()).unwrap();
    assert_eq!(keys(&said), keys(&schemas["Said"]["properties"]));
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.get(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn only_owner_and_group_reach_the_socket() {
    let service = service();
    let socket = service.dir.path().join("run/tcu.sock");
    let mode = std::fs::metadata(socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

//! hawkBit's interface: what a vehicle is offered, what it may say, and who may not.

use std::fs;

use crate::common::{Desk, VIN};
use oem::{
    Error, fleet,
    rotate::{Rotated, rotate},
    serve::Server,
};
use reqwest::{Certificate, Client, Method, StatusCode};
use serde_json::{Value, json};

struct Running {
    desk: Desk,
    url: String,
    token: String,
    client: Client,
    stop: axum_server::Handle<std::net::SocketAddr>,
    server: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Running {
    fn start() -> Self {
        Self::of(Desk::new())
    }

    fn of(desk: Desk) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(&desk.repo_dir(), address, 3725).unwrap();
        let ca = fs::read(desk.path("out/ca.pem")).unwrap();
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(&ca).unwrap()])
            .build()
            .unwrap();
        let vin = VIN.parse().unwrap();
        let token = fleet::token(&desk.repo_dir(), Some(&vin)).unwrap();
        Self {
            url: server.url(),
            token: format!("TargetToken {token}"),
            stop: server.handle(),
            server: tokio::spawn(server.run()),
            desk,
            client,
        }
    }

    async fn send(&self, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let request = self.client.request(method, format!("{}/{path}", self.url));
        let request = request.header("authorization", &self.token);
        let response = request.body(body.to_owned()).send().await.unwrap();
        let status = response.status();
        let bytes = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn poll(&self) -> Value {
        let path = format!("t/controller/v1/{VIN}");
        let (status, answer) = self.send(Method::GET, &path, "").await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    /// The resource that the poll links to, below the server.
    async fn link(&self, name: &str) -> Option<String> {
        let answer = self.poll().await;
        let href = answer["_links"][name]["href"].as_str()?.to_owned();
        let path = href
            .strip_prefix(&self.url)
            .expect("a link to the server that was asked");
        Some(path.trim_start_matches('/').to_owned())
    }

    async fn say(&self, resource: &str, execution: &str, finished: &str) -> StatusCode {
        let body = json!({"id": "1", "status": {"execution": execution,
            "result": {"finished": finished}, "details": ["a word"]}});
        let path = format!("{resource}/feedback");
        self.send(Method::POST, &path, &body.to_string()).await.0
    }

    fn state(&self) -> String {
        let status = fleet::Status::of(&self.desk.repo_dir()).unwrap();
        let action = status.vehicles[0].action.as_ref().unwrap();
        action.state.name().to_owned()
    }

    async fn stop(self) -> Desk {
        self.stop.graceful_shutdown(None);
        drop(self.client);
        self.server.await.unwrap().unwrap();
        self.desk
    }
}

#[tokio::test]
async fn a_release_is_offered_with_one_chunk_for_each_ecu_until_it_has_ended() {
    let running = Running::start();
    assert_eq!(
        running.poll().await["config"]["polling"]["sleep"],
        "01:02:05"
    );
    assert_eq!(running.link("deploymentBase").await, None);
    let images = [
        running.desk.pack("hw-a", "1.2.0", 2),
        running.desk.pack("hw-b", "1.3.0", 2),
    ];
    running.desk.release("spring", &images).unwrap();
    let resource = running.link("deploymentBase").await.unwrap();
    let (status, document) = running.send(Method::GET, &resource, "").await;
    assert_eq!(status, StatusCode::OK);
    let chunks = document["deployment"]["chunks"].as_array().unwrap();
    let parts: Vec<_> = chunks.iter().map(|chunk| &chunk["part"]).collect();
    assert_eq!(parts, ["brake", "door"]);
    for (chunk, file) in chunks.iter().zip([&images[1], &images[0]]) {
        let artifact = &chunk["artifacts"][0];
        let bytes = fs::read(file).unwrap();
        assert_eq!(artifact["size"], bytes.len());
        let sha256 = campaign::ids::sha256(&bytes).to_string();
        assert_eq!(artifact["hashes"]["sha256"], sha256.as_str());
        assert_eq!(artifact["hashes"]["sha1"].as_str().unwrap().len(), 40);
        let href = artifact["_links"]["download"]["href"].as_str().unwrap();
        let served = running.client.get(href).send().await.unwrap();
        assert_eq!(served.bytes().await.unwrap(), bytes);
    }
    assert_eq!(running.state(), "open");
    assert_eq!(
        running.say(&resource, "proceeding", "none").await,
        StatusCode::OK
    );
    assert_eq!(running.state(), "running");
    assert_eq!(
        running.say(&resource, "closed", "success").await,
        StatusCode::OK
    );
    assert_eq!(running.link("deploymentBase").await, None);
    // Said twice, and contradicted: what has ended stays ended.
    assert_eq!(
        running.say(&resource, "closed", "success").await,
        StatusCode::OK
    );
    assert_eq!(
        running.say(&resource, "closed", "failure").await,
        StatusCode::OK
    );
    assert_eq!(running.state(), "success");
    running.stop().await;
}

#[tokio::test]
async fn the_same_release_signed_again_is_no_new_deployment_and_another_one_is() {
    let running = Running::start();
    let first = running.desk.pack("hw-a", "1.2.0", 2);
    running
        .desk
        .release("spring", std::slice::from_ref(&first))
        .unwrap();
    let spring = running.link("deploymentBase").await.unwrap();
    assert_eq!(running.link("deploymentBase").await.unwrap(), spring);
    let desk = running.stop().await;
    rotate(&desk.repo(), Rotated::DirectorTargets, crate::common::now()).unwrap();
    let running = Running::of(desk);
    let again = running.link("deploymentBase").await.unwrap();
    assert_eq!(again, spring, "also after a restart of the server");
    let second = running.desk.pack("hw-a", "1.4.0", 3);
    running
        .desk
        .release("summer", std::slice::from_ref(&second))
        .unwrap();
    assert_eq!(
        running.send(Method::GET, &spring, "").await.0,
        StatusCode::NOT_FOUND
    );
    assert_ne!(running.link("deploymentBase").await.unwrap(), spring);
    // A vehicle that was on its way with the old one may say how that ended.
    assert_eq!(
        running.say(&spring, "closed", "success").await,
        StatusCode::OK
    );
    assert_eq!(running.state(), "open");
    running.stop().await;
}

#[tokio::test]
async fn a_deployment_is_taken_back_as_the_vehicle_allows() {
    let running = Running::start();
    let (dir, vin) = (running.desk.repo_dir(), VIN.parse().unwrap());
    assert_eq!(fleet::cancel(&dir, &vin).unwrap(), None);
    let image = running.desk.pack("hw-a", "1.2.0", 2);
    running
        .desk
        .release("spring", std::slice::from_ref(&image))
        .unwrap();
    let deployment = running.link("deploymentBase").await.unwrap();
    assert!(fleet::cancel(&dir, &vin).unwrap().is_some());
    assert_eq!(running.link("deploymentBase").await, None);
    let cancel = running.link("cancelAction").await.unwrap();
    let (_, document) = running.send(Method::GET, &cancel, "").await;
    assert_eq!(document["cancelAction"]["stopId"], document["id"]);
    assert_eq!(
        running.say(&cancel, "rejected", "none").await,
        StatusCode::OK
    );
    assert_eq!(running.link("deploymentBase").await.unwrap(), deployment);
    fleet::cancel(&dir, &vin).unwrap();
    assert_eq!(
        running.say(&cancel, "closed", "success").await,
        StatusCode::OK
    );
    assert_eq!(running.state(), "canceled");
    assert_eq!(running.link("cancelAction").await, None);
    assert_eq!(running.link("deploymentBase").await, None);
    running.stop().await;
}

#[tokio::test]
async fn attributes_are_asked_for_until_they_are_known() {
    let running = Running::start();
    let resource = running.link("configData").await.unwrap();
    let data = json!({"mode": "merge", "data": {"vin": VIN}}).to_string();
    let (status, _) = running.send(Method::PUT, &resource, &data).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(running.link("configData").await, None);
    running.stop().await;
}

#[tokio::test]
async fn a_report_is_counted_once_however_often_it_comes() {
    let running = Running::start();
    running.poll().await;
    let report = |id: &str| {
        json!({"id": id, "at": 5, "phase": "Sealing",
               "report": {"campaign": {"id": "spring", "state": "completed"}, "ecus": []}})
    };
    let path = format!("reports/{VIN}");
    for (id, counted) in [("a", true), ("a", false), ("b", true), ("a", false)] {
        let (status, answer) = running
            .send(Method::POST, &path, &report(id).to_string())
            .await;
        assert_eq!(
            (status, &answer["counted"]),
            (StatusCode::OK, &json!(counted))
        );
    }
    let status = fleet::Status::of(&running.desk.repo_dir()).unwrap();
    assert_eq!(status.vehicles[0].reports, 2);
    assert_eq!(status.vehicles[0].last_report.as_deref(), Some("completed"));
    running.stop().await;
}

#[tokio::test]
async fn nobody_speaks_for_a_vehicle_without_its_token_and_nonsense_is_refused() {
    let mut running = Running::start();
    let own = format!("t/controller/v1/{VIN}");
    let good = running.token.clone();
    for token in ["", "TargetToken 00", "Basic x", "GatewayToken "] {
        token.clone_into(&mut running.token);
        for path in [
            &own,
            &format!("{own}/deploymentBase/1"),
            &format!("{own}/cancelAction/1"),
        ] {
            let (status, _) = running.send(Method::GET, path, "").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{token} {path}");
        }
        let (status, _) = running
            .send(Method::POST, &format!("reports/{VIN}"), "{}")
            .await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{token}");
    }
    running.token = good;
    let other = running
        .send(Method::GET, "t/controller/v1/WCANEPUS000000002", "")
        .await;
    assert_eq!(other.0, StatusCode::UNAUTHORIZED);
    assert_eq!(
        running.send(Method::GET, "t/controller/v1/x", "").await.0,
        StatusCode::NOT_FOUND
    );
    let feedback = format!("{own}/deploymentBase/99/feedback");
    for (body, status) in [
        ("", StatusCode::BAD_REQUEST),
        ("[]", StatusCode::BAD_REQUEST),
        (r#"{"status": {"execution": 5}}"#, StatusCode::BAD_REQUEST),
        (
            r#"{"status": {"execution": "closed", "result": {"finished": "success"}}}"#,
            StatusCode::NOT_FOUND,
        ),
    ] {
        assert_eq!(
            running.send(Method::POST, &feedback, body).await.0,
            status,
            "{body}"
        );
    }
    let huge = "x".repeat(600 << 10);
    let (status, _) = running.send(Method::POST, &feedback, &huge).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    running.stop().await;
}

//! The server over TLS: whole files, ranges, and nothing that is secret.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use crate::common::Desk;
use oem::{Error, serve::Server};
use reqwest::{Certificate, Client, StatusCode, header::RANGE};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

struct Running {
    desk: Desk,
    url: String,
    client: Client,
    stop: axum_server::Handle<std::net::SocketAddr>,
    server: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Running {
    fn start() -> Self {
        Self::with_patience(Duration::from_secs(60))
    }

    fn with_patience(patience: Duration) -> Self {
        // Another process-wide provider would only be an equal one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let desk = Desk::new();
        let server = Server::bind(&desk.repo_dir(), "127.0.0.1:0".parse().unwrap(), 60).unwrap();
        let server = server.with_patience(patience);
        let ca = fs::read(desk.path("out/ca.pem")).unwrap();
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(&ca).unwrap()])
            .build()
            .unwrap();
        Self {
            url: server.url(),
            stop: server.handle(),
            server: tokio::spawn(server.run()),
            desk,
            client,
        }
    }

    async fn get(&self, path: &str, range: Option<&str>) -> (StatusCode, Vec<u8>) {
        let mut request = self.client.get(format!("{}/{path}", self.url));
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.bytes().await.unwrap().to_vec())
    }

    async fn stop(self) {
        self.stop.graceful_shutdown(None);
        drop(self.client);
        self.server.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn published_files_are_served_whole_and_in_part() {
    let running = Running::start();
    let image = running.desk.pack("hw-a", "1.0.0", 2);
    running
        .desk
        .release("x", std::slice::from_ref(&image))
        .unwrap();
    let bytes = fs::read(&image).unwrap();
    let path = campaign::layout::artifact_path(&campaign::ids::sha256(&bytes));
    assert_eq!(
        running.get(&path, None).await,
        (StatusCode::OK, bytes.clone())
    );
    let part = running.get(&path, Some("bytes=100-1123")).await;
    assert_eq!(
        part,
        (StatusCode::PARTIAL_CONTENT, bytes[100..1124].to_vec())
    );
    let rest = running
        .get(&path, Some(&format!("bytes={}-", bytes.len() - 5)))
        .await;
    assert_eq!(
        rest,
        (
            StatusCode::PARTIAL_CONTENT,
            bytes[bytes.len() - 5..].to_vec()
        )
    );
    let beyond = running.get(&path, Some("bytes=99999999-")).await;
    assert_eq!(beyond.0, StatusCode::RANGE_NOT_SATISFIABLE);
    let director = format!("director/{}/1.targets.json", crate::common::VIN);
    assert_eq!(running.get(&director, None).await.0, StatusCode::OK);
    running.stop().await;
}

#[tokio::test]
async fn the_time_is_attested_to_whoever_asks() {
    let running = Running::start();
    let nonce = campaign::time::Nonce([0xAB; 16]);
    let (status, body) = running
        .get(&campaign::layout::time_path(&nonce), None)
        .await;
    assert_eq!(status, StatusCode::OK);
    let root = fs::read(running.desk.path("repo/keys/director-root.1.json")).unwrap();
    let root = campaign::meta::Document::<campaign::meta::Root>::parse(&root, 1 << 20).unwrap();
    let mut known = campaign::time::KnownTime::default();
    let policy = campaign::meta::KeyPolicy { rsa_min_bits: 2048 };
    known
        .attested(root.unverified(), policy, &nonce, &body)
        .unwrap();
    assert_eq!(
        running.get("time/ab", None).await.0,
        StatusCode::BAD_REQUEST
    );
    running.stop().await;
}

#[tokio::test]
async fn a_manifest_is_asked_for_and_taken() {
    let running = Running::start();
    let path = format!("manifest/{}", crate::common::VIN);
    let (status, nonce) = running.get(&path, None).await;
    assert_eq!(status, StatusCode::OK);
    let nonce = String::from_utf8(nonce).unwrap().parse().unwrap();
    let post = async |body: Vec<u8>| {
        let url = format!("{}/{path}", running.url);
        let answer = running.client.post(url).body(body).send().await.unwrap();
        answer.status()
    };
    let good = crate::manifest::honest(&running.desk, &nonce);
    let lie = String::from_utf8(good.clone())
        .unwrap()
        .replace("434e5041", "434e5042");
    assert_eq!(post(lie.into_bytes()).await, StatusCode::FORBIDDEN);
    assert_eq!(post(good.clone()).await, StatusCode::NO_CONTENT);
    assert_eq!(post(good).await, StatusCode::CONFLICT);
    let unknown = running.get("manifest/WCANEPUS000000009", None).await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
    running.stop().await;
}

/// Sends `request` and no more, and reads until the server ends the connection.
fn talk(running: &Running, request: &str) -> String {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(running.desk.path("out/ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = running.url.strip_prefix("https://").unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(client, TcpStream::connect(address).unwrap());
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A server that ends without a closing alert is an error here, and an end all the same.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Nobody holds a connection, or makes the desk read, without a token and without going on.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_or_without_a_token_is_sent_away() {
    let running = Running::with_patience(Duration::from_secs(1));
    let vin = crate::common::VIN;
    let (head, body, unknown) = tokio::task::block_in_place(|| {
        let long = "host: x\r\ncontent-length: 500000\r\n\r\n";
        let head = talk(&running, "GET /metadata/root.json HTTP/1.1\r\nhost: ");
        let body = talk(
            &running,
            &format!("POST /manifest/{vin} HTTP/1.1\r\n{long}"),
        );
        let unknown = talk(&running, &format!("POST /reports/{vin} HTTP/1.1\r\n{long}"));
        (head, body, unknown)
    });
    assert!(!head.contains("200"), "{head}");
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    assert!(unknown.starts_with("HTTP/1.1 401"), "{unknown}");
    running.stop().await;
}

/// A release that takes long holds the lock; a vehicle is told to come back, a stranger nothing.
#[tokio::test]
async fn a_desk_at_work_has_vehicles_come_back() {
    let running = Running::start();
    let held = running.desk.repo();
    let unknown = running.get("manifest/WCANEPUS000000009", None).await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
    let path = format!("manifest/{}", crate::common::VIN);
    let known = running.get(&path, None).await;
    assert_eq!(known.0, StatusCode::SERVICE_UNAVAILABLE);
    drop(held);
    assert_eq!(running.get(&path, None).await.0, StatusCode::OK);
    running.stop().await;
}

#[tokio::test]
async fn keys_are_not_served() {
    let running = Running::start();
    for path in [
        "keys/root.pem",
        "targets/%2e%2e/keys/root.pem",
        "metadata/..%2fkeys/root.pem",
        "metadata/",
        "",
    ] {
        let (status, body) = running.get(path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(!body.windows(7).any(|text| text == b"PRIVATE"), "{path}");
    }
    running.stop().await;
}

#[tokio::test]
async fn only_a_repository_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Server::bind(dir.path(), "127.0.0.1:0".parse().unwrap(), 60);
    assert!(matches!(refused, Err(Error::NoRepository(_))));
}

//! The API over TCP: who may use it.

use std::net::SocketAddr;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::tls::Tls;
use super::*;

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    fn issue(&self, purpose: ExtendedKeyUsagePurpose) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Issued { certificate, key }
    }
}

/// A service that is served over TCP, with an authority for its clients.
struct Bench {
    service: Service,
    address: SocketAddr,
    server: Authority,
    clients: Authority,
}

fn files(dir: &Path, server: &Authority, clients: &Authority) -> Tls {
    let issued = server.issue(ExtendedKeyUsagePurpose::ServerAuth);
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    Tls {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate: write("server.pem", issued.certificate.pem()),
        key: write("server.key", issued.key.serialize_pem()),
        client_ca: write("clients.pem", clients.pem.clone()),
    }
}

fn bench() -> Bench {
    let service = service();
    let (server, clients) = (Authority::new(), Authority::new());
    let listener = files(service.dir.path(), &server, &clients)
        .listen()
        .unwrap();
    let address = axum::serve::Listener::local_addr(&listener).unwrap();
    let app = router(Shared {
        desk: service.desk.clone(),
        board: service.board.clone(),
        uploads: service.dir.path().to_owned(),
        upload_max: LIMIT,
        upload_turn: Arc::new(Semaphore::new(1)),
    });
    let app = app.into_make_service_with_connect_info::<Peer>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Bench {
        service,
        address,
        server,
        clients,
    }
}

impl Bench {
    fn client(&self, shown: Option<&Issued>) -> reqwest::Client {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let pem = self.server.pem.as_bytes();
        roots
            .add(rustls::pki_types::pem::PemObject::from_pem_slice(pem).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::Pkcs8(shown.key.serialize_der().into());
                let chain = vec![shown.certificate.der().clone()];
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let client = reqwest::Client::builder().no_proxy();
        client.tls_backend_preconfigured(config).build().unwrap()
    }

    async fn get(&self, client: &reqwest::Client) -> Result<reqwest::Response, reqwest::Error> {
        let port = self.address.port();
        let url = format!("https://localhost:{port}/v1/status");
        client.get(url).send().await
    }
}

#[tokio::test]
async fn a_client_that_is_vouched_for_is_served_and_recorded_by_its_certificate() {
    let bench = bench();
    let shown = bench.clients.issue(ExtendedKeyUsagePurpose::ClientAuth);
    let client = bench.client(Some(&shown));
    let told = bench.get(&client).await.unwrap();
    assert!(told.status().is_success());
    assert!(told.text().await.unwrap().contains("\"version\""));
    let waiting = at_the_desk(&bench.service).await;
    let url = format!("https://localhost:{}/v1/consent", bench.address.port());
    let request = client.post(url).header("content-type", "application/json");
    let answer = request.body("{}").send().await.unwrap();
    assert!(answer.status().is_success());
    waiting.await.unwrap().unwrap();
    let text = std::fs::read_to_string(bench.service.dir.path().join(evidence::FILE)).unwrap();
    let print = ecu_image::crypto::sha256(&[shown.certificate.der()]);
    let who = format!("client certificate SHA-256 {print} from 127.0.0.1");
    assert!(text.contains(&who), "{text}");
}

#[tokio::test]
async fn a_client_without_a_certificate_or_with_a_strangers_is_refused() {
    let bench = bench();
    assert!(bench.get(&bench.client(None)).await.is_err());
    let stranger = Authority::new().issue(ExtendedKeyUsagePurpose::ClientAuth);
    assert!(bench.get(&bench.client(Some(&stranger))).await.is_err());
    // A server's certificate of the right authority is no client's.
    let server = bench.clients.issue(ExtendedKeyUsagePurpose::ServerAuth);
    assert!(bench.get(&bench.client(Some(&server))).await.is_err());
    let shown = bench.clients.issue(ExtendedKeyUsagePurpose::ClientAuth);
    assert!(bench.get(&bench.client(Some(&shown))).await.is_ok());
}

#[tokio::test]
async fn plain_http_is_answered_with_nothing_and_silence_keeps_nobody_out() {
    let bench = bench();
    // As many as may shake hands at a time but one, which say nothing.
    let mut silent = Vec::new();
    for _ in 0..15 {
        silent.push(tokio::net::TcpStream::connect(bench.address).await.unwrap());
    }
    let mut plain = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    plain
        .write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // The connection may also be reset.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let shown = bench.clients.issue(ExtendedKeyUsagePurpose::ClientAuth);
    assert!(bench.get(&bench.client(Some(&shown))).await.is_ok());
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_and_nothing_listens() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    for name in ["server.pem", "server.key", "clients.pem"] {
        let tls = files(dir.path(), &authority, &authority);
        std::fs::write(dir.path().join(name), "nothing").unwrap();
        let error = tls.listen().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(error.exit(), crate::error::Exit::Usage);
    }
    let tls = files(dir.path(), &authority, &authority);
    let first = tls.listen().unwrap();
    let listen = axum::serve::Listener::local_addr(&first).unwrap();
    let error = Tls { listen, ..tls }.listen().unwrap_err();
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
}

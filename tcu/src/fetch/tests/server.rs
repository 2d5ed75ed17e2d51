//! A server over TLS that follows a script.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::part::Part;
use super::super::{Artifact, FetchError, HttpSource, Limits, Source};
use super::run;

/// Impatient, and content with little.
pub(super) fn limits() -> Limits {
    Limits {
        attempts: 3,
        backoff: Duration::from_millis(1),
        step: 1000,
        ..Limits::default()
    }
}

/// What the server does with a request: its path, where its range starts, and its number.
pub(super) type Script = dyn Fn(&str, Option<usize>, usize) -> Reply + Send + Sync;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    path: String,
    /// The start of its range.
    range: Option<usize>,
    /// The tag without which the whole file is wanted.
    if_range: Option<String>,
}

pub(super) enum Reply {
    /// Status and headers, body; then the connection is closed.
    Close(String, Vec<u8>),
    /// Bytes without end.
    Endless,
    /// Status and headers, then a byte every few milliseconds.
    Drip(String),
}

/// A whole answer, or one that announces `announced` bytes.
pub(super) fn answer(status: &str, headers: &str, body: &[u8], announced: usize) -> Reply {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {announced}\r\n{headers}");
    Reply::Close(head, body.to_vec())
}

pub(super) fn ok(body: &[u8]) -> Reply {
    answer("200 OK", "", body, body.len())
}

pub(super) struct Server {
    pub(super) base: String,
    pub(super) dir: tempfile::TempDir,
    requests: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// A server that follows `script`, on a thread that lives as long as the test process.
    pub(super) fn start(script: Box<Script>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                // A client that gives up is what some tests are about.
                let _ = serve(&mut stream, &*script, &seen);
            }
        });
        Self {
            base,
            dir,
            requests,
        }
    }

    pub(super) fn source(&self) -> Source {
        self.source_with(limits())
    }

    pub(super) fn source_with(&self, limits: Limits) -> Source {
        let ca = self.dir.path().join("ca.pem");
        Source::Http(HttpSource::new(&self.base, Some(&ca), limits).unwrap())
    }

    pub(super) fn fetch(&self, artifact: &Artifact) -> Result<Vec<u8>, FetchError> {
        let path = run(self
            .source()
            .artifact(artifact, self.dir.path(), &mut |_| {}))?;
        Ok(std::fs::read(path).unwrap())
    }

    pub(super) fn part(&self, artifact: &Artifact) -> std::path::PathBuf {
        Part::of(artifact, self.dir.path()).path().to_owned()
    }

    pub(super) fn ranges(&self) -> Vec<Option<usize>> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|seen| seen.range).collect()
    }

    pub(super) fn if_ranges(&self) -> Vec<Option<String>> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|seen| seen.if_range.clone()).collect()
    }
}

fn serve(
    stream: &mut StreamOwned<ServerConnection, std::net::TcpStream>,
    script: &Script,
    seen: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let (mut path, mut range, mut if_range) = (String::new(), None, None);
    for line in BufReader::new(&mut *stream).lines() {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("get ") {
            path = rest.split(' ').next().unwrap_or("").to_owned();
        }
        if let Some(rest) = line.strip_prefix("if-range: ") {
            if_range = Some(rest.to_owned());
        }
        if let Some(rest) = line.strip_prefix("range: bytes=") {
            range = rest.trim_end_matches('-').parse().ok();
        }
    }
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(Seen {
            path: path.clone(),
            range,
            if_range,
        });
        seen.len()
    };
    match script(&path, range, number) {
        Reply::Close(head, body) => {
            write!(stream, "{head}connection: close\r\n\r\n")?;
            stream.write_all(&body)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
        Reply::Drip(head) => {
            write!(stream, "{head}connection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[0x55])?;
                stream.flush()?;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Reply::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[0x55; 4096])?;
            }
        }
    }
}

//! Downloads from nginx, as a fleet's web server or CDN would be, over a connection that breaks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use ecu_image::Digest;
use sha2::{Digest as _, Sha256};
use tcu::fetch::{Artifact, FetchError, HttpSource, Limits, Source};

/// Longer than what nginx and the sockets between buffer.
const LENGTH: usize = 3_000_000;

/// nginx with one folder of files; ends with the test.
struct Nginx {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Nginx {
    /// `location` is what nginx shall do with the files, besides serving them.
    fn start(location: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        write("ca.pem", certified.cert.pem());
        write("key.pem", certified.signing_key.serialize_pem());
        std::fs::create_dir(dir.path().join("files")).unwrap();
        let port = free_port();
        write("nginx.conf", configuration(dir.path(), port, location));
        let child = Command::new("nginx")
            .env("PATH", path_with_sbin())
            .arg("-p")
            .arg(dir.path())
            .args(["-c", "nginx.conf", "-e", "stderr"])
            .spawn()
            .expect("nginx is missing: `cargo xtask setup` installs it");
        let nginx = Self { dir, port, child };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let mut child = Command::new("kill");
            let lives = child.arg("-0").arg(nginx.child.id().to_string()).status();
            assert!(lives.unwrap().success(), "nginx has ended");
            std::thread::yield_now();
        }
        nginx
    }

    /// Puts a file there, as of `age` seconds ago: nginx makes the entity tag of time and length.
    fn put(&self, bytes: &[u8], age: u64) {
        let path = self.file();
        let written = path.with_extension("new");
        std::fs::write(&written, bytes).unwrap();
        let file = std::fs::File::options().write(true).open(&written).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age))
            .unwrap();
        std::fs::rename(written, path).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("files/a.img")
    }

    fn source(&self, port: u16, limits: Limits) -> Source {
        let ca = self.dir.path().join("ca.pem");
        let base = format!("https://localhost:{port}");
        Source::Http(HttpSource::new(&base, Some(&ca), limits).unwrap())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One process, everything below one folder.
fn configuration(dir: &Path, port: u16, location: &str) -> String {
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};", dir.display()))
        .join(" ");
    format!(
        "daemon off; master_process off; pid {dir}/pid; error_log stderr crit;
        events {{}}
        http {{
            access_log off; {temp}
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {dir}/ca.pem; ssl_certificate_key {dir}/key.pem;
                location / {{ root {dir}/files; {location} }}
            }}
        }}",
        dir = dir.display()
    )
}

fn path_with_sbin() -> String {
    format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Forwards connections to `to`, and breaks each off after `after` bytes of answers. Returns its port
/// and how many connections there were.
fn breaking_off(to: u16, after: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            seen.fetch_add(1, Ordering::SeqCst);
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            forward(client.unwrap(), server, after);
        }
    });
    (port, count)
}

fn forward(client: TcpStream, mut server: TcpStream, mut left: usize) {
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let requests = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let (mut client, mut buffer) = (client, [0; 4096]);
    while left > 0 {
        let len = server.read(&mut buffer).unwrap_or(0).min(left);
        if len == 0 || client.write_all(&buffer[..len]).is_err() {
            break;
        }
        left -= len;
    }
    let _ = (
        client.shutdown(Shutdown::Both),
        server.shutdown(Shutdown::Both),
    );
    let _ = requests.join();
}

fn limits() -> Limits {
    Limits {
        attempts: 3,
        backoff: Duration::from_millis(1),
        ..Limits::default()
    }
}

fn image(salt: u8) -> Vec<u8> {
    let byte = |index: u32| (index.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0] ^ salt;
    (0..).take(LENGTH).map(byte).collect()
}

fn artifact(bytes: &[u8]) -> Artifact {
    Artifact {
        path: "a.img".into(),
        length: bytes.len() as u64,
        sha256: Digest(Sha256::digest(bytes).into()),
    }
}

/// Fetches and reads; also every length that was reported on the way.
fn fetch(
    source: &Source,
    artifact: &Artifact,
    cache: &Path,
) -> (Result<Vec<u8>, FetchError>, Vec<u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let mut lengths = Vec::new();
    let path = runtime.block_on(source.artifact(artifact, cache, &mut |len| lengths.push(len)));
    (path.map(|path| std::fs::read(path).unwrap()), lengths)
}

#[test]
fn a_connection_that_always_breaks_brings_the_image_and_no_byte_twice() {
    let nginx = Nginx::start("");
    let image = image(0);
    nginx.put(&image, 60);
    let (port, connections) = breaking_off(nginx.port, 400_000);
    let source = nginx.source(port, limits());
    let (fetched, lengths) = fetch(&source, &artifact(&image), nginx.dir.path());
    assert!(fetched.unwrap() == image);
    assert!(lengths.is_sorted(), "a download began anew");
    let tries = connections.load(Ordering::SeqCst);
    assert!(
        (8..=10).contains(&tries),
        "{tries} connections of 400,000 bytes"
    );
}

#[test]
fn a_program_that_restarts_goes_on_with_the_bytes_on_the_disk() {
    let nginx = Nginx::start("");
    let image = image(0);
    nginx.put(&image, 60);
    let (port, _) = breaking_off(nginx.port, 1_000_000);
    let once = nginx.source(
        port,
        Limits {
            attempts: 1,
            ..limits()
        },
    );
    let (broken, first) = fetch(&once, &artifact(&image), nginx.dir.path());
    assert!(matches!(broken, Err(FetchError::Unreachable { .. })));
    drop(once);
    let source = nginx.source(nginx.port, limits());
    let (fetched, second) = fetch(&source, &artifact(&image), nginx.dir.path());
    assert!(fetched.unwrap() == image);
    assert_eq!(first.last(), second.first());
    assert!(second[0] > 900_000, "{}", second[0]);
}

#[test]
fn a_file_that_changes_between_two_tries_is_fetched_from_its_first_byte() {
    let nginx = Nginx::start("");
    let (old, new) = (image(1), image(0));
    nginx.put(&old, 60);
    let (port, _) = breaking_off(nginx.port, 1_000_000);
    let once = nginx.source(
        port,
        Limits {
            attempts: 1,
            ..limits()
        },
    );
    assert!(fetch(&once, &artifact(&new), nginx.dir.path()).0.is_err());
    nginx.put(&new, 30);
    let source = nginx.source(nginx.port, limits());
    let (fetched, lengths) = fetch(&source, &artifact(&new), nginx.dir.path());
    assert!(fetched.unwrap() == new);
    assert_eq!(
        lengths.first(),
        Some(&0),
        "nginx answers If-Range with the whole file"
    );
    assert!(lengths.is_sorted(), "and that was enough");
}

#[test]
fn a_limited_rate_is_too_slow_only_below_the_bound() {
    let nginx = Nginx::start("limit_rate 1000k;");
    let image = image(0);
    nginx.put(&image, 60);
    let slow = |least| {
        let limits = Limits {
            attempts: 2,
            least,
            step: least,
            window: Duration::from_millis(500),
            ..limits()
        };
        fetch(
            &nginx.source(nginx.port, limits),
            &artifact(&image),
            nginx.dir.path(),
        )
        .0
    };
    let error = slow(1 << 40).err().unwrap();
    assert!(error.to_string().contains("too slowly"), "{error}");
    assert!(slow(1).unwrap() == image);
}

#[test]
fn storms_of_404_and_503_end_and_are_survived() {
    let storm = |location: &str| {
        let nginx = Nginx::start(location);
        let image = image(0);
        let source = nginx.source(nginx.port, limits());
        fetch(&source, &artifact(&image), nginx.dir.path())
            .0
            .err()
            .unwrap()
    };
    assert!(matches!(storm(""), FetchError::Missing(_)));
    let busy = storm("return 503;");
    assert!(
        matches!(busy, FetchError::Status { status: 503, .. }),
        "{busy}"
    );
    let moved = storm("return 301 https://localhost/;");
    assert!(
        matches!(moved, FetchError::Status { status: 301, .. }),
        "{moved}"
    );

    let nginx = Nginx::start("");
    let image = image(0);
    let patient = Limits {
        attempts: 60,
        backoff: Duration::from_millis(20),
        ..limits()
    };
    let source = nginx.source(
        nginx.port,
        Limits {
            longest_pause: Duration::from_millis(40),
            ..patient
        },
    );
    std::thread::scope(|scope| {
        let late = scope.spawn(|| fetch(&source, &artifact(&image), nginx.dir.path()).0);
        std::thread::yield_now();
        nginx.put(&image, 60);
        assert!(late.join().unwrap().unwrap() == image);
    });
}

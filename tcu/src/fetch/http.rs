//! A repository over HTTPS: bounded, resumed by Range, retried a bounded number of times.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{Artifact, FetchError, part_of, settle};

/// Bounds of the network.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time to connect.
    pub connect: Duration,
    /// Time without a byte.
    pub idle: Duration,
    /// Tries in a row that bring nothing further.
    pub attempts: u32,
    /// Pause before the second try, doubled for each further one, plus up to half of jitter.
    pub backoff: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            attempts: 5,
            backoff: Duration::from_millis(500),
        }
    }
}

/// A repository.
#[derive(Debug)]
pub struct HttpSource {
    client: Client,
    base: String,
    limits: Limits,
}

/// Why one try failed.
enum Fault {
    /// Trying again may help.
    Transient(FetchError),
    /// It will not.
    Final(FetchError),
}

impl HttpSource {
    /// The repository at `base`, an `https` URL. With `ca` only servers that those authorities
    /// vouch for are spoken to, else those that the system trusts.
    ///
    /// # Errors
    ///
    /// [`FetchError::Ca`], [`FetchError::NoSource`].
    pub fn new(base: &str, ca: Option<&Path>, limits: Limits) -> Result<Self, FetchError> {
        // Fails where another one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limits.connect)
            .read_timeout(limits.idle);
        if let Some(ca) = ca {
            builder = builder.tls_backend_preconfigured(pinned(ca)?);
        }
        let client = builder
            .build()
            .map_err(|error| FetchError::NoSource(format!("{base}: {error}")))?;
        Ok(Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
            limits,
        })
    }

    /// A document of at most `limit` bytes; `None` where the server has none.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn document(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, FetchError> {
        let url = format!("{}/{path}", self.base);
        let mut attempt = 1;
        loop {
            match self.try_document(&url, limit).await {
                Ok(document) => return Ok(document),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Transient(error)) => self.pause(&mut attempt, error).await?,
            }
        }
    }

    /// Downloads an image into the cache, from where an earlier download stopped.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn artifact(
        &self,
        artifact: &Artifact,
        cache: &Path,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), FetchError> {
        let part = part_of(artifact, cache);
        let (mut attempt, mut reached) = (1, 0);
        loop {
            let length = std::fs::metadata(&part).map_or(0, |metadata| metadata.len());
            if length == artifact.length {
                return settle(artifact, cache);
            }
            let Err(fault) = self.try_artifact(artifact, &part, length, progress).await else {
                continue;
            };
            let error = match fault {
                Fault::Final(error) => return Err(error),
                Fault::Transient(error) => error,
            };
            let length = std::fs::metadata(&part).map_or(0, |metadata| metadata.len());
            if length > reached {
                (attempt, reached) = (1, length);
            }
            self.pause(&mut attempt, error).await?;
        }
    }

    async fn try_document(&self, url: &str, limit: usize) -> Result<Option<Vec<u8>>, Fault> {
        let response = self.client.get(url).send().await;
        let mut response = response.map_err(|error| unreachable(url, &error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(refused(url, status)),
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = next(url, &mut response).await? {
            if bytes.len() + chunk.len() > limit {
                return Err(Fault::Final(FetchError::TooLong {
                    what: url.to_owned(),
                    limit: limit as u64,
                }));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes))
    }

    /// One request for what is missing; what it brings is appended to the part file.
    async fn try_artifact(
        &self,
        artifact: &Artifact,
        part: &Path,
        have: u64,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), Fault> {
        let url = format!("{}/{}", self.base, artifact.path);
        // Ranges count bytes of the file, not of an encoding of it.
        let mut request = self.client.get(&url).header(ACCEPT_ENCODING, "identity");
        if have > 0 && have < artifact.length {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        let response = request.send().await;
        let mut response = response.map_err(|error| unreachable(&url, &error))?;
        let mut done = match response.status() {
            // Without the range the file starts anew.
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if starts_at(&response, have) => have,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                remove(part)?;
                return Err(unreachable(&url, &"another range than asked for"));
            }
            status => return Err(refused(&url, status)),
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(part)
            .map_err(|source| io(part, source))?;
        file.set_len(done).map_err(|source| io(part, source))?;
        file.seek(SeekFrom::End(0))
            .map_err(|source| io(part, source))?;
        progress(done);
        while let Some(chunk) = next(&url, &mut response).await? {
            done += chunk.len() as u64;
            if done > artifact.length {
                remove(part)?;
                return Err(Fault::Final(FetchError::TooLong {
                    what: url,
                    limit: artifact.length,
                }));
            }
            file.write_all(&chunk).map_err(|source| io(part, source))?;
            progress(done);
        }
        if done < artifact.length {
            return Err(unreachable(
                &url,
                &"the server sent less than the whole file",
            ));
        }
        Ok(())
    }

    /// Waits before the next try, or gives up.
    async fn pause(&self, attempt: &mut u32, error: FetchError) -> Result<(), FetchError> {
        if *attempt >= self.limits.attempts {
            return Err(error);
        }
        tracing::info!(attempt, %error, "trying again");
        let pause = self.limits.backoff * (1 << (*attempt - 1).min(6));
        let jitter: f64 = crate::random().random_range(0.0..0.5);
        tokio::time::sleep(pause + pause.mul_f64(jitter)).await;
        *attempt += 1;
        Ok(())
    }
}

/// A TLS configuration that trusts the authorities of one file and no other.
fn pinned(ca: &Path) -> Result<ClientConfig, FetchError> {
    let fault = |what: String| FetchError::Ca {
        path: ca.to_owned(),
        what,
    };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(ca).map_err(|error| fault(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("it is empty".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn next(
    url: &str,
    response: &mut Response,
) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]> + use<>>, Fault> {
    response
        .chunk()
        .await
        .map_err(|error| unreachable(url, &error))
}

/// Whether a partial response begins where it was asked to.
fn starts_at(response: &Response, start: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE);
    let text = range.and_then(|range| range.to_str().ok()).unwrap_or("");
    text.strip_prefix("bytes ")
        .and_then(|text| text.split_once('-'))
        .is_some_and(|(first, _)| first.parse() == Ok(start))
}

/// With all causes: "error sending request" alone helps nobody.
fn unreachable(url: &str, error: &dyn Describe) -> Fault {
    Fault::Transient(FetchError::Unreachable {
        url: url.to_owned(),
        what: error.describe(),
    })
}

/// An error in words, causes included.
trait Describe {
    fn describe(&self) -> String;
}

impl Describe for reqwest::Error {
    fn describe(&self) -> String {
        let mut words = Vec::new();
        let mut error: Option<&dyn std::error::Error> = Some(self);
        while let Some(cause) = error {
            words.push(cause.to_string());
            error = cause.source();
        }
        words.join(": ")
    }
}

impl Describe for &str {
    fn describe(&self) -> String {
        (*self).to_owned()
    }
}

/// A server in trouble may recover; a refusal stays one.
fn refused(url: &str, status: StatusCode) -> Fault {
    let error = FetchError::Status {
        url: url.to_owned(),
        status: status.as_u16(),
    };
    let busy = status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT;
    if status.is_server_error() || busy {
        Fault::Transient(error)
    } else if status == StatusCode::NOT_FOUND {
        Fault::Final(FetchError::Missing(url.to_owned()))
    } else {
        Fault::Final(error)
    }
}

fn io(path: &Path, source: std::io::Error) -> Fault {
    Fault::Final(FetchError::file(path)(source))
}

fn remove(part: &Path) -> Result<(), Fault> {
    match std::fs::remove_file(part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(part, error)),
        _ => Ok(()),
    }
}

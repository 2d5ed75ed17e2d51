//! HTTPS: bounded answers, paced, retried as [`Retry`] says.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ecu_image::Digest;
use rand::RngExt;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;

use super::download::Download;
use super::retry::{Limits, Pace, Retry, retry_after};
use super::{Artifact, FetchError};

/// Why one try failed.
pub(crate) enum Fault {
    /// Trying again may help, after what the server asks for.
    Transient(FetchError, Option<Duration>),
    /// It will not.
    Final(FetchError),
}

impl From<FetchError> for Fault {
    fn from(error: FetchError) -> Self {
        Self::Final(error)
    }
}

/// Speaks to servers: no redirect is followed, no proxy asked.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) client: Client,
    pub(super) limits: Limits,
    epoch: Instant,
}

impl Http {
    /// With `ca` only servers that those authorities vouch for are spoken to, else those that the
    /// system trusts.
    pub(crate) fn new(ca: Option<&Path>, limits: Limits) -> Result<Self, FetchError> {
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
            .map_err(|error| FetchError::NoSource(error.to_string()))?;
        Ok(Self {
            client,
            limits,
            epoch: Instant::now(),
        })
    }

    /// Sends one request; any status is an answer.
    pub(crate) async fn send(&self, url: &str, request: RequestBuilder) -> Result<Response, Fault> {
        let response = request.send().await;
        response.map_err(|error| unreachable(url, &error))
    }

    /// A pace that begins now.
    pub(super) fn pace(&self) -> Pace {
        Pace::new(&self.limits, self.now())
    }

    /// The next bytes of an answer that keeps its pace.
    pub(super) async fn next(
        &self,
        url: &str,
        response: &mut Response,
        pace: &mut Pace,
    ) -> Result<Option<impl std::ops::Deref<Target = [u8]> + use<>>, Fault> {
        let deadline = self.epoch + pace.deadline();
        let Ok(chunk) = tokio::time::timeout_at(deadline, response.chunk()).await else {
            return Err(unreachable(url, &"it sends too slowly"));
        };
        let chunk = chunk.map_err(|error| unreachable(url, &error))?;
        pace.received(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        if pace.too_slow(self.now()) && chunk.is_some() {
            return Err(unreachable(url, &"it sends too slowly"));
        }
        Ok(chunk)
    }

    /// The body of an answer, of at most `limit` bytes.
    pub(crate) async fn body(
        &self,
        url: &str,
        mut response: Response,
        limit: usize,
    ) -> Result<Vec<u8>, Fault> {
        let (mut bytes, mut pace) = (Vec::new(), self.pace());
        while let Some(chunk) = self.next(url, &mut response, &mut pace).await? {
            if bytes.len().saturating_add(chunk.len()) > limit {
                return Err(Fault::Final(FetchError::TooLong {
                    what: url.to_owned(),
                    limit: limit as u64,
                }));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// A sequence of tries.
    pub(super) fn retry(&self) -> Retry {
        Retry::new(self.limits.clone(), crate::random().random())
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// Waits before the next try, or gives up; `have` bytes are there.
pub(super) async fn pause(retry: &mut Retry, have: u64, fault: Fault) -> Result<(), FetchError> {
    let (error, asked) = match fault {
        Fault::Final(error) => return Err(error),
        Fault::Transient(error, asked) => (error, asked),
    };
    let Some(pause) = retry.failed(have, asked) else {
        return Err(error);
    };
    tracing::info!(%error, seconds = pause.as_secs_f32(), "trying again");
    tokio::time::sleep(pause).await;
    Ok(())
}

/// Where an image lies.
#[derive(Debug, Clone)]
pub struct Location {
    /// The https URL.
    pub url: String,
    /// What its server wants to see, if it is one that may.
    pub authorization: Option<HeaderValue>,
}

/// What a server announced besides the repository: one group for each ECU it has something for.
#[derive(Debug, Clone, Default)]
pub struct Announced {
    /// A name for people, and the images.
    pub groups: Vec<(String, Vec<Digest>)>,
    /// Where images lie.
    pub locations: HashMap<Digest, Location>,
}

/// A repository.
#[derive(Debug)]
pub struct HttpSource {
    http: Http,
    base: String,
    announced: Announced,
}

impl HttpSource {
    /// The repository at `base`, an `https` URL. With `ca` only servers that those authorities
    /// vouch for are spoken to, else those that the system trusts.
    ///
    /// # Errors
    ///
    /// [`FetchError::Ca`], [`FetchError::NoSource`].
    pub fn new(base: &str, ca: Option<&Path>, limits: Limits) -> Result<Self, FetchError> {
        Ok(Self {
            http: Http::new(ca, limits)?,
            base: base.trim_end_matches('/').to_owned(),
            announced: Announced::default(),
        })
    }

    /// The same repository, with images that lie elsewhere too.
    #[must_use]
    pub fn with(self, announced: Announced) -> Self {
        Self { announced, ..self }
    }

    pub(super) fn agrees(&self, images: &[Digest]) -> Result<(), FetchError> {
        let strange =
            |(_, group): &&(String, Vec<Digest>)| !group.iter().any(|image| images.contains(image));
        match self.announced.groups.iter().find(strange) {
            Some((name, _)) => Err(FetchError::Contradiction(name.clone())),
            None => Ok(()),
        }
    }

    /// A document of at most `limit` bytes; `None` where the server has none.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn document(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, FetchError> {
        let url = format!("{}/{path}", self.base);
        let mut retry = self.http.retry();
        loop {
            match self.try_document(&url, limit).await {
                Ok(document) => return Ok(document),
                Err(fault) => pause(&mut retry, 0, fault).await?,
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
        if let Some(location) = self.announced.locations.get(&artifact.sha256) {
            let download = Download::new(&self.http, location.clone(), artifact, cache);
            match download.run(progress).await {
                Err(error @ FetchError::File { .. }) => return Err(error),
                Err(error) => tracing::warn!(%error, "the repository is asked instead"),
                Ok(()) => return Ok(()),
            }
        }
        let location = Location {
            url: format!("{}/{}", self.base, artifact.path),
            authorization: None,
        };
        let download = Download::new(&self.http, location, artifact, cache);
        download.run(progress).await
    }

    async fn try_document(&self, url: &str, limit: usize) -> Result<Option<Vec<u8>>, Fault> {
        let response = self.http.send(url, self.http.client.get(url)).await?;
        match response.status() {
            StatusCode::OK => self.http.body(url, response, limit).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refused(url, &response)),
        }
    }
}

/// The authorities of one file.
pub(crate) fn authorities(ca: &Path) -> Result<RootCertStore, FetchError> {
    let fault = |what: String| FetchError::Ca {
        path: ca.to_owned(),
        what,
    };
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(ca).map_err(|error| fault(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("the file is empty".into()));
    }
    Ok(roots)
}

/// A TLS configuration that trusts the authorities of one file and no other.
fn pinned(ca: &Path) -> Result<ClientConfig, FetchError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Ca {
            path: ca.to_owned(),
            what: error.to_string(),
        })?;
    let config = config.with_root_certificates(authorities(ca)?);
    Ok(config.with_no_client_auth())
}

/// Worth another try; with all causes: "error sending request" alone helps nobody.
pub(super) fn unreachable(url: &str, error: &dyn Describe) -> Fault {
    let error = FetchError::Unreachable {
        url: url.to_owned(),
        what: error.describe(),
    };
    Fault::Transient(error, None)
}

/// An error in words, causes included.
pub(super) trait Describe {
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
pub(crate) fn refused(url: &str, response: &Response) -> Fault {
    let status = response.status();
    let error = FetchError::Status {
        url: url.to_owned(),
        status: status.as_u16(),
    };
    let busy = status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT;
    if !status.is_server_error() && !busy {
        return Fault::Final(error);
    }
    let headers = response.headers();
    let asked = text(headers, &RETRY_AFTER);
    Fault::Transient(
        error,
        asked.and_then(|asked| retry_after(asked, text(headers, &DATE))),
    )
}

/// A header that is text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

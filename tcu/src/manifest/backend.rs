//! `GET` and `POST manifest/VIN`.

use std::path::Path;

use campaign::ids::Vin;
use campaign::time::Nonce;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;

use crate::fetch::{Fault, FetchError, Http, Limits};

/// The longest answer that is read, in bytes: a nonce.
const ANSWER_MAX: usize = 64;

/// What the backend makes of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has checked each ECU's part and recorded it.
    Accepted,
    /// It does not believe it.
    Disbelieved,
}

/// Where manifests go: beside the repository.
#[derive(Debug)]
pub struct Backend {
    http: Http,
    url: String,
}

impl Backend {
    /// The backend of the repository at `repository`, an https URL; `None` for anything else, as a
    /// bundle.
    ///
    /// # Errors
    ///
    /// [`FetchError::Ca`], [`FetchError::NoSource`].
    pub fn new(repository: &str, vin: &Vin, ca: Option<&Path>) -> Result<Option<Self>, FetchError> {
        if !repository.starts_with("https://") {
            return Ok(None);
        }
        Ok(Some(Self {
            http: Http::new(ca, Limits::default())?,
            url: format!("{}/manifest/{vin}", repository.trim_end_matches('/')),
        }))
    }

    /// The nonce for the next manifest; `None` where the backend takes none.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn nonce(&self) -> Result<Option<Nonce>, FetchError> {
        let asked = async {
            let request = self.http.client.get(&self.url);
            let response = self.http.send(&self.url, request).await?;
            match response.status() {
                StatusCode::OK => self.http.body(&self.url, response, ANSWER_MAX).await,
                StatusCode::NOT_FOUND => Ok(Vec::new()),
                _ => Err(crate::fetch::refused(&self.url, &response)),
            }
        };
        let text = asked.await.map_err(error)?;
        if text.is_empty() {
            return Ok(None);
        }
        let nonce = std::str::from_utf8(&text).ok();
        let nonce = nonce.and_then(|text| text.trim().parse().ok());
        let missing = || FetchError::Missing(format!("the nonce at {}", self.url));
        nonce.map(Some).ok_or_else(missing)
    }

    /// Sends a manifest.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: whether the backend has it is unknown.
    pub async fn send(&self, manifest: Vec<u8>) -> Result<Verdict, FetchError> {
        let request = self.http.client.post(&self.url).body(manifest);
        let request = request.header(CONTENT_TYPE, "application/json");
        let response = self.http.send(&self.url, request).await.map_err(error)?;
        match response.status() {
            status if status.is_success() => Ok(Verdict::Accepted),
            StatusCode::FORBIDDEN => Ok(Verdict::Disbelieved),
            _ => Err(error(crate::fetch::refused(&self.url, &response))),
        }
    }
}

fn error(fault: Fault) -> FetchError {
    match fault {
        Fault::Final(error) | Fault::Transient(error, _) => error,
    }
}

//! Delivery of the journal's reports to a backend that counts each id once (`POST /reports/VIN`).

use std::path::Path;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{StatusCode, Url};

use super::ServerError;
use crate::error::Error;
use crate::fetch::{Fault, FetchError, Http, Limits};
use crate::ports::{Outbox, StoredReport};
use crate::state::State;

/// Reports that are delivered in one go.
const AT_ONCE: usize = 16;
/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 4096;

/// Where reports go.
#[derive(Debug)]
pub struct Reports {
    http: Http,
    url: Url,
    authorization: Option<HeaderValue>,
}

impl Reports {
    /// The backend at `url`, for the vehicle `vin`.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub fn new(
        url: &str,
        vin: &str,
        authorization: Option<HeaderValue>,
        ca: Option<&Path>,
    ) -> Result<Self, ServerError> {
        let wrong = || ServerError::Url(url.to_owned());
        let mut url = Url::parse(url).map_err(|_| wrong())?;
        if url.scheme() != "https" {
            return Err(wrong());
        }
        let segments = url.path_segments_mut();
        segments
            .map_err(|()| wrong())?
            .pop_if_empty()
            .extend(["reports", vin]);
        Ok(Self {
            http: Http::new(ca, Limits::default())?,
            url,
            authorization,
        })
    }

    /// Delivers what waits, oldest first, until the backend does not answer; returns whether nothing
    /// waits any more. A report that the backend will never take is given up, or it would hold up
    /// those after it.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`].
    pub async fn deliver(&self, state: &State) -> Result<bool, Error> {
        let waiting = state.journal()?.undelivered(AT_ONCE)?;
        let all = waiting.len() < AT_ONCE;
        for report in waiting {
            match self.send(&report).await {
                Ok(()) => {}
                Err(Fault::Final(error)) if is_lost(&error) => {
                    tracing::warn!(%error, id = report.id, "the backend does not take the report");
                }
                Err(Fault::Final(error) | Fault::Transient(error, _)) => {
                    tracing::info!(%error, "reports wait");
                    return Ok(false);
                }
            }
            state.journal()?.delivered(&report.id)?;
        }
        Ok(all)
    }

    async fn send(&self, report: &StoredReport) -> Result<(), Fault> {
        let url = self.url.as_str();
        // Texts and numbers: they always become JSON.
        let body = serde_json::to_vec(report).unwrap_or_default();
        let request = self.http.client.post(url).body(body);
        let mut request = request.header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = self.http.send(url, request).await?;
        if !response.status().is_success() {
            return Err(crate::fetch::refused(url, &response));
        }
        // Only a whole answer is one.
        self.http.body(url, response, ANSWER_MAX).await.map(drop)
    }
}

/// Whether the backend has understood the report and does not want it.
fn is_lost(error: &FetchError) -> bool {
    let lost = [
        StatusCode::BAD_REQUEST,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::UNPROCESSABLE_ENTITY,
    ];
    matches!(error, FetchError::Status { status, .. }
        if lost.iter().any(|lost| lost.as_u16() == *status))
}

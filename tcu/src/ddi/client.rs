//! The requests on HTTPS.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Serialize;

use super::document::DOCUMENT_MAX;
use super::{Answer, Deployment, Request, Resource};
use crate::fetch::{Announced, Fault, FetchError, Http, Limits, Location};

/// The media type of hawkBit's documents; a server that does not know it sends JSON all the same.
const HAL: &str = "application/hal+json, application/json";
/// The longest token, in bytes.
const TOKEN_MAX: usize = 1024;

/// Why a server cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Not an https URL, or a tenant or controller that no path can have.
    #[error("{0}: not an https URL with a tenant and a controller")]
    Url(String),
    /// The token cannot be sent.
    #[error("the token is empty, too long or not printable ASCII")]
    Token,
    /// The authorities cannot be used.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// How the vehicle shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Authority {
    /// The token of this vehicle.
    Target,
    /// The token of a gateway, which may speak for many.
    Gateway,
}

/// The `Authorization` header for a token.
///
/// # Errors
///
/// [`ServerError::Token`].
pub fn authorization(authority: Authority, token: &str) -> Result<HeaderValue, ServerError> {
    let token = token.trim();
    let scheme = match authority {
        Authority::Target => "TargetToken",
        Authority::Gateway => "GatewayToken",
    };
    let plain = !token.is_empty() && token.len() <= TOKEN_MAX;
    let value = HeaderValue::from_str(&format!("{scheme} {token}"));
    let mut value = value.ok().filter(|_| plain).ok_or(ServerError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The server, as one vehicle sees it.
#[derive(Debug)]
pub struct Server {
    http: Http,
    root: Url,
    authorization: Option<HeaderValue>,
    attributes: BTreeMap<String, String>,
}

impl Server {
    /// The server at `url` for a vehicle of a tenant; with `ca` only those vouch for it.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub fn new(
        url: &str,
        tenant: &str,
        controller: &str,
        ca: Option<&Path>,
        limits: Limits,
    ) -> Result<Self, ServerError> {
        let wrong = || ServerError::Url(format!("{url} {tenant} {controller}"));
        let mut root = Url::parse(url).map_err(|_| wrong())?;
        let named = [tenant, controller].iter().all(|name| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
            !name.is_empty() && name.bytes().all(plain) && !name.starts_with('.')
        });
        if root.scheme() != "https" || root.query().is_some() || !named {
            return Err(wrong());
        }
        let mut segments = root.path_segments_mut().map_err(|()| wrong())?;
        segments
            .pop_if_empty()
            .extend([tenant, "controller", "v1", controller]);
        drop(segments);
        Ok(Self {
            http: Http::new(ca, limits)?,
            root,
            authorization: None,
            attributes: BTreeMap::new(),
        })
    }

    /// With a header that shows who the vehicle is, which is sent to this server and to no other.
    #[must_use]
    pub fn authorized(self, authorization: Option<HeaderValue>) -> Self {
        Self {
            authorization,
            ..self
        }
    }

    /// With what the server is told about the vehicle when it asks.
    #[must_use]
    pub fn describing(self, attributes: BTreeMap<String, String>) -> Self {
        Self { attributes, ..self }
    }

    /// The vehicle's base resource.
    #[must_use]
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// Sends a request.
    pub async fn exchange(&self, request: &Request) -> Answer {
        let (url, request) = match request {
            Request::Poll => self.get(&self.root),
            Request::Deployment(url) | Request::Cancellation(url) | Request::Confirmation(url) => {
                self.get(url)
            }
            Request::ConfigData(url) => {
                let data = serde_json::json!({"mode": "merge", "data": self.attributes});
                self.send(Method::PUT, url.clone(), &data)
            }
            Request::Feedback(resource, feedback) => {
                let base = match resource {
                    Resource::Deployment => "deploymentBase",
                    Resource::Cancellation => "cancelAction",
                };
                let url = self.below(&[base, feedback.id.as_str(), "feedback"]);
                self.send(Method::POST, url, feedback)
            }
            Request::Confirm(action, confirmed) => {
                let confirmation = if *confirmed { "confirmed" } else { "denied" };
                let url = self.below(&["confirmationBase", action.as_str(), "feedback"]);
                let body = serde_json::json!({"confirmation": confirmation, "details": []});
                self.send(Method::POST, url, &body)
            }
        };
        match self.answer(&url, request).await {
            Ok(answer) => answer,
            Err(Fault::Final(error)) => Answer::Refused(error.to_string()),
            Err(Fault::Transient(error, after)) => {
                tracing::warn!(%error, "the server does not answer");
                Answer::Failed(after)
            }
        }
    }

    /// Where the images of a deployment lie, and for which ECUs it has some.
    #[must_use]
    pub fn announced(&self, deployment: &Deployment) -> Announced {
        let mut announced = Announced::default();
        for chunk in &deployment.chunks {
            let known = chunk.artifacts.iter().filter_map(|offer| offer.sha256);
            let name = format!("{} {} {}", chunk.part, chunk.name, chunk.version);
            announced.groups.push((name, known.collect()));
            for offer in &chunk.artifacts {
                let (Some(sha256), Some(url)) = (offer.sha256, &offer.url) else {
                    continue;
                };
                let own = url.origin() == self.root.origin();
                let location = Location {
                    url: url.to_string(),
                    authorization: self.authorization.clone().filter(|_| own),
                };
                announced.locations.insert(sha256, location);
            }
        }
        announced
    }

    fn below(&self, path: &[&str]) -> Url {
        let mut url = self.root.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        url
    }

    fn get(&self, url: &Url) -> (Url, RequestBuilder) {
        let request = self.http.client.get(url.clone()).header(ACCEPT, HAL);
        (url.clone(), self.with_authorization(request))
    }

    fn send(&self, method: Method, url: Url, body: &impl Serialize) -> (Url, RequestBuilder) {
        let request = self.http.client.request(method, url.clone());
        // Texts and numbers: they always become JSON.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let request = request
            .header("content-type", "application/json")
            .body(body);
        (url, self.with_authorization(request))
    }

    fn with_authorization(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }

    async fn answer(&self, url: &Url, request: RequestBuilder) -> Result<Answer, Fault> {
        let url = url.as_str();
        let response = self.http.send(url, request).await?;
        match response.status() {
            status if status.is_success() => {
                let body = self.http.body(url, response, DOCUMENT_MAX).await?;
                Ok(Answer::Document(body))
            }
            StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::GONE => Ok(Answer::Gone),
            _ => Err(crate::fetch::refused(url, &response)),
        }
    }
}

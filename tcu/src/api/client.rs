//! The other end of the local API, for the command line.

use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Problem;
use crate::error::Error;

/// The longest line of an event stream that is believed, in bytes.
const LINE_MAX: usize = 1 << 20;

/// A service that runs on this machine.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    pub(super) http: reqwest::Client,
}

impl Client {
    /// The service behind a socket.
    ///
    /// # Errors
    ///
    /// [`Error::Service`].
    pub fn new(socket: &Path) -> Result<Self, Error> {
        // The library wants one even where nothing is encrypted; a second choice changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().unix_socket(socket).no_proxy();
        let http = http.build().map_err(|error| failed(socket, &error))?;
        Ok(Self {
            socket: socket.to_owned(),
            http,
        })
    }

    /// `GET`.
    ///
    /// # Errors
    ///
    /// [`Error::Service`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.finish(self.http.get(url(path))).await
    }

    /// `POST` of JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Service`]; [`Error::Usage`] where the service refuses.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        let request = self.http.post(url(path)).body(body);
        let request = request.header("content-type", "application/json");
        self.finish(request).await
    }

    async fn finish<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Error> {
        let response = request.send().await;
        let response = response.map_err(|error| failed(&self.socket, &error))?;
        let status = response.status();
        let bytes = response.bytes().await;
        let bytes = bytes.map_err(|error| failed(&self.socket, &error))?;
        if status.is_success() {
            let value = serde_json::from_slice(&bytes);
            return value.map_err(|error| failed(&self.socket, &error));
        }
        let problem: Result<Problem, _> = serde_json::from_slice(&bytes);
        let problem = problem.map_or_else(
            |_| String::from_utf8_lossy(&bytes).into_owned(),
            |problem| problem.error,
        );
        Err(match status {
            StatusCode::INSUFFICIENT_STORAGE => Error::NotStored(problem),
            _ => Error::Refused(problem),
        })
    }

    /// Follows the events until the service ends: each with its name and its data.
    ///
    /// # Errors
    ///
    /// [`Error::Service`]; whatever `on_event` says.
    pub async fn events(&self, on_event: &mut (dyn FnMut(&str, &str) + Send)) -> Result<(), Error> {
        let response = self.http.get(url("/v1/events")).send().await;
        let mut response = response.map_err(|error| failed(&self.socket, &error))?;
        let mut pending = Vec::new();
        let mut name = String::new();
        while let Ok(Some(bytes)) = response.chunk().await {
            pending.extend_from_slice(&bytes);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                match line.trim_end().split_once(": ") {
                    Some(("event", event)) => event.clone_into(&mut name),
                    Some(("data", data)) => on_event(&name, data),
                    _ => {}
                }
            }
            if pending.len() > LINE_MAX {
                return Err(failed(&self.socket, &"a line without end"));
            }
        }
        Ok(())
    }
}

fn url(path: &str) -> String {
    format!("http://tcu{path}")
}

fn failed(socket: &Path, what: &dyn std::fmt::Display) -> Error {
    Error::Service {
        socket: socket.to_owned(),
        what: what.to_string(),
    }
}

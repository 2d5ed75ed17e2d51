//! A vault on another host, as a desk sees it.

use std::time::Duration;

use campaign::ids::Serial;
use ecu_image::{HEADER_LEN, REPORT_LEN};
use reqwest::{Certificate, Client, Identity, Url, header::CONTENT_TYPE};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Runtime;

use super::{
    Ask, Granted, KeyHolder, header_of,
    part::{CA, CLIENT, CLIENT_KEY},
    protocol::{
        GrantAsk, GrantsAnswer, GrantsAsk, ImageKeys, MESSAGE_MAX, ReportAnswer, ReportAsk,
    },
};
use crate::{
    error::Error,
    files,
    repo::{ImageSecrets, Repo, VehicleRecord},
    vehicle::VehicleSpec,
};

/// How long an answer may take. A vault verifies one signature for each image.
const PATIENCE: Duration = Duration::from_secs(30);
/// Upper bound of a certificate or key in bytes.
const PEM_MAX: u64 = 64 << 10;

/// The vault at an address, and a connection to it that stays open.
#[derive(Debug)]
pub struct Remote {
    url: Url,
    http: Client,
    runtime: Runtime,
}

impl Remote {
    /// Connects with the certificates of the desk `repo` when first asked something.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`], [`Error::File`] for unusable certificates, [`Error::System`].
    pub fn new(repo: &Repo, url: &Url) -> Result<Self, Error> {
        // Another process-wide provider would only be an equal one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let read = |name: &str| files::read(&repo.path(name), PEM_MAX);
        let corrupt = |name: &str| {
            let path = repo.path(name);
            move |error: reqwest::Error| Error::corrupt(&path, error)
        };
        let ca = Certificate::from_pem(&read(CA)?).map_err(corrupt(CA))?;
        let pair = [read(CLIENT)?, read(CLIENT_KEY)?].concat();
        let identity = Identity::from_pem(&pair).map_err(corrupt(CLIENT_KEY))?;
        let http = Client::builder()
            .tls_certs_only([ca])
            .identity(identity)
            .https_only(true)
            .timeout(PATIENCE)
            .build()
            .map_err(corrupt(CLIENT))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::System {
                what: "asking the vault",
                error,
            })?;
        Ok(Self {
            url: url.clone(),
            http,
            runtime,
        })
    }

    fn ask<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A, Error> {
        let answer = self.post(path, body)?;
        serde_json::from_slice(&answer).map_err(|error| self.away(error))
    }

    fn post(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, Error> {
        let body = serde_json::to_vec(body).map_err(Error::crypto("JSON encoding"))?;
        let url = self.url.join(path).map_err(|error| self.away(error))?;
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json");
        self.runtime.block_on(async {
            let away = |error| self.away(error_chain(&error));
            let mut response = request.body(body).send().await.map_err(away)?;
            let mut answer = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(away)? {
                if answer.len().saturating_add(chunk.len()) > MESSAGE_MAX {
                    return Err(self.away("its answer does not end"));
                }
                answer.extend_from_slice(&chunk);
            }
            match response.status() {
                status if status.is_success() => Ok(answer),
                status if status.is_client_error() => {
                    let reason = String::from_utf8_lossy(&answer).into_owned();
                    Err(Error::VaultRefuses(reason))
                }
                status => Err(self.away(status)),
            }
        })
    }

    fn away(&self, reason: impl ToString) -> Error {
        Error::VaultAway {
            url: self.url.to_string(),
            reason: reason.to_string(),
        }
    }
}

/// An error of the connection with its causes: the outermost says little.
fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

impl KeyHolder for Remote {
    fn grants(&self, vehicle: &mut VehicleRecord, asks: &[Ask<'_>]) -> Result<Vec<Granted>, Error> {
        let one = |ask: &Ask<'_>| {
            Ok(GrantAsk {
                ecu: ask.ecu.clone(),
                header: *header_of(ask.image)?,
                sequence: ask.sequence,
                downgrade: ask.flags.downgrade,
            })
        };
        let request = GrantsAsk {
            vin: vehicle.vehicle.vin().clone(),
            asks: asks.iter().map(one).collect::<Result<_, Error>>()?,
        };
        let answer: GrantsAnswer = self.ask("grants", &request)?;
        let granted = answer.grants.iter().map(|it| Granted {
            grant: it.grant,
            sequence: it.sequence,
        });
        let granted: Vec<_> = granted.collect();
        match granted.len() == asks.len() {
            true => Ok(granted),
            false => Err(self.away("it answers another question")),
        }
    }

    fn vouches(
        &self,
        vehicle: &VehicleRecord,
        serial: &Serial,
        report: &[u8; REPORT_LEN],
    ) -> Result<bool, Error> {
        let request = ReportAsk {
            vin: vehicle.vehicle.vin().clone(),
            serial: *serial,
            report: *report,
        };
        let answer: ReportAnswer = self.ask("reports", &request)?;
        Ok(answer.authentic)
    }

    fn keep(&self, header: &[u8; HEADER_LEN], secrets: &ImageSecrets) -> Result<(), Error> {
        let request = ImageKeys {
            header: *header,
            content_key: secrets.content_key.expose().to_vec(),
            salt: secrets.salt,
        };
        self.post("images", &request).map(drop)
    }

    fn vehicle(&self, spec: &VehicleSpec) -> Result<VehicleRecord, Error> {
        self.ask("vehicles", spec)
    }
}

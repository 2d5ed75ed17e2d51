//! The options of `tcu run` for the control channel.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::header::HeaderValue;

use super::{Authority, Confirm, Policy, Reports, Server, authorization};
use crate::error::Error;
use crate::fetch::Limits;
use crate::install::Context;

/// The options of `tcu run` for the control channel.
#[derive(Debug, Args)]
pub struct Options {
    /// The https URL of a hawkBit server (DDI v1), which says when to look for a campaign.
    #[arg(long, value_name = "URL")]
    ddi: Option<String>,
    /// The tenant there.
    #[arg(long, requires = "ddi", default_value = "default")]
    tenant: String,
    /// The vehicle's name there; its VIN unless given.
    #[arg(long, requires = "ddi", value_name = "ID")]
    controller: Option<String>,
    /// The https URL of an `oem serve` that gets every report, at least once.
    #[arg(long, value_name = "URL")]
    reports: Option<String>,
    /// A file with the token that these servers want to see.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Whose token it is.
    #[arg(long, requires = "token_file", value_enum, default_value_t = Authority::Target)]
    token_kind: Authority,
    /// What is done about a deployment that waits to be confirmed.
    #[arg(long, requires = "ddi", value_enum, default_value_t = Confirm::Accept)]
    confirm: Confirm,
}

impl Options {
    /// The server, where one is named.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], [`Error::Configuration`].
    pub fn server(&self, context: &Context) -> Result<Option<Server>, Error> {
        let Some(url) = &self.ddi else {
            return Ok(None);
        };
        let usage = |error: super::ServerError| Error::Usage(error.to_string());
        let vin = context.vehicle.vin().to_string();
        let controller = self.controller.as_ref().unwrap_or(&vin);
        let ca = context.ca.as_deref();
        let server = Server::new(url, &self.tenant, controller, ca, Limits::default());
        let ecus = context
            .vehicle
            .ecus()
            .iter()
            .map(|ecu| ecu.name.to_string());
        let attributes = BTreeMap::from([
            ("vin".to_owned(), vin.clone()),
            (
                "client".to_owned(),
                concat!("canopus-tcu ", env!("CARGO_PKG_VERSION")).to_owned(),
            ),
            ("ecus".to_owned(), ecus.collect::<Vec<_>>().join(" ")),
        ]);
        let server = server.map_err(usage)?.describing(attributes);
        Ok(Some(server.authorized(self.authorization()?)))
    }

    /// Where reports go, if anywhere.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], [`Error::Configuration`].
    pub fn reports(&self, context: &Context) -> Result<Option<Reports>, Error> {
        let Some(url) = &self.reports else {
            return Ok(None);
        };
        let (vin, ca) = (context.vehicle.vin().to_string(), context.ca.as_deref());
        let reports = Reports::new(url, &vin, self.authorization()?, ca);
        reports
            .map(Some)
            .map_err(|error| Error::Usage(error.to_string()))
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(file) = &self.token_file else {
            return Ok(None);
        };
        let token = std::fs::read_to_string(file).map_err(Error::configuration(file))?;
        let header = authorization(self.token_kind, &token);
        header
            .map(Some)
            .map_err(|error| Error::Usage(error.to_string()))
    }

    /// The server's URL, for a server that is the repository too.
    #[must_use]
    pub fn url(&self) -> String {
        self.ddi.clone().unwrap_or_default()
    }

    /// Bounds and choices.
    #[must_use]
    pub fn policy(&self, interval: Duration) -> Policy {
        Policy {
            interval,
            confirm: self.confirm,
            ..Policy::default()
        }
    }
}

//! What the machine says and is told: requests and answers, orders and what came of them.

use std::time::Duration;

use reqwest::Url;

use super::document::Deployment;
use super::feedback::Feedback;
use super::{ActionId, Memory};
use crate::fetch::Limits;

/// What is done about a deployment that waits to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Confirm {
    /// Confirm it: what the metadata says decides anyway.
    Accept,
    /// Deny it.
    Deny,
    /// Leave it to somebody else.
    Leave,
}

/// Bounds and choices.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Between two polls, where the server does not say.
    pub interval: Duration,
    /// The shortest and the longest that the server may ask for.
    pub bounds: (Duration, Duration),
    /// What is done about a deployment that waits to be confirmed.
    pub confirm: Confirm,
    /// How often and how fast a request is repeated.
    pub limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(300),
            bounds: (Duration::from_secs(10), Duration::from_secs(86_400)),
            confirm: Confirm::Accept,
            limits: Limits::default(),
        }
    }
}

/// Below which resource of the vehicle a feedback is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A deployment.
    Deployment,
    /// A cancellation.
    Cancellation,
}

/// A request to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `GET` the vehicle's base resource.
    Poll,
    /// `GET` a deployment.
    Deployment(Url),
    /// `GET` a cancellation.
    Cancellation(Url),
    /// `GET` a deployment that waits to be confirmed.
    Confirmation(Url),
    /// `PUT` the vehicle's attributes.
    ConfigData(Url),
    /// `POST` how an action stands.
    Feedback(Resource, Feedback),
    /// `POST` whether a deployment is confirmed.
    Confirm(ActionId, bool),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was answered with 200 and a document, which may be empty.
    Document(Vec<u8>),
    /// The server does not have what was asked for, or is done with it for ever: 404, 409 and 410.
    Gone,
    /// It will not be answered: not authorised, or another status that stays.
    Refused(String),
    /// It may be answered another time, not before the server's `Retry-After`.
    Failed(Option<Duration>),
}

/// What became of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Every ECU runs what the campaign names, sealed.
    Completed,
    /// Refused or reverted: every ECU is as it was.
    Failed(String),
    /// Not at an end: it is tried again after the next poll. `begun` says that ECUs were touched, so
    /// that it is for the transaction to say how it ends.
    Unfinished {
        /// Whether ECUs were touched.
        begun: bool,
        /// Why, for people.
        why: String,
    },
    /// Everything is downloaded and verified; no ECU was touched.
    Prepared,
    /// It was given up before an ECU was touched.
    Abandoned,
}

/// What the driver shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Send this and say what became of it.
    Send(Request),
    /// Store this, then go on: what follows relies on it.
    Remember(Memory),
    /// Install what the metadata says, with the images of this deployment.
    Install(Deployment),
    /// Go on with the campaign in the journal.
    Resume,
    /// Download and verify it, and no more.
    Prepare(Deployment),
    /// The server has this report.
    Delivered(String),
    /// Give it up: at once where it has not begun, else as the transaction allows.
    Abandon,
    /// Nothing before this time, unless something happens.
    Wait(Duration),
}

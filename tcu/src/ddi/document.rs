//! What the server says. Members that are not needed are ignored, whatever they are; those that are
//! needed are bounded, and a document with a wrong one is refused as a whole.

use std::time::Duration;

use ecu_image::Digest;
use reqwest::Url;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

/// The longest document that is read, in bytes: a vehicle with 64 chunks fits several times.
pub(super) const DOCUMENT_MAX: usize = 512 << 10;
/// Most chunks of a deployment, and most artifacts of a chunk.
const ENTRIES_MAX: usize = 128;
/// The longest text of a member, in bytes.
const TEXT_MAX: usize = 2048;
/// The longest action id, in bytes.
const ID_MAX: usize = 64;

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or a needed member is missing, has a wrong type or is too long.
    #[error("malformed: {0}")]
    Malformed(String),
    /// More entries than a vehicle can have ECUs.
    #[error("more than {ENTRIES_MAX} entries")]
    TooMany,
    /// A link that leads to another server.
    #[error("a link leads to {0}, which is not the server that was asked")]
    Elsewhere(String),
}

/// An action of the server: a deployment or a cancellation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ActionId(String);

impl ActionId {
    /// As it stands in a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ActionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ActionId {
    /// A number or a text, of which a path can be made.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        let text = match Raw::deserialize(deserializer)? {
            Raw::Number(number) => number.to_string(),
            Raw::Text(text) => text,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.is_empty() || text.len() > ID_MAX || !text.bytes().all(plain) {
            return Err(D::Error::invalid_value(
                Unexpected::Str(&text),
                &"an action id",
            ));
        }
        Ok(Self(text))
    }
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// How long to wait before the next one, where the server says so.
    pub sleep: Option<Duration>,
    /// A deployment waits.
    pub deployment: Option<Url>,
    /// A cancellation waits.
    pub cancellation: Option<Url>,
    /// A deployment waits to be confirmed.
    pub confirmation: Option<Url>,
    /// The server wants to know the vehicle's attributes.
    pub config_data: Option<Url>,
}

/// How urgent the server holds a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Not now.
    Skip,
    /// When it suits the vehicle.
    Attempt,
    /// At once.
    Forced,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Reports go under this id.
    pub action: ActionId,
    /// Whether to download.
    pub download: Mode,
    /// Whether to install; [`Mode::Skip`] also outside of the maintenance window.
    pub update: Mode,
    /// One for each ECU.
    pub chunks: Vec<Chunk>,
}

/// A software module: what one ECU gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The ECU's name, where the server was filled by `oem`.
    pub part: String,
    /// A name for people.
    pub name: String,
    /// A version for people.
    pub version: String,
    /// Its files.
    pub artifacts: Vec<Offer>,
}

/// A file that the server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its hash, the only thing by which it is known; older servers do not tell.
    pub sha256: Option<Digest>,
    /// Where it lies; `None` where no https link is given.
    pub url: Option<Url>,
}

/// A cancellation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancellation {
    /// Reports go under this id.
    pub action: ActionId,
    /// The deployment that shall end.
    pub stops: ActionId,
}

/// A deployment that waits to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// The answer goes under this id.
    pub action: ActionId,
}

mod raw {
    //! The documents as they are written.

    use serde::Deserialize;

    use super::ActionId;

    #[derive(Deserialize)]
    pub(super) struct Link {
        pub(super) href: String,
    }

    #[derive(Deserialize)]
    pub(super) struct Poll {
        #[serde(default)]
        pub(super) config: Option<Config>,
        #[serde(default, rename = "_links")]
        pub(super) links: Option<Links>,
    }

    #[derive(Deserialize)]
    pub(super) struct Config {
        #[serde(default)]
        pub(super) polling: Option<Polling>,
    }

    #[derive(Deserialize)]
    pub(super) struct Polling {
        #[serde(default)]
        pub(super) sleep: Option<String>,
    }

    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    pub(super) struct Links {
        pub(super) deployment_base: Option<Link>,
        pub(super) cancel_action: Option<Link>,
        pub(super) confirmation_base: Option<Link>,
        pub(super) config_data: Option<Link>,
    }

    #[derive(Deserialize)]
    pub(super) struct DeploymentBase {
        pub(super) id: ActionId,
        pub(super) deployment: Deployment,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Deployment {
        #[serde(default)]
        pub(super) download: Option<String>,
        #[serde(default)]
        pub(super) update: Option<String>,
        #[serde(default)]
        pub(super) maintenance_window: Option<String>,
        pub(super) chunks: Vec<Chunk>,
    }

    #[derive(Deserialize)]
    pub(super) struct Chunk {
        #[serde(default)]
        pub(super) part: String,
        #[serde(default)]
        pub(super) name: String,
        #[serde(default)]
        pub(super) version: String,
        #[serde(default)]
        pub(super) artifacts: Vec<Artifact>,
    }

    #[derive(Deserialize)]
    pub(super) struct Artifact {
        #[serde(default)]
        pub(super) hashes: Hashes,
        #[serde(default, rename = "_links")]
        pub(super) links: Downloads,
    }

    #[derive(Deserialize, Default)]
    pub(super) struct Hashes {
        #[serde(default)]
        pub(super) sha256: Option<String>,
    }

    #[derive(Deserialize, Default)]
    pub(super) struct Downloads {
        #[serde(default)]
        pub(super) download: Option<Link>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Cancellation {
        pub(super) id: ActionId,
        pub(super) cancel_action: ToStop,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct ToStop {
        pub(super) stop_id: ActionId,
    }

    #[derive(Deserialize)]
    pub(super) struct Confirmation {
        pub(super) id: ActionId,
    }
}

impl Poll {
    /// Reads the answer to a poll of `server`.
    ///
    /// # Errors
    ///
    /// [`DocumentError`].
    pub fn read(bytes: &[u8], server: &Url) -> Result<Self, DocumentError> {
        let raw: raw::Poll = parse(bytes)?;
        let sleep = raw.config.and_then(|config| config.polling?.sleep);
        let links = raw.links.unwrap_or_default();
        let link = |link: Option<raw::Link>| link.map(|link| own(&link.href, server)).transpose();
        Ok(Self {
            sleep: sleep.as_deref().and_then(interval),
            deployment: link(links.deployment_base)?,
            cancellation: link(links.cancel_action)?,
            confirmation: link(links.confirmation_base)?,
            config_data: link(links.config_data)?,
        })
    }
}

impl Deployment {
    /// Reads a deployment.
    ///
    /// # Errors
    ///
    /// [`DocumentError`].
    pub fn read(bytes: &[u8]) -> Result<Self, DocumentError> {
        let raw: raw::DeploymentBase = parse(bytes)?;
        let deployment = raw.deployment;
        if deployment.chunks.len() > ENTRIES_MAX {
            return Err(DocumentError::TooMany);
        }
        let closed = deployment.maintenance_window.as_deref() == Some("unavailable");
        let chunks = deployment.chunks.into_iter().map(chunk);
        Ok(Self {
            action: raw.id,
            download: mode(deployment.download.as_deref()),
            update: match closed {
                true => Mode::Skip,
                false => mode(deployment.update.as_deref()),
            },
            chunks: chunks.collect::<Result<_, _>>()?,
        })
    }
}

impl Cancellation {
    /// Reads a cancellation.
    ///
    /// # Errors
    ///
    /// [`DocumentError`].
    pub fn read(bytes: &[u8]) -> Result<Self, DocumentError> {
        let raw: raw::Cancellation = parse(bytes)?;
        Ok(Self {
            action: raw.id,
            stops: raw.cancel_action.stop_id,
        })
    }
}

impl Confirmation {
    /// Reads a deployment that waits to be confirmed; what it would bring is not looked at.
    ///
    /// # Errors
    ///
    /// [`DocumentError`].
    pub fn read(bytes: &[u8]) -> Result<Self, DocumentError> {
        let raw: raw::Confirmation = parse(bytes)?;
        Ok(Self { action: raw.id })
    }
}

fn parse<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, DocumentError> {
    if bytes.len() > DOCUMENT_MAX {
        return Err(DocumentError::Malformed("too long".into()));
    }
    // serde_json bounds the nesting.
    serde_json::from_slice(bytes).map_err(|error| DocumentError::Malformed(error.to_string()))
}

fn chunk(raw: raw::Chunk) -> Result<Chunk, DocumentError> {
    if raw.artifacts.len() > ENTRIES_MAX {
        return Err(DocumentError::TooMany);
    }
    for text in [&raw.part, &raw.name, &raw.version] {
        if text.len() > TEXT_MAX {
            return Err(DocumentError::Malformed("a name is too long".into()));
        }
    }
    Ok(Chunk {
        part: raw.part,
        name: raw.name,
        version: raw.version,
        artifacts: raw.artifacts.into_iter().map(offer).collect(),
    })
}

/// What cannot be used of an offer is as if it were not there: the repository has every image too.
fn offer(raw: raw::Artifact) -> Offer {
    let url = raw.links.download.and_then(|link| https(&link.href));
    Offer {
        sha256: raw.hashes.sha256.and_then(|hash| hash.parse().ok()),
        url,
    }
}

/// Anything else is for later versions of the API, which then mean a deployment of today.
fn mode(text: Option<&str>) -> Mode {
    match text {
        Some("skip") => Mode::Skip,
        Some("attempt") => Mode::Attempt,
        _ => Mode::Forced,
    }
}

/// `HH:MM:SS`.
fn interval(text: &str) -> Option<Duration> {
    let mut fields = text.trim().splitn(3, ':').map(str::parse::<u16>);
    let mut next = || fields.next()?.ok().map(u64::from);
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    Some(Duration::from_secs(hours * 3600 + minutes * 60 + seconds))
}

fn https(href: &str) -> Option<Url> {
    let url = (href.len() <= TEXT_MAX).then(|| Url::parse(href).ok())??;
    (url.scheme() == "https").then_some(url)
}

/// A link of the API: it gets the token, so it must not lead to anybody else.
fn own(href: &str, server: &Url) -> Result<Url, DocumentError> {
    let url = https(href).filter(|url| url.origin() == server.origin());
    url.ok_or_else(|| DocumentError::Elsewhere(href.chars().take(80).collect()))
}

//! The local API: HTTP over a Unix socket, for the vehicle's display and the workshop, and over TCP in
//! TLS. Who may use it is a matter of the socket's folder and mode, and of certificates; who did is
//! recorded with each answer.

mod client;
mod openapi;
#[cfg(test)]
mod tests;
mod tls;

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use futures_util::stream::{Stream, StreamExt, unfold};
use serde::{Deserialize, Serialize};
use tempfile::TempPath;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

pub use client::Client;
pub use openapi::document;
pub use tls::Tls;

use crate::board::{Board, Doing, Status};
use crate::desk::{Desk, NotTaken, Offer, Reply};
use crate::error::Error;

/// How the names of bundles begin that are brought.
const UPLOAD: &str = "upload-";

/// What the handlers share.
#[derive(Debug, Clone)]
struct Shared {
    desk: Arc<Desk>,
    board: Arc<Board>,
    /// Where bundles are put, and the most bytes that one may have.
    uploads: PathBuf,
    upload_max: u64,
    /// One bundle comes at a time.
    upload_turn: Arc<Semaphore>,
}

/// What `GET /v1/status` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Told {
    /// What the service is doing.
    #[serde(flatten)]
    pub status: Status,
    /// What is on offer.
    pub offer: Option<Offer>,
    /// The preconditions with what was measured; `null` where none are configured.
    pub preconditions: serde_json::Value,
}

/// The body of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Said {
    /// The campaign that is meant; the one on offer where it is not said.
    pub campaign: Option<String>,
    /// Consent outside of maintenance windows too.
    pub anytime: bool,
    /// How long to postpone.
    pub seconds: Option<u64>,
}

/// The body of giving an ECU up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivesUp {
    /// The campaign that is meant; the one under way where it is not said.
    #[serde(default)]
    pub campaign: Option<String>,
    /// The ECU.
    pub ecu: String,
    /// Why; it is recorded.
    pub reason: String,
}

/// Why a request is not granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// In words.
    pub error: String,
}

/// Who speaks, as the kernel says.
#[derive(Debug, Clone)]
struct Peer(String);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        match stream.io().peer_cred() {
            Ok(peer) => Self(format!("uid {} by the local API", peer.uid())),
            Err(_) => Self("somebody by the local API".into()),
        }
    }
}

/// Where the API is served, and what it takes.
#[derive(Debug, Clone)]
pub struct Access {
    /// The socket, if there is one.
    pub socket: Option<PathBuf>,
    /// Where it is served over TCP, if it is.
    pub tls: Option<Tls>,
    /// The folder in which bundles are put.
    pub uploads: PathBuf,
    /// The most bytes that a bundle may have.
    pub upload_max: u64,
}

/// Serves the API until the task is ended. A socket that a killed service left is replaced.
///
/// # Errors
///
/// [`Error::File`]: the socket cannot be made. Those of a [`Tls`] that cannot be used.
pub fn serve(access: Access, desk: Arc<Desk>, board: Arc<Board>) -> Result<JoinHandle<()>, Error> {
    let socket = access.socket.as_ref();
    let socket = socket.map(|path| listen(path).map_err(Error::file(path)));
    let (socket, tls) = (socket.transpose()?, access.tls.as_ref().map(Tls::listen));
    let tls = tls.transpose()?;
    remove_left(&access.uploads);
    let app = router(Shared {
        desk,
        board,
        uploads: access.uploads,
        upload_max: access.upload_max,
        upload_turn: Arc::new(Semaphore::new(1)),
    });
    let app = app.into_make_service_with_connect_info::<Peer>();
    let by_socket = socket.map(|listener| axum::serve(listener, app.clone()).into_future());
    let by_tls = tls.map(|listener| axum::serve(listener, app).into_future());
    Ok(tokio::spawn(async move {
        tokio::join!(until_its_end(by_socket), until_its_end(by_tls));
    }))
}

async fn until_its_end(server: Option<impl Future<Output = std::io::Result<()>>>) {
    if let Some(server) = server
        && let Err(error) = server.await
    {
        tracing::error!(%error, "the local API has ended");
    }
}

fn listen(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .route("/v1/consent", post(consent))
        .route("/v1/cancel", post(cancel))
        .route("/v1/postpone", post(postpone))
        .route("/v1/give-up", post(give_up))
        .route("/v1/campaign", post(campaign))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(|| async { Json(document()) }))
        .with_state(shared)
}

impl Shared {
    fn told(&self) -> Told {
        Told {
            status: self.board.status(),
            offer: self.desk.on_offer(),
            preconditions: self.desk.preconditions(),
        }
    }
}

async fn status(State(shared): State<Shared>) -> Json<Told> {
    Json(shared.told())
}

/// The status first, then each event as it happens. Who is too slow gets the status again instead of
/// what it missed.
async fn events(
    State(shared): State<Shared>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let lines = shared.board.lines();
    let start = (shared, lines, true);
    let stream = unfold(start, |(shared, mut lines, first)| async move {
        let event = match first {
            true => status_event(&shared),
            false => match lines.recv().await {
                Ok(line) => named("progress", &line),
                Err(RecvError::Lagged(_)) => status_event(&shared),
                Err(RecvError::Closed) => return None,
            },
        };
        Some((Ok(event), (shared, lines, false)))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

fn status_event(shared: &Shared) -> Event {
    named("status", &shared.told())
}

fn named(name: &str, data: &impl Serialize) -> Event {
    let event = Event::default().event(name);
    // What cannot be written as JSON does not exist here.
    event.json_data(data).unwrap_or_default()
}

async fn consent(
    State(shared): State<Shared>,
    ConnectInfo(Peer(who)): ConnectInfo<Peer>,
    Json(said): Json<Said>,
) -> Response {
    let campaign = said.campaign.as_deref();
    answer(shared.desk.consent(who, campaign, said.anytime))
}

async fn cancel(
    State(shared): State<Shared>,
    ConnectInfo(Peer(who)): ConnectInfo<Peer>,
    Json(said): Json<Said>,
) -> Response {
    answer(shared.desk.cancel(who, said.campaign.as_deref()))
}

async fn postpone(
    State(shared): State<Shared>,
    ConnectInfo(Peer(who)): ConnectInfo<Peer>,
    Json(said): Json<Said>,
) -> Response {
    let Some(seconds) = said.seconds else {
        return problem(StatusCode::BAD_REQUEST, "`seconds` is missing");
    };
    let campaign = said.campaign.as_deref();
    answer(shared.desk.postpone(&who, campaign, seconds))
}

async fn give_up(
    State(shared): State<Shared>,
    ConnectInfo(Peer(who)): ConnectInfo<Peer>,
    Json(gives_up): Json<GivesUp>,
) -> Response {
    answer(shared.desk.give_up(who, &gives_up))
}

/// Takes a bundle, if the desk does: it is asked before anything is written. The file is the bundle's
/// own and is deleted with it, whatever becomes of it.
async fn campaign(State(shared): State<Shared>, request: Request) -> Response {
    if let Err(error) = shared.desk.may_upload() {
        return problem(StatusCode::CONFLICT, &error.to_string());
    }
    let Ok(_turn) = shared.upload_turn.try_acquire() else {
        return problem(StatusCode::CONFLICT, "another bundle is coming in");
    };
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > shared.upload_max) {
        return too_long(shared.upload_max);
    }
    match receive(request.into_body(), &shared.uploads, shared.upload_max).await {
        Ok(Some(bundle)) => answer(shared.desk.upload(bundle)),
        Ok(None) => too_long(shared.upload_max),
        Err(error) => {
            let what = format!("the bundle cannot be stored: {error}");
            problem(StatusCode::INSUFFICIENT_STORAGE, &what)
        }
    }
}

/// The whole body in a file of the folder; `None` where it is longer than allowed.
async fn receive(body: Body, folder: &Path, max: u64) -> std::io::Result<Option<TempPath>> {
    let mut builder = tempfile::Builder::new();
    let (file, path) = builder.prefix(UPLOAD).tempfile_in(folder)?.into_parts();
    let mut file = tokio::fs::File::from_std(file);
    let mut stream = body.into_data_stream();
    let mut have = 0_u64;
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(std::io::Error::other)?;
        have = have.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if have > max {
            return Ok(None);
        }
        file.write_all(&bytes).await?;
    }
    file.sync_all().await?;
    Ok(Some(path))
}

/// Deletes bundles that a killed service left: nobody knows of them any more.
fn remove_left(folder: &Path) {
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = file.file_name();
        let left = name.to_str().is_some_and(|name| {
            name.starts_with(UPLOAD) || ["upload.tar", "upload.part"].contains(&name)
        });
        if left && let Err(error) = std::fs::remove_file(file.path()) {
            tracing::warn!(path = %file.path().display(), %error, "not deleted");
        }
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let status = shared.board.status();
    let text = shared
        .board
        .metrics()
        .text(status.doing == Doing::Installing);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn answer(result: Result<Reply, NotTaken>) -> Response {
    match result {
        Ok(reply) => Json(reply).into_response(),
        Err(error @ NotTaken::NotStored(_)) => {
            problem(StatusCode::INSUFFICIENT_STORAGE, &error.to_string())
        }
        Err(error) => problem(StatusCode::CONFLICT, &error.to_string()),
    }
}

fn too_long(max: u64) -> Response {
    let what = format!("a bundle may have at most {max} bytes");
    problem(StatusCode::PAYLOAD_TOO_LARGE, &what)
}

fn problem(status: StatusCode, error: &str) -> Response {
    let error = error.to_owned();
    (status, Json(Problem { error })).into_response()
}

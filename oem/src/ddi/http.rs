//! The resources, and who may use them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, Path as Segments},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use campaign::ids::Vin;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    auth::Tokens,
    deployment::{Sha1s, deployment},
    store::{Action, Feedback, Report, State as ActionState, Store},
};
use crate::error::Error;

/// The longest body of a request, in bytes: a report of a vehicle with hundreds of ECUs.
const BODY_MAX: usize = 512 << 10;

struct Backend {
    dir: PathBuf,
    tokens: Tokens,
    store: Mutex<Store>,
    sha1s: Sha1s,
    /// How often vehicles shall poll, `HH:MM:SS`.
    sleep: String,
}

/// The resources for the repository in `dir`; vehicles poll every `interval` seconds, up to a day.
///
/// # Errors
///
/// [`Error::File`], [`Error::Corrupt`], [`Error::Crypto`].
pub fn routes(dir: &Path, interval: u32) -> Result<Router, Error> {
    let interval = interval.min(86_399);
    let (hours, minutes, seconds) = (interval / 3600, interval / 60 % 60, interval % 60);
    let backend = Backend {
        dir: dir.to_owned(),
        tokens: Tokens::of(dir)?,
        store: Mutex::new(Store::open(dir)?),
        sha1s: Sha1s::default(),
        sleep: format!("{hours:02}:{minutes:02}:{seconds:02}"),
    };
    let base = "/{tenant}/controller/v1/{vin}";
    let at = |path: &str| format!("{base}{path}");
    Ok(Router::new()
        .route(base, get(poll))
        .route(&at("/configData"), put(config_data))
        .route(&at("/deploymentBase/{action}"), get(deployment_base))
        .route(
            &at("/deploymentBase/{action}/feedback"),
            post(deployment_feedback),
        )
        .route(&at("/cancelAction/{action}"), get(cancel_action))
        .route(
            &at("/cancelAction/{action}/feedback"),
            post(cancel_feedback),
        )
        .route("/reports/{vin}", post(report))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Arc::new(backend)))
}

/// Why a request is not answered.
enum Refusal {
    /// No token, or one of another vehicle.
    Unauthorized,
    /// No such vehicle or action.
    NotFound,
    /// Not what the resource takes.
    BadRequest(String),
    /// The desk's own trouble.
    Own(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, why) = match self {
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "a token of this vehicle is needed".into(),
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not found".into()),
            Self::BadRequest(why) => (StatusCode::BAD_REQUEST, why),
            Self::Own(error) => {
                eprintln!("oem: {error}");
                (StatusCode::SERVICE_UNAVAILABLE, "try again later".into())
            }
        };
        (status, Json(json!({ "message": why }))).into_response()
    }
}

/// Where a request stands.
struct Caller {
    backend: Arc<Backend>,
    vin: Vin,
    /// The resource of the vehicle.
    own: String,
    /// The server.
    base: String,
}

impl Caller {
    fn new(
        backend: Arc<Backend>,
        tenant: &str,
        vin: &str,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let vin: Vin = vin.parse().map_err(|_| Refusal::NotFound)?;
        let authorization = text(header::AUTHORIZATION).unwrap_or("");
        if !backend.tokens.admit(authorization, &vin) {
            return Err(Refusal::Unauthorized);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let host = text(header::HOST).filter(|host| host.bytes().all(plain));
        let host = host.ok_or_else(|| Refusal::BadRequest("a host header is needed".into()))?;
        let base = format!("https://{host}");
        Ok(Self {
            own: format!("{base}/{tenant}/controller/v1/{vin}"),
            backend,
            vin,
            base,
        })
    }

    /// Work with files and the store, off the threads that serve connections.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Backend, &str, &mut Store) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (backend, vin) = (self.backend.clone(), self.vin.to_string());
        let done = tokio::task::spawn_blocking(move || {
            let mut store = match backend.store.lock() {
                Ok(store) => store,
                // Each use of the store is one transaction: nothing is left half done.
                Err(poisoned) => poisoned.into_inner(),
            };
            work(&backend, &vin, &mut store)
        });
        done.await.unwrap_or_else(|error| {
            let error = std::io::Error::other(error);
            Err(Refusal::Own(Error::System {
                what: "serving",
                error,
            }))
        })
    }
}

/// Before anything else of a request is looked at: whoever has no token is not listened to.
impl FromRequestParts<Arc<Backend>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        backend: &Arc<Backend>,
    ) -> Result<Self, Refusal> {
        let named = Segments::<BTreeMap<String, String>>::from_request_parts(parts, backend).await;
        let Segments(named) = named.map_err(|_| Refusal::NotFound)?;
        let part = |name: &str| named.get(name).map_or("", String::as_str);
        let (tenant, vin) = (part("tenant"), part("vin"));
        Self::new(backend.clone(), tenant, vin, &parts.headers)
    }
}

type Answer = Result<Json<Value>, Refusal>;

async fn poll(caller: Caller) -> Answer {
    let own_vin = caller.vin.clone();
    let (action, unknown) = caller
        .with_store(move |backend, vin, store| {
            let released = deployment(&backend.dir, &own_vin)?;
            let action = store.polled(vin, released.as_ref(), now())?;
            Ok((action, store.is_unknown(vin)?))
        })
        .await?;
    let own = &caller.own;
    let mut links = serde_json::Map::new();
    let mut link = |name: &str, path: String| {
        links.insert(name.to_owned(), json!({ "href": format!("{own}/{path}") }));
    };
    if unknown {
        link("configData", "configData".into());
    }
    if let Some(Action { id, state, .. }) = action.filter(|action| action.state.is_offered()) {
        match state {
            ActionState::Canceling => link("cancelAction", format!("cancelAction/{id}")),
            _ => link("deploymentBase", format!("deploymentBase/{id}")),
        }
    }
    let sleep = &caller.backend.sleep;
    Ok(Json(
        json!({ "config": { "polling": { "sleep": sleep } }, "_links": links }),
    ))
}

async fn deployment_base(
    caller: Caller,
    Segments((_, _, action)): Segments<(String, String, i64)>,
) -> Answer {
    let (own_vin, base) = (caller.vin.clone(), caller.base.clone());
    let document = caller.with_store(move |backend, vin, store| {
        let released = deployment(&backend.dir, &own_vin)?.ok_or(Refusal::NotFound)?;
        // Of what is released now alone: an older one is not there any more.
        let current = store.polled(vin, Some(&released), now())?;
        if current.is_none_or(|current| current.id != action) {
            return Err(Refusal::NotFound);
        }
        Ok(released.document(&backend.dir, &backend.sha1s, &base, action)?)
    });
    document.await.map(Json)
}

async fn cancel_action(
    caller: Caller,
    Segments((_, _, id)): Segments<(String, String, i64)>,
) -> Answer {
    let action = caller.with_store(move |_, vin, store| Ok(store.action(vin, id)?));
    match action.await?.map(|action| action.state) {
        Some(ActionState::Canceling) => {
            let id = id.to_string();
            Ok(Json(json!({ "id": id, "cancelAction": { "stopId": id } })))
        }
        _ => Err(Refusal::NotFound),
    }
}

async fn deployment_feedback(
    caller: Caller,
    Segments((_, _, action)): Segments<(String, String, i64)>,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    feedback(&caller, action, false, &body).await
}

async fn cancel_feedback(
    caller: Caller,
    Segments((_, _, action)): Segments<(String, String, i64)>,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    feedback(&caller, action, true, &body).await
}

async fn feedback(
    caller: &Caller,
    action: i64,
    cancels: bool,
    body: &Bytes,
) -> Result<StatusCode, Refusal> {
    let feedback: Feedback = parse(body)?;
    let stored = caller.with_store(move |_, vin, store| {
        Ok(store.feedback(vin, action, cancels, &feedback, now())?)
    });
    match stored.await? {
        true => Ok(StatusCode::OK),
        false => Err(Refusal::NotFound),
    }
}

async fn config_data(caller: Caller, body: Bytes) -> Result<StatusCode, Refusal> {
    #[derive(Deserialize)]
    struct ConfigData {
        data: Value,
    }
    let said: ConfigData = parse(&body)?;
    let stored = caller.with_store(move |_, vin, store| Ok(store.attributes(vin, &said.data)?));
    stored.await.map(|()| StatusCode::OK)
}

/// A report that a vehicle kept until this answer: counted once, however often it comes.
async fn report(caller: Caller, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Stored {
        id: String,
        report: Told,
    }
    #[derive(Deserialize)]
    struct Told {
        campaign: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        id: String,
        state: String,
    }
    let Stored { id, report } = parse(&body)?;
    if id.is_empty() || id.len() > 128 {
        return Err(Refusal::BadRequest(
            "an id of up to 128 characters expected".into(),
        ));
    }
    let report = Report {
        id,
        campaign: report.campaign.id,
        state: report.campaign.state,
        body: parse(&body)?,
    };
    let counted = caller.with_store(move |_, vin, store| Ok(store.report(vin, &report, now())?));
    Ok(Json(json!({ "counted": counted.await? })))
}

fn parse<T: for<'de> Deserialize<'de>>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::BadRequest(error.to_string()))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

//! The director's answer to a vehicle that asks for the time: `GET /time/NONCE`.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use axum::{
    Router, extract,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use campaign::{UnixTime, time::Nonce};

use crate::{error::Error, keys::SigningKey};

/// The director's time key: at hand for every answer, so it is online and not encrypted.
const KEY: &str = "keys/director-time.pem";

/// The time, signed for whoever asked with this nonce.
///
/// # Errors
///
/// [`Error::File`], [`Error::Corrupt`], [`Error::Crypto`].
pub fn attest(dir: &Path, nonce: &Nonce, now: UnixTime) -> Result<Vec<u8>, Error> {
    let mut envelope = campaign::time::statement(nonce, now)?;
    // Read each time: it may have been rotated.
    SigningKey::load(&dir.join(KEY))?.sign_envelope(&mut envelope)?;
    Ok(envelope.to_json()?)
}

/// The routes below `/time`.
pub(crate) fn routes(dir: &Path) -> Router {
    Router::new()
        .route("/{nonce}", get(answer))
        .with_state(dir.to_owned())
}

async fn answer(
    extract::State(dir): extract::State<PathBuf>,
    extract::Path(nonce): extract::Path<String>,
) -> Response {
    let Ok(nonce) = nonce.parse() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let kind = [(header::CONTENT_TYPE, "application/json")];
    match attest(&dir, &nonce, now()) {
        Ok(bytes) => (kind, [(header::CACHE_CONTROL, "no-store")], bytes).into_response(),
        // A repository from before there were time keys.
        Err(Error::File { .. }) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The time of this machine.
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::from_secs(since.map_or(0, |since| since.as_secs()))
}

//! `oem vault serve`: answers a desk over HTTPS, to whoever has the certificate that it was parted with.

use std::{net::SocketAddr, path::Path};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use campaign::ids::Vin;
use ecu_image::{Header, crypto::ContentKey};
use serde_json::{Value, json};

use super::{
    made_by,
    part::{CA, SERVER, SERVER_KEY},
    protocol::{
        GrantAnswer, GrantsAnswer, GrantsAsk, ImageKeys, MESSAGE_MAX, ReportAnswer, ReportAsk,
    },
    rules,
};
use crate::{
    audit,
    error::Error,
    repo::{ImageSecrets, Repo, VehicleRecord},
    serve::{Server, TlsFiles},
    turn::Turns,
    vehicle::{self, VehicleSpec},
};

/// A vault that listens and waits to be run. `dir` is its folder.
///
/// # Errors
///
/// [`Error::NoRepository`], [`Error::Vault`] where the folder is not a vault's, [`Error::Corrupt`] for
/// unusable certificates, [`Error::System`].
pub fn bind(dir: &Path, address: SocketAddr) -> Result<Server, Error> {
    if !dir.join("keys/state.json").exists() {
        return Err(Error::NoRepository(dir.to_owned()));
    }
    if !dir.join(SERVER_KEY).exists() {
        let reason = format!("{} is none; `oem vault part` makes one", dir.display());
        return Err(Error::Vault(reason));
    }
    let tls = TlsFiles {
        certificate: dir.join(SERVER),
        key: dir.join(SERVER_KEY),
        clients: Some(dir.join(CA)),
    };
    let app = Router::new()
        .route("/grants", post(grants))
        .route("/reports", post(report))
        .route("/images", post(image))
        .route("/vehicles", post(vehicle))
        .layer(DefaultBodyLimit::max(MESSAGE_MAX))
        .with_state(Turns::new(dir));
    Server::listen(address, &tls, app)
}

/// What is said where something was refused.
struct Refused(Error);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Error::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::File { .. } | Error::System { .. } | Error::Corrupt { .. } | Error::Audit(_) => {
                eprintln!("oem: {}", self.0);
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
            _ => StatusCode::FORBIDDEN,
        };
        (status, self.0.to_string()).into_response()
    }
}

type Answer<T> = Result<Json<T>, Refused>;

async fn grants(State(turns): State<Turns>, Json(ask): Json<GrantsAsk>) -> Answer<GrantsAnswer> {
    let granted = turns.with_repo(move |repo| rules::grant(repo, &ask.vin, &ask.asks));
    let granted = granted.await.map_err(Refused)?.into_iter();
    let grants = granted.map(|it| GrantAnswer {
        grant: it.grant,
        sequence: it.sequence,
    });
    Ok(Json(GrantsAnswer {
        grants: grants.collect(),
    }))
}

async fn report(State(turns): State<Turns>, Json(ask): Json<ReportAsk>) -> Answer<ReportAnswer> {
    let authentic = turns.with_repo(move |repo| {
        let record = repo.vehicle(&ask.vin)?;
        Ok(made_by(&record, &ask.serial, &ask.report))
    });
    let authentic = authentic.await.map_err(Refused)?;
    Ok(Json(ReportAnswer { authentic }))
}

async fn image(
    State(turns): State<Turns>,
    Json(keys): Json<ImageKeys>,
) -> Result<StatusCode, Refused> {
    let kept = turns.with_repo(move |repo| keep(repo, &keys)).await;
    kept.map(|()| StatusCode::NO_CONTENT).map_err(Refused)
}

/// An image is packed once: nobody puts other keys in the place of those that are here.
fn keep(repo: &Repo, keys: &ImageKeys) -> Result<(), Error> {
    let wrong = || Error::Pack("a content key has 16 or 32 bytes".into());
    let key = keys.content_key.as_slice();
    let content_key = match (key.try_into(), key.try_into()) {
        (Ok(key), _) => ContentKey::Aes128(key),
        (_, Ok(key)) => ContentKey::Aes256(key),
        _ => return Err(wrong()),
    };
    let digest = Header::digest_of(&keys.header);
    match repo.image_secrets(&digest) {
        Ok(_) => return Err(Error::Vault(format!("it has keys for image {digest}"))),
        Err(Error::UnknownImage(_)) => {}
        Err(error) => return Err(error),
    }
    audit::record(repo, "image", &json!({ "image": digest }))?;
    let salt = keys.salt;
    repo.store_image_secrets(&digest, &ImageSecrets { content_key, salt })
}

async fn vehicle(
    State(turns): State<Turns>,
    Json(spec): Json<VehicleSpec>,
) -> Answer<VehicleRecord> {
    let record = turns.with_repo(move |repo| new_vehicle(repo, &spec));
    let mut record = record.await.map_err(Refused)?;
    record.ecus.clear();
    Ok(Json(record))
}

/// Asked again, because the first answer was lost, it gives the same.
fn new_vehicle(repo: &Repo, spec: &VehicleSpec) -> Result<VehicleRecord, Error> {
    let record = vehicle::record(repo, spec)?;
    let vin: &Vin = record.vehicle.vin();
    if repo.has_vehicle(vin) {
        let known = repo.vehicle(vin)?;
        let same = described(&known)? == described(&record)?;
        let exists = || Error::VehicleExists(vin.clone());
        return same.then_some(known).ok_or_else(exists);
    }
    vehicle::check_serials(repo, &record)?;
    audit::record(repo, "vehicle add", &json!({ "vin": vin }))?;
    repo.store_vehicle(&record)?;
    Ok(record)
}

/// What a record says besides keys and sequences.
fn described(record: &VehicleRecord) -> Result<Value, Error> {
    let mut value = serde_json::to_value(record).map_err(Error::crypto("JSON encoding"))?;
    forget(&mut value);
    Ok(value)
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|name, _| !name.ends_with("_key") && name != "last_sequence");
            object.values_mut().for_each(forget);
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        _ => {}
    }
}

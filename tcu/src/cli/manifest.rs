//! What `tcu manifest` does and shows.

use campaign::time::Nonce;
use ecu_image::EcuReport;
use serde::Serialize;

use crate::error::{Error, Exit};
use crate::install::Context;
use crate::manifest::{Asked, Backend, TcuKey, Verdict, sign, silent, tell};
use crate::output::{Output, columns};

/// One ECU of `manifest --json`.
#[derive(Serialize)]
struct Entry {
    name: String,
    serial: String,
    state: Option<&'static str>,
    image: Option<String>,
    security_counter: Option<u32>,
    floor: Option<u32>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Told {
    accepted: bool,
    ecus: Vec<Entry>,
}

/// Tells the backend at `url` what the ECUs run, or prints the manifest that answers `nonce`.
pub(super) async fn run(
    context: &Context,
    url: Option<&str>,
    nonce: Option<&Nonce>,
    output: &mut Output,
) -> Result<Exit, Error> {
    let usage = |what: &str| Error::Usage(what.to_owned());
    let path = context.tcu_key.as_ref();
    let missing = "no key to sign with: --tcu-key, or tcu.pem beside the vehicle's file";
    let key = TcuKey::load(path.ok_or_else(|| usage(missing))?)?;
    if let Some(nonce) = nonce {
        return print(context, &key, nonce, output).await;
    }
    let missing = "no backend: a URL, `repository.url` in the settings, or --nonce";
    let url = url.ok_or_else(|| usage(missing))?;
    let backend = Backend::new(url, context.vehicle.vin(), context.ca.as_deref())?;
    let backend = backend.ok_or_else(|| usage("the backend is an https URL"))?;
    let Some((verdict, asked)) = tell(context, &backend, &key).await? else {
        let what = format!("{url} takes no manifests of this vehicle");
        return Err(Error::Refused(what));
    };
    Ok(show(verdict, &asked, output))
}

async fn print(
    context: &Context,
    key: &TcuKey,
    nonce: &Nonce,
    output: &mut Output,
) -> Result<Exit, Error> {
    let asked = context.reports(nonce).await?;
    for ecu in silent(&asked) {
        let why = ecu.said.as_ref().err().map_or("", String::as_str);
        eprintln!("tcu: {} does not answer: {why}", ecu.name);
    }
    let manifest = sign(key, context.vehicle.vin(), nonce, &asked);
    let manifest = manifest.map_err(|error| Error::Usage(error.to_string()))?;
    let value: serde_json::Value = serde_json::from_slice(&manifest).unwrap_or_default();
    output.value(&value, String::from_utf8_lossy(&manifest).trim_end());
    Ok(exit(true, &asked))
}

fn exit(accepted: bool, asked: &[Asked]) -> Exit {
    match accepted {
        false => Exit::Rejected,
        true if silent(asked).next().is_some() => Exit::Unreachable,
        true => Exit::Success,
    }
}

fn show(verdict: Verdict, asked: &[Asked], output: &mut Output) -> Exit {
    let accepted = verdict == Verdict::Accepted;
    let ecus: Vec<Entry> = asked.iter().map(entry).collect();
    let mut rows = vec![["ECU", "state", "counter", "floor", "image"].map(str::to_owned)];
    rows.extend(ecus.iter().map(|ecu| {
        let number = |number: Option<u32>| number.map_or("-".into(), |number| number.to_string());
        [
            ecu.name.clone(),
            ecu.state.unwrap_or("-").to_owned(),
            number(ecu.security_counter),
            number(ecu.floor),
            ecu.image.clone().or(ecu.error.clone()).unwrap_or_default(),
        ]
    }));
    let names: Vec<String> = silent(asked).map(|ecu| ecu.name.to_string()).collect();
    let verdict = crate::output::manifest(accepted, &names);
    let text = format!("{}\n{verdict}", columns(&rows).trim_end());
    output.value(&Told { accepted, ecus }, &text);
    exit(accepted, asked)
}

/// What an ECU said. Whether it is the ECU that said it only the backend can tell.
fn entry(asked: &Asked) -> Entry {
    let said = asked.said.as_ref().map_err(Clone::clone);
    let report = said.and_then(|bytes| EcuReport::parse(bytes).map_err(|error| error.to_string()));
    let (report, error) = match report {
        Ok(report) => (Some(report), None),
        Err(error) => (None, Some(error)),
    };
    let report = report.as_ref();
    Entry {
        name: asked.name.to_string(),
        serial: asked.serial.to_string(),
        state: report.map(|report| report.state.name()),
        image: report.map(|report| report.image_digest.to_string()),
        security_counter: report.map(|report| report.security_counter.get()),
        floor: report.map(|report| report.floor.get()),
        error,
    }
}

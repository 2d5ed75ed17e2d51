//! What `tcu inventory` shows.

use serde::Serialize;

use crate::error::Exit;
use crate::install::{Context, Found};
use crate::output::{Output, columns};

/// One ECU of `inventory --json`.
#[derive(Serialize)]
struct InventoryEntry {
    name: String,
    bus: String,
    serial: Option<String>,
    hardware: Option<String>,
    version: Option<String>,
    image: Option<String>,
    error: Option<String>,
}

#[derive(Serialize)]
struct InventoryList {
    ecus: Vec<InventoryEntry>,
}

/// Shows what each ECU said.
pub(super) fn show(context: &Context, found: &[Found], output: &mut Output) -> Exit {
    let entry = |(ecu, found): (&campaign::vehicle::Ecu, &Found)| {
        let outcome = found.as_ref().ok();
        InventoryEntry {
            name: ecu.name.to_string(),
            bus: ecu.bus.to_string(),
            serial: outcome.and_then(|found| found.serial.clone()),
            hardware: outcome.and_then(|found| found.hardware.clone()),
            version: outcome.and_then(|found| found.version.clone()),
            image: outcome.map(|found| found.status.running.0.to_string()),
            error: found.as_ref().err().map(ToString::to_string),
        }
    };
    let ecus: Vec<_> = context
        .vehicle
        .ecus()
        .iter()
        .zip(found)
        .map(entry)
        .collect();
    let mut rows = vec![["ECU", "bus", "serial", "hardware", "version", ""].map(str::to_owned)];
    rows.extend(ecus.iter().map(|ecu| {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        [
            ecu.name.clone(),
            ecu.bus.clone(),
            text(&ecu.serial),
            text(&ecu.hardware),
            text(&ecu.version),
            ecu.error.clone().unwrap_or_default(),
        ]
    }));
    let silent = ecus.iter().any(|ecu| ecu.error.is_some());
    output.value(&InventoryList { ecus }, columns(&rows).trim_end());
    if silent {
        Exit::Unreachable
    } else {
        Exit::Success
    }
}

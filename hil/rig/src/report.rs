//! What a scenario ended with: for machines as JSON, for people as a table.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The result of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// Whether everything was as the scenario demands.
    pub ok: bool,
    /// The campaign as the TCU ended it.
    pub campaign: Campaign,
    /// One entry per ECU, in the order of the vehicle.
    pub ecus: Vec<Ecu>,
    /// What was not as it should be; empty when `ok`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// The campaign's outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// The campaign's id.
    pub id: String,
    /// `completed`, `rejected`, `reverted` or `incomplete`.
    pub state: String,
}

/// One ECU's outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ecu {
    /// Its name.
    pub name: String,
    /// Its bus.
    pub bus: String,
    /// The version it ran before.
    pub from: String,
    /// The version it runs now, as its heartbeat says.
    pub to: String,
    /// Payload bytes that TransferData carried.
    pub bytes: u64,
    /// Seconds from the first block to the last response, by the bus's time.
    pub seconds: f64,
    /// The share of the computed TransferData limit that was reached; `null` where nothing was
    /// transferred or where the bus is the kernel's and has no model time.
    pub bus_share: Option<f64>,
    /// `sealed`, `unchanged`, `reverted`, `factory` and others as `docs/spec` names them.
    pub state: String,
}

impl Report {
    /// The table that a demo ends with.
    #[must_use]
    pub fn table(&self) -> String {
        let header = [
            "ECU",
            "bus",
            "from",
            "to",
            "bytes",
            "seconds",
            "bus share",
            "state",
        ];
        let mut rows = vec![header.map(str::to_owned)];
        rows.extend(self.ecus.iter().map(|ecu| {
            [
                ecu.name.clone(),
                ecu.bus.clone(),
                ecu.from.clone(),
                ecu.to.clone(),
                ecu.bytes.to_string(),
                format!("{:.1}", ecu.seconds),
                ecu.bus_share
                    .map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
                ecu.state.clone(),
            ]
        }));
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; 8] = std::array::from_fn(width);
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            scenario: "update".into(),
            ok: true,
            campaign: Campaign {
                id: "c-1".into(),
                state: "completed".into(),
            },
            ecus: vec![Ecu {
                name: "steering".into(),
                bus: "chassis".into(),
                from: "1.0.0".into(),
                to: "2.0.0".into(),
                bytes: 4096,
                seconds: 1.25,
                bus_share: Some(0.981),
                state: "sealed".into(),
            }],
            failures: Vec::new(),
        }
    }

    #[test]
    fn the_table_aligns_its_columns() {
        let table = report().table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0].find("from"), lines[1].find("1.0.0"));
        assert!(lines[1].ends_with("98.1 %     sealed"), "{table}");
    }

    #[test]
    fn json_has_the_documented_names_and_survives_a_round_trip() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["ecus"][0]["bus_share"], 0.981);
        assert_eq!(json["campaign"]["state"], "completed");
        assert!(json.get("failures").is_none());
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report());
    }
}

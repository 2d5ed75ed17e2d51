//! `tcu evidence`: the record of decisions, brought out and checked.

use std::path::{Path, PathBuf};

use campaign::chain::Head;
use clap::Subcommand;
use serde::Serialize;

use super::options::Options;
use crate::error::{Error, Exit};
use crate::evidence::{self, EvidenceError, FILE};
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write the record to a file, one JSON object a line; refused where it was tampered with.
    Export {
        /// Where to.
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// Check the record from its first entry to its last.
    Verify {
        /// Another record than that of the state folder.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// An entry that it must have, as an earlier check printed its end: shows entries that were cut
        /// off or written anew.
        #[arg(long, value_name = "SEQUENCE:DIGEST", value_parser = head)]
        head: Option<Head>,
    },
}

/// `SEQUENCE:DIGEST`.
fn head(text: &str) -> Result<Head, String> {
    let wrong = || "a number, a colon and 64 hexadecimal digits".to_owned();
    let (sequence, digest) = text.split_once(':').ok_or_else(wrong)?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(digest, &mut bytes).map_err(|_| wrong())?;
    Ok(Head {
        sequence: sequence.parse().map_err(|_| wrong())?,
        digest: ecu_image::Digest(bytes),
    })
}

#[derive(Serialize)]
struct Checked {
    entries: u64,
    head: String,
}

pub(super) fn run(command: &Command, options: &Options, json: bool) -> Result<Exit, Error> {
    let own = options.state.join(FILE);
    let (file, expected) = match command {
        Command::Export { .. } => (&own, None),
        Command::Verify { file, head } => (file.as_ref().unwrap_or(&own), head.as_ref()),
    };
    let found = evidence::verify(file, expected).map_err(|error| refused(file, error))?;
    if let Command::Export { to } = command {
        std::fs::copy(&own, to).map_err(Error::file(to))?;
    }
    let head = format!("{}:{}", found.sequence, found.digest);
    let text = format!("{} entries, whole; it ends at {head}", found.sequence);
    let entries = found.sequence;
    Output::plain(json).value(&Checked { entries, head }, &text);
    Ok(Exit::Success)
}

fn refused(path: &Path, error: EvidenceError) -> Error {
    match error {
        EvidenceError::File(source) => Error::file(path)(source),
        tampered => Error::Evidence {
            path: path.to_owned(),
            what: tampered.to_string(),
        },
    }
}

//! What this vehicle has decided, and who and what made it: a chain of records that shows tampering
//! (UNECE R156, ISO 24089), in `evidence.jsonl` of the state folder.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use campaign::UnixTime;
use campaign::chain::{ChainError, ENTRY_MAX_LEN, Head};
use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::{EcuReport, Plan, Report};
use crate::error::Error;
use crate::policy::{Answer, Mode};

/// The record's file in the state folder.
pub const FILE: &str = "evidence.jsonl";

/// What was decided, or has happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Decision<'a> {
    /// A verified campaign is on offer.
    Offered {
        /// Its id.
        campaign: &'a str,
        /// What it would change.
        ecus: Vec<Change<'a>>,
    },
    /// Somebody consented.
    Consented {
        /// The campaign.
        campaign: &'a str,
        /// Who, and when.
        answer: &'a Answer,
    },
    /// Somebody postponed it.
    Postponed {
        /// The campaign.
        campaign: &'a str,
        /// Who.
        who: &'a str,
        /// For how many seconds.
        seconds: u64,
    },
    /// Somebody does not want it: before it began, or it is to go back.
    Declined {
        /// The campaign.
        campaign: &'a str,
        /// Who.
        who: &'a str,
    },
    /// The installation begins.
    Started {
        /// The campaign.
        campaign: &'a str,
        /// Who or what started it.
        by: &'a str,
        /// The policy.
        mode: Option<Mode>,
        /// The consent that it rests on, if any.
        consent: Option<&'a Answer>,
        /// The preconditions with what was measured.
        preconditions: &'a Value,
        /// The RXSWINs of the vehicle type before and after, by regulation.
        rxswins: Rxswins<'a>,
        /// What is to change.
        ecus: Vec<Change<'a>>,
    },
    /// It goes on after the program was stopped or killed.
    Resumed {
        /// The campaign.
        campaign: &'a str,
    },
    /// A precondition was lost.
    Paused {
        /// The campaign.
        campaign: &'a str,
        /// The preconditions with what was measured.
        preconditions: &'a Value,
    },
    /// An ECU that sealing or reverting does not reach is asked no more.
    GaveUp {
        /// The campaign.
        campaign: &'a str,
        /// The ECU.
        ecu: &'a str,
        /// Who decided it.
        who: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// All preconditions are met again.
    Continued {
        /// The campaign.
        campaign: &'a str,
        /// The preconditions with what was measured.
        preconditions: &'a Value,
    },
    /// The transaction enters a phase; `sealing` is the point of no return.
    Phase {
        /// The campaign.
        campaign: &'a str,
        /// Its name.
        phase: &'a str,
    },
    /// The installation has ended, or rests.
    Ended {
        /// The campaign.
        campaign: &'a str,
        /// How.
        report: &'a Report,
        /// The RXSWINs before and now: they change only with a campaign that is completed.
        rxswins: Rxswins<'a>,
        /// What has changed.
        ecus: Vec<Changed<'a>>,
    },
    /// Every ECU runs what the campaign names already, so its RXSWINs apply: the program died before
    /// it could record the end.
    Applies {
        /// The campaign.
        campaign: &'a str,
        /// The RXSWINs before and now.
        rxswins: Rxswins<'a>,
    },
    /// It ended without a report.
    Abandoned {
        /// The campaign.
        campaign: &'a str,
        /// Why.
        why: &'a str,
    },
    /// What the file held before cannot be believed; it was set aside.
    SetAside {
        /// The name it got.
        file: &'a str,
        /// What is wrong with it.
        why: &'a str,
    },
    /// The last entry was incomplete, as a loss of power leaves it, and was cut off.
    CutOff {
        /// Its bytes.
        bytes: u64,
    },
}

/// Software identification numbers of the vehicle type (UN R156, RXSWIN), by regulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rxswins<'a> {
    /// Those that applied.
    pub before: &'a BTreeMap<String, String>,
    /// Those that apply afterwards.
    pub after: &'a BTreeMap<String, String>,
}

/// What a campaign would change on an ECU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change<'a> {
    name: &'a str,
    from: &'a str,
    from_image: String,
    to: &'a str,
    to_image: String,
    /// It runs what it should already.
    unchanged: bool,
}

impl<'a> Change<'a> {
    /// Of each ECU of a plan.
    #[must_use]
    pub fn of(plan: &'a Plan) -> Vec<Self> {
        let change = |ecu: &'a crate::engine::PlannedEcu| Self {
            name: &ecu.name,
            from: &ecu.from.version,
            from_image: ecu.from.image.to_string(),
            to: &ecu.to_version,
            to_image: ecu.image.to_string(),
            unchanged: ecu.unchanged,
        };
        plan.ecus.iter().map(change).collect()
    }
}

/// What has changed on an ECU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed<'a> {
    name: &'a str,
    from: &'a str,
    to: &'a str,
    state: crate::engine::EcuResult,
}

impl<'a> Changed<'a> {
    /// Of each ECU of a report.
    #[must_use]
    pub fn of(report: &'a Report) -> Vec<Self> {
        let changed = |ecu: &'a EcuReport| Self {
            name: &ecu.name,
            from: &ecu.from,
            to: &ecu.to,
            state: ecu.state,
        };
        report.ecus.iter().map(changed).collect()
    }
}

/// The record, open for more.
#[derive(Debug)]
pub struct Evidence {
    path: PathBuf,
    file: File,
    head: Head,
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// Somebody changed, removed or inserted an entry.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The last line has no end.
    #[error("its last entry is incomplete: {0} bytes")]
    Torn(u64),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

impl Evidence {
    /// Opens or begins the record of a state folder. One that cannot be believed is set aside: the
    /// vehicle stays usable, and the new one says so in its first entry.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let mut file = open(&path).map_err(Error::file(&path))?;
        let (head, whole, wrong) = follow(&file, |_| ()).map_err(Error::file(&path))?;
        let mut evidence = match &wrong {
            Some(EvidenceError::Chain(error)) => return Self::set_aside(dir, error),
            _ => {
                let mut cut = || -> std::io::Result<()> {
                    file.set_len(whole)?;
                    file.seek(SeekFrom::End(0))?;
                    file.sync_all()
                };
                cut().map_err(Error::file(&path))?;
                Self { path, file, head }
            }
        };
        if let Some(EvidenceError::Torn(bytes)) = wrong {
            evidence.record(&Decision::CutOff { bytes })?;
        }
        Ok(evidence)
    }

    fn set_aside(dir: &Path, error: &ChainError) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let names = (1_u32..).map(|number| format!("evidence.broken-{number}.jsonl"));
        let mut free = names.filter(|name| !dir.join(name).exists());
        let name = free.next().unwrap_or_default();
        std::fs::rename(&path, dir.join(&name)).map_err(Error::file(&path))?;
        tracing::error!(%error, file = name, "the evidence was tampered with, and is set aside");
        let file = open(&path).map_err(Error::file(&path))?;
        let head = Head::EMPTY;
        let mut evidence = Self { path, file, head };
        let why = &error.to_string();
        evidence.record(&Decision::SetAside { file: &name, why })?;
        Ok(evidence)
    }

    /// Adds a decision; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::File`]: it is not there, and what rests on it must not happen.
    pub fn record(&mut self, decision: &Decision<'_>) -> Result<(), Error> {
        let now = UnixTime::from_secs(crate::service::unix_time());
        let mut head = self.head;
        let body = serde_json::to_value(decision).unwrap_or_else(|error| {
            // Only a map with other keys than texts fails, and there is none.
            json!({"what": "unspeakable", "why": error.to_string()})
        });
        let failed = |what: String| Error::file(&self.path)(std::io::Error::other(what));
        let line = head.append(now, &body);
        let line = line.map_err(|error| failed(error.to_string()))?;
        let before = self
            .file
            .stream_position()
            .map_err(Error::file(&self.path))?;
        let write = |file: &mut File| -> std::io::Result<()> {
            file.write_all(format!("{line}\n").as_bytes())?;
            file.sync_data()
        };
        if let Err(error) = write(&mut self.file) {
            // What is half there would be in the way of the next entry.
            let _ = self.file.set_len(before);
            let _ = self.file.seek(SeekFrom::Start(before));
            return Err(Error::file(&self.path)(error));
        }
        self.head = head;
        Ok(())
    }

    /// How far the record goes.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }
}

/// Checks a record from its first entry to its last, and returns how far it goes. A head that was noted
/// elsewhere must be one of its entries: the record may have grown since, and was not cut off before it.
///
/// # Errors
///
/// [`EvidenceError`].
pub fn verify(path: &Path, noted: Option<&Head>) -> Result<Head, EvidenceError> {
    let mut held = noted.is_none_or(|noted| *noted == Head::EMPTY);
    let passed = |head: &Head| held |= noted == Some(head);
    let (head, _, wrong) = follow(&File::open(path)?, passed)?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    if let Some(noted) = noted.filter(|_| !held) {
        head.expect(noted)?;
    }
    Ok(head)
}

fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options.open(path)
}

/// Follows the entries of a file: the head after the last good one, its end in bytes, and what is
/// wrong behind it. `passed` sees the head after each.
fn follow(
    file: &File,
    mut passed: impl FnMut(&Head),
) -> std::io::Result<(Head, u64, Option<EvidenceError>)> {
    let mut reader = BufReader::new(file);
    let (mut head, mut whole) = (Head::EMPTY, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let longest = u64::try_from(ENTRY_MAX_LEN).unwrap_or(u64::MAX);
        let mut bounded = (&mut reader).take(longest.saturating_add(2));
        let length = bounded.read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok((head, whole, None));
        }
        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
        let Some(entry) = line.strip_suffix(b"\n") else {
            let torn = EvidenceError::Torn(bytes);
            return Ok((head, whole, Some(torn)));
        };
        if let Err(error) = head.follow(entry) {
            return Ok((head, whole, Some(error.into())));
        }
        passed(&head);
        whole = whole.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(dir: &Path, entries: usize) -> Evidence {
        let mut evidence = Evidence::open(dir).unwrap();
        for number in 0..entries {
            let campaign = &format!("campaign-{number}");
            evidence.record(&Decision::Resumed { campaign }).unwrap();
        }
        evidence
    }

    #[test]
    fn a_record_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 3);
        let noted = Evidence::open(dir.path()).unwrap().head();
        let head = fill(dir.path(), 2).head();
        assert_eq!(head.sequence, 5);
        let path = dir.path().join(FILE);
        for noted in [Head::EMPTY, noted, head] {
            assert_eq!(verify(&path, Some(&noted)).unwrap(), head);
        }
        let other = Head {
            sequence: 4,
            ..noted
        };
        assert!(verify(&path, Some(&other)).is_err());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""what":"resumed""#), "{text}");
    }

    #[test]
    fn what_a_loss_of_power_left_is_cut_off_and_said() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 2);
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for length in [1, 2, 40, 100] {
            std::fs::write(&path, &whole).unwrap();
            let file = OpenOptions::new().append(true).open(&path).unwrap();
            (&file).write_all(&whole[..length]).unwrap();
            assert!(matches!(verify(&path, None), Err(EvidenceError::Torn(_))));
            let evidence = Evidence::open(dir.path()).unwrap();
            assert_eq!(evidence.head().sequence, 3, "two, and that one was cut off");
            verify(&path, None).unwrap();
        }
    }

    #[test]
    fn a_record_that_was_cut_off_at_an_entry_is_found_by_its_head() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 2);
        let kept = Evidence::open(dir.path()).unwrap().head();
        let head = fill(dir.path(), 1).head();
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let two: Vec<&str> = text.lines().take(2).collect();
        std::fs::write(&path, format!("{}\n", two.join("\n"))).unwrap();
        assert_eq!(verify(&path, None).unwrap().sequence, 2);
        assert!(verify(&path, Some(&head)).is_err());
        // Neither when others have been put in its place.
        let mut evidence = Evidence::open(dir.path()).unwrap();
        for campaign in ["other", "more"] {
            evidence.record(&Decision::Resumed { campaign }).unwrap();
        }
        assert!(verify(&path, Some(&head)).is_err());
        assert!(verify(&path, Some(&kept)).is_ok());
    }

    #[test]
    fn a_full_disk_leaves_the_record_whole() {
        // Nothing can be written to it, and everything before is still there.
        let full = OpenOptions::new().read(true).write(true).open("/dev/full");
        let file = full.expect("every Linux has /dev/full");
        let (path, head) = (PathBuf::from("/dev/full"), Head::EMPTY);
        let mut evidence = Evidence { path, file, head };
        let refused = evidence.record(&Decision::Resumed { campaign: "c" });
        assert!(refused.unwrap_err().to_string().contains("No space left"));
        assert_eq!(evidence.head(), Head::EMPTY);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_changed_byte_is_found(at in 0usize..500, to in any::<u8>()) {
            let dir = tempfile::tempdir().unwrap();
            fill(dir.path(), 3);
            let path = dir.path().join(FILE);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            std::fs::write(&path, &bytes).unwrap();
            prop_assert!(verify(&path, None).is_err());
            // The vehicle goes on all the same, and keeps what was found.
            let evidence = Evidence::open(dir.path()).unwrap();
            prop_assert!(evidence.head().sequence >= 1);
            verify(&path, None).unwrap();
        }
    }
}

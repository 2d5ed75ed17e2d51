//! The Uptane vectors of advancedtelematic/tuf-test-vectors against the vehicle's verifier.
//! `cargo xtask uptane-vectors` has them generated and runs this.
//!
//! ```text
//! uptane_vectors DIR
//! ```
//!
//! `DIR` has what their generator writes, and `verdicts.json`: by vector the verdict on each step. Theirs
//! are repositories of another age; what of that the verifier reads by itself is in
//! `docs/spec/campaign.md`, and here is the rest: the director has no timestamp and no snapshot, so its
//! side is verified partially; delegated roles lie in a folder; `custom` has nothing but hardware ids.
//!
//! Exit code 0 where every vector ends as expected and for the expected reason, or is a deviation named
//! in [`DEVIATIONS`]; 1 else, also where a deviation is none any more.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use campaign::error::{DocumentFault, TargetFault};
use campaign::layout::{DIRECTOR_TARGETS_MAX_LEN, Repository};
use campaign::meta::KeyPolicy;
use campaign::pair::Pair;
use campaign::repository::{Client, Limits, Stored};
use campaign::{UnixTime, VerifyError, directing};
use serde::Deserialize;

/// Vectors that end otherwise here, and why.
const DEVIATIONS: [(&str, &str); 1] = [(
    "image_repo_metadata_changed_while_version_same",
    "new content under the versions of the old one is not news: TUF 1.0.33, clause 5.4.3, keeps the \
     timestamp that it has",
)];

/// The ECU that the vectors are generated for.
const ECU: (&str, &str) = ("ECU-SERIAL", "ECU-HW");

/// Between the two dates that the vectors know, 2017 and 2038.
const NOW: u64 = 1_800_000_000;

#[derive(Deserialize)]
struct Step {
    director: Verdict,
    image_repo: Verdict,
}

#[derive(Deserialize)]
struct Verdict {
    update: Outcome,
    targets: BTreeMap<String, Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    is_success: bool,
    err: Option<String>,
}

impl Step {
    /// Why the step is to fail; empty where it is to succeed.
    fn errors(&self) -> Vec<&str> {
        let sides = [&self.director, &self.image_repo];
        let all = sides
            .iter()
            .flat_map(|side| side.targets.values().chain([&side.update]));
        all.filter(|outcome| !outcome.is_success)
            .map(|outcome| outcome.err.as_deref().unwrap_or("failure"))
            .collect()
    }
}

fn main() -> ExitCode {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let Some(dir) = dir else {
        eprintln!("usage: uptane_vectors DIR");
        return ExitCode::from(2);
    };
    match run(&dir) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("uptane_vectors: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &Path) -> Result<bool, Box<dyn Error>> {
    let vectors = fs::read(dir.join("verdicts.json"))?;
    let vectors: BTreeMap<String, Vec<Step>> = serde_json::from_slice(&vectors)?;
    let (mut passed, mut deviates, mut failed) = (0, 0, 0);
    for (name, steps) in &vectors {
        let deviation = DEVIATIONS.iter().find(|(of, _)| of == name);
        match (play(&dir.join(name), steps)?, deviation) {
            (Ok(()), None) => passed += 1,
            (Err(how), Some((_, why))) => {
                println!("{name}: {how}\n  deviates: {why}");
                deviates += 1;
            }
            (Err(how), None) => {
                println!("{name}: {how}");
                failed += 1;
            }
            (Ok(()), Some(_)) => {
                println!("{name}: is named as a deviation and is none");
                failed += 1;
            }
        }
    }
    println!("vectors: {passed} as expected, {deviates} deviate, {failed} failed");
    Ok(failed == 0 && !vectors.is_empty())
}

/// Plays the steps of a vector; what differs from the expected, if anything does.
fn play(dir: &Path, steps: &[Step]) -> Result<Result<(), String>, Box<dyn Error>> {
    let pin = |side| fs::read(dir.join("0").join(side).join("1.root.json"));
    let mut trust = (
        Stored::root(&pin("director")?),
        Stored::root(&pin("image_repo")?),
    );
    for (at, expected) in steps.iter().enumerate() {
        let errors = expected.errors();
        let as_expected = match update(&dir.join(at.to_string()), &mut trust) {
            Ok(()) if errors.is_empty() => continue,
            Ok(()) => format!("accepted, but expected is {}", errors.join(", ")),
            Err(Refused::Rule(refusal))
                if errors.iter().any(|error| is_reason(error, &refusal)) =>
            {
                continue;
            }
            Err(Refused::Image(_)) if errors.iter().all(|error| error.contains("Target")) => {
                continue;
            }
            Err(refused) => format!("{refused}; expected is {errors:?}"),
        };
        return Ok(Err(format!("step {at}: {as_expected}")));
    }
    Ok(Ok(()))
}

#[derive(Debug)]
enum Refused {
    Rule(VerifyError),
    Image(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rule(refusal) => refusal.fmt(f),
            Self::Image(path) => write!(f, "{path} is not the image that was named"),
        }
    }
}

impl From<VerifyError> for Refused {
    fn from(refusal: VerifyError) -> Self {
        Self::Rule(refusal)
    }
}

/// One update cycle: both repositories, what they say about the ECU, and the images.
fn update(dir: &Path, trust: &mut (Stored, Stored)) -> Result<(), Refused> {
    let (policy, now) = (KeyPolicy::default(), UnixTime::from_secs(NOW));
    let limits = Limits {
        targets: DIRECTOR_TARGETS_MAX_LEN,
        ..Limits::default()
    };
    let of = |repository| {
        move |refusal| VerifyError::Document {
            repository,
            refusal,
        }
    };
    let director = Client::partial(trust.0.clone(), policy, limits, now);
    let image = Client::new(trust.1.clone(), policy, Limits::default(), now);
    let mut pair = Pair::new(
        director.map_err(of(Repository::Director))?,
        image.map_err(of(Repository::Image))?,
    );
    while let Some((repository, wanted)) = pair.wanted() {
        let bytes = file(dir, repository, &wanted.name);
        pair.on_document(bytes.as_deref())?;
    }
    let (director, _, offered) = pair.current()?;
    let hardware = |serial: &_| {
        let known = ECU.0.parse() == Ok(*serial);
        known.then(|| ECU.1.parse().ok()).flatten()
    };
    for assignment in directing::assignments(director, offered, hardware)? {
        let image = fs::read(dir.join("image_repo").join(assignment.path)).unwrap_or_default();
        let length = u64::try_from(image.len()).unwrap_or(u64::MAX);
        if length != assignment.offered.length || !assignment.offered.hashes.describe(&image) {
            return Err(Refused::Image(assignment.path.to_owned()));
        }
    }
    let stored = |repository| pair.client(repository).believed().to_stored();
    *trust = (stored(Repository::Director), stored(Repository::Image));
    Ok(())
}

/// A file as their server gives it, the delegated roles' in a folder of their own.
fn file(dir: &Path, repository: Repository, name: &str) -> Option<Vec<u8>> {
    let folder = match repository {
        Repository::Director => "director",
        Repository::Image => "image_repo",
    };
    let folder = dir.join(folder);
    fs::read(folder.join(name))
        .or_else(|_| fs::read(folder.join("delegations").join(name)))
        .ok()
}

/// Whether the refusal is for the reason that the vector names.
fn is_reason(error: &str, refusal: &VerifyError) -> bool {
    use DocumentFault as Of;
    let kind = error.split("::").next().unwrap_or(error);
    match refusal {
        VerifyError::Document { refusal, .. } => match &refusal.fault {
            // A key under a name that is not its own is no key of the role, and does not count.
            Of::Signatures(_) => matches!(kind, "UnmetThreshold" | "BadKeyId"),
            Of::PredecessorSignatures(_) => kind == "BadKeyId",
            Of::Malformed(_) => matches!(
                kind,
                "IllegalThreshold"
                    | "NonUniqueSignatures"
                    | "SecurityException"
                    | "MetadataFetchFailure"
            ),
            // A delegation whose keys cannot be had delegates to nobody.
            Of::NotNamed => matches!(kind, "IllegalThreshold" | "VersionMismatch"),
            Of::Version { .. } => matches!(kind, "RootRotationError" | "VersionMismatch"),
            Of::Expired { .. } => matches!(kind, "ExpiredMetadata" | "TargetMismatch"),
            Of::Missing => kind == "DelegationMissing",
            Of::Delegates => kind == "DirectorDelegation",
            _ => false,
        },
        // No vector asks for the time.
        VerifyError::Time(_) => false,
        VerifyError::Target { fault, .. } => match fault {
            TargetFault::EcuTwice(_) => kind == "DirectorRepeatedEcuId",
            TargetFault::UnknownEcu(_) => kind == "BadEcuId",
            TargetFault::Hardware(_) => matches!(kind, "BadHardwareId" | "TargetMismatch"),
            TargetFault::Disagreement { .. } | TargetFault::NotInImageRepository => {
                kind == "TargetMismatch"
            }
            _ => false,
        },
    }
}

//! The vectors of `campaign/tests/vectors`, whose format is in `docs/spec/vectors.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use campaign::VerifyError;
use campaign::error::{DocumentFault, GrantFault, TargetFault};
use campaign::meta::Malformed;
use serde::Deserialize;
use serde_json::Value;

use crate::world::{Edit, World, installs};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    about: String,
    attack: String,
    clause: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    days: u32,
    #[serde(default)]
    release: BTreeMap<String, u64>,
    #[serde(default)]
    edits: Vec<FileEdit>,
    #[serde(default)]
    serve: BTreeMap<String, Option<Served>>,
    partial: Option<String>,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEdit {
    document: String,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    signers: Option<Vec<String>>,
    #[serde(default = "once")]
    repeat: usize,
}

fn once() -> usize {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Served {
    /// The same file as after that step, counted from 0.
    Step(usize),
    /// What lies there.
    Like(String),
    /// This many spaces more.
    Spaces(usize),
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Expected {
    Install(BTreeMap<String, String>),
    Refuse { of: String, rule: String },
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// Plays the vector of that name; how it ends otherwise than it says, if it does.
fn play(name: &str) -> Result<(), String> {
    let bytes = fs::read(folder().join(format!("{name}.json")));
    let bytes = bytes.unwrap_or_else(|error| panic!("{name}: {error}"));
    let vector: Vector =
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    for text in [&vector.about, &vector.attack, &vector.clause] {
        assert!(!text.is_empty(), "{name}: says nothing");
    }
    let mut world = World::new();
    let mut history = Vec::new();
    for (at, step) in vector.steps.iter().enumerate() {
        publish(&mut world, step, &history);
        history.push(world.files.clone());
        let stored = world.trust.clone();
        let mut attack = None;
        let found = match &step.partial {
            None => world.verify().map(|campaign| installs(&campaign)),
            Some(serial) => world.verify_partially(serial).map(|path| {
                let path = path.map(|path| (serial.clone(), path));
                path.into_iter().collect()
            }),
        };
        let found = found.map_or_else(
            |error| {
                attack = serde_json::to_value(error.attack()).ok();
                refused(&error)
            },
            Expected::Install,
        );
        if attack.is_some_and(|attack| attack != vector.attack.as_str()) {
            return Err(format!(
                "{name}, step {at}: is no {} by {found:?}",
                vector.attack
            ));
        }
        if found != step.expect {
            return Err(format!("{name}, step {at}: {found:?}"));
        }
        if matches!(found, Expected::Refuse { .. }) && world.trust != stored {
            return Err(format!(
                "{name}, step {at}: a refusal changed what is stored"
            ));
        }
    }
    Ok(())
}

fn publish(world: &mut World, step: &Step, history: &[BTreeMap<String, Vec<u8>>]) {
    world.now = world.now.plus_days(step.days);
    let edit = |edit: &FileEdit| {
        let one = Edit {
            document: edit.document.clone(),
            set: edit.set.clone(),
            signers: edit.signers.clone(),
        };
        vec![one; edit.repeat]
    };
    let edits: Vec<Edit> = step.edits.iter().flat_map(edit).collect();
    for (repository, number) in &step.release {
        world.publish(repository, *number, &edits);
    }
    for (file, served) in &step.serve {
        let bytes = match served {
            None => {
                world.files.remove(file).unwrap();
                continue;
            }
            Some(Served::Step(step)) => history[*step][file].clone(),
            Some(Served::Like(other)) => world.files[other].clone(),
            Some(Served::Spaces(count)) => {
                let mut bytes = world.files[file].clone();
                bytes.resize(bytes.len() + count, b' ');
                bytes
            }
        };
        world.files.insert(file.clone(), bytes);
    }
}

/// The refusal in the words of the format.
fn refused(error: &VerifyError) -> Expected {
    let (of, rule) = words(error);
    Expected::Refuse {
        of,
        rule: rule.into(),
    }
}

/// Which document or target, and which rule.
pub(crate) fn words(error: &VerifyError) -> (String, &'static str) {
    use campaign::layout::Repository;
    match error {
        VerifyError::Document {
            repository,
            refusal,
        } => {
            let repository = match repository {
                Repository::Image => "image",
                Repository::Director => "director",
            };
            let role = refusal.role.to_string();
            let role = refusal.delegated.as_ref().unwrap_or(&role);
            (
                format!("{repository}/{role}"),
                document_rule(&refusal.fault),
            )
        }
        // No vector asks for the time.
        VerifyError::Time(_) => ("time".into(), "time"),
        VerifyError::Target { path, fault } => (path.clone(), target_rule(fault)),
    }
}

fn document_rule(fault: &DocumentFault) -> &'static str {
    use DocumentFault as Of;
    match fault {
        Of::Missing => "missing",
        Of::Malformed(Malformed::TooLong { .. }) => "too-long",
        Of::Malformed(_) => "malformed",
        Of::Signatures(_) => "signatures",
        Of::PredecessorSignatures(_) => "predecessor-signatures",
        Of::Version { .. } => "version",
        Of::Expired { .. } => "expired",
        Of::NotAsNamed => "not-as-named",
        Of::NotNamed => "not-named",
        Of::NamesOlder { .. } => "names-older",
        Of::NoLongerNamed(_) => "no-longer-named",
        Of::Delegates => "delegates",
        Of::ChainTooLong => "chain-too-long",
        Of::Custom(_) => "custom",
        Of::OtherVehicle(_) => "other-vehicle",
    }
}

fn target_rule(fault: &TargetFault) -> &'static str {
    match fault {
        TargetFault::NotInImageRepository => "not-in-image-repository",
        TargetFault::Disagreement { .. } => "disagreement",
        TargetFault::UnknownEcu(_) => "unknown-ecu",
        TargetFault::EcuTwice(_) => "ecu-twice",
        TargetFault::NoEcu => "no-ecu",
        TargetFault::Hardware(_) => "hardware",
        TargetFault::TooLong { .. } => "too-long",
        TargetFault::Grant { fault, .. } => match fault {
            GrantFault::Serial => "grant-serial",
            GrantFault::ImageDigest => "grant-image",
            GrantFault::Sequence => "grant-sequence",
            _ => "grant",
        },
        TargetFault::OtherDigest => "other-digest",
        _ => "other",
    }
}

#[test]
fn every_vector_ends_as_it_says() {
    let files = fs::read_dir(folder()).unwrap();
    let names = files.map(|file| file.unwrap().path().file_stem().unwrap().to_owned());
    let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    assert!(names.len() > 100, "{} vectors", names.len());
    let wrong: Vec<String> = names.iter().filter_map(|name| play(name).err()).collect();
    assert_eq!(
        wrong.join("\n"),
        "",
        "{} vectors end otherwise",
        wrong.len()
    );
}

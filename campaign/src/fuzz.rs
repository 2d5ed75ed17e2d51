//! The logic of the fuzz targets, so that unit tests can replay the corpus.

use core::fmt::Debug;

use alloc::vec::Vec;
use ecu_image::crypto::MacKey;

use ed25519_dalek::{Signer as _, SigningKey};

use crate::UnixTime;
use crate::chain::Head;
use crate::error::Refusal;
use crate::meta::{
    DirectorCustom, DirectorStatement, Document, Envelope, ImageCustom, ImageStatement, Key,
    KeyPolicy, Role, Root, Snapshot, Targets, Timestamp, custom,
};
use crate::repository::{Believed, Client, Limits, Stored};
use crate::time::{KnownTime, Nonce};
use crate::vehicle::Vehicle;

const MAX_LEN: usize = 1 << 20;

const POLICY: KeyPolicy = KeyPolicy { rsa_min_bits: 2048 };

/// Any bytes are a vehicle configuration that survives being written and read, or an error.
///
/// # Panics
/// When it does not survive.
pub fn vehicle(data: &[u8]) {
    if let Ok(vehicle) = Vehicle::from_json(data) {
        let text = serde_json::to_vec(&vehicle).unwrap_or_default();
        assert_eq!(Vehicle::from_json(&text), Ok(vehicle));
    }
}

/// Any bytes are root metadata that survive being written and read, or an error; whatever keys they
/// name can be asked whether they signed.
///
/// # Panics
/// When they do not survive.
pub fn root(data: &[u8]) {
    if let Some(document) = survives::<Root>(data) {
        let root = document.unverified();
        for role in [&root.roles.root, &root.roles.timestamp] {
            let _signed = document.verify(&root.keys, role, POLICY);
        }
    }
}

/// The same of timestamp metadata, which describe some file or another.
///
/// # Panics
/// When they do not survive.
pub fn timestamp(data: &[u8]) {
    if let Some(document) = survives::<Timestamp>(data) {
        let _described = document.unverified().meta.snapshot.describes(data);
    }
}

/// The same of snapshot metadata.
///
/// # Panics
/// When they do not survive.
pub fn snapshot(data: &[u8]) {
    if let Some(document) = survives::<Snapshot>(data) {
        let snapshot = document.unverified();
        let _top = snapshot.of_role("targets").map(|meta| meta.describes(data));
    }
}

/// The same of targets metadata, top-level, delegated or a director's: their delegations cover a path
/// or not, and name keys or nobody.
///
/// # Panics
/// When they do not survive.
pub fn targets(data: &[u8]) {
    let Some(document) = survives::<Targets>(data) else {
        return;
    };
    let targets = document.unverified();
    for role in targets.delegations.iter().flat_map(|it| &it.roles) {
        let _covered = role.covers("hw-a/2.0.0.img", &"hw-a".parse().into_iter().collect());
        let _keys = role.keys();
    }
    for target in targets.targets.values() {
        let _image = custom::<ImageCustom>(target.custom.as_ref());
        let _directed = custom::<DirectorCustom>(target.custom.as_ref());
    }
    let _repository = custom::<ImageStatement>(targets.custom.as_ref());
    let _director = custom::<DirectorStatement>(targets.custom.as_ref());
}

/// Any sequence of files, separated by zero bytes, is a refresh that ends: the first one is the root
/// that is believed, an empty one stands for a file that is missing. Nothing that was refused is asked
/// for again, and what is believed can be stored and believed again.
///
/// # Panics
/// When it does not end, or what it leaves is not believed.
pub fn refresh(data: &[u8]) {
    let mut files = data.split(|byte| *byte == 0).map(<[u8]>::to_vec);
    let root = files.next().unwrap_or_default();
    let _believed = refreshed(Stored::root(&root), &mut files);
}

/// The same with files that are signed: the bits of the first byte of each say by which of eight keys, and
/// the rest is the statement. The files that are left are those of a second refresh, which never goes back
/// behind the first one unless a root between them may have replaced keys.
///
/// # Panics
/// When it does not end, goes back, or leaves what is not believed.
pub fn signed_refresh(data: &[u8]) {
    let mut files = data.split(|byte| *byte == 0).map(signed);
    let root = files.next().unwrap_or_default();
    let Some(first) = refreshed(Stored::root(&root), &mut files) else {
        return;
    };
    let Some(second) = refreshed(first.to_stored(), &mut files) else {
        return;
    };
    assert!(second.root().header.version >= first.root().header.version);
    if second.root() == first.root() {
        assert_no_older(&first, &second);
    }
}

fn assert_no_older(first: &Believed, second: &Believed) {
    if let (Some(old), Some(new)) = (first.timestamp(), second.timestamp()) {
        assert!(new.header.version >= old.header.version);
        assert!(new.meta.snapshot.version >= old.meta.snapshot.version);
    }
    if let (Some(old), Some(new)) = (first.snapshot(), second.snapshot()) {
        for (name, old) in &old.meta {
            let new = new.meta.get(name).map(|meta| meta.version);
            assert!(new >= Some(old.version), "{name} goes back");
        }
    }
}

/// The file of a statement, signed; empty where there is none.
fn signed(script: &[u8]) -> Vec<u8> {
    let Some((signers, statement)) = script.split_first() else {
        return Vec::new();
    };
    let Ok(statement) = serde_json::from_slice::<serde_json::Value>(statement) else {
        return statement.to_vec();
    };
    let mut envelope = Envelope {
        signatures: Vec::new(),
        signed: statement,
    };
    let message = envelope.signing_bytes().unwrap_or_default();
    for number in (0..8).filter(|number| signers & (1 << number) != 0) {
        let key = SigningKey::from_bytes(&[number; 32]);
        let id = Key::ed25519(key.verifying_key().as_bytes()).id();
        envelope.add_signature(id, &key.sign(&message).to_bytes());
    }
    envelope.to_json().unwrap_or_default()
}

/// What a client believes that began with `stored` and was given these files until it wants none.
fn refreshed(stored: Stored, files: &mut impl Iterator<Item = Vec<u8>>) -> Option<Believed> {
    let mut client = client(stored).ok()?;
    for path in ["a/one", "b/two"] {
        while client.wanted().is_some() {
            let result = match files.next().filter(|file| !file.is_empty()) {
                None => client.on_missing(),
                Some(file) => client.on_file(&file),
            };
            if result.is_err() {
                assert_eq!(client.wanted(), None, "asked for after a refusal");
            }
        }
        let _refused = client.find(path);
    }
    assert!(self::client(client.believed().to_stored()).is_ok());
    Some(client.believed().clone())
}

/// Any bytes are an answer about the time that moves what is known forward, or an error that leaves it.
///
/// # Panics
/// When what is known goes back.
pub fn attestation(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (root, answer) = (parts.next().unwrap_or(&[]), parts.next().unwrap_or(&[]));
    let Ok(root) = Document::<Root>::parse(root, MAX_LEN) else {
        return;
    };
    let mut known = KnownTime::new(UnixTime::from_secs(1_800_000_000));
    let (before, policy) = (known.time(), KeyPolicy { rsa_min_bits: 2048 });
    let result = known.attested(root.unverified(), policy, &Nonce([7; 16]), answer);
    assert!(known.time() >= before);
    assert!(result.is_ok() || known.time() == before);
}

/// A vehicle and a manifest, with a zero byte between them: nobody signed it, so it is refused.
///
/// # Panics
/// When it is believed.
pub fn manifest(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (vehicle, manifest) = (parts.next().unwrap_or(&[]), parts.next().unwrap_or(&[]));
    let Ok(vehicle) = Vehicle::from_json(vehicle) else {
        return;
    };
    let (tcu, key) = (Key::ed25519(&[0x22; 32]), MacKey::new([0x11; 16]));
    let nonce = Nonce([7; 16]);
    assert!(
        crate::manifest::verify(manifest, &vehicle, &nonce, &tcu, |_, report| key
            .verify_report(report))
        .is_err()
    );
}

/// Any lines are a chain that is followed to its end and can be continued there, or an error in the
/// place of the last line that was read.
///
/// # Panics
/// When the next entry does not continue it.
pub fn chain(data: &[u8]) {
    let mut head = Head::EMPTY;
    for line in data.split(|byte| *byte == b'\n') {
        let before = head;
        if head.follow(line).is_err() {
            assert_eq!(head, before, "a refusal moved the head");
            break;
        }
    }
    let mut next = head;
    if let Ok(line) = next.append(UnixTime::from_secs(0), &serde_json::Value::Null) {
        assert!(head.follow(line.as_bytes()).is_ok());
        assert_eq!(head, next);
    }
}

fn client(stored: Stored) -> Result<Client, Refusal> {
    let now = UnixTime::from_secs(1_800_000_000);
    Client::new(stored, POLICY, Limits::default(), now)
}

fn survives<R: Role + Clone + Debug + PartialEq>(data: &[u8]) -> Option<Document<R>> {
    let document = Document::<R>::parse(data, MAX_LEN).ok()?;
    let envelope = serde_json::from_slice::<Envelope>(data);
    let text = envelope.map(|envelope| envelope.to_json().unwrap_or_default());
    let again = Document::<R>::parse(&text.unwrap_or_default(), usize::MAX);
    assert_eq!(again.as_ref(), Ok(&document));
    Some(document)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs `target` over its corpus, which may not be empty.
    fn replay(name: &str, target: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(name);
        let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}"));
        let inputs = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        assert_ne!(inputs.map(|input| target(&input)).count(), 0, "{corpus:?}");
    }

    #[test]
    fn the_corpus_of_vehicles_is_harmless() {
        replay("vehicle", super::vehicle);
    }

    #[test]
    fn the_corpus_of_attestations_is_harmless() {
        replay("attestation", super::attestation);
    }

    #[test]
    fn the_corpus_of_manifests_is_harmless() {
        replay("manifest", super::manifest);
    }

    #[test]
    fn the_corpus_of_chains_is_harmless() {
        replay("chain", super::chain);
    }

    #[test]
    fn the_corpus_of_refreshes_is_harmless() {
        replay("refresh", super::refresh);
        replay("signed_refresh", super::signed_refresh);
    }

    #[test]
    fn signed_files_are_believed_in_two_refreshes() {
        let twice =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/signed_refresh/twice");
        let twice = fs::read(twice).unwrap();
        let mut files = twice.split(|byte| *byte == 0).map(super::signed);
        let mut stored = super::Stored::root(&files.next().unwrap());
        for version in [1, 2] {
            let believed = super::refreshed(stored, &mut files).unwrap();
            assert_eq!(believed.timestamp().unwrap().header.version, version);
            assert_eq!(believed.targets("targets").unwrap().header.version, version);
            stored = believed.to_stored();
        }
    }

    #[test]
    fn the_corpus_of_each_role_is_harmless() {
        replay("metadata_root", super::root);
        replay("metadata_timestamp", super::timestamp);
        replay("metadata_snapshot", super::snapshot);
        replay("metadata_targets", super::targets);
    }
}

//! Partial verification, and documents in the words of other tools.

use super::*;
use crate::json::{Form, canonical_as};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// Targets alone, as a primary hands them on.
fn served(version: u64, expires: UnixTime, seeds: &[u8]) -> Vec<u8> {
    let header = Header::new(RoleName::Targets, version, expires);
    sign(&Targets::new(header), seeds)
}

fn partial(stored: Stored) -> Client {
    Client::partial(stored, KeyPolicy::default(), Limits::default(), now()).unwrap()
}

/// The refresh of a client that has `stored`; what it believes then.
fn refresh(stored: Stored, targets: &[u8]) -> Result<Stored, DocumentFault> {
    let mut client = partial(stored);
    assert_eq!(client.wanted().unwrap().name, "2.root.json");
    client.on_missing().unwrap();
    let wanted = client.wanted().unwrap();
    assert_eq!(
        (wanted.name.as_str(), wanted.limit),
        ("targets.json", 4 << 20)
    );
    client.on_file(targets).map_err(|refusal| refusal.fault)?;
    assert!(client.is_current());
    assert!(client.targets().is_some());
    assert_eq!(client.wanted(), None);
    Ok(client.believed().to_stored())
}

#[test]
fn partial_verification_sees_signature_version_and_expiry() {
    let trust = Repo::new().trust();
    let good = |version| served(version, now().plus_days(1), &[TARGETS]);
    let stored = refresh(trust.clone(), &good(3)).unwrap();
    refresh(stored.clone(), &good(3)).unwrap();
    refresh(stored.clone(), &good(4)).unwrap();
    assert_eq!(
        refresh(stored.clone(), &good(2)),
        Err(DocumentFault::Version { expected: 3 })
    );
    let forged = served(4, now().plus_days(1), &[SNAPSHOT]);
    assert!(matches!(
        refresh(stored.clone(), &forged),
        Err(DocumentFault::Signatures(_))
    ));
    let late = served(4, now(), &[TARGETS]);
    assert!(matches!(
        refresh(stored, &late),
        Err(DocumentFault::Expired { .. })
    ));
    let mut client = partial(trust);
    client.on_missing().unwrap();
    let refusal = client.on_missing().unwrap_err();
    assert_eq!(refusal.fault, DocumentFault::Missing);
}

#[test]
fn partial_verification_searches_for_nothing() {
    let mut client = partial(Repo::new().trust());
    client.on_missing().unwrap();
    let targets = served(1, now().plus_days(1), &[TARGETS]);
    client.on_file(&targets).unwrap();
    client.find("a/one").unwrap();
    assert_eq!((client.wanted(), client.found()), (None, None));
    assert!(client.has_searched("a/one"));
}

/// The statement as aktualizr's tools write it: other names, canonical form and encoding.
fn in_other_words(mut statement: Value, seed: u8) -> Vec<u8> {
    let name = statement["_type"].as_str().unwrap();
    let name = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
    statement["_type"] = name.into();
    statement.as_object_mut().unwrap().remove("spec_version");
    for key in statement["keys"].as_object_mut().into_iter().flatten() {
        key.1.as_object_mut().unwrap().remove("scheme");
    }
    // The two canonical forms differ.
    statement["note"] = json!("caf\u{e9}\n");
    let message = canonical_as(&statement, Form::Subset).unwrap();
    let signature = STANDARD.encode(signer(seed).sign(&message).to_bytes());
    let entry = json!({"keyid": key(seed).id(), "method": "ed25519", "sig": signature});
    serde_json::to_vec(&json!({"signatures": [entry], "signed": statement})).unwrap()
}

#[test]
fn documents_in_the_words_of_other_tools_are_read() {
    let mut root = serde_json::to_value(Repo::new().root).unwrap();
    for role in ["timestamp", "snapshot"] {
        root["roles"].as_object_mut().unwrap().remove(role);
    }
    let trust = Stored::root(&in_other_words(root, ROOT));
    let header = Header::new(RoleName::Targets, 1, now().plus_days(1));
    let targets = in_other_words(serde_json::to_value(Targets::new(header)).unwrap(), TARGETS);
    refresh(trust.clone(), &targets).unwrap();
    // A changed letter is one that nobody signed, in either form.
    let text = String::from_utf8(targets).unwrap();
    let changed = text.replace("caf\u{e9}", "cafe");
    assert_ne!(text, changed);
    assert!(matches!(
        refresh(trust.clone(), changed.as_bytes()),
        Err(DocumentFault::Signatures(_))
    ));
    // Nobody can sign for a role that the root does not name.
    let mut client = client(trust);
    client.on_missing().unwrap();
    let refusal = client.on_file(&Repo::new().files["timestamp.json"]);
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "timestamp version 1: 0 valid signatures, 1 needed"
    );
}

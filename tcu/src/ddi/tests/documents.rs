//! Documents as hawkBit's documentation of the API has them: its member names, with values of ours.

use std::time::Duration;

use super::super::{Cancellation, Confirmation, Deployment, DocumentError, Mode, Poll};
use super::world::{ROOT, root};

#[test]
fn a_poll_with_every_link() {
    let document = format!(
        r#"{{"config": {{"polling": {{"sleep": "12:00:05"}}}}, "_links": {{
            "deploymentBase": {{"href": "{ROOT}/deploymentBase/3?c=-2129030598"}},
            "installedBase": {{"href": "{ROOT}/installedBase/2"}},
            "configData": {{"href": "{ROOT}/configData"}},
            "cancelAction": {{"href": "{ROOT}/cancelAction/11"}},
            "confirmationBase": {{"href": "{ROOT}/confirmationBase/10?c=-2122565939"}}}}}}"#
    );
    let poll = Poll::read(document.as_bytes(), &root()).unwrap();
    assert_eq!(poll.sleep, Some(Duration::from_secs(12 * 3600 + 5)));
    let path = |url: Option<reqwest::Url>| {
        url.unwrap()
            .path()
            .rsplit_once("v1/VIN1")
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(path(poll.deployment), "/deploymentBase/3");
    assert_eq!(path(poll.cancellation), "/cancelAction/11");
    assert_eq!(path(poll.confirmation), "/confirmationBase/10");
    assert_eq!(path(poll.config_data), "/configData");
}

#[test]
fn a_deployment_with_chunks_signatures_metadata_and_history() {
    let sha256 = "b3a04740a19e36057ccf258701922f3cd2f1a880536be53a3ca8d50f6b615975";
    let artifact = |name: &str| {
        format!(
            r#"{{"filename": "{name}", "size": 13,
               "hashes": {{"sha1": "986a", "md5": "d044", "sha256": "{sha256}"}},
               "_links": {{"download": {{"href": "https://cdn.example/t/{name}"}},
                 "download-http": {{"href": "http://cdn.example/t/{name}"}},
                 "md5sum-http": {{"href": "http://cdn.example/t/{name}.MD5SUM"}},
                 "md5sum": {{"href": "https://cdn.example/t/{name}.MD5SUM"}}}}}}"#
        )
    };
    let document = format!(
        r#"{{"id": "8", "deployment": {{"download": "forced", "update": "attempt",
            "maintenanceWindow": "available", "chunks": [
              {{"part": "os", "version": "1.0.79", "name": "one Firmware", "encrypted": true,
                "artifacts": [{}, {}]}},
              {{"part": "bApp", "version": "1.0.91", "name": "app", "artifacts": [],
                "metadata": [{{"key": "k", "value": "v"}}]}}]}},
            "actionHistory": {{"status": "RUNNING", "messages": ["Reboot"]}}}}"#,
        artifact("binary.tgz"),
        artifact("file.signature")
    );
    let deployment = Deployment::read(document.as_bytes()).unwrap();
    assert_eq!(deployment.action.as_str(), "8");
    assert_eq!(
        (deployment.download, deployment.update),
        (Mode::Forced, Mode::Attempt)
    );
    let [os, app] = &deployment.chunks[..] else {
        panic!("two chunks")
    };
    assert_eq!((os.part.as_str(), os.version.as_str()), ("os", "1.0.79"));
    assert_eq!(os.artifacts[0].sha256.unwrap().to_string(), sha256);
    let url = os.artifacts[1].url.as_ref().unwrap();
    assert_eq!(url.as_str(), "https://cdn.example/t/file.signature");
    assert!(app.artifacts.is_empty());
}

#[test]
fn cancellation_and_confirmation() {
    let document = br#"{"id": "11", "cancelAction": {"stopId": "10"}}"#;
    let cancellation = Cancellation::read(document).unwrap();
    assert_eq!(
        (cancellation.action.as_str(), cancellation.stops.as_str()),
        ("11", "10")
    );
    let document = br#"{"id": 10, "confirmation": {"download": "forced", "chunks": []}}"#;
    assert_eq!(Confirmation::read(document).unwrap().action.as_str(), "10");
}

#[test]
fn an_artifact_without_https_or_with_a_strange_hash_is_not_offered() {
    let document = br#"{"id": 1, "deployment": {"chunks": [{"artifacts": [
        {"hashes": {"sha256": "zz"}, "_links": {"download": {"href": "http://x.example/a"}}},
        {"_links": {"download": {"href": "file:///etc/passwd"}}}, {}]}]}}"#;
    let deployment = Deployment::read(document).unwrap();
    assert_eq!(deployment.update, Mode::Forced);
    let offers = &deployment.chunks[0].artifacts;
    assert!(
        offers
            .iter()
            .all(|offer| offer.url.is_none() && offer.sha256.is_none())
    );
}

#[test]
fn links_that_would_carry_the_token_elsewhere_are_refused() {
    for href in [
        "https://evil.example/default/controller/v1/VIN1/deploymentBase/3",
        "http://ddi.example/default/controller/v1/VIN1/deploymentBase/3",
        "https://ddi.example:8443/deploymentBase/3",
        "//evil.example/x",
        "javascript:alert(1)",
        "",
    ] {
        let document = format!(r#"{{"_links": {{"deploymentBase": {{"href": "{href}"}}}}}}"#);
        let error = Poll::read(document.as_bytes(), &root()).unwrap_err();
        assert!(
            matches!(error, DocumentError::Elsewhere(_)),
            "{href}: {error}"
        );
    }
}

#[test]
fn wrong_types_huge_lists_and_ids_that_are_no_ids_are_refused() {
    let many = format!(
        r#"{{"id": 1, "deployment": {{"chunks": [{}{{}}]}}}}"#,
        "{},".repeat(128)
    );
    assert_eq!(
        Deployment::read(many.as_bytes()),
        Err(DocumentError::TooMany)
    );
    for document in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"id": 1}"#,
        r#"{"id": 1, "deployment": []}"#,
        r#"{"id": 1, "deployment": {"chunks": 5}}"#,
        r#"{"id": null, "deployment": {"chunks": []}}"#,
        r#"{"id": -1, "deployment": {"chunks": []}}"#,
        r#"{"id": "../../x", "deployment": {"chunks": []}}"#,
        r#"{"id": "", "deployment": {"chunks": []}}"#,
    ] {
        let read = Deployment::read(document.as_bytes());
        assert!(
            matches!(read, Err(DocumentError::Malformed(_))),
            "{document}"
        );
    }
    let deep = "[".repeat(100_000);
    assert!(Poll::read(deep.as_bytes(), &root()).is_err());
}

#[test]
fn a_sleep_that_is_none_is_as_if_it_were_not_there() {
    for sleep in [
        r#""soon""#,
        r#""1:2""#,
        r#""-1:00:00""#,
        r#""99999999:00:00""#,
        "null",
    ] {
        let document = format!(r#"{{"config": {{"polling": {{"sleep": {sleep}}}}}}}"#);
        let poll = Poll::read(document.as_bytes(), &root()).unwrap();
        assert_eq!(poll.sleep, None, "{sleep}");
    }
}

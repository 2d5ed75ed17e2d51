//! Downloads against a server that misbehaves, and bundles.

mod hostile;
mod server;

use std::path::Path;

use ecu_image::Digest;
use sha2::{Digest as _, Sha256};

use super::{Artifact, FetchError, HttpSource, Limits, Source};
use crate::error::Exit;
use server::{Reply, Script, Server, answer, ok};

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.enable_all().build().unwrap().block_on(future)
}

fn image() -> Vec<u8> {
    (0..20_000_u32)
        .map(|index| (index / 3).to_le_bytes()[0])
        .collect()
}

fn artifact_of(bytes: &[u8]) -> Artifact {
    Artifact {
        path: "targets/a.img".into(),
        length: bytes.len() as u64,
        sha256: Digest(Sha256::digest(bytes).into()),
    }
}

/// Serves the image, honouring ranges, but breaks off after `at_most` bytes.
fn stingy(at_most: usize) -> Box<Script> {
    Box::new(move |_, range, _| {
        let image = image();
        let start = range.unwrap_or(0);
        let body = &image[start..image.len().min(start + at_most)];
        let left = image.len() - start;
        match range {
            None => answer("200 OK", "", body, left),
            Some(_) => {
                let last = image.len() - 1;
                let header = format!("content-range: bytes {start}-{last}/{}\r\n", image.len());
                answer("206 Partial Content", &header, body, left)
            }
        }
    })
}

#[test]
fn a_download_goes_on_where_the_server_broke_off() {
    let server = Server::start(stingy(6000));
    assert_eq!(server.fetch(&artifact_of(&image())).unwrap(), image());
    assert_eq!(
        server.ranges(),
        [None, Some(6000), Some(12_000), Some(18_000)]
    );
}

#[test]
fn a_download_goes_on_after_a_restart_and_a_cached_image_is_not_fetched_again() {
    let server = Server::start(stingy(usize::MAX / 2));
    let artifact = artifact_of(&image());
    std::fs::write(server.part(&artifact), &image()[..5000]).unwrap();
    assert_eq!(server.fetch(&artifact).unwrap(), image());
    assert_eq!(server.fetch(&artifact).unwrap(), image());
    assert_eq!(server.ranges(), [Some(5000)]);
}

#[test]
fn a_server_without_ranges_starts_anew() {
    let server = Server::start(Box::new(|_, _, _| ok(&image())));
    let artifact = artifact_of(&image());
    std::fs::write(server.part(&artifact), [9; 5000]).unwrap();
    assert_eq!(server.fetch(&artifact).unwrap(), image());
}

#[test]
fn a_wrong_hash_is_refused_and_nothing_is_kept() {
    let server = Server::start(Box::new(|_, _, _| ok(&[7; 20_000])));
    let artifact = artifact_of(&image());
    assert!(matches!(server.fetch(&artifact), Err(FetchError::Hash(_))));
    assert!(!server.part(&artifact).exists());
    assert!(!artifact.cached(server.dir.path()).exists());
}

#[test]
fn endless_data_is_cut_off_at_the_announced_length() {
    let server = Server::start(Box::new(|_, _, _| Reply::Endless));
    let artifact = artifact_of(&image());
    let error = server.fetch(&artifact).unwrap_err();
    assert!(
        matches!(error, FetchError::TooLong { limit: 20_000, .. }),
        "{error}"
    );
    assert!(!server.part(&artifact).exists());
    let document = run(server.source().document("metadata/targets.json", 1000));
    assert!(matches!(
        document,
        Err(FetchError::TooLong { limit: 1000, .. })
    ));
}

#[test]
fn a_server_that_never_brings_anything_is_given_up() {
    let server = Server::start(Box::new(|_, _, _| answer("200 OK", "", &[], 20_000)));
    let error = server.fetch(&artifact_of(&image())).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    assert_eq!(server.ranges().len(), 3);
}

#[test]
fn another_range_than_asked_for_is_not_believed() {
    let server = Server::start(Box::new(|_, range, _| match range {
        Some(_) => {
            let header = "content-range: bytes 0-19999/20000\r\n";
            answer("206 Partial Content", header, &image(), 20_000)
        }
        None => ok(&image()),
    }));
    let artifact = artifact_of(&image());
    std::fs::write(server.part(&artifact), &image()[..5000]).unwrap();
    assert_eq!(server.fetch(&artifact).unwrap(), image());
    assert_eq!(server.ranges(), [Some(5000), None]);
}

#[test]
fn a_storm_of_server_errors_is_survived_and_a_refusal_is_not_repeated() {
    let server = Server::start(Box::new(|path, _, number| match (path, number) {
        ("/secret", _) => answer("403 Forbidden", "", &[], 0),
        ("/missing", _) => answer("404 Not Found", "", &[], 0),
        (_, 1 | 2) => answer("503 Service Unavailable", "", &[], 0),
        _ => ok(b"{}"),
    }));
    let document = |path: &'static str| run(server.source().document(path, 100));
    assert_eq!(document("a").unwrap(), Some(b"{}".to_vec()));
    assert_eq!(document("missing").unwrap(), None);
    assert!(matches!(
        document("secret"),
        Err(FetchError::Status { status: 403, .. })
    ));
    assert_eq!(server.ranges().len(), 5);
}

#[test]
fn a_server_that_the_pinned_authority_does_not_vouch_for_is_not_spoken_to() {
    let server = Server::start(Box::new(|_, _, _| ok(b"{}")));
    let other = Server::start(Box::new(|_, _, _| ok(b"{}")));
    let ca = other.dir.path().join("ca.pem");
    let limits = Limits {
        attempts: 1,
        ..Limits::default()
    };
    let source = HttpSource::new(&server.base, Some(&ca), limits).unwrap();
    let error = run(source.document("a", 100)).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn only_https_and_files_are_sources() {
    let refused = |text| Source::new(text, None).unwrap_err();
    assert!(matches!(
        refused("http://example.org"),
        FetchError::NoSource(_)
    ));
    assert!(matches!(
        refused("ftp://example.org"),
        FetchError::NoSource(_)
    ));
    assert!(matches!(refused("/nowhere.tar"), FetchError::File { .. }));
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("ca.pem");
    std::fs::write(&empty, "").unwrap();
    let error = Source::new("https://example.org", Some(&empty)).unwrap_err();
    assert!(matches!(error, FetchError::Ca { .. }));
}

fn bundle(dir: &Path, entries: &[(&str, &[u8])]) -> Source {
    let path = dir.join("bundle.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap();
    Source::new(path.to_str().unwrap(), None).unwrap()
}

#[test]
fn a_bundle_gives_documents_and_images() {
    let dir = tempfile::tempdir().unwrap();
    let image = image();
    let source = bundle(
        dir.path(),
        &[("metadata/targets.json", b"{}"), ("targets/a.img", &image)],
    );
    assert_eq!(
        run(source.document("metadata/targets.json", 2)).unwrap(),
        Some(b"{}".to_vec())
    );
    assert_eq!(run(source.document("x", 2)).unwrap(), None);
    let long = run(source.document("metadata/targets.json", 1));
    assert!(matches!(long, Err(FetchError::TooLong { .. })));
    let artifact = artifact_of(&image);
    let path = run(source.artifact(&artifact, dir.path(), &mut |_| {})).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), image);
}

#[test]
fn a_bundle_with_another_or_no_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let artifact = artifact_of(&image());
    let fetch = |source: &Source| run(source.artifact(&artifact, dir.path(), &mut |_| {}));
    let other = bundle(dir.path(), &[("targets/a.img", &[1; 20_000])]);
    assert!(matches!(fetch(&other), Err(FetchError::Hash(_))));
    let none = bundle(dir.path(), &[]);
    assert!(matches!(fetch(&none), Err(FetchError::Missing(_))));
}

#[test]
fn a_file_that_is_no_bundle_is_rejected_and_one_that_is_not_there_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("firmware.bin");
    let open = || Source::new(path.to_str().unwrap(), None);
    assert_eq!(open().unwrap_err().exit(), Exit::Io);
    let mut cut = vec![0; 700];
    cut[..5].copy_from_slice(b"a.tar");
    for junk in [&[0x5A; 2000][..], &[0x5A; 100], &cut] {
        std::fs::write(&path, junk).unwrap();
        let source = open().unwrap();
        let error = run(source.document("metadata/1.root.json", 100)).unwrap_err();
        assert!(matches!(error, FetchError::NoBundle { .. }), "{error}");
        assert_eq!(error.exit(), Exit::Rejected);
    }
}

/// An extension names what follows it, in as many bytes as it likes: it is not read.
#[test]
fn extensions_of_a_bundle_are_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let mut append = |kind, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(name).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    };
    append(tar::EntryType::GNULongName, "x", b"metadata/root.json\0");
    append(tar::EntryType::Regular, "y", b"forged");
    append(
        tar::EntryType::XHeader,
        "x",
        b"27 path=metadata/root.json\n",
    );
    append(tar::EntryType::Regular, "y", b"forged");
    append(tar::EntryType::Regular, "metadata/root.json", b"{}");
    tar.finish().unwrap();
    let source = Source::new(path.to_str().unwrap(), None).unwrap();
    let document = run(source.document("metadata/root.json", 100)).unwrap();
    assert_eq!(document.unwrap(), b"{}");
}

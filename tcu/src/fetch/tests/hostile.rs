//! Servers that change their mind, drip, lie or are in trouble.

use std::time::Duration;

use super::super::part::Part;
use super::super::{FetchError, Limits};
use super::server::{Reply, Script, Server, answer, limits};
use super::{artifact_of, image, run};

/// Serves `bytes` under `tag`, breaks off after `at_most`, and honours a range only with that tag.
fn tagged(bytes: &[u8], tag: &str, range: Option<usize>, at_most: usize) -> Reply {
    let start = range.unwrap_or(0);
    let body = &bytes[start..bytes.len().min(start + at_most)];
    let last = bytes.len() - 1;
    let range_header = format!("content-range: bytes {start}-{last}/{}\r\n", bytes.len());
    let (status, range_header) = match range {
        Some(_) => ("206 Partial Content", range_header.as_str()),
        None => ("200 OK", ""),
    };
    let headers = format!("etag: {tag}\r\n{range_header}");
    answer(status, &headers, body, bytes.len() - start)
}

#[test]
fn a_download_goes_on_under_the_tag_of_its_bytes_after_a_restart() {
    let server = Server::start(Box::new(|_, range, number| {
        tagged(
            &image(),
            "\"v1\"",
            range,
            if number == 1 { 6000 } else { 20_000 },
        )
    }));
    let artifact = artifact_of(&image());
    let once = server.source_with(Limits {
        attempts: 1,
        ..limits()
    });
    assert!(run(once.artifact(&artifact, server.dir.path(), &mut |_| {})).is_err());
    drop(once); // The program ends, and starts again.
    assert_eq!(server.fetch(&artifact).unwrap(), image());
    assert_eq!(server.ranges(), [None, Some(6000)]);
    assert_eq!(server.if_ranges(), [None, Some("\"v1\"".into())]);
    let left = std::fs::read_dir(server.dir.path()).unwrap().count();
    assert_eq!(left, 2, "the image and ca.pem, no part and no tag");
}

#[test]
fn a_file_that_changes_starts_anew() {
    let server = Server::start(Box::new(|_, _, number| match number {
        1 => tagged(&[7; 20_000], "\"old\"", None, 6000),
        // If-Range does not match: the whole of the new one.
        _ => tagged(&image(), "\"new\"", None, 20_000),
    }));
    assert_eq!(server.fetch(&artifact_of(&image())).unwrap(), image());
    assert_eq!(server.ranges(), [None, Some(6000)]);
}

#[test]
fn a_range_of_another_file_is_not_appended() {
    let server = Server::start(Box::new(|_, range, number| match number {
        1 => tagged(&[7; 20_000], "\"old\"", range, 6000),
        // A server that ignores If-Range.
        _ => tagged(&image(), "\"new\"", range, 20_000),
    }));
    assert_eq!(server.fetch(&artifact_of(&image())).unwrap(), image());
    assert_eq!(server.ranges(), [None, Some(6000), None]);
}

#[test]
fn bytes_that_turn_out_wrong_are_fetched_once_more_and_no_more() {
    // No tags: only the hash tells that the first bytes are of another file.
    let mixed: Box<Script> = Box::new(|_, range, _| {
        let start = range.unwrap_or(0);
        let header = format!("content-range: bytes {start}-19999/20000\r\n");
        match range {
            Some(_) => answer(
                "206 Partial Content",
                &header,
                &image()[start..],
                20_000 - start,
            ),
            None => answer("200 OK", "", &image(), 20_000),
        }
    });
    let server = Server::start(mixed);
    let artifact = artifact_of(&image());
    std::fs::write(server.part(&artifact), [9; 5000]).unwrap();
    assert_eq!(server.fetch(&artifact).unwrap(), image());
    assert_eq!(server.ranges(), [Some(5000), None]);

    let wrong = Server::start(Box::new(|_, _, _| {
        answer("200 OK", "", &[7; 20_000], 20_000)
    }));
    std::fs::write(wrong.part(&artifact), [9; 5000]).unwrap();
    assert!(matches!(wrong.fetch(&artifact), Err(FetchError::Hash(_))));
    assert_eq!(wrong.ranges(), [Some(5000), None]);
}

#[test]
fn tags_that_change_with_every_answer_end() {
    let server = Server::start(Box::new(|_, _, number| {
        tagged(&image(), &format!("\"{number}\""), None, 6000)
    }));
    let error = server.fetch(&artifact_of(&image())).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    assert_eq!(server.ranges().len(), 3);
}

#[test]
fn a_weak_tag_does_not_continue_a_file() {
    let server = Server::start(Box::new(|_, range, number| {
        tagged(
            &image(),
            "W/\"1\"",
            range,
            if number == 1 { 6000 } else { 20_000 },
        )
    }));
    assert_eq!(server.fetch(&artifact_of(&image())).unwrap(), image());
    assert_eq!(server.if_ranges(), [None, None]);
}

#[test]
fn a_drip_is_ended_and_given_up() {
    let dripping = answer("200 OK", "", &[], 20_000);
    let Reply::Close(head, _) = dripping else {
        unreachable!()
    };
    let server = Server::start(Box::new(move |_, _, _| Reply::Drip(head.clone())));
    // More than it can send in the window, however fast the machine is.
    let impatient = Limits {
        least: 10_000,
        window: Duration::from_millis(100),
        ..limits()
    };
    let source = server.source_with(impatient);
    let artifact = artifact_of(&image());
    let error = run(source.artifact(&artifact, server.dir.path(), &mut |_| {})).unwrap_err();
    assert!(error.to_string().contains("too slowly"), "{error}");
    assert_eq!(server.ranges().len(), 3);
    let error = run(source.document("a", 100_000)).unwrap_err();
    assert!(error.to_string().contains("too slowly"), "{error}");
}

#[test]
fn a_storm_of_404_is_survived_and_ends_as_missing() {
    let server = Server::start(Box::new(|_, _, number| match number {
        1 | 2 => answer("404 Not Found", "", &[], 0),
        _ => answer("200 OK", "", &image(), 20_000),
    }));
    assert_eq!(server.fetch(&artifact_of(&image())).unwrap(), image());
    let never = Server::start(Box::new(|_, _, _| answer("404 Not Found", "", &[], 0)));
    let error = never.fetch(&artifact_of(&image())).unwrap_err();
    assert!(matches!(error, FetchError::Missing(_)), "{error}");
    assert_eq!(never.ranges().len(), 3);
}

#[test]
fn a_server_that_asks_for_an_age_of_patience_gets_the_bound() {
    let server = Server::start(Box::new(|_, _, number| match number {
        1 => answer(
            "503 Service Unavailable",
            "retry-after: 4000000000\r\n",
            &[],
            0,
        ),
        2 => answer("429 Too Many Requests", "retry-after: never\r\n", &[], 0),
        _ => answer("200 OK", "", &image(), 20_000),
    }));
    let source = server.source_with(Limits {
        longest_pause: Duration::from_millis(20),
        ..limits()
    });
    let artifact = artifact_of(&image());
    run(source.artifact(&artifact, server.dir.path(), &mut |_| {})).unwrap();
    assert_eq!(server.ranges().len(), 3);
}

#[test]
fn redirects_are_not_followed() {
    let server = Server::start(Box::new(|path, _, _| {
        answer("302 Found", &format!("location: {path}\r\n"), &[], 0)
    }));
    let error = server.fetch(&artifact_of(&image())).unwrap_err();
    assert!(
        matches!(error, FetchError::Status { status: 302, .. }),
        "{error}"
    );
    assert_eq!(server.ranges().len(), 1);
}

#[test]
fn a_part_longer_than_the_image_is_no_part_of_it() {
    let server = Server::start(Box::new(|_, range, _| {
        tagged(&image(), "\"1\"", range, 20_000)
    }));
    let artifact = artifact_of(&image());
    std::fs::write(server.part(&artifact), [0; 30_000]).unwrap();
    assert_eq!(server.fetch(&artifact).unwrap(), image());
    assert_eq!(server.ranges(), [None]);
    assert_eq!(Part::of(&artifact, server.dir.path()).length(), 0);
}

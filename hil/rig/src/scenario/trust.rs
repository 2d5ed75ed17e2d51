//! What the metadata are for: old, mixed and directed statements change nothing, new keys are
//! followed.

use anyhow::{Context as _, Result, ensure};
use ecu_image::{Header, SignatureLen};

use super::{Expected, Scenario};
use crate::bench::{Bench, NewApp};
use crate::forge;

pub(super) const REPLAYED_GRANT: Scenario = Scenario {
    name: "replayed-grant",
    about: "who holds the director's keys publishes last year's statement again, grants and all",
    play: replayed_grant,
};

pub(super) const FROZEN_MIRROR: Scenario = Scenario {
    name: "frozen-mirror",
    about: "a mirror shows a state whose timestamp has expired",
    play: frozen_mirror,
};

pub(super) const CLOCK_SET_BACK: Scenario = Scenario {
    name: "clock-set-back",
    about: "a mirror shows what was good a month ago to a vehicle whose clock was set back by a month",
    play: clock_set_back,
};

pub(super) const MIX_AND_MATCH: Scenario = Scenario {
    name: "mix-and-match",
    about: "a mirror shows the image repository of yesterday beside the director of today",
    play: mix_and_match,
};

pub(super) const ROTATED_ROOT: Scenario = Scenario {
    name: "rotated-root",
    about: "root and timestamp keys are replaced; the vehicle follows the chain and updates",
    play: rotated_root,
};

pub(super) const ROTATED_IMAGE_KEY: Scenario = Scenario {
    name: "rotated-image-key",
    about: "a key set signed by two ECU roots replaces the image key; the next release brings it",
    play: rotated_image_key,
};

pub(super) const SECOND_ALGORITHM: Scenario = Scenario {
    name: "second-algorithm",
    about: "a fleet leaves RSA: the next image key is one of ECDSA, and the one of RSA is revoked",
    play: second_algorithm,
};

pub(super) const STOLEN_ONLINE_KEYS: Scenario = Scenario {
    name: "stolen-online-keys",
    about: "who holds all keys that are online directs the vehicle to an image of his own",
    play: stolen_online_keys,
};

fn replayed_grant(bench: &mut Bench) -> Result<Expected> {
    bench.release("first", &NewApp::good("2.0.0", 2))?;
    bench.install()?;
    let old = forge::director_statement(bench.repo())?;
    bench.release("second", &NewApp::good("3.0.0", 2))?;
    bench.install()?;
    bench.say("somebody with the director's keys publishes the first statement again");
    forge::replay(bench.repo(), "replayed", &old)?;
    bench.install()?;
    Ok(Expected::all("rejected", "unchanged", "3.0.0"))
}

fn frozen_mirror(bench: &mut Bench) -> Result<Expected> {
    let images = bench.pack(&NewApp::good("2.0.0", 2))?;
    bench.say("a mirror has shown the same state for a month");
    forge::release_a_month_ago(bench.repo(), "frozen", &images)?;
    bench.install()?;
    Ok(Expected::all("rejected", "unchanged", "1.0.0"))
}

/// Only the director says what time it is; once it was heard, the vehicle does not forget it.
fn clock_set_back(bench: &mut Bench) -> Result<Expected> {
    let images = bench.pack(&NewApp::good("2.0.0", 2))?;
    bench.set_clock_back(30)?;
    forge::release_a_month_ago(bench.repo(), "frozen", &images)?;
    let url = bench.serve()?;
    bench.say("the mirror does not say what time it is, and is believed by the clock");
    forge::hide_time(bench.repo(), true)?;
    let (_, believed) = bench.ask_tcu(&["verify", &url])?;
    ensure!(believed["verified"] == true, "{believed}");
    for hidden in [false, true] {
        forge::hide_time(bench.repo(), hidden)?;
        bench.install()?;
        let end = bench.last_campaign();
        let end = end.map(|end| (end.state.as_str(), end.attack.as_deref()));
        ensure!(end == Some(("rejected", Some("freeze"))), "{end:?}");
    }
    bench.refresh()?;
    bench.install()?;
    Ok(Expected::all("completed", "sealed", "2.0.0"))
}

fn mix_and_match(bench: &mut Bench) -> Result<Expected> {
    bench.release("yesterday", &NewApp::good("2.0.0", 2))?;
    let yesterday = forge::mirrored(bench.repo())?;
    bench.release("today", &NewApp::good("3.0.0", 3))?;
    bench.say("a mirror shows the image repository of yesterday");
    forge::restore(&yesterday)?;
    bench.install()?;
    Ok(Expected::all("rejected", "unchanged", "1.0.0"))
}

fn rotated_root(bench: &mut Bench) -> Result<Expected> {
    bench.release("with-new-keys", &NewApp::good("2.0.0", 2))?;
    for role in [
        "image-root",
        "image-timestamp",
        "director-root",
        "director-targets",
    ] {
        bench.rotate(role)?;
    }
    bench.install()?;
    Ok(Expected::all("completed", "sealed", "2.0.0"))
}

fn rotated_image_key(bench: &mut Bench) -> Result<Expected> {
    bench.release("old-key", &NewApp::good("2.0.0", 2))?;
    bench.install()?;
    bench.replace_image_key(None)?;
    bench.release("new-key", &NewApp::good("3.0.0", 3))?;
    bench.install()?;
    Ok(Expected::all("completed", "sealed", "3.0.0"))
}

fn second_algorithm(bench: &mut Bench) -> Result<Expected> {
    bench.release("rsa", &NewApp::good("2.0.0", 2))?;
    bench.install()?;
    bench.replace_image_key(Some("ecdsa-p256-sha256"))?;
    let images = bench.pack(&NewApp::good("3.0.0", 3))?;
    for path in &images {
        let bytes = std::fs::read(path)?;
        let header = bytes.first_chunk().context("no header")?;
        let signature = Header::parse(header)?.signature.len();
        ensure!(signature == SignatureLen::P256, "{signature:?}");
    }
    bench.release_images("ecdsa", &images)?;
    bench.install()?;
    Ok(Expected::all("completed", "sealed", "3.0.0"))
}

fn stolen_online_keys(bench: &mut Bench) -> Result<Expected> {
    bench.release("good", &NewApp::good("2.0.0", 2))?;
    let own = bench.pack(&NewApp::good("6.6.6", 9))?;
    bench.say("somebody with all online keys directs the vehicle to an image of his own");
    let own = own.first().ok_or_else(|| anyhow::anyhow!("no image"))?;
    forge::direct_to_own_image(bench.repo(), "stolen", own)?;
    bench.install()?;
    Ok(Expected::all("rejected", "unchanged", "1.0.0"))
}

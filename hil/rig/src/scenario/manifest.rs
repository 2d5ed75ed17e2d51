//! What the backend knows of a vehicle is what its ECUs prove.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use campaign::ids::ImageDigest;
use ecu_image::{HEADER_LEN, Header};
use oem::manifest::{self, Known};
use oem::release::ReleaseOptions;
use oem::repo::Repo;

use super::{Expected, Scenario};
use crate::bench::{Bench, NewApp};
use crate::forge;

pub(super) const LYING_TCU: Scenario = Scenario {
    name: "lying-tcu",
    about: "each ECU proves what it runs; a TCU that tells the backend something else is found",
    play,
};

fn play(bench: &mut Bench) -> Result<Expected> {
    ensure!(known(bench)?.accepted.is_none(), "nobody has said anything");
    let images = bench.pack(&NewApp::good("2.0.0", 2))?;
    bench.release_images("first", &images)?;
    bench.install()?;
    ensure_proven(bench, &images, 2)?;
    let before = honest(bench)?;
    ensure!(accept(bench, &before)?.is_none(), "an honest manifest");

    bench.say("somebody sends the manifest again");
    let replayed = accept(bench, &before)?;
    ensure!(replayed.is_some(), "a manifest counts once");
    ensure!(known(bench)?.disbelieved.is_none(), "anybody can do that");

    let images = bench.pack(&NewApp::good("3.0.0", 3))?;
    bench.release_images("second", &images)?;
    bench.install()?;
    ensure_proven(bench, &images, 3)?;
    bench.say("the TCU answers a new question with what the ECUs said before the update");
    let key = bench.folder().join("vehicle/tcu.pem");
    let lie = forge::old_reports_again(&key, &before, &nonce(bench)?)?;
    ensure!(accept(bench, &lie)?.is_some(), "the lie is believed");
    let after = known(bench)?;
    let lie = after.disbelieved.map_or_else(String::new, |lie| lie.fault);
    let named = bench.ecus().iter().any(|ecu| lie.contains(&ecu.serial()));
    ensure!(named, "no ECU is named: {lie:?}");
    ensure!(is_left_out(bench, images)?, "it is directed all the same");

    bench.say("it tells the truth");
    let url = bench.serve()?;
    let (status, told) = bench.ask_tcu(&["manifest", &url])?;
    ensure!(status.success() && told["accepted"] == true, "{told}");
    ensure!(known(bench)?.disbelieved.is_none(), "the truth ends it");
    Ok(Expected::all("completed", "sealed", "3.0.0"))
}

fn known(bench: &Bench) -> Result<Known> {
    Ok(manifest::known(&Repo::open(bench.repo())?, &forge::vin()?)?)
}

fn nonce(bench: &Bench) -> Result<String> {
    let repo = Repo::open(bench.repo())?;
    let nonce = manifest::nonce(&repo, &forge::vin()?, forge::now()?)?;
    Ok(nonce.to_string())
}

/// What the TCU says when it is asked.
fn honest(bench: &Bench) -> Result<Vec<u8>> {
    let (status, said) = bench.ask_tcu(&["manifest", "--nonce", &nonce(bench)?])?;
    ensure!(status.success(), "{said}");
    Ok(serde_json::to_vec(&said)?)
}

/// Why the backend does not believe a manifest; `None` where it does.
fn accept(bench: &Bench, manifest: &[u8]) -> Result<Option<String>> {
    let repo = Repo::open(bench.repo())?;
    let accepted = manifest::accept(&repo, &forge::vin()?, manifest, forge::now()?);
    Ok(accepted.err().map(|error| error.to_string()))
}

/// The backend knows that every ECU has sealed one of `images`, with this counter.
fn ensure_proven(bench: &Bench, images: &[PathBuf], counter: u32) -> Result<()> {
    let known = known(bench)?;
    let digest = |path: &PathBuf| {
        let bytes = std::fs::read(path)?;
        let header = bytes.first_chunk::<HEADER_LEN>();
        anyhow::Ok(header.map(Header::digest_of))
    };
    let released = images.iter().map(digest).collect::<Result<Vec<_>>>()?;
    let released: BTreeSet<ImageDigest> = released.into_iter().flatten().collect();
    ensure!(known.installed.len() == bench.ecus().len(), "{known:?}");
    let mut ran = BTreeSet::new();
    for ecu in known.installed.values() {
        let state = (
            ecu.state.as_str(),
            ecu.security_counter.get(),
            ecu.floor.get(),
        );
        ensure!(state == ("sealed", counter, counter), "{known:?}");
        ran.insert(ecu.image);
    }
    ensure!(ran == released, "other images: {known:?}");
    Ok(())
}

/// Whether a release that names no vehicle has none to go to.
fn is_left_out(bench: &Bench, images: Vec<PathBuf>) -> Result<bool> {
    let campaign = "fleet".parse();
    let options = ReleaseOptions {
        rxswins: std::collections::BTreeMap::new(),
        campaign: campaign.map_err(|error| anyhow::anyhow!("{error}"))?,
        vins: Vec::new(),
        images,
        rules: None,
        allow_downgrade: false,
        valid_days: 30,
    };
    let planned = oem::release::plan(&Repo::open(bench.repo())?, &options, forge::now()?);
    Ok(matches!(planned, Err(oem::Error::Disbelieved(_))))
}

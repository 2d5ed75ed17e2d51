//! Attacks: a campaign that must not change the vehicle.

use anyhow::Result;

use super::{Expected, Scenario};
use crate::bench::{Bench, NewApp};
use crate::forge;
use crate::vehicle::Exchanged;

pub(super) const TAMPERED_PAGE: Scenario = Scenario {
    name: "tampered-page",
    about: "a byte of one image is changed after signing, the repository's metadata agrees with it",
    play: tampered_page,
};

pub(super) const FORGED_SIGNATURE: Scenario = Scenario {
    name: "forged-signature",
    about: "one image is signed with a key of somebody else",
    play: forged_signature,
};

pub(super) const DOWNGRADE: Scenario = Scenario {
    name: "downgrade",
    about: "an image whose security counter is below the ECUs' floor is released",
    play: downgrade,
};

pub(super) const WRONG_HARDWARE: Scenario = Scenario {
    name: "wrong-hardware",
    about: "one ECU was exchanged for another hardware type than the backend knows",
    play: wrong_hardware,
};

fn tampered_page(bench: &mut Bench) -> Result<Expected> {
    let app = NewApp::good("2.0.0", 2);
    bench.release_changed("tampered", &app, forge::tamper_with_page)?;
    bench.install()?;
    Ok(Expected::all("rejected", "unchanged", "1.0.0"))
}

fn forged_signature(bench: &mut Bench) -> Result<Expected> {
    let app = NewApp::good("2.0.0", 2);
    bench.release_changed("forged", &app, forge::sign_with_foreign_key)?;
    bench.install()?;
    Ok(Expected::all("rejected", "unchanged", "1.0.0"))
}

fn downgrade(bench: &mut Bench) -> Result<Expected> {
    bench.release("good", &NewApp::good("2.0.0", 5))?;
    bench.install()?;
    bench.release_downgrade("downgrade", &NewApp::good("3.0.0", 4))?;
    bench.install()?;
    Ok(Expected::all("rejected", "unchanged", "2.0.0"))
}

fn wrong_hardware(bench: &mut Bench) -> Result<Expected> {
    bench.exchange("steering", Exchanged::Hardware("eps-r9"))?;
    bench.release("wrong-hardware", &NewApp::good("2.0.0", 2))?;
    bench.install()?;
    Ok(Expected::all("rejected", "unchanged", "1.0.0"))
}

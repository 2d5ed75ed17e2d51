//! Where things are in the workspace.

use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    // What cargo says when it runs us comes first: several checkouts may share a target folder.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_owned)
}

/// Where cargo puts what it builds; absolute.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The programs `oem`, `tcu`, `virtual-ecu` and the bench.
///
/// Those of the development profile, in which dependencies are optimised: fast enough for the guest,
/// and the other parts build them as well.
pub(crate) fn programs() -> PathBuf {
    target().join("debug")
}

/// The ECU application before a version is written into it.
pub(crate) fn ecu_app() -> PathBuf {
    target().join("ecu-app/release/ecu-app")
}

/// What the Linux guest needs and leaves behind.
pub(crate) fn hil() -> PathBuf {
    target().join("hil")
}

//! The Debian packages that the tests need, in one place, and their installation.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::statvfs::statvfs;
use nix::unistd::Uid;

use crate::paths;
use crate::process::{output_of, program, run, succeeds};
use crate::tally::Tally;

/// A Debian package and the program by which it is recognised where there is no dpkg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    package: &'static str,
    program: &'static str,
}

const fn need(package: &'static str, program: &'static str) -> Need {
    Need { package, program }
}

/// Needed by every run of the tests.
pub(crate) const BASE: [Need; 10] = [
    need("faketime", "faketime"),
    need("g++", "c++"),
    need("gcc", "cc"),
    need("libc6-dev", "cc"),
    need("nginx-light", "nginx"),
    need("openssl", "openssl"),
    need("python3", "python3"),
    need("shellcheck", "shellcheck"),
    need("softhsm2", "softhsm2-util"),
    need("swupdate", "swupdate"),
];

/// Needed by the Linux guest.
pub(crate) const GUEST: [Need; 11] = [
    need("adduser", "adduser"),
    need("busybox-static", "busybox"),
    need("can-utils", "cansend"),
    need("e2fsprogs", "mkfs.ext4"),
    need("iproute2", "ip"),
    need("kmod", "modprobe"),
    need("python3-venv", "python3"),
    need("qemu-system-x86", "qemu-system-x86_64"),
    need("systemd", "/lib/systemd/systemd"),
    need("util-linux", "unshare"),
    need("xz-utils", "xz"),
];

/// Needed to build the cores for bare metal where rustup does not have the targets.
pub(crate) const CORES: [Need; 3] = [
    need("cargo-web", "/usr/bin/cargo"),
    need("rustc-web", "/usr/bin/rustc"),
    need("rust-web-src", "/usr/src/rustc-web"),
];

/// Needed to link the boards and to run the emulated one.
pub(crate) const BOARDS: [Need; 2] = [
    need("binutils-arm-none-eabi", "arm-none-eabi-ld"),
    need("qemu-system-arm", "qemu-system-arm"),
];

/// Needed to skip instructions on the emulated board, besides [`BOARDS`].
pub(crate) const FAULTS: [Need; 1] = [need("python3-venv", "python3")];

/// Needed to try a package in a Debian root.
pub(crate) const DEBOOTSTRAP: Need = need("debootstrap", "debootstrap");

/// How long an installation may take.
const LIMIT: Duration = Duration::from_secs(900);

/// What a run of all tests writes below the target folder where nothing is built yet, with a reserve:
/// 4.5 GB were measured.
const ROOM: u64 = 6 << 30;

/// What it writes besides for the compiler's next run, unless that is off.
const ROOM_INCREMENTAL: u64 = 6 << 30;

/// What it writes where all was built before: what changed, and what the guest leaves.
const ROOM_AGAIN: u64 = 2 << 30;

/// What is there once the tests have been built; building this tool makes none of it.
const BUILT: &str = "debug/virtual-ecu";

/// Fails where the disk would be full before the tests have run: a compiler that meets that says much,
/// and nothing of the disk.
pub(crate) fn room() -> Result<()> {
    let target = paths::target();
    std::fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
    let incremental = std::env::var_os("CARGO_INCREMENTAL").is_none_or(|value| value != "0");
    let needed = room_for(&target, incremental);
    let disk = statvfs(&target).with_context(|| target.display().to_string())?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    enough(free, needed).with_context(|| format!("the disk of {}", target.display()))
}

fn room_for(target: &Path, incremental: bool) -> u64 {
    match (target.join(BUILT).exists(), incremental) {
        (true, _) => ROOM_AGAIN,
        (false, false) => ROOM,
        (false, true) => ROOM + ROOM_INCREMENTAL,
    }
}

fn enough(free: u64, needed: u64) -> Result<()> {
    if free >= needed {
        return Ok(());
    }
    let (free, needed) = (free >> 20, needed >> 20);
    bail!(
        "has {free} MiB free; the tests need {needed} MiB: make room, set CARGO_INCREMENTAL=0, or \
         let CARGO_TARGET_DIR name a folder on another disk"
    )
}

/// Installs what the tests need, for the guest too if `guest`.
pub(crate) fn install_all(guest: bool) -> Result<()> {
    let mut needs = BASE.to_vec();
    if guest {
        needs.extend(GUEST);
    }
    install(&needs)
}

/// Installs those of `needs` that are missing.
///
/// # Errors
/// When something is missing and cannot be installed; the message says what to do.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> = needs.iter().filter(|need| !is_there(need)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    let list = packages.join(" ");
    if !has_dpkg() {
        let programs: Vec<_> = missing.iter().map(|need| need.program).collect();
        bail!(
            "missing: {}. This is no Debian system: install what has the Debian names {list}",
            programs.join(", ")
        );
    }
    println!("installing: {list}");
    apt_get(&["update", "--quiet"])?;
    let mut args = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    args.extend(&packages);
    apt_get(&args).with_context(|| format!("install by hand: apt-get install {list}"))
}

/// Runs `apt-get` as root or through sudo.
pub(crate) fn apt_get(args: &[&str]) -> Result<()> {
    let mut command = if Uid::effective().is_root() {
        program("apt-get", args)
    } else {
        if !on_path("sudo") {
            bail!(
                "apt-get {} needs root, and there is no sudo",
                args.join(" ")
            );
        }
        let mut sudo = program("sudo", &["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo.args(args);
        sudo
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    run(command, Instant::now() + LIMIT, &mut Tally::default())
}

fn is_there(need: &Need) -> bool {
    if !has_dpkg() {
        return on_path(need.program);
    }
    let query = ["--show", "--showformat=${db:Status-Status}", need.package];
    output_of(program("dpkg-query", &query)).is_some_and(|status| status == "installed")
}

fn has_dpkg() -> bool {
    on_path("dpkg-query") && succeeds(program("dpkg-query", &["--version"]))
}

/// Whether `name` is a program on the path or an existing absolute path.
pub(crate) fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .any(|dir| dir.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_and_by_absolute_name() {
        assert!(on_path("sh"));
        assert!(on_path("/proc/self"));
        assert!(!on_path("no-such-program"));
    }

    #[test]
    fn a_disk_without_room_is_said_before_anything_is_built() {
        let target = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(target.path().join("debug/deps")).unwrap();
        assert_eq!(room_for(target.path(), false), ROOM);
        assert_eq!(room_for(target.path(), true), 2 * ROOM);
        std::fs::write(target.path().join(BUILT), "").unwrap();
        assert_eq!(room_for(target.path(), true), ROOM_AGAIN);
        assert!(enough(ROOM, ROOM).is_ok());
        let error = enough(ROOM - 1, ROOM).unwrap_err().to_string();
        assert!(
            error.contains("has 6143 MiB free; the tests need 6144"),
            "{error}"
        );
    }

    #[test]
    fn no_package_is_listed_twice() {
        let mut all: Vec<_> = [&BASE[..], &GUEST, &CORES, &BOARDS].concat();
        all.sort_by_key(|need| need.package);
        assert!(
            all.windows(2)
                .all(|pair| pair[0].package != pair[1].package)
        );
    }
}

//! `kill -9` of the guest: its QEMU process ends at once, and with it everything that the guest's
//! kernel had not yet written to the disk on which the TCU's journal is.
//!
//! The script `guest-kill.sh` runs in each boot. Where it asks for it the guest is killed, and booted
//! again on the same disk; the last boot is left alone and must bring the campaign to its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{Case, Guest, programs, qemu};
use crate::process::{output_of, program};

/// The case's name.
pub(super) const NAME: &str = "guest-kill";

/// How often the guest is killed.
const KILLS: u32 = 6;

/// How long one boot may take to its kill, or to the end of all campaigns.
const BOOT_LIMIT_S: u32 = 600;

/// Bytes of the disk.
const DISK: u64 = 64 << 20;

/// Boots, kills, and boots until the campaign's end; the last boot leaves the result.
///
/// # Errors
/// When the disk cannot be made, or a boot ends in another way than it should.
pub(super) fn run(
    guest: &Guest,
    setup: &programs::Setup,
    case: &Case,
    deadline: Instant,
) -> Result<()> {
    let disk = make_disk(&guest.share)?;
    let started = Instant::now();
    let limit = deadline.min(qemu::after(case.limit_s));
    for boot in 0..=KILLS {
        let last = boot == KILLS;
        let settings = [
            ("BOOT", boot.to_string()),
            ("KILLED", u32::from(!last).to_string()),
        ];
        guest.write_settings(setup, std::slice::from_ref(case), None, &settings)?;
        let limit = limit.min(qemu::after(BOOT_LIMIT_S));
        let ended = qemu::boot_on(guest, &disk, limit).with_context(|| format!("boot {boot}"))?;
        match ended {
            qemu::Ended::Killed if !last => {}
            qemu::Ended::Itself if last => {}
            _ => bail!("boot {boot} of {NAME} ended too early"),
        }
    }
    let seconds = started.elapsed().as_secs();
    let counts = format!("guest_kills {KILLS}\nboots_seconds {seconds}\n");
    let path = guest.share.join(format!("{NAME}.counts"));
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, known + &counts).context("the counts cannot be written")
}

/// An empty ext4 file system.
fn make_disk(share: &Path) -> Result<PathBuf> {
    let path = share.join("disk.ext4");
    File::create(&path)?.set_len(DISK)?;
    let mut format = program("mkfs.ext4", &["-q", "-F"]);
    format.arg(&path);
    output_of(format).context("mkfs.ext4 fails: is e2fsprogs installed?")?;
    Ok(path)
}

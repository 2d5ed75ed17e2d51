//! Booting the guest under software emulation.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Case, Guest};
use crate::process::{program, stream, stream_until};

/// How long the guest may take to reach its first program.
const BOOT_S: u32 = 120;

/// What `hil/guest/run.sh` prints before a line that is for us.
const MARK: &str = "GUEST ";

/// Boots the guest and waits until it powers itself off.
///
/// # Errors
/// When QEMU fails or the guest takes longer than its cases may.
pub(super) fn boot(guest: &Guest, cases: &[Case], deadline: Instant) -> Result<()> {
    let limit = cases.iter().map(|case| case.limit_s).sum::<u32>() + BOOT_S;
    let limit = if cases.is_empty() {
        deadline
    } else {
        deadline.min(after(limit))
    };
    let console = guest.share.join("console.log");
    let mut log = String::new();
    let mut ended = false;
    let (status, _) = stream(&mut command(guest)?, limit, |line| {
        let line = line.trim_end_matches('\r');
        match line.strip_prefix(MARK) {
            Some("end") => ended = true,
            Some(message) => println!("{message}"),
            None if cases.is_empty() => println!("{line}"),
            None => {}
        }
        log += line;
        log.push('\n');
    })
    .context("the guest")?;
    std::fs::write(&console, log)?;
    if !status.success() || !ended {
        bail!(
            "the guest did not end in order ({status}); see {}",
            console.display()
        );
    }
    Ok(())
}

/// How a boot ended that may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The guest powered itself off.
    Itself,
    /// It asked to be killed, and was.
    Killed,
}

/// Boots the guest with a disk; kills QEMU at once (SIGKILL) where the guest says `kill`.
///
/// # Errors
/// When QEMU fails or takes longer than `limit`.
pub(super) fn boot_on(guest: &Guest, disk: &Path, limit: Instant) -> Result<Ended> {
    let mut qemu = command(guest)?;
    let disk = disk.to_str().context("the disk's path is not UTF-8")?;
    qemu.arg("-drive").arg(format!(
        "file={disk},if=virtio,format=raw,cache=writeback,file.locking=off"
    ));
    let mut ended = false;
    let on_line = |line: &str| {
        match line.trim_end_matches('\r').strip_prefix(MARK) {
            Some("end") => ended = true,
            Some("kill") => return true,
            Some(message) => println!("{message}"),
            None => {}
        }
        false
    };
    match stream_until(&mut qemu, limit, on_line).context("the guest")? {
        None => Ok(Ended::Killed),
        Some((status, _)) if status.success() && ended => Ok(Ended::Itself),
        Some((status, _)) => bail!("the guest did not end in order ({status})"),
    }
}

pub(super) fn after(seconds: u32) -> Instant {
    Instant::now() + Duration::from_secs(seconds.into())
}

fn command(guest: &Guest) -> Result<Command> {
    let text = |path: &std::path::Path| {
        path.to_str()
            .map(str::to_owned)
            .with_context(|| format!("{} is not UTF-8", path.display()))
    };
    let share = text(&guest.share)?;
    if share.contains(',') {
        bail!("QEMU cannot share a folder with a comma in its name: {share}");
    }
    // KVM is not asked for: where the host is itself a small guest, it hangs.
    let mut qemu = program(
        "qemu-system-x86_64",
        &["-accel", "tcg,thread=multi", "-cpu", "max"],
    );
    qemu.args(["-M", "q35", "-smp", "2", "-m", "2048"]);
    qemu.arg("-kernel")
        .arg(&guest.kernel.image)
        .arg("-initrd")
        .arg(&guest.initrd);
    qemu.args([
        "-append",
        "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check",
    ]);
    let host = "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap";
    let results = format!("local,path={share},mount_tag=share,security_model=none");
    qemu.args(["-virtfs", host, "-virtfs", &results]);
    qemu.args([
        "-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none",
    ]);
    qemu.arg("-no-reboot");
    Ok(qemu)
}

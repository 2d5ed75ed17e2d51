//! Booting the guest under software emulation.

use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Case, Guest};
use crate::process::{Streamed, program, stream_until};

/// How long the guest may take to reach its first program.
const BOOT_S: u32 = 120;

/// How many boots in a row hang until that is an error.
const HUNG_BOOTS: u32 = 2;

/// What `hil/guest/run.sh` prints before a line that is for us.
const MARK: &str = "GUEST ";

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The guest powered itself off.
    Itself,
    /// It asked to be killed, and was.
    Killed,
    /// No program of ours had run in it when the time for that was over.
    NeverUp,
}

/// Boots the guest and waits until it powers itself off.
///
/// # Errors
/// When QEMU fails or the guest takes longer than its cases may.
pub(super) fn boot(guest: &Guest, cases: &[Case], deadline: Instant) -> Result<()> {
    let limit = cases.iter().map(|case| case.limit_s).sum::<u32>() + BOOT_S * HUNG_BOOTS;
    let limit = deadline.min(after(limit));
    match up(guest, || session(guest, command(guest)?, limit, false))? {
        Ended::Itself => Ok(()),
        _ => bail!("the guest asked to be killed, without a reason"),
    }
}

/// Boots the guest for a script and shows all that it prints.
///
/// # Errors
/// When QEMU fails or takes longer than `deadline`.
pub(super) fn boot_script(guest: &Guest, deadline: Instant) -> Result<()> {
    session(guest, command(guest)?, deadline, true).map(drop)
}

/// Boots the guest with a disk; kills QEMU at once (SIGKILL) where the guest says `kill`.
///
/// # Errors
/// When QEMU fails or takes longer than `limit`.
pub(super) fn boot_on(guest: &Guest, disk: &Path, limit: Instant) -> Result<Ended> {
    let disk = disk.to_str().context("the disk's path is not UTF-8")?;
    let drive = format!("file={disk},if=virtio,format=raw,cache=writeback,file.locking=off");
    up(guest, || {
        let mut qemu = command(guest)?;
        qemu.arg("-drive").arg(&drive);
        session(guest, qemu, limit, false)
    })
}

/// Boots again where the guest hung before any program of ours ran, which was seen once in some hundreds of
/// boots of the emulated machine. It is said, and the second time it is an error.
fn up(guest: &Guest, boot: impl Fn() -> Result<Ended>) -> Result<Ended> {
    let console = console(guest);
    for hung in 1..=HUNG_BOOTS {
        match boot()? {
            Ended::NeverUp => println!(
                "the guest's kernel hung in its boot (no program ran after {BOOT_S} s, {hung} of \
                 {HUNG_BOOTS}); its console is in {}",
                console.display()
            ),
            ended => return Ok(ended),
        }
    }
    bail!(
        "the guest's kernel does not boot; see {}",
        console.display()
    )
}

/// One life of a QEMU process. What the guest prints is kept in a file.
fn session(guest: &Guest, mut qemu: Command, limit: Instant, is_shown: bool) -> Result<Ended> {
    let path = console(guest);
    let mut kept = File::options().create(true).append(true).open(&path)?;
    let up_limit = limit.min(after(BOOT_S));
    let (is_up, has_ended) = (Cell::new(is_shown), Cell::new(false));
    let on_line = |line: &str| {
        let line = line.trim_end_matches('\r');
        // Without a disk to write it to, what is printed still counts.
        let _ = writeln!(kept, "{line}");
        let message = line.strip_prefix(MARK);
        is_up.set(is_up.get() || message.is_some());
        match message {
            Some("end") => has_ended.set(true),
            Some("kill") => return true,
            Some(message) => println!("{message}"),
            None if is_shown => println!("{line}"),
            None => {}
        }
        false
    };
    let deadline = || if is_up.get() { limit } else { up_limit };
    match stream_until(&mut qemu, deadline, on_line).context("the guest")? {
        Streamed::Stopped => Ok(Ended::Killed),
        Streamed::Exited(status, _) if status.success() && has_ended.get() => Ok(Ended::Itself),
        Streamed::Exited(status, _) => {
            bail!(
                "the guest did not end in order ({status}); see {}",
                path.display()
            )
        }
        Streamed::Late if !is_up.get() && Instant::now() < limit => Ok(Ended::NeverUp),
        Streamed::Late => bail!("the guest's time was over; see {}", path.display()),
    }
}

fn console(guest: &Guest) -> PathBuf {
    guest.share.join("console.log")
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
        "console=ttyS0 panic=-1 mitigations=off no_timer_check",
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

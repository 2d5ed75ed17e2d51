//! The Linux guest: cases on the kernel's own CAN, where the host's kernel has none.
//!
//! QEMU boots Debian's stock kernel with an initramfs of our own. The guest sees the host's root
//! file system read-only (9p, with a writable layer in memory), so it runs the programs that were
//! built here, and one shared folder through which results come back.

mod counts;
mod guest_kill;
mod initrd;
mod kernel;
mod programs;
mod qemu;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::needs::{self, GUEST};
use crate::paths;
use crate::tally::Tally;

/// How long building, booting and all cases may take.
const LIMIT: Duration = Duration::from_secs(3600);

/// One test in the guest: the script `hil/guest/cases/NAME.sh`.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    about: &'static str,
    /// Seconds after which it is ended; the guest's CPU is 15 to 20 times slower than the host's.
    limit_s: u32,
}

const fn case(name: &'static str, limit_s: u32, about: &'static str) -> Case {
    Case {
        name,
        about,
        limit_s,
    }
}

/// All cases, in the order in which they run.
const CASES: [Case; 10] = [
    case(
        "vcan-setup",
        120,
        "vcan-setup.sh: up, again, FD, down, and a kernel without vcan",
    ),
    case(
        "isotp-matrix",
        300,
        "our ISO-TP and the kernel's talk to each other",
    ),
    case(
        "uds-rs-example",
        120,
        "the example program of uds-rs on our client, import changed",
    ),
    case(
        "udsoncan-flash",
        240,
        "udsoncan with can-isotp flashes a packed image",
    ),
    case(
        "install-kernel",
        400,
        "six ECUs get new firmware over the kernel's ISO-TP",
    ),
    case(
        "install-isotp",
        400,
        "the same over our ISO-TP on raw sockets",
    ),
    case(
        "disks",
        240,
        "the TCU's service on a disk that is read-only, and on a full one",
    ),
    case(
        "service",
        400,
        "the TCU under systemd: updates, is killed, goes on, is stopped",
    ),
    case(
        "kills",
        600,
        "kill -9 of the TCU and of ECUs at random moments of updates",
    ),
    case(
        guest_kill::NAME,
        1800,
        "kill -9 of the guest itself; the TCU's journal is on a virtio disk",
    ),
];

/// What a run in the guest needs: built, fetched and unpacked.
#[derive(Debug)]
struct Guest {
    kernel: kernel::Kernel,
    initrd: PathBuf,
    share: PathBuf,
    /// Chooses the moments at which something is killed.
    seed: u64,
}

/// Prints the names of the cases.
#[allow(clippy::unnecessary_wraps)] // Called like the other chores.
pub(crate) fn list() -> Result<()> {
    for Case { name, about, .. } in CASES {
        println!("{name:16} {about}");
    }
    Ok(())
}

/// Runs the cases `names`, all if empty; writes what they counted to `json`.
pub(crate) fn run(names: &[String], seed: u64, json: Option<&Path>) -> Result<()> {
    let mut tally = Tally::default();
    let result = run_within(names, seed, Instant::now() + LIMIT, &mut tally);
    if let Some(path) = json {
        counts::write(path, &paths::hil().join("share"), seed)?;
    }
    result
}

/// Runs the cases `names`, all if empty, until `deadline`, and counts them.
///
/// # Errors
/// When a name is unknown, the guest cannot be prepared or booted, or a case failed.
pub(crate) fn run_within(
    names: &[String],
    seed: u64,
    deadline: Instant,
    tally: &mut Tally,
) -> Result<()> {
    let cases = choose(names)?;
    needs::install(&GUEST)?;
    let guest = prepare(seed, deadline, tally)?;
    let setup = programs::build(&cases, deadline, tally)?;
    println!("booting the guest: {}", guest.kernel.name);
    let (killed, usual): (Vec<_>, Vec<_>) =
        cases.iter().partition(|case| case.name == guest_kill::NAME);
    if !usual.is_empty() {
        guest.write_settings(&setup, &usual, None, &[])?;
        qemu::boot(&guest, &usual, deadline)?;
    }
    for case in killed {
        guest_kill::run(&guest, &setup, &case, deadline)?;
    }
    judge(&guest.share, &cases, tally)
}

/// Runs `script` in the guest instead of the cases; its output is shown.
pub(crate) fn run_script(script: &Path) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let script = script
        .canonicalize()
        .with_context(|| format!("{}", script.display()))?;
    needs::install(&GUEST)?;
    let mut tally = Tally::default();
    let guest = prepare(1, deadline, &mut tally)?;
    guest.write_settings(&programs::Setup::unbuilt(), &[], Some(&script), &[])?;
    qemu::boot_script(&guest, deadline)
}

fn choose(names: &[String]) -> Result<Vec<Case>> {
    if names.is_empty() {
        return Ok(CASES.to_vec());
    }
    names
        .iter()
        .map(|name| {
            let found = CASES.iter().find(|case| case.name == name);
            found
                .copied()
                .with_context(|| format!("no case {name}; see cargo xtask hil --list"))
        })
        .collect()
}

fn prepare(seed: u64, deadline: Instant, tally: &mut Tally) -> Result<Guest> {
    let dir = paths::hil();
    let share = dir.join("share");
    if share.exists() {
        std::fs::remove_dir_all(&share)?;
    }
    std::fs::create_dir_all(&share)?;
    let kernel = kernel::get(&dir, deadline, tally)?;
    let initrd = dir.join("initrd.cpio");
    std::fs::write(&initrd, initrd::build(&kernel)?)?;
    Ok(Guest {
        kernel,
        initrd,
        share,
        seed,
    })
}

impl Guest {
    /// Writes what the guest's first program reads: where things are and what to run.
    fn write_settings(
        &self,
        setup: &programs::Setup,
        cases: &[Case],
        script: Option<&Path>,
        more: &[(&str, String)],
    ) -> Result<()> {
        let mut text = String::new();
        let mut set = |name: &str, value: &str| {
            text += &format!("export {name}='{}'\n", value.replace('\'', r"'\''"));
        };
        set("ROOT", &paths::root().to_string_lossy());
        set("MODULES", &self.kernel.modules.to_string_lossy());
        for (name, path) in &setup.paths {
            set(name, &path.to_string_lossy());
        }
        set("SEED", &self.seed.to_string());
        for (name, value) in more {
            set(name, value);
        }
        let list: Vec<_> = cases
            .iter()
            .map(|case| format!("{}:{}", case.name, case.limit_s))
            .collect();
        set("CASES", &list.join(" "));
        set(
            "SCRIPT",
            &script
                .map(|path| path.to_string_lossy())
                .unwrap_or_default(),
        );
        let path = self.share.join("settings.sh");
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Reads the results that the guest left, prints and counts them.
fn judge(share: &Path, cases: &[Case], tally: &mut Tally) -> Result<()> {
    let results = std::fs::read_to_string(share.join("results")).unwrap_or_default();
    let judged = count(&results, cases);
    for (case, passed) in cases.iter().zip(&judged) {
        if !passed {
            let log = share.join(format!("{}.log", case.name));
            println!(
                "---- guest::{} ({})\n{}",
                case.name,
                log.display(),
                tail(&log)
            );
        }
    }
    let failed = judged.iter().filter(|passed| !**passed).count();
    let counted = Tally {
        passed: u32::try_from(judged.len() - failed)?,
        failed: u32::try_from(failed)?,
        ignored: 0,
    };
    *tally += counted;
    println!(
        "guest: {} passed, {} failed",
        counted.passed, counted.failed
    );
    if failed > 0 {
        bail!("{failed} of {} cases failed in the guest", cases.len());
    }
    Ok(())
}

/// Which of `cases` passed. One that left no result did not.
fn count(results: &str, cases: &[Case]) -> Vec<bool> {
    let passed = |name: &str| {
        results.lines().any(|line| {
            let mut words = line.split(' ');
            words.next() == Some(name) && words.next() == Some("ok")
        })
    };
    cases.iter().map(|case| passed(case.name)).collect()
}

/// The last lines of a case's log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(60)..)
        .unwrap_or_default()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_without_a_result_has_failed() {
        let results = "vcan-setup ok 3\nisotp-matrix FAILED 1\n";
        assert_eq!(count(results, &CASES[..3]), [true, false, false]);
    }

    #[test]
    fn every_case_has_its_script_and_every_script_its_case() {
        let dir = paths::root().join("hil/guest/cases");
        let mut scripts: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut expected: Vec<_> = CASES
            .iter()
            .map(|case| format!("{}.sh", case.name))
            .collect();
        scripts.sort();
        expected.sort();
        assert_eq!(scripts, expected);
    }

    #[test]
    fn an_unknown_case_is_refused() {
        assert!(choose(&["nonsense".into()]).is_err());
        assert_eq!(choose(&[]).unwrap().len(), CASES.len());
    }
}

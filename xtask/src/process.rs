//! Running programs: echoed, counted, and ended when their time is over.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::paths;
use crate::tally::Tally;

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(50);

/// How long its output may stay open after a program has ended.
const LINGER: Duration = Duration::from_secs(5);

/// `cargo` with `args`, in the workspace's folder.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root()).args(args);
    // What `cargo run` says about this package would make build scripts of others run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// `program` with `args`, in the workspace's folder.
pub(crate) fn program(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(paths::root()).args(args);
    command
}

/// Runs `command` until `deadline`, prints its output and counts the tests in it.
///
/// # Errors
/// When it cannot be started, does not exit with 0, or is still running at the deadline; it and
/// all its descendants are killed then.
pub(crate) fn run(mut command: Command, deadline: Instant, tally: &mut Tally) -> Result<()> {
    let shown = show(&command);
    println!("$ {shown}");
    let (status, counted) =
        stream(&mut command, deadline, |line| println!("{line}")).with_context(|| shown.clone())?;
    *tally += counted;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs `command` until `deadline`, passing each line of its standard output to `on_line`.
///
/// # Errors
/// When it cannot be started or is still running at the deadline; it and its descendants are killed
/// then.
pub(crate) fn stream(
    command: &mut Command,
    deadline: Instant,
    mut on_line: impl FnMut(&str),
) -> Result<(ExitStatus, Tally)> {
    let streamed = stream_until(
        command,
        || deadline,
        |line| {
            on_line(line);
            false
        },
    )?;
    match streamed {
        Streamed::Exited(status, tally) => Ok((status, tally)),
        Streamed::Stopped => bail!("killed, and nobody asked for it"),
        Streamed::Late => bail!("still running when its time was over; killed"),
    }
}

/// How a program ended whose output was read.
#[derive(Debug)]
pub(crate) enum Streamed {
    /// By itself.
    Exited(ExitStatus, Tally),
    /// Killed because of a line of it.
    Stopped,
    /// Killed because its time was over.
    Late,
}

/// The same, but kills the program as soon as `on_line` says so, and looks at its deadline anew each
/// time.
///
/// # Errors
/// When it cannot be started or waited for.
pub(crate) fn stream_until(
    command: &mut Command,
    deadline: impl Fn() -> Instant,
    mut on_line: impl FnMut(&str) -> bool,
) -> Result<Streamed> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot be started; is it installed?")?;
    let lines = lines_of(child.stdout.take().context("no standard output")?);
    let mut tally = Tally::default();
    let mut exited: Option<(ExitStatus, Instant)> = None;
    let mut is_open = true;
    while Instant::now() < deadline() || exited.is_some() {
        match lines.recv_timeout(POLL) {
            Ok(line) => {
                tally += Tally::from_line(&line).unwrap_or_default();
                if on_line(&line) {
                    return end(&mut child, Streamed::Stopped);
                }
                continue;
            }
            // It has closed its output, and may run on.
            Err(RecvTimeoutError::Disconnected) if is_open => is_open = false,
            Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL),
            Err(RecvTimeoutError::Timeout) => {}
        }
        exited = match exited {
            None => child.try_wait()?.map(|status| (status, Instant::now())),
            exited => exited,
        };
        // A daemon that it left behind may hold its output open for ever.
        if let Some((status, since)) = exited
            && (!is_open || since.elapsed() > LINGER)
        {
            return Ok(Streamed::Exited(status, tally));
        }
    }
    end(&mut child, Streamed::Late)
}

fn end(child: &mut Child, how: Streamed) -> Result<Streamed> {
    kill_tree(child.id());
    child.wait()?;
    Ok(how)
}

/// The standard output of `command` if it exits with 0.
pub(crate) fn output_of(mut command: Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `command` runs and exits with 0; its output is dropped.
pub(crate) fn succeeds(command: Command) -> bool {
    output_of(command).is_some()
}

/// The command line as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    if let Some(name) = words[0].rsplit('/').next() {
        words[0] = name.to_owned();
    }
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

fn lines_of(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
        }
    });
    lines
}

/// Kills the process `root` and all its descendants.
fn kill_tree(root: u32) {
    let mut doomed = vec![root];
    let parents = parents();
    let mut index = 0;
    while let Some(parent) = doomed.get(index).copied() {
        doomed.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| *pid),
        );
        index += 1;
    }
    for pid in doomed.into_iter().filter_map(|pid| i32::try_from(pid).ok()) {
        // It may have ended by itself meanwhile, which is fine.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// All processes of the machine with their parents.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name in parentheses may hold spaces; state and parent follow it.
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn shell(script: &str) -> Command {
        program("sh", &["-c", script])
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn tests_are_counted_and_a_bad_exit_is_an_error() {
        let mut tally = Tally::default();
        let line = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured";
        run(
            shell(&format!("echo '{line}'; echo '{line}'")),
            soon(),
            &mut tally,
        )
        .unwrap();
        assert_eq!(tally.passed, 6);
        let error = run(shell("exit 4"), soon(), &mut tally).unwrap_err();
        assert!(error.to_string().contains("exit status: 4"), "{error}");
    }

    #[test]
    fn a_program_past_its_deadline_is_killed_with_its_children() {
        let mut pid = String::new();
        let error = stream(
            &mut shell("sleep 1000 & echo $!; wait"),
            Instant::now() + Duration::from_millis(500),
            |line| pid = line.to_owned(),
        );
        assert!(error.unwrap_err().to_string().contains("time was over"));
        // The signal is sent; the kernel may take a moment to end the process.
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z")
        };
        let patience = soon();
        while is_alive() {
            assert!(Instant::now() < patience, "{pid} is still alive");
            thread::yield_now();
        }
    }

    #[test]
    fn a_line_of_a_program_ends_it_or_moves_its_deadline() {
        let (seen, start, later) = (Cell::new(false), Instant::now(), soon());
        let see = |line: &str| {
            seen.set(true);
            line == "stop"
        };
        let deadline = || if seen.get() { start } else { later };
        let late = stream_until(&mut shell("echo go; sleep 1000"), deadline, see).unwrap();
        assert!(matches!(late, Streamed::Late), "{late:?}");
        let stopped = stream_until(&mut shell("echo stop; sleep 1000"), || later, see).unwrap();
        assert!(matches!(stopped, Streamed::Stopped), "{stopped:?}");
        // It closes its output first.
        let ended = stream_until(&mut shell("exec >&-; exit 3"), || later, see).unwrap();
        let code = match ended {
            Streamed::Exited(status, _) => status.code(),
            _ => None,
        };
        assert_eq!(code, Some(3));
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let error = run(
            program("no-such-program", &[]),
            soon(),
            &mut Tally::default(),
        );
        assert!(format!("{:#}", error.unwrap_err()).contains("is it installed"));
    }
}

//! Child processes of the bench: their output by lines, their end in bounded time.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running child. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; its standard output and error also go to `log_dir/NAME.log`.
    ///
    /// # Errors
    /// When the program cannot be started or the log not be written.
    pub fn spawn(name: &str, mut command: Command, log_dir: &Path) -> Result<Self> {
        let log = log_dir.join(format!("{name}.log"));
        let mut sink = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let program = command.get_program().to_string_lossy().into_owned();
        writeln!(sink, "$ {command:?}")?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(sink.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let stdout = child
            .stdout
            .take()
            .context("the child has no standard output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The log is for people: losing a line of it must not stop the bench.
                let _ = writeln!(sink, "{line}");
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            lines,
            log,
        })
    }

    /// The first value that `pick` finds in a line of output, waiting at most `timeout`.
    ///
    /// # Errors
    /// When the time is over or the output has ended.
    pub fn wait_for<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + timeout;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    if let Some(value) = pick(&line) {
                        return Ok(value);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "{}: no {what} within {timeout:?}\n{}",
                        self.name,
                        self.tail()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{}: ended before {what}\n{}", self.name, self.tail())
                }
            }
        }
    }

    /// Waits for the end of the output and of the process, passing each line to `on_line`.
    ///
    /// # Errors
    /// When it has not ended after `timeout`; it is killed then.
    pub fn finish(
        &mut self,
        timeout: Duration,
        mut on_line: impl FnMut(&str),
    ) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => on_line(&line),
                Err(RecvTimeoutError::Disconnected) => return Ok(self.child.wait()?),
                Err(RecvTimeoutError::Timeout) => {
                    self.kill()?;
                    bail!(
                        "{}: still running after {timeout:?}\n{}",
                        self.name,
                        self.tail()
                    )
                }
            }
        }
    }

    /// Passes the lines of the next `time` to `on_line`; the exit status once it has ended.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn poll(
        &mut self,
        time: Duration,
        mut on_line: impl FnMut(&str),
    ) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + time;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => on_line(&line),
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(self.child.wait()?)),
            }
        }
    }

    /// Ends the process at once, as a power cut would (SIGKILL).
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it does not end within `timeout`; it is killed then.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).map_err(|_| anyhow!("a pid beyond i32"))?;
        if self.child.try_wait()?.is_none() {
            kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        }
        self.finish(timeout, |_| {})
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the process cannot be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// The most memory that it has had at once, KiB (`VmHWM`); `None` once it has ended.
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }

    /// The last lines of the log, for an error message.
    #[must_use]
    pub fn tail(&self) -> String {
        tail_of(&self.log, 15)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or does not exit with 0; the message has its error output.
pub fn run(mut command: Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}:\n{errors}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn tail_of(log: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_arrive_and_the_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut child =
            Process::spawn("a", shell("echo one; echo two; exit 3"), dir.path()).unwrap();
        let two = child.wait_for("two", Duration::from_secs(10), |line| {
            (line == "two").then(|| line.to_owned())
        });
        assert_eq!(two.unwrap(), "two");
        assert_eq!(
            child
                .finish(Duration::from_secs(10), |_| {})
                .unwrap()
                .code(),
            Some(3)
        );
    }

    #[test]
    fn a_child_that_says_nothing_is_an_error_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let child = Process::spawn("b", shell("echo other"), dir.path()).unwrap();
        let error = child
            .wait_for("greeting", Duration::from_secs(10), |_| None::<()>)
            .unwrap_err();
        assert!(
            error.to_string().contains("ended before greeting"),
            "{error}"
        );
    }

    #[test]
    fn a_failed_command_reports_its_error_output() {
        let error = run(shell("echo reason >&2; exit 1")).unwrap_err();
        assert!(error.to_string().contains("reason"));
    }
}

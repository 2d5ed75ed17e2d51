//! Applications as Linux processes: the slot's bytes in a memory file, executed, with one end of a
//! packet socket pair as file descriptor 3.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tracing::{debug, warn};
use uds::time::Instant;

use crate::application::{Application, Exit, Launcher};
use crate::link::{APP_FD, MAX_LEN, Message};

/// Starts processes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Processes;

impl Launcher for Processes {
    type Application = Process;

    fn launch(&mut self, _now: Instant, image: &[u8]) -> Process {
        let running = spawn(image)
            .inspect_err(|error| warn!("the slot's program does not start: {error}"))
            .ok();
        Process {
            exit: running.is_none().then_some(Exit::NotStarted),
            running,
            closed: false,
            packet: [0; MAX_LEN],
        }
    }
}

/// A running process. Dropping it kills it, as a reset ends whatever runs.
#[derive(Debug)]
pub struct Process {
    running: Option<Running>,
    exit: Option<Exit>,
    /// Its end of the socket is closed: it has ended, or is about to.
    closed: bool,
    packet: [u8; MAX_LEN],
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    socket: OwnedFd,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which is fine; either way it is waited for.
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

/// Starts the program in `image`.
fn spawn(image: &[u8]) -> std::io::Result<Running> {
    let program = program_file(image)?;
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    let mut actions = PosixSpawnFileActions::init()?;
    actions.add_dup2(theirs.as_raw_fd(), APP_FD)?;
    let attributes = PosixSpawnAttr::init()?;
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let arguments: [&CStr; 1] = [c"ecu-app"];
    let environment: [&CStr; 0] = [];
    let pid = posix_spawn(
        path.as_str(),
        &actions,
        &attributes,
        &arguments,
        &environment,
    )?;
    debug!(%pid, bytes = image.len(), "application started");
    Ok(Running { pid, socket: ours })
}

/// The program as a file that only exists in memory. It is open for reading alone, since a file
/// open for writing is not executed, and not where the socket will be.
fn program_file(image: &[u8]) -> std::io::Result<File> {
    let mut writer = File::from(memfd_create(c"slot", MFdFlags::MFD_CLOEXEC)?);
    writer.write_all(image)?;
    let reader = File::open(format!("/proc/self/fd/{}", writer.as_raw_fd()))?;
    drop(writer);
    if reader.as_raw_fd() == APP_FD {
        return reader.try_clone();
    }
    Ok(reader)
}

impl Process {
    /// Its socket, to wait for packets; `None` once it is known to have ended.
    #[must_use]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.socket.as_fd())
    }
}

impl Application for Process {
    fn handle_message(&mut self, _now: Instant, message: &Message<'_>) {
        let mut buffer = [0; MAX_LEN];
        let Some(running) = &self.running else { return };
        let Some(packet) = message
            .encode(&mut buffer)
            .and_then(|len| buffer.get(..len))
        else {
            return;
        };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // A program that hangs fills its queue, one that ended closes it: its watchdog or its end
        // is noticed elsewhere.
        if let Err(error) = send(running.socket.as_raw_fd(), packet, flags) {
            debug!("message to the application lost: {error}");
        }
    }

    fn poll_packet(&mut self, _now: Instant) -> Option<&[u8]> {
        let socket = self.running.as_ref()?.socket.as_raw_fd();
        loop {
            match recv(socket, &mut self.packet, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => {
                    self.closed = true;
                    return None;
                }
                Ok(len) => return self.packet.get(..len),
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_exit(&mut self) -> Option<Exit> {
        if self.exit.is_none()
            && let Some(running) = &self.running
        {
            // A closed socket comes a moment before the end that it announces.
            let flags = (!self.closed).then_some(WaitPidFlag::WNOHANG);
            if self.closed {
                let _ = kill(running.pid, Signal::SIGKILL);
            }
            self.exit = match waitpid(running.pid, flags) {
                Ok(WaitStatus::Exited(_, code)) => Some(Exit::Code(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(Exit::Signal(signal as i32)),
                Ok(_) => None,
                Err(error) => {
                    warn!("the application cannot be waited for: {error}");
                    Some(Exit::NotStarted)
                }
            };
        }
        self.exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first packet of `script`, run as a program with its socket on descriptor 3.
    fn exit_of(image: &[u8]) -> Exit {
        let mut process = Processes.launch(Instant::ZERO, image);
        loop {
            if let Some(exit) = process.poll_exit() {
                return exit;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_slot_is_executed_and_its_end_is_seen() {
        let program = |name: &str| std::fs::read(format!("/bin/{name}")).unwrap();
        assert_eq!(exit_of(&program("true")), Exit::Code(0));
        assert_eq!(exit_of(&program("false")), Exit::Code(1));
    }

    #[test]
    fn bytes_that_are_no_program_do_not_start() {
        assert_eq!(exit_of(&[0xFF; 100]), Exit::NotStarted);
    }

    #[test]
    fn dropping_a_process_ends_it() {
        let cat = std::fs::read("/bin/cat").unwrap();
        let process = Processes.launch(Instant::ZERO, &cat);
        let pid = process.running.as_ref().unwrap().pid;
        drop(process);
        assert_eq!(kill(pid, None), Err(Errno::ESRCH));
    }
}

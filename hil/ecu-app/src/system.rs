//! The few system calls that the program needs, and the loop that drives the application by them.

use core::ffi::{c_int, c_void};
use uds::time::{Duration, Instant};

use crate::app::{App, Fate, Host};
use crate::config::Config;
use crate::link::{APP_FD, BootInfo, MAX_LEN, Message};

/// The block as it stands in the file, to be written after linking.
#[used]
static BLOCK: [u8; 32] = *b"CANOPUS-APP-CFG1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Reads the block as it is now, not as it was compiled.
#[allow(unsafe_code)]
fn block() -> [u8; 32] {
    // SAFETY: the pointer is that of a live, aligned static; the read is volatile because the
    // bytes were changed behind the compiler's back.
    unsafe { core::ptr::read_volatile(&raw const BLOCK) }
}

/// The inherited socket.
struct Socket;

impl Host for Socket {
    fn send(&mut self, message: &Message<'_>) {
        let mut buffer = [0; MAX_LEN];
        if let Some(len) = message.encode(&mut buffer)
            && let Some(packet) = buffer.get(..len)
        {
            send(packet);
        }
    }
}

/// Runs the application until the ECU resets it.
pub(crate) fn run() -> c_int {
    die_with_parent();
    let mut buffer = [0; MAX_LEN];
    let Some(info) = boot_info(&mut buffer) else {
        return 1;
    };
    let mut app = App::new(now(), Config::of_block(block()), info);
    loop {
        match app.fate() {
            Some(Fate::Crash) => crash(),
            Some(Fate::Hang) => hang(),
            Some(Fate::Exit) => return 1,
            None => {}
        }
        match wait_until(app.deadline()) {
            Ready::Closed => return 0,
            Ready::Packet => {
                while let Some(packet) = receive(&mut buffer) {
                    if packet.is_empty() {
                        return 0;
                    }
                    app.handle_packet(now(), packet, &mut Socket);
                }
            }
            Ready::Timeout => {}
        }
        app.handle_timeout(now(), &mut Socket);
    }
}

/// The first packet of the virtual ECU.
fn boot_info(buffer: &mut [u8]) -> Option<BootInfo> {
    let deadline = now() + Duration::from_secs(5);
    match wait_until(deadline) {
        Ready::Packet => match Message::parse(receive(buffer)?)? {
            Message::BootInfo(info) => Some(info),
            _ => None,
        },
        Ready::Timeout | Ready::Closed => None,
    }
}

/// An ECU that loses power takes its application along, also one that hangs.
#[allow(unsafe_code)]
fn die_with_parent() {
    // SAFETY: the call changes an attribute of this process and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// What waiting ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    /// A packet can be read.
    Packet,
    /// The time is over.
    Timeout,
    /// The ECU is gone.
    Closed,
}

/// Microseconds of the monotonic clock.
#[allow(unsafe_code)]
fn now() -> Instant {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec for the call to fill.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_micros(
        seconds
            .saturating_mul(1_000_000)
            .saturating_add(nanoseconds / 1000),
    )
}

/// Waits for a packet, at most until `deadline`.
#[allow(unsafe_code)]
fn wait_until(deadline: Instant) -> Ready {
    let micros = deadline.saturating_since(now()).as_micros();
    let millis = c_int::try_from(micros.div_ceil(1000)).unwrap_or(c_int::MAX);
    let mut poll = libc::pollfd {
        fd: APP_FD,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd is passed.
    let count = unsafe { libc::poll(&raw mut poll, 1, millis) };
    match (count, poll.revents & libc::POLLIN != 0) {
        (0, _) => Ready::Timeout,
        (1, true) => Ready::Packet,
        _ => Ready::Closed,
    }
}

/// Reads one packet into `buffer` if there is one; its bytes, `None` otherwise. An empty slice means
/// that the ECU is gone.
#[allow(unsafe_code)]
fn receive(buffer: &mut [u8]) -> Option<&[u8]> {
    let data = buffer.as_mut_ptr().cast::<c_void>();
    // SAFETY: `data` points to `buffer.len()` writable bytes.
    let len = unsafe { libc::recv(APP_FD, data, buffer.len(), libc::MSG_DONTWAIT) };
    usize::try_from(len).ok().and_then(|len| buffer.get(..len))
}

/// Sends one packet; waits while the ECU's queue is full.
#[allow(unsafe_code)]
fn send(packet: &[u8]) {
    let data = packet.as_ptr().cast::<c_void>();
    // SAFETY: `data` points to `packet.len()` readable bytes.
    let sent = unsafe { libc::send(APP_FD, data, packet.len(), libc::MSG_NOSIGNAL) };
    if sent < 0 {
        // Nobody is left to work for.
        exit(0);
    }
}

/// Ends the program.
#[allow(unsafe_code)]
fn exit(code: c_int) -> ! {
    // SAFETY: nothing has to be run or flushed at the end.
    unsafe { libc::_exit(code) }
}

/// Ends the program as a fault would.
#[allow(unsafe_code)]
pub(crate) fn crash() -> ! {
    // SAFETY: aborting is what a crash is.
    unsafe { libc::abort() }
}

/// Stays without doing anything, as a deadlock would.
#[allow(unsafe_code)]
fn hang() -> ! {
    loop {
        // SAFETY: pausing has no preconditions.
        unsafe { libc::pause() };
    }
}

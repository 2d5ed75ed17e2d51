//! Deadlines to the microsecond. Tokio's own timer counts milliseconds, and STmin goes down to
//! 100 µs.

use crate::now;
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use uds::time::Instant;

/// One deadline at a time, on a timerfd.
pub(crate) struct Timer {
    fd: AsyncFd<Fd>,
    armed: Option<Instant>,
}

struct Fd(TimerFd);

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Timer {
    #[allow(deprecated)] // The same without unsafe code; `Fd` keeps its descriptor for life.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self {
            fd: AsyncFd::with_interest(Fd(fd), Interest::READABLE)?,
            armed: None,
        })
    }

    /// Ends at `deadline`, never where there is none. Cancelling loses nothing.
    pub(crate) async fn until(&mut self, deadline: Option<Instant>) {
        let Some(at) = deadline else {
            return std::future::pending().await;
        };
        if self.armed != Some(at) {
            let left = at.saturating_since(now()).as_micros();
            let left = i64::try_from(left).unwrap_or(i64::MAX / 1000);
            if left == 0 {
                return;
            }
            let alarm = Expiration::OneShot(TimeSpec::microseconds(left));
            if self
                .fd
                .get_ref()
                .0
                .set(alarm, TimerSetTimeFlags::empty())
                .is_err()
            {
                return; // Too early is harmless: the caller looks at the clock.
            }
            self.armed = Some(at);
        }
        loop {
            let Ok(mut ready) = self.fd.readable().await else {
                return;
            };
            if ready.try_io(|fd| Ok(fd.get_ref().0.wait()?)).is_ok() {
                self.armed = None;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uds::time::Duration;

    #[tokio::test]
    async fn deadlines_are_met_and_can_be_moved() {
        let mut timer = Timer::new().unwrap();
        let start = now();
        let later = start + Duration::from_secs(3600);
        let soon = start + Duration::from_micros(300);
        tokio::select! {
            biased;
            () = timer.until(Some(later)) => panic!("an hour is not over"),
            () = std::future::ready(()) => {}
        }
        timer.until(Some(soon)).await;
        assert!(now() >= soon);
        timer.until(Some(soon)).await;
    }
}

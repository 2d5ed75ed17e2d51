//! What systemd wants to hear from a service: `sd_notify(3)`, datagrams to the socket that
//! `NOTIFY_SOCKET` names. Without the variable nobody listens, and nothing is sent.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    status: String,
}

impl Notifier {
    /// As the environment says.
    #[must_use]
    pub fn from_env() -> Self {
        let own = |pid: OsString| pid.to_str() == Some(&std::process::id().to_string());
        let for_us = std::env::var_os("WATCHDOG_PID").is_none_or(own);
        let usec = std::env::var("WATCHDOG_USEC").ok().filter(|_| for_us);
        Self::new(
            std::env::var_os("NOTIFY_SOCKET").as_deref(),
            usec.as_deref(),
        )
    }

    /// `socket` is a path, or a name in the abstract namespace after `@`; `usec` the longest time
    /// between two signs of life.
    #[must_use]
    pub fn new(socket: Option<&OsStr>, usec: Option<&str>) -> Self {
        let address = socket.and_then(|name| match name.as_bytes().split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name).ok(),
            _ => SocketAddr::from_pathname(name).ok(),
        });
        let usec = usec.and_then(|usec| usec.parse().ok());
        Self {
            socket: address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address))),
            watchdog: usec.filter(|usec| *usec > 0).map(Duration::from_micros),
            status: String::new(),
        }
    }

    /// How often [`Notifier::alive`] is due: twice as often as systemd asks for it.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|longest| longest / 2)
    }

    /// The service can be used.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The service ends on its own accord.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// What `systemctl status` shows; the same text is said once.
    pub fn status(&mut self, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            self.send(&format!("STATUS={}", status.replace('\n', " ")));
        }
    }

    /// Nobody is told of a failure: the service must go on without its manager.
    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::debug!(%error, message, "systemd was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_what_it_must() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let mut notifier = Notifier::new(Some(path.as_os_str()), Some("30000000"));
        notifier.ready();
        notifier.status("staging\n1 of 6");
        notifier.status("staging\n1 of 6");
        notifier.alive();
        notifier.stopping();
        let mut buffer = [0; 100];
        for expected in [
            "READY=1",
            "STATUS=staging 1 of 6",
            "WATCHDOG=1",
            "STOPPING=1",
        ] {
            let length = listener.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
        assert_eq!(notifier.watchdog(), Some(Duration::from_secs(15)));
    }

    #[test]
    fn a_name_in_the_abstract_namespace_is_one_too() {
        let name = format!("canopus-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::new(Some(OsStr::new(&format!("@{name}"))), None).ready();
        let mut buffer = [0; 100];
        assert_eq!(listener.recv(&mut buffer).unwrap(), 7);
    }

    #[test]
    fn without_systemd_nothing_happens() {
        for socket in [None, Some(OsStr::new("")), Some(OsStr::new("/no/socket"))] {
            let mut notifier = Notifier::new(socket, Some("0"));
            notifier.ready();
            notifier.status("x");
            assert_eq!(notifier.watchdog(), None);
        }
    }
}

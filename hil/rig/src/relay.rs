//! A relay between TCU and backend that lets as many bytes of answers through as it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::{Context, Result};

/// The relay. Its connections are cut when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    gate: Arc<Gate>,
}

/// What may pass.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<Open>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    bytes: usize,
    ended: bool,
}

impl Relay {
    /// A relay to the server at `url`, through which no answer passes yet.
    ///
    /// # Errors
    /// When `url` names no port, or no port is free.
    pub fn start(url: &str) -> Result<Self> {
        let port = url
            .rsplit(':')
            .next()
            .map(|port| port.trim_end_matches('/'));
        let port = port.and_then(|port| port.parse().ok());
        let server = SocketAddr::from(([127, 0, 0, 1], port.context("a URL with a port")?));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let gate = Arc::new(Gate::default());
        let seen = gate.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if seen.lock().ended {
                    break;
                }
                let gate = seen.clone();
                if let Ok(server) = TcpStream::connect(server) {
                    std::thread::spawn(move || forward(&client, &server, &gate));
                }
            }
        });
        Ok(Self { address, gate })
    }

    /// Where the server is reached through it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// So many more bytes of answers may pass.
    pub fn let_through(&self, bytes: usize) {
        let mut open = self.gate.lock();
        open.bytes = open.bytes.saturating_add(bytes);
        self.gate.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.gate.lock().ended = true;
        self.gate.changed.notify_all();
        // So that the listener looks; where that fails it has ended already.
        let _ = TcpStream::connect(self.address);
    }
}

impl Gate {
    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes leave for at most `wanted` bytes, once there is any; `None` when the relay has ended.
    fn take(&self, wanted: usize) -> Option<usize> {
        let mut open = self.lock();
        while open.bytes == 0 && !open.ended {
            open = self
                .changed
                .wait(open)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let taken = open.bytes.min(wanted);
        open.bytes -= taken;
        (!open.ended).then_some(taken)
    }
}

/// Forwards requests as they come, answers as the gate allows.
fn forward(client: &TcpStream, server: &TcpStream, gate: &Gate) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut from, mut to) = (client, server);
            let _ = std::io::copy(&mut from, &mut to);
            let _ = server.shutdown(Shutdown::Both);
        });
        let (mut from, mut to) = (server, client);
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            if pass(&mut to, &buffer[..len], gate).is_none() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    });
}

fn pass(to: &mut impl Write, mut bytes: &[u8], gate: &Gate) -> Option<()> {
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(gate.take(bytes.len())?);
        to.write_all(now).ok()?;
        bytes = later;
    }
    Some(())
}

//! The machine on the real clock: one link, one application process, one loop.

use std::io::Write;

use can_link::{FrameLink, LinkError, LinkOptions, now};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::signal::unix::{Signal, SignalKind, signal};
use uds::can::{CanId, Format, Frame};
use uds::time::Instant;

use crate::cli::ExitCode;
use crate::event::{Event, cause_name, reason_name, slot_name};
use crate::machine::Machine;
use crate::process::Processes;

/// Frames taken from the bus in one turn: the application is heard in between.
const FRAMES_PER_TURN: usize = 64;

/// Where events are reported.
#[derive(Debug)]
pub struct Output<W> {
    json: bool,
    to: W,
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Boot {
        slot: Option<&'static str>,
        reason: &'static str,
    },
    Reset {
        cause: &'static str,
    },
    ApplicationEnded {
        how: String,
    },
    PowerCut {
        operation: u64,
    },
}

impl<W: Write> Output<W> {
    /// Lines of JSON or of text.
    pub const fn new(json: bool, to: W) -> Self {
        Self { json, to }
    }

    fn event(&mut self, event: &Event) -> std::io::Result<()> {
        if self.json {
            let line = match *event {
                Event::Boot { slot, reason } => Line::Boot {
                    slot: slot.map(slot_name),
                    reason: reason_name(reason),
                },
                Event::Reset { cause } => Line::Reset {
                    cause: cause_name(cause),
                },
                Event::ApplicationEnded(exit) => Line::ApplicationEnded {
                    how: exit.to_string(),
                },
                Event::PowerCut { operation } => Line::PowerCut { operation },
            };
            serde_json::to_writer(&mut self.to, &line)?;
            writeln!(self.to)?;
        } else {
            writeln!(self.to, "{event}")?;
        }
        self.to.flush()
    }
}

/// Runs the machine on the bus `link` until a signal or a power cut ends it.
///
/// # Errors
/// Those of the bus.
pub fn run<W: Write>(
    machine: Machine<Processes>,
    link: &str,
    standstill: Option<CanId>,
    output: Output<W>,
) -> Result<ExitCode, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let fd = matches!(machine.hardware().connection().format, Format::Fd { .. });
        let options = LinkOptions {
            fd,
            ..LinkOptions::default()
        };
        let link = FrameLink::open(link, &options)?;
        let driver = Driver {
            machine,
            link,
            standstill,
            output,
            unsent: None,
            application: None,
            ended: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ],
        };
        driver.run().await
    })
}

/// The bus failed, or the system did.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The bus.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

struct Driver<W> {
    machine: Machine<Processes>,
    link: FrameLink,
    standstill: Option<CanId>,
    output: Output<W>,
    /// A frame for which the bus had no room.
    unsent: Option<Frame>,
    /// The application's socket, and the boot that it belongs to.
    application: Option<(u64, UnixDatagram)>,
    ended: [Signal; 2],
}

impl<W: Write> Driver<W> {
    async fn run(mut self) -> Result<ExitCode, RunError> {
        self.machine.power_on(now());
        loop {
            self.receive()?;
            self.machine.handle_timeout(now());
            self.transmit()?;
            while let Some(event) = self.machine.poll_event() {
                self.output.event(&event)?;
                if matches!(event, Event::PowerCut { .. }) {
                    return Ok(ExitCode::PowerCut);
                }
            }
            self.watch_application()?;
            if self.wait().await? {
                return Ok(ExitCode::Ok);
            }
        }
    }

    fn receive(&mut self) -> Result<(), LinkError> {
        for _ in 0..FRAMES_PER_TURN {
            match self.link.try_recv()? {
                Some(received) => self.frame(received.at, &received.frame),
                None => break,
            }
        }
        Ok(())
    }

    fn frame(&mut self, at: Instant, frame: &Frame) {
        if Some(frame.id()) == self.standstill {
            let still = frame.data().first() != Some(&0);
            self.machine.set_standstill(at, still);
        }
        self.machine.handle_frame(at, frame);
    }

    fn transmit(&mut self) -> Result<(), LinkError> {
        loop {
            let next = self.unsent.take();
            let Some(frame) = next.or_else(|| self.machine.poll_transmit(now())) else {
                return Ok(());
            };
            if !self.link.try_send(&frame)? {
                self.unsent = Some(frame);
                return Ok(());
            }
        }
    }

    /// Registers the socket of an application that has been started since.
    fn watch_application(&mut self) -> std::io::Result<()> {
        let boots = self.machine.boots();
        let socket = self.machine.application().and_then(|app| app.socket());
        match socket {
            None => self.application = None,
            Some(_)
                if self
                    .application
                    .as_ref()
                    .is_some_and(|(boot, _)| *boot == boots) => {}
            Some(socket) => {
                // Only its readiness is used, which packets and datagrams have alike.
                let socket = std::os::unix::net::UnixDatagram::from(socket.try_clone_to_owned()?);
                socket.set_nonblocking(true)?;
                let socket = UnixDatagram::from_std(socket)?;
                self.application = Some((boots, socket));
            }
        }
        Ok(())
    }

    /// Until something happens; whether it is the end.
    async fn wait(&mut self) -> Result<bool, RunError> {
        let deadline = self.machine.poll_timeout();
        let left = deadline.map(|deadline| deadline.saturating_since(now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        let [terminate, interrupt] = &mut self.ended;
        tokio::select! {
            received = self.link.recv() => {
                let received = received?;
                self.frame(received.at, &received.frame);
            }
            ready = readable(self.application.as_ref()) => ready?,
            sendable = self.link.sendable(), if self.unsent.is_some() => sendable?,
            () = sleep(left) => {}
            _ = terminate.recv() => return Ok(true),
            _ = interrupt.recv() => return Ok(true),
        }
        Ok(false)
    }
}

async fn readable(application: Option<&(u64, UnixDatagram)>) -> std::io::Result<()> {
    match application {
        Some((_, socket)) => {
            socket.readable().await?;
            // Whoever is told reads everything there is: the next edge is the next packet.
            let _ = socket.try_io(Interest::READABLE, || {
                Err::<(), _>(std::io::ErrorKind::WouldBlock.into())
            });
            Ok(())
        }
        None => std::future::pending().await,
    }
}

async fn sleep(left: Option<std::time::Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}

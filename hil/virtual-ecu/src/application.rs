//! Whatever runs in a slot, as the machine talks to it.

use std::fmt;

use uds::time::Instant;

use crate::link::Message;

/// How an application ended. Every end is abnormal: an application that wants a reset asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// It could not be started at all.
    NotStarted,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::NotStarted => f.write_str("could not be started"),
        }
    }
}

/// A running application. Dropping it ends it, as a reset does.
///
/// Messages are those of [`crate::link`]; the first one to the application is the boot info.
pub trait Application {
    /// A message to it. One that finds its queue full is lost, as in a full receive FIFO.
    fn handle_message(&mut self, now: Instant, message: &Message<'_>);

    /// The next packet from it, encoded; valid until the next call.
    fn poll_packet(&mut self, now: Instant) -> Option<&[u8]>;

    /// Lets it do what its clock has made due. Without effect on one that has its own clock.
    fn handle_timeout(&mut self, now: Instant);

    /// When it wants [`Application::handle_timeout`].
    fn poll_timeout(&self) -> Option<Instant>;

    /// How it ended, once it has.
    fn poll_exit(&mut self) -> Option<Exit>;
}

/// Starts applications.
pub trait Launcher {
    /// What it starts.
    type Application: Application;

    /// Starts the program whose bytes are `image`, exactly those of the slot. One that cannot be
    /// started is an application whose [`Application::poll_exit`] says so.
    fn launch(&mut self, now: Instant, image: &[u8]) -> Self::Application;
}

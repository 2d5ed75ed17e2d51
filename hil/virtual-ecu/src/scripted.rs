//! Applications in virtual time: the same application machine that `ecu-app` runs on Linux, driven
//! by the caller's clock and chosen by the configuration block in the slot's bytes.

use std::collections::VecDeque;

use uds::time::Instant;

use crate::app::{BLOCK_LEN, MAGIC};
use crate::application::{Application, Exit, Launcher};
use crate::link::{MAX_LEN, Message};

// One application: `ecu-app` is `no_std` and a workspace of its own, so its modules are shared as
// files rather than as a crate.
#[allow(unreachable_pub)]
#[path = "../../ecu-app/src/app.rs"]
mod app;
#[path = "../../ecu-app/src/config.rs"]
mod config;
#[path = "../../ecu-app/src/diagnostics.rs"]
mod diagnostics;
use crate::link;
#[path = "../../ecu-app/src/mailbox.rs"]
mod mailbox;
#[path = "../../ecu-app/src/services.rs"]
mod services;

/// Starts scripted applications.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scripts;

impl Launcher for Scripts {
    type Application = Scripted;

    fn launch(&mut self, _now: Instant, image: &[u8]) -> Scripted {
        let block = image
            .windows(BLOCK_LEN)
            .find(|window| window.starts_with(&MAGIC))
            .and_then(|block| block.first_chunk().copied());
        Scripted {
            state: block.map_or(State::Ended(Exit::NotStarted), State::Waiting),
            outbox: Outbox::default(),
            last: Vec::new(),
        }
    }
}

/// A scripted application.
pub struct Scripted {
    state: State,
    outbox: Outbox,
    last: Vec<u8>,
}

enum State {
    /// For the boot info.
    Waiting([u8; BLOCK_LEN]),
    Running(Box<app::App>),
    /// It does nothing, and its clock does not wake it.
    Hanging,
    Ended(Exit),
}

#[derive(Default)]
struct Outbox(VecDeque<Vec<u8>>);

impl app::Host for Outbox {
    fn send(&mut self, message: &Message<'_>) {
        if let Some(packet) = encode(message) {
            self.0.push_back(packet);
        }
    }
}

fn encode(message: &Message<'_>) -> Option<Vec<u8>> {
    let mut buffer = [0; MAX_LEN];
    let len = message.encode(&mut buffer)?;
    buffer.get(..len).map(<[u8]>::to_vec)
}

impl Scripted {
    /// Follows the application into its end.
    fn settle(&mut self) {
        let State::Running(app) = &self.state else {
            return;
        };
        self.state = match app.fate() {
            None => return,
            Some(app::Fate::Crash) => State::Ended(Exit::Signal(6)),
            Some(app::Fate::Exit) => State::Ended(Exit::Code(1)),
            Some(app::Fate::Hang) => State::Hanging,
        };
    }
}

impl Application for Scripted {
    fn handle_message(&mut self, now: Instant, message: &Message<'_>) {
        match (&mut self.state, message) {
            (State::Waiting(block), Message::BootInfo(info)) => {
                let config = config::Config::of_block(*block);
                self.state = State::Running(Box::new(app::App::new(now, config, *info)));
            }
            (State::Running(app), message) => {
                if let Some(packet) = encode(message) {
                    app.handle_packet(now, &packet, &mut self.outbox);
                }
            }
            _ => {}
        }
        self.settle();
    }

    fn poll_packet(&mut self, _now: Instant) -> Option<&[u8]> {
        self.last = self.outbox.0.pop_front()?;
        Some(&self.last)
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let State::Running(app) = &mut self.state
            && now >= app.deadline()
        {
            app.handle_timeout(now, &mut self.outbox);
        }
        self.settle();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Running(app) => Some(app.deadline()),
            State::Waiting(_) | State::Hanging | State::Ended(_) => None,
        }
    }

    fn poll_exit(&mut self) -> Option<Exit> {
        match self.state {
            State::Ended(exit) => Some(exit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppConfig, Behaviour, scripted};
    use ecu_bootloader::mailbox::{Reply, Request};
    use uds::can::CanId;

    /// How often the application says that its self-test has passed until nothing is left to say,
    /// if each time it is refused.
    fn insists(app: &mut Scripted, now: Instant) -> usize {
        let mut refused = [0; 16];
        let len = Reply::Refused.encode(&mut refused).unwrap();
        let mut times = 0;
        while let Some(packet) = app.poll_packet(now).map(<[u8]>::to_vec) {
            let Some(Message::MailboxRequest(request)) = Message::parse(&packet) else {
                continue;
            };
            if Request::parse(request) == Some(Request::SelfTestPassed) {
                times += 1;
                assert!(times < 10, "it asks again at once, for ever");
                app.handle_message(now, &Message::MailboxReply(&refused[..len]));
            }
        }
        times
    }

    /// As after a revert, of which only the reset is missing.
    #[test]
    fn an_application_that_is_not_believed_waits_before_it_says_so_again() {
        let config = AppConfig::new("1.0.0", Behaviour::Good).unwrap();
        let mut app = Scripts.launch(Instant::ZERO, &scripted(&config, 1000).unwrap());
        let id = |raw| CanId::standard(raw).unwrap();
        let info = link::BootInfo {
            request_id: id(0x7E0),
            response_id: id(0x7E8),
            functional_id: id(0x7DF),
            heartbeat_id: id(0x700),
            fd: false,
            reason: 1,
        };
        app.handle_message(Instant::ZERO, &Message::BootInfo(info));
        let mut times = Vec::new();
        for _ in 0..100 {
            let now = app.poll_timeout().unwrap();
            app.handle_timeout(now);
            times.push(insists(&mut app, now));
        }
        assert!(times.iter().sum::<usize>() > 2, "{times:?}");
        assert!(times.iter().all(|times| *times <= 1), "{times:?}");
    }
}

//! The application's side of the mailbox: one request at a time, each waits for its reply.

use ecu_bootloader::mailbox::{Reply, Request};
use uds::service::{ServiceId, Session};

use super::app::Host;
use super::link::{MAX_LEN, Message};

/// Whose reply is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    SelfTest,
    Lock,
    Uds,
}

/// What is to be asked, in this order, and what has been.
pub(crate) struct Mailbox {
    asked: Option<Asked>,
    self_test_due: bool,
    /// The boot services refused it: asked again with the next heartbeat, not at once for ever.
    self_test_refused: bool,
    lock_due: bool,
    session: u8,
    pdu: [u8; MAX_LEN],
    pdu_len: usize,
}

impl Mailbox {
    pub(crate) const fn new() -> Self {
        Self {
            asked: None,
            self_test_due: false,
            self_test_refused: false,
            lock_due: false,
            session: 1,
            pdu: [0; MAX_LEN],
            pdu_len: 0,
        }
    }

    /// The self-test has passed.
    pub(crate) fn self_test_passed(&mut self) {
        self.self_test_due = true;
    }

    /// A heartbeat: what was refused before may be accepted now.
    pub(crate) fn heartbeat(&mut self) {
        self.self_test_due |= core::mem::take(&mut self.self_test_refused);
    }

    /// The session has changed, perhaps to the same one again: security access is locked.
    pub(crate) fn lock(&mut self) {
        self.lock_due = true;
    }

    /// A diagnostic request to pass on; `false` where it is too long.
    pub(crate) fn forward(&mut self, session: Session, pdu: &[u8]) -> bool {
        let Some(room) = self.pdu.get_mut(..pdu.len()) else {
            return false;
        };
        room.copy_from_slice(pdu);
        self.pdu_len = pdu.len();
        self.session = session.value();
        true
    }

    /// Sends the next request if none is under way.
    pub(crate) fn work(&mut self, host: &mut impl Host) {
        if self.asked.is_some() {
            return;
        }
        let lock = [
            ServiceId::DIAGNOSTIC_SESSION_CONTROL.0,
            Session::DEFAULT.value(),
        ];
        let (asked, request) = if self.self_test_due {
            self.self_test_due = false;
            (Asked::SelfTest, Request::SelfTestPassed)
        } else if self.lock_due {
            self.lock_due = false;
            // The boot services lock whenever they hear of another session than before.
            let session = Session::DEFAULT.value();
            let pdu = &lock;
            (Asked::Lock, Request::Uds { session, pdu })
        } else if self.pdu_len > 0 {
            let pdu = self.pdu.get(..self.pdu_len).unwrap_or(&[]);
            self.pdu_len = 0;
            let session = self.session;
            (Asked::Uds, Request::Uds { session, pdu })
        } else {
            return;
        };
        self.asked = Some(asked);
        send(host, &request);
    }

    /// The reply of the boot services: the response to a forwarded request, if it is one.
    pub(crate) fn on_reply<'a>(&mut self, message: &'a [u8]) -> Option<Reply<'a>> {
        let reply = Reply::parse(message)?;
        match self.asked.take()? {
            Asked::Uds => Some(reply),
            Asked::SelfTest => {
                self.self_test_refused = reply == Reply::Refused;
                None
            }
            Asked::Lock => None,
        }
    }
}

/// Sends a request that has no reply, or whose reply is awaited.
pub(crate) fn send(host: &mut impl Host, request: &Request<'_>) {
    let mut buffer = [0; MAX_LEN];
    if let Some(len) = request.encode(&mut buffer)
        && let Some(message) = buffer.get(..len)
    {
        host.send(&Message::MailboxRequest(message));
    }
}

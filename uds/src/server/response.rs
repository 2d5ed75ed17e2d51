//! What a server has to send: at most one final response and one short negative response.

use super::Outcome;
use crate::nrc::Nrc;
use crate::service::{ServiceId, Session, SubFunction};
use crate::time::{Duration, Instant};

/// The request being served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) sid: ServiceId,
    pub(super) functional: bool,
    pub(super) suppress: bool,
    /// A 0x78 was sent: the final response follows in any case (clause 7.5.3.4).
    pub(super) announced: bool,
    /// When the next 0x78 is due.
    pub(super) announce_at: Option<Instant>,
    sub_function: u8,
}

impl Running {
    pub(super) fn new(now: Instant, sid: ServiceId, functional: bool, p2: Duration) -> Self {
        Self {
            sid,
            functional,
            suppress: false,
            announced: false,
            announce_at: Some(now + half(p2)),
            sub_function: 0,
        }
    }

    pub(super) fn with(mut self, sub_function: Option<SubFunction>) -> Self {
        if let Some(sub_function) = sub_function {
            self.suppress = sub_function.suppress;
            self.sub_function = sub_function.value();
        }
        self
    }

    pub(super) fn session(&self) -> Option<Session> {
        Session::new(self.sub_function)
    }

    pub(super) fn announce_again(&mut self, now: Instant, p2_star: Duration) {
        if self.announced && self.announce_at.is_none() {
            self.announce_at = Some(now + half(p2_star));
        }
    }
}

fn half(duration: Duration) -> Duration {
    duration.checked_div(2).unwrap_or_default()
}

/// What is on its way to the tester. The short one is sent first: it is 0x78 or 0x21 and belongs to
/// the time before the final response.
#[derive(Debug)]
pub(super) struct Outbox<B> {
    response: B,
    len: usize,
    short: [u8; 3],
    short_waits: bool,
    sending: Option<Sending>,
    reset_when_sent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Short,
    Response,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Outbox<B> {
    pub(super) fn new(response: B) -> Self {
        Self {
            response,
            len: 0,
            short: [0; 3],
            short_waits: false,
            sending: None,
            reset_when_sent: false,
        }
    }

    /// Forgets what waits or is being sent.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.short_waits = false;
        self.sending = None;
        self.reset_when_sent = false;
    }

    pub(super) fn response_mut(&mut self) -> &mut [u8] {
        self.response.as_mut()
    }

    /// Whether anything waits or is being sent.
    pub(super) fn is_busy(&self) -> bool {
        self.short_waits || self.len > 0 || self.sending.is_some()
    }

    pub(super) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Queues a positive response of `len` bytes that the buffer holds from its second byte on.
    pub(super) fn positive(&mut self, sid: ServiceId, len: usize) {
        let response = self.response.as_mut();
        match response.first_mut() {
            Some(first) if len > 0 => *first = sid.response(),
            _ => return self.negative(sid, Nrc::GENERAL_REJECT),
        }
        if len > response.len() {
            return self.negative(sid, Nrc::RESPONSE_TOO_LONG);
        }
        self.len = len;
    }

    /// Queues `7F sid nrc` behind a transmission under way.
    #[inline(never)]
    pub(super) fn negative(&mut self, sid: ServiceId, nrc: Nrc) {
        self.short = [0x7F, sid.0, nrc.0];
        self.short_waits = true;
    }

    /// Queues 0x21 unless a short response already waits.
    pub(super) fn busy(&mut self, sid: ServiceId) {
        if !self.short_waits && self.sending.is_none() {
            self.negative(sid, Nrc::BUSY_REPEAT_REQUEST);
        }
    }

    pub(super) fn reset_when_sent(&mut self) {
        self.reset_when_sent = true;
    }

    pub(super) fn transmit(&mut self) -> Option<&[u8]> {
        if self.sending.is_some() {
            return None;
        }
        if core::mem::take(&mut self.short_waits) {
            self.sending = Some(Sending::Short);
            return Some(&self.short);
        }
        if self.len == 0 {
            return None;
        }
        self.sending = Some(Sending::Response);
        self.response.as_ref().get(..self.len)
    }

    /// Forgets what was sent; whether a reset is due now.
    pub(super) fn sent(&mut self) -> bool {
        match self.sending.take() {
            Some(Sending::Short) => {}
            Some(Sending::Response) => self.len = 0,
            None => return false,
        }
        !self.is_busy() && core::mem::take(&mut self.reset_when_sent)
    }
}

/// `7E 00` and its like: the sub-function alone.
pub(super) fn echo(response: &mut [u8], sub_function: u8) -> Outcome {
    match response.get_mut(1) {
        Some(byte) => {
            *byte = sub_function;
            Outcome::Positive(2)
        }
        None => Outcome::Negative(Nrc::RESPONSE_TOO_LONG),
    }
}

/// The duration in units of this many ms, at most what the field holds. Without a division of 64 or
/// 128 bits, as `as_millis` has one.
fn units(duration: Duration, millis: u32) -> u16 {
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let all = seconds
        .saturating_mul(1000)
        .saturating_add(duration.subsec_millis());
    let units = all.checked_div(millis).unwrap_or(u32::MAX);
    u16::try_from(units).unwrap_or(u16::MAX)
}

/// `50 session P2 P2*`, P2 in 1 ms and P2* in 10 ms (table 28); its length, or 0 without room.
pub(super) fn session(
    response: &mut [u8],
    session: Session,
    p2: Duration,
    p2_star: Duration,
) -> usize {
    let (p2, p2_star) = (units(p2, 1), units(p2_star, 10));
    let ([a, b], [c, d]) = (p2.to_be_bytes(), p2_star.to_be_bytes());
    match response.get_mut(1..6) {
        Some(bytes) => {
            bytes.copy_from_slice(&[session.value(), a, b, c, d]);
            6
        }
        None => 0,
    }
}

//! What is said to all ECUs of a bus: before programming stop fault memory and normal traffic,
//! afterwards resume them, and in between keep the sessions open in which they rest.

use std::collections::VecDeque;

use uds::service::{
    CommunicationControl, CommunicationMode, ControlDtcSetting, DiagnosticSessionControl, Pdu,
    Session, SubFunction, TesterPresent,
};
use uds::time::{Duration, Instant, earliest};

/// Between two functional requests: nobody answers them, so this is the ECUs' time to act.
const GAP: Duration = Duration::from_millis(20);
/// Well below S3_server.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// The functional requests of one bus.
#[derive(Debug, Default)]
pub(super) struct Bus {
    queue: VecDeque<Vec<u8>>,
    sending: bool,
    /// Nothing is sent before.
    not_before: Option<Instant>,
    /// While the bus is quiet.
    keep_alive: Option<Instant>,
}

impl Bus {
    /// `10 83`, `85 82`, `28 83 01`.
    pub(super) fn quiet(&mut self, now: Instant) {
        self.push(&DiagnosticSessionControl {
            session: Session::EXTENDED,
            suppress: true,
        });
        self.push(&dtc_setting(ControlDtcSetting::OFF));
        self.communication(CommunicationControl::DISABLE);
        self.keep_alive = Some(now + KEEP_ALIVE);
    }

    /// `28 80 01`, `85 81`.
    pub(super) fn wake(&mut self) {
        self.communication(CommunicationControl::ENABLE);
        self.push(&dtc_setting(ControlDtcSetting::ON));
        self.keep_alive = None;
    }

    /// Whether jobs on this bus may go on.
    pub(super) fn is_settled(&self) -> bool {
        self.queue.is_empty() && !self.sending && self.not_before.is_none()
    }

    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.sending || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let pdu = self.queue.pop_front()?;
        self.sending = true;
        Some(pdu)
    }

    /// The request is out, or lost: nobody would have answered.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.sending = false;
        self.not_before = Some(now + GAP);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.not_before.is_some_and(|at| now >= at) {
            self.not_before = None;
        }
        if self.keep_alive.is_some_and(|at| now >= at) {
            self.keep_alive = Some(now + KEEP_ALIVE);
            self.push(&TesterPresent { suppress: true });
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.not_before, self.keep_alive)
    }

    fn communication(&mut self, mode: u8) {
        let normal = CommunicationControl::NORMAL;
        let mode = CommunicationMode::Plain(mode);
        if let Some(request) = CommunicationControl::new(mode, normal, true) {
            self.push(&request);
        }
    }

    fn push<'a>(&mut self, request: &impl Pdu<'a>) {
        let mut pdu = [0; 8];
        if let Ok(len) = request.write(&mut pdu) {
            self.queue.extend(pdu.get(..len).map(<[u8]>::to_vec));
        }
    }
}

fn dtc_setting(value: u8) -> ControlDtcSetting<'static> {
    ControlDtcSetting {
        setting: SubFunction::new(value, true),
        record: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(bus: &mut Bus, mut now: Instant) -> Vec<String> {
        let mut sent = Vec::new();
        while !bus.is_settled() {
            if let Some(pdu) = bus.poll_transmit(now) {
                sent.push(hex::encode(pdu));
                bus.on_sent(now);
            }
            now = bus.not_before.unwrap_or(now);
            bus.handle_timeout(now);
        }
        sent
    }

    #[test]
    fn a_bus_falls_quiet_and_wakes_in_the_order_of_the_profile() {
        let mut bus = Bus::default();
        bus.quiet(Instant::ZERO);
        assert_eq!(drain(&mut bus, Instant::ZERO), ["1083", "8582", "288301"]);
        bus.handle_timeout(Instant::from_millis(2000));
        assert_eq!(drain(&mut bus, Instant::from_millis(2000)), ["3e80"]);
        bus.wake();
        assert_eq!(
            drain(&mut bus, Instant::from_millis(3000)),
            ["288001", "8581"]
        );
        assert_eq!(bus.poll_timeout(), None);
    }
}

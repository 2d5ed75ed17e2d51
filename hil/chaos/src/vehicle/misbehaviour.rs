//! ECUs that misbehave in the middle of a campaign.

use std::collections::VecDeque;

use rand::Rng;
use rand::rngs::StdRng;
use uds::can::Frame;
use uds::isotp::Config as IsoTpConfig;
use uds::time::{Duration, Instant};

/// How often a babbling ECU sends: less than the time of the shortest classical frame of 8 bytes at
/// 500 kbit/s, so that it alone fills its bus.
const BABBLE: Duration = Duration::from_micros(200);

/// What an ECU does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It says nothing any more.
    Vanishes,
    /// It sends random frames of its response identifier one after the other: whoever has a higher
    /// identifier says nothing any more.
    Babbles,
    /// It answers every request with 0x78, for ever.
    AlwaysPending,
    /// It answers every request with random bytes.
    AnswersNonsense,
}

/// An ECU that misbehaves.
pub(super) struct Hostile {
    kind: Misbehaviour,
    rng: StdRng,
    /// When it says 0x78 again, and to which service.
    again: Option<(Instant, u8)>,
    outbox: VecDeque<Frame>,
    /// Frames said so far.
    pub(super) said: u64,
}

impl Hostile {
    /// One that starts now.
    pub(super) fn new(kind: Misbehaviour, rng: StdRng, now: Instant) -> Self {
        let again = (kind == Misbehaviour::Babbles).then_some((now, 0));
        Self {
            kind,
            rng,
            again,
            outbox: VecDeque::new(),
            said: 0,
        }
    }

    /// When it says something by itself.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.again.map(|(at, _)| at)
    }

    /// Answers the beginning of a request to it.
    pub(super) fn handle_frame(&mut self, now: Instant, frame: &Frame, tester: &IsoTpConfig) {
        if frame.id() != tester.tx_id {
            return;
        }
        let (sid, is_first) = match uds::isotp::Pdu::parse(frame.data(), 0) {
            Ok(uds::isotp::Pdu::Single(data)) => (data.first().copied(), false),
            Ok(uds::isotp::Pdu::First { data, .. }) => (data.first().copied(), true),
            _ => return,
        };
        let sid = sid.unwrap_or(0);
        match self.kind {
            Misbehaviour::Vanishes | Misbehaviour::Babbles => {}
            _ if is_first => self.say(tester, &[0x30, 0, 0]),
            Misbehaviour::AlwaysPending => self.pending(now, sid, tester),
            Misbehaviour::AnswersNonsense => {
                let mut data = [0; 8];
                self.rng.fill_bytes(&mut data[1..]);
                data[0] = 7;
                self.say(tester, &data);
            }
        }
    }

    fn pending(&mut self, now: Instant, sid: u8, tester: &IsoTpConfig) {
        self.say(tester, &[3, 0x7F, sid, 0x78]);
        self.again = Some((now + Duration::from_secs(2), sid));
    }

    fn babble(&mut self, now: Instant, tester: &IsoTpConfig) {
        let mut data = [0; 8];
        self.rng.fill_bytes(&mut data);
        self.say(tester, &data);
        self.again = Some((now + BABBLE, 0));
    }

    pub(super) fn poll_transmit(&mut self, now: Instant, tester: &IsoTpConfig) -> Option<Frame> {
        if let Some((at, sid)) = self.again
            && now >= at
        {
            match self.kind {
                Misbehaviour::Babbles => self.babble(now, tester),
                _ => self.pending(now, sid, tester),
            }
        }
        self.outbox.pop_front()
    }

    fn say(&mut self, tester: &IsoTpConfig, data: &[u8]) {
        self.said += 1;
        self.outbox
            .extend(Frame::new(tester.rx_id, uds::can::Format::Classical, data));
    }
}

//! What a tester and the application say, and hear.

use std::time::Duration;

use ecu_bootloader::mailbox::{Handover, Reply, Request};
use uds::can::Frame;
use uds::isotp;

use super::{Bench, PowerLost, Response, ids, key_of};

impl Bench {
    /// Sends a request and waits for the final response.
    pub fn request(&mut self, pdu: &[u8]) -> Response {
        self.tester.send(self.now, pdu).unwrap();
        self.response()
    }

    /// Sends a request and waits no longer than this for its response.
    pub fn physical_within(&mut self, pdu: &[u8], time: Duration) -> Response {
        self.tester.send(self.now, pdu).unwrap();
        self.response_within(time)
    }

    /// Sends a request if the tester's transport is free; it may be what the ECU refuses to receive.
    pub fn attempt(&mut self, pdu: &[u8], functional: bool, time: Duration) -> Response {
        let sent = if functional {
            self.tester.send_functional(self.now, pdu)
        } else {
            self.tester.send(self.now, pdu)
        };
        if sent.is_err() {
            self.pass(Duration::from_millis(1500))?;
            return Ok(None);
        }
        self.response_within(time)
    }

    /// Waits for the end of what was asked before, and forgets the answers.
    pub fn quiet(&mut self) -> Result<(), PowerLost> {
        self.pass(Duration::from_secs(2))?;
        while self.tester.poll_event().is_some() {}
        Ok(())
    }

    /// Sends a request and waits only until it has arrived.
    pub fn send(&mut self, pdu: &[u8]) -> Result<(), PowerLost> {
        self.tester.send(self.now, pdu).unwrap();
        self.turn().map(drop)
    }

    /// Sends a functionally addressed request.
    pub fn functional(&mut self, pdu: &[u8]) -> Response {
        self.tester.send_functional(self.now, pdu).unwrap();
        self.response_within(Duration::from_millis(200))
    }

    /// The next final response within 6 s of the last sign of life.
    pub fn response(&mut self) -> Response {
        self.response_within(Duration::from_secs(6))
    }

    pub(super) fn response_within(&mut self, time: Duration) -> Response {
        let mut until = self.now + time;
        loop {
            let moved = self.turn()?;
            while let Some(event) = self.tester.poll_event() {
                if let isotp::Event::Received { .. } = event {
                    let pdu = self.tester.received().to_vec();
                    if pdu.first() == Some(&0x7F) && pdu.get(2) == Some(&0x78) {
                        self.pending_seen += 1;
                        until = self.now + Duration::from_secs(6);
                        continue;
                    }
                    return Ok(Some(pdu));
                }
            }
            if self.now >= until {
                return Ok(None);
            }
            if !moved {
                self.pass_to(until);
            }
        }
    }

    /// Puts one frame on the bus as it is.
    pub fn raw_frame(&mut self, frame: &Frame) -> Result<(), PowerLost> {
        self.ecu.handle_frame(self.now, frame);
        self.turn().map(drop)
    }

    /// A message of the running application and the reply to it.
    pub fn mailbox(&mut self, request: Request<'_>) -> Result<Vec<u8>, PowerLost> {
        let mut message = [0; 256];
        let len = request.encode(&mut message).unwrap();
        self.ecu.mailbox_request(self.now, &message[..len]);
        for _ in 0..100_000 {
            if let Some(reply) = self.ecu.poll_mailbox() {
                return Ok(reply.to_vec());
            }
            self.turn()?;
            if self.reset.is_some() {
                return Ok(Vec::new());
            }
        }
        panic!("no reply to {request:?}");
    }

    /// A UDS request through the mailbox, in the extended session; the response.
    pub fn app(&mut self, pdu: &[u8]) -> Result<Vec<u8>, PowerLost> {
        let reply = self.mailbox(Request::Uds { session: 3, pdu })?;
        match Reply::parse(&reply) {
            Some(Reply::Uds(pdu)) => Ok(pdu.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    /// Unlocks through the mailbox.
    pub fn app_unlock(&mut self) -> Result<(), PowerLost> {
        let seed = self.app(&[0x27, 1])?;
        let key = key_of(&seed[2..]);
        assert_eq!(self.app(&[&[0x27, 2], &key[..]].concat())?, [0x67, 2]);
        Ok(())
    }

    pub fn self_test_passed(&mut self) -> Result<bool, PowerLost> {
        let reply = self.mailbox(Request::SelfTestPassed)?;
        Ok(Reply::parse(&reply) == Some(Reply::Done))
    }

    /// From the running application into the programming session.
    pub fn enter_programming(&mut self) -> Result<(), PowerLost> {
        if self.booted.is_some() {
            let (request_id, response_id, _) = ids();
            self.mailbox(Request::EnterProgramming(Handover {
                request_id,
                response_id,
            }))?;
            self.follow_reset()?;
            let response = self.response()?.unwrap();
            assert_eq!(response, [0x50, 2, 0, 50, 1, 0xF4]);
        } else {
            assert_eq!(self.request(&[0x10, 2])?.unwrap()[..2], [0x50, 2]);
        }
        Ok(())
    }

    /// Unlocks, after the delay that earlier attempts have left.
    pub fn unlock(&mut self) -> Result<(), PowerLost> {
        let mut seed = self.request(&[0x27, 1])?.unwrap();
        while seed == [0x7F, 0x27, 0x37] {
            self.pass(Duration::from_secs(4))?;
            self.request(&[0x3E, 0])?;
            seed = self.request(&[0x27, 1])?.unwrap();
        }
        assert_eq!(seed[..2], [0x67, 1], "{seed:02X?}");
        let key = key_of(&seed[2..]);
        let answer = self.request(&[&[0x27, 2], &key[..]].concat())?.unwrap();
        assert_eq!(answer, [0x67, 2]);
        Ok(())
    }
}

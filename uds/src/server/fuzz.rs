//! What a fuzzer runs on the server: hostile requests at any time.

use super::{
    Addressing, Config, Context, Handler, Length, Outcome, SecurityConfig, Server, ServiceEntry,
    SubFunctionEntry,
};
use crate::nrc::Nrc;
use crate::service::{SecurityLevel, ServiceId, Session};
use crate::time::{Duration, Instant};

const ALL: &[Session] = &[Session::DEFAULT, Session::PROGRAMMING, Session::EXTENDED];
const ANY: Length = Length::at_least(0);
const SUB_FUNCTIONS: &[SubFunctionEntry] = &[
    SubFunctionEntry::new(0, ALL, ANY).functional(),
    SubFunctionEntry::new(1, ALL, ANY),
    SubFunctionEntry::new(2, ALL, ANY),
    SubFunctionEntry::new(3, ALL, ANY).functional(),
];
const SERVICES: &[ServiceEntry] = &[
    ServiceEntry::with_sub_functions(ServiceId::DIAGNOSTIC_SESSION_CONTROL, ALL, SUB_FUNCTIONS),
    ServiceEntry::with_sub_functions(ServiceId::SECURITY_ACCESS, ALL, SUB_FUNCTIONS),
    ServiceEntry::with_sub_functions(ServiceId::TESTER_PRESENT, ALL, SUB_FUNCTIONS),
    ServiceEntry::new(ServiceId::TRANSFER_DATA, ALL, ANY).secured(SecurityLevel::ONE),
    ServiceEntry::new(ServiceId::READ_DATA_BY_IDENTIFIER, ALL, ANY).functional(),
];

/// Does what the last byte of the request says.
struct Puppet;

impl Handler for Puppet {
    fn handle(&mut self, _: Instant, _: Context, request: &[u8], _: &mut [u8]) -> Outcome {
        match request.last().copied().unwrap_or(0) {
            0 => Outcome::Pending,
            1 => Outcome::PendingLong,
            2 => Outcome::PendingThenReset,
            3 => Outcome::NoResponse,
            4 => Outcome::Negative(Nrc::BUSY_REPEAT_REQUEST),
            5 => Outcome::Unlock(SecurityLevel::ONE, 2),
            6 => Outcome::PositiveThenReset(2),
            7 => Outcome::Lock(2),
            len => Outcome::Positive(usize::from(len)),
        }
    }

    fn verify_key(&mut self, _: Instant, _: SecurityLevel, key: &[u8]) -> bool {
        key.is_empty()
    }
}

/// Takes the data as a script of requests, transmissions, time and completions.
///
/// Whatever the script, the server says nothing but responses, no more than two after one another,
/// and stays locked in the default session after S3.
///
/// # Panics
/// When one of these does not hold.
pub fn server(data: &[u8]) {
    let mut config = Config::new(SERVICES);
    config.security = Some(SecurityConfig {
        seed_len: 4,
        attempts: 2,
        delay: Duration::from_secs(10),
    });
    let mut server = Server::new(config, [0; 40]);
    let mut now = Instant::ZERO;
    let mut script = data;
    while let Some((&operation, rest)) = script.split_first() {
        let (argument, rest) = rest.split_at(rest.len().min(usize::from(operation >> 3)));
        script = rest;
        match operation & 7 {
            0 | 1 => server.on_pdu(now, Addressing::Physical, argument, &mut Puppet),
            2 => server.on_pdu(now, Addressing::Functional, argument, &mut Puppet),
            3 => server.on_sent(now),
            4 => server.complete(now, |out| Puppet.handle(now, context(), argument, out)),
            5 => server.on_receive_started(now),
            6 => server.on_receive_failed(now),
            _ => {
                let millis = argument.first().map_or(1, |byte| u64::from(*byte) << 5);
                now = now + Duration::from_millis(millis);
                server.handle_timeout(now);
            }
        }
        while server.poll_event().is_some() {}
        if let Some(pdu) = server.poll_transmit() {
            let first = pdu.first().copied().unwrap_or(0);
            assert!(first & 0x40 != 0 && pdu.len() <= 40, "{pdu:?}");
            assert_eq!(server.poll_transmit(), None);
        }
    }
    // Left alone, it ends what it does and forgets the session.
    server.complete(now, |_| Outcome::NoResponse);
    server.on_receive_failed(now);
    for _ in 0..4 {
        server.poll_transmit();
        server.on_sent(now);
    }
    assert_eq!(server.poll_transmit(), None);
    server.handle_timeout(now + config.s3);
    assert_eq!(server.session(), Session::DEFAULT);
    assert_eq!(server.poll_timeout(), None);
}

fn context() -> Context {
    Context {
        session: Session::DEFAULT,
        unlocked: None,
        functional: false,
    }
}

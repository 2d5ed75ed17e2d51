//! What a fuzzer runs on the client: hostile responses at any time.

use super::{Client, Config, Event, Options, TransportFault};
use crate::time::{Duration, Instant};

/// Takes the data as a script of requests, responses, transmissions, faults and time.
///
/// Whatever the script, every accepted request ends exactly once, and in bounded time.
///
/// # Panics
/// When that does not hold.
pub fn client(data: &[u8]) {
    let mut client = Client::new(Config::default(), [0; 40], [0; 40]);
    let mut now = Instant::ZERO;
    let mut script = data;
    let mut open = 0u32;
    while let Some((&operation, rest)) = script.split_first() {
        let (argument, rest) = rest.split_at(rest.len().min(usize::from(operation >> 3)));
        script = rest;
        match operation & 7 {
            0 => {
                let options = Options {
                    functional: argument.len().is_multiple_of(2),
                    ..Options::default()
                };
                let accepted = client.request(now, argument, options).is_ok();
                open = open.saturating_add(u32::from(accepted));
            }
            1 | 2 => client.on_pdu(now, argument),
            3 => client.on_sent(now),
            4 => client.on_transport_error(now, TransportFault::Send),
            5 => client.on_transport_error(now, TransportFault::Receive),
            6 => client.on_receive_started(now),
            _ => {
                let millis = argument.first().map_or(1, |byte| u64::from(*byte) << 4);
                now = now + Duration::from_millis(millis);
                client.handle_timeout(now);
            }
        }
        client.poll_transmit(now);
        open = open.saturating_sub(ended(&mut client));
        assert_eq!(open, u32::from(!client.is_idle()));
    }
    // A transport reports the end of what it began.
    client.on_transport_error(now, TransportFault::Receive);
    for _ in 0..100 {
        client.poll_transmit(now);
        client.on_sent(now);
        open = open.saturating_sub(ended(&mut client));
        if open == 0 {
            return assert!(client.is_idle());
        }
        now = client.poll_timeout().unwrap_or(now).max(now);
        client.handle_timeout(now);
    }
    assert_eq!(open, 0, "a request without an end");
}

fn ended(client: &mut Client<[u8; 40]>) -> u32 {
    let mut ended = 0u32;
    while let Some(event) = client.poll_event() {
        ended = ended.saturating_add(u32::from(matches!(event, Event::Done(_))));
    }
    ended
}

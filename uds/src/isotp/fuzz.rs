//! Fuzz logic: hostile bytes against the codec and against an endpoint in every state.

use super::{Addressing, Config, Endpoint, Pdu};
use crate::can::{CanId, Format, Frame, fd_length};
use crate::time::{Duration, Instant};

/// Parses the data as one frame, with and without an address byte.
pub fn isotp_pdu(data: &[u8]) {
    let _ = Pdu::parse(data, 0);
    let _ = Pdu::parse(data, 1);
}

/// Takes the data as a script of operations on an endpoint: frames, sends, holds and time.
///
/// Whatever the script, a received message fits the storage, and the endpoint offers no endless
/// row of frames.
///
/// # Panics
/// When one of these does not hold.
pub fn isotp_endpoint(data: &[u8]) {
    let (Some(tx_id), Some(rx_id)) = (CanId::standard(0x7E8), CanId::standard(0x7E0)) else {
        return;
    };
    let Some((&mode, mut script)) = data.split_first() else {
        return;
    };
    let mut config = Config::fd(tx_id, rx_id);
    config.functional_id = CanId::standard(0x7DF);
    config.block_size = mode >> 5;
    config.wft_max = 2;
    if mode & 1 != 0 {
        config.addressing = Addressing::Mixed { extension: 0 };
    }
    if mode & 2 != 0 {
        config.format = Format::Classical;
    }
    if mode & 4 != 0 {
        config.timeouts.n_a = Some(Duration::from_millis(10));
    }
    let mut endpoint = Endpoint::new(config, [0; 300], [0; 300]);
    let mut now = Instant::ZERO;
    while let Some((&operation, rest)) = script.split_first() {
        let (argument, rest) = rest.split_at(rest.len().min(usize::from(operation >> 2)));
        script = rest;
        match operation & 3 {
            0 => {
                let mut bytes = [0; 64];
                let len = fd_length(argument.len());
                bytes
                    .iter_mut()
                    .zip(argument)
                    .for_each(|(to, from)| *to = *from);
                let id = if mode & 8 != 0 && len % 2 == 1 {
                    config.functional_id
                } else {
                    None
                };
                let content = bytes.get(..len).unwrap_or(&[]);
                if let Some(frame) = Frame::new(id.unwrap_or(rx_id), config_format(len), content) {
                    endpoint.handle_frame(now, &frame);
                }
            }
            1 => {
                let _ = endpoint.send(now, argument);
                let _ = endpoint.send_functional(now, argument);
            }
            2 => {
                now = now + Duration::from_millis(u64::from(argument.first().map_or(0, |b| *b)));
                endpoint.handle_timeout(now);
            }
            _ if argument.is_empty() => endpoint.hold(),
            _ => endpoint.release(),
        }
        while endpoint.poll_event().is_some() {
            assert!(endpoint.received().len() <= 300);
        }
        let mut frames = 0u32;
        while endpoint.poll_transmit(now).is_some() {
            endpoint.on_transmitted(now);
            frames = frames.saturating_add(1);
            assert!(frames < 100, "endless frames");
        }
    }
}

fn config_format(len: usize) -> Format {
    if len > 8 {
        Format::Fd { brs: true }
    } else {
        Format::Classical
    }
}

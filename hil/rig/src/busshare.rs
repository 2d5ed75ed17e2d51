//! How much of the bus a transfer used: TransferData payload per second of the hub's time, divided
//! by what the bus itself allows.
//!
//! From the log of a hub and the identifiers of one ECU. Lines that are no frames, frames of others
//! and broken sequences are left out; nothing in a log is an error but that it cannot be read.

use crate::vehicle::{BusSpec, EcuSpec};
use anyhow::{Context, Result};
use simbus::{BusConfig, limits};
use std::io::BufRead;
use std::path::Path;
use uds::can::{CanId, Format, Frame};
use uds::isotp::Pdu;

const TRANSFER_DATA: u8 = 0x36;
const TRANSFER_DATA_RESPONSE: u8 = 0x76;
const REQUEST_DOWNLOAD: u8 = 0x34;

/// What TransferData carried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transfer {
    /// Payload bytes of the blocks that the ECU accepted, each once.
    pub bytes: u64,
    /// Seconds in which blocks were transferred: of each download from its first request frame to
    /// its last response. What lies between downloads, such as erasing, is not counted.
    pub seconds: f64,
    /// Bytes of the longest request, service and counter included.
    pub block_length: u32,
    /// The share of [`limits::transfer_data`] for that block length.
    pub share: f64,
}

/// The transfer to `ecu` in the log at `path`, or `None` where it accepted no block.
///
/// # Errors
/// When the file cannot be read.
pub fn of_ecu(path: &Path, bus: &BusSpec, ecu: &EcuSpec) -> Result<Option<Transfer>> {
    of_ecus(path, bus, &[*ecu])
}

/// All transfers to `ecus` in the log at `path`, taken together: the bus's own share, where several
/// are flashed at a time.
///
/// # Errors
/// When the file cannot be read.
pub fn of_ecus(path: &Path, bus: &BusSpec, ecus: &[EcuSpec]) -> Result<Option<Transfer>> {
    let ids: Option<Vec<(CanId, CanId)>> = ecus
        .iter()
        .map(|ecu| CanId::standard(ecu.request_id).zip(CanId::standard(ecu.response_id())))
        .collect();
    let ids = ids.context("identifiers of 11 bits")?;
    let config = match bus.data_bitrate {
        Some(data) => BusConfig::fd(bus.bitrate, data),
        None => BusConfig::classical(bus.bitrate),
    };
    let file =
        std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    measure(std::io::BufReader::new(file), &config, &ids).context("reading the hub's log")
}

/// The transfer between the identifiers `ids` (request, response) in `log`.
///
/// # Errors
/// When it cannot be read.
pub fn measure(
    mut log: impl BufRead,
    config: &BusConfig,
    ids: &[(CanId, CanId)],
) -> std::io::Result<Option<Transfer>> {
    let mut ecus: Vec<Observer> = ids.iter().map(|_| Observer::default()).collect();
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line)? > 0 {
        if let Some((micros, frame)) = std::str::from_utf8(&line).ok().and_then(parse_line) {
            for (ecu, (request, response)) in ecus.iter_mut().zip(ids) {
                ecu.on_frame(micros, &frame, *request, *response);
            }
        }
        line.clear();
    }
    let Some((request, _)) = ids.first() else {
        return Ok(None);
    };
    let bytes = ecus.iter().map(|ecu| ecu.bytes).sum();
    let block_length = ecus.iter().map(|ecu| ecu.block_length).max().unwrap_or(0);
    let seconds = covered(ecus.iter().flat_map(Observer::spans).collect());
    if bytes == 0 || seconds <= 0.0 {
        return Ok(None);
    }
    let limit = limits::transfer_data(config, (*request).into(), block_length);
    #[allow(clippy::cast_precision_loss)] // Far below 2^53 bytes.
    let share = bytes as f64 / seconds / limit;
    Ok(Some(Transfer {
        bytes,
        seconds,
        block_length,
        share,
    }))
}

/// Seconds in the union of `spans` of microseconds.
fn covered(mut spans: Vec<(u64, u64)>) -> f64 {
    spans.sort_unstable();
    let (mut micros, mut until) = (0, 0);
    for (from, to) in spans {
        micros += to.saturating_sub(from.max(until));
        until = until.max(to);
    }
    std::time::Duration::from_micros(micros).as_secs_f64()
}

/// What is seen of one ECU.
#[derive(Debug, Default)]
struct Observer {
    /// The segmented request in progress: bytes announced and come so far, and its first three.
    request: Option<Request>,
    /// A block that is not answered yet.
    pending: Option<Block>,
    /// Counter of the last block accepted: it may be sent again.
    accepted: Option<u8>,
    /// The current download: first request frame, last response.
    span: Option<(u64, u64)>,
    finished: Vec<(u64, u64)>,
    bytes: u64,
    block_length: u32,
}

#[derive(Debug)]
struct Request {
    len: u32,
    received: u32,
    head: [u8; 2],
    since: u64,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    counter: u8,
    len: u32,
    since: u64,
}

impl Observer {
    fn on_frame(&mut self, at: u64, frame: &Frame, request: CanId, response: CanId) {
        let Ok(pdu) = Pdu::parse(frame.data(), 0) else {
            return;
        };
        if frame.id() == request {
            self.on_request(at, &pdu);
        } else if frame.id() == response
            && let Pdu::Single(data) = pdu
        {
            self.on_response(at, data);
        }
    }

    fn on_request(&mut self, at: u64, pdu: &Pdu<'_>) {
        match *pdu {
            Pdu::Single(data) => {
                self.request = None;
                self.on_message(head(data), length(data.len()), at);
            }
            Pdu::First { len, data } => {
                let received = length(data.len());
                self.request = Some(Request {
                    len,
                    received,
                    head: head(data),
                    since: at,
                });
            }
            Pdu::Consecutive { data, .. } => {
                let Some(request) = &mut self.request else {
                    return;
                };
                request.received = request.received.saturating_add(length(data.len()));
                if request.received >= request.len {
                    let Request {
                        len, head, since, ..
                    } = *request;
                    self.request = None;
                    self.on_message(head, len, since);
                }
            }
            Pdu::FlowControl(_) => {}
        }
    }

    /// A request is complete.
    fn on_message(&mut self, [service, counter]: [u8; 2], len: u32, since: u64) {
        match service {
            TRANSFER_DATA => {
                self.pending = Some(Block {
                    counter,
                    len,
                    since,
                })
            }
            REQUEST_DOWNLOAD => {
                self.finished.extend(self.span.take());
                self.accepted = None;
                self.pending = None;
            }
            _ => {}
        }
    }

    fn on_response(&mut self, at: u64, data: &[u8]) {
        let [TRANSFER_DATA_RESPONSE, counter, ..] = *data else {
            return;
        };
        let Some(block) = self.pending.take_if(|block| block.counter == counter) else {
            return;
        };
        let from = self.span.map_or(block.since, |(from, _)| from);
        self.span = Some((from, at));
        if self.accepted.replace(counter) != Some(counter) {
            self.bytes += u64::from(block.len.saturating_sub(2));
            self.block_length = self.block_length.max(block.len);
        }
    }

    fn spans(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.finished.iter().copied().chain(self.span)
    }
}

fn head(data: &[u8]) -> [u8; 2] {
    let byte = |at: usize| data.get(at).copied().unwrap_or(0);
    [byte(0), byte(1)]
}

fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Microseconds and frame of a line such as `(0000000012.345678) bus 7E0##10210`.
fn parse_line(line: &str) -> Option<(u64, Frame)> {
    let mut words = line.split_ascii_whitespace();
    let stamp = words.next()?.strip_prefix('(')?.strip_suffix(')')?;
    let (seconds, micros) = stamp
        .split_once('.')
        .filter(|(_, micros)| micros.len() == 6)?;
    let whole = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?;
    let micros = whole.checked_add(micros.parse::<u32>().ok()?.into())?;
    let (id, rest) = words.nth(1)?.split_once('#')?;
    let raw = u32::from_str_radix(id, 16).ok()?;
    let id = match id.len() {
        3 => CanId::standard(u16::try_from(raw).ok()?)?,
        8 => CanId::extended(raw)?,
        _ => return None,
    };
    let (format, hex) = match rest.strip_prefix('#') {
        Some(fd) => {
            let flags = fd.chars().next()?.to_digit(16)?;
            (
                Format::Fd {
                    brs: flags & 1 == 1,
                },
                fd.get(1..)?,
            )
        }
        None => (Format::Classical, rest),
    };
    if hex.len() % 2 != 0 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut data = [0; 64];
    let len = hex.len() / 2;
    for (byte, digits) in data
        .get_mut(..len)?
        .iter_mut()
        .zip(hex.as_bytes().chunks(2))
    {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some((micros, Frame::new(id, format, &data[..len])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uds::isotp::{Config, Endpoint};
    use uds::time::Instant;

    const CLASSICAL: BusConfig = BusConfig::classical(500_000);

    fn id(raw: u16) -> CanId {
        CanId::standard(raw).unwrap()
    }

    const IDS: (u16, u16) = (0x7E0, 0x7E8);

    /// Writes the log of a hub on which nobody ever waits.
    struct Scribe {
        bus: simbus::Bus,
        now: Instant,
        log: String,
        config: Config,
    }

    impl Scribe {
        fn new(bus: BusConfig) -> Self {
            let (request, response) = (id(IDS.0), id(IDS.1));
            let config = match bus.data_bps {
                Some(_) => Config::fd(request, response),
                None => Config::new(request, response),
            };
            Self {
                bus: simbus::Bus::new(bus),
                now: Instant::ZERO,
                log: String::new(),
                config,
            }
        }

        fn frame(&mut self, frame: Frame) {
            let node = self.bus.attach();
            self.bus.enqueue(node, frame, self.now).unwrap();
            self.now = self.bus.poll_timeout().unwrap();
            self.bus.poll(self.now).unwrap();
            self.bus.detach(node, self.now);
            let micros = self.now.as_micros();
            let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
            self.log += &format!("({seconds:010}.{rest:06}) bus {frame:?}\n");
        }

        fn exchange(&mut self, request: &[u8], response: &[u8]) {
            let peer = Config {
                tx_id: self.config.rx_id,
                rx_id: self.config.tx_id,
                ..self.config
            };
            let mut tester = Endpoint::new(self.config, [0; 8], vec![0; 5000]);
            let mut ecu = Endpoint::new(peer, vec![0; 5000], [0; 8]);
            tester.send(self.now, request).unwrap();
            loop {
                if let Some(frame) = tester.poll_transmit(self.now) {
                    self.frame(frame);
                    ecu.handle_frame(self.now, &frame);
                } else if let Some(frame) = ecu.poll_transmit(self.now) {
                    self.frame(frame);
                    tester.handle_frame(self.now, &frame);
                } else {
                    break;
                }
            }
            ecu.send(self.now, response).unwrap();
            let frame = ecu.poll_transmit(self.now).unwrap();
            self.frame(frame);
        }

        fn block(&mut self, counter: u8, len: usize) {
            let mut request = vec![0x55; len];
            request[..2].copy_from_slice(&[TRANSFER_DATA, counter]);
            self.exchange(&request, &[TRANSFER_DATA_RESPONSE, counter]);
        }

        fn wait(&mut self, millis: u64) {
            self.now = self.now + uds::time::Duration::from_millis(millis);
        }

        fn measure(&self) -> Option<Transfer> {
            let ids = [(id(IDS.0), id(IDS.1))];
            measure(self.log.as_bytes(), self.bus.config(), &ids).unwrap()
        }
    }

    #[test]
    fn a_transfer_without_waits_reaches_the_limit() {
        for config in [CLASSICAL, BusConfig::fd(500_000, 2_000_000)] {
            let mut scribe = Scribe::new(config);
            for counter in 1..=40 {
                scribe.block(counter, 4002);
            }
            let transfer = scribe.measure().unwrap();
            assert_eq!((transfer.bytes, transfer.block_length), (40 * 4000, 4002));
            assert!(
                transfer.share > 0.93 && transfer.share <= 1.0,
                "{transfer:?}"
            );
        }
    }

    #[test]
    fn waits_count_within_a_download_and_not_between() {
        let mut scribe = Scribe::new(CLASSICAL);
        scribe.exchange(&[REQUEST_DOWNLOAD, 0, 0x44], &[0x74, 0x20, 0x10, 0]);
        scribe.block(1, 1002);
        let alone = scribe.measure().unwrap();
        scribe.wait(10_000);
        scribe.exchange(&[REQUEST_DOWNLOAD, 0, 0x44], &[0x74, 0x20, 0x10, 0]);
        scribe.block(1, 1002);
        let both = scribe.measure().unwrap();
        assert_eq!(both.bytes, 2000);
        assert!(both.seconds < 2.2 * alone.seconds, "{both:?}");
        scribe.wait(10_000);
        scribe.block(2, 1002);
        assert!(scribe.measure().unwrap().seconds > 10.0);
    }

    #[test]
    fn a_repeated_or_refused_block_is_no_payload() {
        let mut scribe = Scribe::new(CLASSICAL);
        scribe.block(1, 102);
        scribe.block(1, 102);
        scribe.exchange(&[TRANSFER_DATA, 2, 0xAA], &[0x7F, TRANSFER_DATA, 0x72]);
        let transfer = scribe.measure().unwrap();
        assert_eq!((transfer.bytes, transfer.block_length), (100, 102));
    }

    #[test]
    fn several_ecus_share_the_time() {
        assert!((covered(vec![(0, 10), (5, 20), (30, 40), (31, 32)]) - 30e-6).abs() < 1e-12);
        let mut scribe = Scribe::new(CLASSICAL);
        scribe.block(1, 102);
        let one = scribe.measure().unwrap();
        let pair = (id(IDS.0), id(IDS.1));
        let two = measure(scribe.log.as_bytes(), &CLASSICAL, &[pair, pair])
            .unwrap()
            .unwrap();
        assert!((two.share - 2.0 * one.share).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_frame_is_left_out() {
        let lines = [
            "",
            "garbage",
            "(1.5) bus 7E0#00",
            "(1.000000) bus",
            "(1.000000) bus 7E0",
            "(1.000000) bus 7E0#0",
            "(1.000000) bus 800#00",
            "(1.000000) bus 7E0#GG",
            "(1.000000) bus 7E0##",
            "(99999999999999999999.000000) bus 7E0#00",
            "(18446744073709551615.000000) bus 7E0#00",
            "(1.000000) bus 7E0#ÄÄ",
        ];
        for line in lines {
            assert_eq!(parse_line(line), None, "{line}");
        }
        assert_eq!(
            measure(&b"\xFF\xFE\n(x\n"[..], &CLASSICAL, &[(id(1), id(2))]).unwrap(),
            None
        );
        let (at, frame) = parse_line("(0000000012.345678) bus 18DA10F1##10210").unwrap();
        assert_eq!(
            (at, format!("{frame:?}")),
            (12_345_678, "18DA10F1##10210".to_owned())
        );
    }
}

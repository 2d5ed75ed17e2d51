//! The parts of a virtual vehicle: ECUs, the TCU's sides of the buses, and what goes to an ECU.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use ecu_image::provision::EcuProvisioning;
use simbus::{Bus, BusConfig, NodeId};
use uds::can::Frame;
use uds::isotp::{Config as IsoTpConfig, Endpoint, Pdu};
use uds::time::{Duration, Instant};
use virtual_ecu::chip::{Chip, Otp};
use virtual_ecu::hardware::{ChipModel, Hardware};
use virtual_ecu::machine::{Machine, Options};
use virtual_ecu::provision::provision;
use virtual_ecu::scripted::Scripts;

use super::misbehaviour::Hostile;
use super::oem::{Oem, Release};

/// N_As: how long the TCU's controller may take no frame.
const N_AS: Duration = Duration::from_secs(1);

/// What an ECU runs, as its heartbeat says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcuState {
    /// The version in the last heartbeat.
    pub version: Option<String>,
    /// Program starts since the first power-on.
    pub boots: u64,
    /// Power cuts inside flash operations.
    pub cuts: u64,
}

/// An ECU as it leaves its factory: each vehicle gets a copy.
#[derive(Debug)]
pub struct Factory {
    pub(super) hardware: Hardware,
    chip: Mutex<nor::Nor>,
    pub(super) bus: usize,
}

impl Factory {
    /// ECU number `index` on a bus, provisioned with `release`; on bus 1 it speaks CAN FD.
    ///
    /// # Panics
    /// When it cannot be provisioned.
    #[must_use]
    pub fn new(
        oem: &mut Oem,
        release: &Release,
        index: u16,
        bus: usize,
        model: ChipModel,
        proof_seed: Option<u64>,
    ) -> Self {
        Self::with_slots(oem, release, index, bus, model, proof_seed, true)
    }

    /// The same with two update slots, or with one.
    ///
    /// # Panics
    /// As [`Factory::new`].
    #[must_use]
    pub fn with_slots(
        oem: &mut Oem,
        release: &Release,
        index: u16,
        bus: usize,
        model: ChipModel,
        proof_seed: Option<u64>,
        two_update_slots: bool,
    ) -> Self {
        let fd = bus == 1;
        let provisioning = oem.provisioning(index, if fd { "fd" } else { "classical" }, fd);
        let mut hardware = Hardware::new(provisioning);
        hardware.allow_rsa_2048 = true;
        hardware.chip = model;
        hardware.two_update_slots = two_update_slots;
        hardware.proof_seed = proof_seed;
        let chip = Chip::new(nor::Nor::in_memory(hardware.geometry()));
        let grant = oem.grant(release, &hardware.provisioning);
        provision(&hardware, &chip, &release.image, &grant).expect("a provisioned ECU");
        let chip = chip.with(|nor| nor.fork()).expect("a chip in memory");
        Self {
            hardware,
            chip: Mutex::new(chip),
            bus,
        }
    }

    fn chip(&self) -> nor::Nor {
        let chip = self.chip.lock().unwrap_or_else(PoisonError::into_inner);
        chip.fork().expect("a chip in memory")
    }
}

pub(super) struct Ecu {
    pub(super) hostile: Option<Hostile>,
    pub(super) machine: Machine<Scripts>,
    pub(super) provisioning: EcuProvisioning,
    pub(super) bus: usize,
    pub(super) node: NodeId,
    /// The TCU's end of the connection to it.
    pub(super) tester: Endpoint<Vec<u8>, Vec<u8>>,
    pub(super) version: Option<String>,
    pub(super) cuts: u64,
    pub(super) power_returns: Option<Instant>,
    pub(super) traffic: Traffic,
    /// How often its application is still to crash at its start.
    pub(super) crashes: u8,
    /// Jobs that TCUs have started on it.
    pub(super) started: usize,
}

impl Ecu {
    /// A copy of what left the factory, with power.
    pub(super) fn new(factory: &Factory, node: NodeId, now: Instant) -> Self {
        let hardware = factory.hardware.clone();
        let provisioning = hardware.provisioning.clone();
        let connection = hardware.connection();
        let tester = IsoTpConfig {
            tx_id: connection.rx_id,
            rx_id: connection.tx_id,
            ..connection
        };
        let chip = Chip::new(factory.chip());
        let otp = Otp::in_memory();
        let mut machine =
            Machine::new(hardware, chip, otp, Scripts, Options::default()).expect("a flash map");
        machine.power_on(now);
        Self {
            hostile: None,
            machine,
            provisioning,
            bus: factory.bus,
            node,
            tester: Endpoint::new(tester, vec![0; 4096], vec![0; 4200]),
            version: None,
            cuts: 0,
            power_returns: None,
            traffic: Traffic::default(),
            crashes: 0,
            started: 0,
        }
    }

    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        let frame = self.machine.poll_transmit(now);
        match &mut self.hostile {
            // What the ECU itself would say is lost.
            Some(hostile) => hostile.poll_transmit(now, self.tester.config()),
            None => frame,
        }
    }
}

/// The image's bytes that went over the bus to an ECU.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic {
    /// In a download of pages: the offset of the next block.
    download: Option<usize>,
    /// Counter and start of the last block, and the bytes of it that were sent.
    block: Option<(u8, usize, usize)>,
    /// Bytes of the request that are still to come.
    left: usize,
    /// Bytes in its first frame. They count with the next one: without FlowControl nothing was
    /// transferred, the frame only asked whether somebody is there.
    first: usize,
    /// How often each byte was sent.
    sent: Vec<u8>,
}

impl Traffic {
    /// A frame to the ECU has been on the bus.
    pub(super) fn note(&mut self, frame: &Frame) {
        match Pdu::parse(frame.data(), 0) {
            Ok(Pdu::Single(data)) => {
                self.begin(data, data.len());
                self.count(0);
            }
            Ok(Pdu::First { data, len }) => self.begin(data, len as usize),
            Ok(Pdu::Consecutive { data, .. }) => self.count(data.len()),
            _ => {}
        }
    }

    /// A request of `len` bytes begins.
    fn begin(&mut self, data: &[u8], len: usize) {
        (self.left, self.first) = (0, 0);
        match *data {
            // Encrypted pages; 4 bytes of address, of which a first frame on a classical bus has 3.
            [0x34, format, _, a, b, c, ..] => {
                let start = u32::from_be_bytes([a, b, c, data.get(6).copied().unwrap_or(0)]);
                self.download = (format == 1).then_some(start as usize);
                self.block = None;
            }
            [0x36, counter, ref data @ ..] if self.download.is_some() => {
                let next = self.block.map(|(_, start, sent)| start + sent);
                let start = match self.block {
                    // A request that is repeated has the counter that the last one had.
                    Some((last, start, _)) if last == counter => start,
                    _ => next.or(self.download).unwrap_or(0),
                };
                self.block = Some((counter, start, 0));
                (self.left, self.first) = (len.saturating_sub(2), data.len());
            }
            _ => {}
        }
    }

    fn count(&mut self, len: usize) {
        let Some((_, start, sent)) = &mut self.block else {
            return;
        };
        // The last frame may be filled up.
        let len = (len + std::mem::take(&mut self.first)).min(self.left);
        self.left -= len;
        let bytes = *start + *sent..*start + *sent + len;
        *sent += len;
        if self.sent.len() < bytes.end {
            self.sent.resize(bytes.end, 0);
        }
        for count in &mut self.sent[bytes] {
            *count = count.saturating_add(1);
        }
    }

    /// Bytes that were sent more than once, each time after the first.
    pub(super) fn resent(&self) -> usize {
        let again = self.sent.iter().map(|count| count.saturating_sub(1));
        again.map(usize::from).sum()
    }
}

pub(super) struct BusSide {
    pub(super) bus: Bus,
    pub(super) tester: NodeId,
    /// Frames of the TCU that wait for a place in its controller's queue.
    pub(super) waiting: VecDeque<Frame>,
    /// Since when a frame waits and none of the TCU's left the controller.
    pub(super) stuck: Option<Instant>,
    /// Nothing is carried before.
    pub(super) off_until: Option<Instant>,
}

impl BusSide {
    pub(super) fn new(config: BusConfig) -> Self {
        let mut bus = Bus::new(config);
        let tester = bus.attach();
        Self {
            bus,
            tester,
            waiting: VecDeque::new(),
            stuck: None,
            off_until: None,
        }
    }

    pub(super) fn is_off(&self, now: Instant) -> bool {
        self.off_until.is_some_and(|at| now < at)
    }

    pub(super) fn stuck_until(&self) -> Option<Instant> {
        self.stuck.map(|since| since + N_AS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uds::can::{CanId, Format};

    fn note(traffic: &mut Traffic, pdu: &[u8]) {
        let id = CanId::standard(0x700).unwrap();
        let mut frame = [&[0, u8::try_from(pdu.len()).unwrap()][..], pdu].concat();
        // To the next length that a frame may have.
        frame.resize(if frame.len() > 16 { 48 } else { 16 }, 0);
        let frame = Frame::new(id, Format::Fd { brs: true }, &frame).unwrap();
        traffic.note(&frame);
    }

    fn request(format: u8, address: u32) -> Vec<u8> {
        let mut pdu = vec![0x34, format, 0x44];
        pdu.extend(address.to_be_bytes());
        pdu.extend([0, 0, 4, 0]);
        pdu
    }

    #[test]
    fn what_is_sent_again_is_counted() {
        let mut traffic = Traffic::default();
        let block = |counter| [&[0x36, counter][..], &[0; 32]].concat();
        note(&mut traffic, &request(1, 0));
        for counter in 1..=4 {
            note(&mut traffic, &block(counter));
        }
        assert_eq!(traffic.resent(), 0);
        note(&mut traffic, &block(4));
        assert_eq!(traffic.resent(), 32);
        note(&mut traffic, &request(1, 64));
        note(&mut traffic, &block(1));
        assert_eq!(traffic.resent(), 64);
        // Metadata is none of the pages.
        note(&mut traffic, &request(0, 0));
        note(&mut traffic, &block(1));
        assert_eq!(traffic.resent(), 64);
    }
}

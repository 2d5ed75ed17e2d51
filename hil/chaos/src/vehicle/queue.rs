//! The event queue: from event to event, and what carries frames and PDUs between the machines.

use ecu_bootloader::boot::ResetCause;
use simbus::NodeId;
use tcu::vehicle::{Address, Event as TcuEvent, Transaction, Vehicle as _};
use uds::can::Frame;
use uds::client::TransportFault;
use uds::isotp::{Direction, Endpoint, Event as IsoTpEvent};
use uds::time::{Duration, Instant, earliest};
use virtual_ecu::app::heartbeat_version;
use virtual_ecu::event::Event as EcuEvent;

use super::fault::Fate;
use super::misbehaviour::Hostile;
use super::{Interruption, Ledger, World};

/// How long an ECU without power stays so.
const POWER_RETURNS_AFTER: Duration = Duration::from_millis(300);

impl World {
    pub(super) fn next_event(&self) -> Option<Instant> {
        let buses = self.buses.iter().map(|side| {
            // A bus that is off has nothing to say before it is on again.
            let next = side.off_until.or_else(|| side.bus.poll_timeout());
            earliest(next, side.stuck_until())
        });
        let ecus = self.ecus.iter().map(|ecu| {
            let side = &self.buses[ecu.bus];
            // What is due and has no place in a queue waits for the bus.
            let of = |node: NodeId, at: Option<Instant>| {
                at.filter(|at| *at > self.now || side.bus.free_slots(node) > 0)
            };
            let again = ecu.hostile.as_ref().and_then(Hostile::poll_timeout);
            let own = earliest(ecu.machine.poll_timeout(), again);
            let tester = of(side.tester, ecu.tester.poll_timeout());
            earliest(earliest(of(ecu.node, own), tester), ecu.power_returns)
        });
        let tcu = self.tcu.as_ref().and_then(|tcu| tcu.poll_timeout());
        let starts = self.service.as_ref().and_then(|service| service.starts);
        buses.chain(ecus).fold(earliest(tcu, starts), earliest)
    }

    /// Delivers the frames that are over, then fires what is due.
    pub(super) fn advance(&mut self) {
        let now = self.now;
        for index in 0..self.buses.len() {
            self.carry_bus(index);
        }
        for index in 0..self.buses.len() {
            if self.buses[index].stuck_until().is_some_and(|at| now >= at) {
                self.give_up(index);
            }
        }
        for ecu in &mut self.ecus {
            if ecu.power_returns.is_some_and(|at| now >= at) {
                ecu.power_returns = None;
                ecu.machine.power_on(now);
            }
            if ecu.machine.poll_timeout().is_some_and(|at| now >= at) {
                ecu.machine.handle_timeout(now);
            }
            if ecu.tester.poll_timeout().is_some_and(|at| now >= at) {
                ecu.tester.handle_timeout(now);
            }
        }
        if let Some(tcu) = &mut self.tcu
            && tcu.poll_timeout().is_some_and(|at| now >= at)
        {
            tcu.handle_timeout(now);
        }
    }

    /// The frames of a bus that are over.
    fn carry_bus(&mut self, index: usize) {
        let now = self.now;
        while self.buses[index].off_until.is_none_or(|at| now >= at) {
            let side = &mut self.buses[index];
            side.off_until = None;
            let Some(delivery) = side.bus.poll(now) else {
                return;
            };
            if delivery.from == side.tester {
                side.stuck = None;
            }
            let fate = self.on_frame(index);
            if delivery.outcome == simbus::Outcome::Received && fate == Fate::Delivered {
                self.deliver(index, delivery.from, &delivery.frame);
            }
        }
    }

    /// The TCU's controller took no frame for N_As: what was to be sent on this bus fails.
    fn give_up(&mut self, bus: usize) {
        let side = &mut self.buses[bus];
        side.stuck = None;
        side.waiting.clear();
        if side.is_off(self.now) {
            side.bus.clear(side.tester);
        }
        for (index, ecu) in self.ecus.iter_mut().enumerate() {
            if ecu.bus == bus {
                ecu.tester.on_blocked();
                report(&mut ecu.tester, self.tcu.as_mut(), self.now, index);
            }
        }
    }

    fn deliver(&mut self, bus: usize, from: NodeId, frame: &Frame) {
        for (index, ecu) in self
            .ecus
            .iter_mut()
            .enumerate()
            .filter(|(_, ecu)| ecu.bus == bus)
        {
            if ecu.node != from {
                match &mut ecu.hostile {
                    Some(hostile) => hostile.handle_frame(self.now, frame, ecu.tester.config()),
                    None => ecu.machine.handle_frame(self.now, frame),
                }
            }
            if self.buses[bus].tester == from && frame.id() == ecu.tester.config().tx_id {
                ecu.traffic.note(frame);
            }
            if self.buses[bus].tester != from {
                ecu.tester.handle_frame(self.now, frame);
                report(&mut ecu.tester, self.tcu.as_mut(), self.now, index);
            }
            let heartbeat = ecu.provisioning.heartbeat_id.raw();
            if ecu.node == from && frame.id().raw() == heartbeat {
                ecu.version = heartbeat_version(frame.data());
            }
        }
    }

    /// Carries PDUs and frames until nothing moves at this instant.
    pub(super) fn settle(&mut self) {
        let mut moved = true;
        while moved {
            self.supervise();
            moved = self.carry_pdus();
            moved |= self.carry_frames();
            self.note_ecu_events();
        }
    }

    fn carry_pdus(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for index in 0..self.ecus.len() {
            report(&mut self.ecus[index].tester, self.tcu.as_mut(), now, index);
        }
        let Some(tcu) = &mut self.tcu else {
            return false;
        };
        while let Some(transmit) = tcu.poll_transmit(now) {
            moved = true;
            let sent = match transmit.to {
                Address::Ecu(index) => self.ecus[index].tester.send(now, &transmit.pdu),
                Address::Bus(bus) => {
                    let ecu = self.ecus.iter_mut().find(|ecu| ecu.bus == bus);
                    let sent = ecu.map(|ecu| ecu.tester.send_functional(now, &transmit.pdu));
                    tcu.handle_sent(now, transmit.to);
                    sent.unwrap_or(Ok(()))
                }
            };
            if sent.is_err() {
                tcu.handle_fault(now, transmit.to, TransportFault::Send);
            }
        }
        while let Some(event) = tcu.poll_event() {
            match event {
                TcuEvent::Phase(_) => {
                    self.reports_due = true;
                    moved = true;
                }
                TcuEvent::Started(ecu, _) => self.ecus[ecu].started += 1,
                _ => {}
            }
            if self.keeps_events {
                self.events.push(event);
            }
        }
        moved | tcu.journal().is_off()
    }

    fn carry_frames(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for ecu in &mut self.ecus {
            let side = &mut self.buses[ecu.bus];
            while side.bus.free_slots(ecu.node) > 0
                && let Some(frame) = ecu.poll_transmit(now)
            {
                if side.is_off(now) {
                    continue;
                }
                side.bus
                    .enqueue(ecu.node, frame, now)
                    .expect("a place for the frame");
                moved = true;
            }
            while side.waiting.len() + side.bus.config().queue - side.bus.free_slots(side.tester)
                < side.bus.config().queue
                && let Some(frame) = ecu.tester.poll_transmit(now)
            {
                side.waiting.push_back(frame);
                moved = true;
            }
            while side.bus.free_slots(side.tester) > 0
                && let Some(frame) = side.waiting.pop_front()
            {
                side.bus
                    .enqueue(side.tester, frame, now)
                    .expect("a place for the frame");
                side.stuck = None;
                moved = true;
            }
            if !side.waiting.is_empty() || side.bus.free_slots(side.tester) == 0 {
                side.stuck.get_or_insert(now);
            }
        }
        moved
    }

    fn note_ecu_events(&mut self) {
        let now = self.now;
        let mut cuts = 0;
        for ecu in &mut self.ecus {
            while let Some(event) = ecu.machine.poll_event() {
                match event {
                    EcuEvent::PowerCut { .. } => {
                        ecu.cuts += 1;
                        cuts += 1;
                        ecu.power_returns = Some(now + POWER_RETURNS_AFTER);
                    }
                    EcuEvent::Boot { slot: Some(_), .. } if ecu.crashes > 0 => {
                        ecu.crashes -= 1;
                        ecu.machine.reset(now, ResetCause::Watchdog);
                    }
                    _ => {}
                }
            }
        }
        if cuts > 0 && matches!(self.interruptions.front(), Some(Interruption::Cut { .. })) {
            self.happened();
        }
    }
}

/// Tells the TCU what became of its end of a connection.
fn report(
    tester: &mut Endpoint<Vec<u8>, Vec<u8>>,
    tcu: Option<&mut Transaction<Ledger>>,
    now: Instant,
    index: usize,
) {
    let Some(tcu) = tcu else {
        while tester.poll_event().is_some() {}
        return;
    };
    while let Some(event) = tester.poll_event() {
        match event {
            IsoTpEvent::Started { .. } => tcu.handle_receive_started(now, index),
            IsoTpEvent::Received { .. } => tcu.handle_pdu(now, index, tester.received()),
            IsoTpEvent::Sent { functional: false } => tcu.handle_sent(now, Address::Ecu(index)),
            IsoTpEvent::Sent { functional: true } => {}
            IsoTpEvent::Failed(error) => {
                let fault = match error.direction() {
                    Direction::Send => TransportFault::Send,
                    Direction::Receive => TransportFault::Receive,
                };
                tcu.handle_fault(now, Address::Ecu(index), fault);
            }
        }
    }
}

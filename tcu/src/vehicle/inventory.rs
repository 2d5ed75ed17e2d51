//! One job on every ECU, all at once: the inventory, or the inventory with the preconditions.

use uds::client::TransportFault;
use uds::time::Instant;

use super::{Address, Event, Jobs, Transmit, Vehicle};
use crate::flash::{Failure, Job, Outcome};

/// An inventory under way.
#[derive(Debug)]
pub struct Inventory {
    jobs: Jobs,
    results: Vec<Option<Result<Outcome, Failure>>>,
}

impl Inventory {
    /// Starts `job` on each of the first `ecus` ECUs of `jobs`.
    #[must_use]
    pub fn new(now: Instant, mut jobs: Jobs, ecus: usize, job: Job) -> Self {
        for ecu in 0..ecus {
            jobs.start(now, ecu, job);
        }
        let results = std::iter::repeat_with(|| None).take(ecus).collect();
        Self { jobs, results }
    }

    /// What each ECU said, in order; `None` where it is not done.
    #[must_use]
    pub fn into_results(self) -> Vec<Option<Result<Outcome, Failure>>> {
        self.results
    }

    fn collect(&mut self) {
        while let Some(end) = self.jobs.poll_end() {
            if let Some(result) = self.results.get_mut(end.ecu) {
                *result = Some(end.result);
            }
        }
    }
}

impl Vehicle for Inventory {
    fn handle_pdu(&mut self, now: Instant, ecu: usize, pdu: &[u8]) {
        self.jobs.handle_pdu(now, ecu, pdu);
        self.collect();
    }

    fn handle_receive_started(&mut self, now: Instant, ecu: usize) {
        self.jobs.handle_receive_started(now, ecu);
    }

    fn handle_sent(&mut self, now: Instant, to: Address) {
        self.jobs.handle_sent(now, to);
        self.collect();
    }

    fn handle_fault(&mut self, now: Instant, to: Address, fault: TransportFault) {
        self.jobs.handle_fault(now, to, fault);
        self.collect();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.jobs.handle_timeout(now);
        self.collect();
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let transmit = self.jobs.poll_transmit(now);
        self.collect();
        transmit
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.jobs.poll_timeout()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.jobs.poll_event()
    }

    fn is_finished(&self) -> bool {
        self.results.iter().all(Option::is_some) && self.jobs.is_idle()
    }
}

//! The ECU's report (31 01 0214): what runs here, in answer to a nonce, under a key that the telematics
//! unit does not hold (`docs/spec/image.md`, "ECU report").

use ecu_image::{EcuReport, ImageDigest, NONCE_LEN, REPORT_LEN, RunState, SecurityCounter};
use uds::nrc::Nrc;

use crate::boot::{BootReason, Verdict};
use crate::job::Core;
use crate::keys::{KeyStore as _, MacKeyId};
use crate::layout::SlotId;
use crate::machine::Storage;
use crate::platform::Platform;
use crate::server::put;
use crate::state::{SlotState, State};

/// 31 01 0214 reportState.
pub const REPORT: u16 = 0x0214;
/// Bytes of its request.
pub(crate) const REQUEST_LEN: u16 = 20;
const _: () = assert!(REQUEST_LEN as usize == 4 + NONCE_LEN);

/// Whether the request is for the report.
pub(crate) fn is_asked(request: &[u8]) -> bool {
    matches!(*request, [_, _, high, low, ..] if u16::from_be_bytes([high, low]) == REPORT)
}

impl<P: Platform, M: Storage> Core<P, M> {
    /// 31 01 0214: needs neither session nor access, since a report says nothing secret, and nothing
    /// but its ECU can make one.
    pub(crate) fn attest(&mut self, request: &[u8], response: &mut [u8]) -> Result<usize, Nrc> {
        let nonce = request.split_at_checked(4).map(|(_, nonce)| nonce);
        let nonce = nonce.and_then(|nonce| <[u8; NONCE_LEN]>::try_from(nonce).ok());
        let nonce = nonce.ok_or(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT)?;
        let report = self.report(nonce).ok_or(Nrc::CONDITIONS_NOT_CORRECT)?;
        let [high, low] = REPORT.to_be_bytes();
        let mut parameters = [0; 4 + REPORT_LEN];
        for (to, from) in parameters.iter_mut().zip([1, high, low, 0]) {
            *to = from;
        }
        for (to, from) in parameters.iter_mut().skip(4).zip(report) {
            *to = from;
        }
        put(response, &parameters)
    }

    /// `None` where the ECU is not provisioned.
    fn report(&mut self, nonce: [u8; NONCE_LEN]) -> Option<[u8; REPORT_LEN]> {
        let floor = self.floor();
        let state = self.state.as_ref()?;
        let running = self.running.as_ref();
        let slot = running.map(|running| running.slot);
        let mut report = EcuReport {
            ecu_serial: self.platform.board().serial,
            nonce,
            image_digest: running.map_or(ImageDigest::ZERO, |running| running.digest),
            security_counter: slot.map_or(SecurityCounter(0), |slot| self.counter_of(state, slot)),
            floor,
            sequence: state.grant_sequence,
            state: running.map_or(RunState::Recovery, |running| {
                run_state(state, running.slot, running.reason)
            }),
            mac: [0; 16],
        };
        let bytes = report.encode();
        let message = EcuReport::maced_bytes(&bytes);
        report.mac = self.platform.keys().cmac(MacKeyId::Grant, message);
        Some(report.encode())
    }

    /// The counter of the image that was verified before it booted.
    fn counter_of(&self, state: &State, slot: SlotId) -> SecurityCounter {
        match self.evidence.get(slot) {
            Some(Verdict::Good { counter, .. }) => counter,
            _ => state.slot(slot).counter,
        }
    }
}

/// Where the running image stands.
fn run_state(state: &State, slot: SlotId, reason: BootReason) -> RunState {
    match (slot, state.slot(slot).state) {
        (SlotId::Factory, _) if reason == BootReason::LimpHome => RunState::LimpHome,
        (SlotId::Factory, _) | (_, SlotState::Sealed) => RunState::Sealed,
        (_, SlotState::Trial) => RunState::Trial,
        (_, SlotState::Healthy) => RunState::Healthy,
        // It was reverted, and runs until the next reset.
        _ => RunState::Rejected,
    }
}

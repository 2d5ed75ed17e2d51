//! What the application answers itself, and what it passes to the boot services.

use core::fmt::Write;

use uds::nrc::Nrc;
use uds::server::{Context, Handler, Outcome};
use uds::service::{Did, RoutineId, ServiceId};
use uds::time::Instant;

use super::config::Config;

/// checkProgrammingPreconditions.
const CHECK_PROGRAMMING_PRECONDITIONS: RoutineId = RoutineId(0x0203);
/// Bit 0 of its status: the vehicle moves.
const NOT_AT_STANDSTILL: u8 = 1;

/// The application's side of the server.
#[derive(Debug)]
pub(crate) struct Diagnostics {
    pub(crate) config: Config,
    /// Whether the vehicle stands still, as its own signals say.
    pub(crate) standstill: bool,
    /// Whether normal communication may be sent (CommunicationControl).
    pub(crate) transmit: bool,
    /// A request is to be passed to the boot services.
    pub(crate) forward: bool,
    /// The reset that follows the response leads into the programming session.
    pub(crate) programming: bool,
}

impl Diagnostics {
    pub(crate) const fn new(config: Config) -> Self {
        Self {
            config,
            standstill: true,
            transmit: true,
            forward: false,
            programming: false,
        }
    }

    fn pass_on(&mut self) -> Outcome {
        self.forward = true;
        Outcome::Pending
    }

    fn read(&mut self, context: Context, request: &[u8], response: &mut [u8]) -> Outcome {
        let [_, high, low] = *request else {
            return Outcome::Negative(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT);
        };
        let mut out = Text {
            buffer: response,
            len: 3,
        };
        match Did(u16::from_be_bytes([high, low])) {
            Did::ACTIVE_DIAGNOSTIC_SESSION => out.push(context.session.value()),
            Did::ECU_SOFTWARE_VERSION => {
                let Config {
                    major,
                    minor,
                    patch,
                    ..
                } = self.config;
                // A response buffer that is too short is found below.
                let _ = write!(out, "{major}.{minor}.{patch}");
            }
            _ => return self.pass_on(),
        }
        let len = out.len;
        match response.get_mut(1..3) {
            Some(did) => did.copy_from_slice(&[high, low]),
            None => return Outcome::Negative(Nrc::RESPONSE_TOO_LONG),
        }
        Outcome::Positive(len)
    }

    fn routine(&mut self, request: &[u8], response: &mut [u8]) -> Outcome {
        let [_, start, high, low, ref option @ ..] = *request else {
            return Outcome::Negative(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT);
        };
        if RoutineId(u16::from_be_bytes([high, low])) != CHECK_PROGRAMMING_PRECONDITIONS {
            return self.pass_on();
        }
        if !option.is_empty() {
            return Outcome::Negative(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT);
        }
        let status = if self.standstill {
            0
        } else {
            NOT_AT_STANDSTILL
        };
        reply(response, &[start, high, low, status])
    }

    fn communication(&mut self, request: &[u8], response: &mut [u8]) -> Outcome {
        let [_, control, kind] = *request else {
            return Outcome::Negative(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT);
        };
        // communicationType: normal, network management, or both, on this network.
        if !(1..=3).contains(&kind) {
            return Outcome::Negative(Nrc::REQUEST_OUT_OF_RANGE);
        }
        let control = control & 0x7F;
        if kind & 1 == 1 {
            self.transmit = control < 2;
        }
        reply(response, &[control])
    }
}

impl Handler for Diagnostics {
    fn handle(
        &mut self,
        _now: Instant,
        context: Context,
        request: &[u8],
        response: &mut [u8],
    ) -> Outcome {
        let sub_function = request.get(1).copied().unwrap_or(0) & 0x7F;
        let moving = !self.standstill;
        let refuse_while_moving = Outcome::Negative(Nrc::CONDITIONS_NOT_CORRECT);
        match (
            ServiceId(request.first().copied().unwrap_or(0)),
            sub_function,
        ) {
            (ServiceId::DIAGNOSTIC_SESSION_CONTROL, 2) if moving => refuse_while_moving,
            (ServiceId::DIAGNOSTIC_SESSION_CONTROL, 2) => {
                self.programming = true;
                Outcome::PendingThenReset
            }
            (ServiceId::DIAGNOSTIC_SESSION_CONTROL, _) => Outcome::Positive(0),
            (ServiceId::ECU_RESET | ServiceId::COMMUNICATION_CONTROL, _) if moving => {
                refuse_while_moving
            }
            (ServiceId::ECU_RESET, kind) => match reply(response, &[kind]) {
                Outcome::Positive(len) => Outcome::PositiveThenReset(len),
                other => other,
            },
            (ServiceId::CLEAR_DIAGNOSTIC_INFORMATION, _) => reply(response, &[]),
            // This application stores no DTC: an empty report, every status bit supported.
            (ServiceId::READ_DTC_INFORMATION, 1) => reply(response, &[1, 0xFF, 1, 0, 0]),
            (ServiceId::READ_DTC_INFORMATION, _) => reply(response, &[2, 0xFF]),
            (ServiceId::READ_DATA_BY_IDENTIFIER, _) => self.read(context, request, response),
            (ServiceId::SECURITY_ACCESS, _) => self.pass_on(),
            (ServiceId::COMMUNICATION_CONTROL, _) => self.communication(request, response),
            (ServiceId::ROUTINE_CONTROL, _) => self.routine(request, response),
            (ServiceId::CONTROL_DTC_SETTING, setting) => reply(response, &[setting]),
            _ => Outcome::Negative(Nrc::SERVICE_NOT_SUPPORTED),
        }
    }
}

/// A positive response of `parameters` after the service identifier, which the server writes.
fn reply(response: &mut [u8], parameters: &[u8]) -> Outcome {
    let len = parameters.len().saturating_add(1);
    match response.get_mut(1..len) {
        Some(out) => {
            out.copy_from_slice(parameters);
            Outcome::Positive(len)
        }
        None => Outcome::Negative(Nrc::RESPONSE_TOO_LONG),
    }
}

/// Text and bytes written into a response.
struct Text<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl Text<'_> {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.buffer.get_mut(self.len) {
            *slot = byte;
            self.len = self.len.saturating_add(1);
        }
    }
}

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

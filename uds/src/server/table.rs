//! The service table, and the order in which a request is refused (ISO 14229-1:2020 clause 7.5,
//! figures 5 to 7).

use crate::nrc::Nrc;
use crate::service::{SecurityLevel, ServiceId, Session, SubFunction};

/// The lengths a request may have, service identifier included, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    min: usize,
    max: usize,
}

impl Length {
    /// Exactly `len` bytes.
    #[must_use]
    pub const fn exactly(len: usize) -> Self {
        Self { min: len, max: len }
    }

    /// `len` bytes or more.
    #[must_use]
    pub const fn at_least(len: usize) -> Self {
        Self {
            min: len,
            max: usize::MAX,
        }
    }

    /// `min` to `max` bytes.
    #[must_use]
    pub const fn between(min: usize, max: usize) -> Self {
        Self { min, max }
    }

    const fn holds(self, len: usize) -> bool {
        self.min <= len && len <= self.max
    }
}

/// One service of a server's table.
#[derive(Debug, Clone, Copy)]
pub struct ServiceEntry {
    /// Which service.
    pub service: ServiceId,
    /// The sessions it is supported in; elsewhere 0x7F.
    pub sessions: &'static [Session],
    /// The level that must be unlocked; else 0x33.
    pub security: Option<SecurityLevel>,
    /// Whether a functionally addressed request is served; else it is dropped without an answer.
    pub functional: bool,
    /// The request's length; else 0x13.
    pub length: Length,
    /// The sub-functions, `None` for a service without.
    pub sub_functions: Option<&'static [SubFunctionEntry]>,
}

/// One sub-function of a service.
#[derive(Debug, Clone, Copy)]
pub struct SubFunctionEntry {
    /// The value, without suppressPosRspMsgIndicationBit.
    pub value: u8,
    /// The sessions it is supported in; elsewhere 0x7E.
    pub sessions: &'static [Session],
    /// The level that must be unlocked; else 0x33.
    pub security: Option<SecurityLevel>,
    /// Whether a functionally addressed request is served; else it is dropped without an answer.
    pub functional: bool,
    /// The request's length; else 0x13.
    pub length: Length,
}

impl ServiceEntry {
    /// A service without sub-function: physical addressing only, no security.
    #[must_use]
    pub const fn new(service: ServiceId, sessions: &'static [Session], length: Length) -> Self {
        Self {
            service,
            sessions,
            security: None,
            functional: false,
            length,
            sub_functions: None,
        }
    }

    /// A service with sub-functions. What each of them allows is in its own entry.
    #[must_use]
    pub const fn with_sub_functions(
        service: ServiceId,
        sessions: &'static [Session],
        sub_functions: &'static [SubFunctionEntry],
    ) -> Self {
        Self {
            service,
            sessions,
            security: None,
            functional: true,
            length: Length::at_least(2),
            sub_functions: Some(sub_functions),
        }
    }

    /// The entry, requiring `level` to be unlocked.
    #[must_use]
    pub const fn secured(mut self, level: SecurityLevel) -> Self {
        self.security = Some(level);
        self
    }

    /// The entry, served when functionally addressed.
    #[must_use]
    pub const fn functional(mut self) -> Self {
        self.functional = true;
        self
    }
}

impl SubFunctionEntry {
    /// A sub-function: physical addressing only, no security.
    #[must_use]
    pub const fn new(value: u8, sessions: &'static [Session], length: Length) -> Self {
        Self {
            value,
            sessions,
            security: None,
            functional: false,
            length,
        }
    }

    /// The entry, requiring `level` to be unlocked.
    #[must_use]
    pub const fn secured(mut self, level: SecurityLevel) -> Self {
        self.security = Some(level);
        self
    }

    /// The entry, served when functionally addressed.
    #[must_use]
    pub const fn functional(mut self) -> Self {
        self.functional = true;
        self
    }
}

/// Why a request does not reach the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A negative response, unless the functional rules silence it.
    Negative(Nrc),
    /// Functionally addressed where only physical addressing is served.
    Silent,
}

/// What the checks need to know of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) session: Session,
    pub(super) unlocked: Option<SecurityLevel>,
    pub(super) functional: bool,
}

impl State {
    fn allows(self, needed: Option<SecurityLevel>) -> bool {
        needed.is_none() || needed == self.unlocked
    }
}

/// The sub-function of a request that the table allows; `None` for a service without.
///
/// The order is that of the standard: service, session, security, length for the sub-function to be
/// there, sub-function, its session, its security, length.
pub(super) fn check(
    table: &[ServiceEntry],
    state: State,
    pdu: &[u8],
) -> Result<Option<SubFunction>, Refusal> {
    let refuse = |nrc| Err(Refusal::Negative(nrc));
    let sid = pdu.first().copied().unwrap_or(0);
    let Some(entry) = table.iter().find(|entry| entry.service.0 == sid) else {
        return refuse(Nrc::SERVICE_NOT_SUPPORTED);
    };
    if !entry.sessions.contains(&state.session) {
        return refuse(Nrc::SERVICE_NOT_SUPPORTED_IN_ACTIVE_SESSION);
    }
    if state.functional && !entry.functional {
        return Err(Refusal::Silent);
    }
    if !state.allows(entry.security) {
        return refuse(Nrc::SECURITY_ACCESS_DENIED);
    }
    let sub_function = match entry.sub_functions {
        None => None,
        Some(entries) => Some(check_sub_function(entries, state, pdu)?),
    };
    if !entry.length.holds(pdu.len()) {
        return refuse(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT);
    }
    Ok(sub_function)
}

fn check_sub_function(
    entries: &[SubFunctionEntry],
    state: State,
    pdu: &[u8],
) -> Result<SubFunction, Refusal> {
    let refuse = |nrc| Err(Refusal::Negative(nrc));
    let Some(byte) = pdu.get(1) else {
        return refuse(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT);
    };
    let sub_function = SubFunction::from_byte(*byte);
    let Some(entry) = entries
        .iter()
        .find(|entry| entry.value == sub_function.value())
    else {
        return refuse(Nrc::SUB_FUNCTION_NOT_SUPPORTED);
    };
    if !entry.sessions.contains(&state.session) {
        return refuse(Nrc::SUB_FUNCTION_NOT_SUPPORTED_IN_ACTIVE_SESSION);
    }
    if state.functional && !entry.functional {
        return Err(Refusal::Silent);
    }
    if !state.allows(entry.security) {
        return refuse(Nrc::SECURITY_ACCESS_DENIED);
    }
    if !entry.length.holds(pdu.len()) {
        return refuse(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT);
    }
    Ok(sub_function)
}

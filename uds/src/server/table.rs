//! The service table, and the order in which a request is refused (ISO 14229-1:2020 clause 7.5,
//! figures 5 to 7).

use crate::nrc::Nrc;
use crate::service::{SecurityLevel, ServiceId, Session, SubFunction};

/// The lengths a request may have, service identifier included, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    min: u16,
    /// `u16::MAX` for no limit.
    max: u16,
}

impl Length {
    /// Exactly `len` bytes.
    #[must_use]
    pub const fn exactly(len: u16) -> Self {
        Self { min: len, max: len }
    }

    /// `len` bytes or more.
    #[must_use]
    pub const fn at_least(len: u16) -> Self {
        Self {
            min: len,
            max: u16::MAX,
        }
    }

    /// `min` to `max` bytes.
    #[must_use]
    pub const fn between(min: u16, max: u16) -> Self {
        Self { min, max }
    }

    fn holds(self, len: usize) -> bool {
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        self.min <= len && len <= self.max
    }
}

/// What a request needs to be served: a byte each, since a table holds dozens of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    /// Bit *n*: session *n*.
    sessions: u8,
    security: Option<SecurityLevel>,
    functional: bool,
    length: Length,
}

impl Rule {
    /// Physical addressing only, no security.
    const fn new(mut sessions: &[Session], length: Length) -> Self {
        let mut bits = 0;
        while let [session, rest @ ..] = sessions {
            assert!(session.value() < 8, "a table has sessions below 8 only");
            bits |= bit(*session);
            sessions = rest;
        }
        Self {
            sessions: bits,
            security: None,
            functional: false,
            length,
        }
    }

    /// Session, addressing and security.
    fn check(self, state: State, wrong_session: Nrc) -> Result<(), Refusal> {
        if self.sessions & bit(state.session) == 0 {
            return Err(Refusal::Negative(wrong_session));
        }
        if state.functional && !self.functional {
            return Err(Refusal::Silent);
        }
        if self.security.is_some() && self.security != state.unlocked {
            return Err(Refusal::Negative(Nrc::SECURITY_ACCESS_DENIED));
        }
        Ok(())
    }

    fn check_length(self, pdu: &[u8]) -> Result<(), Refusal> {
        if self.length.holds(pdu.len()) {
            return Ok(());
        }
        let nrc = Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT;
        Err(Refusal::Negative(nrc))
    }
}

/// The bit of a session; none for one that no table has.
const fn bit(session: Session) -> u8 {
    match 1u8.checked_shl(session.value() as u32) {
        Some(bit) => bit,
        None => 0,
    }
}

/// One service of a server's table.
#[derive(Debug, Clone, Copy)]
pub struct ServiceEntry {
    service: ServiceId,
    rule: Rule,
    /// `None` for a service without.
    sub_functions: Option<&'static [SubFunctionEntry]>,
}

/// One sub-function of a service.
#[derive(Debug, Clone, Copy)]
pub struct SubFunctionEntry {
    /// Without suppressPosRspMsgIndicationBit.
    value: u8,
    rule: Rule,
}

impl ServiceEntry {
    /// A service without sub-function: in other sessions 0x7F, of another length 0x13; physical
    /// addressing only, no security. Sessions are 1 to 7.
    #[must_use]
    pub const fn new(service: ServiceId, sessions: &[Session], length: Length) -> Self {
        Self {
            service,
            rule: Rule::new(sessions, length),
            sub_functions: None,
        }
    }

    /// A service with sub-functions. What each of them allows is in its own entry.
    #[must_use]
    pub const fn with_sub_functions(
        service: ServiceId,
        sessions: &[Session],
        sub_functions: &'static [SubFunctionEntry],
    ) -> Self {
        let mut entry = Self::new(service, sessions, Length::at_least(2)).functional();
        entry.sub_functions = Some(sub_functions);
        entry
    }

    /// The entry, requiring `level` to be unlocked; else 0x33.
    #[must_use]
    pub const fn secured(mut self, level: SecurityLevel) -> Self {
        self.rule.security = Some(level);
        self
    }

    /// The entry, served when functionally addressed; else such a request is dropped unanswered.
    #[must_use]
    pub const fn functional(mut self) -> Self {
        self.rule.functional = true;
        self
    }
}

impl SubFunctionEntry {
    /// A sub-function: in other sessions 0x7E, of another length 0x13; physical addressing only, no
    /// security. Sessions are 1 to 7.
    #[must_use]
    pub const fn new(value: u8, sessions: &[Session], length: Length) -> Self {
        Self {
            value,
            rule: Rule::new(sessions, length),
        }
    }

    /// The entry, requiring `level` to be unlocked; else 0x33.
    #[must_use]
    pub const fn secured(mut self, level: SecurityLevel) -> Self {
        self.rule.security = Some(level);
        self
    }

    /// The entry, served when functionally addressed; else such a request is dropped unanswered.
    #[must_use]
    pub const fn functional(mut self) -> Self {
        self.rule.functional = true;
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

/// The sub-function of a request that the table allows; `None` for a service without.
///
/// The order is that of the standard: service, session, security, length for the sub-function to be
/// there, sub-function, its session, its security, length.
pub(super) fn check(
    table: &[ServiceEntry],
    state: State,
    pdu: &[u8],
) -> Result<Option<SubFunction>, Refusal> {
    let sid = pdu.first().copied().unwrap_or(0);
    let entry = table.iter().find(|entry| entry.service.0 == sid);
    let entry = entry.ok_or(Refusal::Negative(Nrc::SERVICE_NOT_SUPPORTED))?;
    entry
        .rule
        .check(state, Nrc::SERVICE_NOT_SUPPORTED_IN_ACTIVE_SESSION)?;
    let Some(entries) = entry.sub_functions else {
        return entry.rule.check_length(pdu).map(|()| None);
    };
    let Some(byte) = pdu.get(1) else {
        let nrc = Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT;
        return Err(Refusal::Negative(nrc));
    };
    let sub_function = SubFunction::from_byte(*byte);
    let entry = entries
        .iter()
        .find(|entry| entry.value == sub_function.value());
    let entry = entry.ok_or(Refusal::Negative(Nrc::SUB_FUNCTION_NOT_SUPPORTED))?;
    let wrong_session = Nrc::SUB_FUNCTION_NOT_SUPPORTED_IN_ACTIVE_SESSION;
    entry.rule.check(state, wrong_session)?;
    entry.rule.check_length(pdu)?;
    Ok(Some(sub_function))
}

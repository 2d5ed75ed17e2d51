//! The service tables of the ECU profile and the handler behind them: one for the tester on the bus,
//! one for requests that the application passes on. The code that serves them is the same.

use core::borrow::Borrow;

use uds::nrc::Nrc;
use uds::server::{Config, Context, Handler, Length, Outcome, ServiceEntry, SubFunctionEntry};
use uds::service::{SecurityLevel, ServiceId, Session};
use uds::time::{Duration, Instant};

use crate::access;
#[cfg(feature = "attestation")]
use crate::attestation;
#[cfg(feature = "authentication")]
use crate::authentication;
use crate::download::Reply;
use crate::identify::{FINGERPRINT, Read};
use crate::job::{Answer, Core};
use crate::machine::Storage;
use crate::platform::Platform;

/// The routines of 31 01; the report (`attestation`) is apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routine {
    /// checkProgrammingPreconditions.
    Preconditions,
    /// eraseMemory.
    Erase,
    /// checkMemory.
    Check,
    /// checkProgrammingDependencies.
    Dependencies,
    /// activate.
    Activate,
    /// confirmHealthy.
    Healthy,
    /// seal.
    Seal,
    /// revert.
    Revert,
}

impl Routine {
    const ALL: &[Self] = &[
        Self::Preconditions,
        Self::Erase,
        Self::Check,
        Self::Dependencies,
        Self::Activate,
        Self::Healthy,
        Self::Seal,
        Self::Revert,
    ];

    /// Its routineIdentifier.
    #[inline(never)]
    const fn id(self) -> u16 {
        match self {
            Self::Preconditions => 0x0203,
            Self::Erase => 0xFF00,
            Self::Check => 0x0202,
            Self::Dependencies => 0xFF01,
            Self::Activate => 0x0210,
            Self::Healthy => 0x0211,
            Self::Seal => 0x0212,
            Self::Revert => 0x0213,
        }
    }

    /// The routine of an identifier.
    pub(crate) fn of(id: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|routine| routine.id() == id)
    }
}

/// Bytes of a key of SecurityAccess.
const KEY_LEN: u16 = 16;
const _: () = assert!(KEY_LEN as usize == access::KEY_LEN);

const ALL: &[Session] = &[Session::DEFAULT, Session::EXTENDED, Session::PROGRAMMING];
const NOT_PROGRAMMING: &[Session] = &[Session::DEFAULT, Session::EXTENDED];
const NOT_DEFAULT: &[Session] = &[Session::EXTENDED, Session::PROGRAMMING];
const PROGRAMMING: &[Session] = &[Session::PROGRAMMING];

const fn sub(value: u8, sessions: &[Session], len: u16) -> SubFunctionEntry {
    SubFunctionEntry::new(value, sessions, Length::exactly(len))
}

const SESSION_CONTROL: &[SubFunctionEntry] = &[
    sub(1, ALL, 2).functional(),
    sub(2, ALL, 2),
    sub(3, ALL, 2).functional(),
];
const RESET: &[SubFunctionEntry] = &[sub(1, ALL, 2), sub(2, ALL, 2), sub(3, ALL, 2)];
const DTC_INFORMATION: &[SubFunctionEntry] =
    &[sub(1, NOT_PROGRAMMING, 3), sub(2, NOT_PROGRAMMING, 3)];
const ACCESS: &[SubFunctionEntry] = &[sub(1, NOT_DEFAULT, 2), sub(2, NOT_DEFAULT, 2 + KEY_LEN)];
const COMMUNICATION: &[SubFunctionEntry] = &[
    sub(0, NOT_DEFAULT, 3).functional(),
    sub(1, NOT_DEFAULT, 3).functional(),
    sub(2, NOT_DEFAULT, 3).functional(),
    sub(3, NOT_DEFAULT, 3).functional(),
];
#[cfg(not(feature = "attestation"))]
const ROUTINE: &[SubFunctionEntry] = &[sub(1, ALL, 4)];
#[cfg(feature = "attestation")]
const ROUTINE: &[SubFunctionEntry] = &[SubFunctionEntry::new(
    1,
    ALL,
    Length::between(4, attestation::REQUEST_LEN),
)];
const PRESENT: &[SubFunctionEntry] = &[sub(0, ALL, 2).functional()];
const DTC_SETTING: &[SubFunctionEntry] = &[
    SubFunctionEntry::new(1, NOT_DEFAULT, Length::at_least(2)).functional(),
    SubFunctionEntry::new(2, NOT_DEFAULT, Length::at_least(2)).functional(),
];

const fn plain(service: ServiceId, sessions: &[Session], length: Length) -> ServiceEntry {
    ServiceEntry::new(service, sessions, length)
}

const fn with(
    service: ServiceId,
    sessions: &[Session],
    entries: &'static [SubFunctionEntry],
) -> ServiceEntry {
    ServiceEntry::with_sub_functions(service, sessions, entries)
}

/// What the bootloader serves on the bus.
const BUS_SERVICES: &[ServiceEntry] = &[
    with(ServiceId::DIAGNOSTIC_SESSION_CONTROL, ALL, SESSION_CONTROL),
    with(ServiceId::ECU_RESET, ALL, RESET),
    plain(
        ServiceId::CLEAR_DIAGNOSTIC_INFORMATION,
        NOT_PROGRAMMING,
        Length::exactly(4),
    ),
    with(
        ServiceId::READ_DTC_INFORMATION,
        NOT_PROGRAMMING,
        DTC_INFORMATION,
    ),
    plain(ServiceId::READ_DATA_BY_IDENTIFIER, ALL, Length::at_least(3)).functional(),
    with(ServiceId::SECURITY_ACCESS, NOT_DEFAULT, ACCESS),
    with(ServiceId::COMMUNICATION_CONTROL, NOT_DEFAULT, COMMUNICATION),
    plain(
        ServiceId::WRITE_DATA_BY_IDENTIFIER,
        PROGRAMMING,
        Length::at_least(4),
    )
    .secured(SecurityLevel::ONE),
    with(ServiceId::ROUTINE_CONTROL, ALL, ROUTINE),
    plain(
        ServiceId::REQUEST_DOWNLOAD,
        PROGRAMMING,
        Length::exactly(11),
    )
    .secured(SecurityLevel::ONE),
    plain(ServiceId::TRANSFER_DATA, PROGRAMMING, Length::at_least(2)).secured(SecurityLevel::ONE),
    plain(
        ServiceId::REQUEST_TRANSFER_EXIT,
        PROGRAMMING,
        Length::exactly(1),
    )
    .secured(SecurityLevel::ONE),
    with(ServiceId::TESTER_PRESENT, ALL, PRESENT),
    with(ServiceId::CONTROL_DTC_SETTING, NOT_DEFAULT, DTC_SETTING),
    #[cfg(feature = "authentication")]
    with(ServiceId::AUTHENTICATION, NOT_DEFAULT, AUTHENTICATION),
];

#[cfg(feature = "authentication")]
const AUTHENTICATION: &[SubFunctionEntry] = &[
    sub(0, NOT_DEFAULT, 2),
    sub(5, NOT_DEFAULT, 19),
    SubFunctionEntry::new(
        6,
        NOT_DEFAULT,
        Length::between(authentication::PROOF_LEN.0, authentication::PROOF_LEN.1),
    ),
    sub(8, NOT_DEFAULT, 2),
];

/// Whether a service comes through the mailbox. Session control only keeps the session of the
/// application's server in step; the application never passes it on.
pub(crate) fn is_mailbox(service: ServiceId) -> bool {
    matches!(
        service,
        ServiceId::DIAGNOSTIC_SESSION_CONTROL
            | ServiceId::READ_DATA_BY_IDENTIFIER
            | ServiceId::SECURITY_ACCESS
            | ServiceId::ROUTINE_CONTROL
    )
}

/// Whom the server answers. SecurityAccess is not the server's own: its attempts are journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The tester on the bus.
    Bus,
    /// The same where no tester has a key: without Authentication, the table's last.
    #[cfg(feature = "authentication")]
    BusWithoutAuthentication,
    /// The application. It keeps S3, and passes every change of its session on, which locks; access locks
    /// here too after 10 s without a request to a boot service.
    Mailbox,
}

impl Profile {
    /// Of the server on the bus.
    pub(crate) fn of_bus(_platform: &mut impl Platform) -> Self {
        #[cfg(feature = "authentication")]
        if _platform.testers().is_none() {
            return Self::BusWithoutAuthentication;
        }
        Self::Bus
    }
}

static BUS: Config = Config::new(BUS_SERVICES);
#[cfg(feature = "authentication")]
static BUS_WITHOUT_AUTHENTICATION: Config = match BUS_SERVICES.split_last() {
    Some((_, services)) => Config::new(services),
    None => BUS,
};
static MAILBOX: Config = {
    let mut config = Config::new(BUS_SERVICES);
    config.s3 = Duration::from_secs(10);
    config
};

impl Borrow<Config> for Profile {
    fn borrow(&self) -> &Config {
        match self {
            Self::Bus => &BUS,
            #[cfg(feature = "authentication")]
            Self::BusWithoutAuthentication => &BUS_WITHOUT_AUTHENTICATION,
            Self::Mailbox => &MAILBOX,
        }
    }
}

/// Bytes for the longest response; what does not fit is answered 0x14 (responseTooLong).
pub(crate) const RESPONSE_LEN: usize = 252;

impl<P: Platform, M: Storage> Handler for Core<P, M> {
    fn handle(
        &mut self,
        now: Instant,
        context: Context,
        request: &[u8],
        response: &mut [u8],
    ) -> Outcome {
        match self.dispatch(now, context, request, response) {
            Ok(outcome) => outcome,
            Err(nrc) => Outcome::Negative(nrc),
        }
    }
}

impl<P: Platform, M: Storage> Core<P, M> {
    #[inline(never)]
    fn dispatch(
        &mut self,
        now: Instant,
        context: Context,
        request: &[u8],
        response: &mut [u8],
    ) -> Result<Outcome, Nrc> {
        let sid = request.first().copied().map_or(ServiceId(0), ServiceId);
        // The table has checked the lengths that name parameters here.
        let parameter = request.get(1).copied().unwrap_or(0) & 0x7F;
        let reply = match sid {
            ServiceId::DIAGNOSTIC_SESSION_CONTROL => {
                self.access.forget_seed();
                return Ok(Outcome::Positive(0));
            }
            ServiceId::ECU_RESET => {
                let len = put(response, &[parameter])?;
                return Ok(Outcome::PositiveThenReset(len));
            }
            ServiceId::CLEAR_DIAGNOSTIC_INFORMATION => return clear_dtcs(request),
            ServiceId::READ_DTC_INFORMATION => return read_dtcs(parameter, response),
            ServiceId::COMMUNICATION_CONTROL | ServiceId::CONTROL_DTC_SETTING => {
                return put(response, &[parameter]).map(Outcome::Positive);
            }
            ServiceId::READ_DATA_BY_IDENTIFIER => {
                return match self.read(context, request, response)? {
                    Read::Now(len) => Ok(Outcome::Positive(len)),
                    Read::Later => Ok(self.later(response)),
                };
            }
            ServiceId::SECURITY_ACCESS if parameter == 1 => self.request_seed(now, context)?,
            ServiceId::SECURITY_ACCESS => self.send_key(now, request)?,
            #[cfg(feature = "authentication")]
            ServiceId::AUTHENTICATION => self.authentication(now, request)?,
            ServiceId::WRITE_DATA_BY_IDENTIFIER => self.write_did_request(request)?,
            #[cfg(feature = "attestation")]
            ServiceId::ROUTINE_CONTROL if attestation::is_asked(request) => {
                return self.attest(request, response).map(Outcome::Positive);
            }
            ServiceId::ROUTINE_CONTROL => {
                let id = match *request {
                    [_, _, high, low] => u16::from_be_bytes([high, low]),
                    _ => return Err(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT),
                };
                self.routine(context, id)?
            }
            ServiceId::REQUEST_DOWNLOAD => self.request_download(request)?,
            ServiceId::TRANSFER_DATA => self.transfer_data(request)?,
            ServiceId::REQUEST_TRANSFER_EXIT => self.transfer_exit()?,
            _ => return Err(Nrc::SERVICE_NOT_SUPPORTED),
        };
        match reply {
            Reply::Now(answer) => Ok(self.outcome(Ok(answer), response)),
            Reply::Later => Ok(self.later(response)),
        }
    }

    /// Pending, unless the job ended at once.
    fn later(&mut self, response: &mut [u8]) -> Outcome {
        match self.answer.take() {
            None => Outcome::Pending,
            Some(answer) => self.outcome(answer, response),
        }
    }

    /// The outcome of a job that has ended.
    #[inline(never)]
    pub(crate) fn outcome(&mut self, answer: Result<Answer, Nrc>, response: &mut [u8]) -> Outcome {
        let written = answer.and_then(|answer| {
            let len = self.write_answer(answer, response)?;
            Ok((answer, len))
        });
        match written {
            Ok((Answer::Unlocked(_), len)) => Outcome::Unlock(SecurityLevel::ONE, len),
            #[cfg(feature = "authentication")]
            Ok((Answer::Authenticated, len)) => Outcome::Unlock(SecurityLevel::ONE, len),
            #[cfg(feature = "authentication")]
            Ok((Answer::DeAuthenticated, len)) => Outcome::Lock(len),
            Ok((_, len)) => Outcome::Positive(len),
            Err(nrc) => Outcome::Negative(nrc),
        }
    }

    /// The session ended or began anew: nothing of it goes on.
    pub(crate) fn leave_session(&mut self) {
        self.access.forget_seed();
        self.end_transfer();
    }

    /// Writes a positive response; its length.
    #[inline(never)]
    fn write_answer(&mut self, answer: Answer, response: &mut [u8]) -> Result<usize, Nrc> {
        match answer {
            Answer::SelfTest | Answer::Exit => put(response, &[]),
            Answer::Routine(routine) => {
                let [high, low] = routine.id().to_be_bytes();
                let status = if routine == Routine::Preconditions {
                    self.platform.preconditions()
                } else {
                    0
                };
                put(response, &[1, high, low, status])
            }
            Answer::Download => {
                let transfer = self.transfer.as_ref().ok_or(Nrc::GENERAL_REJECT)?;
                let [high, low] = self.max_block_length(transfer).to_be_bytes();
                put(response, &[0x20, high, low])
            }
            Answer::Block(counter) => put(response, &[counter]),
            Answer::Written => put(response, &FINGERPRINT.to_be_bytes()),
            Answer::Read => self.write_dids(response),
            Answer::Seed => self.make_seed(response),
            Answer::Unlocked(1) => put_seed(response, &[0; access::SEED_LEN]),
            Answer::Unlocked(step) => put(response, &[step]),
            #[cfg(feature = "authentication")]
            Answer::Challenge
            | Answer::Authenticated
            | Answer::DeAuthenticated
            | Answer::AuthenticationMethod => self.write_authentication(answer, response),
        }
    }

    /// 2E: the fingerprint alone is writable.
    fn write_did_request(&mut self, request: &[u8]) -> Result<Reply, Nrc> {
        let [_, high, low, content @ ..] = request else {
            return Err(Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT);
        };
        if u16::from_be_bytes([*high, *low]) != FINGERPRINT {
            return Err(Nrc::REQUEST_OUT_OF_RANGE);
        }
        let content = content
            .try_into()
            .map_err(|_| Nrc::INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT)?;
        self.write_fingerprint(content)
    }
}

/// Writes the bytes after the service identifier; the whole length.
pub(crate) fn put(response: &mut [u8], bytes: &[u8]) -> Result<usize, Nrc> {
    let len = bytes.len().saturating_add(1);
    response
        .get_mut(1..len)
        .ok_or(Nrc::RESPONSE_TOO_LONG)?
        .copy_from_slice(bytes);
    Ok(len)
}

/// `67 01 seed`.
pub(crate) fn put_seed(response: &mut [u8], seed: &[u8; access::SEED_LEN]) -> Result<usize, Nrc> {
    let mut parameters = [1; access::SEED_LEN + 1];
    for (to, from) in parameters.iter_mut().skip(1).zip(seed) {
        *to = *from;
    }
    put(response, &parameters)
}

/// 14: a bootloader stores no DTCs; all groups are clear.
fn clear_dtcs(request: &[u8]) -> Result<Outcome, Nrc> {
    match request {
        [_, 0xFF, 0xFF, 0xFF] => Ok(Outcome::Positive(1)),
        _ => Err(Nrc::REQUEST_OUT_OF_RANGE),
    }
}

/// 19 01: no DTC, ISO 14229-1 format. 19 02: none.
fn read_dtcs(report: u8, response: &mut [u8]) -> Result<Outcome, Nrc> {
    let bytes: &[u8] = if report == 1 {
        &[1, 0xFF, 1, 0, 0]
    } else {
        &[report, 0xFF]
    };
    put(response, bytes).map(Outcome::Positive)
}

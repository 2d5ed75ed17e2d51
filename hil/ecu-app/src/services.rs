//! The service table of the application: the "app" rows of the ECU profile.

use uds::server::{Config, Length, ServiceEntry, SubFunctionEntry};
use uds::service::{ServiceId, Session};

const ALL: &[Session] = &[Session::DEFAULT, Session::EXTENDED];
const EXTENDED: &[Session] = &[Session::EXTENDED];

const fn sub(value: u8, sessions: &'static [Session], len: u16) -> SubFunctionEntry {
    SubFunctionEntry::new(value, sessions, Length::exactly(len))
}

/// The timing and services of the application's server.
pub(crate) const CONFIG: Config = Config::new(SERVICES);

const SERVICES: &[ServiceEntry] = &[
    ServiceEntry::with_sub_functions(
        ServiceId::DIAGNOSTIC_SESSION_CONTROL,
        ALL,
        &[
            sub(1, ALL, 2).functional(),
            sub(2, ALL, 2),
            sub(3, ALL, 2).functional(),
        ],
    ),
    ServiceEntry::with_sub_functions(
        ServiceId::ECU_RESET,
        ALL,
        &[sub(1, ALL, 2), sub(2, ALL, 2), sub(3, ALL, 2)],
    ),
    ServiceEntry::new(
        ServiceId::CLEAR_DIAGNOSTIC_INFORMATION,
        ALL,
        Length::exactly(4),
    ),
    ServiceEntry::with_sub_functions(
        ServiceId::READ_DTC_INFORMATION,
        ALL,
        &[sub(1, ALL, 3), sub(2, ALL, 3)],
    ),
    ServiceEntry::new(ServiceId::READ_DATA_BY_IDENTIFIER, ALL, Length::exactly(3)).functional(),
    ServiceEntry::with_sub_functions(
        ServiceId::SECURITY_ACCESS,
        EXTENDED,
        &[sub(1, EXTENDED, 2), sub(2, EXTENDED, 18)],
    ),
    ServiceEntry::with_sub_functions(
        ServiceId::COMMUNICATION_CONTROL,
        EXTENDED,
        &[
            sub(0, EXTENDED, 3).functional(),
            sub(1, EXTENDED, 3).functional(),
            sub(2, EXTENDED, 3).functional(),
            sub(3, EXTENDED, 3).functional(),
        ],
    ),
    ServiceEntry::with_sub_functions(
        ServiceId::ROUTINE_CONTROL,
        ALL,
        &[SubFunctionEntry::new(1, ALL, Length::between(4, 20))],
    ),
    ServiceEntry::with_sub_functions(
        ServiceId::TESTER_PRESENT,
        ALL,
        &[sub(0, ALL, 2).functional()],
    ),
    ServiceEntry::with_sub_functions(
        ServiceId::CONTROL_DTC_SETTING,
        EXTENDED,
        &[
            sub(1, EXTENDED, 2).functional(),
            sub(2, EXTENDED, 2).functional(),
        ],
    ),
];

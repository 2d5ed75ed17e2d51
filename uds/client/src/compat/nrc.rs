//! Negative response codes as an enum.

use uds::nrc::Nrc;

macro_rules! codes {
    ($($name:ident = $value:literal,)*) => {
        /// The codes that ISO 14229-1:2020 annex A.1 names; see [`Nrc::meaning`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum NegativeResponseCode {
            $(
                #[doc = concat!("`", stringify!($value), "`.")]
                $name = $value,
            )*
        }

        impl TryFrom<u8> for NegativeResponseCode {
            type Error = u8;

            /// The code, or the byte itself where it has no name.
            fn try_from(byte: u8) -> Result<Self, u8> {
                match byte {
                    $($value => Ok(Self::$name),)*
                    _ => Err(byte),
                }
            }
        }
    };
}

codes! {
    PositiveResponse = 0x00,
    GeneralReject = 0x10,
    ServiceNotSupported = 0x11,
    SubFunctionNotSupported = 0x12,
    IncorrectMessageLengthOrInvalidFormat = 0x13,
    ResponseTooLong = 0x14,
    BusyRepeatRequest = 0x21,
    ConditionsNotCorrect = 0x22,
    RequestSequenceError = 0x24,
    NoResponseFromSubnetComponent = 0x25,
    FailurePreventsExecutionOfRequestedAction = 0x26,
    RequestOutOfRange = 0x31,
    SecurityAccessDenied = 0x33,
    AuthenticationRequired = 0x34,
    InvalidKey = 0x35,
    ExceededNumberOfAttempts = 0x36,
    RequiredTimeDelayNotExpired = 0x37,
    SecureDataTransmissionRequired = 0x38,
    SecureDataTransmissionNotAllowed = 0x39,
    SecureDataVerificationFailed = 0x3A,
    CertificateInvalidTimePeriod = 0x50,
    CertificateInvalidSignature = 0x51,
    CertificateInvalidChainOfTrust = 0x52,
    CertificateInvalidType = 0x53,
    CertificateInvalidFormat = 0x54,
    CertificateInvalidContent = 0x55,
    CertificateInvalidScope = 0x56,
    CertificateInvalid = 0x57,
    OwnershipVerificationFailed = 0x58,
    ChallengeCalculationFailed = 0x59,
    SettingAccessRightsFailed = 0x5A,
    SessionKeyCreationDerivationFailed = 0x5B,
    ConfigurationDataUsageFailed = 0x5C,
    DeAuthenticationFailed = 0x5D,
    UploadDownloadNotAccepted = 0x70,
    TransferDataSuspended = 0x71,
    GeneralProgrammingFailure = 0x72,
    WrongBlockSequenceCounter = 0x73,
    RequestCorrectlyReceivedResponsePending = 0x78,
    SubfunctionNotSupportedInActiveSession = 0x7E,
    ServiceNotSupportedInActiveSession = 0x7F,
    RpmTooHigh = 0x81,
    RpmTooLow = 0x82,
    EngineIsRunning = 0x83,
    EngineIsNotRunning = 0x84,
    EngineRunTimeTooLow = 0x85,
    TemperatureTooHigh = 0x86,
    TemperatureTooLow = 0x87,
    VehicleSpeedTooHigh = 0x88,
    VehicleSpeedTooLow = 0x89,
    ThrottlePedalTooHigh = 0x8A,
    ThrottlePedalTooLow = 0x8B,
    TransmissionRangeNotInNeutral = 0x8C,
    TransmissionRangeNotInGear = 0x8D,
    BrakeSwitchNotClosed = 0x8F,
    ShiftLeverNotInPark = 0x90,
    TorqueConverterClutchLocked = 0x91,
    VoltageTooHigh = 0x92,
    VoltageTooLow = 0x93,
    ResourceTemporarilyNotAvailable = 0x94,
}

impl From<NegativeResponseCode> for u8 {
    fn from(code: NegativeResponseCode) -> Self {
        code as Self
    }
}

impl From<NegativeResponseCode> for Nrc {
    fn from(code: NegativeResponseCode) -> Self {
        Self(code.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_code_is_here() {
        for nrc in Nrc::ALL {
            assert_eq!(
                NegativeResponseCode::try_from(nrc.0).map(Nrc::from),
                Ok(*nrc)
            );
        }
        assert_eq!(NegativeResponseCode::try_from(0xF0), Err(0xF0));
    }
}

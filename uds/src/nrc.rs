//! Negative response codes (ISO 14229-1:2020 annex A.1).

use core::fmt;

/// A negative response code: the third byte of `7F service NRC`.
///
/// Any byte is a code, so that a server's answer is never lost; [`Nrc::name`] is `None` for a
/// reserved one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nrc(pub u8);

macro_rules! codes {
    ($($value:literal $constant:ident $name:literal $meaning:literal;)*) => {
        impl Nrc {
            $(#[doc = concat!("`", stringify!($value), "` ", $name, ": ", $meaning, ".")]
            pub const $constant: Self = Self($value);)*

            /// Every code that annex A.1 names one by one.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];

            /// The standard's name, or `None` for a reserved or manufacturer-specific code.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($name),)*
                    _ => None,
                }
            }

            /// What the code says, in a few words.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self.0 {
                    $($value => $meaning,)*
                    0x95..=0xEF => "reserved for specific conditions that are not correct",
                    0xF0..=0xFE => "manufacturer-specific condition not correct",
                    _ => "reserved",
                }
            }
        }
    };
}

codes! {
    0x10 GENERAL_REJECT "generalReject" "rejected, no other code fits";
    0x11 SERVICE_NOT_SUPPORTED "serviceNotSupported" "the server does not have this service";
    0x12 SUB_FUNCTION_NOT_SUPPORTED "subFunctionNotSupported" "the service does not have this sub-function";
    0x13 INCORRECT_MESSAGE_LENGTH_OR_INVALID_FORMAT "incorrectMessageLengthOrInvalidFormat" "length or format does not match the service";
    0x14 RESPONSE_TOO_LONG "responseTooLong" "the response exceeds what the transport carries";
    0x21 BUSY_REPEAT_REQUEST "busyRepeatRequest" "busy, the client shall ask again";
    0x22 CONDITIONS_NOT_CORRECT "conditionsNotCorrect" "the server's conditions are not met";
    0x24 REQUEST_SEQUENCE_ERROR "requestSequenceError" "not the request expected next";
    0x25 NO_RESPONSE_FROM_SUBNET_COMPONENT "noResponseFromSubnetComponent" "a component behind this gateway is silent";
    0x26 FAILURE_PREVENTS_EXECUTION_OF_REQUESTED_ACTION "failurePreventsExecutionOfRequestedAction" "a fault, known by a DTC, prevents the action";
    0x31 REQUEST_OUT_OF_RANGE "requestOutOfRange" "a parameter or identifier is not supported";
    0x33 SECURITY_ACCESS_DENIED "securityAccessDenied" "the server is locked";
    0x34 AUTHENTICATION_REQUIRED "authenticationRequired" "the client's authenticated role does not suffice";
    0x35 INVALID_KEY "invalidKey" "the key does not match the seed";
    0x36 EXCEEDED_NUMBER_OF_ATTEMPTS "exceedNumberOfAttempts" "too many wrong keys";
    0x37 REQUIRED_TIME_DELAY_NOT_EXPIRED "requiredTimeDelayNotExpired" "the delay after wrong keys still runs";
    0x38 SECURE_DATA_TRANSMISSION_REQUIRED "secureDataTransmissionRequired" "the service needs secured data transmission";
    0x39 SECURE_DATA_TRANSMISSION_NOT_ALLOWED "secureDataTransmissionNotAllowed" "the service may not use secured data transmission";
    0x3A SECURE_DATA_VERIFICATION_FAILED "secureDataVerificationFailed" "the secured message did not verify";
    0x50 CERTIFICATE_INVALID_TIME_PERIOD "certificateVerificationFailedInvalidTimePeriod" "the certificate is not valid now";
    0x51 CERTIFICATE_INVALID_SIGNATURE "certificateVerificationFailedInvalidSignature" "the certificate's signature does not verify";
    0x52 CERTIFICATE_INVALID_CHAIN_OF_TRUST "certificateVerificationFailedInvalidChainOfTrust" "the certificate's issuer is not trusted";
    0x53 CERTIFICATE_INVALID_TYPE "certificateVerificationFailedInvalidType" "the certificate's type does not match";
    0x54 CERTIFICATE_INVALID_FORMAT "certificateVerificationFailedInvalidFormat" "the certificate's format does not match";
    0x55 CERTIFICATE_INVALID_CONTENT "certificateVerificationFailedInvalidContent" "the certificate's content does not match";
    0x56 CERTIFICATE_INVALID_SCOPE "certificateVerificationFailedInvalidScope" "the certificate's scope does not match this server";
    0x57 CERTIFICATE_INVALID "certificateVerificationFailedInvalidCertificate" "the certificate is revoked";
    0x58 OWNERSHIP_VERIFICATION_FAILED "ownershipVerificationFailed" "the proof of ownership does not verify";
    0x59 CHALLENGE_CALCULATION_FAILED "challengeCalculationFailed" "the challenge could not be computed";
    0x5A SETTING_ACCESS_RIGHTS_FAILED "settingAccessRightsFailed" "the access rights could not be set";
    0x5B SESSION_KEY_CREATION_DERIVATION_FAILED "sessionKeyCreationDerivationFailed" "the session key could not be made";
    0x5C CONFIGURATION_DATA_USAGE_FAILED "configurationDataUsageFailed" "the configuration data could not be used";
    0x5D DEAUTHENTICATION_FAILED "deAuthenticationFailed" "de-authentication failed";
    0x70 UPLOAD_DOWNLOAD_NOT_ACCEPTED "uploadDownloadNotAccepted" "a transfer to this memory cannot start";
    0x71 TRANSFER_DATA_SUSPENDED "transferDataSuspended" "the transfer was aborted by a fault";
    0x72 GENERAL_PROGRAMMING_FAILURE "generalProgrammingFailure" "erasing or programming failed";
    0x73 WRONG_BLOCK_SEQUENCE_COUNTER "wrongBlockSequenceCounter" "not the block expected next";
    0x78 RESPONSE_PENDING "requestCorrectlyReceivedResponsePending" "accepted, the final response follows";
    0x7E SUB_FUNCTION_NOT_SUPPORTED_IN_ACTIVE_SESSION "subFunctionNotSupportedInActiveSession" "the sub-function needs another session";
    0x7F SERVICE_NOT_SUPPORTED_IN_ACTIVE_SESSION "serviceNotSupportedInActiveSession" "the service needs another session";
    0x81 RPM_TOO_HIGH "rpmTooHigh" "engine speed too high";
    0x82 RPM_TOO_LOW "rpmTooLow" "engine speed too low";
    0x83 ENGINE_IS_RUNNING "engineIsRunning" "the engine runs";
    0x84 ENGINE_IS_NOT_RUNNING "engineIsNotRunning" "the engine does not run";
    0x85 ENGINE_RUN_TIME_TOO_LOW "engineRunTimeTooLow" "the engine has not run long enough";
    0x86 TEMPERATURE_TOO_HIGH "temperatureTooHigh" "temperature too high";
    0x87 TEMPERATURE_TOO_LOW "temperatureTooLow" "temperature too low";
    0x88 VEHICLE_SPEED_TOO_HIGH "vehicleSpeedTooHigh" "vehicle speed too high";
    0x89 VEHICLE_SPEED_TOO_LOW "vehicleSpeedTooLow" "vehicle speed too low";
    0x8A THROTTLE_PEDAL_TOO_HIGH "throttle/PedalTooHigh" "throttle or pedal position too high";
    0x8B THROTTLE_PEDAL_TOO_LOW "throttle/PedalTooLow" "throttle or pedal position too low";
    0x8C TRANSMISSION_RANGE_NOT_IN_NEUTRAL "transmissionRangeNotInNeutral" "the transmission is not in neutral";
    0x8D TRANSMISSION_RANGE_NOT_IN_GEAR "transmissionRangeNotInGear" "the transmission is not in gear";
    0x8F BRAKE_SWITCHES_NOT_CLOSED "brakeSwitch(es)NotClosed" "the brake is not pressed";
    0x90 SHIFTER_LEVER_NOT_IN_PARK "shifterLeverNotInPark" "the lever is not in park";
    0x91 TORQUE_CONVERTER_CLUTCH_LOCKED "torqueConverterClutchLocked" "the torque converter clutch is locked";
    0x92 VOLTAGE_TOO_HIGH "voltageTooHigh" "voltage too high";
    0x93 VOLTAGE_TOO_LOW "voltageTooLow" "voltage too low";
    0x94 RESOURCE_TEMPORARILY_NOT_AVAILABLE "resourceTemporarilyNotAvailable" "a resource the request needs is in use";
}

impl Nrc {
    /// Whether a functionally addressed request leaves a server silent instead of answering this
    /// code (clause 7.5.5).
    #[must_use]
    pub const fn is_silent_when_functional(self) -> bool {
        matches!(
            self,
            Self::SERVICE_NOT_SUPPORTED
                | Self::SUB_FUNCTION_NOT_SUPPORTED
                | Self::REQUEST_OUT_OF_RANGE
                | Self::SUB_FUNCTION_NOT_SUPPORTED_IN_ACTIVE_SESSION
                | Self::SERVICE_NOT_SUPPORTED_IN_ACTIVE_SESSION
        )
    }
}

impl fmt::Display for Nrc {
    /// `0x22 conditionsNotCorrect`, or the range for a code without a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.name().unwrap_or(self.meaning());
        write!(f, "0x{:02X} {text}", self.0)
    }
}

impl fmt::Debug for Nrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_codes_are_distinct_and_ascending() {
        assert!(Nrc::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(Nrc::ALL.iter().all(|nrc| nrc.name().is_some()));
        assert_eq!(Nrc::ALL.len(), 59);
    }

    #[test]
    fn every_byte_has_a_text() {
        assert_eq!(
            format!("{}", Nrc::CONDITIONS_NOT_CORRECT),
            "0x22 conditionsNotCorrect"
        );
        assert_eq!(
            format!("{}", Nrc(0xF0)),
            "0xF0 manufacturer-specific condition not correct"
        );
        assert_eq!(format!("{}", Nrc(0x00)), "0x00 reserved");
    }

    #[test]
    fn five_codes_are_silent_when_functional() {
        let silent: std::vec::Vec<u8> = (0..=u8::MAX)
            .filter(|code| Nrc(*code).is_silent_when_functional())
            .collect();
        assert_eq!(silent, [0x11, 0x12, 0x31, 0x7E, 0x7F]);
    }
}

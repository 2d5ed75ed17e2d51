//! Identifiers that more than one service uses: services, sessions, levels, DIDs, routines.

use core::fmt;
use core::num::NonZeroU8;

/// A service, by its request identifier (ISO 14229-1 table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u8);

macro_rules! services {
    ($($value:literal $constant:ident $name:literal;)*) => {
        impl ServiceId {
            $(#[doc = concat!("`", stringify!($value), "` ", $name, ".")]
            pub const $constant: Self = Self($value);)*

            /// The standard's name, or `None` for a service that this crate has no codec for.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

services! {
    0x10 DIAGNOSTIC_SESSION_CONTROL "DiagnosticSessionControl";
    0x11 ECU_RESET "ECUReset";
    0x14 CLEAR_DIAGNOSTIC_INFORMATION "ClearDiagnosticInformation";
    0x19 READ_DTC_INFORMATION "ReadDTCInformation";
    0x22 READ_DATA_BY_IDENTIFIER "ReadDataByIdentifier";
    0x23 READ_MEMORY_BY_ADDRESS "ReadMemoryByAddress";
    0x27 SECURITY_ACCESS "SecurityAccess";
    0x28 COMMUNICATION_CONTROL "CommunicationControl";
    0x29 AUTHENTICATION "Authentication";
    0x2E WRITE_DATA_BY_IDENTIFIER "WriteDataByIdentifier";
    0x2F INPUT_OUTPUT_CONTROL_BY_IDENTIFIER "InputOutputControlByIdentifier";
    0x31 ROUTINE_CONTROL "RoutineControl";
    0x34 REQUEST_DOWNLOAD "RequestDownload";
    0x35 REQUEST_UPLOAD "RequestUpload";
    0x36 TRANSFER_DATA "TransferData";
    0x37 REQUEST_TRANSFER_EXIT "RequestTransferExit";
    0x3E TESTER_PRESENT "TesterPresent";
    0x85 CONTROL_DTC_SETTING "ControlDTCSetting";
}

impl ServiceId {
    /// The first byte of this service's positive response: bit 6 set.
    #[must_use]
    pub const fn response(self) -> u8 {
        self.0 | 0x40
    }

    /// Whether bytes of this form can be a request: bit 6 is clear (table 2).
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.0 & 0x40 == 0
    }

    /// Whether the second byte is a sub-function with suppressPosRspMsgIndicationBit.
    #[must_use]
    pub const fn has_sub_function(self) -> bool {
        matches!(
            self,
            Self::DIAGNOSTIC_SESSION_CONTROL
                | Self::ECU_RESET
                | Self::READ_DTC_INFORMATION
                | Self::SECURITY_ACCESS
                | Self::COMMUNICATION_CONTROL
                | Self::AUTHENTICATION
                | Self::ROUTINE_CONTROL
                | Self::TESTER_PRESENT
                | Self::CONTROL_DTC_SETTING
        )
    }

    /// Whether asking twice has the effect of asking once, so a lost response may be asked again.
    ///
    /// TransferData is not listed here: it repeats under its own block sequence counter.
    #[must_use]
    pub const fn is_idempotent_read(self) -> bool {
        matches!(
            self,
            Self::READ_DTC_INFORMATION
                | Self::READ_DATA_BY_IDENTIFIER
                | Self::READ_MEMORY_BY_ADDRESS
        )
    }
}

impl fmt::Display for ServiceId {
    /// `0x22 ReadDataByIdentifier`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02X}", self.0)?;
        self.name().map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

/// A sub-function byte: seven bits of value and suppressPosRspMsgIndicationBit (clause 8.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubFunction {
    value: u8,
    /// suppressPosRspMsgIndicationBit: no positive response is wanted.
    pub suppress: bool,
}

impl SubFunction {
    /// A sub-function of the lower seven bits of `value`.
    #[must_use]
    pub const fn new(value: u8, suppress: bool) -> Self {
        Self {
            value: value & 0x7F,
            suppress,
        }
    }

    /// The byte as it is on the wire.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self {
            value: byte & 0x7F,
            suppress: byte & 0x80 != 0,
        }
    }

    /// The byte to send.
    #[must_use]
    pub const fn byte(self) -> u8 {
        if self.suppress {
            self.value | 0x80
        } else {
            self.value
        }
    }

    /// The value, 0 to 0x7F.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.value
    }
}

/// A diagnostic session (table 25), 0 to 0x7F.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(u8);

impl Session {
    /// defaultSession: what every server is in after power-on.
    pub const DEFAULT: Self = Self(1);
    /// programmingSession.
    pub const PROGRAMMING: Self = Self(2);
    /// extendedDiagnosticSession.
    pub const EXTENDED: Self = Self(3);
    /// safetySystemDiagnosticSession.
    pub const SAFETY_SYSTEM: Self = Self(4);

    /// A session, or `None` above 0x7F.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 0x7F {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The session that a sub-function names.
    #[must_use]
    pub const fn of(sub_function: SubFunction) -> Self {
        Self(sub_function.value())
    }

    /// Its value.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DEFAULT => f.write_str("default"),
            Self::PROGRAMMING => f.write_str("programming"),
            Self::EXTENDED => f.write_str("extended"),
            Self::SAFETY_SYSTEM => f.write_str("safety system"),
            Self(other) => write!(f, "0x{other:02X}"),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A security level, named by its requestSeed sub-function: odd, 0x01 to 0x7D (table 39).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecurityLevel(NonZeroU8);

impl SecurityLevel {
    /// `27 01` and `27 02`.
    pub const ONE: Self = Self(NonZeroU8::MIN);

    /// The level whose requestSeed is `value`, or `None` where `value` is even or above 0x7D.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        match NonZeroU8::new(value) {
            Some(level) if value & 1 == 1 && value <= 0x7D => Some(Self(level)),
            _ => None,
        }
    }

    /// The level that a SecurityAccess sub-function, of either kind, belongs to.
    #[must_use]
    pub const fn of_sub_function(value: u8) -> Option<Self> {
        if value & 1 == 1 {
            Self::new(value)
        } else {
            Self::new(value.wrapping_sub(1))
        }
    }

    /// The requestSeed sub-function.
    #[must_use]
    pub const fn request_seed(self) -> u8 {
        self.0.get()
    }

    /// The sendKey sub-function.
    #[must_use]
    pub const fn send_key(self) -> u8 {
        self.0.get().wrapping_add(1)
    }
}

/// A data identifier (annex C).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Did(pub u16);

impl Did {
    /// bootSoftwareIdentification.
    pub const BOOT_SOFTWARE_IDENTIFICATION: Self = Self(0xF180);
    /// The fingerprint of the last programming (applicationSoftwareFingerprint).
    pub const FINGERPRINT: Self = Self(0xF15A);
    /// activeDiagnosticSession.
    pub const ACTIVE_DIAGNOSTIC_SESSION: Self = Self(0xF186);
    /// ECUSerialNumber.
    pub const ECU_SERIAL_NUMBER: Self = Self(0xF18C);
    /// VIN.
    pub const VIN: Self = Self(0xF190);
    /// vehicleManufacturerECUHardwareNumber.
    pub const ECU_HARDWARE_NUMBER: Self = Self(0xF191);
    /// systemSupplierECUSoftwareVersionNumber.
    pub const ECU_SOFTWARE_VERSION: Self = Self(0xF195);
}

/// A routine identifier (annex F).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutineId(pub u16);

impl RoutineId {
    /// eraseMemory.
    pub const ERASE_MEMORY: Self = Self(0xFF00);
    /// checkProgrammingDependencies.
    pub const CHECK_PROGRAMMING_DEPENDENCIES: Self = Self(0xFF01);
}

macro_rules! hexadecimal {
    ($($name:ident $digits:literal),*) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $digits, self.0)
            }
        })*
    };
}
macro_rules! debug_as_display {
    ($($name:ident),*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        })*
    };
}
hexadecimal!(Did "{:04X}", RoutineId "{:04X}", BlockSequenceCounter "{:02X}");
debug_as_display!(Did, RoutineId, BlockSequenceCounter);

/// The blockSequenceCounter of TransferData (clause 14.5): the first block is 1, 0xFF is followed by 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSequenceCounter(pub u8);

impl BlockSequenceCounter {
    /// The counter of the first block after RequestDownload or RequestUpload.
    pub const FIRST: Self = Self(1);

    /// The counter of the next block.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

//! Any request and any response, told apart by the first byte.

use super::codec::{NegativeResponse, NoRoom, ParseError, ParseErrorKind, Pdu};
use super::*;

macro_rules! messages {
    ($(#[$doc:meta])* $name:ident<$a:lifetime> { $($variant:ident($kind:ty) = $first:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name<$a> {
            $(
                #[doc = concat!("First byte `", stringify!($first), "`.")]
                $variant($kind),
            )*
        }

        impl<$a> $name<$a> {
            /// Parses a whole PDU.
            ///
            /// # Errors
            /// Where the bytes are no such PDU.
            pub fn parse(pdu: &$a [u8]) -> Result<Self, ParseError> {
                match pdu.first() {
                    $(Some(&$first) => <$kind>::parse(pdu).map(Self::$variant),)*
                    Some(&other) => Err(ParseError {
                        first: other,
                        at: 0,
                        kind: ParseErrorKind::Service,
                    }),
                    None => Err(ParseError {
                        first: 0,
                        at: 0,
                        kind: ParseErrorKind::TooShort("service identifier"),
                    }),
                }
            }

            /// Writes the whole PDU to the front of `out`; its length.
            ///
            /// # Errors
            /// When `out` is shorter than the PDU.
            pub fn write(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
                match self {
                    $(Self::$variant(message) => message.write(out),)*
                }
            }
        }
    };
}

messages! {
    /// A request.
    Request<'a> {
        DiagnosticSessionControl(DiagnosticSessionControl) = 0x10;
        EcuReset(EcuReset) = 0x11;
        ClearDiagnosticInformation(ClearDiagnosticInformation) = 0x14;
        ReadDtcInformation(ReadDtcInformation) = 0x19;
        ReadDataByIdentifier(ReadDataByIdentifier<'a>) = 0x22;
        ReadMemoryByAddress(ReadMemoryByAddress) = 0x23;
        SecurityAccess(SecurityAccess<'a>) = 0x27;
        CommunicationControl(CommunicationControl) = 0x28;
        Authentication(Authentication<'a>) = 0x29;
        WriteDataByIdentifier(WriteDataByIdentifier<'a>) = 0x2E;
        InputOutputControlByIdentifier(InputOutputControlByIdentifier<'a>) = 0x2F;
        RoutineControl(RoutineControl<'a>) = 0x31;
        RequestDownload(RequestDownload) = 0x34;
        RequestUpload(RequestUpload) = 0x35;
        TransferData(TransferData<'a>) = 0x36;
        RequestTransferExit(RequestTransferExit<'a>) = 0x37;
        TesterPresent(TesterPresent) = 0x3E;
        ControlDtcSetting(ControlDtcSetting<'a>) = 0x85;
    }
}

messages! {
    /// A response.
    Response<'a> {
        DiagnosticSessionControl(DiagnosticSessionControlResponse) = 0x50;
        EcuReset(EcuResetResponse) = 0x51;
        ClearDiagnosticInformation(ClearDiagnosticInformationResponse) = 0x54;
        ReadDtcInformation(ReadDtcInformationResponse<'a>) = 0x59;
        ReadDataByIdentifier(ReadDataByIdentifierResponse<'a>) = 0x62;
        ReadMemoryByAddress(ReadMemoryByAddressResponse<'a>) = 0x63;
        SecurityAccess(SecurityAccessResponse<'a>) = 0x67;
        CommunicationControl(CommunicationControlResponse) = 0x68;
        Authentication(AuthenticationResponse<'a>) = 0x69;
        WriteDataByIdentifier(WriteDataByIdentifierResponse) = 0x6E;
        InputOutputControlByIdentifier(InputOutputControlByIdentifierResponse<'a>) = 0x6F;
        RoutineControl(RoutineControlResponse<'a>) = 0x71;
        RequestDownload(RequestDownloadResponse) = 0x74;
        RequestUpload(RequestUploadResponse) = 0x75;
        TransferData(TransferDataResponse<'a>) = 0x76;
        RequestTransferExit(RequestTransferExitResponse<'a>) = 0x77;
        TesterPresent(TesterPresentResponse) = 0x7E;
        Negative(NegativeResponse) = 0x7F;
        ControlDtcSetting(ControlDtcSettingResponse) = 0xC5;
    }
}

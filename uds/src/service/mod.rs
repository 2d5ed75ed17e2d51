//! The services of ISO 14229-1: identifiers and codecs of requests and responses.
//!
//! A codec parses a PDU once into a borrowed value, and every value can be written back. A parameter
//! that a PDU cannot have has no representation.
//!
//! ```
//! use uds::service::{Pdu, RequestDownload, DataFormat, MemoryArea};
//! let request = RequestDownload { format: DataFormat(0), area: MemoryArea::new(0x2_0000, 4096) };
//! let mut pdu = [0; 16];
//! let len = request.write(&mut pdu).unwrap();
//! assert_eq!(pdu[..len], [0x34, 0x00, 0x44, 0, 2, 0, 0, 0, 0, 0x10, 0]);
//! assert_eq!(RequestDownload::parse(&pdu[..len]), Ok(request));
//! ```

mod authentication;
mod codec;
mod data;
mod dtc;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod ids;
mod management;
mod message;
#[cfg(test)]
mod tests;
mod transfer;

pub use authentication::{
    AlgorithmIndicator, Authentication, AuthenticationResponse, AuthenticationResult,
    AuthenticationTask, CertificateParameters, ProofParameters,
};
pub use codec::{Field, NegativeResponse, NoRoom, ParseError, ParseErrorKind, Pdu, Reader, Writer};
pub use data::{
    DidList, DidRecord, InputOutputControlByIdentifier, InputOutputControlByIdentifierResponse,
    IoControl, IoControlParameter, ReadDataByIdentifier, ReadDataByIdentifierResponse,
    ReadMemoryByAddress, ReadMemoryByAddressResponse, WriteDataByIdentifier,
    WriteDataByIdentifierResponse,
};
pub use dtc::{
    ClearDiagnosticInformation, ClearDiagnosticInformationResponse, Dtc, DtcRecords, DtcReport,
    DtcReportBody, ReadDtcInformation, ReadDtcInformationResponse,
};
pub use ids::{
    BlockSequenceCounter, Did, RoutineId, SecurityLevel, ServiceId, Session, SubFunction,
};
pub use management::{
    CommunicationControl, CommunicationControlResponse, CommunicationMode, ControlDtcSetting,
    ControlDtcSettingResponse, DiagnosticSessionControl, DiagnosticSessionControlResponse, Echo,
    EcuReset, EcuResetResponse, ResetType, SecurityAccess, SecurityAccessResponse, SecurityStep,
    SessionTiming, TesterPresent, TesterPresentResponse,
};
pub use message::{Request, Response};
pub use transfer::{
    Block, DataFormat, MaxBlockLength, MemoryArea, RequestDownload, RequestDownloadResponse,
    RequestTransfer, RequestTransferExit, RequestTransferExitResponse, RequestTransferResponse,
    RequestUpload, RequestUploadResponse, RoutineControl, RoutineControlResponse,
    RoutineControlType, TransferData, TransferDataResponse, TransferExit,
};

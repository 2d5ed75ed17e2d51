//! The shape of the crate `uds-rs` 0.3: its names, its calls, and the services that it lacks.

mod client;
mod dtc;
mod error;
mod nrc;
mod options;
mod parse;
mod response;
mod services;

pub use client::{EcuResponseResult, UdsClient};
pub use error::{NrcData, UdsCommunicationError, UdsError};
pub use nrc::NegativeResponseCode;
pub use options::{FlowControlOptions, LinkLayerOptions, UdsSocket, UdsSocketOptions};
pub use response::{
    AuthenticationResponse, CommunicationControlResponse, ControlDTCSettingResponse,
    DTCAndSeverityRecord, DTCAndStatusRecord, DTCFormat, DataFormat, DataRecord,
    DiagnosticSessionControlResponse, EcuResetResponse, InputOutputControlByIdentifierResponse,
    ReadDTCInformationResponse, ReadDataByIdentifierResponse, ReadMemoryByAddressResponse,
    ReportDTCSnapshotRecordByDTCNumber, ReportDTCsBySeverityResponse, ReportDTCsResponse,
    ReportNumberOfDTCByMaskResponse, RequestTransferResponse, ResetType, RoutineControlResponse,
    SecurityAccessResponse, TransferDataResponse, UdsResponse, WriteDataByIdentifierResponse,
};
pub use socketcan_isotp::{ExtendedId, Id, IsoTpBehaviour, IsoTpOptions, StandardId, TxFlags};

//! Responses as owned values, in the shape of `uds-rs`.

use uds::service::{AlgorithmIndicator, BlockSequenceCounter, Did, RoutineId};

/// A positive response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UdsResponse {
    /// To 10.
    DiagnosticSessionControl(DataFormat<DiagnosticSessionControlResponse>),
    /// To 11.
    EcuReset(DataFormat<EcuResetResponse>),
    /// To 14.
    ClearDiagnosticInformation,
    /// To 19.
    ReadDTCInformation(DataFormat<ReadDTCInformationResponse>),
    /// To 22.
    ReadDataByIdentifier(DataFormat<ReadDataByIdentifierResponse>),
    /// To 23.
    ReadMemoryByAddress(DataFormat<ReadMemoryByAddressResponse>),
    /// To 27.
    SecurityAccess(SecurityAccessResponse),
    /// To 28.
    CommunicationControl(CommunicationControlResponse),
    /// To 29.
    Authentication(AuthenticationResponse),
    /// To 2E.
    WriteDataByIdentifier(DataFormat<WriteDataByIdentifierResponse>),
    /// To 2F.
    InputOutputControlByIdentifier(InputOutputControlByIdentifierResponse),
    /// To 31.
    RoutineControl(RoutineControlResponse),
    /// To 34.
    RequestDownload(RequestTransferResponse),
    /// To 35.
    RequestUpload(RequestTransferResponse),
    /// To 36.
    TransferData(TransferDataResponse),
    /// To 37: transferResponseParameterRecord.
    RequestTransferExit(Vec<u8>),
    /// To 3E.
    TesterPresent,
    /// To 85.
    ControlDTCSetting(ControlDTCSettingResponse),
    /// None was wanted, and no negative one came.
    Suppressed,
}

/// A response as far as it could be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataFormat<T> {
    /// Its parameters.
    Parsed(T),
    /// Its bytes after the service identifier: only the server's documentation parts them.
    Raw(Vec<u8>),
}

/// `50 session P2 P2*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiagnosticSessionControlResponse {
    /// The session entered.
    pub session: u8,
    /// P2_server in 1 ms; 0 where the server does not say.
    pub p2: u16,
    /// P2*_server in 10 ms; 0 where the server does not say.
    pub p2_star: u16,
}

/// What ECUReset resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ResetType {
    /// As if power had been off.
    HardReset = 1,
    /// As if the key had been turned.
    KeyOffOnReset = 2,
    /// The program starts again.
    SoftReset = 3,
    /// The server may sleep quickly.
    EnableRapidPowerShutDown = 4,
    /// The server may not.
    DisableRapidPowerShutDown = 5,
}

/// `51 type [powerDownTime]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcuResetResponse {
    /// What is reset.
    pub reset_type: ResetType,
    /// Seconds of stand-by, 0xFF unknown.
    pub power_down_time: Option<u8>,
}

/// `62 did data ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadDataByIdentifierResponse {
    /// What was read.
    pub data_records: Vec<DataRecord>,
}

/// The data of one identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataRecord {
    /// The identifier.
    pub data_identifier: u16,
    /// Its data.
    pub data: Vec<u8>,
}

/// `63 data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadMemoryByAddressResponse {
    /// The bytes of the memory.
    pub data_record: Vec<u8>,
}

/// `6E did`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteDataByIdentifierResponse {
    /// What was written.
    pub data_identifier: u16,
}

/// `67 sub-function seed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityAccessResponse {
    /// The sub-function.
    pub sub_function: u8,
    /// The seed; empty in answer to a key, zeros where the level is unlocked.
    pub seed: Vec<u8>,
}

/// `68 controlType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommunicationControlResponse {
    /// The sub-function.
    pub control_type: u8,
}

/// `C5 settingType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlDTCSettingResponse {
    /// The sub-function.
    pub setting_type: u8,
}

/// `69 task parameters`: the fields that this task has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthenticationResponse {
    /// The sub-function.
    pub task: u8,
    /// authenticationReturnParameter.
    pub return_parameter: u8,
    /// algorithmIndicator.
    pub algorithm: Option<AlgorithmIndicator>,
    /// challengeServer.
    pub challenge: Vec<u8>,
    /// certificateServer.
    pub certificate: Vec<u8>,
    /// proofOfOwnershipServer.
    pub proof: Vec<u8>,
    /// ephemeralPublicKeyServer.
    pub ephemeral_public_key: Vec<u8>,
    /// sessionKeyInfo.
    pub session_key_info: Vec<u8>,
    /// neededAdditionalParameter.
    pub needed_additional: Vec<u8>,
}

/// `6F did parameter state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputOutputControlByIdentifierResponse {
    /// Which input or output.
    pub did: Did,
    /// inputOutputControlParameter.
    pub parameter: u8,
    /// controlState.
    pub state: Vec<u8>,
}

/// `71 type routine status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutineControlResponse {
    /// The sub-function.
    pub control_type: u8,
    /// Which routine.
    pub routine: RoutineId,
    /// routineInfo and routineStatusRecord.
    pub status: Vec<u8>,
}

/// `74` or `75`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTransferResponse {
    /// maxNumberOfBlockLength: bytes of a whole TransferData PDU, two more than its data.
    pub max_block_length: u64,
}

/// `76 counter record`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferDataResponse {
    /// The block's number.
    pub counter: BlockSequenceCounter,
    /// transferResponseParameterRecord: the data of an upload.
    pub record: Vec<u8>,
}

/// DTCFormatIdentifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum DTCFormat {
    /// 00.
    SAE_J2012_DA_0,
    /// 01.
    ISO_14229_1,
    /// 02.
    SAE_J1939_73,
    /// 03.
    ISO_11992_4,
    /// 04.
    SAE_J2012_DA_4,
    /// Another one.
    Reserved(u8),
}

/// A DTC and its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DTCAndStatusRecord {
    /// The code, 24 bits.
    pub dtc: u32,
    /// statusOfDTC; in a report of counters, the fault detection counter.
    pub status_of_dtc: u8,
}

/// A DTC with its severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DTCAndSeverityRecord {
    /// DTCSeverity.
    pub severity: u8,
    /// DTCFunctionalUnit.
    pub functional_unit: u8,
    /// The code, 24 bits.
    pub dtc: u32,
    /// statusOfDTC.
    pub status_of_dtc: u8,
}

/// A count of DTCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportNumberOfDTCByMaskResponse {
    /// DTCStatusAvailabilityMask.
    pub dtc_status_availability_mask: u8,
    /// DTCFormatIdentifier.
    pub dtc_format_identifier: DTCFormat,
    /// How many.
    pub dtc_count: u16,
}

/// A list of DTCs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportDTCsResponse {
    /// DTCStatusAvailabilityMask.
    pub dtc_status_availability_mask: u8,
    /// The DTCs.
    pub dtc_and_status_records: Vec<DTCAndStatusRecord>,
}

/// A list of DTCs with severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportDTCsBySeverityResponse {
    /// DTCStatusAvailabilityMask.
    pub dtc_status_availability_mask: u8,
    /// The DTCs.
    pub dtc_and_severity_records: Vec<DTCAndSeverityRecord>,
}

/// One DTC; its snapshots follow raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportDTCSnapshotRecordByDTCNumber {
    /// The DTC.
    pub dtc_and_status_record: DTCAndStatusRecord,
    /// Its snapshot records: record number, number of identifiers, identifiers and data.
    pub snapshot_records: Vec<u8>,
}

/// What ReadDTCInformation reports.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadDTCInformationResponse {
    /// 01.
    ReportNumberOfDTCbyStatusMask(ReportNumberOfDTCByMaskResponse),
    /// 02.
    ReportDTCByStatusMask(ReportDTCsResponse),
    /// 03: DTC and snapshot record number.
    ReportDTCSnapshotIdentification(Vec<DTCAndStatusRecord>),
    /// 04.
    ReportDTCSnapshotRecordByDTCNumber(ReportDTCSnapshotRecordByDTCNumber),
    /// 07.
    ReportNumberOfDTCBySeverityMaskRecord(ReportNumberOfDTCByMaskResponse),
    /// 08.
    ReportDTCBySeverityMaskRecord(ReportDTCsBySeverityResponse),
    /// 09.
    ReportSeverityInformationOfDTC(ReportDTCsBySeverityResponse),
    /// 0A.
    ReportSupportedDTC(ReportDTCsResponse),
    /// 0B.
    ReportFirstTestFailedDTC(ReportDTCsResponse),
    /// 0C.
    ReportFirstConfirmedDTC(ReportDTCsResponse),
    /// 0D.
    ReportMostRecentTestFailedDTC(ReportDTCsResponse),
    /// 0E.
    ReportMostRecentConfirmedDTC(ReportDTCsResponse),
    /// 14: DTC and fault detection counter.
    ReportDTCFaultDetectionCounter(Vec<DTCAndStatusRecord>),
    /// 15.
    ReportDTCWithPermanentStatus(ReportDTCsResponse),
}

//! One method per service, except those of DTCs.

use super::{
    DataFormat, EcuResponseResult, ReadDataByIdentifierResponse, ResetType, UdsClient, UdsError,
    UdsResponse,
};
use uds::service::{
    Authentication, AuthenticationTask, BlockSequenceCounter, ClearDiagnosticInformation,
    CommunicationControl, CommunicationMode, ControlDtcSetting, DataFormat as TransferFormat,
    DiagnosticSessionControl, Did, DidList, Dtc, EcuReset, InputOutputControlByIdentifier,
    IoControlParameter, MemoryArea, ReadDataByIdentifier, ReadMemoryByAddress, RequestDownload,
    RequestTransferExit, RequestUpload, RoutineControl, RoutineControlType, RoutineId,
    SecurityAccess, SecurityLevel, SecurityStep, Session, SubFunction, TesterPresent, TransferData,
    WriteDataByIdentifier,
};

/// # Errors
/// Every method returns [`UdsError`]: the server's refusal, an argument that no request can carry, or
/// a failure below.
impl UdsClient {
    /// 10: enters a session. Bit 7 suppresses the response.
    pub async fn diagnostic_session_control(&self, session_id: u8) -> EcuResponseResult {
        let sub_function = SubFunction::from_byte(session_id);
        self.call(DiagnosticSessionControl {
            session: Session::of(sub_function),
            suppress: sub_function.suppress,
        })
        .await
    }

    /// 11: resets the server.
    pub async fn ecu_reset(&self, reset_type: ResetType) -> EcuResponseResult {
        let reset = uds::service::ResetType::new(reset_type as u8);
        let reset = reset.ok_or(UdsError::InvalidArgument)?;
        let suppress = false;
        self.call(EcuReset { reset, suppress }).await
    }

    /// 14: clears a group of DTCs; `0xFF_FFFF` is all.
    pub async fn clear_diagnostic_information(&self, group_of_dtc: u32) -> EcuResponseResult {
        let group = Dtc::new(group_of_dtc).ok_or(UdsError::InvalidArgument)?;
        let memory = None;
        self.call(ClearDiagnosticInformation { group, memory })
            .await
    }

    /// 22: reads identifiers. The response to several is raw: only the server's documentation says
    /// how long each is.
    pub async fn read_data_by_identifier(&self, data_identifiers: &[u16]) -> EcuResponseResult {
        let dids: Vec<Did> = data_identifiers.iter().copied().map(Did).collect();
        let list = DidList::new(&dids).ok_or(UdsError::InvalidArgument)?;
        let response = self.call(ReadDataByIdentifier { dids: list }).await?;
        match response {
            UdsResponse::ReadDataByIdentifier(DataFormat::Parsed(parsed)) if dids.len() > 1 => {
                Ok(UdsResponse::ReadDataByIdentifier(raw(&parsed)))
            }
            other => Ok(other),
        }
    }

    /// 23: reads memory. The identifier has the width of the size in its high nibble, that of the
    /// address in its low one; the numbers are big-endian and as long as it says.
    pub async fn read_memory_by_address(
        &self,
        address_and_memory_length_format_identifier: u8,
        memory_address: &[u8],
        memory_size: &[u8],
    ) -> EcuResponseResult {
        let (size_width, address_width) = (
            address_and_memory_length_format_identifier >> 4,
            address_and_memory_length_format_identifier & 0x0F,
        );
        let address = number(memory_address, address_width)?;
        let size = number(memory_size, size_width)?;
        let area = MemoryArea::with_widths(address, address_width, size, size_width);
        let area = area.ok_or(UdsError::InvalidArgument)?;
        self.call(ReadMemoryByAddress { area }).await
    }

    /// 23: reads memory; each number in the fewest bytes that hold it, unless a width is given.
    pub async fn read_memory_by_address_simplified(
        &self,
        memory_address: u64,
        memory_size: u64,
        memory_address_len: Option<u8>,
        memory_size_len: Option<u8>,
    ) -> EcuResponseResult {
        let area = MemoryArea::with_widths(
            memory_address,
            memory_address_len.unwrap_or(width(memory_address)),
            memory_size,
            memory_size_len.unwrap_or(width(memory_size)),
        );
        let area = area.ok_or(UdsError::InvalidArgument)?;
        self.call(ReadMemoryByAddress { area }).await
    }

    /// 27: asks for a seed of `level`, the odd sub-function.
    pub async fn security_access_request_seed(
        &self,
        level: u8,
        data_record: &[u8],
    ) -> EcuResponseResult {
        self.security_access(level, SecurityStep::RequestSeed, data_record)
            .await
    }

    /// 27: sends the key for the last seed of `level`, the odd sub-function that asked for it.
    pub async fn security_access_send_key(&self, level: u8, key: &[u8]) -> EcuResponseResult {
        self.security_access(level, SecurityStep::SendKey, key)
            .await
    }

    async fn security_access(
        &self,
        level: u8,
        step: SecurityStep,
        data: &[u8],
    ) -> EcuResponseResult {
        let level = SecurityLevel::new(level).ok_or(UdsError::UnsupportedSubfunction {
            unsupported_subfunction: level,
        })?;
        self.call(SecurityAccess {
            level,
            step,
            suppress: false,
            data,
        })
        .await
    }

    /// 28: switches communication.
    pub async fn communication_control(
        &self,
        mode: CommunicationMode,
        communication_type: u8,
    ) -> EcuResponseResult {
        let request = CommunicationControl::new(mode, communication_type, false);
        self.call(request.ok_or(UdsError::InvalidArgument)?).await
    }

    /// 29: one step of authentication.
    pub async fn authentication(&self, task: AuthenticationTask<'_>) -> EcuResponseResult {
        let suppress = false;
        self.call(Authentication { task, suppress }).await
    }

    /// 2E: writes an identifier.
    pub async fn write_data_by_identifier(
        &self,
        data_identifier: u16,
        data_record: &[u8],
    ) -> EcuResponseResult {
        self.call(WriteDataByIdentifier {
            did: Did(data_identifier),
            data: data_record,
        })
        .await
    }

    /// 2F: controls an input or output; `state` is controlState and the enable mask.
    pub async fn input_output_control_by_identifier(
        &self,
        data_identifier: u16,
        parameter: IoControlParameter,
        state: &[u8],
    ) -> EcuResponseResult {
        self.call(InputOutputControlByIdentifier {
            did: Did(data_identifier),
            parameter,
            state,
        })
        .await
    }

    /// 31: starts or stops a routine, or asks for its results.
    pub async fn routine_control(
        &self,
        control: RoutineControlType,
        routine: RoutineId,
        option: &[u8],
    ) -> EcuResponseResult {
        self.call(RoutineControl {
            control,
            suppress: false,
            routine,
            option,
        })
        .await
    }

    /// 34: announces a download to `area`.
    pub async fn request_download(
        &self,
        format: TransferFormat,
        area: MemoryArea,
    ) -> EcuResponseResult {
        self.call(RequestDownload { format, area }).await
    }

    /// 35: announces an upload of `area`.
    pub async fn request_upload(
        &self,
        format: TransferFormat,
        area: MemoryArea,
    ) -> EcuResponseResult {
        self.call(RequestUpload { format, area }).await
    }

    /// 36: one block. A lost response is asked for again under the same counter.
    pub async fn transfer_data(
        &self,
        counter: BlockSequenceCounter,
        data: &[u8],
    ) -> EcuResponseResult {
        self.call(TransferData { counter, data }).await
    }

    /// 37: ends a transfer.
    pub async fn request_transfer_exit(&self, record: &[u8]) -> EcuResponseResult {
        self.call(RequestTransferExit { record }).await
    }

    /// 3E: asks whether the server is there. Sessions are kept open without it.
    pub async fn tester_present(&self) -> EcuResponseResult {
        let suppress = false;
        self.call(TesterPresent { suppress }).await
    }

    /// 85: lets DTCs be updated, or freezes them.
    pub async fn control_dtc_setting(&self, setting_type: u8, record: &[u8]) -> EcuResponseResult {
        let setting = SubFunction::from_byte(setting_type);
        self.call(ControlDtcSetting { setting, record }).await
    }
}

fn raw(parsed: &ReadDataByIdentifierResponse) -> DataFormat<ReadDataByIdentifierResponse> {
    let mut bytes = Vec::new();
    for record in &parsed.data_records {
        bytes.extend(record.data_identifier.to_be_bytes());
        bytes.extend(&record.data);
    }
    DataFormat::Raw(bytes)
}

fn number(bytes: &[u8], width: u8) -> Result<u64, UdsError> {
    if bytes.len() != usize::from(width) || bytes.len() > 8 {
        return Err(UdsError::InvalidArgument);
    }
    let fold = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
    Ok(bytes.iter().fold(0, fold))
}

/// The fewest bytes that hold `value`, at least one.
fn width(value: u64) -> u8 {
    (1..8).find(|width| value >> (8 * width) == 0).unwrap_or(8)
}
